// The kernels of the prediction losses, of the divergence between environments and of the
// decorrelation loss against plain loops. Whole losses: losses_bench.cpp.
#include <algorithm>

#include "bench/harness.h"
#include "kernels/loss/decorrelation.h"
#include "kernels/loss/divergence.h"
#include "kernels/loss/normalise.h"
#include "kernels/loss/prediction.h"

namespace cmir::kernels {
namespace {

using namespace bench;

constexpr double kScale = 1.0 / 1024;

Function pointwise(PointwiseLossKind kind) {
  return [kind](benchmark::State& state) {
    const std::int64_t rows = state.range(0), width = state.range(1), count = rows * width;
    Array<float> p(normals(count, 1)), t(normals(count, 2)), values(rows), derivatives(count);
    const PointwiseLoss<float> args{
        kind, 1, p.data(), t.data(), values.data(), derivatives.data(), rows, width};
    measure(state, args, [&] {
      std::vector<double> value(rows), derivative(count);
      for (std::int64_t i = 0; i < count; ++i) {
        const double x = p[i], y = t[i], n = static_cast<double>(width);
        if (kind == PointwiseLossKind::squared) {
          value[i / width] += (x - y) * (x - y) / n;
          derivative[i] = 2 * (x - y) / n;
        } else {  // binary_logistic
          value[i / width] += (std::log1p(std::exp(x)) - y * x) / n;
          derivative[i] = (1 / (1 + std::exp(-x)) - y) / n;
        }
      }
      return agree(state, values, value, 1e-4) && agree(state, derivatives, derivative, 1e-4);
    });
  };
}

void cross_entropy(benchmark::State& state) {
  const std::int64_t rows = state.range(0), width = state.range(1);
  Array<float> logits(normals(rows * width, 1)), values(rows), derivatives(rows * width);
  Array<std::int32_t> classes(rows);
  for (std::int64_t i = 0; i < rows; ++i) classes[i] = static_cast<std::int32_t>(i % width);
  const CrossEntropy<float> args{logits.data(),      classes.data(), values.data(),
                                 derivatives.data(), rows,           width};
  measure(state, args, [&] {
    hand_over(state, [&] {
      return NamedTensors{{"logits", tensor_of(logits)},
                          {"classes", tensor_of(classes)},
                          {"out.values", tensor_of(values)},
                          {"out.derivatives", tensor_of(derivatives)}};
    });
    std::vector<double> value(rows), derivative(rows * width);
    for (std::int64_t i = 0; i < rows; ++i) {
      double sum = 0;
      for (std::int64_t j = 0; j < width; ++j) sum += std::exp(double{logits[i * width + j]});
      value[i] = std::log(sum) - logits[i * width + classes[i]];
      for (std::int64_t j = 0; j < width; ++j) {
        derivative[i * width + j] =
            std::exp(double{logits[i * width + j]}) / sum - (j == classes[i] ? 1 : 0);
      }
    }
    return agree(state, values, value, 1e-5) && agree(state, derivatives, derivative, 1e-5);
  });
}

void mean_of_samples(benchmark::State& state) {
  const std::int64_t count = state.range(0);
  Array<float> values(normals(count, 1)), mean(1);
  measure(state, MeanOfSamples<float>{values.data(), mean.data(), count}, [&] {
    double sum = 0;
    for (const float x : values) sum += x;
    return agree(state, mean, std::vector{sum / static_cast<double>(count)}, 1e-6);
  });
}

void scale_rows(benchmark::State& state) {
  const std::int64_t rows = state.range(0), width = state.range(1);
  Array<float> derivatives(normals(rows * width, 1)), cotangent(normals(rows, 2)), dx(rows * width);
  const ScaleRows<float> args{
      derivatives.data(), cotangent.data(), false, kScale, dx.data(), rows, width};
  measure(state, args, [&] {
    std::vector<float> expected(rows * width);
    for (std::int64_t i = 0; i < rows * width; ++i) {
      expected[i] = static_cast<float>(kScale) * cotangent[i / width] * derivatives[i];
    }
    return agree(state, dx, expected, 1e-7);
  });
}

/// log softmax of row `row`.
std::vector<double> log_softmax(const Array<float>& logits, std::int64_t row, std::int64_t width) {
  std::vector<double> l(width);
  double sum = 0;
  for (std::int64_t j = 0; j < width; ++j) sum += std::exp(l[j] = logits[row * width + j]);
  for (double& x : l) x -= std::log(sum);
  return l;
}

/// Directed, all pairs.
void pair_divergence(benchmark::State& state) {
  const std::int64_t variants = state.range(0), rows = state.range(1), width = state.range(2);
  Array<float> logits(normals(variants * rows * width, 1)), value(1);
  Array<float> derivatives(variants * rows * width);
  PairDivergence<float> args{logits.data(), variants, rows, width, false, kScale};
  Array<double> scratch(rows * args.scratch_per_row());
  args.scratch = scratch.data(), args.value = value.data(), args.derivatives = derivatives.data();
  measure(state, args, [&] {
    double sum = 0;
    std::vector<double> gradient(logits.size());
    std::vector<std::vector<double>> l(variants);
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t a = 0; a < variants; ++a) l[a] = log_softmax(logits, a * rows + i, width);
      for (std::int64_t a = 0; a < variants; ++a) {
        for (std::int64_t b = a + 1; b < variants; ++b) {
          double kl = 0;
          for (std::int64_t c = 0; c < width; ++c) kl += std::exp(l[a][c]) * (l[a][c] - l[b][c]);
          sum += kScale * kl;
          for (std::int64_t c = 0; c < width; ++c) {
            const double p = std::exp(l[a][c]), q = std::exp(l[b][c]);
            gradient[(a * rows + i) * width + c] += kScale * p * (l[a][c] - l[b][c] - kl);
            gradient[(b * rows + i) * width + c] += kScale * (q - p);
          }
        }
      }
    }
    return agree(state, value, std::vector{sum}, 1e-5 * sum) &&
           agree(state, derivatives, gradient, 1e-6);
  });
}

/// Groups of a [rows, width] matrix that are normalised together, and their elements.
struct Groups {
  std::int64_t count, length, group_stride, stride;
  Groups(std::int64_t rows, std::int64_t width, NormaliseAxis axis)
      : count(axis == NormaliseAxis::rows ? rows : width),
        length(axis == NormaliseAxis::rows ? width : rows),
        group_stride(axis == NormaliseAxis::rows ? width : 1),
        stride(axis == NormaliseAxis::rows ? 1 : width) {}
  std::int64_t at(std::int64_t group, std::int64_t k) const {
    return group * group_stride + k * stride;
  }
};

Function normalise(NormaliseAxis axis) {
  return [axis](benchmark::State& state) {
    const std::int64_t rows = state.range(0), width = state.range(1);
    const Groups groups(rows, width, axis);
    Array<float> x(normals(rows * width, 1)), y(rows * width);
    Array<double> inverse(groups.count);
    const NormaliseForward<float> args{x.data(), y.data(), inverse.data(), rows,
                                       width,    axis,     false,          1e-12};
    measure(state, args, [&] {
      std::vector<double> expected(rows * width);
      for (std::int64_t g = 0; g < groups.count; ++g) {
        double mean = 0, squares = 0;
        const auto n = static_cast<double>(groups.length);
        for (std::int64_t k = 0; k < groups.length; ++k) mean += x[groups.at(g, k)] / n;
        for (std::int64_t k = 0; k < groups.length; ++k) {
          squares += std::pow(x[groups.at(g, k)] - mean, 2) / n;
        }
        for (std::int64_t k = 0; k < groups.length; ++k) {
          expected[groups.at(g, k)] = (x[groups.at(g, k)] - mean) / std::sqrt(squares + 1e-12);
        }
      }
      return agree(state, y, expected, 1e-5);
    });
  };
}

Function normalise_backward(NormaliseAxis axis) {
  return [axis](benchmark::State& state) {
    const std::int64_t rows = state.range(0), width = state.range(1);
    const Groups groups(rows, width, axis);
    Array<float> y(normals(rows * width, 1)), dy(normals(rows * width, 2)), dx(rows * width);
    Array<float> cotangent(std::vector<float>{-1.5F});
    Array<double> inverse(std::vector<double>(groups.count, 0.5)),
        factor(std::vector<double>{0.25});
    const NormaliseBackward<float> args{y.data(),      dy.data(), inverse.data(), cotangent.data(),
                                        factor.data(), dx.data(), rows,           width,
                                        axis,          false};
    measure(state, args, [&] {
      std::vector<double> expected(rows * width);
      for (std::int64_t g = 0; g < groups.count; ++g) {
        double mean = 0, along = 0;
        const auto n = static_cast<double>(groups.length);
        for (std::int64_t k = 0; k < groups.length; ++k) {
          const std::int64_t i = groups.at(g, k);
          mean += dy[i] / n;
          along += double{dy[i]} * y[i] / n;
        }
        for (std::int64_t k = 0; k < groups.length; ++k) {
          const std::int64_t i = groups.at(g, k);
          expected[i] = -1.5 * 0.25 * 0.5 * (dy[i] - mean - y[i] * along);
        }
      }
      return agree(state, dx, expected, 1e-5);
    });
  };
}

/// With alpha 1, so that C stays what it is from call to call.
void cross_norm(benchmark::State& state) {
  const std::int64_t n = state.range(0);
  Array<float> c(normals(n * n, 1)), value(1);
  Array<double> sums(n), factor(1);
  const CrossNorm<float> args{c.data(), n, 1.0, kScale, sums.data(), value.data(), factor.data()};
  measure(state, args, [&] {
    double square = 0;
    for (const float x : c) square += double{x} * x;
    const double norm = std::sqrt(square);
    return agree(state, value, std::vector{kScale * norm}, 1e-5 * kScale * norm) &&
           agree(state, factor, std::vector{kScale / norm}, 1e-5 * kScale / norm);
  });
}

template <class T>
void row_dot(benchmark::State& state) {
  const std::int64_t rows = state.range(0), width = state.range(1);
  Array<T> a(normals_of<T>(rows * width, 1));
  Array<float> b(normals(rows * width, 2)), diagonal(rows);
  measure(state, RowDot<T>{a.data(), b.data(), diagonal.data(), rows, width}, [&] {
    std::vector<double> expected(rows);
    for (std::int64_t i = 0; i < rows * width; ++i) expected[i / width] += as_double(a[i]) * b[i];
    return agree(state, diagonal, expected, 1e-4);
  });
}

void gram_norm(benchmark::State& state) {
  const std::int64_t d = state.range(0), rows = 4096;
  Array<float> a(normals(d * d, 1)), diagonal(normals(rows, 2)), value(1);
  Array<double> sums(3 * d), factor(1);
  std::vector<float> near = normals(d * d, 1);  // <a, b> > 0, as of Gram matrices
  for (float& x : near) x += 0.25F;
  Array<float> b(std::move(near));
  const GramNorm<float> args{a.data(),    b.data(),     diagonal.data(), d, rows, 0.5, kScale,
                             sums.data(), value.data(), factor.data()};
  measure(state, args, [&] {
    double product = 0, squares = 0;
    for (std::int64_t i = 0; i < d * d; ++i) product += double{a[i]} * b[i];
    for (const float x : diagonal) squares += double{x} * x;
    const double norm = std::sqrt(0.25 * product + 0.75 * squares);
    return agree(state, value, std::vector{kScale * norm}, 1e-5 * kScale * norm) &&
           agree(state, factor, std::vector{kScale / norm}, 1e-5 * kScale / norm);
  });
}

const Table kTargets = {{"rows", "width"}, {{48, 1}, {4096, 1}, {4096, 7}}, {{1 << 22, 8}}};
const Table kLogits = {{"rows", "classes"}, {{48, 7}, {4096, 7}}, {{1 << 21, 16}}};
const Table kSquare = {{"width"}, {{150}, {512}}, {{8192}}};
const Table kRows = {{"rows", "width"}, {{48, 150}, {4096, 150}}, {{1 << 18, 150}}};
const Register registered{with_references({
    kernel<PointwiseLoss<float>>(kTargets, pointwise(PointwiseLossKind::squared), "squared"),
    kernel<PointwiseLoss<float>>(kTargets, pointwise(PointwiseLossKind::binary_logistic),
                                 "binary_logistic"),
    kernel<CrossEntropy<float>>(kLogits, cross_entropy),
    // One value a sample: never more than a batch.
    kernel<MeanOfSamples<float>>({{"count"}, {{48}, {768}, {4096}}}, mean_of_samples),
    kernel<ScaleRows<float>>(kTargets, scale_rows),
    kernel<PairDivergence<float>>({{"variants", "rows", "classes"},
                                   {{3, 48, 2}, {11, 48, 3}, {5, 4096, 7}},
                                   {{5, 1 << 19, 7}}},
                                  pair_divergence),
    kernel<NormaliseForward<float>>(kRows, normalise(NormaliseAxis::rows), "rows"),
    kernel<NormaliseForward<float>>(kRows, normalise(NormaliseAxis::columns), "columns"),
    kernel<NormaliseBackward<float>>(kRows, normalise_backward(NormaliseAxis::rows), "rows"),
    kernel<NormaliseBackward<float>>(kRows, normalise_backward(NormaliseAxis::columns), "columns"),
    kernel<CrossNorm<float>>(kSquare, cross_norm),
    kernel<RowDot<float>>(kRows, row_dot<float>),
    kernel<RowDot<BFloat16>>(kRows, row_dot<BFloat16>),
    kernel<GramNorm<float>>(kSquare, gram_norm),
})};

}  // namespace
}  // namespace cmir::kernels
