#include "losses/mmd.h"

#include "tests/losses/loss_test.h"

namespace cmir::losses {
namespace {

using namespace testing;

template <class T>
class MmdTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(MmdTest, Scalars);

/// MMD^2 of every pair of environments from three means over pairs of rows.
Evaluated naive_mmd(const Values& z, std::int64_t d, const std::vector<std::int32_t>& labels,
                    std::int64_t environments, const MmdOptions& options) {
  std::vector<std::vector<std::int64_t>> used;
  for (std::int64_t e = 0; e < environments; ++e) {
    std::vector<std::int64_t> of;
    for (std::size_t i = 0; i < labels.size(); ++i) {
      if (labels[i] == e) of.push_back(static_cast<std::int64_t>(i));
    }
    if (of.size() >= (options.unbiased ? 2U : 1U)) used.push_back(of);
  }
  Evaluated out{0, {Values(z.size())}};
  const auto add_mean = [&](const auto& a, const auto& b, double factor) {
    const bool leave_out = options.unbiased && &a == &b;
    const double pairs =
        static_cast<double>(a.size()) * (static_cast<double>(b.size()) - (leave_out ? 1 : 0));
    for (const std::int64_t i : a) {
      for (const std::int64_t j : b) {
        if (leave_out && i == j) continue;
        double distance = 0;
        for (std::int64_t c = 0; c < d; ++c) {
          distance += (z[i * d + c] - z[j * d + c]) * (z[i * d + c] - z[j * d + c]);
        }
        for (const double gamma : options.gammas) {
          const double k = factor * std::exp(-gamma * distance) / pairs;
          out.value += k;
          for (std::int64_t c = 0; c < d; ++c) {
            const double slope = -2 * gamma * k * (z[i * d + c] - z[j * d + c]);
            out.gradients[0][i * d + c] += slope;
            out.gradients[0][j * d + c] -= slope;
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

TYPED_TEST(MmdTest, AgreesWithTheThreeMeansOfEveryPair) {
  using T = TypeParam;
  for_each_isa([] {
    for (const auto& [n, d, environments] :
         {std::tuple<int, int, int>{1, 1, 1}, {2, 3, 2}, {7, 5, 4}, {70, 17, 3}, {101, 3, 5}}) {
      std::vector<std::int32_t> labels(n);
      Values values = normals(n * d, 1);
      for (int i = 0; i < n; ++i) {
        labels[i] = i * i % std::max(1, environments - 1);
        for (int j = 0; j < d; ++j) values[i * d + j] += 0.5 * labels[i];
      }
      const auto groups = EnvironmentGroups::by_labels(Tensor::from(labels, {n}), environments);
      const Tensor z = tensor<T>(values, {n, d});
      for (const MmdOptions& options :
           {MmdOptions{}, MmdOptions{{0.05}}, MmdOptions{{0.01, 0.1}, true}}) {
        // 84 eps is 1e-5 in f32.
        expect_agrees<T>(evaluate({z}, [&](auto x) { return mmd(x[0], groups, options); }),
                         naive_mmd(z.to_vector(), d, labels, environments, options), 80,
                         fmt::format("[{}, {}] environments {} kernels {} unbiased {}", n, d,
                                     environments, options.gammas.size(), options.unbiased),
                         1e-3);
      }
    }
  });
}

TYPED_TEST(MmdTest, IdenticalRowsAndEnvironmentsHaveNoDiscrepancy) {
  using T = TypeParam;
  const auto groups = EnvironmentGroups::blocks(1, 2);
  const Tensor same = tensor<T>(Values(8, 0.7), {4, 2});
  for (const double x : flatten(evaluate({same}, [&](auto z) { return mmd(z[0], groups); }))) {
    EXPECT_NEAR(x, 0, 1e-6);
  }
  const Tensor repeated = tensor<T>({1, 2, 3, 5, 1, 2, 3, 5}, {4, 2});
  for (const double x : flatten(evaluate({repeated}, [&](auto z) { return mmd(z[0], groups); }))) {
    EXPECT_NEAR(x, 0, 1e-6);
  }
  // Rows at 1e4 from each other: what is left is each row with itself.
  const Tensor far = tensor<T>({1e4, 0, -1e4, 0, 0, 1e4, 0, -1e4}, {4, 2});
  EXPECT_NEAR(mmd(Variable(far), groups, {{1.0}}).value().item(), 0.5 + 0.5, 1e-6);
  EXPECT_NEAR(mmd(Variable(far), groups, {{1.0}, true}).value().item(), 0, 1e-6);
}

TYPED_TEST(MmdTest, SameBitsForAnyThreadCount) {
  const Tensor z = tensor<TypeParam>(normals(101 * 7, 1), {101, 7});
  const auto groups = EnvironmentGroups::by_offsets(Tensor::from<std::int64_t>({0, 30, 101}, {3}));
  expect_same_bits_for_any_thread_count(
      [&] { return flatten(evaluate({z}, [&](auto x) { return mmd(x[0], groups); })); });
}

TEST(MmdErrors, NameTheRemedy) {
  const auto groups = EnvironmentGroups::blocks(1, 2);
  const Variable z(Tensor::zeros({4, 2}));
  expect_usage_error([&] { mmd(z, groups, {{}}); }, "1 .. 16 gammas, got 0");
  expect_usage_error([&] { mmd(z, groups, {Values(17, 1.0)}); }, "got 17");
  expect_usage_error([&] { mmd(z, groups, {{1, -1}}); }, "above 0, got -1");
  expect_usage_error([&] { mmd(Variable(Tensor::zeros({4})), groups); },
                     "needs [samples, features]");
}

}  // namespace
}  // namespace cmir::losses
