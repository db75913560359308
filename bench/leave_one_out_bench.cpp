// The kernels of the leave-one-out bound against plain loops in f64, and the whole bound, with the
// kernels over all pairs that do its work (kernels/information/pairs.h), against all pairs and
// features written out in f32, as it is defined. This file is compiled with the
// kernels' flags for this machine's instruction set, so that the naive forms are vectorised too.
#include <cmath>
#include <limits>

#include "bench/harness.h"
#include "kernels/information/gaussian_scores.h"
#include "kernels/information/leave_one_out.h"
#include "kernels/information/pairs.h"

namespace cmir::kernels {
namespace {

using namespace bench;

constexpr double kCotangent = -1.5;

/// Inputs with y about mu, as of a trained q, and room for what the kernels write.
struct Bound {
  std::int64_t rows, width, depth;
  double scale;
  Array<float> mu, logvar, y, cotangent, a, b, diagonal, largest, value, weight, shift,
      diagonal_weight, da, db, dmu, dlogvar, dy, of_sums, of_gradient;
  Array<double> means, own, of_rows, sum, partial_sums;

  explicit Bound(const benchmark::State& state)
      : rows(state.range(0)),
        width(state.range(1)),
        depth(gaussian_score_depth(width)),
        scale(1.0 / static_cast<double>(rows)),
        mu(normals(rows * width, 1)),
        logvar(normals(rows * width, 2)),
        y(normals(rows * width, 3)),
        cotangent(std::vector{static_cast<float>(kCotangent)}),
        a(rows * depth),
        b(rows * depth),
        diagonal(rows),
        largest(rows),
        value(1),
        weight(rows),
        shift(rows),
        diagonal_weight(rows),
        da(rows * depth),
        db(rows * depth),
        dmu(rows * width),
        dlogvar(rows * width),
        dy(rows * width),
        of_sums(PairSums<float>::workspace_size(rows)),
        of_gradient(PairGradient<float>::workspace_size(device(), rows, depth)),
        means(2 * width),
        own(rows),
        of_rows(rows),
        sum(rows),
        partial_sums(PairSums<float>::partial_size(rows)) {
    for (std::int64_t i = 0; i < rows * width; ++i) {
      logvar[i] *= 0.3F;
      y[i] = mu[i] + 0.5F * y[i];
    }
  }
  /// ln q(y_i|x_j) without the constant.
  double score(std::int64_t i, std::int64_t j) const {
    double result = 0;
    for (std::int64_t k = 0; k < width; ++k) {
      const double lv = logvar[j * width + k], apart = double{y[i * width + k]} - mu[j * width + k];
      result -= 0.5 * (std::exp(-lv) * apart * apart + lv);
    }
    return result;
  }
  GaussianScoresForward<float> scores() {
    return {mu.data(),    logvar.data(), y.data(), rows,      width,
            means.data(), a.data(),      b.data(), own.data()};
  }
  PairScores<float> pairs() { return {a.data(), b.data(), rows, depth, 1.0, nullptr}; }
  PairSums<float> sums() {
    return {pairs(), diagonal.data(), largest.data(), sum.data(),
            nullptr, nullptr,         of_sums.data(), partial_sums.data()};
  }
  LeaveOneOutForward<float> forward() {
    return {sums(),       own.data(),
            scale,        of_rows.data(),
            value.data(), {weight.data(), shift.data(), nullptr, nullptr, diagonal_weight.data()}};
  }
  PairGradient<float> gradient() {
    PairGradient<float> args{pairs(),   weight.data(), shift.data(),
                             nullptr,   nullptr,       diagonal_weight.data(),
                             da.data(), db.data(),     of_gradient.data()};
    args.cotangent = cotangent.data();
    args.shared_cotangent = true;
    return args;
  }
  GaussianScoresBackward<float> scores_backward() {
    return {mu.data(),  logvar.data(),    y.data(), means.data(), da.data(),
            db.data(),  cotangent.data(), rows,     width,        scale,
            dmu.data(), dlogvar.data(),   dy.data()};
  }
};

/// ln q(y_i|x_j) of all pairs by squared differences, without the constant.
std::vector<float> scores_of_pairs(const Bound& l) {
  std::vector<float> weight(l.mu.size()), scores(l.rows * l.rows);
  for (std::int64_t e = 0; e < l.mu.size(); ++e) weight[e] = std::exp(-l.logvar[e]);
  for (std::int64_t i = 0; i < l.rows; ++i) {
    const float* y = &l.y[i * l.width];
    for (std::int64_t j = 0; j < l.rows; ++j) {
      const float *w = &weight[j * l.width], *mu = &l.mu[j * l.width],
                  *logvar = &l.logvar[j * l.width];
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t k = 0; k < l.width; ++k) {
        sum += w[k] * (y[k] - mu[k]) * (y[k] - mu[k]) + logvar[k];
      }
      scores[i * l.rows + j] = -0.5F * sum;
    }
  }
  return scores;
}

/// Of rows of scores, the diagonal left out, as a value and as the softmax in their place.
double softmax_of_others(std::vector<float>& scores, std::int64_t n) {
  double value = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    float* s = &scores[i * n];
    const float own = s[i];
    s[i] = -std::numeric_limits<float>::infinity();
    float largest = s[i], sum = 0;
    for (std::int64_t j = 0; j < n; ++j) largest = s[j] > largest ? s[j] : largest;
    for (std::int64_t j = 0; j < n; ++j) sum += s[j] = std::exp(s[j] - largest);
    for (std::int64_t j = 0; j < n; ++j) s[j] /= sum;
    value += own - largest - std::log(sum) + std::log(n - 1.0);
  }
  return value / static_cast<double>(n);
}

struct Gradients {
  std::vector<float> dmu, dlogvar, dy;
  explicit Gradients(const Bound& l) : dmu(l.mu.size()), dlogvar(dmu), dy(dmu) {}
};
Gradients gradients_of_pairs(const Bound& l) {
  std::vector<float> softmax = scores_of_pairs(l), weight(l.mu.size());
  softmax_of_others(softmax, l.rows);
  for (std::int64_t e = 0; e < l.mu.size(); ++e) weight[e] = std::exp(-l.logvar[e]);
  Gradients out(l);
  const auto factor = static_cast<float>(kCotangent * l.scale);
  for (std::int64_t i = 0; i < l.rows; ++i) {
    for (std::int64_t j = 0; j < l.rows; ++j) {
      const float c = factor * (i == j ? 1.0F : -softmax[i * l.rows + j]);
      const float *w = &weight[j * l.width], *mu = &l.mu[j * l.width], *y = &l.y[i * l.width];
      float *dmu = &out.dmu[j * l.width], *dlogvar = &out.dlogvar[j * l.width],
            *dy = &out.dy[i * l.width];
#pragma omp simd
      for (std::int64_t k = 0; k < l.width; ++k) {
        const float pull = c * w[k] * (y[k] - mu[k]);
        dmu[k] += pull;
        dlogvar[k] += 0.5F * (pull * (y[k] - mu[k]) - c);
        dy[k] -= pull;
      }
    }
  }
  return out;
}

/// Of a sample and the next one, the product less own: of that a row's constant, which the factors
/// leave out, is no part.
void gaussian_scores_forward(benchmark::State& state) {
  Bound l(state);
  measure(state, l.scores(), [&] {
    const auto &a = l.a.fetch(), &b = l.b.fetch();
    std::vector<double> found(l.rows), expected(l.rows);
    for (std::int64_t i = 0; i < l.rows; ++i) {
      const std::int64_t j = (i + 1) % l.rows;
      found[i] = -l.own.fetch()[i];
      for (std::int64_t k = 0; k < l.depth; ++k) {
        found[i] += double{a[i * l.depth + k]} * b[j * l.depth + k];
      }
      expected[i] = l.score(i, j) - l.score(i, i);
    }
    return agree(state, found, expected, 1e-6 * static_cast<double>(l.width));
  });
}

bool value_agrees(benchmark::State& state, Bound& l) {
  std::vector<float> pairs = scores_of_pairs(l);
  return agree(state, l.value, std::vector{softmax_of_others(pairs, l.rows)},
               1e-5 * static_cast<double>(l.width));
}
/// The value from the factors.
void compute_value(Bound& l) {
  run(device(), l.scores());
  run(device(), l.forward());
}
bool gradients_agree(benchmark::State& state, Bound& l) {
  run(device(), l.scores_backward());
  const Gradients pairs = gradients_of_pairs(l);
  const double tolerance = 1e-3 * l.scale;  // the plain form is f32
  return agree(state, l.dmu, pairs.dmu, tolerance) &&
         agree(state, l.dlogvar, pairs.dlogvar, tolerance) &&
         agree(state, l.dy, pairs.dy, tolerance);
}

void leave_one_out_forward(benchmark::State& state) {
  Bound l(state);
  run(device(), l.scores());
  measure(state, l.forward(), [&] { return value_agrees(state, l); });
}
void leave_one_out_gradient(benchmark::State& state) {
  Bound l(state);
  compute_value(l);
  measure(state, l.gradient(), [&] { return gradients_agree(state, l); });
}

/// From any da and db: the chain rule through the factors.
void gaussian_scores_backward(benchmark::State& state) {
  Bound l(state);
  l.da = normals(l.rows * l.depth, 4);
  l.db = normals(l.rows * l.depth, 5);
  run(device(), l.scores());
  measure(state, l.scores_backward(), [&] {
    const auto& means = l.means.fetch();
    const double factor = kCotangent * l.scale;
    std::vector<double> dmu(l.mu.size()), dlogvar(dmu), dy(dmu);
    for (std::int64_t e = 0; e < l.mu.size(); ++e) {
      const std::int64_t k = e % l.width, at = e / l.width * l.depth + k;
      const double w = std::exp(-double{l.logvar[e]}), apart = double{l.y[e]} - l.mu[e];
      const double p = l.y[e] - means[k], q = l.mu[e] - means[k];
      const double of_square = l.db[at], of_p = l.db[at + l.width],
                   of_one = l.db[at - k + 2 * l.width];
      dmu[e] = w * (of_p - q * of_one + factor * apart);
      dlogvar[e] = w * (0.5 * of_square - q * of_p + 0.5 * q * q * of_one) - 0.5 * of_one +
                   0.5 * factor * (w * apart * apart - 1);
      dy[e] = 2 * p * l.da[at] + factor * p / means[l.width + k] + l.da[at + l.width] -
              factor * w * apart;
    }
    return agree(state, l.dmu, dmu, 1e-3) && agree(state, l.dlogvar, dlogvar, 1e-3) &&
           agree(state, l.dy, dy, 1e-3);
  });
}

void value_of_pairs(benchmark::State& state) {
  Bound l(state);
  compute_value(l);
  if (!value_agrees(state, l)) return;
  const auto call = [&] {
    std::vector<float> scores = scores_of_pairs(l);
    benchmark::DoNotOptimize(softmax_of_others(scores, l.rows));
  };
  time_calls(state, call, cost_of(l.forward()));
}

void gradients_of_all_pairs(benchmark::State& state) {
  Bound l(state);
  const auto call = [&] { benchmark::DoNotOptimize(gradients_of_pairs(l)); };
  time_calls(state, call, cost_of(l.gradient()));
}

const Table kScores = {
    {"samples", "width"}, {{130, 64}, {1024, 128}, {4096, 128}}, {{1 << 18, 128}}};
const Table kTable = {
    {"samples", "width"}, {{130, 64}, {1024, 128}, {4096, 128}}, {{1 << 13, 128}}};
const Table kPairs = {{"samples", "width"}, {{1024, 128}}};
const Table kScorePairs = {{"samples", "width"}, {{130, 64}, {1024, 128}}};
const Register registered{{
    kernel<GaussianScoresForward<float>>(kScores, gaussian_scores_forward),
    reference<GaussianScoresForward<float>>(kScorePairs, gaussian_scores_forward),
    kernel<LeaveOneOutForward<float>>(kTable, leave_one_out_forward),
    peer<LeaveOneOutForward<float>>("naive", kPairs, value_of_pairs),
    kernel<PairGradient<float>>(kTable, leave_one_out_gradient, "leave_one_out"),
    peer<PairGradient<float>>("naive", kPairs, gradients_of_all_pairs, "leave_one_out"),
    kernel<GaussianScoresBackward<float>>(kScores, gaussian_scores_backward),
    reference<GaussianScoresBackward<float>>(kScorePairs, gaussian_scores_backward),
}};

}  // namespace
}  // namespace cmir::kernels
