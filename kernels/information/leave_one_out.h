// Each sample's own score against the mean of the other samples' scores, for scores that are a
// product of two matrices: the leave-one-out bound of mutual information (Poole, Ozair, van den
// Oord, Alemi, Tucker: "On variational bounds of mutual information", ICML 2019, section 2.3),
//   mean_i (own_i - ln (1 / (n - 1) sum_{j != i} exp(s_ij))), s_ij = a_i . b_j,
// without ever holding the n x n scores.
//
// Bands of rows go through the BLAS. CPU: bands of kLeaveOneOutRows rows, in tiles of as many
// columns, whose sums of exp a running maximum merges. CUDA: bands of kLeaveOneOutDeviceRows rows,
// cuBLAS in f32, and a warp or block that walks each row once. Up to that many samples a band is
// all there is. The diagonal is masked, so that own_i may be exacter than s_ii. Scores must not all
// be -inf in a row; a NaN gives NaN.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "kernels/kernel.h"

namespace cmir::kernels {

inline constexpr std::int64_t kLeaveOneOutRows = 128;
inline constexpr std::int64_t kLeaveOneOutDeviceRows = 512;

/// Elements from one row of a band to the next: not a power of two, so that rows share no cache
/// set; at least a tile, so that a workspace of bands also holds a tile for each of them.
inline std::int64_t leave_one_out_stride(std::int64_t samples) {
  return (std::max(samples, kLeaveOneOutRows) + 15) / 16 * 16 + 16;
}
/// Elements of the workspace: a band.
inline std::int64_t leave_one_out_workspace(Device device, std::int64_t samples) {
  const std::int64_t rows = device.is_cpu() ? kLeaveOneOutRows : kLeaveOneOutDeviceRows;
  return std::min(samples, rows) * leave_one_out_stride(samples);
}

/// *value = scale sum_i (own_i + ln(samples - 1) - ln sum_{j != i} exp(s_ij)); largest[i] is the
/// largest s_ij of j != i, sum[i] = sum_{j != i} exp(s_ij - largest[i]). A row's exps are added in
/// T within a tile (on CUDA in f64 by each thread), tiles and rows in f64, in order. An f32 score
/// errs by about eps sqrt(depth) times the largest partial sum of its products, and ln sum with it.
/// Bytes: 2 samples depth elements. Operations: 2 samples^2 depth, and about 25 samples^2.
template <class T>
struct LeaveOneOutForward {
  static constexpr std::string_view name = "leave_one_out_forward";
  const T* a;            // [samples, depth]
  const T* b;            // [samples, depth]
  const double* own;     // [samples]
  std::int64_t samples;  // at least 2
  std::int64_t depth;
  double scale;
  T* workspace;     // [leave_one_out_workspace(device, samples)], scratch
  double* of_rows;  // [samples], scratch
  T* largest;       // [samples]
  double* sum;      // [samples]
  T* value;         // [1]

  double bytes() const { return 2.0 * samples * depth * sizeof(T) + 28.0 * samples; }
  double operations() const { return 1.0 * samples * samples * (2.0 * depth + 25); }
};

/// With P_ij = exp(s_ij - largest_i) / sum_i for j != i and P_ii = 0, and c = cotangent scale:
/// da = -c P b, db = -c P^T a; each may be null. (The gradient by own is c.) A P_ij errs relatively
/// as s_ij does absolutely; on the CPU one below eps^4 of its row's largest is 0. The scores are
/// recomputed once for both. Bytes: 4 samples depth elements. Operations: 2 samples^2 depth for the
/// scores and for either, and about 15 samples^2.
template <class T>
struct LeaveOneOutBackward {
  static constexpr std::string_view name = "leave_one_out_backward";
  const T* a;          // [samples, depth]
  const T* b;          // [samples, depth]
  const T* largest;    // [samples]
  const double* sum;   // [samples]
  const T* cotangent;  // [1]
  std::int64_t samples;
  std::int64_t depth;
  double scale;
  T* workspace;  // [leave_one_out_workspace(device, samples)], scratch
  T* da;         // [samples, depth] or null
  T* db;         // [samples, depth] or null

  double bytes() const {
    return (2.0 + (da != nullptr) + (db != nullptr)) * samples * depth * sizeof(T);
  }
  double operations() const {
    const double products = 1.0 + (da != nullptr) + (db != nullptr);
    return 1.0 * samples * samples * (2.0 * products * depth + 15);
  }
};

}  // namespace cmir::kernels
