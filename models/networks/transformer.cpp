#include "models/networks/transformer.h"

#include <cmath>

#include "autograd/attention.h"
#include "autograd/elementwise.h"
#include "autograd/linear.h"
#include "core/error.h"
#include "models/networks/attention_maps.h"

namespace cmir {

double attention_bound(std::int64_t width) {
  return std::sqrt(6.0 / static_cast<double>(4 * width));
}

void TransformerBlock::make(ParameterStore& store, const std::string& prefix,
                            const char* attention_name, bool with_norm1) {
  const std::int64_t width = options.width;
  const std::string out = fmt::format("{}.{}.out_proj", prefix, attention_name);
  name = prefix;
  out_proj.weight =
      store.uniform(out + ".weight", {width, width}, 1.0 / std::sqrt(static_cast<double>(width)));
  out_proj.bias = store.constant(out + ".bias", {width}, 0.0);
  linear1 = Linear(store, prefix + ".linear1", width, options.feed_forward);
  linear2 = Linear(store, prefix + ".linear2", options.feed_forward, width);
  if (with_norm1) norm1 = LayerNorm(store, prefix + ".norm1", width);
  norm2 = LayerNorm(store, prefix + ".norm2", width);
}

ops::AttentionOptions TransformerBlock::attention(DropoutSites& dropout) const {
  ops::AttentionOptions attention;
  if (dropout.training() && options.attention_dropout > 0) {
    attention.dropout = options.attention_dropout;
    attention.stream = dropout.next();
  }
  return attention;
}

Variable TransformerBlock::feed_forward(const Variable& x, DropoutSites& dropout) const {
  const DropoutMask hidden = dropout.mask(options.dropout);
  return two_layers(linear1, linear2, x, hidden, dropout.mask(options.dropout));
}

ops::SumAndNorm TransformerBlock::then_norm(const Variable& x, const Variable& mixed,
                                            const LayerNorm& next, DropoutSites& dropout) const {
  const auto [attended, norm] =
      norm2.sum_and_norm(x, out_proj(mixed, dropout.mask(options.dropout)));
  return next.sum_and_norm(attended, feed_forward(norm, dropout));
}

TransformerLayer::TransformerLayer(ParameterStore& store, const std::string& prefix,
                                   const TransformerOptions& layer_options) {
  options = layer_options;
  const std::int64_t width = options.width;
  in_proj_weight = store.uniform(prefix + ".self_attn.in_proj_weight", {3 * width, width},
                                 attention_bound(width));
  in_proj_bias = store.constant(prefix + ".self_attn.in_proj_bias", {3 * width}, 0.0);
  make(store, prefix, "self_attn", true);
}

Variable TransformerLayer::mix(const Variable& x, const Tensor& offsets,
                               DropoutSites& dropout) const {
  const ops::AttentionOptions attention_options = attention(dropout);
  const Variable qkv = ops::linear(x, in_proj_weight, in_proj_bias);
  AttentionMapScope::note(name, qkv, 0, qkv, options.width, options.width, options.heads);
  return ops::self_attention(qkv, offsets, options.heads, attention_options);
}

Variable TransformerLayer::operator()(const Variable& x, const Tensor& offsets,
                                      DropoutSites& dropout) const {
  const auto attend = [&](const Variable& input) {
    const Variable mixed = mix(input, offsets, dropout);
    return out_proj(mixed, dropout.mask(options.dropout));
  };
  if (options.pre_norm) {
    const auto [attended, norm] = norm2.sum_and_norm(x, attend(norm1(x)));
    return ops::add(attended, feed_forward(norm, dropout));
  }
  const Variable attended = norm1.of_sum(x, attend(x));
  return norm2.of_sum(attended, feed_forward(attended, dropout));
}

Transformer::Transformer(ParameterStore& store, const std::string& prefix,
                         const TransformerOptions& options) {
  for (std::int64_t i = 0; i < options.layers; ++i) {
    layers.emplace_back(store, fmt::format("{}.layers.{}", prefix, i), options);
  }
  if (options.pre_norm) norm = LayerNorm(store, prefix + ".norm", options.width);
}

Variable Transformer::operator()(Variable x, const Tensor& offsets, DropoutSites& dropout) const {
  const bool pre_norm = norm.weight.defined();
  if (pre_norm && !layers.empty()) {
    ops::SumAndNorm state{x, layers[0].norm1(x)};
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const LayerNorm& next = i + 1 < layers.size() ? layers[i + 1].norm1 : norm;
      state = layers[i].then_norm(state.sum, layers[i].mix(state.norm, offsets, dropout), next,
                                  dropout);
    }
    return state.norm;
  }
  for (const TransformerLayer& layer : layers) x = layer(x, offsets, dropout);
  return pre_norm ? norm(x) : x;
}

}  // namespace cmir
