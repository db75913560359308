#include "losses/invariance.h"

#include "tests/losses/loss_test.h"

namespace cmir::losses {
namespace {

using namespace testing;

template <class T>
class InvarianceTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(InvarianceTest, Scalars);

/// All pairs, written out.
Evaluated naive_invariance(const Values& z, int environments, std::int64_t samples,
                           std::int64_t features, const InvarianceOptions& options) {
  const std::int64_t variants = environments + 1, count = samples * features;
  const double scale = 1.0 / ((options.mean_over_features ? static_cast<double>(features) : 1.0) *
                              (options.mean_over_batch ? static_cast<double>(samples) : 1.0) *
                              (options.mean_over_pairs ? variants * (variants - 1) / 2.0 : 1.0));
  Evaluated out{0, {Values(z.size())}};
  for (std::int64_t a = 0; a < variants; ++a) {
    for (std::int64_t b = a + 1; b < variants; ++b) {
      for (std::int64_t i = 0; i < count; ++i) {
        const double difference = z[a * count + i] - z[b * count + i];
        const double sign = difference > 0 ? 1 : (difference < 0 ? -1 : 0);
        out.value += scale * std::abs(difference);
        out.gradients[0][a * count + i] += scale * sign;
        out.gradients[0][b * count + i] -= scale * sign;
      }
    }
  }
  return out;
}

template <class T>
void compare(const Values& values, int environments, std::int64_t n, std::int64_t d,
             const InvarianceOptions& options) {
  const Tensor z = tensor<T>(values, {(environments + 1) * n, d});
  expect_agrees<T>(evaluate({z}, [&](auto x) { return invariance(x[0], environments, options); }),
                   naive_invariance(z.to_vector(), environments, n, d, options), 16,
                   fmt::format("environments {}, [{}, {}]", environments, n, d));
}

TYPED_TEST(InvarianceTest, AgreesWithAllPairsWrittenOut) {
  for_each_isa([] {
    for (int environments = 1; environments <= 10; ++environments) {
      for (const auto& [n, d] : {std::pair{1, 1}, {3, 7}, {5, 13}, {1, 67}, {48, 150}}) {
        compare<TypeParam>(normals((environments + 1) * n * d, environments), environments, n, d,
                           {});
      }
    }
    compare<TypeParam>(normals(128 * 3 * 5, 9), 127, 3, 5, {});
  });
}

TYPED_TEST(InvarianceTest, EverySwitchScalesAsItSays) {
  for (const bool features : {false, true}) {
    for (const bool batch : {false, true}) {
      for (const bool pairs : {false, true}) {
        compare<TypeParam>(normals(4 * 3 * 7, 1), 3, 3, 7, {features, batch, pairs});
      }
    }
  }
}

TYPED_TEST(InvarianceTest, TiesCountNothing) {
  for_each_isa([] {
    for (const int environments : {1, 2, 4, 10}) {
      const std::int64_t count = 5 * 13;
      Values small((environments + 1) * count), equal(small.size());
      for (std::size_t i = 0; i < small.size(); ++i) {
        small[i] = static_cast<double>((i * i) % 3);  // many ties
        equal[i] = static_cast<double>(i % count);    // identical variants
      }
      compare<TypeParam>(small, environments, 5, 13, {});
      compare<TypeParam>(equal, environments, 5, 13, {});
    }
  });
}

TYPED_TEST(InvarianceTest, HugeTinyAndShiftedValues) {
  using T = TypeParam;
  for (const double scale : {1e30, 1e-30}) compare<T>(normals(5 * 4 * 9, 2, scale), 4, 4, 9, {});
  Values shifted = normals(5 * 4 * 9, 2);
  for (double& value : shifted)
    value += 1e6;  // differences are exact: no digit is lost to the shift
  compare<T>(shifted, 4, 4, 9, {});
}

TYPED_TEST(InvarianceTest, NaNGivesNaN) {
  for (const int environments : {1, 2, 4, 10}) {
    for (int where = 0; where <= environments; ++where) {
      Values z = normals((environments + 1) * 6, 3);
      z[where * 6 + 5] = kNaN;
      const Variable x(tensor<TypeParam>(z, {(environments + 1) * 2, 3}));
      EXPECT_TRUE(std::isnan(invariance(x, environments).value().item()))
          << environments << ' ' << where;
    }
  }
}

TYPED_TEST(InvarianceTest, SameBitsForAnyThreadCount) {
  const Tensor z = tensor<TypeParam>(normals(3 * 101 * 97, 1), {303, 97});
  expect_same_bits_for_any_thread_count(
      [&] { return flatten(evaluate({z}, [](auto x) { return invariance(x[0], 2); })); });
}

TYPED_TEST(InvarianceTest, ValueIsTheSameWithoutRecording) {
  const Tensor z = tensor<TypeParam>(normals(5 * 3 * 67, 1), {15, 67});
  EXPECT_EQ(invariance(Variable(z), 4).value().item(),
            invariance(Variable(z, true), 4).value().item());
}

TEST(InvarianceErrors, SayWhatTheLayoutIs) {
  const Variable z(Tensor::zeros({7, 3}));
  expect_usage_error([&] { invariance(z, 2); }, "2 environments + 1 clean = 3 blocks");
  expect_usage_error([&] { invariance(z, 0); }, "1 .. 127, got 0");
  expect_usage_error([&] { invariance(z, 128); }, "1 .. 127, got 128");
  expect_usage_error([&] { divergence(z, 1); }, "1 environments + 1 clean = 2 blocks");
  expect_usage_error([&] { invariance(Variable(Tensor::zeros({0, 3})), 1); }, "not empty");
}

/// log softmax of row `row`; a single logit x stands for (x, 0).
Values log_softmax(const Values& logits, std::int64_t row, std::int64_t width) {
  Values row_logits(logits.begin() + row * width, logits.begin() + (row + 1) * width);
  if (width == 1) row_logits.push_back(0);
  double sum = 0;
  for (double x : row_logits) sum += std::exp(x);
  for (double& x : row_logits) x -= std::log(sum);
  return row_logits;
}

/// weight KL(p_a || p_b), and its gradient: p_a (l_a - l_b - KL) for a's logits, p_b - p_a for b's.
void add_divergence(const Values& logits, std::int64_t a, std::int64_t b, std::int64_t width,
                    double weight, Evaluated& out) {
  const Values la = log_softmax(logits, a, width), lb = log_softmax(logits, b, width);
  double kl = 0;
  for (std::size_t c = 0; c < la.size(); ++c) kl += std::exp(la[c]) * (la[c] - lb[c]);
  out.value += weight * kl;
  for (std::int64_t c = 0; c < width; ++c) {
    out.gradients[0][a * width + c] += weight * std::exp(la[c]) * (la[c] - lb[c] - kl);
    out.gradients[0][b * width + c] += weight * (std::exp(lb[c]) - std::exp(la[c]));
  }
}

Evaluated naive_divergence(const Values& logits, int environments, std::int64_t samples,
                           std::int64_t width, const DivergenceOptions& options) {
  const double pairs = environments * (environments + 1) / 2.0;
  const double weight = 1.0 / ((options.mean_over_batch ? static_cast<double>(samples) : 1.0) *
                               (options.mean_over_pairs ? pairs : 1.0));
  Evaluated out{0, {Values(logits.size())}};
  for (std::int64_t i = 0; i < samples; ++i) {
    for (std::int64_t a = 0; a <= environments; ++a) {
      for (std::int64_t b = a + 1; b <= environments; ++b) {
        const std::int64_t row_a = a * samples + i, row_b = b * samples + i;
        add_divergence(logits, row_a, row_b, width, options.symmetric ? weight / 2 : weight, out);
        if (options.symmetric) add_divergence(logits, row_b, row_a, width, weight / 2, out);
      }
    }
  }
  return out;
}

TYPED_TEST(InvarianceTest, DivergenceAgreesWithAllPairsWrittenOut) {
  using T = TypeParam;
  for (int environments = 1; environments <= 10; ++environments) {
    for (const auto& [n, width] : {std::pair{1, 1}, {5, 1}, {3, 2}, {200, 7}}) {
      for (const bool symmetric : {true, false}) {
        const DivergenceOptions options{symmetric, environments % 2 == 0, environments % 3 == 0};
        const Tensor logits = tensor<T>(normals((environments + 1) * n * width, 5, 2.0),
                                        {(environments + 1) * n, width});
        expect_agrees<T>(
            evaluate({logits}, [&](auto x) { return divergence(x[0], environments, options); }),
            naive_divergence(logits.to_vector(), environments, n, width, options), 32,
            fmt::format("environments {} n {} width {} symmetric {}", environments, n, width,
                        symmetric),
            1.0);
      }
    }
  }
}

TYPED_TEST(InvarianceTest, DivergenceOfEqualPredictionsIsZeroAndOfNaNIsNaN) {
  for (const bool symmetric : {true, false}) {
    const Tensor equal = Tensor::full({6, 3}, 0.7, dtype_of<TypeParam>);
    const auto at =
        evaluate({equal}, [&](auto x) { return divergence(x[0], 2, {.symmetric = symmetric}); });
    EXPECT_NEAR(at.value, 0, 1e-14);
    EXPECT_NEAR(largest(at.gradients[0]), 0, 1e-14);
    Values z = normals(18, 1);
    z[17] = kNaN;
    const Variable bad(tensor<TypeParam>(z, {6, 3}));
    EXPECT_TRUE(std::isnan(divergence(bad, 2, {.symmetric = symmetric}).value().item()));
  }
}

TYPED_TEST(InvarianceTest, DivergenceHasTheSameBitsForAnyThreadCount) {
  const Tensor logits = tensor<TypeParam>(normals(3 * 501 * 3, 1), {1503, 3});
  expect_same_bits_for_any_thread_count(
      [&] { return flatten(evaluate({logits}, [](auto x) { return divergence(x[0], 2); })); });
}

}  // namespace
}  // namespace cmir::losses
