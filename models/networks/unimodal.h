// The unimodal networks of section 2.1: from a modality's features, frames or words to X_m
// [samples, d].
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "models/config.h"
#include "models/networks/input.h"
#include "models/networks/module.h"
#include "models/networks/transformer.h"

namespace cmir {

/// A modality before the mean over time.
struct TimeSteps {
  Variable rows;             ///< [rows, d]
  Tensor offsets;            ///< i64 [samples + padding + 1]; undefined: one row per sample
  std::int64_t padding = 0;  ///< ModalityInput::padding

  std::int64_t samples() const {
    return (offsets.defined() ? offsets.numel() - 1 : rows.shape()[0]) - padding;
  }
};
/// [samples, d], without the padding; of one row per sample that row.
Variable mean_over_time(const TimeSteps& steps);

/// The offsets of one row per sample, and of `padding` samples without any behind them.
Tensor one_row_each(std::int64_t samples, std::int64_t padding = 0);

/// One of (ModalityConfig::network):
///   projection        Linear of the vector; of the mean over time for a sequence or words
///   mlp               `layers` x (Linear, ReLU, dropout) of width `hidden_width`, then Linear to
///   d; of the mean over time likewise conv_transformer  Conv1D to d, then positions and a
///   Transformer encoder at d, then the mean over time (Eq. 11) transformer_conv  positions and a
///   Transformer at the raw width, then Conv1D to d, then the mean over time (Eq. 12) none the
///   vector itself (or mean), whose width must be d
///   context_conv      `layers` x (dropout, Conv1D over the samples of one group in their order,
///                     ReLU but for the last): a sample sees its neighbours in the same video
/// Words first go through an embedding table. A sample without any row has the mean 0.
class UnimodalNetwork {
 public:
  /// Parameters are named `prefix`.embedding.weight, .conv.weight, .transformer.layers.0...,
  /// .projection.weight, .mlp.0.weight. A network that does not suit the kind of input, or heads
  /// that do not divide the width, is an Error that names the modality.
  UnimodalNetwork(ParameterStore& store, const std::string& prefix, const ModalityConfig& config,
                  const ModalityInfo& info, std::int64_t width);

  /// True where the input's offsets must be the bounds of the groups and not of the samples.
  bool needs_groups() const { return !context_.empty(); }
  /// The Errors of operator() that depend on values and not on shapes.
  void check_values(const ModalityInput& input) const;
  /// [samples, d]. Checks the input against the description: kind, width, dtype, offsets.
  Variable operator()(const ModalityInput& input, DropoutSites& dropout) const;
  /// The same without the mean: projection, mlp and none of each row by itself (and so behind the
  /// Transformer of `transformer`).
  TimeSteps steps(const ModalityInput& input, DropoutSites& dropout) const;

 private:
  TimeSteps over_time(const ModalityInput& input, DropoutSites& dropout) const;
  Variable row_by_row(Variable x, DropoutSites& dropout) const;
  Variable rows_of(const ModalityInput& input, DType dtype) const;
  Variable encode_sequence(Variable x, const Tensor& offsets, DropoutSites& dropout) const;

  ModalityConfig config_;
  ModalityInfo info_;
  DType dtype_;
  bool over_time_ = false;
  Variable embedding_;  // [vocabulary, embedding width]
  Variable positions_;  // [max_positions, width], learned
  Conv1d conv_;
  std::vector<Conv1d> context_;
  Transformer transformer_;
  std::vector<Linear> linears_;  // of mlp and projection; the last has no ReLU
};

}  // namespace cmir
