#include "core/formats/npy.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "core/formats/file.h"
#include "core/formats/zip.h"

namespace cmir {
namespace {

struct Header {
  std::string descr;
  bool fortran_order = false;
  std::vector<std::int64_t> shape;
};

/// Parses the header, a Python dict literal with exactly the keys descr, fortran_order and shape.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& file) : text_(text), file_(file) {}

  Header parse() {
    Header header;
    std::set<std::string> seen;
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      if (!seen.insert(key).second) error(fmt::format("'{}' twice", key));
      expect(':');
      if (key == "descr") {
        if (peek() != '\'' && peek() != '"') error("a structured dtype, which is not supported");
        header.descr = quoted();
      } else if (key == "fortran_order") {
        header.fortran_order = boolean();
      } else if (key == "shape") {
        header.shape = tuple();
      } else {
        error(fmt::format("the unknown key '{}'", key));
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    if (seen.size() != 3) error("not all of descr, fortran_order, shape");
    skip_space();
    if (position_ != text_.size()) error("text after its end");
    return header;
  }

 private:
  [[noreturn]] void error(std::string_view found) const {
    fail(ErrorKind::data, file_, "its NPY header has {} (at character {})", found, position_);
  }
  void skip_space() {
    while (position_ < text_.size() && (text_[position_] == ' ' || text_[position_] == '\n'))
      ++position_;
  }
  char peek() {
    skip_space();
    return position_ < text_.size() ? text_[position_] : '\0';
  }
  bool accept(char c) {
    if (peek() != c) return false;
    ++position_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) error(fmt::format("no '{}' where one must be", c));
  }
  std::string quoted() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') error("no quoted text where one must be");
    const auto end = text_.find(quote, position_ + 1);
    if (end == std::string_view::npos) error("unfinished text");
    std::string value(text_.substr(position_ + 1, end - position_ - 1));
    position_ = end + 1;
    return value;
  }
  bool boolean() {
    skip_space();
    for (const std::string_view word : {"True", "False"}) {
      if (text_.substr(position_, word.size()) != word) continue;
      position_ += word.size();
      return word == "True";
    }
    error("neither True nor False");
  }
  std::vector<std::int64_t> tuple() {
    std::vector<std::int64_t> sizes;
    expect('(');
    while (!accept(')')) {
      std::int64_t size = 0;
      skip_space();
      const auto [end, status] =
          std::from_chars(text_.data() + position_, text_.data() + text_.size(), size);
      if (status != std::errc() || size < 0) error("no size from 0 to 2^63 - 1");
      position_ = end - text_.data();
      accept('L');  // written by Python 2
      sizes.push_back(size);
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return sizes;
  }

  std::string_view text_;
  const std::string& file_;
  std::size_t position_ = 0;
};

float half_to_float(std::uint16_t half) {
  const int exponent = (half >> 10) & 31;
  const int mantissa = half & 1023;
  float magnitude = 0;
  if (exponent == 31) {
    magnitude = mantissa == 0 ? INFINITY : NAN;
  } else if (exponent == 0) {
    magnitude = std::ldexp(static_cast<float>(mantissa), -24);
  } else {
    magnitude = std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
  }
  return (half >> 15) != 0 ? -magnitude : magnitude;
}

/// Reads elements From, possibly misaligned, as a tensor of To.
template <class To, class From, class Convert>
Tensor convert(std::span<const std::byte> data, const Shape& shape, Convert&& to) {
  Tensor result = Tensor::empty(shape, dtype_of<To>);
  std::size_t offset = 0;
  for (To& value : result.mutable_span<To>()) {
    From element;
    std::memcpy(&element, data.data() + offset, sizeof(From));
    value = to(element);
    offset += sizeof(From);
  }
  return result;
}
template <class To, class From>
Tensor widen(std::span<const std::byte> data, const Shape& shape) {
  return convert<To, From>(data, shape, [](From x) { return static_cast<To>(x); });
}

struct NpyDType {
  std::string_view descr;  // without the byte order
  std::size_t size;
  std::optional<DType> dtype;  // of Tensor, if it has the same
  Tensor (*convert)(std::span<const std::byte>, const Shape&) = nullptr;
};
const std::array<NpyDType, 11> kDTypes{
    {{"f4", 4, DType::f32},
     {"f8", 8, DType::f64},
     {"i4", 4, DType::i32},
     {"i8", 8, DType::i64},
     {"u1", 1, DType::u8},
     {"f2",
      2,
      {},
      [](std::span<const std::byte> data, const Shape& shape) {
        return convert<float, std::uint16_t>(data, shape, half_to_float);
      }},
     {"i1", 1, {}, widen<std::int32_t, std::int8_t>},
     {"i2", 2, {}, widen<std::int32_t, std::int16_t>},
     {"u2", 2, {}, widen<std::int32_t, std::uint16_t>},
     {"u4", 4, {}, widen<std::int64_t, std::uint32_t>},
     {"b1", 1, {}, [](std::span<const std::byte> data, const Shape& shape) {
        return convert<std::uint8_t, std::uint8_t>(
            data, shape, [](std::uint8_t x) -> std::uint8_t { return x != 0; });
      }}}};

const NpyDType& find_dtype(const std::string& descr, const std::string& file) {
  const std::string_view type = std::string_view(descr).substr(descr.empty() ? 0 : 1);
  if (type.starts_with('O')) {
    fail(ErrorKind::data, file,
         "holds Python objects (dtype '{}'), which are pickles that could run code; save "
         "arrays of numbers instead",
         descr);
  }
  const auto* found = std::ranges::find(kDTypes, type, &NpyDType::descr);
  const bool little = descr.starts_with('<') || descr.starts_with('=') ||
                      (descr.starts_with('|') && found != kDTypes.end() && found->size == 1);
  if (found == kDTypes.end() || !little) {
    fail(ErrorKind::data, file,
         "has the dtype '{}'; convert it with .astype('<f4') or .astype('<i8')", descr);
  }
  return *found;
}

struct Parts {
  Header header;
  std::span<const std::byte> data;
};

Parts split(std::span<const std::byte> bytes, const std::string& file) {
  constexpr std::string_view kMagic = "\x93NUMPY";
  const auto* text = reinterpret_cast<const char*>(bytes.data());
  if (bytes.size() < 10 || std::string_view(text, kMagic.size()) != kMagic) {
    fail(ErrorKind::data, file, "is no NPY file: it does not start with \\x93NUMPY");
  }
  const int major = std::to_integer<int>(bytes[6]);
  if (major < 1 || major > 3) fail(ErrorKind::data, file, "has the unknown NPY version {}", major);
  const std::size_t length_bytes = major == 1 ? 2 : 4;
  std::uint32_t length = 0;
  if (bytes.size() < 8 + length_bytes) fail(ErrorKind::data, file, "is cut off in its header");
  std::memcpy(&length, bytes.data() + 8, length_bytes);
  const auto rest = bytes.subspan(8 + length_bytes);
  if (length > rest.size()) {
    fail(ErrorKind::data, file, "its header claims {} bytes, the file has {}", length, rest.size());
  }
  const std::string_view header(text + 8 + length_bytes, length);
  return {HeaderParser(header, file).parse(), rest.subspan(length)};
}

/// `data` holds the elements with the first index running fastest; the result has the last running
/// fastest.
std::vector<std::byte> to_row_major(std::span<const std::byte> data, const Shape& shape,
                                    std::size_t size) {
  std::vector<std::byte> result(data.size());
  const int rank = shape.rank();
  std::vector<std::int64_t> index(rank, 0), stride(rank, 1);
  for (int i = 1; i < rank; ++i) stride[i] = stride[i - 1] * shape[i - 1];
  for (std::int64_t element = 0, source = 0; element < shape.numel(); ++element) {
    std::memcpy(result.data() + element * size, data.data() + source * size, size);
    for (int i = rank - 1; i >= 0; --i) {  // the next index, as an odometer counts
      source += stride[i];
      if (++index[i] < shape[i]) break;
      source -= stride[i] * shape[i];
      index[i] = 0;
    }
  }
  return result;
}

}  // namespace

Tensor parse_npy(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                 const std::string& name) {
  auto [header, data] = split(bytes, name);
  const NpyDType& type = find_dtype(header.descr, name);
  Shape shape;
  try {
    shape = Shape(header.shape);
  } catch (const Error& error) {
    fail(ErrorKind::data, name, "{}", error.what());
  }
  if (data.size() % type.size != 0 ||
      data.size() / type.size != static_cast<std::size_t>(shape.numel())) {
    fail(ErrorKind::data, name, "{} bytes are not {} elements of '{}' (cut off?)", data.size(),
         shape.to_string(), header.descr);
  }
  if (header.fortran_order && shape.rank() > 1) {
    auto copy =
        std::make_shared<const std::vector<std::byte>>(to_row_major(data, shape, type.size));
    data = *copy;
    owner = std::move(copy);
  }
  if (type.convert != nullptr) return type.convert(data, shape);
  if (reinterpret_cast<std::uintptr_t>(data.data()) % type.size == 0) {
    return Tensor::wrap(data.data(), shape, *type.dtype, std::move(owner));
  }
  Tensor copy = Tensor::empty(shape, *type.dtype);
  if (!data.empty()) std::memcpy(copy.mutable_byte_span().data(), data.data(), data.size());
  return copy;
}

Tensor read_npy(const std::filesystem::path& path) {
  auto mapped = MappedFile::open(path);
  const auto bytes = mapped->bytes();
  return parse_npy(bytes, std::move(mapped), path.string());
}

std::map<std::string, Tensor> parse_npz(std::span<const std::byte> bytes,
                                        std::shared_ptr<const void> owner,
                                        const std::string& name) {
  constexpr std::string_view kExtension = ".npy";
  std::map<std::string, Tensor> arrays;
  for (const ZipMember& member : zip_directory(bytes, name)) {
    if (!member.name.ends_with(kExtension)) {
      fail(ErrorKind::data, name, "holds '{}', which is no .npy array", member.name);
    }
    const std::string array = member.name.substr(0, member.name.size() - kExtension.size());
    const std::string where = fmt::format("{}: array '{}'", name, array);
    auto [content, content_owner] = zip_content(member, owner, where);
    arrays.emplace(array, parse_npy(content, std::move(content_owner), where));
  }
  return arrays;
}

std::map<std::string, Tensor> read_npz(const std::filesystem::path& path) {
  auto mapped = MappedFile::open(path);
  const auto bytes = mapped->bytes();
  return parse_npz(bytes, std::move(mapped), path.string());
}

}  // namespace cmir
