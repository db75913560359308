#include "kernels/optimizer/adamw.h"

#include <algorithm>
#include <memory>

#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class OptimizerKernelTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(OptimizerKernelTest, Scalars);

/// Tensors of awkward sizes, two of them empty, more than one chunk together.
const std::vector<std::int64_t> kSizes = {7, 0, 33, 1, 20000, 0, 65};

template <class T>
struct Case {
  std::vector<std::unique_ptr<Guarded<T>>> p, g, m, v;
  Shared<AdamWTensor<T>> tensors;
  Shared<const T*> gradients;
  Shared<std::int64_t> offsets{0};
  Shared<AdamWScalars> scalars{{.step = 3, .learning_rate_factor = 0.5, .gradient_scale = 0.5}};

  Case() {
    for (std::size_t i = 0; i < kSizes.size(); ++i) {
      const auto make = [&](std::uint64_t seed) {
        return std::make_unique<Guarded<T>>(normals(kSizes[i], 10 * i + seed));
      };
      p.push_back(make(1));
      g.push_back(make(2));
      m.push_back(make(3));
      v.push_back(make(4));
      for (T& x : v.back()->span()) x *= x;
      tensors.push_back({p[i]->data(), g[i]->data(), m[i]->data(), v[i]->data()});
      gradients.push_back(g[i]->data());
      offsets.push_back(offsets.back() + kSizes[i]);
    }
  }
  AdamWStep<T> step() const {
    return {tensors.data(),
            offsets.data(),
            static_cast<std::int64_t>(tensors.size()),
            0.02,
            0.1,
            0.9,
            0.99,
            1e-8,
            scalars.data()};
  }
  SquaredNormPartial norm() {
    Shared<SquaredNormPartial> workspace(squared_norm_workspace(offsets.back()));
    Shared<SquaredNormPartial> result{{NAN, 99}};
    run(test_device(), SquaredNorm<T>{gradients.data(), offsets.data(),
                                      static_cast<std::int64_t>(gradients.size()), workspace.data(),
                                      result.data()});
    return result[0];
  }
};

TYPED_TEST(OptimizerKernelTest, AdamWMatchesTheFormula) {
  for_each_variant<TypeParam>([] {
    Case<TypeParam> c;
    std::vector<std::vector<double>> p, m, v;
    for (std::size_t i = 0; i < kSizes.size(); ++i) {
      p.push_back(c.p[i]->to_vector());
      m.push_back(c.m[i]->to_vector());
      v.push_back(c.v[i]->to_vector());
      const auto g = c.g[i]->to_vector();
      for (std::size_t j = 0; j < g.size(); ++j) {
        const double gradient = 0.5 * g[j];
        p[i][j] -= 0.01 * 0.1 * p[i][j];
        m[i][j] = 0.9 * m[i][j] + 0.1 * gradient;
        v[i][j] = 0.99 * v[i][j] + 0.01 * gradient * gradient;
        p[i][j] -= 0.01 * (m[i][j] / (1 - std::pow(0.9, 3))) /
                   (std::sqrt(v[i][j] / (1 - std::pow(0.99, 3))) + 1e-8);
      }
    }
    run(test_device(), c.step());
    for (std::size_t i = 0; i < kSizes.size(); ++i) {
      const auto where = fmt::format("tensor {} of {}", i, kSizes[i]);
      expect_close(*c.m[i], m[i], 5, 4, where + " m");
      expect_close(*c.v[i], v[i], 20, 4, where + " v");
      // A second moment near zero makes the step large: that part is relative.
      for (std::size_t j = 0; j < p[i].size(); ++j) {
        const double bound =
            16 * std::numeric_limits<TypeParam>::epsilon() * (5 + std::abs(p[i][j]));
        ASSERT_LE(std::abs((*c.p[i])[j] - p[i][j]), bound) << where << " p element " << j;
      }
    }
  });
}

TYPED_TEST(OptimizerKernelTest, AdamWGivesTheSameBitsForAnyThreadCountAndSchedule) {
  expect_same_bits<TypeParam>([] {
    Case<TypeParam> c;
    run(test_device(), c.step());
    std::vector<TypeParam> all;
    for (auto* arrays : {&c.p, &c.m, &c.v}) {
      for (auto& array : *arrays) all.insert(all.end(), array->span().begin(), array->span().end());
    }
    return all;
  });
}

TYPED_TEST(OptimizerKernelTest, SquaredNormMatchesAPlainSum) {
  for_each_variant<TypeParam>([] {
    Case<TypeParam> c;
    double sum = 0;
    for (auto& gradient : c.g) {
      for (double x : gradient->to_vector()) sum += x * x;
    }
    const auto result = c.norm();
    EXPECT_NEAR(result.sum, sum, 1e-12 * sum);
    EXPECT_EQ(result.nonfinite_tensor, -1);
  });
  expect_same_bits<TypeParam>([] { return std::vector<double>{Case<TypeParam>().norm().sum}; });
}

TYPED_TEST(OptimizerKernelTest, SquaredNormNamesTheFirstNonFiniteTensor) {
  using Limits = std::numeric_limits<TypeParam>;
  for_each_variant<TypeParam>([] {
    for (const std::size_t bad : {0, 3, 4, 6}) {
      for (const TypeParam value : {Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity()}) {
        Case<TypeParam> c;
        (*c.g[bad])[kSizes[bad] - 1] = value;
        (*c.g[6])[0] = value;
        EXPECT_EQ(c.norm().nonfinite_tensor, static_cast<std::int64_t>(bad));
      }
    }
    Case<TypeParam> large;  // finite, though the sum of squares of such f64 overflows
    (*large.g[4])[5] = Limits::max();
    EXPECT_EQ(large.norm().nonfinite_tensor, -1);
  });
}

TYPED_TEST(OptimizerKernelTest, NoTensorsAreFine) {
  for_each_variant<TypeParam>([] {
    const Shared<std::int64_t> offsets{0};
    const Shared<AdamWScalars> scalars{{.step = 1}};
    run(test_device(),
        AdamWStep<TypeParam>{nullptr, offsets.data(), 0, 0.1, 0, 0.9, 0.99, 1e-8, scalars.data()});
    Shared<SquaredNormPartial> result{{NAN, 99}};
    run(test_device(), SquaredNorm<TypeParam>{nullptr, offsets.data(), 0, nullptr, result.data()});
    EXPECT_EQ(result[0].sum, 0);
    EXPECT_EQ(result[0].nonfinite_tensor, -1);
  });
}

TYPED_TEST(OptimizerKernelTest, AStoppedOptimizerChangesNothing) {
  for_each_variant<TypeParam>([] {
    Case<TypeParam> c;
    c.scalars[0].stopped = 1;
    const auto before = c.p[4]->to_vector();
    run(test_device(), c.step());
    EXPECT_EQ(c.p[4]->to_vector(), before);
  });
}

/// What AdamWPrepare reads and writes.
template <class T>
struct PrepareCase {
  Shared<SquaredNormPartial> norm{{9.0, -1}};
  Shared<double> factors{0.5, 0.25};
  Shared<T> losses{T(1.5), T(-2)};
  Shared<const T*> addresses{&losses[0], &losses[1]};
  Shared<AdamWScalars> scalars{AdamWScalars{}};
  Shared<AdamWReport> report{{-1, 77, 77, 77}};
  Shared<double> values{NAN, NAN};

  void prepare(double max_gradient_norm = 0) {
    run(test_device(),
        AdamWPrepare<T>{norm.data(), factors.data(), 2, max_gradient_norm, addresses.data(), 2,
                        scalars.data(), report.data(), values.data()});
  }
};

TYPED_TEST(OptimizerKernelTest, PrepareCountsStepsClipsAndReports) {
  for_each_variant<TypeParam>([] {
    PrepareCase<TypeParam> c;
    for (const double factor : {0.5, 0.25, 0.25}) {  // the last one from then on
      c.prepare(1.5);
      EXPECT_EQ(c.scalars[0].learning_rate_factor, factor);
      EXPECT_EQ(c.scalars[0].gradient_scale, 1.5 / (3 + 1e-6));
    }
    EXPECT_EQ(c.scalars[0].step, 3);
    EXPECT_EQ(c.scalars[0].stopped, 0);
    EXPECT_EQ(c.report[0].gradient_norm, 3);
    EXPECT_EQ(c.report[0].nonfinite_tensor, -1);
    EXPECT_EQ(c.report[0].nonfinite_loss, -1);
    EXPECT_EQ(c.values, (Shared<double>{1.5, -2}));
    for (const double limit : {0.0, 3.1}) {
      c.prepare(limit);
      EXPECT_EQ(c.scalars[0].gradient_scale, 1);
    }
  });
}

TYPED_TEST(OptimizerKernelTest, PrepareStopsAtWhatIsNotFinite) {
  using Limits = std::numeric_limits<TypeParam>;
  for_each_variant<TypeParam>([] {
    for (const TypeParam bad : {Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity()}) {
      PrepareCase<TypeParam> c;
      c.losses[1] = bad;
      c.prepare();
      EXPECT_EQ(c.report[0].nonfinite_loss, 1);
      EXPECT_EQ(c.scalars[0].step, 0);
      EXPECT_EQ(c.scalars[0].stopped, 1);
      c.losses[1] = 0;
      EXPECT_EQ(c.report[0].stopped_before, 0);
      c.prepare();  // for good
      EXPECT_EQ(c.report[0].nonfinite_loss, -1);
      EXPECT_EQ(c.report[0].stopped_before, 1);
      EXPECT_EQ(c.scalars[0].step, 0);
    }
    PrepareCase<TypeParam> c;
    c.norm[0].nonfinite_tensor = 2;
    c.prepare();
    EXPECT_EQ(c.report[0].nonfinite_tensor, 2);
    EXPECT_EQ(c.scalars[0].stopped, 1);
  });
}

TEST(OptimizerKernelTest, PowersBySquaring) {
  for (const double beta : {0.0, 0.5, 0.9, 0.999, 0.999999}) {
    for (const std::int64_t t : {0, 1, 2, 3, 10, 1000, 123457}) {
      const double exact = std::pow(beta, static_cast<double>(t));
      EXPECT_NEAR(power_of(beta, t), exact, static_cast<double>(t) * 0x1p-52 * exact) << beta << t;
      if (t > 0 && beta <= 0.999) {
        EXPECT_NEAR(1 - power_of(beta, t), 1 - exact, 4e-13 * (1 - exact)) << beta << " " << t;
      }
    }
  }
}

TEST(OptimizerKernelTest, MoreChunksThanTheCudaGridHasBlocks) {
  for_each_cuda_device([] {
    const Shared<AdamWScalars> scalars{{.step = 1}};
    {
      const Shared<std::int64_t> offsets = {0, 3,
                                            528 * 2048 + 5};  // blocks times elements of a chunk
      const std::int64_t count = offsets[2];
      Guarded<float> p(count, 1.0F), g(count, 1.0F), m(count, 0.0F), v(count, 0.0F);
      const Shared<AdamWTensor<float>> tensors = {{&p[0], &g[0], &m[0], &v[0]},
                                                  {&p[3], &g[3], &m[3], &v[3]}};
      run(test_device(), AdamWStep<float>{tensors.data(), offsets.data(), 2, 0.5, 0, 0.9, 0.99,
                                          1e-8, scalars.data()});
      EXPECT_TRUE(
          std::ranges::all_of(p.span(), [](float x) { return std::abs(x - 0.5F) < 1e-5F; }));
    }
    const Shared<std::int64_t> offsets = {0, 528 * kSquaredNormGrain + 3};
    Guarded<float> x(offsets[1], 2.0F);
    const Shared<const float*> tensors = {x.data()};
    Shared<SquaredNormPartial> workspace(squared_norm_workspace(offsets[1]));
    Shared<SquaredNormPartial> result(1);
    run(test_device(),
        SquaredNorm<float>{tensors.data(), offsets.data(), 1, workspace.data(), result.data()});
    EXPECT_EQ(result[0].sum, 4.0 * static_cast<double>(offsets[1]));
  });
}

TEST(OptimizerKernelTest, AnyArrayMayBeMisaligned) {
  const Shared<std::int64_t> offsets = {0, 5, 5, 5000};
  const Shared<AdamWScalars> scalars{{.step = 1}};
  expect_same_for_any_alignment(
      {5, 5, 5, 5, 4995, 4995, 4995, 4995}, [&](const std::vector<float*>& p) {
        for (const int second_moment : {3, 7}) {
          const std::int64_t count = second_moment == 3 ? 5 : 4995;
          for (std::int64_t i = 0; i < count; ++i) p[second_moment][i] = 1;
        }
        const Shared<AdamWTensor<float>> tensors = {{p[0], p[1], p[2], p[3]},
                                                    {nullptr, nullptr, nullptr, nullptr},
                                                    {p[4], p[5], p[6], p[7]}};
        run(test_device(), AdamWStep<float>{tensors.data(), offsets.data(), 3, 0.1, 0, 0.9, 0.99,
                                            1e-8, scalars.data()});
        const Shared<const float*> gradients = {p[1], nullptr, p[5]};
        Shared<SquaredNormPartial> workspace(squared_norm_workspace(5000)), result(1);
        run(test_device(), SquaredNorm<float>{gradients.data(), offsets.data(), 3, workspace.data(),
                                              result.data()});
        p[0][0] = static_cast<float>(result[0].sum);
      });
}

}  // namespace
}  // namespace cmir::kernels
