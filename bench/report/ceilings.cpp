#include "bench/report/ceilings.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

namespace cmir::bench {
namespace {

/// "bf16" of "gemm<bf16>"; f32 where a name has no dtype.
std::string dtype_of_kernel(const std::string& kernel) {
  const std::size_t open = kernel.find('<'), close = kernel.find('>');
  if (open == std::string::npos || close == std::string::npos || close < open) return "f32";
  return kernel.substr(open + 1, close - open - 1);
}

}  // namespace

Ceilings::Ceilings(const std::vector<Case>& cases, std::string_view place) {
  for (const Case& c : cases) {
    if (c.place != place || c.seconds.empty()) continue;
    const double seconds = *std::ranges::min_element(c.seconds);
    const double threads = c.size("threads");
    const int count = std::isnan(threads) ? 1 : static_cast<int>(threads);
    if (c.kernel == "ceiling_copy") {
      copies_[count][c.size("bytes")] = c.bytes / seconds;
    } else if (c.kernel.starts_with("ceiling_product<")) {
      double& rate = products_[dtype_of_kernel(c.kernel)][count];
      rate = std::max(rate, c.operations / seconds);
    } else if (c.kernel == "ceiling_launch") {
      launch_ = seconds;
    } else if (c.kernel == "ceiling_parallel_for") {
      parallel_for_ = seconds;
    }
  }
}

double Ceilings::at(const Rates& rates, double bytes) {
  const auto above = rates.lower_bound(bytes);
  if (above == rates.begin()) return above->second;
  const auto below = std::prev(above);
  if (above == rates.end()) return below->second;
  const double part = std::log(bytes / below->first) / std::log(above->first / below->first);
  return below->second + part * (above->second - below->second);
}

double Ceilings::copy_rate(double bytes, bool one_thread) const {
  double most = 0;
  for (const auto& [threads, rates] : copies_) {
    if (!one_thread || threads == 1) most = std::max(most, at(rates, bytes));
  }
  return most;
}

double Ceilings::memory_rate(bool one_thread) const {
  return copy_rate(std::numeric_limits<double>::max(), one_thread);
}

double Ceilings::product_rate(const std::string& dtype, bool one_thread) const {
  const auto found = products_.find(dtype);
  if (found == products_.end()) return 0;
  const auto single = found->second.find(1);
  if (one_thread && single != found->second.end()) return single->second;
  double most = 0;
  for (const auto& [threads, rate] : found->second) most = std::max(most, rate);
  return most;
}

double Ceilings::product_rate_for(const Case& c, bool one_thread) const {
  const std::string dtype = dtype_of_kernel(c.kernel);
  const double own = product_rate(dtype, one_thread);
  if (dtype == "bf16") return std::max(own, product_rate("f32", one_thread));
  if (dtype != "f32") return own;
  const double tf32 = product_rate("tf32", one_thread);
  return std::max(own, c.variant == "tf32" ? tf32 : tf32 / 3);
}

Json Ceilings::to_json() const {
  Json copies = Json::array(), products = Json::array();
  for (const auto& [threads, rates] : copies_) {
    for (const auto& [bytes, rate] : rates)
      copies.push_back({{"bytes", bytes}, {"threads", threads}, {"GB_per_second", 1e-9 * rate}});
  }
  for (const auto& [dtype, rates] : products_) {
    for (const auto& [threads, rate] : rates)
      products.push_back(
          {{"dtype", dtype}, {"threads", threads}, {"Gflop_per_second", 1e-9 * rate}});
  }
  Json all = {{"copy", copies}, {"product", products}, {"launch_us", 1e6 * launch_}};
  if (parallel_for_ > 0) all["parallel_for_us"] = 1e6 * parallel_for_;
  return all;
}

Share share_of(const Case& c, const Ceilings& ceilings) {
  const double seconds = c.median();
  if (ceilings.empty() || !(seconds > 0) || (c.bytes <= 0 && c.operations <= 0)) return {};
  const bool one_thread = c.size("threads") == 1;
  const double copy = c.place.ends_with("_cold") ? ceilings.memory_rate(one_thread)
                                                 : ceilings.copy_rate(c.bytes, one_thread);
  const double product = ceilings.product_rate_for(c, one_thread);
  Share share{c.bytes / seconds / copy, "memory"};
  if (product > 0 && c.operations / seconds / product > share.value)
    share = {c.operations / seconds / product, "arithmetic"};
  if (ceilings.launch_seconds() / seconds > share.value)
    share = {ceilings.launch_seconds() / seconds, "launch"};
  return share;
}

}  // namespace cmir::bench
