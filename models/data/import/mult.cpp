// MulT, MultiBench: {train, valid, test} of {text (N,L,300), audio, vision, labels (N,1,1) [, id
// (N,3)]}, padded in front.
#include <algorithm>

#include "models/data/import/source.h"

namespace cmir::import {
namespace {

using pickle::Value;

bool matches(const Source& source) {
  const Value* part = first_part(source.pickle_or_none());
  return part != nullptr && part->find("labels") != nullptr && part->find("vision") != nullptr;
}

constexpr std::pair<const char*, const char*> kFeatures[] = {
    {"text", "text"}, {"audio", "audio"}, {"vision", "video"}};
constexpr const char* kEmotions[] = {"neutral", "happy", "sad",
                                     "angry"};  // IEMOCAP's, in the file's order

std::string join_id(const std::vector<std::string>& ids, std::int64_t i, std::int64_t width) {
  std::string id = ids[i * width];
  for (std::int64_t k = 1; k < width; ++k) id += (k == 1 ? " " : "-") + ids[i * width + k];
  return id;
}

void add_part(Part part, const std::string& name, const Value& value, Builder& builder) {
  const auto& labels = value.at("labels").array();
  if (labels.shape.rank() < 1 || labels.shape[0] < 1)
    fail(ErrorKind::data, "labels", "there are none");
  const std::int64_t count = labels.shape[0], per_sample = labels.shape.numel() / count;
  const Tensor label_values = labels.tensor(DType::f64);
  const bool emotions = per_sample == 8 && labels.shape.rank() == 3 && labels.shape[2] == 2;
  std::vector<std::string> ids;
  if (const Value* id = value.find("id")) {
    if (id->array().is_numeric()) {
      for (const double number : id->array().tensor(DType::f64).to_vector())
        ids.push_back(fmt::format("{}", number));
    } else {
      ids = id->array().strings();
    }
    if (ids.empty() || std::ssize(ids) % count != 0) {
      fail(ErrorKind::data, "id", "has {} entries for {} samples", ids.size(), count);
    }
  }
  for (std::int64_t i = 0; i < count; ++i) {
    Sample sample;
    sample.part = part;
    sample.id =
        ids.empty() ? fmt::format("{}_{}", name, i) : join_id(ids, i, std::ssize(ids) / count);
    if (!ids.empty()) sample.group = video_of(ids[i * (std::ssize(ids) / count)]);
    const double* label = label_values.span<double>().data() + i * per_sample;
    if (emotions) {
      for (int e = 0; e < 4; ++e) sample.labels[kEmotions[e]] = label[2 * e + 1] > label[2 * e];
    } else {
      sample.labels["reg"] = label[0];
    }
    std::int64_t shared_padding = -1;  // of aligned modalities: rows zero in all of them
    bool aligned = true;
    std::int64_t length = -1;
    for (const auto& [key, feature] : kFeatures) {
      const auto& array = value.at(key).array();
      if (array.shape.rank() != 3 || array.shape[0] != count) {
        fail(ErrorKind::data, key, "must be [{} samples, steps, width], found {}", count,
             array.shape.to_string());
      }
      const Tensor steps = builder.read(feature, array[i]);
      aligned &= length < 0 || length == steps.size(0);
      length = steps.size(0);
      const std::int64_t zeros = leading_zero_steps(steps);
      shared_padding = shared_padding < 0 ? zeros : std::min(shared_padding, zeros);
      sample.features[feature] = steps;
    }
    for (auto& [feature, steps] : sample.features) {
      const std::int64_t zeros = leading_zero_steps(steps);
      const bool absent = zeros == steps.size(0);
      steps =
          builder.trim(feature, steps, aligned && !absent ? shared_padding : zeros, steps.size(0));
    }
    builder.add(std::move(sample));
  }
}

void convert(const Source& source, const ConvertOptions&, Builder& builder, Dataset& card) {
  bool emotions = false;
  for_each_part(source.pickle(), builder,
                [&](Part part, const std::string& name, const Value& value) {
                  add_part(part, name, value, builder);
                  emotions = value.at("labels").array().shape.rank() == 3 &&
                             value.at("labels").array().shape[2] == 2;
                });
  if (emotions) {
    for (const char* name : kEmotions) builder.set_label(name, LabelKind::binary, 0, 1);
    card.task = "four emotions, each present or not";
    return;
  }
  builder.set_regression("reg", 3);
  card.task = "sentiment from -3 to 3";
}

}  // namespace

const Family kMult{"mult", "MulT's or MultiBench's data pickle (aligned or noalign)", &matches,
                   &convert};

}  // namespace cmir::import
