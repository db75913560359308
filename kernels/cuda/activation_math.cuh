// The scalar functions behind Activation on a device.
#pragma once

#include "kernels/cuda/device.h"
#include "kernels/elementwise/activation.h"

namespace cmir::kernels::CMIR_DEVICE {

/// The standard normal distribution function.
__device__ inline float normal_cdf(float x) { return 0.5F * erfcf(-0.707106781F * x); }

template <Activation activation>
__device__ float activate(float x) {
  if constexpr (activation == Activation::relu) {
    return x < 0.0F ? 0.0F : x;  // this way round, NaN stays NaN
  } else if constexpr (activation == Activation::gelu) {
    return x * normal_cdf(x);
  } else if constexpr (activation == Activation::tanh) {
    return tanhf(x);
  } else if constexpr (activation == Activation::sigmoid) {
    return 1.0F / (1.0F + expf(-x));
  } else if constexpr (activation == Activation::exp) {
    return expf(x);
  } else {
    return x;
  }
}

/// The derivative, from what saved_by(activation) names: the input or the output.
template <Activation activation>
__device__ float activation_derivative(float saved) {
  if constexpr (activation == Activation::relu) {
    return saved > 0.0F ? 1.0F : 0.0F;
  } else if constexpr (activation == Activation::gelu) {
    return normal_cdf(saved) + saved * (0.398942280F * expf(-0.5F * saved * saved));
  } else if constexpr (activation == Activation::tanh) {
    return 1.0F - saved * saved;
  } else if constexpr (activation == Activation::sigmoid) {
    return saved * (1.0F - saved);
  } else if constexpr (activation == Activation::exp) {
    return saved;
  } else {
    return 1.0F;
  }
}

/// Calls f.template operator()<activation>() for the runtime value, on the host: the kernels have
/// no branch.
template <class F>
void dispatch_activation(Activation activation, F&& f) {
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

}  // namespace cmir::kernels::CMIR_DEVICE
