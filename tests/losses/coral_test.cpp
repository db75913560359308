#include "losses/coral.h"

#include "tests/losses/loss_test.h"

namespace cmir::losses {
namespace {

using namespace testing;

template <class T>
class CoralTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(CoralTest, Scalars);

/// Mean and covariance of the rows `of`, one by one.
struct Moments {
  Values mean, covariance;

  Moments(const Values& z, std::int64_t d, const std::vector<std::int64_t>& of)
      : mean(d), covariance(d * d) {
    const auto n = static_cast<double>(of.size());
    for (const std::int64_t i : of) {
      for (std::int64_t j = 0; j < d; ++j) mean[j] += z[i * d + j] / n;
    }
    for (const std::int64_t i : of) {
      for (std::int64_t j = 0; j < d; ++j) {
        for (std::int64_t k = 0; k < d; ++k) {
          covariance[j * d + k] +=
              (z[i * d + j] - mean[j]) * (z[i * d + k] - mean[k]) / std::max(1.0, n - 1);
        }
      }
    }
  }
};

/// All pairs, written out; the gradient row by row from each pair's differences.
Evaluated naive_coral(const Values& z, std::int64_t d, const std::vector<std::int32_t>& labels,
                      std::int64_t environments, const CoralOptions& options) {
  std::vector<std::vector<std::int64_t>> used;
  for (std::int64_t e = 0; e < environments; ++e) {
    std::vector<std::int64_t> of;
    for (std::size_t i = 0; i < labels.size(); ++i) {
      if (labels[i] == e) of.push_back(static_cast<std::int64_t>(i));
    }
    if (!of.empty()) used.push_back(of);
  }
  Evaluated out{0, {Values(z.size())}};
  const auto count = static_cast<double>(used.size()), width = static_cast<double>(d);
  const double pairs = count * (count - 1) / 2;
  std::vector<Moments> moments;
  for (const auto& of : used) moments.emplace_back(z, d, of);
  for (std::size_t a = 0; a < used.size(); ++a) {
    for (std::size_t b = 0; b < used.size(); ++b) {
      if (a == b) continue;
      const auto n = static_cast<double>(used[a].size());
      for (std::int64_t j = 0; j < d; ++j) {
        const double scale = options.mean_weight / width / pairs;
        const double difference = moments[a].mean[j] - moments[b].mean[j];
        out.value += scale * difference * difference / 2;
        for (const std::int64_t i : used[a]) {
          out.gradients[0][i * d + j] += 2 * scale * difference / n;
        }
      }
      for (std::int64_t j = 0; j < d; ++j) {
        for (std::int64_t k = 0; k < d; ++k) {
          const double scale = options.covariance_weight / (width * width) / pairs;
          const double difference =
              moments[a].covariance[j * d + k] - moments[b].covariance[j * d + k];
          out.value += scale * difference * difference / 2;
          for (const std::int64_t i : used[a]) {  // symmetric: once for j and once for k
            out.gradients[0][i * d + j] +=
                4 * scale * difference * (z[i * d + k] - moments[a].mean[k]) / std::max(1.0, n - 1);
          }
        }
      }
    }
  }
  return out;
}

TYPED_TEST(CoralTest, AgreesWithAllPairsWrittenOut) {
  using T = TypeParam;
  for_each_isa([] {
    for (const auto& [n, d, environments] :
         {std::tuple<int, int, int>{1, 1, 1}, {2, 3, 2}, {7, 5, 4}, {40, 17, 3}, {150, 33, 5}}) {
      std::vector<std::int32_t> labels(n);
      Values values = normals(n * d, 1);
      for (int i = 0; i < n; ++i) {
        labels[i] = i * i % std::max(1, environments - 1);
        for (int j = 0; j < d; ++j) {
          values[i * d + j] = values[i * d + j] * (1 + labels[i]) + 0.3 * labels[i] * (j % 3);
        }
      }
      const auto groups = EnvironmentGroups::by_labels(Tensor::from(labels, {n}), environments);
      const Tensor z = tensor<T>(values, {n, d});
      for (const CoralOptions options : {CoralOptions{}, {0, 0.25}, {2, 0}}) {
        expect_agrees<T>(evaluate({z}, [&](auto x) { return coral(x[0], groups, options); }),
                         naive_coral(z.to_vector(), d, labels, environments, options), 64,
                         fmt::format("[{}, {}] environments {} weights {} {}", n, d, environments,
                                     options.mean_weight, options.covariance_weight));
      }
    }
  });
}

/// Means far from 0 cost no digits: rows are centred before they are multiplied.
TYPED_TEST(CoralTest, AShiftOfAllRowsChangesNothing) {
  using T = TypeParam;
  Values values(12 * 3);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i * i % 7);
  const auto groups = EnvironmentGroups::blocks(1, 6);
  const auto near = coral(Variable(tensor<T>(values, {12, 3})), groups).value().item();
  for (double& x : values) x += 8192;
  const auto far = coral(Variable(tensor<T>(values, {12, 3})), groups).value().item();
  EXPECT_NEAR(far, near, 1e-5 * near);
}

TYPED_TEST(CoralTest, IdenticalRowsEqualEnvironmentsAndNaN) {
  using T = TypeParam;
  const auto groups = EnvironmentGroups::blocks(1, 3);
  const Tensor same = tensor<T>(Values(12, 0.7), {6, 2});
  for (const double x : flatten(evaluate({same}, [&](auto z) { return coral(z[0], groups); }))) {
    EXPECT_NEAR(x, 0, 1e-6);
  }
  const Tensor repeated = tensor<T>({1, 2, 3, 5, -1, 0, 1, 2, 3, 5, -1, 0}, {6, 2});
  EXPECT_EQ(flatten(evaluate({repeated}, [&](auto z) { return coral(z[0], groups); })), Values(13));
  Values bad(12, 1.0);
  bad[7] = kNaN;
  EXPECT_TRUE(std::isnan(coral(Variable(tensor<T>(bad, {6, 2})), groups).value().item()));
}

TYPED_TEST(CoralTest, SameBitsForAnyThreadCount) {
  const Tensor z = tensor<TypeParam>(normals(301 * 65, 1), {301, 65});
  const auto groups = EnvironmentGroups::by_offsets(Tensor::from<std::int64_t>({0, 100, 301}, {3}));
  expect_same_bits_for_any_thread_count(
      [&] { return flatten(evaluate({z}, [&](auto x) { return coral(x[0], groups); })); });
}

TEST(CoralErrors, NameTheShapes) {
  const auto groups = EnvironmentGroups::blocks(1, 2);
  expect_usage_error([&] { coral(Variable(Tensor::zeros({4})), groups); },
                     "needs [samples, features]");
  expect_usage_error([&] { coral(Variable(Tensor::zeros({5, 2})), groups); }, "have 4 samples");
  expect_usage_error(
      [&] {
        coral(Variable(Tensor::zeros({4, 2})), groups, {-1, 1});
      },
      "not be negative, got -1");
}

}  // namespace
}  // namespace cmir::losses
