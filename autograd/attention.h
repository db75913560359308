// Multi-head attention over packed sequences.
#pragma once

#include "autograd/tape.h"
#include "core/philox.h"

namespace cmir::ops {

struct AttentionOptions {
  /// Of the dot products; 0 means 1 / sqrt(head width).
  double scale = 0;
  /// Query i of Tq sees key j of Tk only if j <= i + Tk - Tq (the last query sees all).
  bool causal = false;
  /// Probability in [0, 1) of dropping each softmax probability, drawn from `stream` as
  /// kernels/attention/attention.h says.
  double dropout = 0;
  RandomStream stream;
};

/// softmax(scale query key^T) value for each sample and head. query [query rows, heads * head
/// width], key and value [key rows, heads * head width], f32 or f64; query_offsets and key_offsets
/// i64 [samples + 1]. A query without keys gives zeros. Returns query's shape.
Variable attention(const Variable& query, const Variable& key, const Variable& value,
                   const Tensor& query_offsets, const Tensor& key_offsets, std::int64_t heads,
                   const AttentionOptions& options = {});

/// The same for query, key and value side by side in one projection qkv [rows, 3 width], width =
/// heads * head width, as PyTorch's in_proj_weight makes them. Returns [rows, width].
Variable self_attention(const Variable& qkv, const Tensor& offsets, std::int64_t heads,
                        const AttentionOptions& options = {});

}  // namespace cmir::ops
