// Which samples belong to which environment, for penalties that compare environments.
#pragma once

#include "core/tensor.h"
#include "kernels/invariance/environment_rows.h"

namespace cmir::losses {

/// A partition of samples into environments, of which some may be empty. Made on the host and kept
/// there; devices have copies (Tensor::on). What is read of it on the host are the numbers of
/// environments and of samples.
///
/// In a step that is recorded (core/graph.h): make the groups once for each graph and keep them as
/// long as it, like all that it reads, and prepare() them before the capture. Every other batch's
/// labels come by relabel(), never by groups made anew, whose device copy would have another
/// address: a capture that meets groups without a copy is an Error.
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

  /// Gives the samples other labels, in the same memory: for every copy of these groups, those that
  /// a graph was recorded with too. An Error, and nothing changed, unless the groups were made by
  /// labels, of as many samples, and all labels are in [0, count()). Afterwards prepare().
  void relabel(const Tensor& labels);
  /// Makes the device's copy, or brings it up to date at the same address. Before a capture, and
  /// before a replay with other labels; ops do it themselves otherwise.
  void prepare(Device device) const;

  std::int64_t count() const { return offsets.size(0) - 1; }
  std::int64_t samples() const;
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
