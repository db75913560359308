// One-dimensional convolution over packed sequences.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "core/parallel.h"
#include "kernels/cpu/panels.h"
#include "kernels/kernel.h"

namespace cmir::kernels {

/// Sizes of a convolution over packed sequences. `taps` is odd; the padding (taps - 1) / 2 on
/// either side of each sample is zeros, so the output has as many rows as the input. Samples never
/// mix.
struct Conv1dSizes {
  std::int64_t rows;     ///< of all samples together
  std::int64_t samples;  ///< offsets has samples + 1 entries
  std::int64_t in;
  std::int64_t out;
  std::int64_t taps;

  constexpr std::int64_t padding() const { return taps / 2; }
  constexpr std::int64_t window() const { return taps * in; }
  double operations() const { return 2.0 * rows * in * out * taps; }
};

/// y[r, o] = bias[o] + sum_{t, i} weight[o, i, t] x[r + t - padding, i], rows outside r's sample
/// being zeros (PyTorch's Conv1d: a cross-correlation). As a product: the window of `taps` rows
/// around r, which is contiguous in x but for a sample's ends, times the weight packed as [taps in,
/// out]. Windows are gathered 48 rows at a time: each chunk of rows has a buffer of its own in the
/// workspace. y is overwritten. A row's bits depend on its sample only. On CUDA the window is read
/// from x in place, and the workspace holds the packed weight only. With T = BFloat16, x and weight
/// are bf16, all else is f32, the sums too; on CUDA the tensor cores multiply. Bytes: x, weight, y
/// once. Operations: 2 rows in out taps.
template <class T>
struct Conv1dForward {
  static constexpr std::string_view name = "conv1d_forward";
  const T* x;                   // [rows, in]
  const std::int64_t* offsets;  // [samples + 1]
  const T* weight;              // [out, in, taps]
  const SumOf<T>* bias;         // [out] or null
  SumOf<T>* y;                  // [rows, out]
  Conv1dSizes sizes;
  SumOf<T>* workspace;  // conv1d_forward_workspace<T>(sizes) elements

  double bytes() const {
    return sizeof(T) * (1.0 * sizes.rows * sizes.in + 1.0 * sizes.window() * sizes.out) +
           sizeof(SumOf<T>) * 1.0 * sizes.rows * sizes.out;
  }
  double operations() const { return sizes.operations(); }
};

/// dx[r, i] = sum_{t, o} weight[o, i, t] dy[r - t + padding, o]: the forward product with the taps
/// reversed and in and out exchanged. dx is overwritten. BFloat16: of dy and weight.
template <class T>
struct Conv1dBackwardInput {
  static constexpr std::string_view name = "conv1d_backward_input";
  const T* dy;                  // [rows, out]
  const std::int64_t* offsets;  // [samples + 1]
  const T* weight;              // [out, in, taps]
  SumOf<T>* dx;                 // [rows, in]
  Conv1dSizes sizes;
  SumOf<T>* workspace;  // conv1d_backward_input_workspace<T>(sizes) elements

  double bytes() const {
    return sizeof(T) * (1.0 * sizes.rows * sizes.out + 1.0 * sizes.window() * sizes.out) +
           sizeof(SumOf<T>) * 1.0 * sizes.rows * sizes.in;
  }
  double operations() const { return sizes.operations(); }
};

/// dweight[o, i, t] = sum_r dy[r, o] x[r + t - padding, i]; dbias[o] = sum_r dy[r, o]. Both are
/// overwritten; dbias may be null. Each of at most 16 chunks of rows sums its own [taps in, out] in
/// the workspace; they are merged in chunk order. (On CUDA the workspace holds these sums only.)
/// BFloat16: of x and dy, so that dbias sums rounded elements.
template <class T>
struct Conv1dBackwardWeight {
  static constexpr std::string_view name = "conv1d_backward_weight";
  const T* x;                   // [rows, in]
  const std::int64_t* offsets;  // [samples + 1]
  const T* dy;                  // [rows, out]
  SumOf<T>* dweight;            // [out, in, taps]
  SumOf<T>* dbias;              // [out] or null
  Conv1dSizes sizes;
  SumOf<T>* workspace;  // conv1d_backward_weight_workspace<T>(sizes) elements

  double bytes() const {
    return sizeof(T) * 1.0 * sizes.rows * (sizes.in + sizes.out) +
           sizeof(SumOf<T>) * 1.0 * sizes.window() * sizes.out;
  }
  double operations() const { return sizes.operations() + 1.0 * sizes.rows * sizes.out; }
};

/// Rows whose windows are gathered at a time, and rows of a chunk: at most `most` chunks of whole
/// blocks.
inline constexpr std::int64_t kConv1dBlock = 48;
inline std::int64_t conv1d_grain(std::int64_t rows, std::int64_t most) {
  const std::int64_t blocks = (rows + kConv1dBlock - 1) / kConv1dBlock;
  return std::max<std::int64_t>(1, (blocks + most - 1) / most) * kConv1dBlock;
}
inline constexpr std::int64_t kConv1dRowChunks = 32;
inline constexpr std::int64_t kConv1dWeightChunks = 16;

/// Elements of SumOf<T>.
template <class T>
std::int64_t conv1d_forward_workspace(const Conv1dSizes& s) {
  const std::int64_t chunks = chunk_count(0, s.rows, conv1d_grain(s.rows, kConv1dRowChunks));
  return cpu::packed_size<SumOf<T>>(s.window(), s.out) + chunks * kConv1dBlock * s.window();
}
template <class T>
std::int64_t conv1d_backward_input_workspace(const Conv1dSizes& s) {
  return conv1d_forward_workspace<T>({s.rows, s.samples, s.out, s.in, s.taps});
}
/// Elements of one chunk: its windows, its packed dy, its sums for dweight and dbias.
template <class T>
std::int64_t conv1d_backward_weight_chunk(const Conv1dSizes& s) {
  return kConv1dBlock * s.window() + cpu::packed_size<SumOf<T>>(kConv1dBlock, s.out) +
         (s.window() + 1) * s.out;
}
template <class T>
std::int64_t conv1d_backward_weight_workspace(const Conv1dSizes& s) {
  return chunk_count(0, s.rows, conv1d_grain(s.rows, kConv1dWeightChunks)) *
         conv1d_backward_weight_chunk<T>(s);
}

}  // namespace cmir::kernels
