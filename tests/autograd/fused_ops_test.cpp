// Fused ops against the ops that they replace.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "autograd/arithmetic.h"
#include "autograd/dropout.h"
#include "autograd/elementwise.h"
#include "autograd/gradcheck.h"
#include "autograd/layer_norm.h"
#include "autograd/linear.h"
#include "autograd/rows.h"
#include "tests/kernels/kernel_test.h"

namespace cmir {
namespace {

using kernels::testing::for_each_isa;

constexpr Activation kActivations[] = {Activation::none, Activation::relu,    Activation::gelu,
                                       Activation::tanh, Activation::sigmoid, Activation::exp};

/// The result and all gradients of f at reproducible leaves, under a random cotangent.
std::vector<Tensor> results(DType dtype, Device device, const std::vector<Shape>& shapes,
                            const std::function<Variable(const std::vector<Variable>&)>& f) {
  std::vector<Variable> leaves;
  for (std::size_t i = 0; i < shapes.size(); ++i)
    leaves.emplace_back(random_normal(shapes[i], i + 1).to(dtype).to(device), true);
  const Variable y = f(leaves);
  backward(y, {.seed = random_normal(y.shape(), 99).to(dtype).to(device)});
  std::vector<Tensor> all{y.value()};
  for (const Variable& leaf : leaves) all.push_back(leaf.gradient());
  return all;
}

/// Within `factor` roundings of the elements' magnitudes; 0: equal, up to the sign of zeros.
void expect_agreement(const std::vector<Tensor>& actual, const std::vector<Tensor>& expected,
                      double factor) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t t = 0; t < expected.size(); ++t) {
    const auto a = actual[t].to_vector(), e = expected[t].to_vector();
    const double epsilon = expected[t].dtype() == DType::f32 ? 0x1p-23 : 0x1p-52;
    double norm = 0;
    for (const double v : e) norm = std::max(norm, std::abs(v));
    ASSERT_EQ(a.size(), e.size());
    for (std::size_t i = 0; i < e.size(); ++i) {
      ASSERT_LE(std::abs(a[i] - e[i]), factor * epsilon * norm)
          << "tensor " << t << " element " << i << ": " << a[i] << " and " << e[i];
    }
  }
}

/// Calls body(dtype, device) for every instruction set in f32 and f64, and for the CUDA kernels on
/// the host model in f32.
template <class Body>
void for_each_kind(Body&& body) {
  for_each_isa([&] {
    body(DType::f32, Device{});
    body(DType::f64, Device{});
  });
  SCOPED_TRACE("simt");
  body(DType::f32, Device{DeviceType::simt});
}

TEST(FusedLinear, DropsWhatTheDropoutOpDrops) {
  const DropoutMask mask{0.3, {.seed = 8, .step = 2, .site = 5}};
  // One chunk; chunks of rows; chunks of columns that begin within a tile of the mask.
  for (const auto& [rows, in, out] : {std::tuple{7, 5, 9}, {400, 70, 90}, {48, 150, 300}}) {
    for (const Activation activation : kActivations) {
      SCOPED_TRACE(
          fmt::format("activation {}, {} x {} x {}", static_cast<int>(activation), rows, in, out));
      // Compilers contract gelu's slope as they like, and an output that was scaled by 1 / (1 - p)
      // and is unscaled again is not quite what it was.
      // Without an activation a device adds up the bias gradient in another order.
      const double factor = activation == Activation::relu                                     ? 0
                            : activation == Activation::none || activation == Activation::gelu ? 16
                                                                                               : 20;
      const std::vector<Shape> shapes = {{rows, in}, {out, in}, {out}};
      for_each_kind([&](DType dtype, Device device) {
        const auto apart = results(dtype, device, shapes, [&](const auto& v) {
          const Variable x = ops::scale(v[0], 0.1);
          return ops::dropout(ops::linear(x, v[1], v[2], activation), mask.p, mask.stream);
        });
        const auto fused = results(dtype, device, shapes, [&](const auto& v) {
          const Variable x = ops::scale(v[0], 0.1);
          return ops::linear(x, v[1], v[2], activation, mask);
        });
        EXPECT_EQ(fused[0].to_vector(), apart[0].to_vector());
        expect_agreement(fused, apart, factor);
      });
    }
  }
}

TEST(Mlp, IsItsLayersOneAfterAnother) {
  // Products of chunks of rows and of columns; on a device, rows of the relu's mask that begin
  // beyond its first 128 columns.
  for (const auto& [rows, in, hidden, out] :
       {std::tuple{1, 3, 2, 1}, {7, 5, 131, 9}, {400, 70, 90, 33}, {48, 150, 300, 5}}) {
    for (const auto& [bias, last] : {std::pair{true, Activation::none},
                                     {true, Activation::gelu},
                                     {true, Activation::relu},
                                     {false, Activation::none}}) {
      SCOPED_TRACE(fmt::format("{} x {} x {} x {}, bias {}, last {}", rows, in, hidden, out, bias,
                               static_cast<int>(last)));
      const std::vector<Shape> shapes =
          bias ? std::vector<Shape>{{rows, in}, {hidden, in},  {hidden}, {hidden, hidden},
                                    {hidden},   {out, hidden}, {out}}
               : std::vector<Shape>{{rows, in}, {hidden, in}, {hidden, hidden}, {out, hidden}};
      const auto layers = [&](const std::vector<Variable>& v) {
        std::vector<ops::LinearLayer> all;
        for (std::size_t i = 1; i < v.size(); i += bias ? 2 : 1) {
          all.push_back({ops::scale(v[i], 0.1), bias ? v[i + 1] : Variable()});
        }
        return all;
      };
      for_each_kind([&](DType dtype, Device device) {
        const auto apart = results(dtype, device, shapes, [&](const auto& v) {
          const auto l = layers(v);
          Variable x = ops::linear(v[0], l[0].weight, l[0].bias, Activation::relu);
          x = ops::linear(x, l[1].weight, l[1].bias, Activation::relu);
          return ops::linear(x, l[2].weight, l[2].bias, last);
        });
        const auto fused = results(dtype, device, shapes,
                                   [&](const auto& v) { return ops::mlp(v[0], layers(v), last); });
        EXPECT_EQ(fused[0].to_vector(), apart[0].to_vector());
        expect_agreement(fused, apart, device.is_cpu() ? 0 : 8);
      });
    }
  }
}

TEST(Mlp, NeedsNotAllGradients) {
  const std::vector<Tensor> values = {random_normal({5, 3}, 1), random_normal({4, 3}, 2),
                                      random_normal({4}, 3),    random_normal({6, 4}, 4),
                                      random_normal({6}, 5),    random_normal({2, 6}, 6),
                                      random_normal({2}, 7)};
  const auto gradients = [&](std::uint32_t wanted) {
    std::vector<Variable> v;
    for (std::size_t i = 0; i < values.size(); ++i) v.emplace_back(values[i], wanted >> i & 1);
    backward(ops::mlp(v[0], {{v[1], v[2]}, {v[3], v[4]}, {v[5], v[6]}}),
             {.seed = random_normal({5, 2}, 8)});
    std::vector<Tensor> all;
    for (const Variable& x : v) all.push_back(x.gradient());
    return all;
  };
  const auto all = gradients(0x7F);
  for (std::uint32_t wanted = 1; wanted < 0x7F; ++wanted) {
    const auto some = gradients(wanted);
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(some[i].defined(), (wanted >> i & 1) != 0) << wanted << " input " << i;
      if (wanted >> i & 1) {
        ASSERT_EQ(some[i].to_vector(), all[i].to_vector()) << wanted;
      }
    }
  }
}

TEST(Mlp, RefusesWhatDoesNotFit) {
  const Variable x(random_normal({5, 3}, 1)), first(random_normal({4, 3}, 2)),
      second(random_normal({6, 5}, 3)), bias(random_normal({4}, 4));
  EXPECT_THROW(ops::mlp(x, {}), Error);
  EXPECT_THROW(ops::mlp(x, {{first, {}}, {second, {}}}), Error);
  EXPECT_THROW(ops::mlp(x, {{first, bias}, {first, {}}}), Error);
}

TEST(FusedLinear, KeepsOneArrayForReluWithDropout) {
  Tensor x = Tensor::full({3, 2}, 1.0), y;
  const Variable weight(random_normal({4, 2}, 2).to(DType::f32), true);
  const Variable result = ops::linear(Variable(x), weight, {}, Activation::relu, {0.5, {}});
  y = result.value();
  y.fill(0);  // what backward reads is the result itself
  EXPECT_THROW(backward(result, {.seed = Tensor::zeros({3, 4})}), Error);
  const Variable plain = ops::linear(Variable(x), weight, {}, Activation::none, {0.5, {}});
  Tensor(plain.value()).fill(0);
  EXPECT_NO_THROW(backward(plain, {.seed = Tensor::zeros({3, 4})}));
}

std::vector<Shape> norm_shapes(std::int64_t rows, std::int64_t width) {
  return {{rows, width}, {rows, width}, {width}, {width}};
}

TEST(FusedLayerNorm, AgreesWithTheSumAndTheNorm) {
  for (const auto& [rows, width] : {std::pair{1, 1}, {5, 7}, {70, 33}, {3, 1028}}) {
    const std::vector<Shape> shapes = norm_shapes(rows, width);
    for_each_kind([&](DType dtype, Device device) {
      const auto apart = results(dtype, device, shapes, [](const auto& v) {
        const Variable sum = ops::add(v[0], v[1]);
        return ops::concat({sum, ops::layer_norm(sum, v[2], v[3])});
      });
      const auto fused = results(dtype, device, shapes, [](const auto& v) {
        const auto [sum, norm] = ops::sum_and_layer_norm(v[0], v[1], v[2], v[3]);
        return ops::concat({sum, norm});
      });
      expect_agreement(fused, apart, 4);
      EXPECT_EQ(fused[0].to_vector(), apart[0].to_vector());
      const auto norm_apart = results(dtype, device, shapes, [](const auto& v) {
        return ops::layer_norm(ops::add(v[0], v[1]), v[2], v[3]);
      });
      const auto norm_fused = results(dtype, device, shapes, [](const auto& v) {
        return ops::layer_norm_of_sum(v[0], v[1], v[2], v[3]);
      });
      expect_agreement(norm_fused, norm_apart, 0);
    });
  }
}

TEST(FusedLayerNorm, TheNormIsTheSameWhereNothingIsRecorded) {
  const Variable x(random_normal({5, 7}, 1), true), r(random_normal({5, 7}, 2)),
      gamma(random_normal({7}, 3)), beta(random_normal({7}, 4));
  const auto recorded = ops::sum_and_layer_norm(x, r, gamma, beta);
  const NoGradScope no_grad;
  const auto plain = ops::sum_and_layer_norm(x, r, gamma, beta);
  EXPECT_FALSE(plain.sum.requires_gradient() || plain.norm.requires_gradient());
  EXPECT_EQ(plain.sum.value().to_vector(), recorded.sum.value().to_vector());
  EXPECT_EQ(plain.norm.value().to_vector(), recorded.norm.value().to_vector());
  EXPECT_EQ(ops::layer_norm_of_sum(x, r, gamma, beta).value().to_vector(),
            recorded.norm.value().to_vector());
}

/// gamma alone may be trained, and then no gradient reaches the sum.
TEST(FusedLayerNorm, ParametersMayBeAllThatIsTrained) {
  const Variable x(random_normal({5, 7}, 1)), r(random_normal({5, 7}, 2)),
      gamma(random_normal({7}, 3), true), beta(random_normal({7}, 4));
  const auto [sum, norm] = ops::sum_and_layer_norm(x, r, gamma, beta);
  EXPECT_FALSE(sum.requires_gradient());
  backward(norm, {.seed = random_normal({5, 7}, 5)});
  const Variable again(gamma.value(), true);
  backward(ops::layer_norm(sum, again, beta), {.seed = random_normal({5, 7}, 5)});
  EXPECT_EQ(gamma.gradient().to_vector(), again.gradient().to_vector());
}

/// The layer norm adds to what has arrived at x in place only where nobody else holds it: here
/// `add` sends one tensor to x and to w.
TEST(FusedLayerNorm, WritesOnlyToAGradientOfItsOwn) {
  const Variable leaf(random_normal({4, 5}, 1), true), w(random_normal({4, 5}, 2), true),
      gamma(random_normal({5}, 3)), beta(random_normal({5}, 4));
  const Variable x = ops::scale(leaf, 1.0);
  const Variable norm = ops::layer_norm(x, gamma, beta);
  const Variable seen = ops::add(x, w);  // after the norm: its gradients arrive before
  const Tensor seed = random_normal({4, 10}, 5);
  backward(ops::concat({norm, seen}), {.seed = seed});
  std::vector<double> of_seen;
  for (std::int64_t r = 0; r < 4; ++r) {
    for (std::int64_t j = 5; j < 10; ++j) of_seen.push_back(seed.to_vector()[r * 10 + j]);
  }
  EXPECT_EQ(w.gradient().to_vector(), of_seen);
}

/// A hook sees the whole gradient of the sum, the norm's part included.
TEST(FusedLayerNorm, AHookOnTheSumSeesBothParts) {
  const Variable x(random_normal({4, 5}, 1), true), r(random_normal({4, 5}, 2)),
      gamma(random_normal({5}, 3)), beta(random_normal({5}, 4));
  auto [sum, norm] = ops::sum_and_layer_norm(x, r, gamma, beta);
  int calls = 0;
  std::vector<double> seen;
  sum.add_hook([&](const Tensor& gradient) {
    ++calls;
    seen = gradient.to_vector();
    return Tensor();
  });
  backward(ops::concat({norm, ops::scale(sum, 2.0)}), {.seed = random_normal({4, 10}, 5)});
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(seen, x.gradient().to_vector());
}

}  // namespace
}  // namespace cmir
