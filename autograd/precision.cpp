#include "autograd/precision.h"

#include "kernels/elementwise/round.h"

namespace cmir {
namespace {

thread_local Precision current = Precision::f32;

}  // namespace

Precision parse_precision(std::string_view name) {
  if (name == "f32") return Precision::f32;
  if (name == "tf32") return Precision::tf32;
  if (name == "bf16") return Precision::bf16;
  fail(ErrorKind::usage, "precision", "'{}' is none of f32, tf32, bf16", name);
}

PrecisionScope::PrecisionScope(Precision precision) : previous_(current) { current = precision; }
PrecisionScope::~PrecisionScope() { current = previous_; }
Precision current_precision() { return current; }

Tensor as_factor(std::string_view op, const Tensor& x, Precision precision) {
  return dispatch_float(x.dtype(), op, [&]<class T>() {
    if constexpr (std::is_same_v<T, float>) {
      if (precision == Precision::bf16) {
        Tensor rounded = Tensor::empty(x.shape(), DType::bf16, x.device());
        kernels::run(x.device(), kernels::RoundToBFloat16<float>{
                                     x.data<float>(), rounded.mutable_data<BFloat16>(), x.numel()});
        return rounded;
      }
    }
    return x;
  });
}

}  // namespace cmir
