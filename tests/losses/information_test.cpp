#include "losses/information.h"

#include "tests/losses/loss_test.h"

#include "core/graph.h"
#include "core/permutation.h"

namespace cmir::losses {
namespace {

using namespace testing;

template <class T>
class InformationTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(InformationTest, Scalars);

/// 1e-5, the bound to be held in f32, and in f64 as many of its own eps.
template <class T>
constexpr double kFactor = 1e-5 / std::numeric_limits<float>::epsilon();

/// mu, logvar, y [n, d] with y about mu, as of a trained q.
template <class T>
std::vector<Tensor> gaussian_inputs(std::int64_t n, std::int64_t d) {
  Values mu = normals(n * d, 1), logvar = normals(n * d, 2, 0.3), y = normals(n * d, 3);
  for (std::int64_t i = 0; i < n * d; ++i) y[i] = mu[i] + 0.5 * y[i];
  return {tensor<T>(mu, {n, d}), tensor<T>(logvar, {n, d}), tensor<T>(y, {n, d})};
}

/// weight(i, j) ln q(y_j|x_i), summed, with the gradients of mu, logvar and y.
Evaluated weighted_densities(const std::vector<Tensor>& inputs,
                             const std::function<double(std::int64_t, std::int64_t)>& weight) {
  const Values mu = inputs[0].to_vector(), logvar = inputs[1].to_vector(),
               y = inputs[2].to_vector();
  const std::int64_t n = inputs[0].size(0), d = inputs[0].size(1);
  Evaluated out{0, {Values(n * d), Values(n * d), Values(n * d)}};
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      const double c = weight(i, j);
      for (std::int64_t k = 0; k < d; ++k) {
        const double w = std::exp(-logvar[i * d + k]), apart = y[j * d + k] - mu[i * d + k];
        out.value -= 0.5 * c * (w * apart * apart + logvar[i * d + k] + std::log(2 * M_PI));
        out.gradients[0][i * d + k] += c * w * apart;
        out.gradients[1][i * d + k] += 0.5 * c * (w * apart * apart - 1);
        out.gradients[2][j * d + k] -= c * w * apart;
      }
    }
  }
  return out;
}

const std::vector<std::pair<std::int64_t, std::int64_t>> kShapes = {
    {2, 3}, {7, 1}, {17, 33}, {100, 20}, {131, 64}};

TYPED_TEST(InformationTest, ClubAgreesWithAllPairs) {
  using T = TypeParam;
  for (const auto& [n, d] : kShapes) {
    const auto inputs = gaussian_inputs<T>(n, d);
    const double each = 1.0 / static_cast<double>(n);
    expect_agrees<T>(
        evaluate(inputs, [](auto x) { return club(x[0], x[1], x[2]); }),
        weighted_densities(inputs, [&](auto i, auto j) { return each * ((i == j) - each); }),
        kFactor<T>, fmt::format("club [{}, {}]", n, d));
  }
}

TYPED_TEST(InformationTest, ClubMeanIsClubWithUnitVariances) {
  using T = TypeParam;
  for (const auto& [n, d] : kShapes) {
    auto inputs = gaussian_inputs<T>(n, d);
    inputs[1] = Tensor::zeros({n, d}, dtype_of<T>);
    const auto whole = evaluate(inputs, [](auto x) { return club(x[0], x[1], x[2]); });
    expect_agrees<T>(
        evaluate({inputs[0], inputs[2]}, [](auto x) { return club_mean(x[0], x[1]); }),
        {whole.value,
         {weighted_densities(inputs, [&](auto i, auto j) { return ((i == j) - 1.0 / n) / n; })
              .gradients[0],
          weighted_densities(inputs, [&](auto i, auto j) { return ((i == j) - 1.0 / n) / n; })
              .gradients[2]}},
        kFactor<T>, fmt::format("club_mean [{}, {}]", n, d));
  }
}

TYPED_TEST(InformationTest, ClubSampleAgreesWithItsPairs) {
  using T = TypeParam;
  const RandomStream stream{.seed = 4, .step = 1};  // where the two of the first shape swap
  for (const auto& [n, d] : kShapes) {
    const auto inputs = gaussian_inputs<T>(n, d);
    const RandomPermutation permutation(stream, static_cast<std::uint32_t>(n));
    expect_agrees<T>(
        evaluate(inputs, [&](auto x) { return club_sample(x[0], x[1], x[2], stream); }),
        weighted_densities(inputs,
                           [&, n = n](std::int64_t i, std::int64_t j) {
                             const auto negative = permutation(static_cast<std::uint32_t>(i));
                             return ((i == j) - (negative == j ? 1.0 : 0.0)) /
                                    static_cast<double>(n);
                           }),
        kFactor<T>, fmt::format("club_sample [{}, {}]", n, d));
  }
}

TYPED_TEST(InformationTest, GaussianNllAgreesWithTheFormula) {
  using T = TypeParam;
  for (const auto& [n, d] : kShapes) {
    const auto inputs = gaussian_inputs<T>(n, d);
    expect_agrees<T>(
        evaluate(inputs, [](auto x) { return gaussian_nll(x[0], x[1], x[2]); }),
        weighted_densities(
            inputs, [n = n](auto i, auto j) { return i == j ? -1.0 / static_cast<double>(n) : 0; }),
        kFactor<T>, fmt::format("gaussian_nll [{}, {}]", n, d));
  }
}

TYPED_TEST(InformationTest, OneSampleHasNoInformation) {
  const auto at =
      evaluate(gaussian_inputs<TypeParam>(1, 5), [](auto x) { return club(x[0], x[1], x[2]); });
  EXPECT_EQ(at.value, 0);
  for (const Values& gradient : at.gradients) EXPECT_LE(largest(gradient), 1e-14);
}

/// ln q(y_i|x_j) at [i N + j].
Values log_densities(const std::vector<Tensor>& inputs) {
  const Values mu = inputs[0].to_vector(), logvar = inputs[1].to_vector(),
               y = inputs[2].to_vector();
  const std::int64_t n = inputs[0].size(0), d = inputs[0].size(1);
  Values out(n * n);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      for (std::int64_t k = 0; k < d; ++k) {
        const double apart = y[i * d + k] - mu[j * d + k], lv = logvar[j * d + k];
        out[i * n + j] -= 0.5 * (std::exp(-lv) * apart * apart + lv + std::log(2 * M_PI));
      }
    }
  }
  return out;
}

/// The leave-one-out bound as it is defined, in f64.
Evaluated leave_one_out(const std::vector<Tensor>& inputs) {
  const std::int64_t n = inputs[0].size(0);
  const Values density = log_densities(inputs);
  Values log_sum(n);
  double value = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    double largest = -1e300, sum = 0;
    for (std::int64_t j = 0; j < n; ++j) {
      if (j != i) largest = std::max(largest, density[i * n + j]);
    }
    for (std::int64_t j = 0; j < n; ++j) {
      if (j != i) sum += std::exp(density[i * n + j] - largest);
    }
    log_sum[i] = largest + std::log(sum);
    value += (density[i * n + i] - log_sum[i] + std::log(n - 1.0)) / static_cast<double>(n);
  }
  Evaluated out = weighted_densities(inputs, [&](std::int64_t x, std::int64_t y) {
    const double softmax = x == y ? -1 : std::exp(density[y * n + x] - log_sum[y]);
    return -softmax / static_cast<double>(n);
  });
  out.value = value;
  return out;
}

/// 1e-5 in f32. In f64, where the formula's own scores err by eps times their magnitude too, 1e-11.
template <class T>
constexpr double kPairFactor = std::is_same_v<T, float>
                                   ? kFactor<T>
                                   : 1e-11 / std::numeric_limits<double>::epsilon();

template <class T>
void expect_l1out(const std::vector<Tensor>& inputs, const std::string& what) {
  expect_agrees<T>(evaluate(inputs, [](auto x) { return l1out(x[0], x[1], x[2]); }),
                   leave_one_out(inputs), kPairFactor<T>, what);
}

TYPED_TEST(InformationTest, L1OutAgreesWithItsDefinition) {
  auto shapes = kShapes;
  shapes.emplace_back(300, 128);
  for (const auto& [n, d] : shapes) {
    expect_l1out<TypeParam>(gaussian_inputs<TypeParam>(n, d), fmt::format("l1out [{}, {}]", n, d));
  }
}

TYPED_TEST(InformationTest, L1OutTakesACommonOffsetAndHugeMagnitudes) {
  using T = TypeParam;
  for (const auto& [scale, offset] : {std::pair{1.0, 1e4}, {1.0, -1e3}, {100.0, 0.0}}) {
    auto inputs = gaussian_inputs<T>(131, 20);
    for (const int i : {0, 2}) {
      Values values = inputs[i].to_vector();
      for (double& x : values) x = scale * x + offset;
      inputs[i] = tensor<T>(values, {131, 20});
    }
    expect_l1out<T>(inputs, fmt::format("scale {} offset {}", scale, offset));
  }
}

/// As where q ignores x: no information, and value and gradients by q that cancel to rounding.
TYPED_TEST(InformationTest, L1OutOfOneConditionalIsZero) {
  using T = TypeParam;
  const std::int64_t n = 130, d = 5;
  auto inputs = gaussian_inputs<T>(n, d);
  for (const int i : {0, 1}) {
    Values values = inputs[i].to_vector();
    for (std::int64_t e = 0; e < n * d; ++e) values[e] = values[e % d];
    inputs[i] = tensor<T>(values, {n, d});
  }
  const double eps = std::numeric_limits<T>::epsilon();
  const auto at = evaluate(inputs, [](auto x) { return l1out(x[0], x[1], x[2]); });
  EXPECT_NEAR(static_cast<double>(at.value), 0, 20 * eps);
  EXPECT_LE(largest(at.gradients[2]), 20 * eps);
}

/// By f32 products of three TF32 ones. The scores' magnitudes grow with d.
TEST(InformationOnADevice, L1OutAgreesWithItsDefinition) {
  for_each_cuda_device([] {
    for (const auto& [n, d] :
         {std::pair<std::int64_t, std::int64_t>{7, 1}, {131, 64}, {200, 128}}) {
      const auto inputs = gaussian_inputs<float>(n, d);
      std::vector<Variable> there;
      for (const Tensor& input : inputs) there.emplace_back(input.to(test_device()), true);
      const Variable value = l1out(there[0], there[1], there[2]);
      backward(value, {.seed = Tensor::scalar(kCotangent, DType::f32).to(test_device())});
      Evaluated found{value.value().item(), {}};
      for (const Variable& variable : there) {
        found.gradients.push_back(variable.gradient().to_vector());
      }
      expect_agrees<float>(found, leave_one_out(inputs), kPairFactor<float>,
                           fmt::format("l1out [{}, {}]", n, d));
    }
  });
}

using Loss = std::function<Variable(std::span<const Variable>)>;

/// The loss's value and gradients with the first inputs, recorded with the others.
void expect_same_recorded(Device device, const Loss& loss, const std::string& what) {
  const auto inputs = gaussian_inputs<float>(70, 6);
  std::vector<Tensor> there, recorded;
  for (const int i : {0, 1, 2}) {
    there.push_back(inputs[i].to(device));
    recorded.push_back(inputs[(i + 1) % 3].to(device));
  }
  const auto run = [&](const std::vector<Tensor>& tensors) {
    std::vector<Variable> variables;
    for (const Tensor& tensor : tensors) variables.emplace_back(tensor, true);
    const Variable value = loss(variables);
    backward(value);
    std::vector<Tensor> results{value.value()};
    for (const Variable& variable : variables) results.push_back(variable.gradient());
    return results;
  };
  const std::vector<Tensor> expected = run(there);
  std::vector<Tensor> actual;
  Graph graph(device);
  graph.capture([&] { actual = run(recorded); });
  for (const int i : {0, 1, 2}) recorded[i].copy_from(there[i]);
  graph.replay();
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(actual[i].to_vector(), expected[i].to_vector()) << what << " result " << i;
  }
}

TEST(InformationGraph, RepeatsWithNewInputs) {
  for_each_cuda_device([] {
    const Device device = test_device();
    expect_same_recorded(
        device, [](auto x) { return gaussian_nll(x[0], x[1], x[2]); }, "gaussian_nll");
    expect_same_recorded(
        device, [](auto x) { return club(x[0], x[1], x[2]); }, "club");
    expect_same_recorded(
        device, [](auto x) { return l1out(x[0], x[1], x[2]); }, "l1out");
  });
}

/// A permutation of the step that the counter names at the replay.
TEST(InformationGraph, ClubSampleDrawsAnewAtEachReplay) {
  for_each_cuda_device([] {
    const Device device = test_device();
    std::vector<Variable> inputs;
    for (const Tensor& input : gaussian_inputs<float>(70, 6)) inputs.emplace_back(input.to(device));
    Tensor counter = Tensor::zeros({1}, DType::i64, device), value;
    const RandomStream counted{.seed = 4, .counter = counter.data<std::int64_t>()};
    Graph graph(device);
    graph.capture([&] { value = club_sample(inputs[0], inputs[1], inputs[2], counted).value(); });
    for (const std::uint32_t step : {0U, 1U, 2U}) {
      counter.fill(step);
      graph.replay();
      const RandomStream named{.seed = 4, .step = step};
      EXPECT_EQ(value.item(), club_sample(inputs[0], inputs[1], inputs[2], named).value().item());
    }
  });
}

TEST(InformationErrors, L1OutNeedsTwoSamples) {
  const Variable one(Tensor::zeros({1, 4}));
  expect_usage_error([&] { l1out(one, one, one); }, "at least two samples, got f32[1, 4] on cpu");
}

TEST(InformationErrors, NameShapes) {
  const Variable a(Tensor::zeros({3, 4})), b(Tensor::zeros({3, 5}));
  expect_usage_error([&] { club(a, a, b); }, "got f32[3, 4] on cpu and f32[3, 5] on cpu");
  expect_usage_error([&] { club_mean(a, b); }, "f32[3, 5]");
  expect_usage_error([&] { gaussian_nll(a, b, a); }, "f32[3, 5]");
  expect_usage_error([&] { club_sample(b, a, a, {}); }, "f32[3, 5]");
  expect_usage_error([&] { l1out(b, a, a); }, "f32[3, 5]");
}

}  // namespace
}  // namespace cmir::losses
