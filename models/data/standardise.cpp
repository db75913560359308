#include "models/data/standardise.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace cmir {
namespace {

constexpr std::string_view kOp = "standardise";
constexpr std::string_view kPrefix = "standardise.";
constexpr double kConstant = 1e-6;  // spread below this part of the magnitude: a constant column

bool all_zero(const float* row, std::int64_t width) {
  return std::all_of(row, row + width, [](float x) { return x == 0; });
}

/// Calls row(pointer, sample) for each time step of the samples but for dense rows of zeros, which
/// are absent.
template <class F>
void for_rows(const Feature& feature, std::span<const std::int64_t> samples, F&& row) {
  const float* x = feature.values.span<float>().data();
  for (const auto s : samples) {
    const std::int64_t begin = feature.ragged() ? feature.offsets.span<std::int64_t>()[s] : s;
    if (!feature.ragged() && all_zero(x + s * feature.width(), feature.width())) continue;
    for (std::int64_t r = begin; r < begin + feature.length(s); ++r)
      row(x + r * feature.width(), s);
  }
}

struct Statistics {
  std::vector<double> mean, deviation, minimum, maximum;
};

Statistics statistics(const Dataset& dataset, const std::string& name, const Feature& feature,
                      std::span<const std::int64_t> samples) {
  const auto width = static_cast<std::size_t>(feature.width());
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  Statistics s{std::vector<double>(width, 0), std::vector<double>(width, 0),
               std::vector<double>(width, kInfinity), std::vector<double>(width, -kInfinity)};
  std::int64_t rows = 0;
  for_rows(feature, samples, [&](const float* x, std::int64_t sample) {
    ++rows;
    for (std::size_t c = 0; c < width; ++c) {
      if (!std::isfinite(x[c])) {
        fail(ErrorKind::data, kOp,
             "feature {} has a non-finite value in column {} of sample {}; validate the data first",
             name, c, dataset.ids[sample]);
      }
      s.mean[c] += x[c];
      s.minimum[c] = std::min<double>(s.minimum[c], x[c]);
      s.maximum[c] = std::max<double>(s.maximum[c], x[c]);
    }
  });
  if (rows == 0)
    fail(ErrorKind::data, kOp, "feature {} has no training rows to take statistics from", name);
  for (auto& mean : s.mean) mean /= static_cast<double>(rows);
  for_rows(feature, samples, [&](const float* x, std::int64_t) {
    for (std::size_t c = 0; c < width; ++c)
      s.deviation[c] += (x[c] - s.mean[c]) * (x[c] - s.mean[c]);
  });
  for (auto& deviation : s.deviation) deviation = std::sqrt(deviation / static_cast<double>(rows));
  return s;
}

}  // namespace

Standardiser Standardiser::fit(const Dataset& dataset, std::span<const std::int64_t> train,
                               std::span<const std::string> names, Scaling scaling) {
  std::vector<std::string> chosen(names.begin(), names.end());
  if (chosen.empty()) {
    for (const auto& [name, feature] : dataset.features) chosen.push_back(name);
  }
  for (const auto s : train)
    require(s >= 0 && s < dataset.size(), kOp, "sample {} is outside the {} samples of \"{}\"", s,
            dataset.size(), dataset.name);
  Standardiser result;
  for (const auto& name : chosen) {
    const Feature& feature = dataset.feature(name);
    const Statistics s = statistics(dataset, name, feature, train);
    Columns columns{Tensor::empty({feature.width()}), Tensor::empty({feature.width()})};
    for (std::int64_t c = 0; c < feature.width(); ++c) {
      const double spread =
          scaling == Scaling::standard ? s.deviation[c] : s.maximum[c] - s.minimum[c];
      const double magnitude = std::max(std::abs(s.minimum[c]), std::abs(s.maximum[c]));
      columns.shift.mutable_span<float>()[c] =
          static_cast<float>(scaling == Scaling::standard ? s.mean[c] : s.minimum[c]);
      const auto scale = static_cast<float>(spread);  // may underflow
      columns.scale.mutable_span<float>()[c] =
          spread <= kConstant * magnitude || scale == 0 ? 1.0F : scale;
    }
    result.columns_[name] = columns;
  }
  return result;
}

void Standardiser::apply(Dataset& dataset) const {
  for (const auto& [name, columns] : columns_) {
    const auto found = dataset.features.find(name);
    if (found == dataset.features.end() || found->second.width() != columns.shift.numel()) {
      fail(ErrorKind::data, kOp,
           "was fitted to feature {} of width {}; \"{}\" has {}: the data set is not the one of "
           "the model",
           name, columns.shift.numel(), dataset.name,
           found == dataset.features.end() ? "no such feature"
                                           : fmt::format("width {}", found->second.width()));
    }
    Feature& feature = found->second;
    const std::int64_t width = feature.width();
    Tensor scaled = Tensor::empty(feature.values.shape());
    const float* x = feature.values.span<float>().data();
    const float* shift = columns.shift.span<float>().data();
    const float* scale = columns.scale.span<float>().data();
    float* y = scaled.mutable_span<float>().data();
    for (std::int64_t r = 0; r < feature.values.size(0); ++r, x += width, y += width) {
      if (!feature.ragged() && all_zero(x, width)) {
        std::fill_n(y, width, 0.0F);
      } else {
        for (std::int64_t c = 0; c < width; ++c) y[c] = (x[c] - shift[c]) / scale[c];
      }
    }
    feature.values = scaled;
  }
}

std::map<std::string, Tensor> Standardiser::to_tensors() const {
  std::map<std::string, Tensor> tensors;
  for (const auto& [name, columns] : columns_) {
    tensors[fmt::format("{}{}.shift", kPrefix, name)] = columns.shift;
    tensors[fmt::format("{}{}.scale", kPrefix, name)] = columns.scale;
  }
  return tensors;
}

Standardiser Standardiser::from_tensors(const std::map<std::string, Tensor>& tensors) {
  Standardiser result;
  constexpr std::string_view kShift = ".shift";
  for (const auto& [full_name, shift] : tensors) {
    if (!full_name.starts_with(kPrefix) || !full_name.ends_with(kShift)) continue;
    const std::string stem = full_name.substr(0, full_name.size() - kShift.size());
    const auto scale = tensors.find(stem + ".scale");
    if (scale == tensors.end() || shift.rank() != 1 || shift.dtype() != DType::f32 ||
        scale->second.dtype() != DType::f32 || !(scale->second.shape() == shift.shape())) {
      fail(ErrorKind::data, kOp,
           "tensors {0}.shift and {0}.scale must both be there as f32 [width]", stem);
    }
    require_finite(shift, full_name);
    require_finite(scale->second, stem + ".scale");
    if (std::ranges::any_of(scale->second.span<float>(), [](float x) { return x <= 0; }))
      fail(ErrorKind::data, kOp, "{}.scale must be positive everywhere", stem);
    result.columns_[stem.substr(kPrefix.size())] = {shift, scale->second};
  }
  return result;
}

}  // namespace cmir
