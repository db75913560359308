#include "models/evaluation/paper_results.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <sstream>

#include "core/error.h"

namespace cmir {
namespace {

/// A table as printed. Each line of `text` is `label: figures`, "-" for a figure that is not there.
/// Without a `variable` the label is a model and the figures are its metrics. With one, the label
/// is the variable's value (or "average"), and the figures are the metrics of each of the `models`
/// in turn.
struct Block {
  const char* dataset;
  const char* table;
  const char* source;
  const char* metrics;  // separated by blanks
  const char* text;
  const char* variable = "";
  const char* models = "";  // separated by commas
};

constexpr const char* kRegression = "Acc7 Acc2 F1 MAE Corr";
constexpr const char* kNoiseModels = "TMDC,C-MIB,Multimodal Boosting,CmIR";

constexpr Block kBlocks[] = {
    {"mosi", "main", "CmIR, Table 1", kRegression,
     R"(Self-MM: 45.8 84.9 84.8 0.731 0.785
ConFEDE: 43.3 85.1 85.2 0.728 0.784
FDMER: 44.1 84.6 84.7 0.724 0.788
SuCI: 42.2 84.6 84.5 - -
C-MIB: 47.7 87.8 87.8 0.662 0.835
EMOE: 45.2 84.8 84.8 0.723 0.790
Multimodal Boosting: 49.1 88.5 88.4 0.634 0.855
ITHP: 47.7 88.5 88.5 0.663 0.856
Diffusion Bridge: 47.3 86.9 86.8 0.649 0.839
GSCon: 45.7 88.1 88.0 0.696 0.832
CmIR: 49.8 89.6 89.5 0.616 0.853)"},
    {"mosei", "main", "CmIR, Table 1", kRegression,
     R"(Self-MM: 53.0 85.2 85.2 0.540 0.763
ConFEDE: 52.7 85.7 85.6 0.538 0.772
FDMER: 54.1 86.1 85.8 0.536 0.773
SuCI: 54.6 85.8 85.7 - -
C-MIB: 52.7 86.9 86.8 0.542 0.784
EMOE: 52.5 85.0 85.0 0.542 0.760
Multimodal Boosting: 54.0 86.5 86.5 0.523 0.779
ITHP: 52.2 87.1 87.1 0.550 0.792
Diffusion Bridge: 53.1 87.1 87.0 0.531 0.800
GSCon: 50.8 87.4 87.4 0.561 0.750
CmIR: 55.1 87.8 87.7 0.513 0.793)"},
    {"ch_sims_v2", "main", "CmIR, Table 2", "Acc5 Acc3 Acc2 F1 MAE Corr",
     R"(MISA: 47.5 68.9 78.2 78.3 0.342 0.671
MAG-BERT: 49.2 70.6 77.1 77.1 0.346 0.641
Self-MM: 53.5 72.7 78.7 78.6 0.315 0.691
MMIM: 50.5 70.4 77.8 77.8 0.339 0.641
AV-MC: 52.1 73.2 80.6 80.7 0.301 0.721
KuDA: 53.1 74.3 80.2 80.1 0.289 0.741
DLF: 47.5 70.0 78.1 77.9 0.346 0.683
Diffusion Bridge: 52.5 70.7 78.6 79.0 0.323 0.677
CmIR: 56.0 75.0 81.9 82.0 0.286 0.742)"},
    {"mosi_ood", "main", "CmIR, Table 3", "Acc7 Acc2_neutral Acc2 F1_neutral F1",
     R"(CLUE: 41.8 78.8 79.9 78.8 79.9
GEAR: - 80.5 82.1 80.4 82.1
MulDeF: 42.9 79.6 81.5 79.7 81.6
Self-MM: 40.3 76.7 78.1 76.7 78.1
ITHP: 41.3 79.5 81.3 79.5 81.3
KAN-MCP: 41.8 79.3 81.5 79.1 81.4
CmIR: 48.5 83.0 84.4 83.0 84.4)"},
    {"ur_funny", "main", "CmIR, Fig. 4", "Acc",
     R"(MulT: 66.65
Self-MM: 68.77
MISA: 70.61
MMIM: 69.53
DMD: 68.70
DMD+SuCI: 70.84
AtCAF: 72.13
CmIR: 76.46)"},
    {"mustard", "main", "CmIR, Fig. 4", "Acc",
     R"(MISA: 66.18
MAG-XLNet: 76.47
MCL: 77.94
MGCL: 77.94
ITHP: 75.30
MIL: 76.30
HKT: 76.47
CmIR: 80.00)"},
    {"mosi", "noise", "CmIR, Table 4", "Acc2 MAE",
     R"(0.1: 87.4 0.748 87.8 0.670 86.7 0.678 88.1 0.615
0.2: 86.6 0.741 87.5 0.726 86.1 0.738 87.4 0.621
0.3: 86.9 0.733 86.4 0.912 86.4 0.785 87.3 0.650
0.4: 85.5 0.792 83.2 1.366 85.5 0.841 86.4 0.669
0.5: 85.0 0.912 84.9 1.660 86.1 1.172 86.9 0.685
0.6: 84.8 1.181 80.8 2.595 82.0 1.355 87.1 0.680
0.7: 84.0 1.277 82.1 3.146 84.4 1.750 86.1 0.740
average: 85.7 0.912 84.7 1.582 85.3 1.046 87.0 0.666)",
     "noise_rate", kNoiseModels},
    {"mosi", "noise_ood", "CmIR, Table 4", "Acc2 MAE",
     R"(0.1: 87.2 0.769 87.8 0.666 87.4 0.639 87.8 0.638
0.2: 86.7 0.861 87.5 0.689 87.3 0.681 88.2 0.644
0.3: 86.8 0.741 85.1 1.019 87.1 0.710 86.9 0.678
0.4: 85.2 0.772 85.6 1.303 85.3 0.900 85.8 0.663
0.5: 84.6 0.867 83.9 1.900 86.9 1.114 85.6 0.715
0.6: 83.1 0.884 86.5 2.272 85.0 1.060 87.0 0.689
0.7: 82.0 0.966 84.0 3.516 84.7 1.731 85.6 0.771
average: 85.1 0.837 85.8 1.624 86.2 0.976 86.7 0.685)",
     "noise_rate", kNoiseModels},
    {"mosei", "noise", "CmIR, Table 4", "Acc2 MAE",
     R"(0.1: 86.6 0.618 86.1 0.545 86.4 0.544 87.5 0.528
0.2: 86.2 0.593 84.5 0.582 86.6 0.557 87.2 0.522
0.3: 85.3 0.603 85.6 0.622 85.5 0.623 86.8 0.531
0.4: 84.4 0.596 84.4 0.703 85.3 0.682 86.6 0.535
0.5: 84.6 0.592 83.7 0.875 84.1 0.724 85.9 0.558
0.6: 83.8 0.602 82.4 1.054 85.4 0.924 85.8 0.548
0.7: 83.4 0.623 80.5 1.404 80.3 1.125 86.3 0.671
average: 84.9 0.604 83.9 0.826 84.8 0.740 86.6 0.556)",
     "noise_rate", kNoiseModels},
    {"mosei", "noise_ood", "CmIR, Table 4", "Acc2 MAE",
     R"(0.1: 86.4 0.613 86.9 0.564 86.1 0.561 87.1 0.523
0.2: 85.5 0.631 85.1 0.594 85.2 0.585 86.6 0.523
0.3: 85.0 0.667 85.9 0.665 85.4 0.610 86.5 0.528
0.4: 84.9 0.682 84.8 0.767 84.4 0.714 86.7 0.535
0.5: 84.3 0.751 73.1 0.768 84.4 0.763 86.3 0.563
0.6: 82.7 0.829 82.0 0.856 84.1 0.795 86.3 0.644
0.7: 81.7 0.888 86.5 2.366 85.0 1.158 85.4 0.663
average: 84.4 0.723 83.5 0.940 84.9 0.741 86.4 0.568)",
     "noise_rate", kNoiseModels},
    {"mosi", "ablation", "CmIR, Table 5", "Acc7 Acc2 MAE",
     R"(vanilla: 46.3 85.8 0.681
w/o R_inv: 45.7 86.7 0.652
w/o R_dec: 45.7 86.9 0.671
w/o R_rec: 47.7 88.1 0.623
CmIR: 49.8 89.6 0.616)"},
    {"mosi_ood", "lambda_invariance", "CmIR, Fig. 5", "Acc2",
     "1e-6: 81.0\n1e-5: 83.3\n1e-4: 82.8\n1e-3: 82.8\n1e-2: 84.4\n1e-1: 84.1\n1: 84.1",
     "lambda_invariance", "CmIR"},
    {"mosi_ood", "lambda_decorrelation", "CmIR, Fig. 5", "Acc2",
     "1e-6: 81.8\n1e-5: 82.0\n1e-4: 83.3\n1e-3: 83.9\n1e-2: 84.4\n1e-1: 83.3\n1: 82.3",
     "lambda_decorrelation", "CmIR"},
    {"mosi_ood", "lambda_reconstruction", "CmIR, Fig. 5", "Acc2",
     "1e-6: 82.6\n1e-5: 82.8\n1e-4: 82.3\n1e-3: 82.6\n1e-2: 84.4\n1e-1: 83.1\n1: 82.6",
     "lambda_reconstruction", "CmIR"},
    {"mosi_ood", "environments", "CmIR, Fig. 5", "Acc2",
     "1: 83.6\n2: 83.1\n3: 83.9\n4: 84.4\n5: 83.6\n6: 82.6\n7: 82.8\n8: 83.6\n9: 83.6\n10: 83.1",
     "environments", "CmIR"},
    {"mosi_ood", "noise_intensity", "CmIR, Table 12", "Acc7 Acc2 F1",
     R"(1e-8: 43.5 79.7 79.7
1e-7: 45.8 82.8 82.7
1e-6: 47.5 84.1 83.9
1e-5: 47.0 83.6 83.5
1e-4: 47.3 84.0 84.1
1e-3: 48.0 84.4 84.3
1e-2: 48.8 83.9 83.9
1e-1: 48.5 84.4 84.4
1: 49.0 84.6 84.6)",
     "noise_intensity", "CmIR"},
    {"mosi", "invariance", "CmIR, Table 8", kRegression,
     "unimodal predictors: 48.4 90.1 90.1 0.616 0.855\nCmIR: 49.8 89.6 89.5 0.616 0.853"},
    {"mosei", "invariance", "CmIR, Table 8", kRegression,
     "unimodal predictors: 55.2 87.4 87.3 0.523 0.781\nCmIR: 55.1 87.8 87.7 0.513 0.793"},
    {"mustard", "invariance", "CmIR, Table 8", "Acc", "unimodal predictors: 79.7\nCmIR: 80.0"},
    {"mustard", "size", "CmIR, Table 9", "Acc parameters_millions",
     "HKT: 76.47 17.10\nMCL: 77.94 13.83\nMGCL: 77.94 14.28\nCmIR: 80.00 13.44"},
    {"mosi", "size", "CmIR, Table 9", "Acc2 parameters_millions GFLOPs",
     R"(EMOE: 84.8 317.30 10.02
GSCon: 88.1 248.52 12.22
Diffusion Bridge: 86.9 185.46 11.52
CmIR: 89.6 187.51 8.95)"},
    {"mosi", "significance", "CmIR, Table 10", kRegression,
     "CmIR against ITHP, p: 0.002 0.004 0.004 4.98e-4 0.439"},
    {"mosei", "significance", "CmIR, Table 10", kRegression,
     "CmIR against ITHP, p: 3.65e-5 5.73e-4 7.78e-4 1.12e-4 0.566"},
    {"mosei", "probing", "CmIR, Table 11", "environment_MSE Acc7 Acc2 F1 MAE Corr",
     "Z_inv: 2.04 55.1 87.8 87.7 0.513 0.793\nZ_spu: 0.87 41.4 62.8 48.5 0.841 0.001"},
    // Accuracy on the 752 test segments, labels >= 0 against < 0, from the text-CNN, openSMILE and
    // 3D-CNN features of declare-lab/multimodal-deep-learning (A) or the BiLSTM states of
    // TmacMai/multimodal-fusion (B).
    {"mosi_utt_a", "main", "CMU-MultimodalSDK, standard_datasets/CMU_MOSI/README.md", "Acc F1",
     "HFFN: 80.2 80.3\nLMFN: 80.9 80.9\nARGF: 81.4 81.5"},
    {"mosi_utt_a", "main", "arXiv 1806.06228", "Acc", "CH-Fusion: 80"},
    {"mosi_utt_a", "main", "aclanthology.org/D18-1382, abstract", "Acc",
     "MMMU-BA (uses the video's other segments): 82.31"},
    {"mosi_utt_a", "main",
     "computed here: logistic regression, the best on the test part of three L2 weights", "Acc",
     "linear reference: 76.6"},
    {"mosi_utt_b", "main", "README of TmacMai/multimodal-fusion", "Acc", "HFFN: 80.45"},
    {"mosi_utt_b", "main",
     "computed here: logistic regression, the best on the test part of three L2 weights", "Acc",
     "linear reference: 79.9"},
};

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

void append_rows(std::vector<PublishedRow>& rows, const Block& block) {
  const auto names = split(block.metrics, ' ');
  const bool sweep = *block.variable != '\0';
  for (const std::string& line : split(block.text, '\n')) {
    const std::string label = line.substr(0, line.find(": "));
    const auto figures = split(line.substr(label.size() + 2), ' ');
    const auto models = sweep ? split(block.models, ',') : std::vector{label};
    if (figures.size() != models.size() * names.size()) {
      fail(ErrorKind::internal, "published", "line '{}' of {} has {} figures", line, block.source,
           figures.size());
    }
    for (std::size_t m = 0; m < models.size(); ++m) {
      PublishedRow row{.dataset = block.dataset,
                       .table = block.table,
                       .source = block.source,
                       .model = models[m],
                       .variable = block.variable};
      if (sweep && label != "average") row.at = std::strtod(label.c_str(), nullptr);
      for (std::size_t i = 0; i < names.size(); ++i) {
        const std::string& figure = figures[m * names.size() + i];
        if (figure != "-") row.metrics.emplace_back(names[i], std::strtod(figure.c_str(), nullptr));
      }
      rows.push_back(std::move(row));
    }
  }
}

void append_new(std::vector<std::string>& names, const char* name) {
  if (std::find(names.begin(), names.end(), name) == names.end()) names.emplace_back(name);
}

}  // namespace

double PublishedRow::at_metric(std::string_view name) const {
  for (const auto& [metric, value] : metrics) {
    if (metric == name) return value;
  }
  return std::numeric_limits<double>::quiet_NaN();
}

std::vector<std::string> published_datasets() {
  std::vector<std::string> names;
  for (const Block& block : kBlocks) append_new(names, block.dataset);
  return names;
}

std::vector<std::string> published_tables(std::string_view dataset) {
  std::vector<std::string> names;
  for (const Block& block : kBlocks) {
    if (block.dataset == dataset) append_new(names, block.table);
  }
  return names;
}

bool has_published(std::string_view dataset, std::string_view table) {
  return std::any_of(std::begin(kBlocks), std::end(kBlocks), [&](const Block& block) {
    return block.dataset == dataset && block.table == table;
  });
}

std::vector<PublishedRow> published(std::string_view dataset, std::string_view table) {
  std::vector<PublishedRow> rows;
  for (const Block& block : kBlocks) {
    if (block.dataset == dataset && block.table == table) append_rows(rows, block);
  }
  if (!rows.empty()) return rows;
  const auto tables = published_tables(dataset);
  if (tables.empty()) {
    fail(ErrorKind::usage, "published", "there are no results for data set '{}'; there are for: {}",
         dataset, fmt::join(published_datasets(), ", "));
  }
  fail(ErrorKind::usage, "published", "data set '{}' has no table '{}'; it has: {}", dataset, table,
       fmt::join(tables, ", "));
}

}  // namespace cmir
