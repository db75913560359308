// numpy arrays: from the file's bytes to tensors and strings.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "models/data/import/pickle_objects.h"

namespace cmir::pickle {
namespace {

/// IEEE half precision, widened exactly.
struct Half {
  std::uint16_t bits = 0;
  explicit operator float() const {
    const std::uint32_t exponent = bits >> 10 & 31, fraction = bits & 1023;
    float magnitude;
    if (exponent == 31) {
      magnitude = std::bit_cast<float>(0x7F800000u | fraction << 13);
    } else if (exponent == 0) {
      magnitude = std::ldexp(static_cast<float>(fraction), -24);
    } else {
      magnitude = std::bit_cast<float>((exponent + 112) << 23 | fraction << 13);
    }
    return bits & 0x8000 ? -magnitude : magnitude;
  }
};

template <class T>
T load(const char* bytes, bool swap) {
  std::array<char, sizeof(T)> raw;
  std::memcpy(raw.data(), bytes, sizeof(T));
  if (swap) std::ranges::reverse(raw);
  return std::bit_cast<T>(raw);
}

template <class To, class From>
To convert(From value) {
  if constexpr (std::is_same_v<From, Half>) {
    return convert<To>(static_cast<float>(value));
  } else if constexpr (std::is_floating_point_v<To>) {
    return static_cast<To>(value);
  } else {
    bool fits;
    if constexpr (std::is_floating_point_v<From>) {
      // 2^digits is exact in any float, so no rounding can let a value slip through.
      const From limit = std::ldexp(From(1), std::numeric_limits<To>::digits);
      fits = value == std::trunc(value) && value < limit &&
             value >= (std::is_signed_v<To> ? -limit : From(0));
    } else {
      fits = std::in_range<To>(value);
    }
    if (!fits) {
      fail(ErrorKind::data, "pickle", "the value {} of an array does not fit {}", value,
           name_of(dtype_of<To>));
    }
    return static_cast<To>(value);
  }
}

/// Calls f with a value of the element's C++ type.
template <class F>
decltype(auto) dispatch(const ElementType& type, F&& f) {
  switch (type.kind) {
    case 'f':
      if (type.size == 2) return f(Half{});
      if (type.size == 4) return f(float{});
      return f(double{});
    case 'i':
      if (type.size == 1) return f(std::int8_t{});
      if (type.size == 2) return f(std::int16_t{});
      if (type.size == 4) return f(std::int32_t{});
      return f(std::int64_t{});
    case 'b':
    case 'u':
      if (type.size == 1) return f(std::uint8_t{});
      if (type.size == 2) return f(std::uint16_t{});
      if (type.size == 4) return f(std::uint32_t{});
      return f(std::uint64_t{});
    default:
      fail(ErrorKind::data, "pickle", "expected an array of numbers, found one of {}", type.name());
  }
}

/// Calls f(source index) for every element in C order.
template <class F>
void for_each_in_c_order(const Array& array, F&& f) {
  const std::int64_t count = array.shape.numel();
  if (!array.fortran || array.shape.rank() < 2) {
    for (std::int64_t i = 0; i < count; ++i) f(i);
    return;
  }
  const int rank = array.shape.rank();
  std::array<std::int64_t, Shape::kMaxRank> index{}, stride{};
  std::int64_t step = 1;
  for (int d = 0; d < rank; ++d) {
    stride[d] = step;
    step *= array.shape[d];
  }
  std::int64_t source = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    f(source);
    for (int d = rank - 1; d >= 0; --d) {  // count up, the last index fastest
      source += stride[d];
      if (++index[d] < array.shape[d]) break;
      source -= stride[d] * index[d];
      index[d] = 0;
    }
  }
}

}  // namespace

std::string ElementType::name() const {
  switch (kind) {
    case 'f':
      return fmt::format("float{}", 8 * size);
    case 'i':
      return fmt::format("int{}", 8 * size);
    case 'u':
      return fmt::format("uint{}", 8 * size);
    case 'b':
      return "bool";
    case 'U':
      return fmt::format("{}U{}", big_endian ? '>' : '<', size / 4);
    case 'S':
      return fmt::format("|S{}", size);
    case 'O':
      return "object";
    default:
      return "nothing";
  }
}

Array Array::operator[](std::int64_t i) const {
  if (shape.rank() == 0 || i < 0 || i >= shape[0]) {
    fail(ErrorKind::data, "pickle", "part {} of an array of shape {}", i, shape.to_string());
  }
  if ((fortran && shape.rank() > 1) || type.kind == 'O') {
    fail(ErrorKind::data, "pickle",
         "an array in {} cannot be divided; save it with numpy.ascontiguousarray",
         fortran ? "Fortran order" : "object form");
  }
  Array part = *this;
  part.shape = Shape(shape.sizes().subspan(1));
  const auto bytes = static_cast<std::size_t>(part.shape.numel() * type.size);
  part.data = data.substr(static_cast<std::size_t>(i) * bytes, bytes);
  return part;
}

Tensor Array::tensor(DType dtype) const {
  Tensor result = Tensor::empty(shape, dtype);
  const auto fill = [&]<class To>() {
    dispatch(type, [&](auto element) {
      using From = decltype(element);
      To* out = result.mutable_span<To>().data();
      const bool swap = type.big_endian;
      for_each_in_c_order(*this, [&](std::int64_t i) {
        *out++ = convert<To>(
            load<From>(data.data() + i * static_cast<std::int64_t>(sizeof(From)), swap));
      });
    });
  };
  switch (dtype) {
    case DType::f32:
      fill.operator()<float>();
      break;
    case DType::f64:
      fill.operator()<double>();
      break;
    case DType::i32:
      fill.operator()<std::int32_t>();
      break;
    case DType::i64:
      fill.operator()<std::int64_t>();
      break;
    case DType::u8:
      fill.operator()<std::uint8_t>();
      break;
    case DType::bf16:
      fail(ErrorKind::usage, "pickle", "an array is not read as bf16; read f32 and convert it");
  }
  return result;
}

Tensor Array::tensor() const {
  switch (type.kind) {
    case 'f':
      return tensor(type.size == 8 ? DType::f64 : DType::f32);
    case 'i':
      return tensor(type.size == 8 ? DType::i64 : DType::i32);
    case 'u':
    case 'b':
      return tensor(type.size == 1 ? DType::u8 : type.size == 2 ? DType::i32 : DType::i64);
    default:
      return tensor(DType::f32);  // fails in dispatch with the reason
  }
}

std::vector<std::string> Array::strings() const {
  if (is_numeric()) {
    fail(ErrorKind::data, "pickle", "expected an array of str, found {} {}", type.name(),
         shape.to_string());
  }
  std::vector<std::string> result;
  result.reserve(shape.numel());
  for_each_in_c_order(*this, [&](std::int64_t i) {
    if (type.kind == 'O') {
      result.push_back(objects->items.at(i).text());
      return;
    }
    const std::string_view element = data.substr(i * type.size, type.size);
    std::string text;
    if (type.kind == 'S') {  // padded with zeros at the end
      text = utf8_from_latin1(element.substr(0, element.find_last_not_of('\0') + 1));
    } else {
      for (std::int64_t k = 0; k < type.size; k += 4) {
        append_utf8(text, load<std::uint32_t>(element.data() + k, type.big_endian));
      }
      text.resize(text.find_last_not_of('\0') + 1);
    }
    result.push_back(std::move(text));
  });
  return result;
}

}  // namespace cmir::pickle
