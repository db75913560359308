// Inputs brought to one of few shapes, so that a step recorded for a shape serves many batches.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "models/config.h"
#include "models/data/batch.h"
#include "models/networks/input.h"

namespace cmir {

/// Rows of the longest sequence by modality.
using LongestSequences = std::map<std::string, std::int64_t, std::less<>>;

/// Of `samples`, cut to config.data.max_length; modalities without sequences are left out.
LongestSequences longest_sequences(const Config& config, const Dataset& dataset,
                                   const std::vector<std::int64_t>& samples);

/// The shape that a modality with offsets is padded to: samples of padding whose rows fill up
/// `rows`, the first of them of length `longest`, which no sequence of the bucket exceeds.
struct SequenceBucket {
  std::int64_t samples = 0;  ///< without padding
  std::int64_t padding = 0;  ///< samples added
  std::int64_t rows = 0;
  std::int64_t longest = 0;

  /// The bucket of sequences with these offsets: `longest` and then `rows` are rounded up to one of
  /// `sizes` per power of two; `longest` at most to `limit`, the longest that there is.
  static SequenceBucket of(const Tensor& offsets, std::int64_t limit, std::int64_t sizes = 4);
  /// Their offsets with the padding: [samples + padding + 1], from 0 to `rows`, and no sequence
  /// longer than `longest`.
  std::vector<std::int64_t> padded(const Tensor& offsets) const;
  auto operator<=>(const SequenceBucket&) const = default;
};

/// All that decides the shapes of a step; equal buckets can share recorded work. Four sizes per
/// power of two where one modality has sequences, two where several have, since all of them must
/// be equal. Every modality gets as many samples of padding as the one that needs most.
struct ShapeBucket {
  std::map<std::string, SequenceBucket> sequences;
  std::map<std::string, std::vector<std::int64_t>> vectors;  ///< shapes of values without offsets
  std::vector<std::int64_t> labels;                          ///< their shape
  SequenceBucket groups;
  std::int64_t environments = 0;

  static ShapeBucket of(const ModelInput& input, const LongestSequences& longest);
  auto operator<=>(const ShapeBucket&) const = default;
};

/// One input of a bucket in memory that stays: every batch of the bucket is copied into it.
class PaddedInput {
 public:
  /// For batches like `input`; floating values become `dtype`.
  PaddedInput(const ModelInput& input, const ShapeBucket& bucket, DType dtype, Device device);
  /// `input` must be of the bucket. Its floating values may be on the device already.
  void fill(const ModelInput& input);
  const ModelInput& input() const { return input_; }

 private:
  ShapeBucket bucket_;
  Device device_;
  ModelInput input_;
};

}  // namespace cmir
