// Matrix products on a device: cuBLAS and cuBLASLt under nvcc, the CPU's BLAS on the host model.
#pragma once

#include "kernels/cuda/device.h"
#include "kernels/matrix/gemm.h"
#include "kernels/matrix/linear.h"
#include "kernels/matrix/linear_backward.h"

namespace cmir::kernels::CMIR_DEVICE {

/// Whether cuBLASLt, where it has an algorithm, does all of `a`. It asks 16 bytes of a bias.
template <class T>
bool is_one_product(const LinearForward<T>& a) {
  return a.in > 0 && a.dropout.p == 0 && a.pre_activation == nullptr &&
         (a.activation == Activation::none || a.activation == Activation::relu) &&
         is_vector_aligned<kVectorSize<float>>(a.bias);
}

}  // namespace cmir::kernels::CMIR_DEVICE

#if defined(__CUDACC__)

#include "kernels/cuda/blas_cuda.h"

#else

#include <algorithm>

#include "kernels/matrix/blas.h"

namespace cmir::kernels::simt {

/// The product of g; k > 0.
template <class T>
void product(const Gemm<T>& g) {
  blas_gemm(g.transpose_a, g.transpose_b, g.m, g.n, g.k, g.alpha, g.a, g.lda, g.b, g.ldb, g.beta,
            g.c, g.ldc);
}

/// As cuBLASLt may, these refuse what is not aligned for 16 bytes.
template <class... Pointers>
bool are_taken(const Pointers*... pointers) {
  return ((reinterpret_cast<std::uintptr_t>(pointers) % 16 == 0) && ...);
}
inline std::uint8_t mask_bit(std::int64_t column) {
  return static_cast<std::uint8_t>(1U << (column % 8));
}

/// a.y = x weight^T, with `bias` its bias and with `relu` the larger of that and 0, and a's mask if
/// it wants one; in > 0. No other activation, and no pre_activation. False, and nothing done, where
/// the library cannot; with `dry`, that answer alone.
template <class T>
bool linear_product(const LinearForward<T>& a, bool bias, bool relu, bool dry = false) {
  const bool mask = relu && a.relu_mask != nullptr;
  if (!are_taken(a.x, a.weight, a.y, a.relu_mask)) return false;
  if (dry) return true;
  blas_gemm(false, true, a.rows, a.out, a.in, 1.0F, a.x, a.in, a.weight, a.in, 0.0F, a.y, a.out);
  if (mask) std::fill_n(a.relu_mask, relu_mask_bytes(a.rows, a.out), std::uint8_t{0});
  for (std::int64_t i = 0; i < a.rows * a.out; ++i) {
    const std::int64_t row = i / a.out, column = i % a.out;
    if (bias) a.y[i] += a.bias[column];
    if (relu && a.y[i] < 0) a.y[i] = 0;
    if (mask && a.y[i] > 0)
      a.relu_mask[(row * relu_mask_stride(a.out) + column) / 8] |= mask_bit(column);
  }
  return true;
}

/// a.dz and a.dbias with the mask that linear_product wrote; out > 0. False, and nothing done,
/// where the library cannot.
template <class T>
bool relu_gradient_product(const LinearReluGradient<T>& a) {
  const LinearForward<T>& relu = a.relu;
  if (!are_taken(a.dy, a.weight, a.dz, a.dbias)) return false;
  blas_gemm(false, false, relu.rows, relu.out, a.out, 1.0F, a.dy, a.out, a.weight, relu.out, 0.0F,
            a.dz, relu.out);
  if (a.dbias != nullptr) std::fill_n(a.dbias, relu.out, 0.0F);
  for (std::int64_t i = 0; i < relu.rows * relu.out; ++i) {
    const std::int64_t row = i / relu.out, column = i % relu.out;
    const std::uint8_t byte = relu.relu_mask[(row * relu_mask_stride(relu.out) + column) / 8];
    if ((byte & mask_bit(column)) == 0) a.dz[i] = 0;
    if (a.dbias != nullptr) a.dbias[column] += a.dz[i];
  }
  return true;
}

/// a.dweight and a.dbias, which is not null; rows > 0. False, and nothing done, where the library
/// cannot.
template <class T>
bool weight_gradient_product(const LinearWeightGradient<T>& a) {
  if (!are_taken(a.dy, a.x, a.dweight, a.dbias)) return false;
  blas_gemm(true, false, a.out, a.in, a.rows, 1.0F, a.dy, a.out, a.x, a.in, 0.0F, a.dweight, a.in);
  std::fill_n(a.dbias, a.out, 0.0F);
  for (std::int64_t i = 0; i < a.rows * a.out; ++i) {
    a.dbias[i % a.out] += static_cast<float>(a.dy[i]);
  }
  return true;
}

}  // namespace cmir::kernels::simt

#endif
