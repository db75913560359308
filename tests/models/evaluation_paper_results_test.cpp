#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>

#include "core/error.h"
#include "models/evaluation/paper_results.h"

namespace cmir {
namespace {

using testing::HasSubstr;

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

const PublishedRow& find(const std::vector<PublishedRow>& rows, const std::string& model,
                         double at = NAN) {
  for (const auto& row : rows) {
    if (row.model == model && (row.at == at || (std::isnan(row.at) && std::isnan(at)))) return row;
  }
  throw std::out_of_range(model);
}

TEST(PaperResults, EveryTableParses) {
  std::size_t rows = 0;
  for (const auto& dataset : published_datasets()) {
    for (const auto& table : published_tables(dataset)) {
      EXPECT_TRUE(has_published(dataset, table));
      for (const auto& row : published(dataset, table)) {
        ++rows;
        EXPECT_EQ(row.dataset, dataset);
        EXPECT_EQ(row.table, table);
        EXPECT_FALSE(row.model.empty() || row.source.empty() || row.metrics.empty());
        for (const auto& [name, value] : row.metrics) {
          EXPECT_TRUE(value > 0 && value < 400) << row.model << " " << name << " " << value;
          if (name.starts_with("Acc") && table != "significance") {
            EXPECT_GT(value, 40) << row.model;
          }
        }
      }
    }
  }
  EXPECT_EQ(rows, 11U + 11 + 9 + 7 + 8 + 8 + 4 * 32 + 5 + 3 * 7 + 10 + 9 + 6 + 8 + 2 + 2 + 6 + 2);
}

TEST(PaperResults, SomeValues) {
  EXPECT_EQ(find(published("mosi", "main"), "CmIR").at_metric("Acc7"), 49.8);
  EXPECT_EQ(find(published("mosei", "main"), "ITHP").at_metric("Corr"), 0.792);
  EXPECT_EQ(find(published("mosi_ood", "main"), "CmIR").at_metric("Acc2_neutral"), 83.0);
  EXPECT_TRUE(std::isnan(find(published("mosi_ood", "main"), "GEAR").at_metric("Acc7")));
  EXPECT_EQ(find(published("mosi_ood", "main"), "GEAR").at_metric("F1"), 82.1);
  EXPECT_EQ(find(published("mosi", "noise_ood"), "C-MIB", 0.7).at_metric("MAE"), 3.516);
  EXPECT_EQ(find(published("mosei", "noise"), "CmIR", 0.5).at_metric("Acc2"), 85.9);
  EXPECT_EQ(find(published("mosi_ood", "environments"), "CmIR", 4).at_metric("Acc2"), 84.4);
  EXPECT_EQ(find(published("mosi_ood", "lambda_decorrelation"), "CmIR", 1e-6).at_metric("Acc2"),
            81.8);
  EXPECT_EQ(find(published("mosi_ood", "noise_intensity"), "CmIR", 1e-8).at_metric("Acc7"), 43.5);
  EXPECT_EQ(find(published("mosei", "probing"), "Z_spu").at_metric("environment_MSE"), 0.87);
  EXPECT_EQ(find(published("mosi", "significance"), "CmIR against ITHP, p").at_metric("MAE"),
            4.98e-4);
  EXPECT_EQ(find(published("mosi_utt_b", "main"), "HFFN").at_metric("Acc"), 80.45);
  EXPECT_EQ(find(published("mosi_utt_a", "main"), "ARGF").at_metric("F1"), 81.5);
  EXPECT_EQ(published("mosi", "main").front().source, "CmIR, Table 1");
}

TEST(PaperResults, AveragesOfTheNoiseTableAreTheMeans) {
  for (const char* dataset : {"mosi", "mosei"}) {
    for (const char* table : {"noise", "noise_ood"}) {
      std::map<std::string, double> sums;
      for (const auto& row : published(dataset, table)) {
        for (const auto& [name, value] : row.metrics) {
          double& sum = sums[row.model + name];
          if (std::isnan(row.at)) {
            EXPECT_NEAR(sum / 7, value, name == "MAE" ? 0.002 : 0.1)
                << dataset << table << row.model << name;
          } else {
            sum += value;
          }
        }
      }
    }
  }
}

TEST(PaperResults, UnknownNamesSayWhichExist) {
  EXPECT_THAT(error_of([] { published("iemocap", "main"); }), HasSubstr("mosi, mosei, ch_sims_v2"));
  EXPECT_THAT(error_of([] { published("mosei", "ablation"); }),
              HasSubstr("main, noise, noise_ood, invariance, significance, probing"));
  EXPECT_FALSE(has_published("mosei", "ablation"));
  EXPECT_TRUE(published_tables("iemocap").empty());
}

}  // namespace
}  // namespace cmir
