#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/error.h"
#include "models/evaluation/metrics.h"

namespace cmir {
namespace {

using testing::HasSubstr;
using Values = std::vector<double>;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Metrics, AgreeWithNumpyFormulas) {
  std::ifstream file(CMIR_SOURCE_DIR "/tests/fixtures/metrics.json");
  const auto cases = nlohmann::json::parse(file);
  ASSERT_EQ(cases.size(), 12U);
  for (const auto& entry : cases) {
    const auto family = parse_metric_family(entry["family"].get<std::string>());
    const auto metrics =
        compute_metrics(family, entry["predictions"].get<Values>(), entry["labels"].get<Values>());
    ASSERT_EQ(metrics.values.size(), entry["metrics"].size());
    for (const auto& [name, expected] : entry["metrics"].items()) {
      EXPECT_NEAR(metrics.at(name), expected.get<double>(), 1e-9)
          << entry["family"] << " " << name << " of " << entry["labels"].size();
    }
  }
}

TEST(Metrics, SentimentByHand) {
  // Rounded half to even: 2.5 -> 2, -0.5 -> 0, 3.7 clips to 3, 0.4 -> 0; labels 2, 0, 3, -1.
  const Values predictions{2.5, -0.5, 3.7, 0.4}, labels{2, 0, 3, -1};
  const auto m = compute_metrics(MetricFamily::sentiment3, predictions, labels);
  EXPECT_DOUBLE_EQ(m.at("Acc7"), 75);
  EXPECT_DOUBLE_EQ(m.at("Acc5"), 75);
  EXPECT_DOUBLE_EQ(m.at("Acc2"), 100.0 * 2 / 3);  // without sample 1; the last is wrong
  EXPECT_DOUBLE_EQ(m.at("Acc2_neutral"), 50);     // sample 1: -0.5 < 0 against 0 >= 0
  // Without neutral: class positive has F1 2*2/(3+2) and support 2, class negative 0 and support 1.
  EXPECT_DOUBLE_EQ(m.at("F1"), 100.0 * (2 * 0.8) / 3);
  EXPECT_DOUBLE_EQ(m.at("MAE"), (0.5 + 0.5 + 0.7 + 1.4) / 4);
  EXPECT_FALSE(m.values[6].higher_is_better);
  EXPECT_TRUE(m.values[7].higher_is_better);
}

TEST(Metrics, SentimentVariantsOfOtherCode) {
  const Values predictions{0, 1, -1, 2}, labels{-1, 1, 0, 2};
  EXPECT_DOUBLE_EQ(compute_metrics(MetricFamily::sentiment3, predictions, labels).at("Acc2"),
                   100.0 * 2 / 3);
  const auto mmsa =
      compute_metrics(MetricFamily::sentiment3, predictions, labels, {.strict_positive = true});
  EXPECT_DOUBLE_EQ(mmsa.at("Acc2"), 100);  // 0 counts as negative
  EXPECT_DOUBLE_EQ(mmsa.at("Acc2_neutral"), 50);
  const auto mib = compute_metrics(MetricFamily::sentiment3, predictions, labels,
                                   {.regression_without_neutral = true});
  EXPECT_DOUBLE_EQ(mib.at("MAE"), 1.0 / 3);
}

TEST(Metrics, SimsCutsAreClosedOnTheRight) {
  const Values cuts{-0.7F, -0.1F, 0.0F, 0.1F, 0.7F, 5.0F};
  const Values classes{-0.9F, -0.4F, -0.05F, 0.0F, 0.4F, 0.9F};  // the same five-way class
  const auto m = compute_metrics(MetricFamily::sims, cuts, classes);
  EXPECT_DOUBLE_EQ(m.at("Acc5"), 100);
  EXPECT_DOUBLE_EQ(m.at("Acc3"), 100);
  EXPECT_DOUBLE_EQ(m.at("Acc2"), 500.0 / 6);  // 0.1 is positive where 0 is not
  EXPECT_NEAR(m.at("MAE"), (0.2 + 0.3 + 0.05 + 0.1 + 0.3 + 0.1) / 6, 1e-7);  // 5 clips to 1
}

TEST(Metrics, BinaryFromLogitsAndProbabilities) {
  const Values labels{1, 1, 0, 0};
  EXPECT_DOUBLE_EQ(compute_metrics(MetricFamily::binary, Values{2, 0.3, -1, 0.2}, labels).at("Acc"),
                   75);
  EXPECT_DOUBLE_EQ(compute_metrics(MetricFamily::binary, Values{0.9, 0.3, 0.1, 0.2}, labels,
                                   {.probabilities = true})
                       .at("Acc"),
                   75);
}

TEST(Metrics, MacroF1CountsEveryClassAlike) {
  // Predicted 0 0 1 2 against 0 0 0 1: F1 of class 0 = 0.8, class 1 = 0, class 2 = 0 (never a
  // label).
  const Values scores{1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1};
  const auto m = compute_metrics(MetricFamily::multiclass, scores, Values{0, 0, 0, 1});
  EXPECT_DOUBLE_EQ(m.at("Acc"), 50);
  EXPECT_DOUBLE_EQ(m.at("F1"), 60);
  EXPECT_DOUBLE_EQ(m.at("F1_macro"), 80.0 / 3);
}

TEST(Metrics, UndefinedValuesAreNaN) {
  const auto m = compute_metrics(MetricFamily::sentiment3, Values{0.1, 0.1, 0.1}, Values{0, 0, 0});
  EXPECT_TRUE(std::isnan(m.at("Acc2")));
  EXPECT_TRUE(std::isnan(m.at("F1")));
  EXPECT_TRUE(std::isnan(m.at("Corr")));
  EXPECT_DOUBLE_EQ(m.at("Acc7"), 100);
  EXPECT_TRUE(std::isnan(pearson(Values{0.1, 0.1, 0.1}, Values{1, 2, 3})));
  EXPECT_DOUBLE_EQ(pearson(Values{1, 2, 3}, Values{-2, -4, -6}), -1);
}

TEST(Metrics, BadInputIsAnError) {
  const auto sentiment = [](const Values& p, const Values& y) {
    return error_of([&] { compute_metrics(MetricFamily::sentiment3, p, y); });
  };
  EXPECT_THAT(sentiment({}, {}), HasSubstr("no samples"));
  EXPECT_THAT(sentiment({1}, {1, 2}), HasSubstr("1 predictions do not fit 2 labels"));
  EXPECT_THAT(sentiment({1, 2, kNaN}, {1, 2, 3}), HasSubstr("prediction 2 is nan"));
  EXPECT_THAT(sentiment({1, 2}, {1, -INFINITY}), HasSubstr("label 1 is -inf"));
  EXPECT_THAT(error_of([] { compute_metrics(MetricFamily::binary, Values{1}, Values{2}); }),
              HasSubstr("label 2 of sample 0 is no class: labels must be whole numbers 0..1"));
  EXPECT_THAT(error_of([] { compute_metrics(MetricFamily::multiclass, Values{1}, Values{0}); }),
              HasSubstr("a score per class"));
  EXPECT_THAT(error_of([] { parse_metric_family("mosi"); }), HasSubstr("sentiment3, sims, binary"));
  EXPECT_THAT(error_of([] {
                MetricValues{{{"Acc", 1.0}}}.at("MAE");
              }),
              HasSubstr("there are: Acc"));
  EXPECT_EQ(name_of(MetricFamily::sims), "sims");
}

}  // namespace
}  // namespace cmir
