#include "models/data/synthetic.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <functional>
#include <numbers>

#include "core/nearest_name.h"
#include "models/data/permutation.h"

namespace cmir {
namespace {

constexpr std::string_view kOp = "synthetic";

// ---- the text form

std::vector<std::string> split_text(std::string_view text, char divider) {
  std::vector<std::string> parts;
  while (true) {
    const auto end = text.find(divider);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

template <class T>
T parse_number(const std::string& key, const std::string& text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(error == std::errc{} && end == text.data() + text.size() && !text.empty(), kOp,
          "{} needs a number, got \"{}\"", key, text);
  return value;
}

bool parse_kind_of_modality(const std::string& text) {
  require(text == "vector" || text == "sequence", kOp,
          "kind must be vector or sequence, got \"{}\"", text);
  return text == "sequence";
}

LabelKind parse_label(const std::string& text) {
  for (const auto kind : {LabelKind::regression, LabelKind::binary, LabelKind::multiclass}) {
    if (text == name_of(kind)) return kind;
  }
  fail(ErrorKind::usage, kOp, "label must be regression, binary or multiclass, got \"{}\"", text);
}

void set_modality_count(SyntheticOptions& options, std::int64_t count) {
  require(count >= 1 && count <= 64, kOp, "modalities must be 1..64, got {}", count);
  static const std::vector<std::string> kNames{"text", "audio", "video"};
  const auto size = static_cast<std::size_t>(count);
  for (std::size_t m = options.modalities.size(); m < size; ++m)
    options.modalities.push_back(
        {m < kNames.size() ? kNames[m] : fmt::format("modality{}", m + 1)});
  options.modalities.resize(size);
}

/// One entry per modality; a single entry serves them all.
template <class F>
void for_modalities(SyntheticOptions& options, const std::string& key, const std::string& list,
                    F&& set) {
  const auto entries = split_text(list, '/');
  require(entries.size() == 1 || entries.size() == options.modalities.size(), kOp,
          "{} lists {} entries for {} modalities", key, entries.size(), options.modalities.size());
  for (std::size_t m = 0; m < options.modalities.size(); ++m)
    set(options.modalities[m], entries[entries.size() == 1 ? 0 : m]);
}

using Setters = std::map<std::string, std::function<void(const std::string&)>>;

/// The keys, but for modalities and names, which fix how many modalities the other keys speak of.
Setters setters(SyntheticOptions& o) {
  Setters set;
  const auto integer = [&set](const char* key, std::int64_t& value) {
    set[key] = [key, &value](const std::string& text) {
      value = parse_number<std::int64_t>(key, text);
    };
  };
  const auto real = [&set](const char* key, double& value) {
    set[key] = [key, &value](const std::string& text) { value = parse_number<double>(key, text); };
  };
  integer("n", o.samples);
  integer("invariant", o.invariant_factors);
  integer("spurious_factors", o.spurious_factors);
  integer("environments", o.environments);
  integer("min_length", o.min_length);
  integer("max_length", o.max_length);
  integer("classes", o.classes);
  real("spurious", o.spurious);
  real("spread", o.spread);
  real("ood", o.ood_spurious);
  real("label_noise", o.label_noise);
  real("noise", o.noise);
  real("invariant_gain", o.invariant_gain);
  real("spurious_gain", o.spurious_gain);
  set["seed"] = [&o](const std::string& text) {
    o.seed = parse_number<std::uint64_t>("seed", text);
  };
  set["label"] = [&o](const std::string& text) { o.label = parse_label(text); };
  set["widths"] = [&o](const std::string& list) {
    for_modalities(o, "widths", list, [](SyntheticModality& m, const std::string& text) {
      m.width = parse_number<std::int64_t>("widths", text);
    });
  };
  set["kind"] = [&o](const std::string& list) {
    for_modalities(o, "kind", list, [](SyntheticModality& m, const std::string& text) {
      m.sequence = parse_kind_of_modality(text);
    });
  };
  return set;
}

void check(const SyntheticOptions& o) {
  const auto in_range = [](const char* key, double value, double low, double high) {
    require(value >= low && value <= high, kOp, "{} must be in {}..{}, got {}", key, low, high,
            value);
  };
  in_range("n", static_cast<double>(o.samples), 10, 1e8);
  in_range("invariant", static_cast<double>(o.invariant_factors), 1, 1e4);
  in_range("spurious_factors", static_cast<double>(o.spurious_factors), 0, 1e4);
  in_range("environments", static_cast<double>(o.environments), 1, 1e4);
  in_range("min_length", static_cast<double>(o.min_length), 1, 1e6);
  in_range("max_length", static_cast<double>(o.max_length), static_cast<double>(o.min_length), 1e6);
  in_range("classes", static_cast<double>(o.classes), 3, 1e4);
  in_range("spurious", o.spurious, -1, 1);
  in_range("spread", o.spread, 0, 1);
  in_range("ood", o.ood_spurious, -1, 1);
  in_range("label_noise", o.label_noise, 0, 1);
  in_range("noise", o.noise, 0, 1e6);
  in_range("invariant_gain", o.invariant_gain, 0, 1e6);
  in_range("spurious_gain", o.spurious_gain, 0, 1e6);
  require(!o.modalities.empty(), kOp, "needs at least one modality");
  for (const auto& modality : o.modalities) {
    in_range("widths", static_cast<double>(modality.width), 1, 1e6);
    require(!modality.name.empty() &&
                std::ranges::count(o.modalities, modality.name, &SyntheticModality::name) == 1,
            kOp, "modality names must be distinct and not empty, got \"{}\"", modality.name);
  }
}

// ---- drawing

/// Independent streams of one data set: `place` tells apart what is drawn, `modality` for whom.
enum class Place : std::uint32_t {
  label_weights,
  mixing,
  environment,
  label_noise,
  invariant,
  spurious,
  observation,
  sample_noise,
  length,
  wave,
  split
};

RandomStream stream(const SyntheticOptions& o, Place place, std::size_t modality = 0) {
  return {o.seed, static_cast<std::uint32_t>(modality),
          static_cast<std::uint32_t>(DataSite::synthetic) + static_cast<std::uint32_t>(place)};
}

Tensor normals(const Shape& shape, const RandomStream& random, double scale = 1) {
  Tensor tensor = Tensor::empty(shape);
  auto values = tensor.mutable_span<float>();
  for (std::size_t i = 0; i < values.size();
       i += 4) {  // the values of random.normal(i), a block at a time
    const auto w = random.words(i / 4);
    const auto low = RandomStream::normal_pair(w[0], w[1]);
    const auto high = RandomStream::normal_pair(w[2], w[3]);
    const std::array four{low[0], low[1], high[0], high[1]};
    for (std::size_t j = i; j < std::min(i + 4, values.size()); ++j)
      values[j] = static_cast<float>(scale * four[j - i]);
  }
  return tensor;
}

Tensor draw_parts(const SyntheticOptions& o) {
  Tensor parts = Tensor::empty({o.samples}, DType::i32);
  const auto order = permutation(o.samples, stream(o, Place::split));
  for (std::int64_t i = 0; i < o.samples; ++i) {
    const std::int64_t tenth = i * 10 / o.samples;
    parts.mutable_span<std::int32_t>()[order[i]] = tenth < 5   ? kTrain
                                                   : tenth < 6 ? kValid
                                                   : tenth < 8 ? kTest
                                                               : kTestOod;
  }
  return parts;
}

/// Environment of each sample, and its correlation between y and the spurious factors.
std::vector<double> draw_environments(const SyntheticOptions& o, const Tensor& parts,
                                      Tensor& environment) {
  environment = Tensor::empty({o.samples}, DType::i32);
  const auto random = stream(o, Place::environment);
  std::vector<double> correlation(static_cast<std::size_t>(o.samples));
  for (std::int64_t s = 0; s < o.samples; ++s) {
    const bool turned = parts.span<std::int32_t>()[s] == kTestOod;
    const auto e =
        turned ? o.environments
               : static_cast<std::int64_t>(
                     (std::uint64_t{random.word(s)} * static_cast<std::uint64_t>(o.environments)) >>
                     32);
    environment.mutable_span<std::int32_t>()[s] = static_cast<std::int32_t>(e);
    const double weaker =
        static_cast<double>(e) / static_cast<double>(std::max<std::int64_t>(o.environments - 1, 1));
    correlation[s] = turned ? o.ood_spurious : o.spurious * (1 - o.spread * weaker);
  }
  return correlation;
}

/// y of each sample from the invariant factors of all modalities.
Tensor draw_latent_label(const SyntheticOptions& o, const std::vector<Tensor>& invariant) {
  const std::int64_t k = o.invariant_factors;
  std::vector<std::vector<double>> weights;
  double norm = 0;
  for (std::size_t m = 0; m < invariant.size(); ++m) {
    weights.push_back(normals({k}, stream(o, Place::label_weights, m)).to_vector());
    for (const double w : weights.back()) norm += w * w;
  }
  Tensor y = normals({o.samples}, stream(o, Place::label_noise), o.label_noise);
  const double gain = std::sqrt((1 - o.label_noise * o.label_noise) / norm);
  for (std::int64_t s = 0; s < o.samples; ++s) {
    double sum = 0;
    for (std::size_t m = 0; m < invariant.size(); ++m) {
      for (std::int64_t f = 0; f < k; ++f)
        sum += weights[m][f] * invariant[m].span<float>()[s * k + f];
    }
    y.mutable_span<float>()[s] += static_cast<float>(gain * sum);
  }
  return y;
}

Tensor draw_spurious(const SyntheticOptions& o, std::size_t modality, const Tensor& y,
                     const std::vector<double>& correlation) {
  Tensor z = normals({o.samples, o.spurious_factors}, stream(o, Place::spurious, modality));
  auto* values = z.mutable_span<float>().data();
  for (std::int64_t s = 0; s < o.samples; ++s) {
    const double rho = correlation[s];
    for (std::int64_t f = 0; f < o.spurious_factors; ++f) {
      float& value = values[s * o.spurious_factors + f];
      value = static_cast<float>(rho * y.span<float>()[s] + std::sqrt(1 - rho * rho) * value);
    }
  }
  return z;
}

/// What a modality shows of its factors.
Feature observe(const SyntheticOptions& o, std::size_t m, const Tensor& invariant,
                const Tensor& spurious) {
  const SyntheticModality& modality = o.modalities[m];
  const std::int64_t width = modality.width, n = o.samples;
  const std::int64_t k = o.invariant_factors, factors = k + o.spurious_factors;
  const Tensor mixing = normals({width, factors}, stream(o, Place::mixing, m),
                                1 / std::sqrt(static_cast<double>(factors)));
  const Tensor direction = normals({width}, stream(o, Place::wave, m));
  Feature feature;
  std::vector<std::int64_t> first(static_cast<std::size_t>(n) + 1, 0);
  for (std::int64_t s = 0; s < n; ++s) {
    const auto range = static_cast<std::uint64_t>(o.max_length - o.min_length + 1);
    const auto extra = (std::uint64_t{stream(o, Place::length, m).word(s)} * range) >> 32;
    first[s + 1] =
        first[s] + (modality.sequence ? o.min_length + static_cast<std::int64_t>(extra) : 1);
  }
  if (modality.sequence) feature.offsets = Tensor::from(first, {n + 1});
  feature.values = normals({first.back(), width}, stream(o, Place::observation, m), o.noise);
  const Tensor sample_noise =
      normals({n, width}, stream(o, Place::sample_noise, m), modality.sequence ? o.noise : 0);
  std::vector<double> signal(static_cast<std::size_t>(width));
  for (std::int64_t s = 0; s < n; ++s) {
    for (std::int64_t c = 0; c < width; ++c) {
      const float* a = mixing.span<float>().data() + c * factors;
      double sum = sample_noise.span<float>()[s * width + c];
      for (std::int64_t f = 0; f < k; ++f)
        sum += o.invariant_gain * a[f] * invariant.span<float>()[s * k + f];
      for (std::int64_t f = k; f < factors; ++f)
        sum += o.spurious_gain * a[f] * spurious.span<float>()[s * o.spurious_factors + f - k];
      signal[c] = sum;
    }
    const double phase = stream(o, Place::wave, m).uniform(static_cast<std::uint64_t>(width + s));
    for (std::int64_t r = first[s]; r < first[s + 1]; ++r) {
      const double time =
          static_cast<double>(r - first[s]) / static_cast<double>(first[s + 1] - first[s]);
      const double wave =
          modality.sequence ? 0.5 * std::sin(2 * std::numbers::pi * (time + phase)) : 0;
      float* x = feature.values.mutable_span<float>().data() + r * width;
      for (std::int64_t c = 0; c < width; ++c)
        x[c] += static_cast<float>(signal[c] + wave * direction.span<float>()[c]);
    }
  }
  return feature;
}

Label make_label(const SyntheticOptions& o, const Tensor& y) {
  const auto latent = y.span<float>();
  if (o.label == LabelKind::regression) {
    Label label{Tensor::empty({o.samples}), o.label, -3, 3};
    std::ranges::transform(latent, label.values.mutable_span<float>().data(),
                           [](float v) { return std::clamp(1.5F * v, -3.0F, 3.0F); });
    return label;
  }
  const std::int64_t classes = o.label == LabelKind::binary ? 2 : o.classes;
  Label label{Tensor::empty({o.samples}, DType::i32), o.label, 0, static_cast<double>(classes - 1)};
  std::ranges::transform(
      latent, label.values.mutable_span<std::int32_t>().data(), [classes](float v) {
        const double quantile =
            0.5 * std::erfc(-static_cast<double>(v) / std::numbers::sqrt2);  // of N(0, 1)
        return static_cast<std::int32_t>(std::min(
            classes - 1, static_cast<std::int64_t>(quantile * static_cast<double>(classes))));
      });
  return label;
}

}  // namespace

SyntheticOptions parse_synthetic(std::string_view text) {
  SyntheticOptions options;
  require(text.starts_with(kOp), kOp, "a description begins with \"synthetic\", got \"{}\"", text);
  text.remove_prefix(kOp.size());
  std::map<std::string, std::string> entries;
  if (text.starts_with(':')) {
    for (const auto& entry : split_text(text.substr(1), ',')) {
      const auto equals = entry.find('=');
      require(equals != std::string::npos, kOp, "needs key=value, got \"{}\"", entry);
      require(entries.emplace(entry.substr(0, equals), entry.substr(equals + 1)).second, kOp,
              "{} is given twice", entry.substr(0, equals));
    }
  }
  if (const auto count = entries.extract("modalities"))
    set_modality_count(options, parse_number<std::int64_t>("modalities", count.mapped()));
  if (const auto names = entries.extract("names")) {
    const auto list = split_text(names.mapped(), '/');
    set_modality_count(options, static_cast<std::int64_t>(list.size()));
    for (std::size_t m = 0; m < list.size(); ++m) options.modalities[m].name = list[m];
  }
  const auto set = setters(options);
  for (const auto& [key, value] : entries) {
    const auto found = set.find(key);
    if (found == set.end()) {
      std::vector<std::string> known{"modalities", "names"};
      for (const auto& [name, setter] : set) known.push_back(name);
      fail(ErrorKind::usage, kOp, "there is no key \"{}\"; did you mean \"{}\"?", key,
           nearest_name(key, known));
    }
    found->second(value);
  }
  if (!entries.contains("ood")) options.ood_spurious = -options.spurious;
  check(options);
  return options;
}

Dataset make_synthetic(const SyntheticOptions& options) {
  check(options);
  const std::int64_t n = options.samples;
  Dataset dataset;
  dataset.name = "synthetic";
  dataset.task = "Predict the label from causal factors while spurious ones turn round in test_ood";
  dataset.source = "generated (models/data/synthetic.h)";
  dataset.licence = "none needed";
  const int digits = static_cast<int>(std::to_string(n - 1).size());
  for (std::int64_t s = 0; s < n; ++s) dataset.ids.push_back(fmt::format("s{:0{}}", s, digits));

  const Tensor parts = draw_parts(options);
  const auto correlation = draw_environments(options, parts, dataset.extras["environment"]);
  std::vector<Tensor> invariant;
  for (std::size_t m = 0; m < options.modalities.size(); ++m)
    invariant.push_back(
        normals({n, options.invariant_factors}, stream(options, Place::invariant, m)));
  const Tensor y = draw_latent_label(options, invariant);
  for (std::size_t m = 0; m < options.modalities.size(); ++m) {
    const std::string& name = options.modalities[m].name;
    const Tensor spurious = draw_spurious(options, m, y, correlation);
    dataset.features[name] = observe(options, m, invariant[m], spurious);
    dataset.extras["truth.invariant." + name] = invariant[m];
    dataset.extras["truth.spurious." + name] = spurious;
  }
  dataset.extras["truth.y"] = y;
  dataset.labels["label"] = make_label(options, y);
  dataset.splits["split"] = parts;
  return dataset;
}

}  // namespace cmir
