// In what precision ops multiply matrices (docs/precision.md).
#pragma once

#include <cstdint>
#include <string_view>
#include <type_traits>

#include "core/tensor.h"

namespace cmir {

/// f32: factors and sums in f32. tf32: on a GPU the factors may be rounded to TF32. bf16: the
/// factors are rounded to bf16, on every device. Sums, results and all else are f32 in each. f64
/// tensors, with which gradients are checked, are multiplied in f64 whatever the precision.
enum class Precision : std::uint8_t { f32, tf32, bf16 };

/// "f32", "tf32" or "bf16"; anything else is an Error of kind usage.
Precision parse_precision(std::string_view name);

/// While alive, ops that this thread runs have that precision. An op keeps it for its backward,
/// which needs no scope.
class PrecisionScope {
 public:
  explicit PrecisionScope(Precision precision);
  ~PrecisionScope();
  PrecisionScope(const PrecisionScope&) = delete;
  PrecisionScope& operator=(const PrecisionScope&) = delete;

 private:
  Precision previous_;
};
/// Of the innermost scope; f32 outside any.
Precision current_precision();

/// x, f32 or f64, as a factor of the op's products: rounded to a bf16 copy where x is f32 and the
/// precision bf16, else x itself. Another dtype is an Error that names the op.
Tensor as_factor(std::string_view op, const Tensor& x, Precision precision);

/// Calls `f.template operator()<T>()` with the element type of what as_factor returned: float,
/// double or BFloat16.
template <class F>
decltype(auto) dispatch_factor(DType dtype, std::string_view op, F&& f) {
  if (dtype == DType::bf16) return f.template operator()<BFloat16>();
  return dispatch_float(dtype, op, f);
}

}  // namespace cmir
