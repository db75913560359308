#include "kernels/matrix/linear_backward.h"

#include "kernels/cuda/blas.h"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

/// The product and what is left as kernels of their own.
template <class T, class Args>
void apart(const Args& a) {
  const auto rest = remaining(a);
  Variants<Gemm<T>>::CMIR_DEVICE(plain_product(a));
  Variants<std::remove_cvref_t<decltype(rest)>>::CMIR_DEVICE(rest);
}

template <class T>
void relu_gradient(const LinearReluGradient<T>& a) {
  if (a.relu.rows == 0 || a.relu.out == 0 || a.out == 0) return apart<T>(a);
  const bool has_mask = a.relu.relu_mask != nullptr && is_one_product(a.relu) &&
                        linear_product(a.relu, a.relu.bias != nullptr, true, true);
  if (!has_mask || !relu_gradient_product(a)) apart<T>(a);
}

template <class T>
void weight_gradient(const LinearWeightGradient<T>& a) {
  if (a.rows == 0 || a.in == 0 || a.out == 0 || !weight_gradient_product(a)) apart<T>(a);
}

const RegisterDevice registered{&relu_gradient<float>, &relu_gradient<BFloat16>,
                                &weight_gradient<float>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
