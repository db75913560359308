#include "models/data/import/builder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>

namespace cmir::import {
namespace {

template <class Index>
std::int32_t index_of(const std::string& key, Index& index, std::vector<std::string>& names) {
  const auto [entry, added] = index.try_emplace(key, static_cast<std::int32_t>(names.size()));
  if (added) names.push_back(key);
  return entry->second;
}

bool is_zero_step(const Tensor& steps, std::int64_t i) {
  const float* const row = steps.span<float>().data() + i * steps.size(1);
  return std::all_of(row, row + steps.size(1), [](float x) { return x == 0; });
}

Tensor as_tensor(const std::vector<std::int64_t>& values) {
  return Tensor::from(values, {static_cast<std::int64_t>(values.size())});
}
Tensor as_tensor(const std::vector<std::int32_t>& values) {
  return Tensor::from(values, {static_cast<std::int64_t>(values.size())});
}

}  // namespace

std::optional<Part> part_of(std::string_view name) {
  if (name == "train") return kTrain;
  if (name == "valid" || name == "dev" || name == "val") return kValid;
  if (name == "test" || name == "test_IID") return kTest;
  if (name == "test_OOD") return kTestOod;
  return std::nullopt;
}

std::string_view name_of(Part part) {
  switch (part) {
    case kNoPart:
      return "unused";
    case kTrain:
      return "train";
    case kValid:
      return "valid";
    case kTest:
      return "test";
    case kTestOod:
      return "test_ood";
  }
  return "?";
}

std::string video_of(const std::string& id) {
  if (const auto mark = id.find("$_$"); mark != id.npos) return id.substr(0, mark);
  if (const auto bracket = id.rfind('['); bracket != id.npos && id.ends_with(']')) {
    return id.substr(0, bracket);
  }
  const auto line = id.rfind('_');
  const bool numbered = line != id.npos && line > 0 && line + 1 < id.size() &&
                        id.find_first_not_of("0123456789", line + 1) == id.npos;
  return numbered ? id.substr(0, line) : id;
}

std::vector<std::string> split_words(std::string_view text) {
  std::istringstream stream{std::string(text)};
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(std::move(word));
  return words;
}

std::int64_t leading_zero_steps(const Tensor& steps) {
  std::int64_t count = 0;
  while (count < steps.size(0) && is_zero_step(steps, count)) ++count;
  return count;
}

std::int64_t trailing_zero_steps(const Tensor& steps) {
  std::int64_t count = 0;
  while (count < steps.size(0) && is_zero_step(steps, steps.size(0) - 1 - count)) ++count;
  return count;
}

Tensor columns(const Tensor& steps, std::int64_t begin, std::int64_t end) {
  const std::int64_t rows = steps.size(0), width = steps.size(1);
  if (begin == 0 && end == width) return steps;
  Tensor part = Tensor::empty({rows, end - begin});
  float* out = part.mutable_span<float>().data();
  const float* in = steps.span<float>().data();
  for (std::int64_t i = 0; i < rows; ++i) {
    out = std::copy(in + i * width + begin, in + i * width + end, out);
  }
  return part;
}

Tensor join_steps(const Tensor& first, const Tensor& second) {
  if (first.size(0) == 0) return second;
  if (second.size(0) == 0) return first;
  if (first.size(1) != second.size(1)) {
    fail(ErrorKind::data, "context and punchline", "have {} and {} columns", first.size(1),
         second.size(1));
  }
  Tensor joined = Tensor::empty({first.size(0) + second.size(0), first.size(1)});
  std::memcpy(joined.mutable_raw(), first.raw(), first.bytes());
  std::memcpy(joined.mutable_raw() + first.bytes(), second.raw(), second.bytes());
  return joined;
}

void within(const std::string& where, const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::data) throw;
    throw Error(ErrorKind::data, where, error.what());
  }
}

void Builder::count_elements(std::int64_t elements) {
  elements_ += static_cast<std::size_t>(elements);
  // An element takes at least a byte in an honest file; a hostile one refers to the same array many
  // times.
  constexpr std::size_t kSlack = 1 << 20;
  if (input_bytes_ > 0 && elements_ > 8 * input_bytes_ + kSlack) {
    fail(ErrorKind::data, "features", "more than {} numbers come out of a file of {} bytes",
         elements_, input_bytes_);
  }
}

Tensor Builder::finite(const std::string& feature, const Tensor& values) {
  Tensor result = values.dtype() == DType::f32 ? values.clone() : values.to(DType::f32);
  for (float& value : result.mutable_span<float>()) {
    if (std::isfinite(value)) continue;
    value = 0;
    ++report_.replaced[feature];
  }
  return result;
}

Tensor Builder::from_lists(const pickle::Value& value) {
  const auto outer = value.items();
  const auto size = std::ssize(outer);
  const bool nested =
      !outer.empty() && (outer[0].is_sequence() || outer[0].kind() == pickle::Kind::array);
  if (!nested) {
    count_elements(size);
    Tensor vector = Tensor::empty({size});
    std::ranges::transform(
        outer, vector.mutable_span<float>().data(),
        [](const pickle::Value& number) { return static_cast<float>(number.number()); });
    return vector;
  }
  std::vector<float> values;
  std::int64_t width = -1;
  for (const pickle::Value& row : outer) {
    const bool is_array = row.kind() == pickle::Kind::array;
    if (is_array) count_elements(row.array().shape.numel());
    const Tensor numbers = is_array ? row.array().tensor(DType::f32) : from_lists(row);
    if (numbers.rank() != 1 || (width >= 0 && numbers.numel() != width)) {
      fail(ErrorKind::data, "list of numbers", "a row {} after rows of {}",
           numbers.shape().to_string(), width);
    }
    width = numbers.numel();
    const auto row_values = numbers.span<float>();
    values.insert(values.end(), row_values.begin(), row_values.end());
  }
  return Tensor::from(values, {size, width});
}

Tensor Builder::read(const std::string& feature, const pickle::Array& array) {
  count_elements(array.shape.numel());
  return finite(feature, array.tensor(DType::f32));
}

Tensor Builder::read(const std::string& feature, const pickle::Value& value) {
  if (value.kind() == pickle::Kind::array) return read(feature, value.array());
  return finite(feature, from_lists(value));
}

Tensor Builder::trim(const std::string& feature, const Tensor& steps, std::int64_t begin,
                     std::int64_t end) {
  report_.trimmed[feature] += steps.size(0) - (end - begin);
  return steps.slice(begin, end);
}

std::int32_t Builder::word_id(const std::string& word) {
  return index_of(word, word_index_, vocabulary_);
}

void Builder::add_feature(const std::string& name, const Tensor& values, const std::string& id) {
  FeatureRows& rows = features_[name];
  const bool vector = values.rank() == 1;
  if (!vector && values.rank() != 2) {
    fail(ErrorKind::data, name, "must be [steps, width] or [width], found {}",
         values.shape().to_string());
  }
  if (values.numel() == 0) return;
  const std::int64_t width = values.size(-1);
  if (rows.width == 0) {
    rows.width = width;
    rows.dense = vector;
  }
  if (rows.width != width || rows.dense != vector) {
    fail(ErrorKind::data, name, "has {} columns in sample '{}', {} before", width, id, rows.width);
  }
  const auto span = values.span<float>();
  rows.values.insert(rows.values.end(), span.begin(), span.end());
}

void Builder::add_tokens(const std::string& name, const std::vector<std::int32_t>& ids) {
  auto& rows = tokens_[name];
  rows.ids.insert(rows.ids.end(), ids.begin(), ids.end());
}

void Builder::add(Sample sample) {
  const auto has_rows = [](const auto& map) {
    return std::ranges::any_of(map, [](const auto& entry) {
      if constexpr (requires { entry.second.numel(); })
        return entry.second.numel() > 0;
      else
        return !entry.second.empty();
    });
  };
  if (!has_rows(sample.features) && !has_rows(sample.words) && !has_rows(sample.token_ids) &&
      !(sample.features.empty() && sample.words.empty() && sample.token_ids.empty())) {
    report_.dropped.push_back(sample.id);
    return;
  }
  for (const auto& [name, values] : sample.features) add_feature(name, values, sample.id);
  for (const auto& [name, ids] : sample.token_ids) add_tokens(name, ids);
  for (const auto& [name, words] : sample.words) {
    std::vector<std::int32_t> ids;
    for (const std::string& word : words) ids.push_back(word_id(word));
    add_tokens(name, ids);
  }
  const std::size_t index = ids_.size();
  for (auto& [name, rows] : features_) {  // names may appear late: earlier samples then lack them
    const std::int64_t end = rows.width == 0 ? 0 : std::ssize(rows.values) / rows.width;
    rows.offsets.resize(index + 1, 0);
    rows.offsets.push_back(end);
  }
  for (auto& [name, rows] : tokens_) {
    rows.offsets.resize(index + 1, 0);
    rows.offsets.push_back(std::ssize(rows.ids));
  }
  for (const auto& [name, value] : sample.labels) {
    auto& values = labels_[name].values;
    if (values.size() != index || !std::isfinite(value)) {
      fail(ErrorKind::data, fmt::format("label '{}'", name),
           "is missing or not finite before or at sample '{}'", sample.id);
    }
    values.push_back(value);
  }
  const std::int32_t copies = id_count_[sample.id]++;
  if (copies == 1)
    note(fmt::format("the id '{}' occurs more than once; later ones are numbered", sample.id));
  ids_.push_back(copies == 0 ? sample.id : fmt::format("{}#{}", sample.id, copies + 1));
  texts_.push_back(std::move(sample.text));
  parts_.push_back(sample.part);
  if (!sample.group.empty()) groups_.push_back(index_of(sample.group, group_index_, group_names_));
  ++report_.samples[std::string(name_of(sample.part))];
}

void Builder::set_label(const std::string& name, LabelKind kind, double minimum, double maximum) {
  auto& rows = labels_[name];
  rows.kind = kind;
  rows.minimum = minimum;
  rows.maximum = maximum;
}

void Builder::set_regression(const std::string& name, double limit) {
  for (const double value : labels_[name].values) limit = std::max(limit, std::abs(value));
  set_label(name, LabelKind::regression, -limit, limit);
}

Label Builder::finish_label(const std::string& name, const LabelRows& rows) const {
  if (rows.values.size() != ids_.size()) {
    fail(ErrorKind::data, fmt::format("label '{}'", name), "{} of {} samples have it",
         rows.values.size(), ids_.size());
  }
  const auto count = static_cast<std::int64_t>(rows.values.size());
  Label label{{}, rows.kind, rows.minimum, rows.maximum};
  if (rows.kind == LabelKind::regression) {
    label.values = Tensor::empty({count});
    std::ranges::transform(rows.values, label.values.mutable_span<float>().data(),
                           [](double value) { return static_cast<float>(value); });
    return label;
  }
  label.values = Tensor::empty({count}, DType::i32);
  auto* out = label.values.mutable_span<std::int32_t>().data();
  for (const double value : rows.values) {
    if (value != std::floor(value) || value < rows.minimum || value > rows.maximum) {
      fail(ErrorKind::data, fmt::format("label '{}'", name), "the class {} is not one of {}..{}",
           value, rows.minimum, rows.maximum);
    }
    *out++ = static_cast<std::int32_t>(value);
  }
  return label;
}

Dataset Builder::finish() {
  if (ids_.empty()) fail(ErrorKind::data, "samples", "there are none");
  const auto count = static_cast<std::int64_t>(ids_.size());
  Dataset dataset;
  for (auto& [name, rows] : features_) {
    if (rows.width == 0) {
      note(fmt::format("no sample has any {}", name));
      continue;
    }
    const std::int64_t steps = std::ssize(rows.values) / rows.width;
    const bool dense = rows.dense && steps == count;
    dataset.features[name] = {Tensor::from(rows.values, {steps, rows.width}),
                              dense ? Tensor() : as_tensor(rows.offsets)};
    std::vector<float>().swap(rows.values);
  }
  for (const auto& [name, rows] : tokens_) {
    dataset.tokens[name] = {as_tensor(rows.ids), as_tensor(rows.offsets)};
  }
  for (const auto& [name, rows] : labels_) dataset.labels[name] = finish_label(name, rows);
  dataset.splits["given"] = as_tensor(parts_);
  if (groups_.size() == ids_.size()) {
    dataset.group = as_tensor(groups_);
    dataset.group_names = std::move(group_names_);
  }
  if (std::ranges::any_of(texts_, [](const std::string& text) { return !text.empty(); })) {
    dataset.texts = std::move(texts_);
  }
  dataset.ids = std::move(ids_);
  dataset.vocabulary = std::move(vocabulary_);
  return dataset;
}

}  // namespace cmir::import
