#include "bench/report/compare.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "core/error.h"

namespace cmir::bench {
namespace {

constexpr double kLevel = 0.95;

std::vector<double> logarithms(std::span<const double> values) {
  std::vector<double> logs;
  for (const double value : values) logs.push_back(std::log(value));
  return logs;
}

double squared(double x) { return x * x; }

/// exp(mean ± quantile * error)
Ratio ratio_of(double mean_difference, double error, double degrees) {
  const double reach = error > 0 ? student_quantile(0.5 + kLevel / 2, degrees) * error : 0;
  return {std::exp(mean_difference),
          {std::exp(mean_difference - reach), std::exp(mean_difference + reach)}};
}

Ratio unknown(double mean_difference) {
  return {std::exp(mean_difference), {0, std::numeric_limits<double>::infinity()}};
}

}  // namespace

Ratio welch_ratio(std::span<const double> base, std::span<const double> now) {
  const auto a = logarithms(base), b = logarithms(now);
  const double difference = mean(b) - mean(a);
  if (a.size() < 2 || b.size() < 2) return unknown(difference);
  const auto n = static_cast<double>(a.size()), m = static_cast<double>(b.size());
  const double u = squared(standard_deviation(a)) / n, v = squared(standard_deviation(b)) / m;
  const double degrees = u + v > 0 ? squared(u + v) / (u * u / (n - 1) + v * v / (m - 1)) : 1;
  return ratio_of(difference, std::sqrt(u + v), degrees);
}

Ratio paired_ratio(std::span<const double> base, std::span<const double> now) {
  require(base.size() == now.size(), "paired_ratio", "has {} and {} times", base.size(),
          now.size());
  std::vector<double> differences = logarithms(now);
  const auto logs = logarithms(base);
  for (std::size_t i = 0; i < logs.size(); ++i) differences[i] -= logs[i];
  if (differences.size() < 2) return unknown(mean(differences));
  const auto n = static_cast<double>(differences.size());
  return ratio_of(mean(differences), standard_deviation(differences) / std::sqrt(n), n - 1);
}

bool is_compared(const Case& c) {
  return (is_ours(c.place) || c.place.ends_with("_cold")) && !c.kernel.starts_with("ceiling_");
}

std::vector<Comparison> compare(const Results& base, const Results& now, bool paired) {
  std::map<std::string, Case> bases;
  for (Case& c : base.cases()) bases[c.name] = std::move(c);
  std::vector<Comparison> all;
  for (const Case& c : now.cases()) {
    const auto found = bases.find(c.name);
    if (found == bases.end() || c.seconds.empty() || found->second.seconds.empty()) continue;
    if (!is_compared(c)) continue;
    const std::vector<double>& before = found->second.seconds;
    const bool pairs = paired && before.size() == c.seconds.size();
    all.push_back({c.name, found->second.median(), c.median(),
                   pairs ? paired_ratio(before, c.seconds) : welch_ratio(before, c.seconds)});
  }
  return all;
}

bool is_slower(const Comparison& comparison, double threshold) {
  return comparison.ratio.interval.low > 1 + threshold;
}

}  // namespace cmir::bench
