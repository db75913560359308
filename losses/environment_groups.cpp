#include "losses/environment_groups.h"

#include <algorithm>
#include <limits>
#include <vector>

namespace cmir::losses {
namespace {

constexpr std::string_view kName = "environments";

/// The start of each environment's positions, and the end of the last's.
std::vector<std::int64_t> starts_of(std::span<const std::int32_t> labels,
                                    std::int64_t environments) {
  std::vector<std::int64_t> starts(environments + 1);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    require(labels[i] >= 0 && labels[i] < environments, kName,
            "sample {} is of environment {}, but there are {}; check the labels or their number", i,
            labels[i], environments);
    ++starts[labels[i] + 1];
  }
  for (std::int64_t e = 0; e < environments; ++e) starts[e + 1] += starts[e];
  return starts;
}

}  // namespace

EnvironmentGroups EnvironmentGroups::by_offsets(const Tensor& offsets) {
  require(offsets.defined() && offsets.dtype() == DType::i64 && offsets.rank() == 1 &&
              offsets.numel() >= 2,
          kName, "offsets must be i64[environments + 1] of at least one environment, got {}",
          offsets.defined() ? offsets.describe() : "nothing");
  const auto at = offsets.span<std::int64_t>();
  require(at[0] == 0, kName, "offsets must start at 0, got {}", at[0]);
  for (std::size_t e = 1; e < at.size(); ++e) {
    require(at[e - 1] <= at[e], kName,
            "offsets must never fall, but environment {} is from {} to {}", e - 1, at[e - 1],
            at[e]);
  }
  return {offsets, {}};
}

EnvironmentGroups EnvironmentGroups::by_labels(const Tensor& labels, std::int64_t environments) {
  require(environments >= 1 && labels.defined() && labels.dtype() == DType::i32 &&
              labels.rank() == 1 && labels.numel() <= std::numeric_limits<std::int32_t>::max(),
          kName, "needs labels i32[samples] of at least one environment, got {} of {}",
          labels.defined() ? labels.describe() : "nothing", environments);
  EnvironmentGroups groups{Tensor::zeros({environments + 1}, DType::i64),
                           Tensor::empty({labels.numel()}, DType::i32)};
  groups.relabel(labels);
  return groups;
}

void EnvironmentGroups::relabel(const Tensor& labels) {
  require(order.defined(), kName, "only groups made by labels can be relabelled");
  require(labels.defined() && labels.dtype() == DType::i32 && labels.shape() == order.shape(),
          kName, "need labels i32[{}], one for each sample, got {}", order.numel(),
          labels.defined() ? labels.describe() : "nothing");
  const auto of = labels.span<std::int32_t>();
  std::vector<std::int64_t> next = starts_of(of, count());
  std::ranges::copy(next, offsets.mutable_span<std::int64_t>().begin());
  const auto samples = order.mutable_span<std::int32_t>();
  for (std::size_t i = 0; i < of.size(); ++i) {
    samples[next[of[i]]++] = static_cast<std::int32_t>(i);
  }
}

void EnvironmentGroups::prepare(Device device) const {
  (void)offsets.on(device);
  if (order.defined()) (void)order.on(device);
}

EnvironmentGroups EnvironmentGroups::blocks(std::int64_t environments, std::int64_t samples) {
  require(environments >= 0 && samples >= 0, kName, "{} noisy environments of {} samples each",
          environments, samples);
  Tensor offsets = Tensor::empty({environments + 2}, DType::i64);
  for (std::int64_t e = 0; std::int64_t & start : offsets.mutable_span<std::int64_t>()) {
    start = samples * e++;
  }
  return {offsets, {}};
}

std::int64_t EnvironmentGroups::samples() const { return offsets.span<std::int64_t>().back(); }

EnvironmentsOnDevice::EnvironmentsOnDevice(std::string_view op, const EnvironmentGroups& groups,
                                           const Tensor& x) {
  require(groups.offsets.defined(), op, "needs environments, got none");
  require(x.rank() >= 1 && x.size(0) == groups.samples(), op,
          "the environments have {} samples, but the rows are those of {}", groups.samples(),
          x.describe());
  offsets = groups.offsets.on(x.device());
  if (groups.order.defined()) order = groups.order.on(x.device());
  rows = {offsets.data<std::int64_t>(), order.defined() ? order.data<std::int32_t>() : nullptr,
          groups.count(), groups.samples()};
}

}  // namespace cmir::losses
