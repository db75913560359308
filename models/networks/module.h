// Parameters and the small modules that every network is made of.
//
// A ParameterStore makes parameters; a module is a plain struct that asks the store for its
// parameters when it is built and applies ops to them. Names and layouts are those of PyTorch
// ("encoder.text.trunk.0.weight", [out, in]); see docs/parameters.md.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "autograd/layer_norm.h"
#include "autograd/linear.h"
#include "autograd/tape.h"
#include "core/philox.h"

namespace cmir {

struct Parameter {
  std::string name;
  Variable variable;  ///< a handle that shares value and gradient with the module's; frozen when it
                      ///< requires no gradient
};
using ParameterList = std::vector<Parameter>;

/// What a random draw is for. A stream's site is purpose << 24 | modality << 16 | index: no two
/// draws of a step share a stream as long as there are at most 256 modalities and 65536 dropouts in
/// one of them.
enum class DrawPurpose : std::uint32_t {
  dropout = 1,
  environments = 2,
  corruption = 3,
  negatives = 4,
};

/// The random streams of one forward pass: `step` is the optimizer step, or any counter that the
/// caller advances; `counter` takes its place where it is set (RandomStream).
struct RandomStreams {
  std::uint64_t seed = 0;
  std::uint32_t step = 0;
  const std::int64_t* counter = nullptr;

  RandomStream at(DrawPurpose purpose, std::size_t modality, std::uint32_t index = 0) const {
    return {seed, step,
            static_cast<std::uint32_t>(purpose) << 24 | static_cast<std::uint32_t>(modality) << 16 |
                index,
            counter};
  }
};

/// Hands out one stream per dropout of one modality's networks, in the order of execution; none
/// outside training.
class DropoutSites {
 public:
  DropoutSites(const RandomStreams& streams, std::size_t modality, bool training)
      : streams_(streams), modality_(modality), training_(training) {}
  /// x with each element zeroed with probability p and the rest scaled by 1 / (1 - p); x itself
  /// when not training or p = 0.
  Variable apply(const Variable& x, double p);
  /// The same for ops that drop out by themselves.
  DropoutMask mask(double p);
  RandomStream next() { return streams_.at(DrawPurpose::dropout, modality_, next_++); }
  bool training() const { return training_; }

 private:
  RandomStreams streams_;
  std::size_t modality_;
  bool training_;
  std::uint32_t next_ = 0;
};

/// Makes, initialises and lists parameters. A random initial value depends only on (seed, name,
/// element), never on the order in which modules are built: its Philox stream has the FNV-1a hash
/// of the name as its site and a step that training never reaches.
class ParameterStore {
 public:
  /// Values are drawn on the CPU, so that they are the same for every device, and moved.
  explicit ParameterStore(std::uint64_t seed, DType dtype = DType::f32, Device device = {})
      : seed_(seed), dtype_(dtype), device_(device) {}

  /// Uniform in [-bound, bound).
  Variable uniform(const std::string& name, const Shape& shape, double bound);
  /// Normal with the given standard deviation.
  Variable normal(const std::string& name, const Shape& shape, double deviation);
  Variable constant(const std::string& name, const Shape& shape, double value);
  /// A copy of `values`, trained or frozen.
  Variable given(const std::string& name, const Tensor& values, bool trained);
  /// A copy of `values`, of their own dtype, that nothing trains: what a network keeps from step to
  /// step.
  Tensor state(const std::string& name, const Tensor& values);

  const ParameterList& list() const { return list_; }
  DType dtype() const { return dtype_; }

 private:
  Variable add(const std::string& name, const Tensor& value, bool trained = true);

  std::uint64_t seed_;
  DType dtype_;
  Device device_;
  ParameterList list_;
};

/// y = x W^T + b. Initialised as torch.nn.Linear: both uniform in +-1/sqrt(in) (for the weight that
/// is Kaiming-uniform, a = sqrt 5).
struct Linear {
  Variable weight;  // [out, in]
  Variable bias;    // [out]

  Linear() = default;
  Linear(ParameterStore& store, const std::string& prefix, std::int64_t in, std::int64_t out);
  Variable operator()(const Variable& x, const DropoutMask& dropout = {}) const;
  /// dropout(max(0, y)), fused.
  Variable relu(const Variable& x, const DropoutMask& dropout = {}) const;
  operator ops::LinearLayer() const { return {weight, bias}; }
};

/// dropout(second(hidden_dropout(relu(first(x))))), as one op where the hidden dropout is none.
Variable two_layers(const Linear& first, const Linear& second, const Variable& x,
                    const DropoutMask& hidden_dropout, const DropoutMask& dropout = {});

/// Normalises rows; weight one, bias zero.
struct LayerNorm {
  Variable weight;  // [width]
  Variable bias;    // [width]

  LayerNorm() = default;
  LayerNorm(ParameterStore& store, const std::string& prefix, std::int64_t width);
  Variable operator()(const Variable& x) const;
  /// Of x + residual, fused.
  Variable of_sum(const Variable& x, const Variable& residual) const;
  ops::SumAndNorm sum_and_norm(const Variable& x, const Variable& residual) const;
};

/// Convolution over time within each sample, same padding. Initialised as torch.nn.Conv1d: uniform
/// in +-1/sqrt(in k).
struct Conv1d {
  Variable weight;  // [out, in, k]
  Variable bias;    // [out]

  Conv1d() = default;
  Conv1d(ParameterStore& store, const std::string& prefix, std::int64_t in, std::int64_t out,
         std::int64_t kernel);
  Variable operator()(const Variable& x, const Tensor& offsets) const;
};

/// Copies `values` into the parameters of the same names. One message lists every missing,
/// unexpected and mis-shaped tensor; nothing is written unless all fit. f32 and f64 convert into
/// each other.
void load_parameters(const ParameterList& parameters, const std::map<std::string, Tensor>& values);

/// Elements of parameters grouped by the first `depth` parts of their names, in order of
/// appearance: {"encoder.text", 243456}.
std::vector<std::pair<std::string, std::int64_t>> count_parameters(const ParameterList& parameters,
                                                                   int depth);

}  // namespace cmir
