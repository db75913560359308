// MMSA, Self-MM, CH-SIMS: {train, valid, test} of {text (N,L,768), audio (N,La,da), vision
// (N,Lv,dv), text_bert (N,3,L), regression_labels, id, raw_text [, audio_lengths, vision_lengths,
// regression_labels_T/A/V, classification_labels]}.
#include <algorithm>

#include "models/data/import/source.h"

namespace cmir::import {
namespace {

using pickle::Value;

bool matches(const Source& source) {
  const Value* part = first_part(source.pickle_or_none());
  return part != nullptr && part->find("regression_labels") != nullptr &&
         part->find("vision") != nullptr;
}

std::vector<double> numbers(const Value& value) {
  if (value.kind() == pickle::Kind::array) return value.array().tensor(DType::f64).to_vector();
  std::vector<double> result;
  for (const Value& item : value.items()) result.push_back(item.number());
  return result;
}

std::vector<std::string> strings(const Value& value) {
  if (value.kind() == pickle::Kind::array) return value.array().strings();
  std::vector<std::string> result;
  for (const Value& item : value.items()) result.push_back(item.text());
  return result;
}

/// One part of the file, and how long each sample is.
class Reader {
 public:
  Reader(const Value& part, Builder& builder)
      : part_(part), builder_(builder), ids_(strings(part.at("id"))) {
    // WordPiece ids, mask and segment ids are the three rows of text_bert.
    if (const Value* bert = part.find("text_bert")) {
      const auto& array = bert->array();
      if (array.shape.rank() != 3 || array.shape[1] != 3) {
        fail(ErrorKind::data, "text_bert", "must be [samples, 3, length], found {}",
             array.shape.to_string());
      }
      require_samples("text_bert", array.shape[0]);
      bert_ = array.tensor(DType::i64);
    }
    for (const auto& [key, label] : kLabels) {
      if (const Value* values = part.find(key)) {
        labels_[label] = numbers(*values);
        require_samples(key, std::ssize(labels_[label]));
      }
    }
    if (!labels_.contains("reg")) part.at("regression_labels");  // says what is there instead
    if (const Value* text = part.find("raw_text")) {
      texts_ = strings(*text);
      require_samples("raw_text", std::ssize(texts_));
    }
  }

  std::int64_t size() const { return std::ssize(ids_); }

  Sample sample(std::int64_t i, Part part) {
    Sample sample;
    sample.id = ids_[i];
    sample.part = part;
    sample.group = video_of(sample.id);
    if (!texts_.empty()) sample.text = texts_[i];
    for (const auto& [name, values] : labels_) sample.labels[name] = values[i];
    for (const auto& [key, feature] : kFeatures) {
      if (const Value* values = part_.find(key))
        sample.features[feature] = steps(key, feature, *values, i);
    }
    if (bert_.defined()) {
      const std::int64_t length = bert_.size(2);
      const auto row = bert_.slice(i, i + 1).span<std::int64_t>().first(length);
      sample.token_ids["bert"].assign(row.begin(), row.begin() + mask_length(i));
    }
    return sample;
  }

 private:
  static constexpr std::pair<const char*, const char*> kFeatures[] = {
      {"text", "text"}, {"audio", "audio"}, {"vision", "video"}};
  static constexpr std::pair<const char*, const char*> kLabels[] = {
      {"regression_labels", "reg"},
      {"regression_labels_T", "reg_text"},
      {"regression_labels_A", "reg_audio"},
      {"regression_labels_V", "reg_video"},
      {"classification_labels", "cls"}};

  void require_samples(std::string_view key, std::int64_t count) const {
    if (count != size()) {
      fail(ErrorKind::data, key, "has {} samples where 'id' has {}", count, size());
    }
  }

  std::int64_t mask_length(std::int64_t i) const {
    const auto mask =
        bert_.slice(i, i + 1).span<std::int64_t>().subspan(bert_.size(2), bert_.size(2));
    return std::ranges::count_if(mask, [](std::int64_t bit) { return bit != 0; });
  }

  /// The steps that are no padding: by <key>_lengths, else by the mask where the time axis is the
  /// text's, else without the zero rows at the end.
  Tensor steps(const std::string& key, const std::string& feature, const Value& values,
               std::int64_t i) {
    const auto& array = values.array();
    if (array.shape.rank() != 3 && array.shape.rank() != 2) {
      fail(ErrorKind::data, key, "must be [samples, steps, width] or [samples, width], found {}",
           array.shape.to_string());
    }
    require_samples(key, array.shape[0]);
    const Tensor all = builder_.read(feature, array[i]);
    if (all.rank() == 1) return all;
    std::int64_t length = all.size(0) - trailing_zero_steps(all);
    if (const Value* lengths = part_.find(key + "_lengths")) {
      if (!lengths_.contains(key)) {
        lengths_[key] = numbers(*lengths);
        require_samples(key + "_lengths", std::ssize(lengths_[key]));
      }
      const double given = lengths_[key][i];
      if (!(given >= 0 && given <= static_cast<double>(all.size(0)))) {
        fail(ErrorKind::data, key + "_lengths", "is {} for sample '{}' of {} steps", given, ids_[i],
             all.size(0));
      }
      length = static_cast<std::int64_t>(given);
    } else if (bert_.defined() && bert_.size(2) == all.size(0)) {
      length = mask_length(i);
    }
    return builder_.trim(feature, all, 0, length);
  }

  const Value& part_;
  Builder& builder_;
  std::vector<std::string> ids_, texts_;
  Tensor bert_;
  std::map<std::string, std::vector<double>> labels_, lengths_;
};

void convert(const Source& source, const ConvertOptions&, Builder& builder, Dataset& card) {
  bool is_sims = false, has_classes = false;
  for_each_part(source.pickle(), builder, [&](Part part, const std::string&, const Value& value) {
    is_sims |= value.find("regression_labels_T") != nullptr;
    has_classes |= value.find("classification_labels") != nullptr;
    Reader reader(value, builder);
    for (std::int64_t i = 0; i < reader.size(); ++i) builder.add(reader.sample(i, part));
  });
  builder.set_regression("reg", is_sims ? 1 : 3);
  if (is_sims) {
    for (const char* name : {"reg_text", "reg_audio", "reg_video"}) builder.set_regression(name, 1);
  }
  if (has_classes) {
    const auto& classes = builder.label_values("cls");
    const double most = classes.empty() ? 2 : *std::ranges::max_element(classes);
    builder.set_label("cls", LabelKind::multiclass, 0, std::max(2., most));
  }
  card.task =
      is_sims ? "sentiment from -1 to 1, with a label per modality" : "sentiment from -3 to 3";
}

}  // namespace

const Family kMmsa{"mmsa", "MMSA's, Self-MM's or CH-SIMS' aligned or unaligned pickle", &matches,
                   &convert};

}  // namespace cmir::import
