// The UR-FUNNY folder: data_folds.pkl, language_sdk.pkl (V1: word_embedding_indexes_sdk.pkl),
// covarep_features_sdk.pkl, openface_features_sdk.pkl, humor_label_sdk.pkl,
// word_embedding_list.pkl; all but the first and last by sample id.
#include <unordered_map>

#include "models/data/import/source.h"

namespace cmir::import {
namespace {

using pickle::Value;

std::string language_file(const Source& source) {
  return source.has("language_sdk.pkl") ? "language_sdk.pkl" : "word_embedding_indexes_sdk.pkl";
}

bool matches(const Source& source) {
  return source.has("data_folds.pkl") && source.has("humor_label_sdk.pkl") &&
         source.has(language_file(source));
}

/// A file {id: value}, indexed.
class ById {
 public:
  ById(const Source& source, const std::string& file) : file_(file) {
    if (!source.has(file)) fail(ErrorKind::data, file, "is missing from the folder");
    within(file, [&] {
      for (const auto& [key, value] : source.pickle(file).entries()) values_[id_of(key)] = &value;
    });
  }
  static std::string id_of(const Value& key) {
    return key.is_text() ? key.text() : std::to_string(key.integer());
  }
  const Value& at(const std::string& id) const {
    const auto entry = values_.find(id);
    if (entry == values_.end()) fail(ErrorKind::data, file_, "has no sample '{}'", id);
    return *entry->second;
  }

 private:
  std::string file_;
  std::unordered_map<std::string, const Value*> values_;
};

/// context_features [sentences][words][width], then punchline_features [words][width].
Tensor steps(const std::string& feature, const Value& value, Builder& builder) {
  Tensor all = Tensor::empty({0, 1});
  const auto append = [&](const Value& words) {
    if (!words.items().empty()) all = join_steps(all, builder.read(feature, words));
  };
  for (const Value& sentence : value.at("context_features").items()) append(sentence);
  append(value.at("punchline_features"));
  return all;
}

void add_indexes(const Value& list, std::vector<std::int32_t>& ids) {
  for (const Value& item : list.items()) {
    if (item.is_sequence()) {
      add_indexes(item, ids);
      continue;
    }
    const std::int64_t id = item.integer();
    if (id < 0 || id > INT32_MAX)
      fail(ErrorKind::data, "embedding index", "{} is out of range", id);
    ids.push_back(static_cast<std::int32_t>(id));
  }
}

std::string sentences(const Value& language) {
  const Value* punchline = language.find("punchline_sentence");
  const Value* context = language.find("context_sentences");
  std::string text;
  if (context != nullptr) {
    for (const Value& sentence : context->items()) text += sentence.text() + " ";
  }
  return punchline == nullptr ? text : text + punchline->text();
}

void convert(const Source& source, const ConvertOptions& options, Builder& builder, Dataset& card) {
  const ById language(source, language_file(source)), labels(source, "humor_label_sdk.pkl");
  const ById covarep(source, "covarep_features_sdk.pkl"),
      openface(source, "openface_features_sdk.pkl");
  for_each_part(source.pickle("data_folds.pkl"), builder,
                [&](Part part, const std::string&, const Value& ids) {
                  for (const Value& key : ids.items()) {
                    Sample sample;
                    sample.part = part;
                    sample.id = ById::id_of(key);
                    within(fmt::format("sample {}", sample.id), [&] {
                      const Value& words = language.at(sample.id);
                      sample.text = sentences(words);
                      auto& tokens = sample.token_ids["tok"];
                      add_indexes(words.at("context_embedding_indexes"), tokens);
                      add_indexes(words.at("punchline_embedding_indexes"), tokens);
                      sample.labels["bin"] = labels.at(sample.id).number();
                      const Tensor audio = steps("audio", covarep.at(sample.id), builder);
                      const bool cut = !options.all_columns && audio.size(1) == 81;
                      sample.features["audio"] = cut ? columns(audio, 0, 60) : audio;
                      sample.features["video"] = steps("video", openface.at(sample.id), builder);
                    });
                    builder.add(std::move(sample));
                  }
                });
  if (source.has("word_embedding_list.pkl")) {
    card.embeddings["glove"] =
        builder.read("word_embedding_list", source.pickle("word_embedding_list.pkl"));
  }
  builder.set_label("bin", LabelKind::binary, 0, 1);
  card.task = "humour: 0 or 1, context and punchline joined along time";
}

}  // namespace

const Family kUrFunny{"urfunny", "the UR-FUNNY folder of *_sdk.pkl files", &matches, &convert};

}  // namespace cmir::import
