// The norm of CmIR's decorrelation loss, from the cross matrix or from Gram matrices. The matrix
// products are Gemm's.
//
// For normalised A, B [N, d], C = A B^T and W (1 on the diagonal, alpha elsewhere), R = scale ||W o
// C||_F, two forms:
//   cross, for N <= d: C is formed. R^2 is a sum of squares, and W^2 o C is what both gradients
//   need: dR/dA = (W^2 o C) B, dR/dB = (W^2 o C)^T A, times scale / ||W o C||. 6 N^2 d operations,
//   forward and backward. gram, for N > d: ||C||_F^2 = tr(A B^T B A^T) = tr((A^T A)(B^T B)), two d
//   x d matrices, and
//   ||W o C||^2 = alpha^2 ||C||^2 + (1 - alpha^2) sum_i C_ii^2 with C_ii = a_i . b_i. As C B = A
//   (B^T B), dR/dA = alpha^2 A (B^T B)
//   + (1 - alpha^2) diag(C_ii) B. 8 N d^2 operations.
// Neither holds more than min(N, d)^2 elements besides the inputs' size. In the gram form R^2 is a
// sum with both signs, with an error of about eps ||A^T A|| ||B^T B||; R below the square root of
// that is rounding noise. There the gradient is divided by that root and not by R, so it stays
// bounded, as the true one is (by the spectral norm of B).
#pragma once

#include <cstdint>
#include <string_view>

#include "core/parallel.h"
#include "kernels/kernel.h"

namespace cmir::kernels {

/// *value = scale ||W o C||_F; *factor = scale / ||W o C||_F (0 where that is 0); C becomes W^2 o
/// C. Bytes: 2 n^2 sizeof(T). Operations: 4 n^2. Row sums are kept in f64 and added in order.
template <class T>
struct CrossNorm {
  static constexpr std::string_view name = "cross_norm";
  T* c;  // [n, n]
  std::int64_t n;
  double alpha;
  double scale;
  double* row_sums;  // [n], scratch
  T* value;          // [1]
  double* factor;    // [1]

  double bytes() const { return 2.0 * n * n * sizeof(T); }
  double operations() const { return 4.0 * n * n; }
};

/// diagonal[i] = a_i . b_i; with T = BFloat16, a is bf16, b and the result f32. Bytes: rows width
/// (sizeof(T) + sizeof(b)). Operations: 2 rows width. Summed in f64.
template <class T>
struct RowDot {
  static constexpr std::string_view name = "row_dot";
  const T* a;          // [rows, width]
  const SumOf<T>* b;   // [rows, width]
  SumOf<T>* diagonal;  // [rows]
  std::int64_t rows;
  std::int64_t width;

  double bytes() const { return 1.0 * rows * width * (sizeof(T) + sizeof(SumOf<T>)); }
  double operations() const { return 2.0 * rows * width; }
};

/// *value = scale sqrt(alpha^2 <gram_a, gram_b> + (1 - alpha^2) sum diagonal^2); *factor = scale /
/// the same root, at least the resolution that the file's head comment derives. Bytes: 2 d^2
/// sizeof(T). Operations: 6 d^2. Row sums are kept in f64 and added in order.
template <class T>
struct GramNorm {
  static constexpr std::string_view name = "gram_norm";
  const T* gram_a;    // [d, d]
  const T* gram_b;    // [d, d]
  const T* diagonal;  // [rows], or null when alpha is 1
  std::int64_t d;
  std::int64_t rows;
  double alpha;
  double scale;
  double* row_sums;  // [d, 3], scratch
  T* value;          // [1]
  double* factor;    // [1]

  double bytes() const { return 2.0 * d * d * sizeof(T); }
  double operations() const { return 6.0 * d * d; }
};

}  // namespace cmir::kernels
