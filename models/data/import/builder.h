// Collects samples into a Dataset. Internal to the importers.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "models/data/dataset.h"
#include "models/data/import/convert.h"
#include "models/data/import/pickle.h"

namespace cmir::import {

struct Sample {
  std::string id;
  Part part = kTrain;
  std::string group;  // the video or speaker; "" when unknown
  std::string text;
  std::map<std::string, double> labels;
  std::map<std::string, Tensor> features;  // f32 [steps, width], or [width] for one vector
  std::map<std::string, std::vector<std::string>> words;
  std::map<std::string, std::vector<std::int32_t>> token_ids;
};

class Builder {
 public:
  /// `input_bytes` bounds what shared values of a small pickle may grow to; 0 sets no bound.
  Builder(ConversionReport& report, std::size_t input_bytes)
      : report_(report), input_bytes_(input_bytes) {}

  /// An array or nested list of numbers as finite f32; what was not finite is set to 0 and counted
  /// for `feature`.
  Tensor read(const std::string& feature, const pickle::Value& value);
  Tensor read(const std::string& feature, const pickle::Array& array);
  Tensor finite(const std::string& feature, const Tensor& values);
  /// Steps [begin, end) of a padded sequence; the others are counted as padding.
  Tensor trim(const std::string& feature, const Tensor& steps, std::int64_t begin,
              std::int64_t end);

  /// Adds a sample; one without any modality is dropped and reported.
  void add(Sample sample);
  void set_label(const std::string& name, LabelKind kind, double minimum, double maximum);
  /// A regression whose range is [-limit, limit], or that of the values where they exceed it.
  void set_regression(const std::string& name, double limit);
  void note(std::string text) { report_.notes.push_back(std::move(text)); }

  const std::vector<double>& label_values(const std::string& name) { return labels_[name].values; }
  Dataset finish();

 private:
  struct FeatureRows {
    std::int64_t width = 0;
    bool dense = false;
    std::vector<float> values;
    std::vector<std::int64_t> offsets{0};
  };
  struct TokenRows {
    std::vector<std::int32_t> ids;
    std::vector<std::int64_t> offsets{0};
  };
  struct LabelRows {
    std::vector<double> values;
    LabelKind kind = LabelKind::regression;
    double minimum = -3, maximum = 3;
  };
  void add_feature(const std::string& name, const Tensor& values, const std::string& id);
  void add_tokens(const std::string& name, const std::vector<std::int32_t>& ids);
  std::int32_t word_id(const std::string& word);
  /// The numbers of nested lists [steps][width], or of one list [width].
  Tensor from_lists(const pickle::Value& value);
  void count_elements(std::int64_t elements);
  Label finish_label(const std::string& name, const LabelRows& rows) const;

  ConversionReport& report_;
  std::size_t input_bytes_;
  std::size_t elements_ = 0;
  std::map<std::string, FeatureRows> features_;
  std::map<std::string, TokenRows> tokens_;
  std::map<std::string, LabelRows> labels_;
  std::vector<std::int32_t> parts_, groups_;
  std::vector<std::string> ids_, texts_, group_names_, vocabulary_;
  std::unordered_map<std::string, std::int32_t> group_index_, word_index_, id_count_;
};

/// The part that a key or file name stands for: train; valid, dev, val; test, test_IID; test_OOD.
std::optional<Part> part_of(std::string_view name);
std::string_view name_of(Part part);
/// "<video>" of "<video>[k]", "<video>$_$k" or "<video>_k"; any other id is its own video.
std::string video_of(const std::string& id);
std::vector<std::string> split_words(std::string_view text);
/// Rows at the start, or the end, of [steps, width] that are all zero.
std::int64_t leading_zero_steps(const Tensor& steps);
std::int64_t trailing_zero_steps(const Tensor& steps);
/// Columns [begin, end) of [steps, width].
Tensor columns(const Tensor& steps, std::int64_t begin, std::int64_t end);
/// `second` below `first`.
Tensor join_steps(const Tensor& first, const Tensor& second);

/// Runs f; an Error of kind `data` from it is raised again with "where: " before its message.
void within(const std::string& where, const std::function<void()>& f);

}  // namespace cmir::import
