// MISA, MMIM, CLUE: a list of ((word ids, visual, acoustic, words), label, segment), alone or as
// train, dev, test(.pkl) of a folder. MAG-BERT, MIB, ITHP: {train, dev, test} of lists of ((words,
// visual, acoustic), label, segment).
#include "models/data/import/source.h"

namespace cmir::import {
namespace {

using pickle::Value;

/// The files of CLUE's and MISA's folders.
constexpr const char* kFiles[] = {"train", "dev", "valid", "test", "test_IID", "test_OOD"};

bool is_sample_list(const Value& value) {
  if (!value.is_sequence() || value.items().empty()) return false;
  const Value& sample = value.items()[0];
  if (!sample.is_sequence() || sample.items().size() != 3) return false;
  const Value& parts = sample.at(0);
  return parts.is_sequence() && (parts.items().size() == 3 || parts.items().size() == 4) &&
         sample.at(2).is_text();
}

bool matches(const Source& source) {
  if (source.is_folder())
    return source.has("train.pkl") && (source.has("dev.pkl") || source.has("test_OOD.pkl"));
  const Value& root = source.pickle_or_none();
  const Value* part = first_part(root);
  return is_sample_list(part != nullptr ? *part : root);
}

/// Strings become words, numbers token ids.
void add_words(const Value& words, Sample& sample) {
  if (words.kind() == pickle::Kind::array && words.array().is_numeric()) {
    const Tensor ids = words.array().tensor(DType::i32);
    sample.token_ids["tok"].assign(ids.span<std::int32_t>().begin(),
                                   ids.span<std::int32_t>().end());
    return;
  }
  if (words.kind() == pickle::Kind::array) {
    sample.words["tok"] = words.array().strings();
  } else {
    for (const Value& word : words.items()) {
      if (word.is_text()) {
        sample.words["tok"].push_back(word.text());
      } else {
        const std::int64_t id = word.integer();
        if (id < 0 || id > INT32_MAX)
          fail(ErrorKind::data, "words", "the token id {} is out of range", id);
        sample.token_ids["tok"].push_back(static_cast<std::int32_t>(id));
      }
    }
  }
  const auto words_text = sample.words.find("tok");
  if (words_text != sample.words.end())
    sample.text = fmt::format("{}", fmt::join(words_text->second, " "));
}

/// A number, or the first of an array: MOSEI's seven begin with sentiment.
double first_number(const Value& label) {
  if (label.kind() != pickle::Kind::array) return label.number();
  const Tensor values = label.array().tensor(DType::f64);
  if (values.numel() == 0) fail(ErrorKind::data, "label", "is an empty array");
  return values.span<double>()[0];
}

void add_list(Part part, const Value& list, Builder& builder) {
  std::size_t i = 0;
  for (const Value& entry : list.items()) {
    within(fmt::format("sample {}", i++), [&] {
      const Value& parts = entry.at(std::size_t{0});
      const std::size_t count = parts.items().size();
      if (count != 3 && count != 4) {
        fail(ErrorKind::data, "sample",
             "expected (words, visual, acoustic [, words as text]), found {}", parts.describe());
      }
      Sample sample;
      sample.part = part;
      sample.id = entry.at(2).text();
      sample.group = video_of(sample.id);
      sample.labels["reg"] = first_number(entry.at(1));
      add_words(parts.at(count == 4 ? 3 : 0), sample);
      sample.features["video"] = builder.read("video", parts.at(1));
      sample.features["audio"] = builder.read("audio", parts.at(2));
      builder.add(std::move(sample));
    });
  }
}

void convert(const Source& source, const ConvertOptions&, Builder& builder, Dataset& card) {
  if (source.is_folder()) {
    for (const char* name : kFiles) {
      const std::string file = std::string(name) + ".pkl";
      if (!source.has(file)) continue;
      within(file, [&] { add_list(*part_of(name), source.pickle(file), builder); });
      source.release(file);
    }
  } else if (first_part(source.pickle()) != nullptr) {
    for_each_part(source.pickle(), builder, [&](Part part, const std::string&, const Value& list) {
      add_list(part, list, builder);
    });
  } else {
    const auto part = part_of(source.path().stem().string());
    if (!part) builder.note("one list without a split: all samples are in train");
    add_list(part.value_or(kTrain), source.pickle(), builder);
  }
  builder.set_regression("reg", 3);
  card.task = "sentiment from -3 to 3";
}

}  // namespace

const Family kMisa{"misa",
                   "lists of ((words, visual, acoustic), label, segment): MISA, MMIM, CLUE (file "
                   "or folder), MAG-BERT, MIB",
                   &matches, &convert};

}  // namespace cmir::import
