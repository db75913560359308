// The kernels of the bounds of mutual information against plain loops in f64, and vCLUB against all
// pairs in f32, as the bound is defined, and against what memory allows. This file is compiled with
// the kernels' flags for this machine's instruction set, so that the naive forms are vectorised
// too.
#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "bench/harness.h"
#include "core/parallel.h"
#include "core/permutation.h"
#include "kernels/information/club.h"
#include "kernels/information/club_sample.h"
#include "kernels/information/gaussian.h"

namespace cmir::kernels {
namespace {

using namespace bench;

constexpr double kCotangent = -1.5;
constexpr RandomStream kStream{.seed = 4, .step = 2};

/// Inputs with y about mu, as of a trained q, and room for what all of the kernels write.
struct Data {
  std::int64_t rows, width;
  double scale;
  Array<float> mu, logvar, y, cotangent, value, dmu, dlogvar, dy;

  explicit Data(const benchmark::State& state)
      : rows(state.range(0)),
        width(state.range(1)),
        scale(1.0 / static_cast<double>(rows)),
        mu(normals(rows * width, 1)),
        logvar(normals(rows * width, 2)),
        y(normals(rows * width, 3)),
        cotangent(std::vector{static_cast<float>(kCotangent)}),
        value(1),
        dmu(rows * width),
        dlogvar(rows * width),
        dy(rows * width) {
    for (std::int64_t i = 0; i < rows * width; ++i) {
      logvar[i] *= 0.3F;
      y[i] = mu[i] + 0.5F * y[i];
    }
  }
  double weight(std::int64_t i) const { return std::exp(-double{logvar[i]}); }
  double apart(std::int64_t sample, std::int64_t of_y) const {
    return double{y[of_y]} - mu[sample];
  }
  /// Of sums of `rows width` terms that are around 1.
  double tolerance() const { return 1e-5 * static_cast<double>(width); }
};

struct Gradients {
  std::vector<double> dmu, dlogvar, dy;
  explicit Gradients(const Data& d) : dmu(d.mu.size()), dlogvar(dmu), dy(dmu) {}
};
/// The cotangent and 1 / rows come into every gradient: bounds are relative to these.
bool agree(benchmark::State& state, Data& d, const Gradients& expected) {
  const double tolerance = 1e-4 * d.scale;
  return agree(state, d.dmu, expected.dmu, tolerance) &&
         agree(state, d.dlogvar, expected.dlogvar, tolerance) &&
         agree(state, d.dy, expected.dy, tolerance);
}

void gaussian_nll_forward(benchmark::State& state) {
  Data d(state);
  Array<double> sums(d.rows);
  const GaussianNllForward<float> args{d.mu.data(), d.logvar.data(), d.y.data(),  d.rows,
                                       d.width,     d.scale,         sums.data(), d.value.data()};
  measure(state, args, [&] {
    double expected = 0;
    for (std::int64_t i = 0; i < d.mu.size(); ++i) {
      const double apart = d.apart(i, i);
      expected += 0.5 * d.scale *
                  (d.weight(i) * apart * apart + d.logvar[i] + std::log(2 * std::numbers::pi));
    }
    return agree(state, d.value, std::vector{expected}, d.tolerance());
  });
}

void gaussian_nll_backward(benchmark::State& state) {
  Data d(state);
  const GaussianNllBackward<float> args{
      d.mu.data(), d.logvar.data(), d.y.data(),   d.cotangent.data(), d.rows,
      d.width,     d.scale,         d.dmu.data(), d.dlogvar.data(),   d.dy.data()};
  measure(state, args, [&] {
    Gradients expected(d);
    for (std::int64_t i = 0; i < d.mu.size(); ++i) {
      const double c = kCotangent * d.scale, pull = d.weight(i) * d.apart(i, i);
      expected.dmu[i] = -c * pull;
      expected.dlogvar[i] = 0.5 * c * (1 - pull * d.apart(i, i));
      expected.dy[i] = c * pull;
    }
    return agree(state, d, expected);
  });
}

/// vCLUB of feature k through the moments of y over the batch, uncentred.
class Feature {
 public:
  Feature(const Data& d, std::int64_t k) : d_(d), k_(k) {
    for (std::int64_t i = 0; i < d.rows; ++i) {
      mean_ += d.scale * d.y[at(i)];
      mean_square_ += d.scale * d.y[at(i)] * d.y[at(i)];
      weights_ += d.weight(at(i));
      weighted_mu_ += d.weight(at(i)) * d.mu[at(i)];
    }
  }
  double value() const {
    double sum = 0;
    for (std::int64_t i = 0; i < d_.rows; ++i) sum += d_.weight(at(i)) * more_than_others(at(i));
    return -0.5 * d_.scale * sum;
  }
  void add_gradients(Gradients& to) const {
    const double c = kCotangent * d_.scale;
    for (std::int64_t i = 0; i < d_.rows; ++i) {
      const std::int64_t p = at(i);
      to.dmu[p] = c * d_.weight(p) * (d_.y[p] - mean_);
      to.dlogvar[p] = 0.5 * c * d_.weight(p) * more_than_others(p);
      to.dy[p] =
          c * (d_.scale * (weights_ * d_.y[p] - weighted_mu_) - d_.weight(p) * d_.apart(p, p));
    }
  }

 private:
  std::int64_t at(std::int64_t row) const { return row * d_.width + k_; }
  /// (y_i - mu_i)^2 - mean_j (y_j - mu_i)^2
  double more_than_others(std::int64_t p) const {
    const double mu = d_.mu[p], apart = d_.apart(p, p);
    return apart * apart - (mean_square_ - 2 * mu * mean_ + mu * mu);
  }

  const Data& d_;
  std::int64_t k_;
  double mean_ = 0, mean_square_ = 0, weights_ = 0, weighted_mu_ = 0;
};

struct Club {
  Data d;
  Array<double> partial, moments;

  explicit Club(const benchmark::State& state)
      : d(state),
        partial(ClubForward<float>::workspace(d.rows, d.width)),
        moments(kClubMoments * d.width) {}
  ClubForward<float> forward() {
    return {d.mu.data(), d.logvar.data(), d.y.data(),     d.rows,        d.width,
            d.scale,     partial.data(),  moments.data(), d.value.data()};
  }
  ClubBackward<float> backward() {
    return {d.mu.data(),        d.logvar.data(),  d.y.data(), moments.data(),
            d.cotangent.data(), d.rows,           d.width,    d.scale,
            d.dmu.data(),       d.dlogvar.data(), d.dy.data()};
  }
};

void club_forward(benchmark::State& state) {
  Club club(state);
  Data& d = club.d;
  measure(state, club.forward(), [&] {
    double expected = 0;
    for (std::int64_t k = 0; k < d.width; ++k) expected += Feature(d, k).value();
    return agree(state, d.value, std::vector{expected}, d.tolerance());
  });
}

void club_backward(benchmark::State& state) {
  Club club(state);
  Data& d = club.d;
  run(device(), club.forward());
  measure(state, club.backward(), [&] {
    Gradients expected(d);
    for (std::int64_t k = 0; k < d.width; ++k) Feature(d, k).add_gradients(expected);
    return agree(state, d, expected);
  });
}

/// Calls pair(i, j, c) with the weight c that ln q(y_j|x_i) has in vCLUB, for all i and j.
template <class Pair>
void for_all_pairs(std::int64_t rows, Pair&& pair) {
  const float each = 1.0F / static_cast<float>(rows);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < rows; ++j) pair(i, j, (i == j ? each : 0.0F) - each * each);
  }
}
std::vector<float> weights(const Data& d) {
  std::vector<float> w(d.logvar.size());
  for (std::size_t i = 0; i < w.size(); ++i) {
    w[i] = std::exp(-d.logvar[static_cast<std::int64_t>(i)]);
  }
  return w;
}

double value_of_all_pairs(const Data& d) {
  const std::vector<float> weight = weights(d);
  std::vector<float> sums(d.width);
  double value = 0;
  for_all_pairs(d.rows, [&](std::int64_t i, std::int64_t j, float c) {
    const float *w = &weight[i * d.width], *mu = &d.mu[i * d.width], *y = &d.y[j * d.width];
    for (std::int64_t k = 0; k < d.width; ++k) {
      sums[k] -= 0.5F * c * w[k] * (y[k] - mu[k]) * (y[k] - mu[k]);
    }
    if (j + 1 < d.rows) return;
    for (float& sum : sums) value += std::exchange(sum, 0.0F);
  });
  return value;
}

/// To dmu, dlogvar and dy of `out`.
void gradients_of_all_pairs(const Data& d, std::vector<float> (&out)[3]) {
  const std::vector<float> weight = weights(d);
  for (auto& gradient : out) gradient.assign(d.mu.size(), 0.0F);
  for_all_pairs(d.rows, [&](std::int64_t i, std::int64_t j, float c) {
    const std::int64_t of_i = i * d.width, of_j = j * d.width;
    const float *w = &weight[of_i], *mu = &d.mu[of_i], *y = &d.y[of_j];
    float *dmu = &out[0][of_i], *dlogvar = &out[1][of_i], *dy = &out[2][of_j];
    c *= static_cast<float>(kCotangent);
    for (std::int64_t k = 0; k < d.width; ++k) {
      const float apart = y[k] - mu[k], pull = c * w[k] * apart;
      dmu[k] += pull;
      dlogvar[k] += 0.5F * pull * apart;
      dy[k] -= pull;
    }
  });
}

void club_forward_of_pairs(benchmark::State& state) {
  Club club(state);
  const Data& d = club.d;
  run(device(), club.forward());
  if (!agree(state, club.d.value, std::vector{value_of_all_pairs(d)}, 10 * d.tolerance())) return;
  time_calls(
      state, [&] { benchmark::DoNotOptimize(value_of_all_pairs(d)); }, cost_of(club.forward()));
}

void club_backward_of_pairs(benchmark::State& state) {
  Club club(state);
  Data& d = club.d;
  run(device(), club.forward());
  run(device(), club.backward());
  std::vector<float> pairs[3];
  gradients_of_all_pairs(d, pairs);
  const double tolerance = 1e-3 * d.scale;
  if (!agree(state, d.dmu, pairs[0], tolerance) || !agree(state, d.dlogvar, pairs[1], tolerance) ||
      !agree(state, d.dy, pairs[2], tolerance)) {
    return;
  }
  time_calls(
      state, [&] { gradients_of_all_pairs(d, pairs); }, cost_of(club.backward()));
}

float sum_of(const float* a, const float* b, const float* c, std::int64_t count) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < count; ++i) sum += a[i] * b[i] + c[i];
  return sum;
}

/// What memory allows the forward pass: mu, logvar and y read once.
void reads_of_inputs(benchmark::State& state) {
  const Data d(state);
  const std::int64_t count = d.rows * d.width, grain = rows_per_chunk(d.width, 1 << 16) * d.width;
  std::vector<float> sums(chunk_count(0, count, grain));
  const auto call = [&] {
    parallel_for(0, count, grain, [&](std::int64_t begin, std::int64_t end) {
      sums[begin / grain] = sum_of(&d.mu[begin], &d.logvar[begin], &d.y[begin], end - begin);
    });
    benchmark::DoNotOptimize(sums.data());
  };
  time_calls(state, call, {3.0 * sizeof(float) * count, 3.0 * count});
}

/// What memory allows the backward pass: as many arrays copied as it reads and writes.
void copies_of_inputs(benchmark::State& state) {
  Data d(state);
  const std::int64_t count = d.rows * d.width, grain = rows_per_chunk(d.width, 1 << 14) * d.width;
  const auto call = [&] {
    parallel_for(0, count, grain, [&](std::int64_t begin, std::int64_t end) {
      std::copy(&d.mu[begin], &d.mu[0] + end, &d.dmu[begin]);
      std::copy(&d.logvar[begin], &d.logvar[0] + end, &d.dlogvar[begin]);
      std::copy(&d.y[begin], &d.y[0] + end, &d.dy[begin]);
    });
    benchmark::DoNotOptimize(d.dy.data());
  };
  time_calls(state, call, {6.0 * sizeof(float) * count, 0.0});
}

void permute(benchmark::State& state) {
  const std::int64_t count = state.range(0);
  Array<std::int32_t> permutation(count), inverse(count);
  measure(state, Permute<std::int32_t>{kStream, count, permutation.data(), inverse.data()}, [&] {
    const RandomPermutation image(kStream, static_cast<std::uint32_t>(count));
    std::vector<std::int32_t> expected(count), back(count);
    for (std::int64_t i = 0; i < count; ++i) {
      expected[i] = static_cast<std::int32_t>(image(static_cast<std::uint32_t>(i)));
      back[expected[i]] = static_cast<std::int32_t>(i);
    }
    return agree(state, permutation, expected, 0) && agree(state, inverse, back, 0);
  });
}

struct Sample {
  Data d;
  Array<std::int32_t> permutation, inverse;

  explicit Sample(const benchmark::State& state) : d(state), permutation(d.rows), inverse(d.rows) {
    const RandomPermutation image(kStream, static_cast<std::uint32_t>(d.rows));
    for (std::int64_t i = 0; i < d.rows; ++i) {
      permutation[i] = static_cast<std::int32_t>(image(static_cast<std::uint32_t>(i)));
      inverse[permutation[i]] = static_cast<std::int32_t>(i);
    }
  }
  /// Where y's element is that is the negative of element i.
  std::int64_t negative_of(std::int64_t i) const {
    return permutation[i / d.width] * d.width + i % d.width;
  }
};

void club_sample_forward(benchmark::State& state) {
  Sample sample(state);
  Data& d = sample.d;
  Array<double> sums(d.rows);
  const ClubSampleForward<float> args{
      d.mu.data(), d.logvar.data(), d.y.data(),    sample.permutation.data(), d.rows, d.width,
      d.scale,     sums.data(),     d.value.data()};
  measure(state, args, [&] {
    double expected = 0;
    for (std::int64_t i = 0; i < d.mu.size(); ++i) {
      const double own = d.apart(i, i), other = d.apart(i, sample.negative_of(i));
      expected -= 0.5 * d.scale * d.weight(i) * (own * own - other * other);
    }
    return agree(state, d.value, std::vector{expected}, d.tolerance());
  });
}

void club_sample_backward(benchmark::State& state) {
  Sample sample(state);
  Data& d = sample.d;
  const ClubSampleBackward<float> args{d.mu.data(),
                                       d.logvar.data(),
                                       d.y.data(),
                                       sample.permutation.data(),
                                       sample.inverse.data(),
                                       d.cotangent.data(),
                                       d.rows,
                                       d.width,
                                       d.scale,
                                       d.dmu.data(),
                                       d.dlogvar.data(),
                                       d.dy.data()};
  measure(state, args, [&] {
    Gradients expected(d);
    for (std::int64_t i = 0; i < d.mu.size(); ++i) {
      const std::int64_t negative = sample.negative_of(i);
      const double c = kCotangent * d.scale * d.weight(i);
      const double own = d.apart(i, i), other = d.apart(i, negative);
      expected.dmu[i] = c * (own - other);
      expected.dlogvar[i] = 0.5 * c * (own * own - other * other);
      expected.dy[i] -= c * own;
      expected.dy[negative] += c * other;
    }
    return agree(state, d, expected);
  });
}

const Table kTable = {{"samples", "width"},
                      {{128, 64}, {1024, 128}, {4096, 256}},
                      {{1 << 18, 128}},
                      {{1 << 16, 256}}};
const Table kPairs = {{"samples", "width"}, {{1024, 128}}, {}, {{4096, 256}}};
const Table kMemory = {{"samples", "width"}, {{1024, 128}, {4096, 256}}, {}, {{1 << 16, 256}}};
const Table kPermutations = {{"samples"}, {{128}, {4096}}, {{1 << 24}}};
const Register registered{{
    kernel<GaussianNllForward<float>>(kTable, gaussian_nll_forward),
    kernel<GaussianNllBackward<float>>(kTable, gaussian_nll_backward),
    reference<GaussianNllForward<float>>(kTable, gaussian_nll_forward),
    reference<GaussianNllBackward<float>>(kTable, gaussian_nll_backward),
    kernel<ClubForward<float>>(kTable, club_forward),
    peer<ClubForward<float>>("naive", kPairs, club_forward_of_pairs),
    peer<ClubForward<float>>("read", kMemory, reads_of_inputs),
    kernel<ClubBackward<float>>(kTable, club_backward),
    peer<ClubBackward<float>>("naive", kPairs, club_backward_of_pairs),
    peer<ClubBackward<float>>("copy", kMemory, copies_of_inputs),
    kernel<Permute<std::int32_t>>(kPermutations, permute),
    reference<Permute<std::int32_t>>(kPermutations, permute),
    kernel<ClubSampleForward<float>>(kTable, club_sample_forward),
    reference<ClubSampleForward<float>>(kTable, club_sample_forward),
    kernel<ClubSampleBackward<float>>(kTable, club_sample_backward),
    reference<ClubSampleBackward<float>>(kTable, club_sample_backward),
}};

}  // namespace
}  // namespace cmir::kernels
