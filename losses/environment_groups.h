// Which samples belong to which environment, for penalties that compare environments.
#pragma once

#include "core/tensor.h"
#include "kernels/invariance/environment_rows.h"

namespace cmir::losses {

/// A partition of samples into environments, of which some may be empty. Made on the host and kept
/// there; a device's copy is made when an op first needs it (Tensor::on), so before a step is
/// recorded.
struct EnvironmentGroups {
  Tensor offsets;  ///< i64 [environments + 1]: e owns the positions offsets[e] .. offsets[e + 1])
  Tensor order;  ///< i32 [samples]: the sample at each position; undefined: position k is sample k

  /// Samples offsets[e] .. offsets[e + 1]) are of environment e. offsets i64 [environments + 1] on
  /// the CPU, at least one environment; an Error unless they start at 0 and never fall.
  static EnvironmentGroups by_offsets(const Tensor& offsets);
  /// labels i32 [samples] on the CPU; an Error unless all are in [0, environments).
  static EnvironmentGroups by_labels(const Tensor& labels, std::int64_t environments);
  /// The rows that noise_variants() makes: environments + 1 blocks of `samples` rows, each an
  /// environment.
  static EnvironmentGroups blocks(std::int64_t environments, std::int64_t samples);

  std::int64_t count() const { return offsets.size(0) - 1; }
  std::int64_t samples() const;
  /// How many environments have at least that many samples.
  std::int64_t count_with(std::int64_t at_least) const;
};

/// The groups where a device's kernels read them. Lives as long as the kernel's arguments are used.
struct EnvironmentsOnDevice {
  Tensor offsets, order;
  kernels::EnvironmentRows rows;

  /// An Error, naming `op`, unless the groups are of as many samples as x [samples, ...] and their
  /// tensors are on the CPU.
  EnvironmentsOnDevice(std::string_view op, const EnvironmentGroups& groups, const Tensor& x);
};

}  // namespace cmir::losses
