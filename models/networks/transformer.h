// Transformers over packed sequences: the block that every layer ends with, and encoders of it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/networks/module.h"

namespace cmir {

namespace ops {
struct AttentionOptions;
}

struct TransformerOptions {
  std::int64_t width = 0;
  std::int64_t layers = 1;
  std::int64_t heads = 1;
  std::int64_t feed_forward = 0;
  double dropout = 0.0;
  double attention_dropout = 0.0;
  bool pre_norm = false;
};

/// A layer but for what goes into its attention.
struct TransformerBlock {
  std::string name;  ///< the prefix of its parameters
  TransformerOptions options;
  Linear out_proj;  // bias zero
  Linear linear1;   // [feed_forward, width]
  Linear linear2;   // [width, feed_forward]
  LayerNorm norm1;
  LayerNorm norm2;

  /// The dropout of the attention's probabilities.
  ops::AttentionOptions attention(DropoutSites& dropout) const;
  Variable feed_forward(const Variable& x, DropoutSites& dropout) const;
  /// Pre-norm, from x and what attention mixed: y = x + out_proj(mixed), z = y +
  /// feed_forward(norm2(y)), and `next` of z: layers in a row, each sum fused with the norm that
  /// follows.
  ops::SumAndNorm then_norm(const Variable& x, const Variable& mixed, const LayerNorm& next,
                            DropoutSites& dropout) const;

 protected:
  /// Makes `prefix`.`attention_name`.out_proj, .linear1, .linear2, .norm1 (where wanted), .norm2.
  void make(ParameterStore& store, const std::string& prefix, const char* attention_name,
            bool with_norm1);
};

/// torch.nn.TransformerEncoderLayer with ReLU. Post-norm: x = norm1(x + attention(x)), x = norm2(x
/// + feed_forward(x)); pre-norm: x += attention(norm1(x)), x += feed_forward(norm2(x)).
/// in_proj_weight [3 width, width] is Xavier-uniform, its bias zero.
struct TransformerLayer : TransformerBlock {
  Variable in_proj_weight;  // [3 width, width]: query, key, value
  Variable in_proj_bias;    // [3 width]

  TransformerLayer(ParameterStore& store, const std::string& prefix,
                   const TransformerOptions& layer_options);
  Variable operator()(const Variable& x, const Tensor& offsets, DropoutSites& dropout) const;
  /// The heads' results side by side, before out_proj.
  Variable mix(const Variable& x, const Tensor& offsets, DropoutSites& dropout) const;
};

/// Layers in a row; pre-norm ends with a LayerNorm, "norm".
struct Transformer {
  std::vector<TransformerLayer> layers;
  LayerNorm norm;  // pre-norm only

  Transformer() = default;
  Transformer(ParameterStore& store, const std::string& prefix, const TransformerOptions& options);
  Variable operator()(Variable x, const Tensor& offsets, DropoutSites& dropout) const;
};

/// The bound of torch.nn.MultiheadAttention's projections: sqrt(6 / (fan_in + fan_out)) of the
/// joint [3 width, width] matrix of query, key and value.
double attention_bound(std::int64_t width);

}  // namespace cmir
