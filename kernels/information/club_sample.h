// CLUBSample: vCLUB with one negative per sample, taken by a random permutation of the batch
// (Cheng et al. 2020, section 3.2, with a permutation as in the authors' code).
#pragma once

#include <cstdint>
#include <string_view>

#include "core/philox.h"
#include "kernels/kernel.h"

namespace cmir::kernels {

/// permutation[i] and its inverse: those of core/permutation.h, exactly, on every device. Bytes:
/// 8 count. Operations: about 300 count.
template <class T>
struct Permute {
  static constexpr std::string_view name = "permute";
  RandomStream stream;
  std::int64_t count;  // at most 2^30
  T* permutation;      // [count]
  T* inverse;          // [count]

  double bytes() const { return 2.0 * count * sizeof(T); }
  double operations() const { return 300.0 * count; }
};

/// With w = exp(-logvar) and p the permutation, *value = -scale/2 sum_ik w_ik ((y_ik - mu_ik)^2 -
/// (y_p(i)k - mu_ik)^2): scale = 1 / rows for the bound. A row is summed in f64, then the rows in
/// order (on CUDA by one block, in a fixed order). Bytes: 4 rows width sizeof(T). Operations: about
/// 30 per element.
template <class T>
struct ClubSampleForward {
  static constexpr std::string_view name = "club_sample_forward";
  const T* mu;                      // [rows, width]
  const T* logvar;                  // [rows, width]
  const T* y;                       // [rows, width]
  const std::int32_t* permutation;  // [rows], in [0, rows)
  std::int64_t rows;
  std::int64_t width;
  double scale;
  double* row_sums;  // [rows], scratch
  T* value;          // [1]

  double bytes() const { return 4.0 * rows * width * sizeof(T); }
  double operations() const { return 30.0 * rows * width; }
};

/// With c = cotangent scale and y' = y_p(i): dmu_i = c w_i (y_i - y'), dlogvar_i = c w_i ((y_i -
/// mu_i)^2 - (y' - mu_i)^2) / 2, and with q the row for which i is the negative, dy_i = c (w_q (y_i
/// - mu_q) - w_i (y_i - mu_i)). Each may be null. Bytes: up to 9 rows width sizeof(T). Operations:
/// about 60 per element. Deterministic: elementwise.
template <class T>
struct ClubSampleBackward {
  static constexpr std::string_view name = "club_sample_backward";
  const T* mu;                      // [rows, width]
  const T* logvar;                  // [rows, width]
  const T* y;                       // [rows, width]
  const std::int32_t* permutation;  // [rows]
  const std::int32_t* inverse;      // [rows]
  const T* cotangent;               // [1]
  std::int64_t rows;
  std::int64_t width;
  double scale;
  T* dmu;      // [rows, width] or null
  T* dlogvar;  // [rows, width] or null
  T* dy;       // [rows, width] or null

  double bytes() const { return 9.0 * rows * width * sizeof(T); }
  double operations() const { return 60.0 * rows * width; }
};

}  // namespace cmir::kernels
