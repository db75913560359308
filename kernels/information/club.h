// vCLUB, the contrastive log-ratio upper bound of mutual information with a Gaussian q(y|x)
// (Cheng, Hao, Dai, Liu, Gan, Carin: "CLUB", ICML 2020, eq. 15), in O(N d) and exactly.
//
// With q(y|x) = N(mu(x), diag exp(logvar(x))) and w = exp(-logvar),
//   vCLUB = mean_i ln q(y_i|x_i) - mean_ij ln q(y_j|x_i)
//         = -1/(2N) sum_ik w_ik ((y_ik - mu_ik)^2 - mean_j (y_jk - mu_ik)^2),
// as logvar itself cancels. Per feature k, mean_j (y_jk - mu_ik)^2 = (mu_ik - m_k)^2 + v_k with m
// and v the mean and variance of y over the batch: no pair is needed. With the centred a = y - m
// and b = mu - m the difference of the squares is a^2 - 2ab, so
//   vCLUB = -1/(2N) sum_ik w_ik (a_ik^2 - 2 a_ik b_ik - v_k),
// which loses to a large common mean only what rounding m to f64 does.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "core/parallel.h"
#include "kernels/kernel.h"

namespace cmir::kernels {

/// What ClubForward leaves of each feature for ClubBackward, in f64: `kClubMoments` rows of
/// [width].
enum ClubMoment : int {
  kClubMean,          ///< m
  kClubSquares,       ///< sum_i a^2 = N v
  kClubWeights,       ///< sum_i w
  kClubWeightedMean,  ///< sum_i w b
  kClubWeighted,      ///< sum_i w (a^2 - 2ab)
  kClubMoments,
};
/// Sums of a feature that a chunk of rows leaves on the CPU.
inline constexpr int kClubChunkSums = 6;

/// *value = scale N vCLUB (scale = 1 / N for the bound itself). Without logvar, w = 1: CLUBMean of
/// the authors' code. CPU: terms are T about the mean of a chunk's first rows, summed in T over 16
/// rows, then in f64; the chunks' sums are moved to m and merged in order, in f64. CUDA: all in
/// f64, by the threads of a block, then the chunks, in an order of the shape and alignment alone.
/// For one row the value is 0. exp overflows where logvar < -88 (f32), on the CPU a square where y
/// or mu is 1e19 from the mean. Bytes: 3 rows width sizeof(T), 2 without logvar: one read of each.
/// Operations: about 30 per element.
template <class T>
struct ClubForward {
  static constexpr std::string_view name = "club_forward";
  const T* mu;      // [rows, width]
  const T* logvar;  // [rows, width], or null: zeros
  const T* y;       // [rows, width]
  std::int64_t rows;
  std::int64_t width;
  double scale;
  double* partial;  // [workspace(rows, width)], scratch
  double* moments;  // [kClubMoments, width]
  T* value;         // [1]

  /// Rows per chunk: at most 256 chunks, so that the scratch stays small.
  static std::int64_t grain(std::int64_t rows) {
    return std::max<std::int64_t>(64, (rows + 255) / 256);
  }
  static std::int64_t workspace(std::int64_t rows, std::int64_t width) {
    return std::max<std::int64_t>(1, chunk_count(0, rows, grain(rows))) * kClubChunkSums * width;
  }
  double bytes() const { return (logvar ? 3.0 : 2.0) * rows * width * sizeof(T); }
  double operations() const { return 30.0 * rows * width; }
};

/// With c = cotangent scale: dmu = c w a, dlogvar = c w (a^2 - 2ab - v) / 2, and as y also moves m
/// and v, dy = c (w (b - a) + (a sum_i w - sum_i w b) / N). Each may be null. On the CPU in T per
/// element, with m in two parts of T, on CUDA in f64; for one row all are 0. Bytes: up to 6 rows
/// width sizeof(T). Operations: about 40 per element.
template <class T>
struct ClubBackward {
  static constexpr std::string_view name = "club_backward";
  const T* mu;            // [rows, width]
  const T* logvar;        // [rows, width], or null: zeros
  const T* y;             // [rows, width]
  const double* moments;  // [kClubMoments, width]
  const T* cotangent;     // [1]
  std::int64_t rows;
  std::int64_t width;
  double scale;
  T* dmu;      // [rows, width] or null
  T* dlogvar;  // [rows, width] or null; null where logvar is
  T* dy;       // [rows, width] or null

  double bytes() const {
    return (2.0 + (logvar != nullptr) + (dmu != nullptr) + (dlogvar != nullptr) + (dy != nullptr)) *
           rows * width * sizeof(T);
  }
  double operations() const { return 40.0 * rows * width; }
};

}  // namespace cmir::kernels
