#include "kernels/matrix/linear_backward.h"

#include <type_traits>

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

// A chunk of the product masked while it is in the cache was no faster.
template <class Args>
void apart(const Args& a) {
  const auto run_variant = [](const auto& args) {
    Variants<std::remove_cvref_t<decltype(args)>>::cpu[static_cast<int>(kIsa)](args);
  };
  run_variant(plain_product(a));
  run_variant(remaining(a));
}

const RegisterCpu registered{kIsa,
                             &apart<LinearReluGradient<float>>,
                             &apart<LinearReluGradient<double>>,
                             &apart<LinearReluGradient<BFloat16>>,
                             &apart<LinearWeightGradient<float>>,
                             &apart<LinearWeightGradient<double>>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
