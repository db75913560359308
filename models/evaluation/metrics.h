// The metrics that the field reports, one family per kind of label. Accuracies and F1 are in
// percent, as papers print them; MAE is in label units; Corr is in -1..1.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cmir {

enum class MetricFamily {
  sentiment3,  ///< regression, labels -3..3 (CMU-MOSI, CMU-MOSEI): Acc7 Acc5 Acc2 F1 Acc2_neutral
               ///< F1_neutral MAE Corr
  sims,        ///< regression, labels -1..1 (CH-SIMS, CH-SIMS-v2): Acc5 Acc3 Acc2 F1 MAE Corr
  binary,      ///< labels 0 and 1 (UR-FUNNY, MUStARD): Acc F1
  multiclass,  ///< labels 0..C-1: Acc F1 F1_macro
};

/// "sentiment3", "sims", "binary" or "multiclass"; any other name is an Error that lists them.
MetricFamily parse_metric_family(std::string_view name);
std::string_view name_of(MetricFamily family);

struct MetricValue {
  std::string name;
  double value =
      0;  ///< NaN where undefined: Acc2 when all samples are neutral, Corr when a side is constant
  bool higher_is_better = true;
};

/// Metrics in the order in which papers print them.
struct MetricValues {
  std::vector<MetricValue> values;

  /// The value called `name`; an unknown name is an Error that lists those there are.
  double at(std::string_view name) const;
  auto begin() const { return values.begin(); }
  auto end() const { return values.end(); }
};

/// Switches for the forms that other code uses. The defaults are the CmIR paper's.
struct MetricOptions {
  /// sentiment3: Acc2 and F1 without neutral compare pred > 0 (MMSA) instead of pred >= 0.
  bool strict_positive = false;
  /// sentiment3: MAE and Corr over the non-neutral samples only (MIB, ITHP).
  bool regression_without_neutral = false;
  /// binary: predictions are probabilities (positive above 0.5) instead of logits (positive above
  /// 0).
  bool probabilities = false;
};

/// Evaluates N samples. `labels` has N values; `predictions` has N values, or for multiclass N x C
/// scores in row-major order, C >= 2 (the class is the first largest score).
///
/// - sentiment3: Acc7 and Acc5 clip both sides to -3..3 and -2..2, then round half to even. Acc2
/// and F1 leave out samples
///   with label 0 and compare pred >= 0 with label >= 0; Acc2_neutral and F1_neutral do so over all
///   samples. MAE and Corr: all samples, not clipped. (Paper, appendix D; Acc5 as in MMSA.)
/// - sims: both sides are clipped to -1..1 first, also for MAE and Corr. Classes are right-closed
/// intervals between the cuts
///   {0}, {-0.1, 0.1} and {-0.7, -0.1, 0.1, 0.7}, compared in f32 because the labels are stored so.
///   (MMSA.)
/// - F1 is weighted by the classes' share of the labels; F1_macro is the mean over the classes that
/// occur in labels or predictions. A
///   class without true positives counts 0. (scikit-learn's definitions.)
///
/// Errors: no samples; sizes that do not fit; a non-finite value (named by its index); a binary or
/// multiclass label that is no class.
MetricValues compute_metrics(MetricFamily family, std::span<const double> predictions,
                             std::span<const double> labels, const MetricOptions& options = {});

/// Pearson's correlation in -1..1, from centred sums; NaN when either side is constant. Sizes must
/// agree.
double pearson(std::span<const double> a, std::span<const double> b);

}  // namespace cmir
