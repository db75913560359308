// HFFN's utterance vectors: {text,audio,video}_{train,test} (videos, utterances, width),
// {train,test}_label (videos, utterances, classes) one-hot and {train,test}_mask (videos,
// utterances).
#include <algorithm>

#include "models/data/import/source.h"

namespace cmir::import {
namespace {

using pickle::Value;

bool matches(const Source& source) {
  const Value& root = source.pickle_or_none();
  return root.find("text_train") != nullptr && root.find("train_mask") != nullptr;
}

void add_part(Part part, const std::string& name, const Value& root, Builder& builder,
              std::int64_t& classes) {
  const auto& mask = root.at(name + "_mask").array();
  const auto& labels = root.at(name + "_label").array();
  if (mask.shape.rank() != 2 || labels.shape.rank() != 3 || labels.shape[0] != mask.shape[0] ||
      labels.shape[1] != mask.shape[1]) {
    fail(ErrorKind::data, name,
         "mask {} and label {} must be [videos, utterances] and [videos, utterances, classes]",
         mask.shape.to_string(), labels.shape.to_string());
  }
  classes = labels.shape[2];
  const Tensor used = mask.tensor(DType::f64), one_hot = labels.tensor(DType::f64);
  for (std::int64_t video = 0; video < mask.shape[0]; ++video) {
    for (std::int64_t k = 0; k < mask.shape[1]; ++k) {
      const std::int64_t at = video * mask.shape[1] + k;
      if (used.span<double>()[at] == 0) continue;
      Sample sample;
      sample.part = part;
      sample.group = fmt::format("{}_{}", name, video);  // the file has no names of videos
      sample.id = fmt::format("{}_{}", sample.group, k + 1);
      const double* row = one_hot.span<double>().data() + at * classes;
      sample.labels["cls"] = static_cast<double>(std::max_element(row, row + classes) - row);
      for (const std::string modality : {"text", "audio", "video"}) {
        const auto& array = root.at(modality + "_" + name).array();
        if (array.shape.rank() != 3 || array.shape[0] != mask.shape[0] ||
            array.shape[1] != mask.shape[1]) {
          fail(ErrorKind::data, modality + "_" + name, "{} does not fit the mask {}",
               array.shape.to_string(), mask.shape.to_string());
        }
        sample.features[modality] = builder.read(modality, array[video][k]);
      }
      builder.add(std::move(sample));
    }
  }
}

void convert(const Source& source, const ConvertOptions&, Builder& builder, Dataset& card) {
  const Value& root = source.pickle();
  std::int64_t classes = 2;
  add_part(kTrain, "train", root, builder, classes);
  if (root.find("valid_mask") != nullptr) add_part(kValid, "valid", root, builder, classes);
  add_part(kTest, "test", root, builder, classes);
  builder.set_label("cls", classes == 2 ? LabelKind::binary : LabelKind::multiclass, 0,
                    static_cast<double>(classes - 1));
  card.task = fmt::format("{} classes per utterance", classes);
}

}  // namespace

const Family kHffn{"hffn", "HFFN's unimodal pickle (a vector per utterance and modality)", &matches,
                   &convert};

}  // namespace cmir::import
