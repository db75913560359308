#include "kernels/loss/divergence.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/outputs_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class DivergenceKernelTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(DivergenceKernelTest, Scalars);

struct Sizes {
  std::int64_t variants, rows, width;
};

/// log softmax of row `row`; a single logit x stands for (x, 0).
std::vector<double> log_softmax(const std::vector<double>& logits, std::int64_t row,
                                std::int64_t width) {
  std::vector<double> l(logits.begin() + row * width, logits.begin() + (row + 1) * width);
  if (width == 1) l.push_back(0);
  const double largest = *std::max_element(l.begin(), l.end());
  double sum = 0;
  for (const double x : l) sum += std::exp(x - largest);
  for (double& x : l) x -= largest + std::log(sum);
  return l;
}

/// Adds weight KL(p_a || p_b) and its gradient: p_a (l_a - l_b - KL) for a, p_b - p_a for b.
void add_pair(const std::vector<double>& logits, std::int64_t a, std::int64_t b, std::int64_t width,
              double weight, double& value, std::vector<double>& gradient) {
  const auto la = log_softmax(logits, a, width), lb = log_softmax(logits, b, width);
  double kl = 0;
  for (std::size_t c = 0; c < la.size(); ++c) kl += std::exp(la[c]) * (la[c] - lb[c]);
  value += weight * kl;
  for (std::int64_t c = 0; c < width; ++c) {
    gradient[a * width + c] += weight * std::exp(la[c]) * (la[c] - lb[c] - kl);
    gradient[b * width + c] += weight * (std::exp(lb[c]) - std::exp(la[c]));
  }
}

template <class T>
std::vector<T> run_divergence(Guarded<T>& logits, const Sizes& s, bool symmetric, double scale) {
  Guarded<T> value(1), derivatives(s.variants * s.rows * s.width);
  PairDivergence<T> a{logits.data(), s.variants, s.rows, s.width, symmetric, scale};
  Guarded<double> scratch(s.rows * a.scratch_per_row());
  a.scratch = scratch.data();
  a.value = value.data();
  a.derivatives = derivatives.data();
  run(test_device(), a);
  const T with_derivatives = value[0];
  a.derivatives = nullptr;
  run(test_device(), a);
  EXPECT_EQ(std::memcmp(&with_derivatives, value.data(), sizeof(T)), 0);
  return joined(value, derivatives);
}

/// More variants or classes than a warp has lanes, more rows than a block has warps.
TYPED_TEST(DivergenceKernelTest, MatchesAllPairsWrittenOut) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const auto& s : {Sizes{1, 3, 2},
                          {2, 1, 1},
                          {3, 5, 1},
                          {11, 9, 2},
                          {4, 3, 7},
                          {35, 2, 3},
                          {3, 2, 40},
                          {2, 0, 3}}) {
      for (const bool symmetric : {true, false}) {
        for (const double magnitude : {2.0, 100.0}) {
          const double scale = 0.3;
          Guarded<T> logits(normals(s.variants * s.rows * s.width, 5, magnitude));
          const auto exact = logits.to_vector();
          double value = 0;
          std::vector<double> expected(exact.size());
          for (std::int64_t i = 0; i < s.rows; ++i) {
            for (std::int64_t a = 0; a < s.variants; ++a) {
              for (std::int64_t b = a + 1; b < s.variants; ++b) {
                const double weight = symmetric ? scale / 2 : scale;
                add_pair(exact, a * s.rows + i, b * s.rows + i, s.width, weight, value, expected);
                if (symmetric) {
                  add_pair(exact, b * s.rows + i, a * s.rows + i, s.width, weight, value, expected);
                }
              }
            }
          }
          double largest = std::max(1.0, value);
          for (const double g : expected) largest = std::max(largest, std::abs(g));
          expected.insert(expected.begin(), value);
          const auto actual = run_divergence(logits, s, symmetric, scale);
          // All is in f64: what remains is the rounding to T, and cancellation in f64.
          expect_close<T>(actual, expected, largest, 32,
                          fmt::format("variants {} rows {} width {} symmetric {} magnitude {}",
                                      s.variants, s.rows, s.width, symmetric, magnitude));
        }
      }
    }
  });
}

TYPED_TEST(DivergenceKernelTest, EqualPredictionsGiveZeroAndNaNGivesNaN) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const bool symmetric : {true, false}) {
      Guarded<T> equal(3 * 2 * 3, T(0.7)), bad(normals(3 * 2 * 3, 1));
      for (const T x : run_divergence(equal, {3, 2, 3}, symmetric, 1)) EXPECT_NEAR(x, 0, 1e-14);
      bad[17] = std::numeric_limits<T>::quiet_NaN();
      Guarded<T> value(1);
      PairDivergence<T> a{bad.data(), 3, 2, 3, symmetric, 1};
      Guarded<double> scratch(2 * a.scratch_per_row());
      a.scratch = scratch.data();
      a.value = value.data();
      a.derivatives = nullptr;
      run(test_device(), a);
      EXPECT_TRUE(std::isnan(value[0]));
    }
  });
}

TEST(DivergenceKernel, SameBitsForAnyThreadCountAndSchedule) {
  expect_same_bits<float>([] {
    Guarded<float> logits(normals(11 * 9 * 3, 5));
    auto all = run_divergence(logits, {11, 9, 3}, true, 0.3);
    const auto directed = run_divergence(logits, {11, 9, 3}, false, 0.3);
    all.insert(all.end(), directed.begin(), directed.end());
    return all;
  });
}

}  // namespace
}  // namespace cmir::kernels
