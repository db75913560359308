#include "kernels/invariance/coral.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/outputs_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;
using Values = std::vector<double>;

template <class T>
class CoralKernelTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(CoralKernelTest, Scalars);

/// Environments of these sizes; by labels, the positions run backwards.
struct Problem {
  Shared<std::int64_t> offsets;
  Shared<std::int32_t> order;
  std::vector<std::vector<std::int64_t>> used;  // the rows of each environment that has some
  EnvironmentRows rows;

  Problem(const std::vector<std::int64_t>& sizes, bool by_labels) {
    offsets.push_back(0);
    for (const std::int64_t size : sizes) offsets.push_back(offsets.back() + size);
    const std::int64_t count = offsets.back();
    for (std::int64_t k = 0; k < count; ++k) {
      order.push_back(static_cast<std::int32_t>(by_labels ? count - 1 - k : k));
    }
    for (std::size_t e = 0; e < sizes.size(); ++e) {
      if (sizes[e] > 0)
        used.emplace_back(order.begin() + offsets[e], order.begin() + offsets[e + 1]);
    }
    rows = {offsets.data(), by_labels ? order.data() : nullptr,
            static_cast<std::int64_t>(sizes.size()), count};
  }
};

struct Moments {
  Values mean, covariance;

  Moments(const Values& x, std::int64_t d, const std::vector<std::int64_t>& of)
      : mean(d), covariance(d * d) {
    const auto n = static_cast<double>(of.size());
    for (const std::int64_t i : of) {
      for (std::int64_t j = 0; j < d; ++j) mean[j] += x[i * d + j] / n;
    }
    for (const std::int64_t i : of) {
      for (std::int64_t j = 0; j < d; ++j) {
        for (std::int64_t k = 0; k < d; ++k) {
          covariance[j * d + k] +=
              (x[i * d + j] - mean[j]) * (x[i * d + k] - mean[k]) / std::max(1.0, n - 1);
        }
      }
    }
  }
};

struct Expected {
  double value = 0;
  Values derivatives;
};

/// Each pair of environments, and the gradient from each pair's differences.
Expected all_pairs(const Values& x, std::int64_t d, const Problem& p, double v, double w) {
  Expected out{0, Values(x.size())};
  const auto count = static_cast<double>(p.used.size());
  const double pairs = count * (count - 1) / 2;
  std::vector<Moments> moments;
  for (const auto& of : p.used) moments.emplace_back(x, d, of);
  for (std::size_t a = 0; a < p.used.size(); ++a) {
    const auto n = static_cast<double>(p.used[a].size());
    Values by_covariance(d * d);
    for (std::size_t b = 0; b < p.used.size(); ++b) {
      if (a == b) continue;
      for (std::int64_t j = 0; j < d; ++j) {
        const double difference = moments[a].mean[j] - moments[b].mean[j];
        out.value += v / pairs * difference * difference / 2;  // a pair is met twice
        for (const std::int64_t i : p.used[a]) {
          out.derivatives[i * d + j] += 2 * v / pairs * difference / n;
        }
      }
      for (std::int64_t jk = 0; jk < d * d; ++jk) {
        const double difference = moments[a].covariance[jk] - moments[b].covariance[jk];
        out.value += w / pairs * difference * difference / 2;
        by_covariance[jk] += 2 * w / pairs * difference;
      }
    }
    for (const std::int64_t i : p.used[a]) {
      for (std::int64_t jk = 0; jk < d * d; ++jk) {  // symmetric: once for j and once for k
        out.derivatives[i * d + jk / d] += 2 * by_covariance[jk] *
                                           (x[i * d + jk % d] - moments[a].mean[jk % d]) /
                                           std::max(1.0, n - 1);
      }
    }
  }
  return out;
}

template <class T>
void compare_rows(const Problem& p, const Values& fill, std::int64_t width, double v, double w,
                  const std::string& what) {
  const std::int64_t n = p.rows.rows, environments = p.rows.environments;
  Guarded<T> x(fill), products(Coral<T>::products_size(test_device(), n, environments, width)),
      value(1), only(1), derivatives(n * width);
  Guarded<double> scratch(Coral<T>::workspace(environments, width));
  Coral<T> a{x.data(),          p.rows, width, v, w, products.data(), scratch.data(), value.data(),
             derivatives.data()};
  run(test_device(), a);
  a.value = only.data();
  a.derivatives = nullptr;
  run(test_device(), a);
  const Expected expected = all_pairs(x.to_vector(), width, p, v, w);
  double largest = 1e-30;
  for (const double d : expected.derivatives) largest = std::max(largest, std::abs(d));
  expect_close(value, {expected.value}, std::abs(expected.value) + 1e-30, 64, what);
  expect_close(derivatives, expected.derivatives, largest, 64, what);
  EXPECT_EQ(value.bits(), only.bits()) << what;
}

template <class T>
void compare(const std::vector<std::int64_t>& sizes, std::int64_t width, bool by_labels, double v,
             double w, double magnitude = 1, double shift = 0) {
  const Problem p(sizes, by_labels);
  Values fill = normals(p.rows.rows * width, 1, magnitude);
  for (double& element : fill) element += shift;
  compare_rows<T>(p, fill, width, v, w,
                  fmt::format("{} rows, {} environments, width {}, labels {}, weights {} {}, "
                              "magnitude {}, shift {}",
                              p.rows.rows, sizes.size(), width, by_labels, v, w, magnitude, shift));
}

TYPED_TEST(CoralKernelTest, MatchesAllPairsWrittenOut) {
  for_each_variant<TypeParam>([] {
    for (const std::int64_t width : {1, 3, 31, 33, 70}) {
      for (const bool by_labels : {false, true}) {
        for (const std::vector<std::int64_t>& sizes :
             {std::vector<std::int64_t>{1}, {1, 2}, {0, 5, 7, 0, 3}, {33, 31}, {70, 1, 40}}) {
          compare<TypeParam>(sizes, width, by_labels, 0.7, 0.3);
        }
        compare<TypeParam>({9, 5}, width, by_labels, 0, 0.3);
        compare<TypeParam>({9, 5}, width, by_labels, 0.7, 0);
      }
    }
  });
}

TYPED_TEST(CoralKernelTest, LargeSmallAndFarRows) {
  using T = TypeParam;
  for_each_variant<T>([] {
    compare<T>({7, 9}, 5, true, 1, 1, 1e8);
    compare<T>({7, 9}, 5, true, 1, 1, 1e-6);
    compare<T>({7, 9}, 5, true, 1, 1, 1,
               std::is_same_v<T, float> ? 1e5 : 10);  // far from the origin
  });
}

/// A first row, or every row the more the later it comes, far from the mean: what moments about the
/// first row, or about the first few, would lose to cancellation.
TYPED_TEST(CoralKernelTest, RowsFarFromTheMeanAndMeansThatMoveAreExact) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const bool by_labels : {false, true}) {
      const Problem p({500, 300}, by_labels);
      const std::int64_t width = 3, n = p.rows.rows;
      const Values rows = normals(n * width, 1);
      Values far = rows, moving = rows;
      for (std::int64_t j = 0; j < width; ++j) far[p.rows.row(0) * width + j] += 1e3;
      for (std::int64_t k = 0; k < n; ++k) {
        for (std::int64_t j = 0; j < width; ++j) {
          moving[p.rows.row(k) * width + j] += 0.1 * static_cast<double>(k);
        }
      }
      compare_rows<T>(p, far, width, 0.7, 0.3, "a far first row");
      compare_rows<T>(p, moving, width, 0.7, 0.3, "a moving mean");
    }
  });
}

TYPED_TEST(CoralKernelTest, NothingToCompareIsZeroAndNaNGivesNaN) {
  using T = TypeParam;
  for_each_variant<T>([] {
    const auto value_of = [](const std::vector<std::int64_t>& sizes, double element, T last) {
      const Problem p(sizes, true);
      const std::int64_t n = p.rows.rows, environments = p.rows.environments;
      Guarded<T> x(Values(n, element)),
          products(Coral<T>::products_size(test_device(), n, environments, 1)), value(1),
          derivatives(n);
      if (n > 0) x[n - 1] = last;
      Guarded<double> scratch(Coral<T>::workspace(environments, 1));
      run(test_device(), Coral<T>{x.data(), p.rows, 1, 1, 1, products.data(), scratch.data(),
                                  value.data(), derivatives.data()});
      for (const T d : derivatives.bits()) EXPECT_TRUE(value[0] != 0 || d == 0);
      return static_cast<double>(value[0]);
    };
    EXPECT_EQ(value_of({0, 0}, 1, 1), 0);
    EXPECT_EQ(value_of({0, 5}, 1, 2), 0);
    EXPECT_EQ(value_of({3, 3}, 0.5, 0.5), 0);
    EXPECT_TRUE(std::isnan(value_of({3, 3}, 1, std::numeric_limits<T>::quiet_NaN())));
  });
}

TEST(CoralKernel, SameBitsForAnyThreadCountAndSchedule) {
  expect_same_bits<float>([] {
    const Problem p({70, 1, 50}, true);
    const std::int64_t width = 37, n = p.rows.rows;
    Guarded<float> x(normals(n * width, 1)),
        products(Coral<float>::products_size(test_device(), n, 3, width)), value(1),
        derivatives(n * width);
    Guarded<double> scratch(Coral<float>::workspace(3, width));
    run(test_device(), Coral<float>{x.data(), p.rows, width, 1, 1, products.data(), scratch.data(),
                                    value.data(), derivatives.data()});
    return joined(value, derivatives);
  });
}

}  // namespace
}  // namespace cmir::kernels
