#include "models/data/synthetic.h"

#include <array>
#include <cmath>
#include <numeric>

#include "data_test.h"
#include "models/data/container.h"

namespace cmir::test {
namespace {

using testing::HasSubstr;
using Matrix = std::vector<std::vector<double>>;

/// One row per sample: each named tensor's row, or for a ragged feature the mean over its steps.
Matrix design(const Dataset& d, const std::vector<std::string>& features,
              const std::vector<std::string>& extras = {}) {
  Matrix rows(static_cast<std::size_t>(d.size()), std::vector<double>{1});
  for (std::int64_t s = 0; s < d.size(); ++s) {
    for (const auto& name : features) {
      const Feature& f = d.feature(name);
      const std::int64_t first = f.ragged() ? f.offsets.data<std::int64_t>()[s] : s,
                         width = f.width();
      for (std::int64_t c = 0; c < width; ++c) {
        double sum = 0;
        for (std::int64_t r = first; r < first + f.length(s); ++r)
          sum += f.values.data<float>()[r * width + c];
        rows[s].push_back(sum / static_cast<double>(f.length(s)));
      }
    }
    for (const auto& name : extras) {
      const Tensor& t = d.extras.at(name);
      for (std::int64_t c = 0; c < t.shape().width(); ++c)
        rows[s].push_back(t.data<float>()[s * t.shape().width() + c]);
    }
  }
  return rows;
}

/// Least squares with a small ridge, by Gaussian elimination of the normal equations.
std::vector<double> least_squares(const Matrix& x, const std::vector<double>& y,
                                  const std::vector<std::int64_t>& rows) {
  const std::size_t k = x[0].size();
  Matrix a(k, std::vector<double>(k + 1, 0));
  for (const auto s : rows) {
    for (std::size_t i = 0; i < k; ++i) {
      for (std::size_t j = 0; j < k; ++j) a[i][j] += x[s][i] * x[s][j];
      a[i][k] += x[s][i] * y[s];
    }
  }
  for (std::size_t i = 0; i < k; ++i) a[i][i] += 1e-3;
  for (std::size_t i = 0; i < k; ++i) {  // positive definite: no pivoting
    for (std::size_t r = i + 1; r < k; ++r) {
      const double factor = a[r][i] / a[i][i];
      for (std::size_t c = i; c <= k; ++c) a[r][c] -= factor * a[i][c];
    }
  }
  std::vector<double> w(k);
  for (std::size_t i = k; i-- > 0;) {
    w[i] = a[i][k];
    for (std::size_t c = i + 1; c < k; ++c) w[i] -= a[i][c] * w[c];
    w[i] /= a[i][i];
  }
  return w;
}

double correlation(const Matrix& x, const std::vector<double>& w, const std::vector<double>& y,
                   const std::vector<std::int64_t>& rows) {
  double sp = 0, sy = 0, spp = 0, syy = 0, spy = 0;
  for (const auto s : rows) {
    const double p = std::inner_product(w.begin(), w.end(), x[s].begin(), 0.0);
    sp += p, sy += y[s], spp += p * p, syy += y[s] * y[s], spy += p * y[s];
  }
  const auto n = static_cast<double>(rows.size());
  return (n * spy - sp * sy) / std::sqrt((n * spp - sp * sp) * (n * syy - sy * sy));
}

struct Scores {
  double iid, ood;
};

/// A linear probe trained on the training part: Pearson correlation on test and test_ood.
Scores probe(const Dataset& d, const Matrix& x) {
  const auto y = d.label("label").values.to_vector();
  const Split split = resolve_split(d, "split");
  const auto w = least_squares(x, y, split.train);
  return {correlation(x, w, y, split.test), correlation(x, w, y, split.test_ood)};
}

TEST(Synthetic, ALinearProbeFallsOutOfDistributionAndTheTrueFactorsDoNot) {
  for (const std::string variant : {"", ",kind=sequence", ",label=binary", ",spurious=0"}) {
    const std::string text = "synthetic:n=2000,seed=1,widths=16" + variant;
    const Dataset d = open_dataset(text);
    const Scores all = probe(d, design(d, {"text", "audio", "video"}));
    const Scores truth = probe(
        d,
        design(d, {}, {"truth.invariant.text", "truth.invariant.audio", "truth.invariant.video"}));
    const Scores spurious = probe(
        d, design(d, {}, {"truth.spurious.text", "truth.spurious.audio", "truth.spurious.video"}));
    fmt::print(
        "{:42} all features {:.3f} IID {:.3f} OOD; invariant factors {:.3f} {:.3f}; spurious "
        "factors {:.3f} {:.3f}\n",
        text, all.iid, all.ood, truth.iid, truth.ood, spurious.iid, spurious.ood);
    if (text.ends_with("spurious=0")) {
      EXPECT_GT(all.ood, 0.8);
      EXPECT_NEAR(all.iid, all.ood, 0.05);
      continue;
    }
    EXPECT_GT(all.iid, 0.75);
    EXPECT_LT(all.ood, 0.3);
    EXPECT_GT(truth.ood, 0.7);
    EXPECT_NEAR(truth.iid, truth.ood, 0.05);
    EXPECT_GT(spurious.iid, 0.7);
    EXPECT_LT(spurious.ood, -0.7);
  }
}

TEST(Synthetic, FollowsTheCausalModel) {
  const Dataset d = open_dataset(
      "synthetic:n=8000,seed=5,modalities=1,widths=2,environments=3,spurious=0.8,spread=0.5,ood=-0."
      "6,label_"
      "noise=0.4");
  const auto y = d.extras.at("truth.y").to_vector();
  const auto e = d.extras.at("environment").to_vector();
  const auto z = d.extras.at("truth.spurious.text").to_vector();
  const auto inv = design(d, {}, {"truth.invariant.text"});
  const double expected[] = {0.8, 0.6, 0.4, -0.6};
  for (int environment = 0; environment < 4; ++environment) {
    std::vector<std::int64_t> rows;
    for (std::int64_t s = 0; s < d.size(); ++s) {
      if (e[s] == environment) rows.push_back(s);
    }
    ASSERT_GT(rows.size(), 1500U);
    const double tolerance = 4 / std::sqrt(static_cast<double>(rows.size()));
    Matrix spurious;
    for (std::int64_t s = 0; s < d.size(); ++s) spurious.push_back({z[2 * s]});
    EXPECT_NEAR(correlation(spurious, {1}, y, rows), expected[environment], tolerance);
    // P(Y | Z_inv) is the same everywhere: regression within the environment gives the same weights
    // and the same residual.
    const auto w = least_squares(inv, y, rows);
    double norm = 0, residual = 0;
    for (std::size_t i = 1; i < w.size(); ++i) norm += w[i] * w[i];
    for (const auto s : rows)
      residual += std::pow(y[s] - std::inner_product(w.begin(), w.end(), inv[s].begin(), 0.0), 2);
    EXPECT_NEAR(norm, 1 - 0.16, 2 * tolerance);
    EXPECT_NEAR(residual / static_cast<double>(rows.size()), 0.16, tolerance);
  }
  const Split split = resolve_split(d, "");
  EXPECT_EQ(split.train.size(), 4000U);
  EXPECT_EQ(split.valid.size(), 800U);
  EXPECT_EQ(split.test.size(), 1600U);
  EXPECT_EQ(split.test_ood.size(), 1600U);
  for (const auto s : split.test_ood) ASSERT_EQ(e[s], 3);
}

TEST(Synthetic, SequencesHaveTheirTrueLengths) {
  Dataset d = open_dataset(
      "synthetic:n=500,names=a/b,kind=sequence/vector,widths=7/"
      "5,min_length=2,max_length=4,label=multiclass,classes=5");
  EXPECT_TRUE(validate(d).ok());
  EXPECT_TRUE(d.feature("a").ragged());
  EXPECT_EQ(d.feature("a").width(), 7);
  EXPECT_EQ(d.feature("b").values.shape(), (Shape{500, 5}));
  std::array<int, 8> lengths{};
  for (std::int64_t s = 0; s < 500; ++s)
    ++lengths.at(static_cast<std::size_t>(d.feature("a").length(s)));
  EXPECT_EQ(lengths[2] + lengths[3] + lengths[4], 500);
  for (const int length : {2, 3, 4}) EXPECT_NEAR(lengths[length], 167, 45);
  std::array<int, 5> classes{};
  for (const double c : d.label("label").values.to_vector())
    ++classes.at(static_cast<std::size_t>(c));
  for (const int count : classes) EXPECT_NEAR(count, 100, 40);
  EXPECT_EQ(d.label("label").outputs(), 5);
}

TEST(Synthetic, TheSameOptionsGiveTheSameBits) {
  const std::string text = "synthetic:n=300,seed=9,kind=sequence";
  EXPECT_EQ(content_checksum(open_dataset(text)), content_checksum(open_dataset(text)));
  EXPECT_NE(content_checksum(open_dataset(text)),
            content_checksum(open_dataset("synthetic:n=300,seed=10,kind=sequence")));
  SyntheticOptions options;
  EXPECT_EQ(content_checksum(make_synthetic(options)), content_checksum(open_dataset("synthetic")));
  const Dataset none = open_dataset("synthetic:n=100,spurious_factors=0");
  EXPECT_EQ(none.extras.at("truth.spurious.text").shape(), (Shape{100, 0}));
}

TEST(Synthetic, RefusesBadDescriptions) {
  const auto message = [](const std::string& text) {
    return error_of([&] { open_dataset("synthetic:" + text); });
  };
  EXPECT_THAT(message("spuriuos=1"),
              HasSubstr("there is no key \"spuriuos\"; did you mean \"spurious\"?"));
  EXPECT_THAT(message("n=abc"), HasSubstr("n needs a number, got \"abc\""));
  EXPECT_THAT(message("n=100x"), HasSubstr("n needs a number"));
  EXPECT_THAT(message("n"), HasSubstr("needs key=value, got \"n\""));
  EXPECT_THAT(message(""), HasSubstr("needs key=value"));
  EXPECT_THAT(message("n=100,n=200"), HasSubstr("n is given twice"));
  EXPECT_THAT(message("n=1"), HasSubstr("n must be in 10"));
  EXPECT_THAT(message("spurious=1.5"), HasSubstr("spurious must be in -1..1, got 1.5"));
  EXPECT_THAT(message("spurious=nan"), HasSubstr("spurious must be in"));
  EXPECT_THAT(message("modalities=0"), HasSubstr("modalities must be 1..64"));
  EXPECT_THAT(message("names=a/a"), HasSubstr("modality names must be distinct"));
  EXPECT_THAT(message("widths=1/2"), HasSubstr("widths lists 2 entries for 3 modalities"));
  EXPECT_THAT(message("kind=tensor"), HasSubstr("kind must be vector or sequence"));
  EXPECT_THAT(message("label=ordinal"), HasSubstr("label must be"));
  EXPECT_THAT(message("min_length=9,max_length=3"), HasSubstr("max_length must be in 9"));
}

}  // namespace
}  // namespace cmir::test
