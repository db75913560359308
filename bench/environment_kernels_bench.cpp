// The kernels of virtual environments and noise protocols against plain loops: noisy variants,
// corruption, the invariance penalty, the squared distance of R_rec.
#include <array>

#include "bench/harness.h"
#include "kernels/loss/corrupt.h"
#include "kernels/loss/invariance.h"
#include "kernels/loss/noise_variants.h"
#include "kernels/loss/squared_distance.h"

namespace cmir::kernels {
namespace {

using namespace bench;

constexpr RandomStream kStream{.seed = 5, .step = 1, .site = 2};
constexpr double kScale = 1.0 / 1024;

void noise_variants(benchmark::State& state) {
  const std::int64_t count = state.range(0), environments = state.range(1);
  Array<float> x(normals(count, 1)), y((environments + 1) * count);
  const NoiseVariantsForward<float> args{x.data(), y.data(), count, environments, 0.1, kStream};
  measure(state, args, [&] {
    std::vector<float> expected(y.size());
    for (std::int64_t i = 0; i < y.size(); ++i) {
      const auto e = static_cast<float>(i / count);
      expected[i] = x[i % count] + (i < count ? 0 : 0.1F * e * kStream.normal(i - count));
    }
    return agree(state, y, expected, 1e-4);
  });
}

void noise_variants_backward(benchmark::State& state) {
  const std::int64_t count = state.range(0), blocks = state.range(1) + 1;
  Array<float> dy(normals(blocks * count, 1)), dx(count);
  measure(state, NoiseVariantsBackward<float>{dy.data(), dx.data(), count, blocks}, [&] {
    std::vector<float> expected(count);
    for (std::int64_t i = 0; i < blocks * count; ++i) expected[i % count] += dy[i];
    return agree(state, dx, expected, 1e-5);
  });
}

Function corrupt(CorruptionKind kind) {
  return [kind](benchmark::State& state) {
    const std::int64_t rows = state.range(0), width = state.range(1);
    Array<float> x(normals(rows * width, 1)), y(rows * width);
    const Corrupt<float> args{x.data(), y.data(), rows, width, kind, 0.3, 1.0, false, kStream};
    measure(state, args, [&] {
      std::vector<float> expected(y.size());
      for (std::int64_t i = 0; i < y.size(); ++i) {
        if (kind == CorruptionKind::gaussian) {
          expected[i] = 0.7F * x[i] + 0.3F * kStream.normal(i);
        } else {
          expected[i] = kStream.uniform(i) < 0.3F ? 0 : x[i];
        }
      }
      return agree(state, y, expected, 1e-4);
    });
  };
}

struct Ranked {
  double value = 0;
  std::vector<std::int8_t> ranks;
};
/// All pairs.
Ranked naive_invariance(const Array<float>& z, std::int64_t variants, std::int64_t count) {
  Ranked result{0, std::vector<std::int8_t>(variants * count)};
  for (std::int64_t a = 0; a < variants; ++a) {
    for (std::int64_t b = a + 1; b < variants; ++b) {
      for (std::int64_t i = 0; i < count; ++i) {
        const float x = z[a * count + i], y = z[b * count + i];
        const int sign = (x > y) - (x < y);
        result.value += kScale * std::abs(x - y);
        result.ranks[a * count + i] += static_cast<std::int8_t>(sign);
        result.ranks[b * count + i] -= static_cast<std::int8_t>(sign);
      }
    }
  }
  return result;
}

void invariance(benchmark::State& state) {
  const std::int64_t count = state.range(0), variants = state.range(1) + 1;
  Array<float> z(normals(variants * count, 1)), value(1);
  Array<double> partial(InvarianceForward<float>::workspace(count));
  Array<std::int8_t> ranks(variants * count);
  const InvarianceForward<float> args{z.data(),       variants,     count,       kScale,
                                      partial.data(), value.data(), ranks.data()};
  measure(state, args, [&] {
    const Ranked expected = naive_invariance(z, variants, count);
    return agree(state, value, std::vector{expected.value}, 1e-5 * expected.value) &&
           agree(state, ranks, expected.ranks, 0);
  });
}

void invariance_backward(benchmark::State& state) {
  const std::int64_t count = state.range(0) * (state.range(1) + 1);
  Array<std::int8_t> ranks(count);
  for (std::int64_t i = 0; i < count; ++i) ranks[i] = static_cast<std::int8_t>(i % 7 - 3);
  Array<float> cotangent(std::vector<float>{-1.5F}), dz(count);
  const InvarianceBackward<float> args{ranks.data(), cotangent.data(), kScale, dz.data(), count};
  measure(state, args, [&] {
    std::vector<float> expected(count);
    for (std::int64_t i = 0; i < count; ++i) {
      expected[i] = static_cast<float>(-1.5 * kScale) * static_cast<float>(ranks[i]);
    }
    return agree(state, dz, expected, 1e-7);
  });
}

void squared_distance(benchmark::State& state) {
  const std::int64_t count = state.range(0);
  Array<float> a(normals(count, 1)), b(normals(count, 2)), value(1);
  Array<double> partial(SquaredDistanceForward<float>::workspace(count));
  const SquaredDistanceForward<float> args{a.data(), b.data(),       count,
                                           kScale,   partial.data(), value.data()};
  measure(state, args, [&] {
    double expected = 0;
    for (std::int64_t i = 0; i < count; ++i) expected += std::pow(double{a[i]} - b[i], 2);
    expected *= kScale;
    return agree(state, value, std::vector{expected}, 1e-5 * expected);
  });
}

void squared_distance_backward(benchmark::State& state) {
  const std::int64_t count = state.range(0);
  Array<float> a(normals(count, 1)), b(normals(count, 2)), da(count), db(count);
  Array<float> cotangent(std::vector<float>{-1.5F});
  const SquaredDistanceBackward<float> args{a.data(), b.data(),  cotangent.data(), count,
                                            kScale,   da.data(), db.data()};
  measure(state, args, [&] {
    std::vector<float> expected(count);
    for (std::int64_t i = 0; i < count; ++i) {
      expected[i] = static_cast<float>(-3 * kScale) * (a[i] - b[i]);
    }
    if (!agree(state, da, expected, 1e-6)) return false;
    for (float& x : expected) x = -x;
    return agree(state, db, expected, 1e-6);
  });
}

const Table kVariants = {{"count", "environments"},
                         {{48 * 150, 1}, {48 * 150, 10}, {4096 * 150, 4}},
                         {{1 << 24, 2}, {1 << 23, 10}}};
const Table kRows = {{"rows", "width"}, {{48, 150}, {4096, 150}}, {{1 << 18, 150}}};
const Table kFlat = {{"count"}, {{48 * 150}, {4096 * 150}}, {{1 << 25}}};
const Register registered{with_references({
    kernel<NoiseVariantsForward<float>>(kVariants, noise_variants),
    kernel<NoiseVariantsBackward<float>>(kVariants, noise_variants_backward),
    kernel<Corrupt<float>>(kRows, corrupt(CorruptionKind::gaussian), "gaussian"),
    kernel<Corrupt<float>>(kRows, corrupt(CorruptionKind::erase), "erase"),
    kernel<InvarianceForward<float>>(kVariants, invariance),
    kernel<InvarianceBackward<float>>(kVariants, invariance_backward),
    kernel<SquaredDistanceForward<float>>(kFlat, squared_distance),
    kernel<SquaredDistanceBackward<float>>(kFlat, squared_distance_backward),
})};

}  // namespace
}  // namespace cmir::kernels
