// Penalties on how samples' values differ between environments, and their gradients: IRMv1's, V-REx
// and MM-REx.
//
// Every one is a function of the environments' means m_e = (sum of values of environment e) / n_e,
// and its gradient reaches a sample through its environment's mean alone. With E the number of
// environments that count (of at least one sample; of two with halves), S = 1, or 1 / E to average:
//   squared_means     S sum_e m_e^2. With the slopes of loss_slope.h for values IRMv1's penalty
//                     (Arjovsky et al. 2019, eq. IRMv1).
//   halves_product    S sum_e a_e b_e, a and b the means over every other sample of e, from its
//                     first and from its second on: unbiased, since the two are independent (the
//                     same paper, appendix D).
//   variance          sum_e (m_e - mean m)^2 / E: V-REx (Krueger et al., "Out-of-distribution
//                     generalization via risk extrapolation", 2021, eq. 8), from samples' losses.
//   weighted_maximum  (1 - E minimum_weight) max_e m_e + minimum_weight sum_e m_e, the largest
//                     sum_e w_e m_e with all w_e >= minimum_weight and sum_e w_e = 1: MM-REx (the
//                     same paper, eq. 7). Of equal largest means the first has the gradient.
// An environment that does not count adds nothing and receives no gradient. Which do is read from
// the offsets on the device, so that a recorded step may be replayed with others.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "kernels/invariance/environment_rows.h"
#include "kernels/kernel.h"

namespace cmir::kernels {

enum class EnvironmentPenaltyKind { squared_means, halves_product, variance, weighted_maximum };

struct EnvironmentPenaltyForm {
  EnvironmentPenaltyKind kind = EnvironmentPenaltyKind::squared_means;
  bool average = false;       ///< of squared_means and halves_product
  double minimum_weight = 0;  ///< of weighted_maximum
};

/// *value as the head comment says; derivatives[i] = d *value / d values[i]. Sums, means and
/// penalty are f64. Bytes: rows sizeof(T), and 4 rows where there is an order, twice with
/// derivatives, which need the order again, but not the values. Operations: 2 rows. Deterministic:
/// one environment's samples are added in order; on CUDA by blocks and threads that depend on the
/// sizes only.
template <class T>
struct EnvironmentPenalty {
  static constexpr std::string_view name = "environment_penalty";
  static constexpr std::int64_t kDeviceGrain = 1024;  // samples a device block should at least have
  EnvironmentPenaltyForm form;
  const T* values;  // [rows]
  EnvironmentRows rows;
  double* scratch;  // [workspace(environments, rows)]
  T* value;         // [1]
  T* derivatives;   // [rows], or null: not wanted

  /// Two means and two factors for each environment, and a device's blocks' sums.
  static std::int64_t workspace(std::int64_t environments, std::int64_t rows) {
    return environments * (4 + 2 * blocks_per_environment(environments, rows));
  }
  static std::int64_t blocks_per_environment(std::int64_t environments, std::int64_t rows) {
    return std::clamp<std::int64_t>(rows / (environments * kDeviceGrain), 1, 256);
  }
  double bytes() const {
    const double of_row = sizeof(T) + (rows.order != nullptr ? 4.0 : 0.0);
    return (derivatives ? 2 : 1) * of_row * rows.rows;
  }
  double operations() const { return 2.0 * rows.rows; }
};

/// The means that count: their number, sum and largest.
struct EnvironmentMeans {
  double counted = 0, sum = 0, largest = 0;
  std::int64_t where = -1;  ///< the first environment with the largest mean
};

CMIR_HOST_DEVICE inline EnvironmentMeans summary_of(const EnvironmentRows& rows,
                                                    std::int64_t at_least, const double* means) {
  EnvironmentMeans all;
  for (std::int64_t e = 0; e < rows.environments; ++e) {
    if (rows.offsets[e + 1] - rows.offsets[e] < at_least) continue;
    all.counted += 1;
    all.sum += means[2 * e];
    if (all.where >= 0 && !(means[2 * e] > all.largest)) continue;
    all.largest = means[2 * e];
    all.where = e;
  }
  return all;
}

/// What one environment adds to the penalty, and its derivatives by the environment's two means; of
/// a kind without halves by the one mean.
struct PenaltyPart {
  double value = 0, slope = 0, slope_of_second = 0;
};

CMIR_HOST_DEVICE inline PenaltyPart penalty_part(const EnvironmentPenaltyForm& form,
                                                 const EnvironmentMeans& all, std::int64_t e,
                                                 double mean, double second) {
  const double share = form.average ? 1 / all.counted : 1.0;
  switch (form.kind) {
    case EnvironmentPenaltyKind::squared_means:
      return {share * mean * mean, share * 2 * mean, 0};
    case EnvironmentPenaltyKind::halves_product:
      return {share * mean * second, share * second, share * mean};
    case EnvironmentPenaltyKind::variance: {
      const double difference = mean - all.sum / all.counted;
      return {difference * difference / all.counted, 2 * difference / all.counted, 0};
    }
    case EnvironmentPenaltyKind::weighted_maximum: {
      const double weight =
          form.minimum_weight + (e == all.where ? 1 - all.counted * form.minimum_weight : 0.0);
      return {weight * mean, weight, 0};
    }
  }
  return {};
}

/// From the means of each environment's samples, means[2 e], or of its two halves, means[2 e] and
/// means[2 e + 1], to the penalty, which is returned, and its derivatives by a sample's value,
/// factors[2 e] and factors[2 e + 1] for the halves.
template <class T>
CMIR_HOST_DEVICE double penalty_of_means(const EnvironmentPenalty<T>& a, const double* means,
                                         double* factors) {
  const bool halves = a.form.kind == EnvironmentPenaltyKind::halves_product;
  const std::int64_t at_least = halves ? 2 : 1;
  const EnvironmentMeans all = summary_of(a.rows, at_least, means);
  double value = 0;
  for (std::int64_t e = 0; e < a.rows.environments; ++e) {
    const std::int64_t n = a.rows.offsets[e + 1] - a.rows.offsets[e];
    factors[2 * e] = factors[2 * e + 1] = 0;
    if (n < at_least) continue;
    const PenaltyPart part = penalty_part(a.form, all, e, means[2 * e], means[2 * e + 1]);
    value += part.value;
    const std::int64_t first = halves ? (n + 1) / 2 : n;
    factors[2 * e] = part.slope / static_cast<double>(first);
    factors[2 * e + 1] =
        halves ? part.slope_of_second / static_cast<double>(n - first) : factors[2 * e];
  }
  return value;
}

}  // namespace cmir::kernels
