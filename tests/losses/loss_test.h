// Helpers for loss tests: a loss's value and gradients, compared with a naive formula in f64.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "autograd/tape.h"
#include "tests/kernels/kernel_test.h"

namespace cmir::losses::testing {

using namespace cmir::kernels::testing;
using Values = std::vector<double>;

template <class T>
Tensor tensor(const Values& values, const Shape& shape) {
  return Tensor::from(values, shape).to(dtype_of<T>);
}

struct Evaluated {
  long double
      value;  ///< of the scalar loss; wide, so that a formula's own long sum is exact enough
  std::vector<Values> gradients;  ///< one per input, of cotangent * loss
};

inline constexpr double kCotangent = -1.5;

/// Runs the loss forward and backward, with the cotangent kCotangent.
inline Evaluated evaluate(const std::vector<Tensor>& inputs,
                          const std::function<Variable(std::span<const Variable>)>& loss) {
  std::vector<Variable> variables;
  for (const Tensor& input : inputs) variables.emplace_back(input, true);
  const Variable value = loss(variables);
  EXPECT_EQ(value.shape(), Shape{});
  backward(value, {.seed = Tensor::scalar(kCotangent, value.dtype()).to(value.device())});
  Evaluated out{value.value().item(), {}};
  for (const Variable& variable : variables) {
    out.gradients.push_back(variable.gradient().defined() ? variable.gradient().to_vector()
                                                          : Values{});
  }
  return out;
}

inline double largest(const Values& values) {
  double result = 0;
  for (double value : values) result = std::max(result, std::abs(value));
  return result;
}

/// Value and gradients within factor eps(T) of the expected ones, relative to the value and to each
/// gradient's largest element (or to `floor` where that is smaller). Expected gradients are those
/// of the loss itself, without the cotangent.
template <class T>
void expect_agrees(const Evaluated& actual, const Evaluated& expected, double factor,
                   const std::string& what, double floor = 1e-30) {
  const double tolerance = factor * std::numeric_limits<T>::epsilon();
  const auto value = static_cast<double>(actual.value),
             wanted = static_cast<double>(expected.value);
  EXPECT_TRUE(std::abs(value - wanted) <= tolerance * std::max(std::abs(wanted), floor))
      << what << ": value " << value << ", the formula says " << wanted;
  ASSERT_EQ(actual.gradients.size(), expected.gradients.size()) << what;
  for (std::size_t g = 0; g < expected.gradients.size(); ++g) {
    ASSERT_EQ(actual.gradients[g].size(), expected.gradients[g].size()) << what;
    const double bound =
        tolerance * std::abs(kCotangent) * std::max(largest(expected.gradients[g]), floor);
    for (std::size_t i = 0; i < expected.gradients[g].size(); ++i) {
      ASSERT_TRUE(std::abs(actual.gradients[g][i] - kCotangent * expected.gradients[g][i]) <= bound)
          << what << ": gradient " << g << " element " << i << " is " << actual.gradients[g][i]
          << ", the formula says " << kCotangent * expected.gradients[g][i];
    }
  }
}

/// Every value and gradient element as one vector, for comparisons of bits.
inline Values flatten(const Evaluated& evaluated) {
  Values all{static_cast<double>(evaluated.value)};
  for (const Values& gradient : evaluated.gradients)
    all.insert(all.end(), gradient.begin(), gradient.end());
  return all;
}

/// `call` throws an Error of kind usage whose message contains `part`.
template <class Call>
void expect_usage_error(Call&& call, std::string_view part) {
  try {
    call();
    FAIL() << "no error, expected one that says '" << part << "'";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_NE(std::string_view(error.what()).find(part), std::string_view::npos) << error.what();
  }
}

inline constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

}  // namespace cmir::losses::testing
