// The bounds of mutual information that compare the mean score of partners with the mean exp of all
// other pairs' scores, from the sums over pairs (kernels/information/pairs.h).
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

#include "core/host_device.h"
#include "kernels/information/pairs.h"

namespace cmir::kernels {

enum class PairBoundKind { nwj, donsker_varadhan };

/// With L = ln (1 / (n (n - 1)) sum_{i != j} exp(s_ij)), over pairs as if drawn from the product of
/// the marginals, and m = mean s_ii:
///   nwj               *value = m - exp(L - 1)  (Nguyen, Wainwright, Jordan: "Estimating divergence
///                     functionals and the likelihood ratio by convex risk minimization", 2010)
///   donsker_varadhan  *value = m - L           (Belghazi et al.: "Mutual information neural
///                     estimation", 2018, eq. 10)
/// Both are lower bounds in expectation. In both the derivative is 1 / n at s_ii and -exp(s_ij - D)
/// / (n (n - 1)) elsewhere, where D is 1, or L; the weights are for that. With log_average
/// (Donsker-Varadhan only) D is the logarithm of a moving average of exp(L), which takes the bias
/// out of the gradient of small batches (MINE, section 3.2): *log_average = ln((1 - rate)
/// exp(*log_average) + rate exp(L)), or L where it was -inf. n >= 2. Bytes: 3 to 6 n elements.
/// Operations: 60 n. In f64, in a fixed order.
template <class T>
struct PairBoundForward {
  static constexpr std::string_view name = "pair_bound_forward";
  PairTotals<T> totals;
  PairBoundKind kind;
  double rate;
  double* log_average;     // [1] or null, updated
  T* value;                // [1]
  PairWeights<T> weights;  // those of columns null

  /// The value and the average, from the largest row_largest, the sum of row_sum exp(row_largest -
  /// largest) and the sum of the diagonal. Returns D.
  CMIR_HOST_DEVICE double finish(double largest, double sum, double diagonal) const {
    const auto n = static_cast<double>(totals.n);
    const double log_mean = largest + std::log(sum) - std::log(n) - std::log(n - 1);
    *value = static_cast<T>(diagonal / n -
                            (kind == PairBoundKind::nwj ? std::exp(log_mean - 1) : log_mean));
    if (log_average == nullptr) return kind == PairBoundKind::nwj ? 1.0 : log_mean;
    if (std::isinf(*log_average)) {
      *log_average = log_mean;
    } else {
      const double before = *log_average, apart = log_mean - before;
      // Relative to the larger of the two, so that neither overflows.
      *log_average = apart > 0 ? log_mean + std::log(rate + (1 - rate) * std::exp(-apart))
                               : before + std::log1p(rate * std::expm1(apart));
    }
    return *log_average;
  }
  /// Sample i's weights.
  CMIR_HOST_DEVICE void weigh(std::int64_t i, double log_denominator) const {
    const auto n = static_cast<double>(totals.n);
    const T shift = totals.row_largest[i];
    weights.row_shift[i] = shift;
    weights.row_weight[i] =
        static_cast<T>(-std::exp(static_cast<double>(shift) - log_denominator) / (n * (n - 1)));
    weights.diagonal_weight[i] = static_cast<T>(1 / n);
  }
  double bytes() const {
    return (weights.row_weight != nullptr ? 6.0 : 3.0) * totals.n * sizeof(T);
  }
  double operations() const { return (weights.row_weight != nullptr ? 60.0 : 30.0) * totals.n; }
};

}  // namespace cmir::kernels
