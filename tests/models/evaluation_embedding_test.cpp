#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "core/philox.h"
#include "models/evaluation/embedding.h"

namespace cmir {
namespace {

double normal(std::int64_t i, std::uint64_t seed) {
  return RandomStream{seed}.normal(static_cast<std::uint64_t>(i));
}

/// `clusters` clusters in turn, 12 deviations apart in d dimensions.
Tensor clustered(std::int64_t n, std::int64_t d, std::int64_t clusters) {
  std::vector<double> x;
  for (std::int64_t i = 0; i < n * d; ++i) x.push_back(normal(i, 5));
  for (std::int64_t r = 0; r < n; ++r) x[static_cast<std::size_t>(r * d + r % clusters)] += 12;
  return Tensor::from(x, {n, d});
}

/// Percent of samples whose nearest neighbour is of the same cluster.
double purity(const Tensor& points, std::int64_t clusters) {
  const auto y = points.span<double>();
  const std::int64_t n = points.size(0);
  std::int64_t pure = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    std::int64_t nearest = -1;
    double best = INFINITY;
    for (std::int64_t j = 0; j < n; ++j) {
      const double distance = std::hypot(y[2 * i] - y[2 * j], y[2 * i + 1] - y[2 * j + 1]);
      if (j != i && distance < best) {
        best = distance;
        nearest = j;
      }
    }
    pure += nearest >= 0 && nearest % clusters == i % clusters;
  }
  return 100.0 * static_cast<double>(pure) / static_cast<double>(n);
}

TEST(Pca, RecoversKnownAxes) {
  // Deviations 5 and 2 along two orthogonal directions of R^4, 0.01 elsewhere.
  const double first[4] = {0.5, 0.5, 0.5, 0.5}, second[4] = {0.5, -0.5, 0.5, -0.5};
  const std::int64_t n = 500;
  std::vector<double> x;
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t c = 0; c < 4; ++c) {
      x.push_back(7 + 5 * normal(i, 1) * first[c] + 2 * normal(i, 2) * second[c] +
                  0.01 * normal(4 * i + c, 3));
    }
  }
  const Tensor scores = pca(Tensor::from(x, {n, 4}));
  double mean = 0, cross = 0, error0 = 0, error1 = 0;
  const auto y = scores.span<double>();
  double m0 = 0, m1 = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    m0 += 5 * normal(i, 1) / n;
    m1 += 2 * normal(i, 2) / n;
  }
  // The sample's own axes are turned by its correlation, of order 1 / sqrt(n); so compare with that
  // room.
  for (std::int64_t i = 0; i < n; ++i) {
    mean += y[2 * i] / n;
    cross += y[2 * i] * y[2 * i + 1] / n;
    error0 += std::pow(std::abs(y[2 * i]) - std::abs(5 * normal(i, 1) - m0), 2) / n;
    error1 += std::pow(std::abs(y[2 * i + 1]) - std::abs(2 * normal(i, 2) - m1), 2) / n;
  }
  EXPECT_NEAR(mean, 0, 1e-9);
  EXPECT_NEAR(cross, 0, 1e-9);
  EXPECT_LT(error0, 0.05);
  EXPECT_LT(error1, 0.2);
}

TEST(Pca, OfADiagonalCovarianceIsExact) {
  const Tensor x = Tensor::from({3.0, 0.0, -3.0, 0.0, 0.0, 1.0, 0.0, -1.0}, {4, 2});
  EXPECT_EQ(pca(x).to_vector(), x.to_vector());
  EXPECT_EQ(pca(x, 1).to_vector(), (std::vector<double>{3, -3, 0, 0}));
  // Total variance is kept when all components are asked for.
  const Tensor wide = clustered(40, 23, 3);
  const auto scores = pca(wide, 23).to_vector();
  const auto raw = wide.to_vector();
  double kept = 0, total = 0;
  for (std::size_t c = 0; c < 23; ++c) {
    double column = 0;
    for (std::size_t r = 0; r < 40; ++r) column += raw[r * 23 + c] / 40;
    for (std::size_t r = 0; r < 40; ++r) total += std::pow(raw[r * 23 + c] - column, 2);
  }
  for (const double score : scores) kept += score * score;
  EXPECT_NEAR(kept / total, 1, 1e-12);
}

TEST(Tsne, SeparatesClusters) {
  const Tensor points = tsne(clustered(150, 10, 3), {.perplexity = 15, .iterations = 400});
  EXPECT_EQ(points.shape(), Shape({150, 2}));
  EXPECT_EQ(purity(points, 3), 100);
  // Far apart compared with their own size.
  const auto y = points.span<double>();
  double within = 0, between = 0;
  for (std::int64_t i = 0; i < 150; ++i) {
    for (std::int64_t j = 0; j < i; ++j) {
      const double distance = std::hypot(y[2 * i] - y[2 * j], y[2 * i + 1] - y[2 * j + 1]);
      (i % 3 == j % 3 ? within : between) += distance / (i % 3 == j % 3 ? 3675 : 7500);
    }
  }
  EXPECT_GT(between, 2.5 * within);
}

TEST(Embedding, SameBitsForOneAndTwoThreads) {
  const Tensor x = clustered(70, 40, 4).to(DType::f32);
  const int before = thread_count();
  set_thread_count(1);
  const auto pca_one = pca(x).to_vector(),
             tsne_one = tsne(x, {.iterations = 60, .seed = 3}).to_vector();
  set_thread_count(2);
  EXPECT_EQ(pca(x).to_vector(), pca_one);
  EXPECT_EQ(tsne(x, {.iterations = 60, .seed = 3}).to_vector(), tsne_one);
  EXPECT_NE(tsne(x, {.iterations = 60, .seed = 4}).to_vector(), tsne_one);
  set_thread_count(before);
}

TEST(Embedding, DegenerateDataStaysFinite) {
  for (const Tensor& x :
       {Tensor::full({6, 3}, 2.0, DType::f64), Tensor::from({1.0, 2.0, 3.0, 50.0}, {4, 1}),
        Tensor::from({1e150, 0.0, 0.0, 1e150, 1.0, 1.0, 0.0, 0.0}, {4, 2})}) {
    for (const double value : tsne(x, {.iterations = 50}).to_vector())
      EXPECT_TRUE(std::isfinite(value));
  }
}

TEST(Embedding, BadInputIsAnError) {
  EXPECT_THROW(pca(Tensor()), Error);
  EXPECT_THROW(pca(Tensor::zeros({1, 3})), Error);
  EXPECT_THROW(pca(Tensor::zeros({5, 3}), 4), Error);
  EXPECT_THROW(pca(Tensor::from<double>({1.0, NAN, 2.0, 3.0}, {2, 2})), Error);
  EXPECT_THROW(tsne(Tensor::zeros({3, 3})), Error);
  EXPECT_THROW(tsne(Tensor::zeros({8, 3}), {.perplexity = 0.5}), Error);
  EXPECT_THROW(tsne(Tensor::zeros({8, 3}, DType::i32)), Error);
}

}  // namespace
}  // namespace cmir
