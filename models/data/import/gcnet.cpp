// GCNet's CMUMOSI_features_raw_2way.pkl: [ids, labels, speakers, sentences (dicts by video), train,
// valid, test (sets of videos)].
#include <algorithm>
#include <unordered_map>

#include "models/data/import/source.h"

namespace cmir::import {
namespace {

using pickle::Kind;
using pickle::Value;

bool matches(const Source& source) {
  const Value& root = source.pickle_or_none();
  if (!root.is_sequence() || root.items().size() != 7) return false;
  const auto items = root.items();
  return std::ranges::all_of(items.first(4),
                             [](const Value& v) { return v.kind() == Kind::dict; }) &&
         std::ranges::all_of(items.subspan(4), [](const Value& v) {
           return v.kind() == Kind::set || v.kind() == Kind::list;
         });
}

std::vector<std::string> strings(const Value& value) {
  if (value.kind() == Kind::array) return value.array().strings();
  std::vector<std::string> result;
  for (const Value& item : value.items()) result.push_back(item.text());
  return result;
}

void convert(const Source& source, const ConvertOptions&, Builder& builder, Dataset& card) {
  const Value& root = source.pickle();
  std::unordered_map<std::string, Part> parts;
  for (const Part part : {kTrain, kValid, kTest}) {
    for (const std::string& video : strings(root.at(std::size_t{4} + part))) parts[video] = part;
  }
  bool classes = true;
  double most = 0;
  for (const auto& [key, ids] : root.at(std::size_t{0}).entries()) {
    const std::string video = key.text();
    within(video, [&, &id_values = ids] {
      const auto names = strings(id_values);
      const auto labels = root.at(1).at(video).items();
      const auto sentences = strings(root.at(3).at(video));
      if (labels.size() != names.size() || sentences.size() != names.size()) {
        fail(ErrorKind::data, "video", "{} ids, {} labels and {} sentences", names.size(),
             labels.size(), sentences.size());
      }
      const auto part = parts.find(video);
      for (std::size_t i = 0; i < names.size(); ++i) {
        Sample sample;
        sample.id = names[i];
        sample.part = part == parts.end() ? kNoPart : part->second;
        sample.group = video;
        sample.text = sentences[i];
        sample.words["tok"] = split_words(sentences[i]);
        classes &= labels[i].kind() == Kind::integer;
        sample.labels["label"] = labels[i].number();
        most = std::max(most, labels[i].number());
        builder.add(std::move(sample));
      }
    });
  }
  if (classes) {
    builder.set_label("label", LabelKind::multiclass, 0, most);
  } else {
    builder.set_regression("label", 3);
  }
  builder.note(
      "the file has no audio and video features (GCNet keeps them in one .npy per utterance)");
  card.task = classes ? "emotion classes" : "sentiment from -3 to 3";
}

}  // namespace

const Family kGcnet{"gcnet", "GCNet's pickle of ids, labels, speakers, sentences and folds",
                    &matches, &convert};

}  // namespace cmir::import
