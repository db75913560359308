#include "kernels/convolution/conv1d.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/outputs_test.h"
#include "tests/kernels/packed_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;
using Lengths = std::vector<std::int64_t>;
using Offsets = Shared<std::int64_t>;

Conv1dSizes sizes_of(const Offsets& offsets, std::int64_t in, std::int64_t out, std::int64_t taps) {
  return {offsets.back(), static_cast<std::int64_t>(offsets.size()) - 1, in, out, taps};
}

/// Calls f(r, source, t) for each output row r and tap t whose source row lies in r's sample.
template <class F>
void for_each_tap(const Offsets& offsets, std::int64_t taps, F&& f) {
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
    for (std::int64_t r = offsets[s]; r < offsets[s + 1]; ++r) {
      for (std::int64_t t = 0; t < taps; ++t) {
        const std::int64_t source = r + t - taps / 2;
        if (offsets[s] <= source && source < offsets[s + 1]) f(r, source, t);
      }
    }
  }
}

template <class T>
std::vector<SumOf<T>> forward(const std::vector<double>& x, const Offsets& offsets,
                              const std::vector<double>& weight, const std::vector<double>* bias,
                              const Conv1dSizes& s) {
  Guarded<T> input(x), kernel(weight);
  Guarded<SumOf<T>> start(bias != nullptr ? *bias : std::vector<double>{}), y(s.rows * s.out),
      workspace(conv1d_forward_workspace<T>(s));
  run(test_device(),
      Conv1dForward<T>{input.data(), offsets.data(), kernel.data(),
                       bias != nullptr ? start.data() : nullptr, y.data(), s, workspace.data()});
  return y.bits();
}

template <class T>
class Conv1dTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double, BFloat16>;
TYPED_TEST_SUITE(Conv1dTest, Scalars);

TYPED_TEST(Conv1dTest, MatchesTheFormula) {
  using T = TypeParam;
  struct Case {
    Lengths lengths;
    std::int64_t in, out, taps;
  };
  const std::vector<Case> cases = {{kRaggedLengths, 5, 20, 3}, {kRaggedLengths, 47, 30, 3},
                                   {kRaggedLengths, 1, 1, 3},  {kRaggedLengths, 20, 47, 1},
                                   {kRaggedLengths, 5, 9, 7},  {{1}, 74, 150, 3},
                                   {{3, 2}, 20, 17, 3},        {{97}, 8, 33, 5},
                                   {{0, 0}, 3, 4, 3},          {Lengths(40, 50), 2, 3, 3},
                                   {{31, 1, 33}, 11, 32, 3},   {{40}, 32, 65, 1}};
  for_each_variant<T>([&] {
    for (const Case& c : cases) {
      const Offsets offsets = offsets_of(c.lengths);
      const Conv1dSizes s = sizes_of(offsets, c.in, c.out, c.taps);
      const std::string reproduce =
          fmt::format("rows {} in {} out {} taps {}", s.rows, s.in, s.out, s.taps);
      Guarded<T> x(normals(s.rows * s.in, 1)), weight(normals(s.out * s.window(), 2)),
          dy(normals(s.rows * s.out, 4));
      using Sum = SumOf<T>;
      Guarded<Sum> bias(normals(s.out, 3));
      Guarded<Sum> y(s.rows * s.out), dx(s.rows * s.in), dweight(s.out * s.window()), dbias(s.out);
      Guarded<Sum> w1(conv1d_forward_workspace<T>(s)), w2(conv1d_backward_input_workspace<T>(s)),
          w3(conv1d_backward_weight_workspace<T>(s));
      run(test_device(), Conv1dForward<T>{x.data(), offsets.data(), weight.data(), bias.data(),
                                          y.data(), s, w1.data()});
      run(test_device(), Conv1dBackwardInput<T>{dy.data(), offsets.data(), weight.data(), dx.data(),
                                                s, w2.data()});
      run(test_device(), Conv1dBackwardWeight<T>{x.data(), offsets.data(), dy.data(),
                                                 dweight.data(), dbias.data(), s, w3.data()});

      std::vector<double> y0(s.rows * s.out), dx0(s.rows * s.in), dw0(s.out * s.window()),
          db0(s.out);
      for (std::int64_t i = 0; i < s.rows * s.out; ++i) {
        y0[i] = bias[i % s.out];
        db0[i % s.out] += exact(dy[i]);
      }
      for_each_tap(offsets, s.taps, [&](std::int64_t r, std::int64_t source, std::int64_t t) {
        for (std::int64_t o = 0; o < s.out; ++o) {
          for (std::int64_t i = 0; i < s.in; ++i) {
            const std::int64_t w = (o * s.in + i) * s.taps + t;
            y0[r * s.out + o] += exact(x[source * s.in + i]) * exact(weight[w]);
            dx0[source * s.in + i] += exact(dy[r * s.out + o]) * exact(weight[w]);
            dw0[w] += exact(dy[r * s.out + o]) * exact(x[source * s.in + i]);
          }
        }
      });
      expect_close(y, y0, std::sqrt(1.0 * s.window()), 20, reproduce + " y");
      expect_close(dx, dx0, std::sqrt(1.0 * s.taps * s.out), 20, reproduce + " dx");
      expect_close(dweight, dw0, std::sqrt(1.0 * s.rows + 1), 20, reproduce + " dweight");
      expect_close(dbias, db0, std::sqrt(1.0 * s.rows + 1), 20, reproduce + " dbias");
    }
  });
}

TYPED_TEST(Conv1dTest, ASampleGivesTheSameBitsAloneAndInABatch) {
  using T = TypeParam;
  const Offsets offsets = offsets_of(kRaggedLengths);
  const Conv1dSizes s = sizes_of(offsets, 5, 20, 3);
  const auto x = normals(s.rows * s.in, 1), weight = normals(s.out * s.window(), 2);
  for_each_variant<T>([&] {
    const auto batch = forward<T>(x, offsets, weight, nullptr, s);
    for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
      const Offsets own = {0, offsets[i + 1] - offsets[i]};
      const auto alone = forward<T>(rows_of(x, offsets[i], offsets[i + 1], s.in), own, weight,
                                    nullptr, sizes_of(own, s.in, s.out, s.taps));
      EXPECT_EQ(alone, rows_of(batch, offsets[i], offsets[i + 1], s.out)) << "sample " << i;
    }
  });
}

TYPED_TEST(Conv1dTest, NaNStaysInItsSampleAndWindow) {
  using T = TypeParam;
  const Offsets offsets = {0, 4, 8};
  auto x = normals(8 * 2, 1);
  x[4 * 2] = std::nan("");  // the second sample's first row
  for_each_variant<T>([&] {
    const auto y =
        forward<T>(x, offsets, normals(3 * 2 * 3, 2), nullptr, sizes_of(offsets, 2, 3, 3));
    for (std::int64_t i = 0; i < 8 * 3; ++i)
      EXPECT_EQ(std::isnan(y[i]), i / 3 == 4 || i / 3 == 5) << i;
  });
}

TYPED_TEST(Conv1dTest, SameBitsForAnyThreadCountAndSchedule) {
  using T = TypeParam;
  const Offsets offsets = offsets_of(Lengths(43, 37));
  const Conv1dSizes s = sizes_of(offsets, 7, 11, 3);
  expect_same_bits<T>([&] {
    Guarded<T> x(normals(s.rows * s.in, 1)), weight(normals(s.out * s.window(), 2)),
        dy(normals(s.rows * s.out, 4));
    Guarded<SumOf<T>> dx(s.rows * s.in), dweight(s.out * s.window()), dbias(s.out);
    Guarded<SumOf<T>> w2(conv1d_backward_input_workspace<T>(s)),
        w3(conv1d_backward_weight_workspace<T>(s));
    auto all =
        forward<T>(normals(s.rows * s.in, 1), offsets, normals(s.out * s.window(), 2), nullptr, s);
    run(test_device(),
        Conv1dBackwardInput<T>{dy.data(), offsets.data(), weight.data(), dx.data(), s, w2.data()});
    run(test_device(), Conv1dBackwardWeight<T>{x.data(), offsets.data(), dy.data(), dweight.data(),
                                               dbias.data(), s, w3.data()});
    for (auto* part : {&dx, &dweight, &dbias}) {
      const auto bits = part->bits();
      all.insert(all.end(), bits.begin(), bits.end());
    }
    return all;
  });
}

TEST(Conv1dTest, AnyArrayMayBeMisaligned) {
  const Offsets offsets = {0, 5, 40};
  const Conv1dSizes s = sizes_of(offsets, 4, 36, 3);
  const std::int64_t x = s.rows * s.in, y = s.rows * s.out, w = s.out * s.window();
  expect_same_for_any_alignment({x, w, s.out, y}, [&](const std::vector<float*>& p) {
    Guarded<float> workspace(conv1d_forward_workspace<float>(s));
    run(test_device(),
        Conv1dForward<float>{p[0], offsets.data(), p[1], p[2], p[3], s, workspace.data()});
  });
  expect_same_for_any_alignment({y, w, x}, [&](const std::vector<float*>& p) {
    Guarded<float> workspace(conv1d_backward_input_workspace<float>(s));
    run(test_device(),
        Conv1dBackwardInput<float>{p[0], offsets.data(), p[1], p[2], s, workspace.data()});
  });
  expect_same_for_any_alignment(
      {x, y, w, s.out, conv1d_backward_weight_workspace<float>(s)},
      [&](const std::vector<float*>& p) {
        run(test_device(),
            Conv1dBackwardWeight<float>{p[0], offsets.data(), p[1], p[2], p[3], s, p[4]});
        std::fill_n(p[4], conv1d_backward_weight_workspace<float>(s), 0.0F);  // of no meaning
      });
}

}  // namespace
}  // namespace cmir::kernels
