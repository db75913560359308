// What a model sees of a batch: per modality the packed values, by name.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "core/tensor.h"
#include "losses/environment_groups.h"

namespace cmir {

/// vector: one feature vector per sample. sequence: rows of features with offsets. tokens: indices
/// with offsets.
enum class InputKind { vector, sequence, tokens };
constexpr std::string_view name_of(InputKind kind) {
  return kind == InputKind::vector ? "vector" : kind == InputKind::sequence ? "sequence" : "tokens";
}

/// What a data set holds for one modality.
struct ModalityInfo {
  std::string name;  ///< "text"
  InputKind kind = InputKind::vector;
  std::int64_t width = 0;  ///< features per row; for tokens the vocabulary size
  Tensor
      embedding;  ///< tokens: the data set's table f32 [vocabulary, embedding width], or undefined
};

/// One modality of a batch of `samples`:
///   vector    values [samples, width] floating, offsets undefined
///   sequence  values [rows, width] floating, offsets i64 [samples + 1]
///   tokens    values i32 [rows], offsets i64 [samples + 1]; without offsets one index per sample
///   (a category such as a speaker)
struct ModalityInput {
  Tensor values;
  Tensor offsets;
  std::int64_t padding = 0;  ///< sequences, tokens: so many samples at the end fill the rows up to
                             ///< a shape that recorded work has, and are left out of X_m
};

struct ModelInput {
  std::map<std::string, ModalityInput, std::less<>> modalities;
  /// i64 [groups + 1]: group g (a video) owns the consecutive samples groups[g] .. groups[g+1]), in
  /// their order in time. Only networks that look at a sample's neighbours need it.
  Tensor groups;
  Tensor labels;  ///< [samples] floating; i32 for cross_entropy; undefined when only predictions
                  ///< are wanted
  /// Which samples are of which environment, where loss.environments_from is not "noise"; made by
  /// labels. Undefined: training with R_inv is an Error then.
  losses::EnvironmentGroups environments;
  Tensor invariance_factor;  ///< floating []: of R_inv's weight in this step; undefined: 1

  /// Features on the device. Tokens, offsets, groups, labels, environments and the factor stay on
  /// the CPU, where ops check them, and have their copy there (Tensor::on).
  ModelInput to(Device device) const;
};

}  // namespace cmir
