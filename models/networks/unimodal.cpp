#include "models/networks/unimodal.h"

#include <algorithm>
#include <cmath>

#include <fmt/ranges.h>

#include "autograd/elementwise.h"
#include "autograd/embedding.h"
#include "autograd/mean_pool.h"
#include "autograd/positions.h"
#include "autograd/rows.h"
#include "core/error.h"

namespace cmir {
namespace {

std::string where(const ModalityConfig& config) {
  return fmt::format("modality '{}'", config.name);
}

/// config.heads, or the largest divisor of width below it where the configuration allows that.
std::int64_t heads_for(const ModalityConfig& config, std::int64_t width) {
  std::vector<std::int64_t> divisors;
  for (std::int64_t heads = 1; heads <= config.heads; ++heads) {
    if (width % heads == 0) divisors.push_back(heads);
  }
  require(divisors.back() == config.heads || config.adjust_heads, where(config),
          "heads = {} do not divide the Transformer's width {}; use one of {}, or adjust_heads = "
          "true for the largest",
          config.heads, width, fmt::join(divisors, ", "));
  return divisors.back();
}

TransformerOptions transformer_options(const ModalityConfig& config, std::int64_t width) {
  return {.width = width,
          .layers = config.layers,
          .heads = heads_for(config, width),
          .feed_forward = config.feed_forward > 0 ? config.feed_forward : 4 * width,
          .dropout = config.dropout,
          .attention_dropout = config.attention_dropout,
          .pre_norm = config.norm == "pre"};
}

}  // namespace

Tensor one_row_each(std::int64_t samples, std::int64_t padding) {
  Tensor offsets = Tensor::empty({samples + padding + 1}, DType::i64);
  const auto values = offsets.mutable_span<std::int64_t>();
  for (std::int64_t s = 0; s <= samples + padding; ++s) values[s] = std::min(s, samples);
  return offsets;
}

UnimodalNetwork::UnimodalNetwork(ParameterStore& store, const std::string& prefix,
                                 const ModalityConfig& config, const ModalityInfo& info,
                                 std::int64_t width)
    : config_(config), info_(info), dtype_(store.dtype()) {
  require(info.width > 0, where(config), "the data set's '{}' has width {}", config.feature,
          info.width);
  std::int64_t raw = info.width;
  if (info.kind == InputKind::tokens) {
    const std::string name = prefix + ".embedding.weight";
    if (info.embedding.defined()) {
      require(info.embedding.rank() == 2 && info.embedding.size(0) == info.width, where(config),
              "the embedding table is {}, the vocabulary has {} entries", info.embedding.describe(),
              info.width);
      embedding_ = store.given(name, info.embedding, config.train_embedding);
    } else {
      require(config.embedding_width > 0, where(config),
              "tokens need an embedding: name a table of the data set (embedding), or give "
              "embedding_width > 0 to learn one");
      embedding_ =
          store.normal(name, {info.width, config.embedding_width}, 1.0);  // as torch.nn.Embedding
    }
    raw = embedding_.shape().width();
    info_.embedding = Tensor();  // the parameter holds it now
  }

  const std::string& network = config.network;
  over_time_ =
      network == "conv_transformer" || network == "transformer_conv" || network == "transformer";
  if (over_time_) {
    require(
        info.kind != InputKind::vector, where(config),
        "network = '{}' works over time, but '{}' is one vector per sample; use projection or mlp",
        network, config.feature);
    const std::int64_t at = network == "conv_transformer" ? width : raw;
    if (network == "conv_transformer")
      conv_ = Conv1d(store, prefix + ".conv", raw, width, config.kernel);
    if (config.positions == "learned") {
      positions_ = store.normal(prefix + ".positions.weight", {config.max_positions, at}, 0.02);
    }
    transformer_ = Transformer(store, prefix + ".transformer", transformer_options(config, at));
    if (network == "transformer_conv")
      conv_ = Conv1d(store, prefix + ".conv", raw, width, config.kernel);
  }
  if (network == "projection" || network == "transformer") {
    linears_.emplace_back(store, prefix + ".projection", raw, width);
  } else if (network == "mlp") {
    require(config.hidden_width > 0 || config.layers == 0, where(config),
            "an mlp needs hidden_width > 0");
    for (std::int64_t i = 0; i <= config.layers; ++i) {
      const std::int64_t out = i < config.layers ? config.hidden_width : width;
      // Numbered as in a torch.nn.Sequential of Linear, ReLU, Dropout.
      linears_.emplace_back(store, fmt::format("{}.mlp.{}", prefix, 3 * i), raw, out);
      raw = out;
    }
  } else if (network == "context_conv") {
    require(info.kind == InputKind::vector, where(config),
            "network = 'context_conv' works on one vector per sample, '{}' is a {}", config.feature,
            name_of(info.kind));
    for (std::int64_t i = 0; i < std::max<std::int64_t>(config.layers, 1); ++i) {
      context_.emplace_back(store, fmt::format("{}.context.{}", prefix, i), i == 0 ? raw : width,
                            width, config.kernel);
    }
  } else if (network == "none") {
    require(raw == width, where(config),
            "network = 'none' needs features of width model.shared_width = {}, '{}' has {}", width,
            config.feature, raw);
  }
}

Variable UnimodalNetwork::rows_of(const ModalityInput& input, DType dtype) const {
  const Tensor& x = input.values;
  require(x.defined(), where(config_), "the input has no values");
  if (info_.kind == InputKind::tokens) {
    require(x.rank() == 1 && x.dtype() == DType::i32, where(config_),
            "tokens must be i32 [rows], got {}", x.describe());
    return ops::embedding(embedding_, x);
  }
  require(x.rank() == 2 && x.size(1) == info_.width && is_floating(x.dtype()), where(config_),
          "the model was built for features of width {}, the input is {}", info_.width,
          x.describe());
  return Variable(x.to(dtype));
}

Variable UnimodalNetwork::encode_sequence(Variable x, const Tensor& offsets,
                                          DropoutSites& dropout) const {
  const bool conv_first = config_.network == "conv_transformer";
  if (conv_first) x = conv_(x, offsets);
  if (config_.positions != "none") {
    const double scale = config_.position_scale > 0
                             ? config_.position_scale
                             : std::sqrt(static_cast<double>(x.shape().width()));
    x = ops::add_positions(x, offsets, positions_, scale);
  }
  x = dropout.apply(x, config_.dropout);
  x = transformer_(x, offsets, dropout);
  if (conv_.weight.defined() && !conv_first) x = conv_(x, offsets);
  return x;
}

void UnimodalNetwork::check_values(const ModalityInput& input) const {
  if (info_.kind == InputKind::tokens) ops::check_indices(input.values, embedding_.shape()[0]);
}

TimeSteps UnimodalNetwork::over_time(const ModalityInput& input, DropoutSites& dropout) const {
  Variable x = rows_of(input, dtype_);
  const bool has_time = info_.kind != InputKind::vector;
  require(info_.kind != InputKind::sequence || input.offsets.defined(), where(config_),
          "a sequence needs offsets i64 [samples + 1]");
  for (std::size_t i = 0; i < context_.size(); ++i) {
    x = context_[i](dropout.apply(i == 0 ? x : ops::relu(x), config_.dropout), input.offsets);
  }
  require(has_time || needs_groups() || !input.offsets.defined(), where(config_),
          "expected one vector per sample, got a sequence");
  if (!has_time) return {x, {}};
  const Tensor offsets = input.offsets.defined() ? input.offsets : one_row_each(x.shape()[0]);
  if (over_time_) x = encode_sequence(x, offsets, dropout);
  return {x, offsets, input.padding};
}

Variable UnimodalNetwork::row_by_row(Variable x, DropoutSites& dropout) const {
  for (std::size_t i = 0; i + 1 < linears_.size(); ++i)
    x = linears_[i].relu(x, dropout.mask(config_.dropout));
  return linears_.empty() ? x : linears_.back()(x);
}

Variable UnimodalNetwork::operator()(const ModalityInput& input, DropoutSites& dropout) const {
  return row_by_row(mean_over_time(over_time(input, dropout)), dropout);
}

TimeSteps UnimodalNetwork::steps(const ModalityInput& input, DropoutSites& dropout) const {
  TimeSteps steps = over_time(input, dropout);
  steps.rows = row_by_row(steps.rows, dropout);
  return steps;
}

Variable mean_over_time(const TimeSteps& steps) {
  if (!steps.offsets.defined()) return steps.rows;
  const Variable mean = ops::mean_pool(steps.rows, steps.offsets);
  return steps.padding > 0 ? ops::slice_rows(mean, 0, steps.samples()) : mean;
}

}  // namespace cmir
