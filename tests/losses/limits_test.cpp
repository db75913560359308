// The limits of every estimator of mutual information and measure of dependence, on the CPU in f32
// and f64 and through the CUDA kernels in f32 (host model, and a GPU where there is one): one
// sample, numbers of samples that fill no tile, identical rows, scores of 1e4, a zero vector under
// the cosine, a temperature near 0; and the memory that each takes.
#include "core/allocator.h"
#include "losses/decorrelation.h"
#include "losses/donsker_varadhan.h"
#include "losses/hsic.h"
#include "losses/info_nce.h"
#include "losses/information.h"
#include "losses/mmd.h"
#include "losses/nwj.h"
#include "losses/prior_divergence.h"
#include "losses/soft_hgr.h"
#include "tests/losses/loss_test.h"

namespace cmir::losses {
namespace {

using namespace testing;

using Inputs = std::vector<Tensor>;
using Loss = std::function<Variable(std::span<const Variable>)>;

/// An estimator of mu, logvar and y (or of a and b).
struct Form {
  std::string name;
  bool gaussian;
  int least_samples;
  Loss loss;
  double identical;  ///< its value where all rows are 0.5 and mu = y, logvar = 0; NaN: ln N
};

std::vector<Form> forms() {
  const auto dv = [](auto x) { return donsker_varadhan(x[0], x[1]); };
  const auto mine = [](auto x) {
    return donsker_varadhan(x[0], x[1], {}, ExpAverage::fresh(0.5, x[0].device()));
  };
  return {
      {"club", true, 1, [](auto x) { return club(x[0], x[1], x[2]); }, 0},
      {"club_mean", true, 1, [](auto x) { return club_mean(x[0], x[2]); }, 0},
      {"club_sample", true, 1, [](auto x) { return club_sample(x[0], x[1], x[2], {.seed = 4}); },
       0},
      {"l1out", true, 2, [](auto x) { return l1out(x[0], x[1], x[2]); }, 0},
      {"info_nce", false, 1,
       [](auto x) {
         return info_nce(x[0], x[1], {{}, true});
       },
       kNaN},
      {"info_nce one-way", false, 1,
       [](auto x) {
         return info_nce(x[0], x[1], {{}, false});
       },
       kNaN},
      {"nwj", false, 2, [](auto x) { return nwj(x[0], x[1]); }, 0},  // 4 0.5^2 - exp(0)
      {"donsker_varadhan", false, 2, dv, 0},
      {"mine", false, 2, mine, 0},
      {"hsic", false, 1,
       [](auto x) {
         return hsic(x[0], x[1], {0.2, 0.3});
       },
       0},
      {"hsic unbiased", false, 4,
       [](auto x) {
         return hsic(x[0], x[1], {0.2, 0.3, true});
       },
       0},
      {"soft_hgr", false, 1, [](auto x) { return soft_hgr(x[0], x[1]); }, 0},
      {"decorrelation", false, 1, [](auto x) { return decorrelation(x[0], x[1]); }, 0},
  };
}

/// mu, logvar and y about mu, or a and b near it.
Inputs inputs_of(const Form& form, std::int64_t n, std::int64_t d, double magnitude = 0.5) {
  const Values a = normals(n * d, 1, magnitude), logvar = normals(n * d, 2, 0.3);
  Values b = normals(n * d, 3, magnitude);
  for (std::int64_t i = 0; i < n * d; ++i) b[i] = a[i] + 0.5 * b[i];
  const auto rounded = [&](const Values& values) {  // what f32 holds, in f64
    return Tensor::from(values, {n, d}).to(DType::f32).to(DType::f64);
  };
  if (form.gaussian) return {rounded(a), rounded(logvar), rounded(b)};
  return {rounded(a), rounded(b)};
}

Inputs full(const Form& form, std::int64_t n, std::int64_t d) {
  const Tensor same = Tensor::full({n, d}, 0.5, DType::f64);
  if (form.gaussian) return {same, Tensor::zeros({n, d}, DType::f64), same};
  return {same, same};
}

Evaluated evaluate_at(const Inputs& inputs, DType dtype, const Loss& loss) {
  Inputs there;
  for (const Tensor& input : inputs) there.push_back(input.to(dtype).to(test_device()));
  return evaluate(there, loss);
}

/// body(dtype, eps): f64 and f32 on the CPU, f32 through CUDA's kernels.
template <class Body>
void for_each_place(const Body& body) {
  body(DType::f64, std::numeric_limits<double>::epsilon());
  const auto in_f32 = [&] { body(DType::f32, std::numeric_limits<float>::epsilon()); };
  in_f32();
  for_each_cuda_device(in_f32);
}

/// In f32, on each device, within `tolerance` of f64's result on the CPU: of the value, at least
/// `floor`, and of a gradient's largest element, at least floor / N.
void expect_f64s_result(const Form& form, const Inputs& inputs, double tolerance, double floor,
                        const std::string& what) {
  const Evaluated expected = evaluate_at(inputs, DType::f64, form.loss);
  const auto value = static_cast<double>(expected.value);
  ASSERT_TRUE(std::isfinite(value)) << what;
  const auto n = static_cast<double>(inputs[0].size(0));
  for_each_place([&](DType dtype, double) {
    if (dtype == DType::f64) return;
    const Evaluated actual = evaluate_at(inputs, dtype, form.loss);
    EXPECT_NEAR(static_cast<double>(actual.value), value,
                tolerance * std::max(std::abs(value), floor))
        << what;
    for (std::size_t g = 0; g < expected.gradients.size(); ++g) {
      const Values& wanted = expected.gradients[g];
      const double bound = tolerance * std::max(largest(wanted), floor / n);
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        ASSERT_NEAR(actual.gradients[g][i], wanted[i], bound)
            << what << ", gradient " << g << " element " << i;
      }
    }
  });
}

TEST(EstimatorLimits, OneSampleKnowsNothing) {
  for (const Form& form : forms()) {
    const Inputs one = inputs_of(form, 1, 5);
    if (form.name == "decorrelation") {  // compares the sample's features, not samples
      expect_f64s_result(form, one, 1e-5, 1e-1, form.name);
      continue;
    }
    for_each_place([&](DType dtype, double eps) {
      if (form.least_samples > 1) {
        expect_usage_error([&] { evaluate_at(one, dtype, form.loss); }, "samples");
        return;
      }
      for (const double x : flatten(evaluate_at(one, dtype, form.loss))) {
        EXPECT_NEAR(x, 0, 4 * eps) << form.name;
      }
    });
  }
}

TEST(EstimatorLimits, SamplesThatFillNoTile) {
  for (const Form& form : forms()) {
    for (const std::int64_t n : {2, 3, 31, 33, 127, 129, 257}) {
      if (n < form.least_samples) continue;
      expect_f64s_result(form, inputs_of(form, n, 5), 1e-5, 1e-1,
                         fmt::format("{}, {} samples", form.name, n));
    }
  }
}

TEST(EstimatorLimits, IdenticalRowsKnowNothing) {
  constexpr std::int64_t kSamples = 70;
  for (const Form& form : forms()) {
    const double expected = std::isnan(form.identical) ? std::log(kSamples) : form.identical;
    for_each_place([&](DType dtype, double eps) {
      const Evaluated at = evaluate_at(full(form, kSamples, 4), dtype, form.loss);
      EXPECT_NEAR(static_cast<double>(at.value), expected, 20 * eps) << form.name;
      for (const Values& gradient : at.gradients) {
        for (const double x : gradient) EXPECT_NEAR(x, 0, 20 * eps) << form.name;
      }
    });
  }
}

/// Dot products, or ln q, of 1e4 and beyond.
TEST(EstimatorLimits, ScoresOf1e4) {
  for (const Form& form : forms()) {
    if (form.name == "nwj" || form.name.starts_with("hsic")) continue;  // below; kernels of 0
    const Inputs inputs = inputs_of(form, 40, 6, 50);
    // A score's own rounding, 1e4 eps, moves what a softmax makes of it by as much.
    const bool by_softmax = form.name == "l1out" || form.name == "donsker_varadhan" ||
                            form.name == "mine" || form.name.starts_with("info_nce");
    expect_f64s_result(form, inputs, by_softmax ? 4e-3 : 1e-5, 1e-1, form.name);
  }
}

/// NWJ shifts no exp, as its value has the exp itself: -inf, and gradients that are not finite, in
/// f64 too. Where only the partners' scores are large, or all are far below 0, it is exact.
TEST(EstimatorLimits, NwjOverflowsWithOthersScoresOf1e4) {
  const auto loss = [](auto x) { return nwj(x[0], x[1]); };
  const Tensor hundred = Tensor::full({3, 1}, 100, DType::f64),
               below = Tensor::full({3, 1}, -100, DType::f64);
  const Tensor apart = Tensor::from({100.0, 0.0, 0.0, 0.0, 100.0, 0.0, 0.0, 0.0, 100.0}, {3, 3});
  for_each_place([&](DType dtype, double eps) {
    const Evaluated over = evaluate_at({hundred, hundred}, dtype, loss);
    EXPECT_EQ(over.value, -std::numeric_limits<long double>::infinity());
    for (const Values& gradient : over.gradients) {
      for (const double x : gradient) EXPECT_FALSE(std::isfinite(x));
    }
    const Evaluated under = evaluate_at({hundred, below}, dtype, loss);
    EXPECT_EQ(under.value, -1e4L);
    for (const double x : under.gradients[1]) EXPECT_NEAR(x, kCotangent * 100 / 3, 100 * eps);
    const Evaluated right = evaluate_at({apart, apart}, dtype, loss);
    EXPECT_NEAR(static_cast<double>(right.value), 1e4 - std::exp(-1.0), 1e4 * eps);
    EXPECT_NEAR(right.gradients[0][0], kCotangent * 100 / 3, 100 * eps);
  });
}

/// The bounds over pairs with the cosine as critic.
std::vector<Form> cosine_forms(double temperature) {
  const CriticOptions scores{Critic::cosine, temperature};
  return {
      {"info_nce", false, 1,
       [=](auto x) {
         return info_nce(x[0], x[1], {scores, true});
       },
       0},
      {"info_nce one-way", false, 1,
       [=](auto x) {
         return info_nce(x[0], x[1], {scores, false});
       },
       0},
      {"nwj", false, 2, [=](auto x) { return nwj(x[0], x[1], scores); }, 0},
      {"donsker_varadhan", false, 2, [=](auto x) { return donsker_varadhan(x[0], x[1], scores); },
       0},
      {"mine", false, 2,
       [=](auto x) {
         return donsker_varadhan(x[0], x[1], scores, ExpAverage::fresh(0.5, x[0].device()));
       },
       0},
  };
}

TEST(EstimatorLimits, AZeroVectorUnderTheCosine) {
  for (const Form& form : cosine_forms(0.5)) {
    Inputs inputs = inputs_of(form, 9, 4);
    std::ranges::fill(inputs[0].mutable_span<double>().first(4), 0.0);
    expect_f64s_result(form, inputs, 1e-5, 1e-1, form.name);
    for_each_place([&](DType dtype, double) {
      const Evaluated at = evaluate_at(inputs, dtype, form.loss);
      for (int k = 0; k < 4; ++k) EXPECT_EQ(at.gradients[0][k], 0) << form.name;
    });
  }
}

/// A score errs by its own rounding, which the temperature makes 1e4 eps; NWJ's exp overflows.
TEST(EstimatorLimits, ATemperatureNearZero) {
  for (const Form& form : cosine_forms(1e-4)) {
    const Inputs inputs = inputs_of(form, 20, 6);
    if (form.name == "nwj") {
      for_each_place([&](DType dtype, double) {
        EXPECT_EQ(evaluate_at(inputs, dtype, form.loss).value,
                  -std::numeric_limits<long double>::infinity());
      });
    } else {
      expect_f64s_result(form, inputs, 4e-3, 1, form.name);
    }
  }
}

/// The most memory in use above the inputs, forward and backward.
double held(const Form& form, std::int64_t n) {
  const Inputs inputs = inputs_of(form, n, 4);
  Inputs in_f32;
  for (const Tensor& input : inputs) in_f32.push_back(input.to(DType::f32));
  const std::size_t before = cpu_allocator().stats().live;
  cpu_allocator().reset_peak();
  evaluate(in_f32, form.loss);
  return static_cast<double>(cpu_allocator().stats().peak - before);
}

/// Beyond the samples whose scores are kept (kPairKept): far from N x N, and at twice the samples
/// at most a little over twice as much. (CUDA's kernels hold a block besides, which PairGradient's
/// workspace_size bounds: PairsOnTensorCores.BlocksAreBounded.)
TEST(EstimatorMemory, GrowsWithTheSamplesAndNotTheirSquare) {
  std::vector<Form> all = forms();
  const Loss over_blocks = [](auto x) {
    return mmd(x[0], EnvironmentGroups::blocks(3, x[0].shape()[0] / 4));
  };
  all.push_back({"mmd", false, 4, over_blocks, 0});
  all.push_back(
      {"gaussian_nll", true, 1, [](auto x) { return gaussian_nll(x[0], x[1], x[2]); }, 0});
  all.push_back(
      {"prior_divergence", true, 1, [](auto x) { return prior_divergence(x[0], x[1]); }, 0});
  constexpr std::int64_t kSamples = 2048;
  for (const Form& form : all) {
    const double once = held(form, kSamples), twice = held(form, 2 * kSamples);
    EXPECT_LT(twice, 4.0 * 4 * kSamples * kSamples / 8) << form.name;
    EXPECT_LT(twice, 2.5 * once) << form.name;
  }
}

}  // namespace
}  // namespace cmir::losses
