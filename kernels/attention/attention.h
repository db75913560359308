// Multi-head attention over packed sequences.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "core/parallel.h"
#include "core/philox.h"
#include "kernels/cpu/panels.h"
#include "kernels/kernel.h"

namespace cmir::kernels {

/// Problems that one call takes.
inline constexpr int kAttentionProblems = 8;

/// What forward and backward share. Head h of a row is its columns h * head_width .. (h + 1) *
/// head_width. Sample s has the query rows query_begins[s] .. query_ends[s] and the key (and value)
/// rows key_begins[s] .. key_ends[s]; the counts may differ. Packed offsets [samples + 1] are both:
/// begins = offsets, ends = offsets + 1. What rows of no sample (padding) hold does not matter;
/// they are not written. Rows are `*_stride` elements apart, so that query, key and value may be
/// parts of one projection. Nothing but the elements is aligned.
template <class T>
struct AttentionProblem {
  const T* query;  // [query rows, heads * head_width]
  const T* key;    // [key rows, heads * head_width]
  const T* value;  // [key rows, heads * head_width]
  std::int64_t query_stride;
  std::int64_t key_stride;
  std::int64_t value_stride;
  const std::int64_t* query_begins;  // [samples]
  const std::int64_t* query_ends;    // [samples]
  const std::int64_t* key_begins;    // [samples]
  const std::int64_t* key_ends;      // [samples]
  std::int64_t samples;
  std::int64_t heads;
  std::int64_t head_width;
  std::int64_t most_queries;  ///< query rows of the longest sample
  std::int64_t most_keys;     ///< key rows of the longest sample
  SumOf<T> scale;             ///< of the dot products
  /// Query i of Tq sees key j of Tk only if j <= i + Tk - Tq: the last query sees every key.
  bool causal = false;
  /// Probability of dropping a softmax probability, in [0, 1); the kept ones are divided by 1 -
  /// dropout. The draw for (query row r, head h, key j of its sample) is the stream's element ((r *
  /// heads + h) << 24) + j, where r counts over the whole batch; so at most 2^24 keys. Dropped
  /// where uniform(element) < dropout. Problems of one call need streams of their own.
  float dropout = 0;
  RandomStream stream;
  /// Added to the logit of query i and key j of every sample: bias[h][i][j], i and j counted within
  /// the sample. -inf hides a key; +inf and NaN give NaN.
  const SumOf<T>* bias = nullptr;  // [heads, bias_queries, bias_keys], or null: zeros
  std::int64_t bias_queries = 0;   ///< at least most_queries
  std::int64_t bias_keys = 0;      ///< at least most_keys
  /// Of the matrices, those of no sample included. 0: not known; bulk copies need it (sm_90a).
  std::int64_t query_rows = 0;
  std::int64_t key_rows = 0;

  constexpr std::int64_t width() const { return heads * head_width; }
};

/// What the cost of a packed batch depends on, from offsets on the host: those of the problem may
/// be on a device. Of a group: the sum over its problems.
struct AttentionWork {
  double rows = 0;   ///< of queries and of keys, together
  double pairs = 0;  ///< of a query and a key of one sample

  static AttentionWork of(const std::int64_t* query_offsets, const std::int64_t* key_offsets,
                          std::int64_t samples) {
    AttentionWork work{1.0 * (query_offsets[samples] + key_offsets[samples])};
    for (std::int64_t s = 0; s < samples; ++s) {
      work.pairs +=
          1.0 * (query_offsets[s + 1] - query_offsets[s]) * (key_offsets[s + 1] - key_offsets[s]);
    }
    return work;
  }
};

template <class T>
struct AttentionForwardItem {
  AttentionProblem<T> problem;
  SumOf<T>* output;       // [query rows, heads * head_width]
  SumOf<T>* log_sum_exp;  // [query rows, heads]
};

/// For each item: output[i] = sum_j P_ij value[j], P = softmax_j(l_ij), l_ij = scale query[i] .
/// key[j] + bias_ij over the keys that i sees, for each sample and head. A query that sees no key
/// (a sample without keys, or all logits -inf) gives zeros. log_sum_exp[r, h] = ln sum_j exp(l_ij),
/// -inf for such a query: with it backward recomputes P, so that memory grows with the rows and not
/// with their square. Logits are shifted by their maximum. A sample's bits (without dropout) depend
/// on that sample only, not on the batch or the group. Heads and head widths are equal in a group.
///
/// With T = BFloat16 query, key and value are bf16 and all else is f32, as for LinearForward:
/// scores are exact products summed in f32, and the weights exp(l - maximum), of which the sums are
/// taken unrounded, are rounded to bf16 (nearest even) as factors of the value, on every device. A
/// CUDA kernel's maximum may be that of the keys so far, which moves such a rounding. tf32: factors
/// may be rounded to TF32 on a GPU, with T = float.
///
/// CPU: scores exist for kAttentionTile queries at a time; bf16 samples with 32 queries or more on
/// AMX where there is one: what is below 2^-126 is lost there (cpu/amx.h), and a task packs factors
/// in memory of its own. CUDA: one launch for all items; a warp
/// has the scores of 16 queries with 32 keys in its registers, exp is within 2^-22, no workspace is
/// used, heads have up to kAttentionDeviceWidth features. Products are the tensor cores': f32 as
/// three products of TF32 (cuda/tensor_tile.cuh). sm_90a: a second launch for the long samples
/// (attention_launch.h) of bf16 items without a bias whose heads have 40 to 128 features, a
/// multiple of 8, in rows that begin at multiples of 16 bytes, by warpgroups and bulk copies.
/// Bytes: the four arrays once. Operations: 4 pairs width (products) + about 20 pairs heads
/// (softmax).
template <class T>
struct AttentionForward {
  static constexpr std::string_view name = "attention_forward";
  AttentionForwardItem<T> items[kAttentionProblems];
  int count;            ///< of items: 1 .. kAttentionProblems
  SumOf<T>* workspace;  // [attention_forward_workspace(*this)]
  bool tf32 = false;

  double bytes(const AttentionWork& work) const {
    return (sizeof(T) + sizeof(SumOf<T>)) * items[0].problem.width() * work.rows;
  }
  double operations(const AttentionWork& work) const {
    return work.pairs * (4.0 * items[0].problem.width() + 20.0 * items[0].problem.heads);
  }
};

template <class T>
struct AttentionBackwardItem {
  AttentionProblem<T> problem;
  const SumOf<T>* output;       // [query rows, heads * head_width]
  const SumOf<T>* log_sum_exp;  // [query rows, heads]
  const T* doutput;             // [query rows, heads * head_width]
  SumOf<T>* dquery;             // laid out as query, with its stride
  SumOf<T>* dkey;               // as key
  SumOf<T>* dvalue;             // as value
  SumOf<T>* dbias = nullptr;    // as bias, or null: not wanted
};

/// For each item, with P recomputed as exp(l - log_sum_exp), M the dropout mask over 1 - dropout,
/// D_i = sum of doutput[i] * output[i]: dP = M * (doutput value^T), dl = P * (dP - D), dvalue = (M
/// * P)^T doutput, dquery = scale dl key, dkey = scale dl^T query (Dao et al. 2022, FlashAttention,
/// appendix B.2), dbias_ij = sum over samples of dl_ij. All are overwritten; dbias is 0 where no
/// sample has the query or the key. dbias takes a pass of its own, which recomputes dl and walks
/// over the samples in order, so nothing is summed across threads. CPU: one task owns a (sample,
/// head), or for dbias a (head, tile of queries). CUDA: three launches for all items, each of which
/// recomputes dl: a warp has 16 queries for dquery, 16 keys for dkey and dvalue, 16 queries and 32
/// keys for dbias; two more on sm_90a, as in forward; attention_states in the workspace; in f32
/// with more than 64 features tensor cores, which cut off, add up dkey and dvalue. For logits of
/// magnitude L, P is recomputed with a relative error of about L eps. With T = BFloat16 doutput is
/// bf16 too, and M * P and dl are rounded to bf16 (nearest even, dl before or after scale) as
/// factors; D and dbias are of unrounded dl. Bytes: eight arrays. Operations: 10 pairs width +
/// about 24 pairs heads.
template <class T>
struct AttentionBackward {
  static constexpr std::string_view name = "attention_backward";
  AttentionBackwardItem<T> items[kAttentionProblems];
  int count;            ///< of items: 1 .. kAttentionProblems
  SumOf<T>* workspace;  // [attention_backward_workspace(*this)]
  bool tf32 = false;

  double bytes(const AttentionWork& work) const {
    return (2.0 * sizeof(T) + 2.0 * sizeof(SumOf<T>)) * items[0].problem.width() * work.rows;
  }
  double operations(const AttentionWork& work) const {
    return work.pairs * (10.0 * items[0].problem.width() + 24.0 * items[0].problem.heads);
  }
};

/// Error unless the items are as many, and as alike, as the contract says.
template <class Args>
void check_attention_group(const Args& args) {
  require(args.count >= 1 && args.count <= kAttentionProblems, Args::name,
          "takes 1 to {} problems, got {}", kAttentionProblems, args.count);
  for (int i = 0; i < args.count; ++i) {
    const auto &p = args.items[i].problem, &first = args.items[0].problem;
    require(p.heads == first.heads && p.head_width == first.head_width, Args::name,
            "problem {} has {} heads of {} features, problem 0 has {} of {}", i, p.heads,
            p.head_width, first.heads, first.head_width);
    require(p.bias == nullptr || (p.bias_queries >= p.most_queries && p.bias_keys >= p.most_keys),
            Args::name, "problem {} has a bias for {} queries and {} keys, but samples with {}, {}",
            i, p.bias_queries, p.bias_keys, p.most_queries, p.most_keys);
  }
}

/// The widest head on a CUDA device: a warp holds 16 rows of the results in its registers.
inline constexpr std::int64_t kAttentionDeviceWidth = 128;

/// Queries and keys of a tile of scores on the CPU: a multiple of the register tile's 6 rows, and
/// of a panel. Of keys and values for at most kAttentionInPlace queries no copy is made but of the
/// last.
inline constexpr std::int64_t kAttentionTile = 54, kAttentionKeys = 128, kAttentionInPlace = 108;

/// The CPU's tasks are the (sample, head) of backward and, where those are few, parts of so many
/// queries of one in forward; for dbias the (head, tile of the bias's queries).
template <class T>
std::int64_t attention_part_rows(const AttentionProblem<T>& p) {
  const std::int64_t tiles = chunk_count(0, p.most_queries, kAttentionTile);
  const std::int64_t heads = std::max<std::int64_t>(1, p.samples * p.heads);
  const std::int64_t parts =
      std::clamp<std::int64_t>((31 + heads) / heads, 1, std::max<std::int64_t>(1, tiles));
  return std::max<std::int64_t>(1, (tiles + parts - 1) / parts) * kAttentionTile;
}

/// The workspace of a chunk in forward: a part's queries, outputs and softmaxes, a block's keys
/// (transposed, and copied) and values, a tile's scores. The rows of what a product writes are
/// padded to whole panels (packed_size of one row), so that it never copies an edge.
template <class T>
std::int64_t attention_chunk(const AttentionForwardItem<T>& item) {
  using Sum = SumOf<T>;
  const AttentionProblem<T>& p = item.problem;
  const std::int64_t rows = std::min(p.most_queries, attention_part_rows(p)), width = p.head_width;
  const std::int64_t keys = std::min(p.most_keys, kAttentionKeys);
  return 2 * cpu::packed_size<Sum>(rows, width) + rows * cpu::kWidestPanel<Sum> +
         cpu::packed_size<Sum>(width, keys) + 2 * cpu::packed_size<Sum>(keys, width) +
         kAttentionTile * kAttentionKeys;
}

/// In backward: all queries, doutput, dquery and two numbers a query; a block's keys and values
/// (transposed, and copied) and their gradients, a tile's probabilities and their gradients.
template <class T>
std::int64_t attention_chunk(const AttentionBackwardItem<T>& item) {
  using Sum = SumOf<T>;
  const AttentionProblem<T>& p = item.problem;
  const std::int64_t rows = p.most_queries, width = p.head_width;
  const std::int64_t keys = std::min(p.most_keys, kAttentionKeys);
  return 3 * cpu::packed_size<Sum>(rows, width) + 2 * rows +
         2 * cpu::packed_size<Sum>(width, keys) + 4 * cpu::packed_size<Sum>(keys, width) +
         2 * kAttentionTile * kAttentionKeys;
}

/// A group's tasks, numbered item by item, in at most 32 chunks, each with the workspace of the
/// item that needs most.
struct AttentionChunks {
  std::int64_t first[kAttentionProblems + 1] =
      {};  ///< item i has the tasks first[i] .. first[i + 1]
  std::int64_t tasks = 0, size = 0;

  template <class Args, class Tasks>
  AttentionChunks(const Args& args, Tasks&& tasks_of) {
    for (int i = 0; i < args.count; ++i) {
      tasks = first[i + 1] = first[i] + tasks_of(args.items[i]);
      size = std::max(size, attention_chunk(args.items[i]));
    }
    size = (size + 31) / 32 * 32;  // so that every chunk's begins as aligned as the first
  }
  std::int64_t grain() const { return std::max<std::int64_t>(1, (tasks + 31) / 32); }
  std::int64_t workspace() const { return chunk_count(0, tasks, grain()) * size; }
};
template <class T>
AttentionChunks attention_forward_chunks(const AttentionForward<T>& args) {
  return {args, [](const AttentionForwardItem<T>& item) {
            const AttentionProblem<T>& p = item.problem;
            return p.samples * p.heads * chunk_count(0, p.most_queries, attention_part_rows(p));
          }};
}
template <class T>
AttentionChunks attention_backward_chunks(const AttentionBackward<T>& args) {
  return {args, [](const AttentionBackwardItem<T>& item) {
            return item.problem.samples * item.problem.heads;
          }};
}
template <class T>
AttentionChunks attention_dbias_chunks(const AttentionBackward<T>& args) {
  return {args, [](const AttentionBackwardItem<T>& item) {
            const AttentionProblem<T>& p = item.problem;
            return item.dbias == nullptr ? 0
                                         : p.heads * chunk_count(0, p.bias_queries, kAttentionTile);
          }};
}

/// What a CUDA device keeps of each query and head of backward: two numbers.
template <class T>
std::int64_t attention_states(const AttentionProblem<T>& p) {
  return 2 * p.samples * p.heads * p.most_queries;
}
template <class T>
std::int64_t attention_states(const AttentionBackward<T>& args) {
  std::int64_t states = 0;
  for (int i = 0; i < args.count; ++i) states += attention_states(args.items[i].problem);
  return states;
}

/// Elements of the workspaces. They depend on no pointer but whether a dbias is there.
template <class T>
std::int64_t attention_forward_workspace(const AttentionForward<T>& args) {
  return attention_forward_chunks(args).workspace();
}
template <class T>
std::int64_t attention_backward_workspace(const AttentionBackward<T>& args) {
  return std::max({attention_backward_chunks(args).workspace(),
                   attention_dbias_chunks(args).workspace(), attention_states(args)});
}

}  // namespace cmir::kernels
