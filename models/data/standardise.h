// Scaling of features by statistics of the training samples.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>

#include "models/data/dataset.h"

namespace cmir {

enum class Scaling {
  standard,  ///< (x - mean) / standard deviation (population)
  min_max    ///< (x - minimum) / (maximum - minimum): 0..1 on the training samples
};

/// y = (x - shift) / scale per column. The scale of a column that is constant on the training rows
/// is 1, so that it becomes 0 there; constant means a spread of at most 1e-6 of its largest
/// magnitude.
class Standardiser {
 public:
  /// Statistics over every time step of the samples `train`, in f64, rounded to f32 once. `names`:
  /// the features to scale, all when empty. Error: unknown feature, no training row, a non-finite
  /// value (the sample is named).
  static Standardiser fit(const Dataset& dataset, std::span<const std::int64_t> train,
                          std::span<const std::string> names = {},
                          Scaling scaling = Scaling::standard);

  /// Replaces the values of the fitted features by scaled copies; all-zero dense rows (absent) stay
  /// zero. Error: a fitted feature is missing or has another width.
  void apply(Dataset& dataset) const;

  /// "standardise.<feature>.shift" and ".scale", f32 [width]: to be stored with a model.
  std::map<std::string, Tensor> to_tensors() const;
  /// From tensors among which other names may occur.
  static Standardiser from_tensors(const std::map<std::string, Tensor>& tensors);

  bool empty() const { return columns_.empty(); }

 private:
  struct Columns {
    Tensor shift, scale;  // f32 [width]
  };
  std::map<std::string, Columns> columns_;
};

}  // namespace cmir
