#include "models/evaluation/probe.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace cmir {
namespace {

using Indices = std::span<const std::int64_t>;

std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

/// Four partial sums, so that an addition need not wait for the one before it.
double dot(const double* a, const double* b, std::int64_t count) {
  double sums[4]{};
  std::int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    for (std::int64_t lane = 0; lane < 4; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  for (; i < count; ++i) sums[0] += a[i] * b[i];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/// Row-major rows of equal width.
struct Matrix {
  std::int64_t rows = 0, width = 0;
  std::vector<double> values;

  Matrix(std::int64_t r, std::int64_t w) : rows(r), width(w), values(size(r * w)) {}
  double* row(std::int64_t r) { return values.data() + r * width; }
  const double* row(std::int64_t r) const { return values.data() + r * width; }
};

void check(const Tensor& features, std::size_t count, Indices train, Indices test, double l2) {
  require(features.defined() && features.rank() == 2 && is_floating(features.dtype()), "probe",
          "features must be a floating [samples, width] tensor, got {}", features.describe());
  const std::int64_t samples = features.size(0);
  require(count == size(samples), "probe", "{} targets do not fit {} samples", count, samples);
  require(!train.empty() && !test.empty(), "probe",
          "needs training and test samples, got {} and {}; is a part of the split empty?",
          train.size(), test.size());
  for (const Indices part : {train, test}) {
    for (const std::int64_t i : part) {
      require(i >= 0 && i < samples, "probe", "index {} is outside the {} samples", i, samples);
    }
  }
  require(l2 >= 0 && std::isfinite(l2), "probe", "l2 = {} must be finite and not negative", l2);
  require_finite(features, "probe: features");
}

/// The samples of `part`, each column standardised by the training samples, and a last column of
/// ones for the bias.
Matrix design(const Tensor& features, Indices train, Indices part) {
  const std::int64_t width = features.size(1);
  const std::vector<double> all = features.to_vector();
  const auto n = static_cast<double>(train.size());
  Matrix result(std::ssize(part), width + 1);
  for (std::int64_t c = 0; c < width; ++c) {
    const auto value = [&](std::int64_t i) { return all[size(i * width + c)]; };
    double mean = 0, square = 0;
    for (const std::int64_t i : train) mean += value(i) / n;
    for (const std::int64_t i : train) square += (value(i) - mean) * (value(i) - mean) / n;
    // A constant column leaves rounding errors of its mean; they are no signal.
    const double deviation = std::sqrt(square);
    const bool constant = deviation <= 1e-12 * std::abs(mean);
    for (std::int64_t r = 0; r < result.rows; ++r) {
      result.row(r)[c] = constant ? 0 : (value(part[size(r)]) - mean) / deviation;
    }
  }
  for (std::int64_t r = 0; r < result.rows; ++r) result.row(r)[width] = 1;
  return result;
}

/// scale * X^T X / rows, with l2 on the diagonal of all but the bias: the lower triangle.
Matrix normal_matrix(const Matrix& x, double scale, double l2) {
  Matrix a(x.width, x.width);
  const double factor = scale / static_cast<double>(x.rows);
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const double* row = x.row(r);
    for (std::int64_t i = 0; i < x.width; ++i) {
      const double left = factor * row[i];
      double* out = a.row(i);
      for (std::int64_t j = 0; j <= i; ++j) out[j] += left * row[j];
    }
  }
  for (std::int64_t i = 0; i + 1 < x.width; ++i) {
    // A column without any variation takes no part; a 1 keeps its weight at zero.
    a.row(i)[i] = a.row(i)[i] == 0 ? 1 : a.row(i)[i] + l2;
  }
  return a;
}

/// In place A = L L^T over the lower triangle.
void cholesky(Matrix& a) {
  for (std::int64_t i = 0; i < a.width; ++i) {
    const double diagonal = a.row(i)[i];
    for (std::int64_t j = 0; j <= i; ++j) {
      const double rest = a.row(i)[j] - dot(a.row(i), a.row(j), j);
      if (i != j) {
        a.row(i)[j] = rest / a.row(j)[j];
      } else if (rest > 1e-13 * diagonal) {
        a.row(i)[i] = std::sqrt(rest);
      } else {
        fail(ErrorKind::numeric, "probe", "column {} depends on the columns before it; raise l2",
             i);
      }
    }
  }
}

/// Solves L L^T x = b in place.
void solve(const Matrix& l, double* b) {
  for (std::int64_t i = 0; i < l.width; ++i) {
    b[i] = (b[i] - dot(b, l.row(i), i)) / l.row(i)[i];
  }
  for (std::int64_t i = l.width - 1; i >= 0; --i) {
    b[i] /= l.row(i)[i];
    for (std::int64_t j = 0; j < i; ++j) b[j] -= l.row(i)[j] * b[i];
  }
}

/// Row r of the result: softmax(W x_r), W [classes, width].
void probabilities_of(const Matrix& x, const Matrix& weights, Matrix& result) {
  for (std::int64_t r = 0; r < x.rows; ++r) {
    double* out = result.row(r);
    for (std::int64_t c = 0; c < weights.rows; ++c) {
      out[c] = dot(x.row(r), weights.row(c), x.width);
    }
    const double largest = *std::max_element(out, out + weights.rows);
    double sum = 0;
    for (std::int64_t c = 0; c < weights.rows; ++c) sum += out[c] = std::exp(out[c] - largest);
    for (std::int64_t c = 0; c < weights.rows; ++c) out[c] /= sum;
  }
}

Matrix fit_logistic(const Matrix& x, Indices labels, Indices train, std::int64_t classes,
                    double l2) {
  constexpr int kSteps = 1000;
  constexpr double kTolerance =
      1e-5;  // of the gradient's largest element: beyond what an accuracy can show
  Matrix hessian_bound = normal_matrix(x, 0.5, l2);
  cholesky(hessian_bound);
  Matrix weights(classes, x.width), gradient(classes, x.width), p(x.rows, classes);
  const double n = static_cast<double>(x.rows);
  for (int step = 0; step < kSteps; ++step) {
    probabilities_of(x, weights, p);
    std::fill(gradient.values.begin(), gradient.values.end(), 0.0);
    for (std::int64_t r = 0; r < x.rows; ++r) {
      p.row(r)[labels[size(train[size(r)])]] -= 1;
      for (std::int64_t c = 0; c < classes; ++c) {
        const double residual = p.row(r)[c] / n;
        for (std::int64_t i = 0; i < x.width; ++i) gradient.row(c)[i] += residual * x.row(r)[i];
      }
    }
    double largest = 0;
    for (std::int64_t c = 0; c < classes; ++c) {
      for (std::int64_t i = 0; i + 1 < x.width; ++i) gradient.row(c)[i] += l2 * weights.row(c)[i];
      for (std::int64_t i = 0; i < x.width; ++i)
        largest = std::max(largest, std::abs(gradient.row(c)[i]));
      solve(hessian_bound, gradient.row(c));
      for (std::int64_t i = 0; i < x.width; ++i) weights.row(c)[i] -= gradient.row(c)[i];
    }
    if (largest < kTolerance) break;
  }
  return weights;
}

}  // namespace

RegressionProbe probe_regression(const Tensor& features, std::span<const double> targets,
                                 Indices train, Indices test, double l2) {
  check(features, targets.size(), train, test, l2);
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (!std::isfinite(targets[i])) {
      fail(ErrorKind::numeric, "probe", "target {} is {}", i, targets[i]);
    }
  }
  const Matrix x = design(features, train, train);
  Matrix factor = normal_matrix(x, 1.0, l2);
  cholesky(factor);
  std::vector<double> weights(size(x.width), 0.0);
  const auto n = static_cast<double>(train.size());
  double mean = 0;
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const double target = targets[size(train[size(r)])] / n;
    mean += target;
    for (std::int64_t i = 0; i < x.width; ++i) weights[size(i)] += target * x.row(r)[i];
  }
  solve(factor, weights.data());

  RegressionProbe probe;
  const Matrix unseen = design(features, train, test);
  for (std::int64_t r = 0; r < unseen.rows; ++r) {
    const double target = targets[size(test[size(r)])];
    const double guess = dot(weights.data(), unseen.row(r), unseen.width);
    probe.predictions.push_back(guess);
    probe.mse += (guess - target) * (guess - target) / static_cast<double>(unseen.rows);
    probe.chance_mse += (mean - target) * (mean - target) / static_cast<double>(unseen.rows);
  }
  return probe;
}

ClassificationProbe probe_classification(const Tensor& features, Indices labels, Indices train,
                                         Indices test, double l2) {
  check(features, labels.size(), train, test, l2);
  const auto [least, most] = std::minmax_element(labels.begin(), labels.end());
  require(*least >= 0 && *most < 100'000, "probe", "labels {}..{} are no classes 0..C-1", *least,
          *most);
  const std::int64_t classes = *most + 1;
  std::vector<std::int64_t> counts(size(classes), 0);
  for (const std::int64_t i : train) ++counts[size(labels[size(i)])];
  const std::int64_t commonest = std::max_element(counts.begin(), counts.end()) - counts.begin();

  const Matrix weights = fit_logistic(design(features, train, train), labels, train, classes, l2);
  Matrix p(std::ssize(test), classes);
  probabilities_of(design(features, train, test), weights, p);
  std::int64_t right = 0, right_by_chance = 0;
  for (std::int64_t r = 0; r < p.rows; ++r) {
    const std::int64_t label = labels[size(test[size(r)])];
    right += std::max_element(p.row(r), p.row(r) + classes) - p.row(r) == label;
    right_by_chance += commonest == label;
  }
  const auto percent = [&](std::int64_t count) {
    return 100.0 * static_cast<double>(count) / static_cast<double>(p.rows);
  };
  ClassificationProbe probe{percent(right), percent(right_by_chance), {}};
  probe.probabilities = std::move(p.values);
  return probe;
}

}  // namespace cmir
