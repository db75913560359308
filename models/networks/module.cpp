#include "models/networks/module.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/ranges.h>

#include "autograd/conv1d.h"
#include "autograd/dropout.h"
#include "autograd/layer_norm.h"
#include "autograd/linear.h"
#include "core/error.h"

namespace cmir {
namespace {

constexpr std::uint32_t kInitialisationStep = 0xFFFFFFFF;

/// FNV-1a, 32 bits.
std::uint32_t hash_of(std::string_view text) {
  std::uint32_t hash = 0x811C9DC5;
  for (const unsigned char c : text) hash = (hash ^ c) * 0x01000193;
  return hash;
}

/// A tensor whose element i is draw(i).
template <class Draw>
Tensor drawn(const Shape& shape, DType dtype, Draw&& draw) {
  Tensor tensor = Tensor::empty(shape, dtype);
  dispatch_float(dtype, "parameter", [&]<class T>() {
    T* values = tensor.mutable_span<T>().data();
    for (std::int64_t i = 0; i < tensor.numel(); ++i) values[i] = static_cast<T>(draw(i));
  });
  return tensor;
}

}  // namespace

Variable DropoutSites::apply(const Variable& x, double p) {
  return training_ && p > 0 ? ops::dropout(x, p, next()) : x;
}

DropoutMask DropoutSites::mask(double p) {
  return training_ && p > 0 ? DropoutMask{p, next()} : DropoutMask{};
}

Variable ParameterStore::add(const std::string& name, const Tensor& value, bool trained) {
  for (const Parameter& parameter : list_) {
    require(parameter.name != name, "parameter", "'{}' is made twice", name);
  }
  list_.push_back({name, Variable(value.to(device_), trained)});
  return list_.back().variable;
}

Variable ParameterStore::uniform(const std::string& name, const Shape& shape, double bound) {
  const RandomStream stream{seed_, kInitialisationStep, hash_of(name)};
  return add(name, drawn(shape, dtype_,
                         [&](std::int64_t i) { return bound * (2.0 * stream.uniform(i) - 1.0); }));
}

Variable ParameterStore::normal(const std::string& name, const Shape& shape, double deviation) {
  const RandomStream stream{seed_, kInitialisationStep, hash_of(name)};
  return add(name,
             drawn(shape, dtype_, [&](std::int64_t i) { return deviation * stream.normal(i); }));
}

Variable ParameterStore::constant(const std::string& name, const Shape& shape, double value) {
  return add(name, Tensor::full(shape, value, dtype_));
}

Variable ParameterStore::given(const std::string& name, const Tensor& values, bool trained) {
  return add(name, values.to(dtype_).clone(), trained);
}

Tensor ParameterStore::state(const std::string& name, const Tensor& values) {
  return add(name, values.clone(), false).value();
}

Linear::Linear(ParameterStore& store, const std::string& prefix, std::int64_t in,
               std::int64_t out) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(in));
  weight = store.uniform(prefix + ".weight", {out, in}, bound);
  bias = store.uniform(prefix + ".bias", {out}, bound);
}
Variable Linear::operator()(const Variable& x, const DropoutMask& dropout) const {
  return ops::linear(x, weight, bias, Activation::none, dropout);
}
Variable Linear::relu(const Variable& x, const DropoutMask& dropout) const {
  return ops::linear(x, weight, bias, Activation::relu, dropout);
}
Variable two_layers(const Linear& first, const Linear& second, const Variable& x,
                    const DropoutMask& hidden_dropout, const DropoutMask& dropout) {
  if (hidden_dropout.p == 0) return ops::mlp(x, {first, second}, Activation::none, dropout);
  return second(first.relu(x, hidden_dropout), dropout);
}

LayerNorm::LayerNorm(ParameterStore& store, const std::string& prefix, std::int64_t width)
    : weight(store.constant(prefix + ".weight", {width}, 1.0)),
      bias(store.constant(prefix + ".bias", {width}, 0.0)) {}
Variable LayerNorm::operator()(const Variable& x) const {
  return ops::layer_norm(x, weight, bias, 1e-5);
}
Variable LayerNorm::of_sum(const Variable& x, const Variable& residual) const {
  return ops::layer_norm_of_sum(x, residual, weight, bias, 1e-5);
}
ops::SumAndNorm LayerNorm::sum_and_norm(const Variable& x, const Variable& residual) const {
  return ops::sum_and_layer_norm(x, residual, weight, bias, 1e-5);
}

Conv1d::Conv1d(ParameterStore& store, const std::string& prefix, std::int64_t in, std::int64_t out,
               std::int64_t kernel) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(in * kernel));
  weight = store.uniform(prefix + ".weight", {out, in, kernel}, bound);
  bias = store.uniform(prefix + ".bias", {out}, bound);
}
Variable Conv1d::operator()(const Variable& x, const Tensor& offsets) const {
  return ops::conv1d(x, offsets, weight, bias);
}

void load_parameters(const ParameterList& parameters, const std::map<std::string, Tensor>& values) {
  std::vector<std::string> faults;
  std::set<std::string> known;
  for (const auto& [name, variable] : parameters) {
    known.insert(name);
    const auto value = values.find(name);
    if (value == values.end()) {
      faults.push_back(fmt::format("'{}' is missing", name));
    } else if (value->second.shape() != variable.shape() || !is_floating(value->second.dtype())) {
      faults.push_back(fmt::format("'{}' is {}, the model's is {}", name, value->second.describe(),
                                   variable.value().describe()));
    }
  }
  for (const auto& [name, value] : values) {
    if (!known.contains(name)) faults.push_back(fmt::format("'{}' is not in the model", name));
  }
  if (!faults.empty()) {
    fail(ErrorKind::data, "load_parameters",
         "these are parameters of another model ({} differences): {}", faults.size(),
         fmt::join(faults, "; "));
  }
  for (Parameter parameter : parameters) {
    parameter.variable.mutable_value().copy_from(
        values.at(parameter.name).to(parameter.variable.dtype()));
  }
}

std::vector<std::pair<std::string, std::int64_t>> count_parameters(const ParameterList& parameters,
                                                                   int depth) {
  std::vector<std::pair<std::string, std::int64_t>> counts;
  for (const auto& [name, variable] : parameters) {
    std::size_t end = 0;
    for (int part = 0; part < depth && end != std::string::npos; ++part)
      end = name.find('.', end + (part > 0));
    const std::string group = name.substr(0, end);
    auto count =
        std::find_if(counts.begin(), counts.end(), [&](const auto& c) { return c.first == group; });
    if (count == counts.end()) count = counts.insert(counts.end(), {group, 0});
    count->second += variable.value().numel();
  }
  return counts;
}

}  // namespace cmir
