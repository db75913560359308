#include "bench/report/scaling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "core/error.h"

namespace cmir::bench {
namespace {

constexpr std::string_view kOver = "over_";

/// The size that a case belongs to a sweep of, or "".
std::string swept_size(const Case& c) {
  if (c.variant.starts_with(kOver)) return c.variant.substr(kOver.size());
  return c.kernel == "train_step" && c.size("threads") > 0 ? "threads" : "";
}

std::string fixed_of(const Case& c, const std::string& swept) {
  std::string text = c.variant.starts_with(kOver) ? "" : c.variant;
  for (const auto& [name, value] : c.sizes) {
    if (name != swept) text += fmt::format("{}{} {:.10g}", text.empty() ? "" : ", ", name, value);
  }
  return text;
}

void fit(Sweep& sweep) {
  sweep.time = fit_power(sweep.sizes, sweep.seconds);
  const bool measured = std::ranges::all_of(sweep.megabytes, [](double x) { return x > 0; });
  sweep.memory = measured ? fit_power(sweep.sizes, sweep.megabytes)
                          : Fit{std::numeric_limits<double>::quiet_NaN(), 0};
}

}  // namespace

Fit fit_power(const std::vector<double>& sizes, const std::vector<double>& values) {
  require(sizes.size() == values.size() && sizes.size() >= 2, "fit_power",
          "needs at least two points, got {} sizes and {} values", sizes.size(), values.size());
  const auto n = static_cast<double>(sizes.size());
  double mean_x = 0, mean_y = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    mean_x += std::log(sizes[i]) / n;
    mean_y += std::log(values[i]) / n;
  }
  double xx = 0, xy = 0, yy = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const double x = std::log(sizes[i]) - mean_x, y = std::log(values[i]) - mean_y;
    xx += x * x, xy += x * y, yy += y * y;
  }
  const double exponent = xy / xx, rest = std::max(0.0, yy - exponent * xy);
  return {exponent,
          n > 2 ? std::sqrt(rest / (n - 2) / xx) : std::numeric_limits<double>::quiet_NaN()};
}

std::vector<Sweep> sweeps(const std::vector<Case>& cases) {
  std::vector<Sweep> all;
  std::map<std::string, std::size_t> at;
  for (const Case& c : cases) {
    const std::string swept = swept_size(c);
    if (swept.empty() || c.seconds.empty() || !(c.size(swept) > 0)) continue;
    const std::string name = fmt::format("{} ({})", c.kernel, c.place), fixed = fixed_of(c, swept);
    const auto [known, is_new] = at.try_emplace(name + swept + fixed, all.size());
    if (is_new) all.push_back({.name = name, .size = swept, .fixed = fixed});
    Sweep& sweep = all[known->second];
    sweep.sizes.push_back(c.size(swept));
    sweep.seconds.push_back(c.median());
    sweep.megabytes.push_back(c.peak_megabytes);
  }
  std::erase_if(all, [](const Sweep& s) { return s.sizes.size() < 2; });
  for (Sweep& sweep : all) fit(sweep);
  return all;
}

Json to_json(const std::vector<Sweep>& sweeps) {
  Json all = Json::array();
  for (const Sweep& s : sweeps) {
    all.push_back({{"name", s.name},
                   {"size", s.size},
                   {"fixed", s.fixed},
                   {"sizes", s.sizes},
                   {"seconds", s.seconds},
                   {"peak_MB", s.megabytes},
                   {"time_exponent", s.time.exponent},
                   {"time_exponent_error", s.time.error},
                   {"memory_exponent", s.memory.exponent}});
  }
  return all;
}

}  // namespace cmir::bench
