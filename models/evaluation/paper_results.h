// Published results as data, to be printed beside our own: every result table of the CmIR paper
// (Mai and Han, ACL 2026, arXiv 2604.18460), and the published figures for the features of
// `mosi_utt`.
#pragma once

#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cmir {

/// One row: a model on a data set, or one point of a sweep.
struct PublishedRow {
  std::string dataset;  ///< name of the configuration: mosi, mosei, mosi_ood, ch_sims_v2, ur_funny,
                        ///< mustard, mosi_utt_a, ...
  std::string table;    ///< what was studied; see published()
  std::string source;   ///< where it is printed: "CmIR, Table 1"
  std::string model;
  std::string
      variable;  ///< what a sweep varies, by its configuration key ("environments"), else empty
  double at =
      std::numeric_limits<double>::quiet_NaN();  ///< its value; NaN in a sweep's row of averages
  /// Names and units as in compute_metrics(); besides "environment_MSE", "parameters_millions",
  /// "GFLOPs". A figure that is not printed is left out.
  std::vector<std::pair<std::string, double>> metrics;

  /// A reference of our own, which nobody published.
  bool computed_here() const { return source.starts_with("computed here"); }
  /// The metric, or NaN when the row has none of that name.
  double at_metric(std::string_view name) const;
};

/// The rows in the order of the source. Tables, as far as a data set has them:
/// - main: Tables 1 to 3, Fig. 4; mosi_utt: the figures that its features' users report
/// - noise: Table 4, Gaussian in training and test; noise_ood: Table 4, Laplace and erasing at
/// test; `at` is the noise rate
/// - ablation: Table 5
/// - lambda_invariance, lambda_decorrelation, lambda_reconstruction, environments: Fig. 5;
/// noise_intensity: Table 12
/// - invariance: Table 8; size: Table 9; significance: Table 10 (p values); probing: Table 11
/// An unknown data set or table is an Error that lists those there are.
std::vector<PublishedRow> published(std::string_view dataset, std::string_view table);

bool has_published(std::string_view dataset, std::string_view table);
std::vector<std::string> published_datasets();
/// The tables of a data set; empty for an unknown one.
std::vector<std::string> published_tables(std::string_view dataset);

}  // namespace cmir
