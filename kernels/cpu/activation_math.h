// The scalar functions behind Activation, for loops that the compiler vectorises.
#pragma once

#include "kernels/cpu/vector_math.h"
#include "kernels/elementwise/activation.h"

namespace cmir::kernels::cpu {

template <Activation activation, class T>
[[gnu::always_inline]] inline T activate(T x) {
  if constexpr (activation == Activation::relu) {
    return x < T{0} ? T{0} : x;  // this way round, NaN stays NaN
  } else if constexpr (activation == Activation::gelu) {
    T density;
    return x * cpu::normal_cdf(x, density);
  } else if constexpr (activation == Activation::tanh) {
    return cpu::tanh(x);
  } else if constexpr (activation == Activation::sigmoid) {
    return cpu::sigmoid(x);
  } else if constexpr (activation == Activation::exp) {
    return cpu::exp(x);
  } else {
    return x;
  }
}

/// The derivative at x, from what saved_by(activation) names: x itself or the output.
template <Activation activation, class T>
[[gnu::always_inline]] inline T activation_derivative(T saved) {
  if constexpr (activation == Activation::relu) {
    return saved > T{0} ? T{1} : T{0};
  } else if constexpr (activation == Activation::gelu) {
    T density;
    const T cdf = cpu::normal_cdf(saved, density);
    return cdf + saved * density;
  } else if constexpr (activation == Activation::tanh) {
    return T{1} - saved * saved;
  } else if constexpr (activation == Activation::sigmoid) {
    return saved * (T{1} - saved);
  } else if constexpr (activation == Activation::exp) {
    return saved;
  } else {
    return T{1};
  }
}

/// Calls f.template operator()<activation>() for the runtime value: the branch is outside the
/// loops.
template <class F>
[[gnu::always_inline]] inline void dispatch_activation(Activation activation, F&& f) {
  switch (activation) {
    case Activation::none:
      return f.template operator()<Activation::none>();
    case Activation::relu:
      return f.template operator()<Activation::relu>();
    case Activation::gelu:
      return f.template operator()<Activation::gelu>();
    case Activation::tanh:
      return f.template operator()<Activation::tanh>();
    case Activation::sigmoid:
      return f.template operator()<Activation::sigmoid>();
    case Activation::exp:
      return f.template operator()<Activation::exp>();
  }
}

}  // namespace cmir::kernels::cpu
