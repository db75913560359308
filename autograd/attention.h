// Multi-head attention over sequences of different lengths.
#pragma once

#include <span>
#include <vector>

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
  /// [heads, queries, keys], or undefined: added to the logits of every sample, whose queries and
  /// keys are counted from its first and may be fewer. -inf hides a key. Its gradient is the sum
  /// over the samples.
  Variable bias = {};
};

/// softmax(scale query key^T + bias) value for each sample and head. query [query rows, heads *
/// head width], key and value [key rows, heads * head width], f32 or f64. query_offsets and
/// key_offsets are i64 [samples + 1] for packed rows (autograd/sequences.h), or what padded_rows
/// returns. A query without keys gives zeros, as does padding. Returns query's shape. In bf16 the
/// factors of all products are rounded (docs/precision.md).
Variable attention(const Variable& query, const Variable& key, const Variable& value,
                   const Tensor& query_offsets, const Tensor& key_offsets, std::int64_t heads,
                   const AttentionOptions& options = {});

/// The same for query, key and value side by side in one projection qkv [rows, 3 width], width =
/// heads * head width, as PyTorch's in_proj_weight makes them. Returns [rows, width].
Variable self_attention(const Variable& qkv, const Tensor& offsets, std::int64_t heads,
                        const AttentionOptions& options = {});

/// One of several problems. Without `value`, key and value are side by side in `key` [key rows, 2
/// width]; without `key` too, all three are in `query` [rows, 3 width].
struct AttentionInput {
  Variable query, key = {}, value = {};
  Tensor query_offsets, key_offsets;
  AttentionOptions options = {};
  /// Not 0: query and key (with value) are the `width` columns of `query` from query_column on, and
  /// the 2 width ones of `key` from key_column on. So one product can serve several problems, and
  /// where their columns are apart gets one gradient.
  std::int64_t width = 0, query_column = 0, key_column = 0;
};

/// Independent problems of equal heads, head width and dtype, such as all pairs of modalities, in
/// one kernel (of up to kernels::kAttentionProblems; more take several), and so their gradients.
/// Problems with dropout need streams of their own. Returns each one's output.
std::vector<Variable> attention_group(std::span<const AttentionInput> inputs, std::int64_t heads);

/// For a padded batch [samples, longest, width] reshaped to [samples * longest, width]: what to
/// pass as offsets, i64 [2, samples], the first rows and the ends of samples of these lengths, i64
/// [samples]. No row is moved, and no work is done for padding; what it holds is not read, its
/// output and gradient are 0.
Tensor padded_rows(const Tensor& lengths, std::int64_t longest);

}  // namespace cmir::ops
