#include "models/data/dataset.h"

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "models/data/container.h"
#include "models/data/synthetic.h"

namespace cmir {
namespace {

template <class T>
const T& look_up(const std::map<std::string, T>& map, std::string_view key, std::string_view prefix,
                 std::string_view what, const Dataset& dataset) {
  auto found = map.find(std::string(key));
  if (found == map.end() && key.starts_with(prefix))
    found = map.find(std::string(key.substr(prefix.size())));
  if (found == map.end()) {
    std::string known;
    for (const auto& [name, value] : map) known += (known.empty() ? "" : ", ") + name;
    fail(ErrorKind::usage, dataset.name, "has no {} \"{}\"; it has {}", what, key,
         known.empty() ? "none" : known);
  }
  return found->second;
}

/// Collects faults of one data set; a limit keeps a hopeless file's report readable.
class FaultList {
 public:
  static constexpr std::size_t kLimit = 20;

  template <class... Args>
  void add(fmt::format_string<Args...> text, Args&&... args) {
    if (faults.size() < kLimit) faults.push_back(fmt::format(text, std::forward<Args>(args)...));
  }
  /// Adds a fault unless the tensor is defined with this dtype, this rank and `rows` rows (any,
  /// when -1).
  bool check(const std::string& name, const Tensor& tensor, DType dtype, int rank,
             std::int64_t rows) {
    if (!tensor.defined() || tensor.dtype() != dtype || tensor.rank() != rank ||
        (rows >= 0 && tensor.size(0) != rows)) {
      add("{} must be {} of rank {}{}, got {}", name, name_of(dtype), rank,
          rows < 0 ? "" : fmt::format(" with {} rows", rows),
          tensor.defined() ? tensor.describe() : "nothing");
      return false;
    }
    return true;
  }
  void check_offsets(const std::string& name, const Tensor& offsets, std::int64_t rows,
                     const Dataset& dataset) {
    const std::int64_t n = dataset.size();
    if (!check(name, offsets, DType::i64, 1, n + 1)) return;
    const auto o = offsets.span<std::int64_t>();
    if (o[0] != 0) add("{} must begin with 0, got {}", name, o[0]);
    for (std::int64_t s = 0; s < n; ++s) {
      if (o[s + 1] < o[s])
        add("{} decreases from {} to {} at sample {}", name, o[s], o[s + 1], dataset.ids[s]);
    }
    if (o[n] != rows) add("{} ends with {}, but there are {} rows", name, o[n], rows);
  }
  /// Every value of an i32 tensor of one value per sample in [low, high].
  void check_range(const std::string& name, const Tensor& values, std::int32_t low,
                   std::int32_t high, const Dataset& dataset) {
    if (!check(name, values, DType::i32, 1, dataset.size())) return;
    const auto v = values.span<std::int32_t>();
    for (std::size_t s = 0; s < v.size(); ++s) {
      if (v[s] < low || v[s] > high)
        add("{} is {} at sample {}, outside {}..{}", name, v[s], dataset.ids[s], low, high);
    }
  }

  std::vector<std::string> faults;
};

void check_tokens(const std::string& name, const Tokens& tokens, const Dataset& dataset,
                  FaultList& list) {
  if (!list.check("tokens." + name, tokens.ids, DType::i32, 1, -1)) return;
  list.check_offsets("tokens." + name + ".offsets", tokens.offsets, tokens.ids.size(0), dataset);
  std::int64_t vocabulary = static_cast<std::int64_t>(dataset.vocabulary.size());
  if (vocabulary == 0 && !dataset.embeddings.empty())
    vocabulary = dataset.embeddings.begin()->second.size(0);
  const auto ids = tokens.ids.span<std::int32_t>();
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || (vocabulary > 0 && ids[i] >= vocabulary))
      list.add("tokens.{} holds {} at row {}, outside the vocabulary of {}", name, ids[i], i,
               vocabulary);
  }
}

}  // namespace

std::string_view name_of(LabelKind kind) {
  switch (kind) {
    case LabelKind::regression:
      return "regression";
    case LabelKind::binary:
      return "binary";
    case LabelKind::multiclass:
      return "multiclass";
  }
  return "?";
}

const Feature& Dataset::feature(std::string_view key) const {
  return look_up(features, key, "feature.", "feature", *this);
}
const Tokens& Dataset::token(std::string_view key) const {
  return look_up(tokens, key, "tokens.", "tokens", *this);
}
const Label& Dataset::label(std::string_view key) const {
  return look_up(labels, key, "label_", "label", *this);
}
const Tensor& Dataset::embedding(std::string_view key) const {
  return look_up(embeddings, key, "emb_", "embedding table", *this);
}

Tensor Dataset::integers(std::string_view key) const {
  std::map<std::string, Tensor> all;
  const auto add = [&](const std::string& column, const Tensor& values) {
    const bool fits = values.defined() && values.dtype() == DType::i32 && values.rank() == 1 &&
                      values.size(0) == size();
    if (fits) all.try_emplace(column, values);
  };
  add("group", group);
  for (const auto& [column, values] : extras) add(column, values);
  for (const auto& [column, values] : labels) add(column, values.values);
  for (const auto& [column, values] : folds) add(column, values);
  return look_up(all, key, "extra.", "integers", *this);
}

nlohmann::json Dataset::summary() const {
  using Json = nlohmann::json;
  Json json{{"name", name},       {"task", task},       {"source", source},
            {"licence", licence}, {"caveats", caveats}, {"samples", size()}};
  for (const auto& [key, f] : features) {
    json["features"][key] = {
        {"width", f.width()}, {"ragged", f.ragged()}, {"rows", f.values.size(0)}};
  }
  for (const auto& [key, t] : tokens) json["tokens"][key] = {{"rows", t.ids.size(0)}};
  for (const auto& [key, e] : embeddings) json["embeddings"][key] = e.shape().sizes();
  for (const auto& [key, l] : labels) {
    json["labels"][key] = {
        {"kind", name_of(l.kind)}, {"minimum", l.minimum}, {"maximum", l.maximum}};
  }
  const auto counts = [](const Tensor& values) {
    std::map<std::int32_t, std::int64_t> count;
    for (const auto value : values.span<std::int32_t>()) ++count[value];
    return count;
  };
  for (const auto& [key, s] : splits) {
    static const std::map<std::int32_t, std::string> kNames{{kNoPart, "unused"},
                                                            {kTrain, "train"},
                                                            {kValid, "valid"},
                                                            {kTest, "test"},
                                                            {kTestOod, "test_ood"}};
    for (const auto& [value, count] : counts(s)) json["splits"][key][kNames.at(value)] = count;
  }
  for (const auto& [key, f] : folds) {
    for (const auto& [value, count] : counts(f)) json["folds"][key][std::to_string(value)] = count;
  }
  for (const auto& [key, e] : extras) json["extras"][key] = e.describe();
  json["groups"] = group_names.size();
  json["vocabulary"] = vocabulary.size();
  return json;
}

std::vector<std::string> structural_faults(const Dataset& dataset) {
  FaultList list;
  const std::int64_t n = dataset.size();
  if (n == 0) list.add("there are no samples (ids is empty)");
  for (const auto& [name, f] : dataset.features) {
    if (dataset.tokens.contains(name)) list.add("\"{}\" names both a feature and tokens", name);
    if (!list.check("feature." + name, f.values, DType::f32, 2, f.ragged() ? -1 : n)) continue;
    if (f.width() == 0) list.add("feature.{} has no columns", name);
    if (f.ragged())
      list.check_offsets("feature." + name + ".offsets", f.offsets, f.values.size(0), dataset);
  }
  for (const auto& [name, e] : dataset.embeddings) {
    const auto words = static_cast<std::int64_t>(dataset.vocabulary.size());
    list.check("embedding." + name, e, DType::f32, 2, words > 0 ? words : -1);
  }
  for (const auto& [name, t] : dataset.tokens) check_tokens(name, t, dataset, list);
  for (const auto& [name, l] : dataset.labels) {
    const bool regression = l.kind == LabelKind::regression;
    list.check("label." + name, l.values, regression ? DType::f32 : DType::i32, 1, n);
  }
  for (const auto& [name, s] : dataset.splits)
    list.check_range("split." + name, s, kNoPart, kTestOod, dataset);
  for (const auto& [name, f] : dataset.folds) list.check_range("fold." + name, f, 0, 9999, dataset);
  if (dataset.group.defined()) {
    const auto groups = static_cast<std::int32_t>(dataset.group_names.size());
    list.check_range("group", dataset.group, 0, groups > 0 ? groups - 1 : INT32_MAX, dataset);
  }
  if (!dataset.texts.empty() && dataset.texts.size() != dataset.ids.size())
    list.add("there are {} texts for {} samples", dataset.texts.size(), n);
  return list.faults;
}

std::vector<std::filesystem::path> dataset_search_path() {
  namespace fs = std::filesystem;
  std::vector<fs::path> path;
  if (const char* variable = std::getenv("CMIR_DATA"); variable != nullptr && *variable != '\0')
    path.emplace_back(variable);
  std::error_code ignored;
  path.push_back(fs::current_path(ignored).parent_path() / "shared" / "data");
  fs::path directory = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  for (int level = 0; level < 5 && directory.has_relative_path(); ++level) {
    path.push_back(directory / "shared" / "data");
    directory = directory.parent_path();
  }
  return path;
}

Dataset open_dataset(const std::string& name_or_path) {
  namespace fs = std::filesystem;
  if (name_or_path == "synthetic" || name_or_path.starts_with("synthetic:"))
    return make_synthetic(parse_synthetic(name_or_path));
  require(!name_or_path.empty(), "data set",
          "needs a name or a path, or \"synthetic\" for generated data");
  if (fs::exists(name_or_path)) return load_dataset_path(name_or_path);
  std::string tried;
  for (const auto& directory : dataset_search_path()) {
    for (const auto& candidate :
         {directory / name_or_path, directory / (name_or_path + ".safetensors")}) {
      if (fs::exists(candidate)) return load_dataset_path(candidate);
    }
    tried += "\n  " + (directory / name_or_path).string();
  }
  fail(ErrorKind::io, "data set",
       "\"{}\" is neither a path nor in the places below; give a path, set CMIR_DATA to the folder "
       "of the data sets, or use "
       "\"synthetic\"{}",
       name_or_path, tried);
}

}  // namespace cmir
