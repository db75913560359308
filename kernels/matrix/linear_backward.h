// Gradients of linear layers with what follows or precedes the product fused to it.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/elementwise/activation.h"
#include "kernels/matrix/gemm.h"
#include "kernels/matrix/linear.h"

namespace cmir::kernels {

/// Through a linear layer and the relu before it: dz = dy weight, times 0 where relu.y is not
/// positive, and dbias = dz's sums over rows. `relu` is the call, without dropout, that made the
/// layer's input relu.y. CPU: Gemm, then ActivationBackward. CUDA: cuBLASLt's epilogue DRELU_BGRAD,
/// which reads the mask that relu left and not relu.y, with sums in f32 in an order of its own; or
/// those two kernels where it has no algorithm for one of the calls. All outputs are overwritten.
/// Bytes: (rows out + out in) sizeof(T) + 2 rows in sizeof(dz), in = relu.out; the two kernels
/// apart: 2 rows in sizeof(dz) more. Operations: 2 rows in out + 2 rows in.
template <class T>
struct LinearReluGradient {
  static constexpr std::string_view name = "linear_relu_gradient";
  LinearForward<T> relu;
  const T* dy;        // [rows, out]
  const T* weight;    // [out, relu.out]
  SumOf<T>* dz;       // [rows, relu.out]
  SumOf<T>* dbias;    // [relu.out] or null
  double* workspace;  // [ActivationBackward<SumOf<T>>::workspace_size(rows, relu.out)] for dbias
  std::int64_t out;

  double bytes() const {
    return sizeof(T) * (1.0 * relu.rows * out + 1.0 * out * relu.out) +
           sizeof(SumOf<T>) * 2.0 * relu.rows * relu.out;
  }
  double operations() const { return 2.0 * relu.rows * relu.out * (out + 1); }
};

/// dweight = dy^T x and dbias = dy's sums over rows. CUDA: cuBLASLt's epilogue BGRADB, with sums in
/// f32 in an order of its own, or Gemm and ActivationBackward where it has no algorithm. CPU: these
/// two. All outputs are overwritten. Bytes: (rows in + rows out + in out) sizeof(T); the two apart:
/// rows out sizeof(T) more. Operations: 2 rows in out + rows out.
template <class T>
struct LinearWeightGradient {
  static constexpr std::string_view name = "linear_weight_gradient";
  const T* dy;        // [rows, out]
  const T* x;         // [rows, in]
  T* dweight;         // [out, in]
  T* dbias;           // [out]
  double* workspace;  // [ActivationBackward<T>::workspace_size(rows, out)]
  std::int64_t rows, in, out;
  bool tf32 = false;

  double bytes() const { return sizeof(T) * (1.0 * rows * in + 1.0 * rows * out + 1.0 * in * out); }
  double operations() const { return 2.0 * rows * in * out + 1.0 * rows * out; }
};

/// The products alone.
template <class T>
Gemm<T> plain_product(const LinearReluGradient<T>& a) {
  return {.m = a.relu.rows,
          .n = a.relu.out,
          .k = a.out,
          .a = a.dy,
          .lda = a.out,
          .b = a.weight,
          .ldb = a.relu.out,
          .c = a.dz,
          .ldc = a.relu.out,
          .tf32 = a.relu.tf32};
}
template <class T>
Gemm<T> plain_product(const LinearWeightGradient<T>& a) {
  return {.transpose_a = true,
          .m = a.out,
          .n = a.in,
          .k = a.rows,
          .a = a.dy,
          .lda = a.out,
          .b = a.x,
          .ldb = a.in,
          .c = a.dweight,
          .ldc = a.in,
          .tf32 = a.tf32};
}

/// What is left after them: dz through the relu, in place, and its sums; or the sums alone.
template <class T>
ActivationBackward<SumOf<T>> remaining(const LinearReluGradient<T>& a) {
  return {.activation = Activation::relu,
          .dy = a.dz,
          .saved = a.relu.y,
          .dx = a.dz,
          .rows = a.relu.rows,
          .width = a.relu.out,
          .column_sums = a.dbias,
          .workspace = a.workspace};
}
template <class T>
ActivationBackward<T> remaining(const LinearWeightGradient<T>& a) {
  return {.activation = Activation::none,
          .dy = a.dy,
          .saved = nullptr,
          .dx = nullptr,
          .rows = a.rows,
          .width = a.out,
          .column_sums = a.dbias,
          .workspace = a.workspace};
}

}  // namespace cmir::kernels
