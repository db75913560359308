#include "models/data/container.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/formats/safetensors.h"
#include "models/data/sha256.h"

namespace cmir {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

constexpr std::string_view kFormat = "cmir-dataset";
constexpr int kVersion = 1;

void require_sound(const Dataset& dataset, const std::string& where) {
  const auto faults = structural_faults(dataset);
  if (!faults.empty()) fail(ErrorKind::data, where, "{}", fmt::join(faults, "; "));
}

NamedTensors named_tensors(const Dataset& dataset) {
  NamedTensors list;
  for (const auto& [name, f] : dataset.features) {
    list.emplace_back("feature." + name, f.values);
    if (f.ragged()) list.emplace_back("feature." + name + ".offsets", f.offsets);
  }
  for (const auto& [name, t] : dataset.tokens) {
    list.emplace_back("tokens." + name, t.ids);
    list.emplace_back("tokens." + name + ".offsets", t.offsets);
  }
  for (const auto& [name, e] : dataset.embeddings) list.emplace_back("embedding." + name, e);
  for (const auto& [name, l] : dataset.labels) list.emplace_back("label." + name, l.values);
  for (const auto& [name, s] : dataset.splits) list.emplace_back("split." + name, s);
  for (const auto& [name, f] : dataset.folds) list.emplace_back("fold." + name, f);
  for (const auto& [name, e] : dataset.extras) list.emplace_back("extra." + name, e);
  if (dataset.group.defined()) list.emplace_back("group", dataset.group);
  std::ranges::sort(list, {}, &NamedTensors::value_type::first);
  return list;
}

Json make_card(const Dataset& dataset) {
  Json card{{"format", kFormat},
            {"version", kVersion},
            {"summary", dataset.summary()},
            {"checksum", content_checksum(dataset)},
            {"ids", dataset.ids},
            {"texts", dataset.texts},
            {"groups", dataset.group_names},
            {"vocabulary", dataset.vocabulary}};
  return card;
}

/// A member of the card; an Error of kind data when it is missing or of another type.
template <class T>
T card_value(const Json& object, const char* key, const std::string& file) {
  try {
    return object.at(key).get<T>();
  } catch (const Json::exception& e) {
    fail(ErrorKind::data, file, "card entry \"{}\" is missing or ill-typed ({})", key, e.what());
  }
}

LabelKind parse_kind(const std::string& text, const std::string& file) {
  for (const auto kind : {LabelKind::regression, LabelKind::binary, LabelKind::multiclass}) {
    if (text == name_of(kind)) return kind;
  }
  fail(ErrorKind::data, file, "label kind \"{}\" is none of regression, binary, multiclass", text);
}

void read_card(const Json& card, const std::string& file, Dataset& dataset) {
  const auto summary = card_value<Json>(card, "summary", file);
  dataset.name = card_value<std::string>(summary, "name", file);
  dataset.task = card_value<std::string>(summary, "task", file);
  dataset.source = card_value<std::string>(summary, "source", file);
  dataset.licence = card_value<std::string>(summary, "licence", file);
  dataset.caveats = card_value<std::vector<std::string>>(summary, "caveats", file);
  dataset.ids = card_value<std::vector<std::string>>(card, "ids", file);
  dataset.texts = card_value<std::vector<std::string>>(card, "texts", file);
  dataset.group_names = card_value<std::vector<std::string>>(card, "groups", file);
  dataset.vocabulary = card_value<std::vector<std::string>>(card, "vocabulary", file);
  if (!summary.contains("labels")) return;
  for (const auto& [name, entry] : summary["labels"].items()) {
    Label& label = dataset.labels[name];
    label.kind = parse_kind(card_value<std::string>(entry, "kind", file), file);
    label.minimum = card_value<double>(entry, "minimum", file);
    label.maximum = card_value<double>(entry, "maximum", file);
  }
}

/// Puts one tensor where its name says.
void place_tensor(const std::string& full_name, const Tensor& tensor, const std::string& file,
                  Dataset& dataset) {
  const auto dot = full_name.find('.');
  const std::string kind = full_name.substr(0, dot);
  std::string name = dot == std::string::npos ? "" : full_name.substr(dot + 1);
  constexpr std::string_view kOffsets = ".offsets";
  const bool offsets = name.ends_with(kOffsets);
  if (kind == "group" && name.empty()) {
    dataset.group = tensor;
  } else if (kind == "extra" && !name.empty()) {
    dataset.extras[name] = tensor;
  } else if ((kind == "feature" || kind == "tokens") && !name.empty()) {
    if (offsets) name.resize(name.size() - kOffsets.size());
    if (kind == "feature") {
      (offsets ? dataset.features[name].offsets : dataset.features[name].values) = tensor;
    } else {
      (offsets ? dataset.tokens[name].offsets : dataset.tokens[name].ids) = tensor;
    }
  } else if (kind == "embedding" && !name.empty()) {
    dataset.embeddings[name] = tensor;
  } else if (kind == "label" && dataset.labels.contains(name)) {
    dataset.labels[name].values = tensor;
  } else if (kind == "split" && !name.empty()) {
    dataset.splits[name] = tensor;
  } else if (kind == "fold" && !name.empty()) {
    dataset.folds[name] = tensor;
  } else {
    fail(ErrorKind::data, file, "tensor \"{}\" is not part of the container format{}", full_name,
         kind == "label" ? " without its entry in the card" : "");
  }
}

std::vector<std::string> read_lines(const fs::path& file) {
  std::vector<std::string> lines;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.ends_with('\r')) line.pop_back();
    lines.push_back(std::move(line));
  }
  return lines;
}

Json read_json(const fs::path& file) {
  std::ifstream in(file);
  if (!in) fail(ErrorKind::io, file.string(), "cannot be read");
  Json json = Json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) fail(ErrorKind::data, file.string(), "is not a JSON object");
  return json;
}

// ---- the packed form

/// The offsets that divide `tensor`: those of the longest "P_off" with name == P or name beginning
/// with "P_" whose last entry is the tensor's number of rows ("audio_off" divides "audio_seq", not
/// the dense "audio_mfcc"). Their name, or "".
std::string offsets_of(const std::string& name, const Tensor& tensor, const SafeTensors& file) {
  std::string best;
  for (const auto& candidate : file.names()) {
    if (!candidate.ends_with("_off") || candidate.size() <= best.size() || tensor.rank() == 0)
      continue;
    const std::string prefix = candidate.substr(0, candidate.size() - 4);
    if (name != prefix && !name.starts_with(prefix + "_")) continue;
    const Tensor offsets = file.at(candidate);
    if (offsets.dtype() != DType::i64 || offsets.rank() != 1 || offsets.numel() == 0) continue;
    if (offsets.span<std::int64_t>()[offsets.numel() - 1] == tensor.size(0)) best = candidate;
  }
  return best;
}

Label packed_label(const Tensor& values, const std::string& where) {
  if (values.dtype() == DType::f32) return {values, LabelKind::regression, -3, 3};
  if (values.dtype() != DType::i32 || values.numel() == 0)
    fail(ErrorKind::data, where, "a label must be f32 or i32 and not empty, got {}",
         values.describe());
  const auto all = values.span<std::int32_t>();
  const double maximum = std::max(1, *std::ranges::max_element(all));
  return {values, maximum > 1 ? LabelKind::multiclass : LabelKind::binary, 0, maximum};
}

/// A category per sample as a dense feature with a column per category.
Feature one_hot(const Tensor& categories, std::int64_t count, const std::string& where) {
  const auto values = categories.span<std::int32_t>();
  Feature feature{Tensor::zeros({static_cast<std::int64_t>(values.size()), count}), {}};
  auto* out = feature.values.mutable_span<float>().data();
  for (std::size_t s = 0; s < values.size(); ++s) {
    if (values[s] < 0 || values[s] >= count)
      fail(ErrorKind::data, where, "category {} of row {} is outside 0..{}", values[s], s,
           count - 1);
    out[static_cast<std::int64_t>(s) * count + values[s]] = 1;
  }
  return feature;
}

void place_packed(const std::string& name, const SafeTensors& file, const Json& ids,
                  const std::string& where, Dataset& dataset) {
  const Tensor tensor = file.at(name);
  if (name.ends_with("_off")) return;  // taken with the tensor that it divides
  const std::string offsets_name = offsets_of(name, tensor, file);
  const Tensor offsets = offsets_name.empty() ? Tensor() : file.at(offsets_name);
  const bool per_sample = !offsets.defined() && tensor.rank() == 1;
  if (name == "emb_src") {
    dataset.extras[name] = tensor;
  } else if (name.starts_with("emb_")) {
    dataset.embeddings[name.substr(4)] = tensor;
  } else if (offsets.defined() && (name == "tok" || name.ends_with("_tok"))) {
    dataset.tokens[name] = {tensor, offsets};
  } else if (tensor.dtype() == DType::f32 && tensor.rank() == 2) {
    dataset.features[name] = {tensor, offsets};
  } else if (offsets.defined()) {
    dataset.extras[name] = tensor;
    dataset.extras[offsets_name] = offsets;
  } else if (per_sample && (name == "label" || name.starts_with("label_"))) {
    dataset.labels[name == "label" ? name : name.substr(6)] = packed_label(tensor, where);
  } else if (per_sample && name.starts_with("split_")) {
    dataset.splits[name.substr(6)] = tensor;
  } else if (per_sample && name.starts_with("fold")) {
    dataset.folds[name.starts_with("fold_") ? name.substr(5) : name] = tensor;
  } else if (per_sample && name == "video_index") {
    dataset.group = tensor;
  } else if (per_sample && tensor.dtype() == DType::i32 && ids.contains(name + "s")) {
    dataset.features[name] =
        one_hot(tensor, static_cast<std::int64_t>(ids[name + "s"].size()), where);
    dataset.extras[name] = tensor;
    if (name == "speaker" && !file.contains("video_index")) dataset.group = tensor;
  } else {
    dataset.extras[name] = tensor;
  }
}

std::optional<fs::path> single_safetensors(const fs::path& folder) {
  std::optional<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".safetensors") continue;
    if (found) {
      fail(ErrorKind::usage, folder.string(),
           "holds several .safetensors files ({} and {}): name one", found->string(),
           entry.path().string());
    }
    found = entry.path();
  }
  return found;
}

}  // namespace

std::string content_checksum(const Dataset& dataset) {
  Sha256 digest;
  for (const auto& [name, tensor] : named_tensors(dataset)) {
    digest.update(
        fmt::format("{}\n{}{}\n", name, name_of(tensor.dtype()), tensor.shape().to_string()));
    digest.update(tensor.byte_span().data(), tensor.bytes());
  }
  for (const auto* list : {&dataset.ids, &dataset.vocabulary}) {
    for (const auto& text : *list) {
      digest.update(text);
      digest.update("\n");
    }
  }
  return digest.hex();
}

void save_container(const Dataset& dataset, const fs::path& file) {
  require_sound(dataset, dataset.name.empty() ? file.string() : dataset.name);
  std::string card;
  try {
    card = make_card(dataset).dump();
  } catch (const Json::exception& e) {  // text that is no UTF-8
    fail(ErrorKind::data, dataset.name, "its card is no valid JSON: {}", e.what());
  }
  write_safetensors(file, named_tensors(dataset), {{"card", card}});
}

Dataset load_container(const fs::path& path, bool verify) {
  const std::string file = path.string();
  const SafeTensors tensors = SafeTensors::open(path);
  const auto entry = tensors.metadata().find("card");
  if (entry == tensors.metadata().end()) {
    fail(ErrorKind::data, file,
         "is a safetensors file without a card, so no data set container; make one with `cmir data "
         "convert`");
  }
  const Json card = Json::parse(entry->second, nullptr, /*allow_exceptions=*/false);
  if (!card.is_object() || card.value("format", Json()) != kFormat)
    fail(ErrorKind::data, file, "its card is not that of a {} file", kFormat);
  if (card.value("version", Json()) != kVersion) {
    fail(ErrorKind::data, file, "has container version {}, this program reads version {}",
         card.value("version", Json()).dump(), kVersion);
  }
  Dataset dataset;
  read_card(card, file, dataset);
  for (const auto& name : tensors.names()) place_tensor(name, tensors.at(name), file, dataset);
  require_sound(dataset, file);
  if (verify && card_value<std::string>(card, "checksum", file) != content_checksum(dataset))
    fail(ErrorKind::data, file,
         "its content does not fit its checksum: the file is damaged or was edited");
  return dataset;
}

Dataset load_packed(const fs::path& file) {
  const fs::path folder = file.parent_path();
  const std::string where = file.string();
  const SafeTensors tensors = SafeTensors::open(file);
  const Json ids = read_json(folder / "ids.json");

  Dataset dataset;
  dataset.name = file.stem().string();
  dataset.ids = card_value<std::vector<std::string>>(ids, "ids", (folder / "ids.json").string());
  if (const auto source = tensors.metadata().find("source"); source != tensors.metadata().end())
    dataset.source = source->second;
  dataset.vocabulary = read_lines(folder / "vocab.txt");
  for (const auto& line : read_lines(folder / "transcripts.tsv"))
    dataset.texts.push_back(line.substr(line.rfind('\t') + 1));
  for (const auto& name : tensors.names()) place_packed(name, tensors, ids, where, dataset);
  if (dataset.group.defined()) {
    const char* key = tensors.contains("video_index") ? "videos" : "speakers";
    dataset.group_names =
        card_value<std::vector<std::string>>(ids, key, (folder / "ids.json").string());
  }
  require_sound(dataset, where);
  return dataset;
}

Dataset load_dataset_path(const fs::path& path) {
  if (!fs::is_directory(path)) {
    if (path.extension() != ".safetensors") {
      fail(ErrorKind::usage, path.string(),
           "is no data set container (.safetensors); `cmir data convert` makes one from the usual "
           "pickle, HDF5 and .csd files");
    }
    const SafeTensors tensors = SafeTensors::open(path);
    const bool packed =
        !tensors.metadata().contains("card") && fs::exists(path.parent_path() / "ids.json");
    return packed ? load_packed(path) : load_container(path);
  }
  const auto file = single_safetensors(path);
  if (!file) {
    fail(ErrorKind::data, path.string(),
         "holds no .safetensors file; give the path of a data set container or of a folder with "
         "one");
  }
  return load_dataset_path(*file);
}

}  // namespace cmir
