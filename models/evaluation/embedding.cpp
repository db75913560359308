#include "models/evaluation/embedding.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "core/philox.h"

namespace cmir {
namespace {

constexpr std::int64_t kGrain = 16;  // rows per chunk

std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

void check(const Tensor& features, std::string_view op, std::int64_t least_samples) {
  require(features.defined() && features.rank() == 2 && is_floating(features.dtype()), op,
          "features must be a floating [samples, width] tensor, got {}", features.describe());
  require(features.size(0) >= least_samples && features.size(1) >= 1, op,
          "needs at least {} samples and one feature, got {}", least_samples,
          features.shape().to_string());
  require_finite(features, op);
}

/// The features in f64 with every column's mean subtracted.
std::vector<double> centred(const Tensor& features) {
  const std::int64_t n = features.size(0), d = features.size(1);
  std::vector<double> x = features.to_vector();
  for (std::int64_t c = 0; c < d; ++c) {
    double mean = 0;
    for (std::int64_t r = 0; r < n; ++r) mean += x[size(r * d + c)] / static_cast<double>(n);
    for (std::int64_t r = 0; r < n; ++r) x[size(r * d + c)] -= mean;
  }
  return x;
}

std::vector<double> covariance(const std::vector<double>& x, std::int64_t n, std::int64_t d) {
  std::vector<double> c(size(d * d));
  parallel_for(0, d, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = 0; r < n; ++r) {
      const double* row = x.data() + r * d;
      for (std::int64_t i = begin; i < end; ++i) {
        double* out = c.data() + i * d;
        for (std::int64_t j = 0; j < d; ++j) out[j] += row[i] * row[j];
      }
    }
  });
  return c;
}

/// (a, b) <- (cos a - sin b, sin a + cos b), element by element.
void rotate(double* a, double* b, std::int64_t count, double cosine, double sine) {
  for (std::int64_t i = 0; i < count; ++i) {
    const double left = a[i], right = b[i];
    a[i] = cosine * left - sine * right;
    b[i] = sine * left + cosine * right;
  }
}

/// Diagonalises the symmetric a [d, d] in place; the rows of the result are the eigenvectors.
std::vector<double> jacobi(std::vector<double>& a, std::int64_t d) {
  std::vector<double> vectors(size(d * d));
  for (std::int64_t i = 0; i < d; ++i) vectors[size(i * d + i)] = 1;
  const double norm = std::sqrt(std::inner_product(a.begin(), a.end(), a.begin(), 0.0));
  const double negligible = 1e-15 * norm / static_cast<double>(d);
  bool rotated = true;
  for (int sweep = 0; rotated && sweep < 60; ++sweep) {
    rotated = false;
    for (std::int64_t p = 0; p < d; ++p) {
      for (std::int64_t q = p + 1; q < d; ++q) {
        double* row_p = a.data() + p * d;
        double* row_q = a.data() + q * d;
        if (std::abs(row_p[q]) <= negligible) continue;
        rotated = true;
        const double theta = (row_q[q] - row_p[p]) / (2 * row_p[q]);
        const double t = std::copysign(1, theta) / (std::abs(theta) + std::hypot(theta, 1.0));
        const double cosine = 1 / std::hypot(t, 1.0), sine = t * cosine;
        const double pp = row_p[p] - t * row_p[q], qq = row_q[q] + t * row_p[q];
        rotate(row_p, row_q, d, cosine, sine);
        // a is symmetric: the rotated columns are the rotated rows, but for the four elements where
        // both meet.
        for (std::int64_t i = 0; i < d; ++i) {
          a[size(i * d + p)] = row_p[i];
          a[size(i * d + q)] = row_q[i];
        }
        row_p[p] = pp;
        row_q[q] = qq;
        row_p[q] = row_q[p] = 0;
        rotate(vectors.data() + p * d, vectors.data() + q * d, d, cosine, sine);
      }
    }
  }
  return vectors;
}

/// Affinities p(j | i) whose entropy is log(perplexity), by bisection of the precision; row i of
/// `p` holds squared distances on entry.
void to_affinities(float* p, std::int64_t n, std::int64_t i, double perplexity) {
  double smallest = std::numeric_limits<double>::infinity();
  for (std::int64_t j = 0; j < n; ++j) {
    if (j != i) smallest = std::min<double>(smallest, p[j]);
  }
  double mean = 0;
  for (std::int64_t j = 0; j < n; ++j) {
    if (j != i) mean += (p[j] - smallest) / static_cast<double>(n - 1);
  }
  const double target = std::log(perplexity);
  double precision = mean > 0 ? 1 / mean : 1, low = 0,
         high = std::numeric_limits<double>::infinity();
  std::vector<double> weights(size(n));
  double sum = 1;
  for (int step = 0; step < 60; ++step) {
    sum = 0;
    double moment = 0;
    for (std::int64_t j = 0; j < n; ++j) {
      const double distance = p[j] - smallest;
      const double weight = j == i ? 0 : std::exp(-precision * distance);
      weights[size(j)] = weight;
      sum += weight;
      moment += weight * distance;
    }
    const double excess = std::log(sum) + precision * moment / sum - target;
    if (std::abs(excess) < 1e-5) break;
    (excess > 0 ? low : high) = precision;  // too flat: raise the precision
    precision = std::isinf(high) ? 2 * precision : (low + high) / 2;
  }
  for (std::int64_t j = 0; j < n; ++j) p[j] = static_cast<float>(weights[size(j)] / sum);
}

/// Symmetric affinities [N, N] that sum to 1.
std::vector<float> affinities(const std::vector<double>& x, std::int64_t n, std::int64_t d,
                              double perplexity) {
  // In units of the mean squared norm, so that f32 holds the distances whatever the features'
  // scale.
  const double scale =
      std::inner_product(x.begin(), x.end(), x.begin(), 0.0) / static_cast<double>(n);
  const double unit = scale > 0 ? 1 / scale : 1;
  std::vector<float> p(size(n * n));
  parallel_for(0, n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (std::int64_t c = 0; c < d; ++c) {
          const double difference = x[size(i * d + c)] - x[size(j * d + c)];
          sum += difference * difference;
        }
        p[size(i * n + j)] = static_cast<float>(sum * unit);
      }
      to_affinities(p.data() + i * n, n, i, perplexity);
    }
  });
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < i; ++j) {
      float& a = p[size(i * n + j)];
      float& b = p[size(j * n + i)];
      a = b = (a + b) / static_cast<float>(2 * n);
    }
  }
  return p;
}

/// The sums over j that the gradient at y_i is made of.
struct Forces {
  std::array<double, 2> attraction{}, repulsion{};
  double normaliser = 0;
};

Forces forces_on(const double* yi, const float* p, const std::vector<double>& y0,
                 const std::vector<double>& y1) {
  // Four partial sums: independent chains of additions.
  constexpr std::size_t kLanes = 4;
  double attraction0[kLanes]{}, attraction1[kLanes]{}, repulsion0[kLanes]{}, repulsion1[kLanes]{},
      total[kLanes]{};
  const auto add = [&](std::size_t j, std::size_t lane) {
    const double d0 = yi[0] - y0[j], d1 = yi[1] - y1[j];
    const double q = 1 / (1 + d0 * d0 + d1 * d1);
    const double attract = static_cast<double>(p[j]) * q, repel = q * q;
    attraction0[lane] += attract * d0;
    attraction1[lane] += attract * d1;
    repulsion0[lane] += repel * d0;
    repulsion1[lane] += repel * d1;
    total[lane] += q;
  };
  std::size_t j = 0;
  for (; j + kLanes <= y0.size(); j += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) add(j + lane, lane);
  }
  for (; j < y0.size(); ++j) add(j, 0);
  const auto sum = [](const double* lanes) {
    return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
  };
  return {{sum(attraction0), sum(attraction1)},
          {sum(repulsion0), sum(repulsion1)},
          sum(total) - 1};  // without j = i, where q is 1 and the differences are 0
}

}  // namespace

Tensor pca(const Tensor& features, std::int64_t components) {
  check(features, "pca", 2);
  const std::int64_t n = features.size(0), d = features.size(1);
  require(components >= 1 && components <= d, "pca", "{} components cannot come from {} features",
          components, d);
  const std::vector<double> x = centred(features);
  std::vector<double> diagonal = covariance(x, n, d);
  std::vector<double> vectors = jacobi(diagonal, d);
  std::vector<std::int64_t> order(size(d));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return diagonal[size(a * d + a)] > diagonal[size(b * d + b)];
  });
  Tensor scores = Tensor::empty({n, components}, DType::f64);
  double* out = scores.mutable_span<double>().data();
  for (std::int64_t k = 0; k < components; ++k) {
    double* vector = vectors.data() + order[size(k)] * d;
    const double largest = *std::max_element(
        vector, vector + d, [](double a, double b) { return std::abs(a) < std::abs(b); });
    const double sign = largest < 0 ? -1 : 1;
    for (std::int64_t r = 0; r < n; ++r) {
      out[r * components + k] =
          sign * std::inner_product(vector, vector + d, x.data() + r * d, 0.0);
    }
  }
  return scores;
}

Tensor tsne(const Tensor& features, const TsneOptions& options) {
  check(features, "tsne", 4);
  const std::int64_t n = features.size(0);
  require(n <= 20000, "tsne",
          "{} samples are too many for the exact method; pass at most 20000 of them", n);
  require(options.perplexity >= 1 && options.iterations >= 0 && options.exaggeration >= 1 &&
              options.learning_rate >= 0,
          "tsne",
          "needs perplexity >= 1, iterations >= 0, exaggeration >= 1, learning rate >= 0; got {}, "
          "{}, {}, {}",
          options.perplexity, options.iterations, options.exaggeration, options.learning_rate);
  const auto count = static_cast<double>(n);
  const double perplexity = std::max(1.0, std::min(options.perplexity, (count - 1) / 3));
  const std::vector<float> p = affinities(centred(features), n, features.size(1), perplexity);

  // y[k] holds coordinate k of every sample.
  std::array<std::vector<double>, 2> y, velocity, gain;
  const std::int64_t components = std::min<std::int64_t>(2, features.size(1));
  const std::vector<double> start = pca(features, components).to_vector();
  double variance = 0;
  for (std::int64_t i = 0; i < n; ++i)
    variance += start[size(i * components)] * start[size(i * components)] / count;
  const double shrink = variance > 0 ? 1e-4 / std::sqrt(variance) : 0;
  const RandomStream stream{.seed = options.seed};
  for (std::int64_t k = 0; k < 2; ++k) {
    velocity[size(k)].assign(size(n), 0);
    gain[size(k)].assign(size(n), 1);
    for (std::int64_t i = 0; i < n; ++i) {
      const double component = k < components ? shrink * start[size(i * components + k)] : 0;
      y[size(k)].push_back(component + 1e-5 * stream.normal(static_cast<std::uint64_t>(2 * i + k)));
    }
  }

  const double rate = options.learning_rate > 0 ? options.learning_rate
                                                : std::max(50.0, count / options.exaggeration / 4);
  const int early = std::min(250, options.iterations / 4);
  std::vector<Forces> forces(size(n));
  for (int iteration = 0; iteration < options.iterations; ++iteration) {
    parallel_for(0, n, kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const double yi[2] = {y[0][size(i)], y[1][size(i)]};
        forces[size(i)] = forces_on(yi, p.data() + i * n, y[0], y[1]);
      }
    });
    double normaliser = 0;
    for (const Forces& f : forces) normaliser += f.normaliser;
    const double exaggeration = iteration < early ? options.exaggeration : 1;
    const double momentum = iteration < early ? 0.5 : 0.8;
    for (std::size_t k = 0; k < 2; ++k) {
      double mean = 0;
      for (std::size_t i = 0; i < size(n); ++i) {
        const double gradient =
            4 * (exaggeration * forces[i].attraction[k] - forces[i].repulsion[k] / normaliser);
        double& g = gain[k][i];
        g = std::max(0.01, (gradient > 0) != (velocity[k][i] > 0) ? g + 0.2 : g * 0.8);
        velocity[k][i] = momentum * velocity[k][i] - rate * g * gradient;
        y[k][i] += velocity[k][i];
        mean += y[k][i] / count;
      }
      for (double& value : y[k]) value -= mean;
    }
  }
  Tensor result = Tensor::empty({n, 2}, DType::f64);
  double* out = result.mutable_span<double>().data();
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t k = 0; k < 2; ++k) out[2 * i + k] = y[size(k)][size(i)];
  }
  return result;
}

}  // namespace cmir
