// Two runs of the same cases: ratios of their times, with confidence intervals.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "bench/report/results.h"
#include "models/evaluation/statistics.h"

namespace cmir::bench {

/// How far times go up (above 1: slower).
struct Ratio {
  double value = 0;   ///< exp of the mean difference of the logarithms of the times
  Interval interval;  ///< 95 %; infinitely wide (0 to infinity) with fewer than two times a side
};

/// Welch's interval on logarithms: the two sides are independent samples.
/// B. L. Welch, The generalization of "Student's" problem, Biometrika 34 (1947).
Ratio welch_ratio(std::span<const double> base, std::span<const double> now);
/// Student's interval on the differences of the logarithms of the pairs: of runs that took turns,
/// so that what both met in a turn (a busy or a warmer machine) cancels. As many on both sides.
Ratio paired_ratio(std::span<const double> base, std::span<const double> now);

struct Comparison {
  std::string name;
  double base_seconds = 0, now_seconds = 0;  ///< medians
  Ratio ratio;
};
/// Whether the case is one of a kernel's, warm or cold, or of a training step: peers and ceilings
/// are not compared.
bool is_compared(const Case& c);
/// Of every such case that both measured, in the order of `now`. `paired`: the two took turns.
std::vector<Comparison> compare(const Results& base, const Results& now, bool paired);

/// Surely slower by more than `threshold` (0.1: 10 %).
bool is_slower(const Comparison& comparison, double threshold);

}  // namespace cmir::bench
