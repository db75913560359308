// Element types of a tensor, and the way from a runtime dtype to a compile-time type.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <type_traits>

#include "core/error.h"
#include "core/host_device.h"

namespace cmir {

enum class DType : std::uint8_t { f32, f64, bf16, i32, i64, u8 };

/// bfloat16 storage: the upper 16 bits of an f32, rounded to nearest even; NaN stays NaN.
struct BFloat16 {
  std::uint16_t bits;  // no initial value: an array in a kernel's shared memory may have none

  BFloat16() = default;
  CMIR_HOST_DEVICE constexpr explicit BFloat16(float value) {
    const auto word = std::bit_cast<std::uint32_t>(value);
    if (value != value) {
      bits = static_cast<std::uint16_t>((word >> 16) | 0x40);  // keep it a quiet NaN
    } else {
      bits = static_cast<std::uint16_t>((word + 0x7FFF + ((word >> 16) & 1)) >> 16);
    }
  }
  CMIR_HOST_DEVICE constexpr explicit operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
};

/// The type in which a matrix product of T sums, and of its result: products of bf16 are exact in
/// f32.
template <class T>
using SumOf = std::conditional_t<std::is_same_v<T, BFloat16>, float, T>;

/// Bytes of one element.
constexpr std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
      return 2;
    case DType::u8:
      return 1;
  }
  return 0;
}

constexpr std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::f64:
      return "f64";
    case DType::bf16:
      return "bf16";
    case DType::i32:
      return "i32";
    case DType::i64:
      return "i64";
    case DType::u8:
      return "u8";
  }
  return "?";
}

constexpr bool is_floating(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f64 || dtype == DType::bf16;
}

template <class T>
struct DTypeOf;  // no definition: a type that is no tensor element does not compile
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<std::int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct DTypeOf<std::uint8_t> {
  static constexpr DType value = DType::u8;
};
template <class T>
inline constexpr DType dtype_of = DTypeOf<T>::value;

/// Calls `f.template operator()<float>()` or `<double>()` after the runtime dtype; other dtypes are
/// an Error that names `op`.
template <class F>
decltype(auto) dispatch_float(DType dtype, std::string_view op, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f.template operator()<float>();
    case DType::f64:
      return f.template operator()<double>();
    default:
      fail(ErrorKind::usage, op, "needs f32 or f64, got {}; convert with Tensor::to",
           name_of(dtype));
  }
}

}  // namespace cmir

/// What of numeric_limits is used: 8 significant bits, f32's range.
template <>
struct std::numeric_limits<cmir::BFloat16> {
  static constexpr bool is_specialized = true, has_quiet_NaN = true, has_infinity = true;
  static constexpr int digits = 8;
  static constexpr cmir::BFloat16 epsilon() { return cmir::BFloat16(0x1p-7F); }
  static constexpr cmir::BFloat16 max() { return cmir::BFloat16(0x1.FEp127F); }
  static constexpr cmir::BFloat16 infinity() {
    return cmir::BFloat16(std::numeric_limits<float>::infinity());
  }
  static constexpr cmir::BFloat16 quiet_NaN() {
    return cmir::BFloat16(std::numeric_limits<float>::quiet_NaN());
  }
};
