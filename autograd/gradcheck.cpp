#include "autograd/gradcheck.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>

#include "core/philox.h"

namespace cmir {
namespace {

std::vector<Variable> as_variables(const std::vector<Tensor>& inputs, bool differentiate,
                                   Device device) {
  std::vector<Variable> variables;
  for (const Tensor& input : inputs) {
    variables.emplace_back(input.clone().to(device), differentiate && is_floating(input.dtype()));
  }
  return variables;
}

std::vector<double> evaluate(const GradientCase& c, const std::vector<Tensor>& inputs,
                             Device device) {
  NoGradScope no_grad;
  return c.function(as_variables(inputs, false, device)).value().to_vector();
}

/// d(output)/d(inputs[index][element]) by a four-point central difference.
std::vector<double> jacobian_column(const GradientCase& c, std::size_t index, std::int64_t element,
                                    Device device) {
  std::vector<Tensor> inputs = c.inputs;
  inputs[index] = c.inputs[index].clone();
  const double x = inputs[index].span<double>()[element];
  const double h = 1e-3 * std::max(1.0, std::abs(x));
  const auto at = [&](double offset) {
    inputs[index].mutable_span<double>()[element] = x + offset;
    return evaluate(c, inputs, device);
  };
  const auto p1 = at(h), m1 = at(-h), p2 = at(2 * h), m2 = at(-2 * h);
  std::vector<double> column(p1.size());
  for (std::size_t i = 0; i < column.size(); ++i) {
    column[i] = (8 * (p1[i] - m1[i]) - (p2[i] - m2[i])) / (12 * h);
  }
  return column;
}

struct Direction {  // for the cosine between the two gradients
  double dot = 0, numeric = 0, analytic = 0;
};

}  // namespace

GradientReport check_gradient(const GradientCase& c, Device device) {
  constexpr int kCotangents = 3;
  std::vector<std::vector<Tensor>> gradients;  // [cotangent][input]
  std::vector<std::vector<double>> cotangents;
  for (int k = 0; k < kCotangents; ++k) {
    auto inputs = as_variables(c.inputs, true, device);
    const Variable output = c.function(inputs);
    const Tensor cotangent = random_normal(output.shape(), 1000 + k);
    if (output.requires_gradient()) backward(output, {.seed = cotangent.to(device)});
    cotangents.push_back(cotangent.to_vector());
    gradients.emplace_back();
    for (const auto& input : inputs) gradients.back().push_back(input.gradient());
  }
  GradientReport report{.passed = true, .worst = 0, .where = "all elements agree"};
  const auto note = [&](double error, const std::string& where) {
    if (error <= report.worst || std::isnan(report.worst)) return;
    report.worst = error;  // also when it is NaN, which then stays
    report.where = where;
    report.passed = report.passed && error <= c.tolerance;
  };
  for (std::size_t input = 0; input < c.inputs.size(); ++input) {
    if (!is_floating(c.inputs[input].dtype())) continue;
    const std::int64_t count = c.inputs[input].numel();
    report.compared += count;
    std::vector<std::vector<double>> numeric(kCotangents, std::vector<double>(count));
    std::vector<double> scale(kCotangents, 0.0);
    for (std::int64_t j = 0; j < count; ++j) {
      const auto column = jacobian_column(c, input, j, device);
      for (int k = 0; k < kCotangents; ++k) {
        double sum = 0, magnitude = 0;
        for (std::size_t i = 0; i < column.size(); ++i) {
          sum += cotangents[k][i] * column[i];
          magnitude += std::abs(cotangents[k][i] * column[i]);
        }
        numeric[k][j] = sum;
        scale[k] = std::max(scale[k], magnitude);
      }
    }
    for (int k = 0; k < kCotangents; ++k) {
      const auto analytic = gradients[k][input].defined() ? gradients[k][input].to_vector()
                                                          : std::vector<double>(count, 0.0);
      Direction direction;
      for (std::int64_t j = 0; j < count; ++j) {
        const double error = std::abs(analytic[j] - numeric[k][j]) / std::max(scale[k], 1e-6);
        note(error, fmt::format("input {} element {}: backward {}, differences {}", input, j,
                                analytic[j], numeric[k][j]));
        direction.dot += analytic[j] * numeric[k][j];
        direction.numeric += numeric[k][j] * numeric[k][j];
        direction.analytic += analytic[j] * analytic[j];
      }
      const double norms = std::sqrt(direction.numeric * direction.analytic);
      if (norms > 1e-9) {
        note(1 - direction.dot / norms, fmt::format("input {}: direction", input));
      }
    }
  }
  return report;
}

std::vector<OpReport> check_gradients(const std::vector<OpInfo>& ops) {
  std::vector<OpReport> reports;
  std::set<std::string_view> names;
  for (const OpInfo& op : ops) {
    const auto fail_op = [&](const char* why) {
      reports.push_back({std::string(op.name), "", {.passed = false, .worst = NAN, .where = why}});
    };
    if (!names.insert(op.name).second) fail_op("two ops have this name");
    std::int64_t compared = 0;
    for (const GradientCase& c : op.gradient_cases()) {
      reports.push_back({std::string(op.name), c.name, check_gradient(c)});
      compared += reports.back().gradient.compared;
    }
    if (compared == 0) fail_op("no gradient case compares any element");
  }
  return reports;
}

Tensor random_normal(const Shape& shape, std::uint64_t seed) {
  Tensor tensor = Tensor::empty(shape, DType::f64);
  const RandomStream stream{.seed = seed};
  auto values = tensor.mutable_span<double>();
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = stream.normal(i);
  return tensor;
}

Tensor random_away_from_zero(const Shape& shape, std::uint64_t seed, double margin) {
  Tensor tensor = random_normal(shape, seed);
  for (double& x : tensor.mutable_span<double>()) x += std::copysign(margin, x);
  return tensor;
}

}  // namespace cmir
