// The kernels of penalties over environments, the samples' slopes and the penalty of their means,
// against plain loops.
#include <algorithm>
#include <cmath>

#include "bench/harness.h"
#include "kernels/invariance/coral.h"
#include "kernels/invariance/environment_penalty.h"
#include "kernels/invariance/gaussian_mmd.h"
#include "kernels/invariance/hsic.h"
#include "kernels/invariance/loss_slope.h"

namespace cmir::kernels {
namespace {

using namespace bench;

/// Blocks of variants share the targets of the clean samples, as losses give them.
constexpr std::int64_t kVariants = 4;

struct Slopes {
  std::vector<float> slopes, derivatives;
  Slopes(std::int64_t rows, std::int64_t width) : slopes(rows), derivatives(rows * width) {}
};

struct Pointwise {
  PointwiseLossKind kind;
  std::int64_t rows, width;
  Array<float> f, t, slopes, derivatives;

  Pointwise(PointwiseLossKind of, benchmark::State& state)
      : kind(of),
        rows(state.range(0)),
        width(state.range(1)),
        f(normals(rows * width, 1)),
        t(normals(rows / kVariants * width, 2)),
        slopes(rows),
        derivatives(rows * width) {}
  PointwiseSlope<float> args() {
    return {kind, 1, f.data(), t.data(), slopes.data(), derivatives.data(), rows, rows / kVariants,
            width};
  }
};

Slopes naive(const Pointwise& d) {
  Slopes out(d.rows, d.width);
  const auto n = static_cast<float>(d.width);
  for (std::int64_t i = 0; i < d.rows; ++i) {
    const float* f = &d.f[i * d.width];
    const float* t = &d.t[i % (d.rows / kVariants) * d.width];
    for (std::int64_t j = 0; j < d.width; ++j) {
      float slope = 2 * (f[j] - t[j]), second = 2;
      if (d.kind == PointwiseLossKind::binary_logistic) {
        const float p = 1 / (1 + std::exp(-f[j]));
        slope = p - t[j];
        second = p * (1 - p);
      }
      out.slopes[i] += f[j] * slope / n;
      out.derivatives[i * d.width + j] = (slope + second * f[j]) / n;
    }
  }
  return out;
}

Function pointwise_naive(PointwiseLossKind kind) {
  return [kind](benchmark::State& state) {
    Pointwise d(kind, state);
    time_calls(
        state, [&] { benchmark::DoNotOptimize(naive(d)); }, cost_of(d.args()));
  };
}

Function pointwise(PointwiseLossKind kind) {
  return [kind](benchmark::State& state) {
    Pointwise d(kind, state);
    measure(state, d.args(), [&] {
      const Slopes expected = naive(d);
      return agree(state, d.slopes, expected.slopes, 1e-4) &&
             agree(state, d.derivatives, expected.derivatives, 1e-4);
    });
  };
}

struct Logits {
  std::int64_t rows, width;
  Array<float> z, slopes, derivatives;
  Array<std::int32_t> classes;

  explicit Logits(benchmark::State& state)
      : rows(state.range(0)),
        width(state.range(1)),
        z(normals(rows * width, 1)),
        slopes(rows),
        derivatives(rows * width),
        classes(rows / kVariants) {
    for (std::int64_t i = 0; i < classes.size(); ++i) {
      classes[i] = static_cast<std::int32_t>(i % width);
    }
  }
  CrossEntropySlope<float> args() {
    return {z.data(), classes.data(),   slopes.data(), derivatives.data(),
            rows,     rows / kVariants, width};
  }
};

Slopes naive(const Logits& d) {
  Slopes out(d.rows, d.width);
  for (std::int64_t i = 0; i < d.rows; ++i) {
    const float* z = &d.z[i * d.width];
    float* p = out.derivatives.data() + i * d.width;
    const std::int32_t y = d.classes[i % d.classes.size()];
    const float largest = *std::max_element(z, z + d.width);
    float sum = 0, mean = 0;
    for (std::int64_t c = 0; c < d.width; ++c) sum += p[c] = std::exp(z[c] - largest);
    for (std::int64_t c = 0; c < d.width; ++c) mean += (p[c] /= sum) * z[c];
    for (std::int64_t c = 0; c < d.width; ++c) p[c] *= 1 + z[c] - mean;
    p[y] -= 1;
    out.slopes[i] = mean - z[y];
  }
  return out;
}

void cross_entropy_naive(benchmark::State& state) {
  Logits d(state);
  time_calls(
      state, [&] { benchmark::DoNotOptimize(naive(d)); }, cost_of(d.args()));
}

void cross_entropy(benchmark::State& state) {
  Logits d(state);
  measure(state, d.args(), [&] {
    const Slopes expected = naive(d);
    return agree(state, d.slopes, expected.slopes, 1e-5) &&
           agree(state, d.derivatives, expected.derivatives, 1e-5);
  });
}

/// Samples of environments by labels: those of environment e are e, e + environments, ...
struct Labelled {
  EnvironmentPenaltyKind kind;
  std::int64_t rows, environments;
  Array<float> values, value, derivatives;
  Array<std::int64_t> offsets;
  Array<std::int32_t> order;
  std::vector<std::int32_t> labels;  // for the plain form
  Array<double> scratch;

  Labelled(EnvironmentPenaltyKind of, benchmark::State& state)
      : kind(of),
        rows(state.range(0)),
        environments(state.range(1)),
        values(normals(rows, 1)),
        value(1),
        derivatives(rows),
        offsets(environments + 1),
        order(rows),
        labels(rows),
        scratch(EnvironmentPenalty<float>::workspace(environments, rows)) {
    std::int64_t k = 0;
    for (std::int64_t e = 0; e < environments; ++e) {
      for (std::int64_t i = e; i < rows; i += environments) {
        order[k++] = static_cast<std::int32_t>(i);
      }
      offsets[e + 1] = k;
    }
    for (std::int64_t i = 0; i < rows; ++i) {
      labels[i] = static_cast<std::int32_t>(i % environments);
      values[i] += static_cast<float>(labels[i]);  // means that differ
    }
  }
  EnvironmentPenalty<float> args() {
    return {.form = {.kind = kind},
            .values = values.data(),
            .rows = {offsets.data(), order.data(), environments, rows},
            .scratch = scratch.data(),
            .value = value.data(),
            .derivatives = derivatives.data()};
  }
};

struct Penalty {
  double value = 0;
  std::vector<double> derivatives;
};

/// Every row is added to its label's mean, as an array library scatters; of two kinds.
Penalty naive(const Labelled& d) {
  std::vector<double> means(d.environments), sizes(d.environments), slopes(d.environments);
  for (std::int64_t i = 0; i < d.rows; ++i) {
    means[d.labels[i]] += d.values[i];
    sizes[d.labels[i]] += 1;
  }
  const auto count = static_cast<double>(d.environments);
  double average = 0;
  for (std::int64_t e = 0; e < d.environments; ++e) average += (means[e] /= sizes[e]) / count;
  const bool variance = d.kind == EnvironmentPenaltyKind::variance;
  const double scale = variance ? 1 / count : 1;
  Penalty out{0, std::vector<double>(d.rows)};
  for (std::int64_t e = 0; e < d.environments; ++e) {
    const double m = variance ? means[e] - average : means[e];
    out.value += scale * m * m;
    slopes[e] = 2 * scale * m / sizes[e];
  }
  for (std::int64_t i = 0; i < d.rows; ++i) out.derivatives[i] = slopes[d.labels[i]];
  return out;
}

Function penalty_naive(EnvironmentPenaltyKind kind) {
  return [kind](benchmark::State& state) {
    Labelled d(kind, state);
    time_calls(
        state, [&] { benchmark::DoNotOptimize(naive(d)); }, cost_of(d.args()));
  };
}

Function penalty(EnvironmentPenaltyKind kind) {
  return [kind](benchmark::State& state) {
    Labelled d(kind, state);
    measure(state, d.args(), [&] {
      const Penalty expected = naive(d);
      const auto [least, largest] =
          std::minmax_element(expected.derivatives.begin(), expected.derivatives.end());
      const double magnitude = std::max(std::abs(*least), std::abs(*largest));
      return agree(state, d.value, std::vector{expected.value}, 1e-5 * expected.value) &&
             agree(state, d.derivatives, expected.derivatives, 1e-5 * magnitude);
    });
  };
}

/// Rows of environments of equal sizes, one after another.
struct Grouped {
  std::int64_t rows, environments, width;
  KernelBank bank;
  Array<float> x, value, derivatives;
  Array<std::int64_t> offsets;
  Array<double> scratch;

  explicit Grouped(benchmark::State& state)
      : rows(state.range(0)),
        environments(state.range(1)),
        width(state.range(2)),
        bank{{0.001, 0.01, 0.1, 1}, 4},
        x(normals(rows * width, 1)),
        value(1),
        derivatives(rows * width),
        offsets(even_offsets(environments, rows / environments)),
        scratch(GaussianMmd<float>::workspace(rows)) {
    for (std::int64_t i = 0; i < rows; ++i) {
      x[i * width] += static_cast<float>(i / (rows / environments));  // environments that differ
    }
  }
  GaussianMmd<float> args() {
    return {x.data(),     {offsets.data(), nullptr, environments, rows},
            width,        bank,
            false,        scratch.data(),
            value.data(), derivatives.data()};
  }
};

/// All squared distances of a matrix's rows, N x N, as an array library has them.
std::vector<float> all_distances(const Array<float>& x, std::int64_t rows, std::int64_t width) {
  std::vector<float> distances(rows * rows);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < rows; ++j) {
      float sum = 0;
      for (std::int64_t c = 0; c < width; ++c) {
        const float difference = x[i * width + c] - x[j * width + c];
        sum += difference * difference;
      }
      distances[i * rows + j] = sum;
    }
  }
  return distances;
}

/// gradient[i] = sum_j factors[i][j] (x_i - x_j).
std::vector<double> all_differences(const Array<float>& x, std::int64_t rows, std::int64_t width,
                                    const std::vector<float>& factors) {
  std::vector<double> gradient(rows * width);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < rows; ++j) {
      const auto factor = static_cast<double>(factors[i * rows + j]);
      for (std::int64_t c = 0; c < width; ++c) {
        gradient[i * width + c] += factor * (x[i * width + c] - x[j * width + c]);
      }
    }
  }
  return gradient;
}

/// Through matrices of all distances, kernels and factors.
Penalty naive(const Grouped& d) {
  const std::vector<float> distances = all_distances(d.x, d.rows, d.width);
  const std::int64_t each = d.rows / d.environments;
  const auto n = static_cast<double>(each), e = static_cast<double>(d.environments);
  std::vector<float> factors(distances.size());
  Penalty out;
  for (std::int64_t pair = 0; pair < d.rows * d.rows; ++pair) {
    const bool same = pair / d.rows / each == pair % d.rows / each;
    const double weight = (same ? 2 / e : -2 / (e * (e - 1))) / (n * n);
    for (int g = 0; g < d.bank.count; ++g) {
      const auto gamma = static_cast<float>(d.bank.gammas[g]);
      const double k = weight * std::exp(-gamma * distances[pair]);
      out.value += k;
      factors[pair] += static_cast<float>(-4 * k) * gamma;
    }
  }
  out.derivatives = all_differences(d.x, d.rows, d.width, factors);
  return out;
}

double magnitude_of(const std::vector<double>& values) {
  double largest = 0;
  for (const double x : values) largest = std::max(largest, std::abs(x));
  return largest;
}

void mmd_naive(benchmark::State& state) {
  Grouped d(state);
  time_calls(
      state, [&] { benchmark::DoNotOptimize(naive(d)); }, cost_of(d.args()));
}

void mmd(benchmark::State& state) {
  Grouped d(state);
  measure(state, d.args(), [&] {
    const Penalty expected = naive(d);
    return agree(state, d.value, std::vector{expected.value}, 1e-6) &&
           agree(state, d.derivatives, expected.derivatives,
                 1e-4 * magnitude_of(expected.derivatives));
  });
}

/// What CORAL needs besides the rows.
struct Moments : Grouped {
  Array<float> products;

  explicit Moments(benchmark::State& state)
      : Grouped(state), products(Coral<float>::products_size(device(), rows, environments, width)) {
    scratch = Array<double>(Coral<float>::workspace(environments, width));
  }
  Coral<float> args() {
    return {x.data(),
            {offsets.data(), nullptr, environments, rows},
            width,
            1.0,
            1.0,
            products.data(),
            scratch.data(),
            value.data(),
            derivatives.data()};
  }
};

/// Mean and covariance of each environment, row by row, then every pair of environments.
Penalty naive(const Moments& d) {
  const std::int64_t each = d.rows / d.environments, w = d.width, size = w + w * w;
  const auto n = static_cast<double>(each), count = static_cast<double>(d.environments);
  std::vector<double> moments(d.environments * size), slopes(d.environments * size);
  for (std::int64_t i = 0; i < d.rows; ++i) {
    for (std::int64_t j = 0; j < w; ++j) moments[i / each * size + j] += d.x[i * w + j] / n;
  }
  const auto centred = [&](std::int64_t i, std::int64_t j) {
    return d.x[i * w + j] - moments[i / each * size + j];
  };
  for (std::int64_t i = 0; i < d.rows; ++i) {
    double* covariance = &moments[i / each * size + w];
    for (std::int64_t j = 0; j < w; ++j) {
      for (std::int64_t k = 0; k < w; ++k) {
        covariance[j * w + k] += centred(i, j) * centred(i, k) / (n - 1);
      }
    }
  }
  Penalty out{0, std::vector<double>(d.rows * w)};
  for (std::int64_t a = 0; a < d.environments; ++a) {
    for (std::int64_t b = 0; b < d.environments; ++b) {
      for (std::int64_t j = 0; j < size; ++j) {
        const double difference = moments[a * size + j] - moments[b * size + j];
        out.value += difference * difference / (count * (count - 1));
        slopes[a * size + j] += 4 * difference / (count * (count - 1));
      }
    }
  }
  for (std::int64_t i = 0; i < d.rows; ++i) {
    const double* slope = &slopes[i / each * size];
    for (std::int64_t j = 0; j < w; ++j) {
      double sum = slope[j] / n;
      for (std::int64_t k = 0; k < w; ++k) {
        sum += 2 / (n - 1) * slope[w + j * w + k] * centred(i, k);
      }
      out.derivatives[i * w + j] = sum;
    }
  }
  return out;
}

void coral_naive(benchmark::State& state) {
  Moments d(state);
  time_calls(
      state, [&] { benchmark::DoNotOptimize(naive(d)); }, cost_of(d.args()));
}

void coral(benchmark::State& state) {
  Moments d(state);
  measure(state, d.args(), [&] {
    const Penalty expected = naive(d);
    return agree(state, d.value, std::vector{expected.value}, 1e-5 * expected.value) &&
           agree(state, d.derivatives, expected.derivatives,
                 1e-4 * magnitude_of(expected.derivatives));
  });
}

struct Sides {
  std::int64_t rows, x_width, y_width;
  double gamma_x, gamma_y;
  Array<float> x, y, value, dx, dy;
  Array<double> scratch;

  explicit Sides(benchmark::State& state)
      : rows(state.range(0)),
        x_width(state.range(1)),
        y_width(state.range(2)),
        gamma_x(0.5 / static_cast<double>(x_width)),
        gamma_y(0.5 / static_cast<double>(y_width)),
        x(normals(rows * x_width, 1)),
        y(normals(rows * y_width, 2)),
        value(1),
        dx(rows * x_width),
        dy(rows * y_width),
        scratch(Hsic<float>::workspace(rows)) {
    for (std::int64_t i = 0; i < rows; ++i) y[i * y_width] += x[i * x_width];
  }
  Hsic<float> args() {
    return {x.data(), y.data(), rows,           x_width,      y_width,   gamma_x,
            gamma_y,  false,    scratch.data(), value.data(), dx.data(), dy.data()};
  }
};

/// exp(-gamma distance), and those with rows and columns centred.
struct KernelMatrix {
  std::vector<double> k, centred;

  KernelMatrix(const Array<float>& x, std::int64_t rows, std::int64_t width, double gamma)
      : k(rows * rows), centred(rows * rows) {
    const std::vector<float> distances = all_distances(x, rows, width);
    const auto n = static_cast<double>(rows);
    std::vector<double> means(rows);
    double mean = 0;
    for (std::int64_t pair = 0; pair < rows * rows; ++pair) {
      k[pair] = std::exp(-gamma * static_cast<double>(distances[pair]));
      means[pair / rows] += k[pair] / n;
      mean += k[pair] / (n * n);
    }
    for (std::int64_t pair = 0; pair < rows * rows; ++pair) {
      centred[pair] = k[pair] - means[pair / rows] - means[pair % rows] + mean;
    }
  }
};

struct Independence {
  double value = 0;
  std::vector<double> dx, dy;
};

/// tr(K H L H) / n^2 and its gradients, by the matrices.
Independence naive(const Sides& d) {
  const KernelMatrix of_x(d.x, d.rows, d.x_width, d.gamma_x),
      of_y(d.y, d.rows, d.y_width, d.gamma_y);
  const double f = 1 / (static_cast<double>(d.rows) * static_cast<double>(d.rows));
  std::vector<float> x_factors(of_x.k.size()), y_factors(of_x.k.size());
  Independence out;
  for (std::size_t pair = 0; pair < of_x.k.size(); ++pair) {
    out.value += f * of_x.k[pair] * of_y.centred[pair];
    x_factors[pair] = static_cast<float>(-4 * d.gamma_x * f * of_x.k[pair] * of_y.centred[pair]);
    y_factors[pair] = static_cast<float>(-4 * d.gamma_y * f * of_y.k[pair] * of_x.centred[pair]);
  }
  out.dx = all_differences(d.x, d.rows, d.x_width, x_factors);
  out.dy = all_differences(d.y, d.rows, d.y_width, y_factors);
  return out;
}

void hsic_naive(benchmark::State& state) {
  Sides d(state);
  time_calls(
      state, [&] { benchmark::DoNotOptimize(naive(d)); }, cost_of(d.args()));
}

void hsic(benchmark::State& state) {
  Sides d(state);
  measure(state, d.args(), [&] {
    const Independence expected = naive(d);
    return agree(state, d.value, std::vector{expected.value}, 1e-7) &&
           agree(state, d.dx, expected.dx, 1e-4 * magnitude_of(expected.dx)) &&
           agree(state, d.dy, expected.dy, 1e-4 * magnitude_of(expected.dy));
  });
}

const Table kTargets = {{"rows", "width"}, {{48, 1}, {4096, 1}, {4096, 7}}, {{1 << 22, 8}}};
const Table kLogits = {{"rows", "classes"}, {{48, 7}, {4096, 7}}, {{1 << 21, 16}}};
// One value a sample: a GPU's size shows the kernel only, no batch is so large.
const Table kSamples = {
    {"rows", "environments"}, {{48, 3}, {4096, 5}, {1 << 16, 5}}, {{1 << 24, 5}}};

// Work grows with the square of the rows, so a GPU's sizes are within its cache.
const Table kPairs = {{"rows", "environments", "width"},
                      {{48, 3, 5}, {240, 5, 150}, {1024, 4, 150}},
                      {{4096, 4, 150}}};

const Table kSides = {
    {"rows", "x", "y"}, {{48, 5, 3}, {240, 150, 150}, {1024, 150, 150}}, {{4096, 150, 150}}};

constexpr auto kSquared = PointwiseLossKind::squared;
constexpr auto kLogistic = PointwiseLossKind::binary_logistic;
constexpr auto kIrm = EnvironmentPenaltyKind::squared_means;
constexpr auto kRex = EnvironmentPenaltyKind::variance;
const Register registered{{
    kernel<PointwiseSlope<float>>(kTargets, pointwise(kSquared), "squared"),
    peer<PointwiseSlope<float>>("naive", kTargets, pointwise_naive(kSquared), "squared"),
    kernel<PointwiseSlope<float>>(kTargets, pointwise(kLogistic), "binary_logistic"),
    peer<PointwiseSlope<float>>("naive", kTargets, pointwise_naive(kLogistic), "binary_logistic"),
    kernel<CrossEntropySlope<float>>(kLogits, cross_entropy),
    peer<CrossEntropySlope<float>>("naive", kLogits, cross_entropy_naive),
    kernel<EnvironmentPenalty<float>>(kSamples, penalty(kIrm), "squared_means"),
    peer<EnvironmentPenalty<float>>("naive", kSamples, penalty_naive(kIrm), "squared_means"),
    kernel<EnvironmentPenalty<float>>(kSamples, penalty(kRex), "variance"),
    peer<EnvironmentPenalty<float>>("naive", kSamples, penalty_naive(kRex), "variance"),
    kernel<GaussianMmd<float>>(kPairs, mmd),
    peer<GaussianMmd<float>>("naive", kPairs, mmd_naive),
    kernel<Coral<float>>(kPairs, coral),
    peer<Coral<float>>("naive", kPairs, coral_naive),
    kernel<Hsic<float>>(kSides, hsic),
    peer<Hsic<float>>("naive", kSides, hsic_naive),
}};

}  // namespace
}  // namespace cmir::kernels
