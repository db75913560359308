// One AdamW step over many tensors in one pass, and the norm of many gradients.
#pragma once

#include <cstdint>
#include <string_view>

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

/// AdamW with decoupled weight decay (Loshchilov, Hutter: "Decoupled weight decay regularization",
/// ICLR 2019), in the order of torch.optim.AdamW. With g = gradient_scale * gradient, t = step:
///   p -= learning_rate weight_decay p
///   m  = beta1 m + (1 - beta1) g
///   v  = beta2 v + (1 - beta2) g^2
///   p -= learning_rate m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon)
/// The tensors are one concatenated index range, cut into chunks of equal size for the threads:
/// many small tensors cost no more than one large one. Bytes: 7 count sizeof(T). Operations: about
/// 16 count. Deterministic: elementwise.
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
  double gradient_scale;  // for clipping; 1 leaves the gradient as it is
  std::int64_t step;      // >= 1

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
inline constexpr std::int64_t kSquaredNormGrain = 16384;
constexpr std::int64_t squared_norm_workspace(std::int64_t count) {
  return chunk_count(0, count, kSquaredNormGrain);
}

}  // namespace cmir::kernels
