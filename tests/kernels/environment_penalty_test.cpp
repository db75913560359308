#include "kernels/invariance/environment_penalty.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/outputs_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;
using Kind = EnvironmentPenaltyKind;

template <class T>
class EnvironmentPenaltyTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(EnvironmentPenaltyTest, Scalars);

constexpr Kind kKinds[] = {Kind::squared_means, Kind::halves_product, Kind::variance,
                           Kind::weighted_maximum};

struct Expected {
  double value = 0;
  std::vector<double> derivatives;
};

/// The definitions, over lists of samples; the derivatives by the chain rule through lists of
/// means.
Expected written_out(Kind kind, const std::vector<double>& values,
                     const std::vector<std::vector<std::int64_t>>& environments,
                     double minimum_weight, bool average) {
  Expected out{0, std::vector<double>(values.size())};
  const auto mean = [&](const std::vector<std::int64_t>& of) {
    double sum = 0;
    for (const std::int64_t i : of) sum += values[i];
    return sum / static_cast<double>(of.size());
  };
  const auto add = [&](const std::vector<std::int64_t>& of, double by_mean) {
    for (const std::int64_t i : of) {
      out.derivatives[i] += by_mean / static_cast<double>(of.size());
    }
  };
  std::vector<std::vector<std::int64_t>> used;
  for (const auto& of : environments) {
    if (of.size() >= (kind == Kind::halves_product ? 2U : 1U)) used.push_back(of);
  }
  std::vector<double> means;
  double mean_of_means = 0;
  for (const auto& of : used) means.push_back(mean(of));
  for (const double m : means) mean_of_means += m / static_cast<double>(used.size());
  const auto count = static_cast<double>(used.size());
  const double share = average ? 1 / count : 1;
  for (std::size_t e = 0; e < used.size(); ++e) {
    if (kind == Kind::squared_means) {
      out.value += share * means[e] * means[e];
      add(used[e], share * 2 * means[e]);
    } else if (kind == Kind::variance) {
      out.value += (means[e] - mean_of_means) * (means[e] - mean_of_means) / count;
      for (std::size_t o = 0; o < used.size(); ++o) {
        add(used[o], 2 * (means[e] - mean_of_means) / count * ((o == e ? 1 : 0) - 1 / count));
      }
    } else if (kind == Kind::halves_product) {
      std::vector<std::int64_t> halves[2];
      for (std::size_t k = 0; k < used[e].size(); ++k) halves[k % 2].push_back(used[e][k]);
      out.value += share * mean(halves[0]) * mean(halves[1]);
      add(halves[0], share * mean(halves[1]));
      add(halves[1], share * mean(halves[0]));
    } else {
      const bool worst = std::max_element(means.begin(), means.end()) - means.begin() ==
                         static_cast<std::ptrdiff_t>(e);
      const double weight = minimum_weight + (worst ? 1 - count * minimum_weight : 0);
      out.value += weight * means[e];
      add(used[e], weight);
    }
  }
  return out;
}

/// Sizes of environments in turn; by labels: their samples are dealt out as if shuffled.
struct Problem {
  Shared<std::int64_t> offsets;
  Shared<std::int32_t> order;
  std::vector<std::vector<std::int64_t>> environments;
  EnvironmentRows rows;

  Problem(const std::vector<std::int64_t>& sizes, bool by_labels) {
    offsets.push_back(0);
    for (const std::int64_t size : sizes) offsets.push_back(offsets.back() + size);
    const std::int64_t count = offsets.back();
    std::int64_t step = 7;  // to a prime to count
    while (count > 0 && count % step == 0) step += 4;
    for (std::int64_t k = 0; k < count; ++k) {
      order.push_back(static_cast<std::int32_t>(by_labels ? (k * step + 3) % count : k));
    }
    for (std::size_t e = 0; e < sizes.size(); ++e) {
      environments.emplace_back(order.begin() + offsets[e], order.begin() + offsets[e + 1]);
    }
    rows = {offsets.data(), by_labels ? order.data() : nullptr,
            static_cast<std::int64_t>(sizes.size()), count};
  }
};

template <class T>
void compare(Kind kind, const std::vector<std::int64_t>& sizes, bool by_labels, bool average,
             double shift = 0) {
  const Problem problem(sizes, by_labels);
  const std::int64_t count = problem.rows.rows;
  std::vector<double> fill = normals(count, 1);
  for (double& x : fill) x += shift;
  Guarded<T> values(fill), value(1), derivatives(count), only(1);
  Guarded<double> scratch(EnvironmentPenalty<T>::workspace(problem.rows.environments, count));
  EnvironmentPenalty<T> a{{kind, average, -0.25}, values.data(), problem.rows,
                          scratch.data(),         value.data(),  derivatives.data()};
  run(test_device(), a);
  a.value = only.data();
  a.derivatives = nullptr;
  run(test_device(), a);
  const Expected expected =
      written_out(kind, values.to_vector(), problem.environments, -0.25, average);
  const auto what = fmt::format("kind {}, {} environments, {} samples, labels {}, average {}",
                                static_cast<int>(kind), sizes.size(), count, by_labels, average);
  double largest = 1e-6;  // of a penalty of equal means
  for (const double x : expected.derivatives) largest = std::max(largest, std::abs(x));
  // Sums are f64: what is left is one rounding of each result, and in f64 the sums themselves.
  const double f64 = std::is_same_v<T, double> ? 100 * (1 + shift * shift) : 0;
  expect_close(value, {expected.value}, std::abs(expected.value) + f64, 2, what);
  expect_close(derivatives, expected.derivatives, largest + f64, 2, what);
  EXPECT_EQ(value.bits(), only.bits()) << what;
}

TYPED_TEST(EnvironmentPenaltyTest, MatchesTheDefinitions) {
  for_each_variant<TypeParam>([] {
    for (const Kind kind : kKinds) {
      for (const bool by_labels : {false, true}) {
        for (const std::vector<std::int64_t>& sizes : {std::vector<std::int64_t>{1},
                                                       {2},
                                                       {0, 3},
                                                       {1, 0, 2},
                                                       {5, 5, 5},
                                                       {7, 1, 33, 0, 150},
                                                       {257, 512, 3},
                                                       {3000, 4100}}) {
          compare<TypeParam>(kind, sizes, by_labels, false);
          compare<TypeParam>(kind, sizes, by_labels, true);
        }
        compare<TypeParam>(kind, std::vector<std::int64_t>(300, 2), by_labels, true);
        compare<TypeParam>(kind, {33, 34}, by_labels, true, 1000);
      }
    }
  });
}

TYPED_TEST(EnvironmentPenaltyTest, NothingToCompareIsZero) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const Kind kind : kKinds) {
      const Problem none({0, 0}, false), equal({4, 4, 4}, true);
      Guarded<T> values(std::vector<double>(12, 0.7)), value(1), derivatives(12);
      Guarded<double> scratch(EnvironmentPenalty<T>::workspace(3, 12));
      run(test_device(), EnvironmentPenalty<T>{{kind, true, 0.1},
                                               values.data(),
                                               none.rows,
                                               scratch.data(),
                                               value.data(),
                                               derivatives.data()});
      EXPECT_EQ(value[0], 0) << static_cast<int>(kind);
      EXPECT_TRUE(std::isnan(derivatives[0])) << "there is no sample to write";
      run(test_device(), EnvironmentPenalty<T>{{kind, true, 0.1},
                                               values.data(),
                                               equal.rows,
                                               scratch.data(),
                                               value.data(),
                                               derivatives.data()});
      if (kind == Kind::variance) {
        EXPECT_LE(value[0], 1e-30);
        for (const T x : derivatives.bits()) EXPECT_LE(std::abs(x), 1e-15);
      }
      values[5] = std::numeric_limits<T>::quiet_NaN();
      run(test_device(), EnvironmentPenalty<T>{{kind, true, 0.1},
                                               values.data(),
                                               equal.rows,
                                               scratch.data(),
                                               value.data(),
                                               derivatives.data()});
      EXPECT_TRUE(std::isnan(value[0])) << static_cast<int>(kind);
    }
  });
}

TEST(EnvironmentPenalty, SameBitsForAnyThreadCountAndSchedule) {
  for (const Kind kind : {Kind::halves_product, Kind::variance}) {
    expect_same_bits<float>([kind] {
      const Problem problem({700, 1, 2100}, true);
      Guarded<float> values(normals(problem.rows.rows, 1)), value(1),
          derivatives(problem.rows.rows);
      Guarded<double> scratch(EnvironmentPenalty<float>::workspace(3, problem.rows.rows));
      run(test_device(), EnvironmentPenalty<float>{{kind},
                                                   values.data(),
                                                   problem.rows,
                                                   scratch.data(),
                                                   value.data(),
                                                   derivatives.data()});
      return joined(value, derivatives);
    });
  }
}

}  // namespace
}  // namespace cmir::kernels
