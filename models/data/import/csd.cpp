// CMU-SDK computational sequences: a folder of .csd files, one of them with the labels, or the
// label file alone. As the SDK's align() does, features are averaged over intervals: of each word
// when a root holds words, else of the whole segment.
#include <algorithm>
#include <cctype>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>

#include "models/data/import/hdf5.h"
#include "models/data/import/source.h"

namespace cmir::import {
namespace {

using hdf5::Clip;
using hdf5::ComputationalSequence;

bool matches(const Source& source) { return !source.files(".csd").empty(); }

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

bool holds_labels(const ComputationalSequence& sequence) {
  return lower(sequence.root()).find("label") != std::string::npos;
}

/// "text", "audio", "video" for the SDK's usual roots, else the root's own name.
std::string feature_name(const std::string& root) {
  const std::string name = lower(root);
  constexpr std::pair<const char*, const char*> kKnown[] = {
      {"vector", "text"},     {"glove", "text"},  {"covarep", "audio"},
      {"opensmile", "audio"}, {"facet", "video"}, {"openface", "video"}};
  for (const auto& [part, feature] : kKnown) {
    if (name.find(part) != std::string::npos) return feature;
  }
  return root;
}

struct Interval {
  double begin, end;
};

Interval interval_of(const Clip& clip, std::int64_t i) {
  const double* row = clip.intervals.span<double>().data() + 2 * i;
  return {row[0], row[1]};
}

bool overlaps(Interval a, Interval b) { return a.begin < b.end && b.begin < a.end; }

/// The mean of the rows whose intervals overlap `during`, weighted by the overlap's length; nothing
/// when there are none.
bool add_mean(const Clip& clip, Interval during, std::vector<float>& out) {
  const std::int64_t width = clip.features.size(1);
  std::vector<double> sum(width, 0);
  double weight = 0;
  for (std::int64_t i = 0; i < clip.features.size(0); ++i) {
    const Interval at = interval_of(clip, i);
    if (!overlaps(at, during)) continue;
    const double share = std::min(at.end, during.end) - std::max(at.begin, during.begin);
    const float* row = clip.features.span<float>().data() + i * width;
    for (std::int64_t k = 0; k < width; ++k) sum[k] += share * static_cast<double>(row[k]);
    weight += share;
  }
  for (std::int64_t k = 0; k < width; ++k) {
    out.push_back(weight > 0 ? static_cast<float>(sum[k] / weight) : 0.F);
  }
  return weight > 0;
}

/// The split of the JSON file's set that knows most of the videos.
std::unordered_map<std::string, Part> read_folds(const std::filesystem::path& file,
                                                 const std::set<std::string>& videos) {
  std::ifstream stream(file);
  if (!stream) fail(ErrorKind::io, file.string(), "cannot be read");
  const auto sets = nlohmann::json::parse(stream, nullptr, false);
  std::unordered_map<std::string, Part> best;
  std::size_t best_known = 0;
  for (const auto& [name, set] : sets.items()) {
    std::unordered_map<std::string, Part> parts;
    std::size_t known = 0;
    if (!set.is_object()) continue;
    for (const auto& [key, list] : set.items()) {
      const auto part = part_of(key);
      if (!part || !list.is_array()) continue;
      for (const auto& video : list) {
        if (!video.is_string()) continue;
        parts[video] = *part;
        known += videos.contains(video);
      }
    }
    if (known > best_known) {
      best = std::move(parts);
      best_known = known;
    }
  }
  if (best.empty()) {
    fail(ErrorKind::data, file.string(),
         "no set of {{\"train\": [...], \"valid\": [...], \"test\": [...]}} knows these videos");
  }
  return best;
}

struct Roots {
  std::vector<ComputationalSequence> features;
  std::unique_ptr<ComputationalSequence> labels, words;
};

Roots open_roots(const Source& source) {
  Roots roots;
  for (const auto& file : source.files(".csd")) {
    ComputationalSequence sequence(file);
    if (holds_labels(sequence)) {
      if (roots.labels) fail(ErrorKind::data, file.string(), "a second file with labels");
      roots.labels = std::make_unique<ComputationalSequence>(std::move(sequence));
    } else if (!sequence.ids().empty() && !sequence.clip(sequence.ids()[0]).words.empty()) {
      roots.words = std::make_unique<ComputationalSequence>(std::move(sequence));
    } else {
      roots.features.push_back(std::move(sequence));
    }
  }
  if (!roots.labels)
    fail(ErrorKind::data, "folder", "no .csd file has 'label' in the name of its root");
  return roots;
}

bool has(const ComputationalSequence& sequence, const std::string& id) {
  return std::ranges::binary_search(sequence.ids(), id);
}

void convert(const Source& source, const ConvertOptions& options, Builder& builder, Dataset& card) {
  const Roots roots = open_roots(source);
  const auto& videos = roots.labels->ids();
  std::unordered_map<std::string, Part> parts;
  if (roots.features.empty() && !roots.words) {
    builder.note("labels alone: there are no features to train on");
  }
  if (options.folds.empty()) {
    builder.note("no folds were given: all segments are in train");
  } else {
    parts = read_folds(options.folds, {videos.begin(), videos.end()});
  }
  for (const std::string& video : videos) {
    const Clip labels = roots.labels->clip(video);
    if (!labels.features.defined() || labels.features.size(1) < 1)
      fail(ErrorKind::data, video, "its labels are no numbers");
    const Tensor values = labels.features.to(DType::f64);
    std::map<std::string, Clip> clips;
    for (const auto& root : roots.features) {
      if (!has(root, video)) continue;
      Clip& clip = clips[feature_name(root.root())] = root.clip(video);
      clip.features = clip.features.to(DType::f32);
    }
    const Clip words = roots.words && has(*roots.words, video) ? roots.words->clip(video) : Clip();
    for (std::int64_t k = 0; k < values.size(0); ++k) {
      const Interval segment = interval_of(labels, k);
      Sample sample;
      sample.id = fmt::format("{}[{}]", video, k);
      sample.group = video;
      if (!options.folds.empty()) sample.part = parts.contains(video) ? parts.at(video) : kNoPart;
      sample.labels["reg"] = values.span<double>()[k * values.size(1)];
      std::vector<Interval> steps;
      for (std::size_t i = 0; i < words.words.size(); ++i) {
        const Interval at = interval_of(words, static_cast<std::int64_t>(i));
        if (words.words[i] == "sp" || !overlaps(at, segment)) continue;  // sp is a pause
        sample.words["tok"].push_back(words.words[i]);
        sample.text += (sample.text.empty() ? "" : " ") + words.words[i];
        steps.push_back(at);
      }
      for (const auto& [name, clip] : clips) {
        std::vector<float> rows;
        if (!roots.words) {
          if (add_mean(clip, segment, rows))
            sample.features[name] = builder.finite(name, Tensor::from(rows, {std::ssize(rows)}));
          continue;
        }
        for (const Interval at : steps) add_mean(clip, at, rows);
        const std::int64_t width = clip.features.size(1);
        sample.features[name] =
            builder.finite(name, Tensor::from(rows, {std::ssize(steps), width}));
      }
      builder.add(std::move(sample));
    }
  }
  builder.set_regression("reg", 3);
  card.task = "sentiment from -3 to 3 per segment";
}

}  // namespace

const Family kCsd{"csd",
                  "a CMU-SDK label file (.csd), or a folder of them with the labels among them",
                  &matches, &convert};

}  // namespace cmir::import
