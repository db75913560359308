#include "kernels/invariance/gaussian_mmd.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/outputs_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class GaussianMmdTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(GaussianMmdTest, Scalars);

/// Environments of these sizes; by labels, the positions run backwards.
struct Problem {
  std::vector<std::int64_t> sizes, environment;  // of a row
  Shared<std::int64_t> offsets;
  Shared<std::int32_t> order;
  EnvironmentRows rows;

  Problem(std::vector<std::int64_t> sizes_of, bool by_labels) : sizes(std::move(sizes_of)) {
    offsets.push_back(0);
    for (const std::int64_t size : sizes) offsets.push_back(offsets.back() + size);
    const std::int64_t count = offsets.back();
    environment.resize(count);
    for (std::int64_t k = 0; k < count; ++k) {
      order.push_back(static_cast<std::int32_t>(by_labels ? count - 1 - k : k));
    }
    for (std::size_t e = 0; e < sizes.size(); ++e) {
      for (std::int64_t k = offsets[e]; k < offsets[e + 1]; ++k) {
        environment[order[k]] = static_cast<std::int64_t>(e);
      }
    }
    rows = {offsets.data(), by_labels ? order.data() : nullptr,
            static_cast<std::int64_t>(sizes.size()), count};
  }
};

struct Expected {
  long double value = 0;  // of many terms that cancel
  std::vector<double> derivatives;
};

/// The means of each pair of environments over each pair of their rows.
Expected all_pairs(const std::vector<double>& x, std::int64_t width, const Problem& p,
                   const KernelBank& bank, bool unbiased) {
  Expected out{0, std::vector<double>(x.size())};
  std::vector<std::vector<std::int64_t>> used;
  for (std::size_t e = 0; e < p.sizes.size(); ++e) {
    std::vector<std::int64_t> of;
    for (std::int64_t i = 0; i < p.rows.rows; ++i) {
      if (p.environment[i] == static_cast<std::int64_t>(e)) of.push_back(i);
    }
    if (of.size() >= (unbiased ? 2U : 1U)) used.push_back(of);
  }
  const auto add_mean = [&](const auto& a, const auto& b, double factor) {
    const bool leave_out = unbiased && &a == &b;
    const double pairs =
        static_cast<double>(a.size()) * (static_cast<double>(b.size()) - (leave_out ? 1 : 0));
    for (const std::int64_t i : a) {
      for (const std::int64_t j : b) {
        if (leave_out && i == j) continue;
        double distance = 0;
        for (std::int64_t c = 0; c < width; ++c) {
          distance += (x[i * width + c] - x[j * width + c]) * (x[i * width + c] - x[j * width + c]);
        }
        for (int g = 0; g < bank.count; ++g) {
          const double k = factor / pairs * std::exp(-bank.gammas[g] * distance);
          out.value += k;
          for (std::int64_t c = 0; c < width; ++c) {
            const double slope = -2 * bank.gammas[g] * k * (x[i * width + c] - x[j * width + c]);
            out.derivatives[i * width + c] += slope;
            out.derivatives[j * width + c] -= slope;
          }
        }
      }
    }
  };
  const auto count = static_cast<double>(used.size());
  const double pairs = count * (count - 1) / 2;
  for (std::size_t a = 0; a < used.size(); ++a) {
    for (std::size_t b = a + 1; b < used.size(); ++b) {
      add_mean(used[a], used[a], 1 / pairs);
      add_mean(used[b], used[b], 1 / pairs);
      add_mean(used[a], used[b], -2 / pairs);
    }
  }
  return out;
}

const KernelBank kOne{{0.3}, 1}, kDomainBed{{0.001, 0.01, 0.1, 1, 10, 100, 1000}, 7};

template <class T>
void compare(const std::vector<std::int64_t>& sizes, std::int64_t width, bool by_labels,
             const KernelBank& bank, bool unbiased, double magnitude, double shift = 0) {
  const Problem p(sizes, by_labels);
  const std::int64_t n = p.rows.rows;
  std::vector<double> fill = normals(n * width, 1, magnitude);
  for (double& element : fill) element += shift;
  Guarded<T> x(fill), value(1), derivatives(n * width), only(1);
  Guarded<double> scratch(GaussianMmd<T>::workspace(n));
  GaussianMmd<T> a{x.data(), p.rows,         width,        bank,
                   unbiased, scratch.data(), value.data(), derivatives.data()};
  run(test_device(), a);
  a.value = only.data();
  a.derivatives = nullptr;
  run(test_device(), a);
  const Expected expected = all_pairs(x.to_vector(), width, p, bank, unbiased);
  double largest = 1e-3;
  for (const double d : expected.derivatives) largest = std::max(largest, std::abs(d));
  const auto what = fmt::format(
      "{} rows, {} environments, width {}, labels {}, {} kernels, unbiased {}, magnitude {}", n,
      sizes.size(), width, by_labels, bank.count, unbiased, magnitude);
  expect_close(value, {static_cast<double>(expected.value)}, bank.count, 4, what);
  expect_close(derivatives, expected.derivatives, largest, 64, what);
  EXPECT_EQ(value.bits(), only.bits()) << what;
}

TYPED_TEST(GaussianMmdTest, MatchesAllPairsWrittenOut) {
  for_each_variant<TypeParam>([] {
    for (const std::int64_t width : {1, 3, 31, 33, 70}) {
      for (const bool by_labels : {false, true}) {
        for (const std::vector<std::int64_t>& sizes :
             {std::vector<std::int64_t>{1}, {2, 1}, {0, 5, 7, 0, 3}, {33, 31}, {40, 1, 30}}) {
          compare<TypeParam>(sizes, width, by_labels, kOne, by_labels, 1);
          compare<TypeParam>(sizes, width, by_labels, kDomainBed, false, 1);
          compare<TypeParam>(sizes, width, by_labels, kDomainBed, true, 1);
        }
      }
    }
  });
}

TYPED_TEST(GaussianMmdTest, NearAndFarRowsAndIdenticalOnes) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const bool unbiased : {false, true}) {
      compare<T>({7, 9}, 5, true, kDomainBed, unbiased, 1e-2);
      compare<T>({7, 9}, 5, true, kDomainBed, unbiased, 1e4);      // nothing is near anything
      compare<T>({7, 9}, 5, true, kDomainBed, unbiased, 1e18);     // f32: squares overflow
      compare<T>({7, 9}, 5, true, kOne, unbiased, 0);              // all rows are one
      compare<T>({7, 9}, 5, true, kDomainBed, unbiased, 1, 1000);  // far from the origin
    }
  });
}

TYPED_TEST(GaussianMmdTest, NothingToCompareIsZeroAndNaNGivesNaN) {
  using T = TypeParam;
  for_each_variant<T>([] {
    const auto value_of = [](const std::vector<std::int64_t>& sizes, bool unbiased, T last) {
      const Problem p(sizes, true);
      const std::int64_t n = p.rows.rows;
      Guarded<T> x(normals(n, 1)), value(1), derivatives(n);
      if (n > 0) x[n - 1] = last;
      Guarded<double> scratch(GaussianMmd<T>::workspace(n));
      run(test_device(), GaussianMmd<T>{x.data(), p.rows, 1, kOne, unbiased, scratch.data(),
                                        value.data(), derivatives.data()});
      for (const T d : derivatives.bits()) EXPECT_TRUE(value[0] != 0 || d == 0);
      return static_cast<double>(value[0]);
    };
    EXPECT_EQ(value_of({0, 0}, false, 0), 0);
    EXPECT_EQ(value_of({0, 5}, false, 1), 0);
    EXPECT_EQ(value_of({1, 5, 1}, true, 1), 0);
    EXPECT_NE(value_of({1, 5, 1}, false, 1), 0);
    EXPECT_TRUE(std::isnan(value_of({3, 3}, false, std::numeric_limits<T>::quiet_NaN())));
  });
}

TEST(EnvironmentRowsTest, FindsTheEnvironmentOfAPosition) {
  const std::int64_t offsets[] = {0, 0, 2, 2, 2, 5, 6, 6};
  const EnvironmentRows rows{offsets, nullptr, 7, 6};
  const std::int64_t expected[] = {1, 1, 4, 4, 4, 5};
  for (std::int64_t k = 0; k < 6; ++k) EXPECT_EQ(rows.environment_of(k), expected[k]) << k;
  EXPECT_EQ(rows.count_with(1), 3);
  EXPECT_EQ(rows.count_with(2), 2);
}

TEST(GaussianMmdKernel, SameBitsForAnyThreadCountAndSchedule) {
  expect_same_bits<float>([] {
    const Problem p({33, 40}, true);
    const std::int64_t width = 37, n = 73;
    Guarded<float> x(normals(n * width, 1)), value(1), derivatives(n * width);
    Guarded<double> scratch(GaussianMmd<float>::workspace(n));
    run(test_device(), GaussianMmd<float>{x.data(), p.rows, width, kDomainBed, true, scratch.data(),
                                          value.data(), derivatives.data()});
    return joined(value, derivatives);
  });
}

}  // namespace
}  // namespace cmir::kernels
