// A multimodal data set in memory, and the ways to find, check and divide one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.h"

namespace cmir {

/// One modality's features, f32. Dense: `values` [samples, width]. Ragged: `values` [rows, width]
/// and `offsets` i64 [samples + 1]; sample s owns rows offsets[s] .. offsets[s+1]. A sample without
/// rows lacks the modality; so does a dense row of zeros.
struct Feature {
  Tensor values;
  Tensor offsets;  ///< undefined when dense

  bool ragged() const { return offsets.defined(); }
  std::int64_t width() const { return values.shape().width(); }
  /// Steps of sample s: 1 when dense.
  std::int64_t length(std::int64_t s) const {
    return ragged() ? offsets.span<std::int64_t>()[s + 1] - offsets.span<std::int64_t>()[s] : 1;
  }
};

/// Words as vocabulary indices: `ids` i32 [rows], `offsets` i64 [samples + 1].
struct Tokens {
  Tensor ids;
  Tensor offsets;
};

enum class LabelKind { regression, binary, multiclass };
std::string_view name_of(LabelKind kind);

/// One number per sample: f32 [samples] (regression) or i32 [samples] (class 0 .. maximum).
struct Label {
  Tensor values;
  LabelKind kind = LabelKind::regression;
  double minimum = 0;
  double maximum = 0;

  /// Output width that a model needs: 1, or the number of classes when multi-class.
  std::int64_t outputs() const {
    return kind == LabelKind::multiclass ? static_cast<std::int64_t>(maximum) + 1 : 1;
  }
};

/// Values of a split. Any sample may also be kNoPart and is then unused.
enum Part : std::int32_t { kNoPart = -1, kTrain = 0, kValid = 1, kTest = 2, kTestOod = 3 };

/// Samples are numbered 0 .. size()-1 in every member. Features and tokens share one set of names.
struct Dataset {
  std::string name;
  std::string task;    ///< a sentence for people
  std::string source;  ///< where the values come from
  std::string licence;
  std::vector<std::string> caveats;

  std::map<std::string, Feature> features;
  std::map<std::string, Tokens> tokens;
  std::map<std::string, Tensor> embeddings;  ///< f32 [vocabulary, width]: a row per token id
  std::vector<std::string> vocabulary;
  std::map<std::string, Label> labels;
  std::map<std::string, Tensor> splits;  ///< i32 [samples] of Part
  std::map<std::string, Tensor> folds;   ///< i32 [samples], 0 .. folds-1
  std::map<std::string, Tensor>
      extras;    ///< anything else, e.g. "environment", "truth.invariant.text"
  Tensor group;  ///< i32 [samples], video or speaker; undefined when unknown
  std::vector<std::string> group_names;
  std::vector<std::string> ids;    ///< one per sample
  std::vector<std::string> texts;  ///< one per sample, or none

  std::int64_t size() const { return static_cast<std::int64_t>(ids.size()); }

  /// Look-up by name; the Error of an unknown name lists the known ones. A label may also be named
  /// "label_reg" for "reg", an embedding "emb_tw25" for "tw25", as the packed form spells them.
  const Feature& feature(std::string_view key) const;
  const Tokens& token(std::string_view key) const;
  const Label& label(std::string_view key) const;
  const Tensor& embedding(std::string_view key) const;
  /// One integer per sample, i32 [samples]: an extra, a label's classes, a fold, or "group".
  Tensor integers(std::string_view key) const;

  /// Names, shapes, lengths, label ranges and sizes of the parts, for people and for the
  /// container's card.
  nlohmann::json summary() const;
};

/// Opens a data set by name or path, checks its structure (an Error of kind `data` otherwise) and
/// returns it; large tensors stay mapped. Search order:
/// 1. "synthetic" or "synthetic:key=value,...": generated (models/data/synthetic.h);
/// 2. the path itself: a container file, a folder with one, or a folder of the packed form
/// (docs/container.md);
/// 3. NAME or NAME.safetensors in the directory of the environment variable CMIR_DATA;
/// 4. the same in ../shared/data from the working directory;
/// 5. the same in shared/data of the executable's directory and of the four above it.
Dataset open_dataset(const std::string& name_or_path);

/// The directories of steps 3 to 5, in order, existing or not.
std::vector<std::filesystem::path> dataset_search_path();

/// Shapes, dtypes, offsets and counts that the rest of the library relies on. Empty when sound;
/// else one sentence per fault, naming tensors and sample ids.
std::vector<std::string> structural_faults(const Dataset& dataset);

struct FeatureReport {
  std::int64_t nan = 0;               ///< elements
  std::int64_t infinite = 0;          ///< elements
  std::int64_t constant_columns = 0;  ///< one value over all rows
  std::int64_t absent = 0;            ///< samples: no rows, or a dense row of zeros
  std::int64_t shortest = 0;          ///< steps of the shortest sample that has any
  std::int64_t longest = 0;
};

struct ValidationReport {
  std::vector<std::string> errors;    ///< must not be trained on
  std::vector<std::string> warnings;  ///< worth knowing
  std::map<std::string, FeatureReport> features;

  bool ok() const { return errors.empty(); }
  std::string to_string() const;
  nlohmann::json to_json() const;
  /// Throws an Error of kind `data` with every error unless ok().
  void require_ok(std::string_view dataset_name) const;
};

enum class NonFinite { reject, replace };

/// Errors: faults of structure, NaN or infinity (unless replaced by 0 in `dataset`: then a
/// warning), a label outside its range, duplicate ids, a sample without any modality. Warnings:
/// absent modalities, constant columns, a group shared between the parts of a split (some published
/// splits do), an empty part.
ValidationReport validate(Dataset& dataset, NonFinite policy = NonFinite::reject);

/// Index lists into the data set, each ascending.
struct Split {
  std::vector<std::int64_t> train, valid, test, test_ood;

  /// "train", "valid", "test" or "test_ood"; an Error when it is empty or there is no such part.
  const std::vector<std::int64_t>& part(std::string_view name) const;
};

struct SplitOptions {
  std::int32_t test_fold = 0;  ///< with a fold: this one is test, the others train
  double validation_fraction =
      0;                   ///< of train, at least, as whole groups; needs an empty validation part
  std::uint64_t seed = 0;  ///< of that cut
  bool merge_validation = false;  ///< train on train and valid
};

/// The parts of the split or fold `name` ("split_ood" or "ood", "fold_video" or "video"); "" is the
/// only one that there is. Error: unknown name, fold out of range, empty train or test part, a
/// validation part asked for twice.
Split resolve_split(const Dataset& dataset, std::string_view name,
                    const SplitOptions& options = {});

}  // namespace cmir
