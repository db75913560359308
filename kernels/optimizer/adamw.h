// One AdamW step over many tensors in one pass, and the norm of many gradients.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>

#include "core/host_device.h"
#include "core/parallel.h"
#include "kernels/kernel.h"

namespace cmir::kernels {

/// One parameter and its optimizer state; the arrays must not overlap.
template <class T>
struct AdamWTensor {
  T* parameter;       // updated
  const T* gradient;  // read
  T* first_moment;    // updated
  T* second_moment;   // updated
};

/// What differs from step to step, in the memory of the kernels' device, so that a recorded step
/// can be replayed. AdamWPrepare writes it, AdamWStep reads it.
struct AdamWScalars {
  std::int64_t step = 0;  ///< steps done, the one under way included
  double learning_rate_factor = 1;
  double gradient_scale = 1;  ///< for clipping; 1 leaves the gradient as it is
  std::int64_t stopped = 0;  ///< 1: something was not finite, and no step changes anything any more
};

/// beta^t by squaring, t >= 0, within t 2^-52 of itself (so 1 - beta^t within 4e-13 of itself where
/// beta <= 0.999), and the same bits on any device.
CMIR_HOST_DEVICE constexpr double power_of(double beta, std::int64_t t) {
  double result = 1;
  for (; t > 0; t /= 2) {
    if (t % 2 != 0) result *= beta;
    beta *= beta;
  }
  return result;
}

/// The constants of one step of AdamW in the arrays' dtype, computed in f64.
template <class T>
struct AdamWConstants {
  T keep, beta1, rest1, beta2, rest2, step_size, root_correction, epsilon, scale;
};

/// AdamW with decoupled weight decay (Loshchilov, Hutter: "Decoupled weight decay regularization",
/// ICLR 2019), in the order of torch.optim.AdamW. With g = gradient_scale * gradient, t = step and
/// r = learning_rate * learning_rate_factor:
///   p -= r weight_decay p
///   m  = beta1 m + (1 - beta1) g
///   v  = beta2 v + (1 - beta2) g^2
///   p -= r m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon)
/// Nothing is done where the scalars say `stopped`. The tensors are one concatenated index range,
/// cut into chunks of equal size for the threads: many small tensors cost no more than one large
/// one. Bytes: 7 count sizeof(T). Operations: about 16 count. Deterministic: elementwise.
template <class T>
struct AdamWStep {
  static constexpr std::string_view name = "adamw_step";
  const AdamWTensor<T>* tensors;  // [tensor_count]
  const std::int64_t*
      offsets;  // [tensor_count + 1]: tensor i has elements offsets[i] .. offsets[i + 1]
  std::int64_t tensor_count;
  double learning_rate;
  double weight_decay;
  double beta1, beta2, epsilon;
  const AdamWScalars* scalars;  // [1], step >= 1

  CMIR_HOST_DEVICE AdamWConstants<T> constants() const {
    const double rate = learning_rate * scalars->learning_rate_factor;
    const double correction1 = 1.0 - power_of(beta1, scalars->step);
    const double correction2 = 1.0 - power_of(beta2, scalars->step);
    return {.keep = static_cast<T>(1.0 - rate * weight_decay),
            .beta1 = static_cast<T>(beta1),
            .rest1 = static_cast<T>(1.0 - beta1),
            .beta2 = static_cast<T>(beta2),
            .rest2 = static_cast<T>(1.0 - beta2),
            .step_size = static_cast<T>(rate / correction1),
            .root_correction = static_cast<T>(1.0 / std::sqrt(correction2)),
            .epsilon = static_cast<T>(epsilon),
            .scale = static_cast<T>(scalars->gradient_scale)};
  }

  /// `count`: offsets[tensor_count], which may be on a device.
  double bytes(std::int64_t count) const { return 7.0 * count * sizeof(T); }
  double operations(std::int64_t count) const { return 16.0 * count; }
};

struct SquaredNormPartial {
  double sum;
  std::int64_t nonfinite_tensor;  // -1: none
};

/// sum over all tensors and elements of x^2, in f64, and the first tensor that holds a NaN or an
/// infinity. Chunked as AdamWStep; partial sums are merged in chunk order (on
/// CUDA by the threads of a block in a fixed order, as within a chunk). Bytes: count sizeof(T).
/// Operations: 2 count.
template <class T>
struct SquaredNorm {
  static constexpr std::string_view name = "squared_norm";
  const T* const* tensors;      // [tensor_count]
  const std::int64_t* offsets;  // [tensor_count + 1]
  std::int64_t tensor_count;
  SquaredNormPartial* workspace;  // [squared_norm_workspace(offsets[tensor_count])]
  SquaredNormPartial* result;     // [1], written

  /// `count`: offsets[tensor_count], which may be on a device.
  double bytes(std::int64_t count) const { return 1.0 * count * sizeof(T); }
  double operations(std::int64_t count) const { return 2.0 * count; }
};

/// What AdamWPrepare reports of a step.
struct AdamWReport {
  double gradient_norm;           ///< before clipping
  std::int64_t nonfinite_tensor;  ///< the first with a NaN or an infinity in its gradient; -1: none
  std::int64_t nonfinite_loss;    ///< the same of the losses
  std::int64_t stopped_before;    ///< 1: an earlier step was not finite, so this one did nothing
};

/// Between the gradients' norm and AdamWStep, by one thread. Unless the scalars say `stopped`:
/// counts the step, takes its learning rate's factor (the last one from then on), and scales
/// gradients down to a joint norm of max_gradient_norm (0: no limit) by max / (norm + 1e-6), as
/// torch's clip_grad_norm_. `stopped` is set, and the step not counted, if a gradient or a loss is
/// not finite. Bytes and operations: a few.
template <class T>
struct AdamWPrepare {
  static constexpr std::string_view name = "adamw_prepare";
  const SquaredNormPartial* norm;  // [1]
  const double* factors;           // [factor_count], of step 0, 1, ...
  std::int64_t factor_count;       // >= 1
  double max_gradient_norm;
  const T* const* losses;  // [loss_count], each one element
  std::int64_t loss_count;
  AdamWScalars* scalars;  // [1], updated
  AdamWReport* report;    // [1], written
  double* loss_values;    // [loss_count], written

  CMIR_HOST_DEVICE void compute() const {
    *report = {std::sqrt(norm->sum), norm->nonfinite_tensor, -1, scalars->stopped};
    for (std::int64_t i = loss_count - 1; i >= 0; --i) {
      loss_values[i] = static_cast<double>(*losses[i]);
      if (!(std::abs(loss_values[i]) <= std::numeric_limits<double>::max()))
        report->nonfinite_loss = i;
    }
    if (scalars->stopped != 0) return;
    if (report->nonfinite_tensor >= 0 || report->nonfinite_loss >= 0) {
      scalars->stopped = 1;
      return;
    }
    const std::int64_t step = scalars->step++;
    scalars->learning_rate_factor = factors[step < factor_count ? step : factor_count - 1];
    const double scale = max_gradient_norm / (report->gradient_norm + 1e-6);
    scalars->gradient_scale = max_gradient_norm > 0 && scale < 1 ? scale : 1;
  }

  double bytes() const { return sizeof(T) * static_cast<double>(loss_count) + sizeof(AdamWReport); }
  double operations() const { return 10; }
};
inline constexpr std::int64_t kSquaredNormGrain = 16384;
constexpr std::int64_t squared_norm_workspace(std::int64_t count) {
  return chunk_count(0, count, kSquaredNormGrain);
}

}  // namespace cmir::kernels
