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

/// What forward and backward share. Head h of a row is its columns h * head_width .. (h + 1) *
/// head_width. Sample s has the query rows query_offsets[s] .. query_offsets[s + 1] and the key
/// (and value) rows key_offsets[s] .. key_offsets[s + 1]; the counts may differ. Rows are
/// `*_stride` elements apart, so that query, key and value may be parts of one projection.
template <class T>
struct AttentionProblem {
  const T* query;  // [query rows, heads * head_width]
  const T* key;    // [key rows, heads * head_width]
  const T* value;  // [key rows, heads * head_width]
  std::int64_t query_stride;
  std::int64_t key_stride;
  std::int64_t value_stride;
  const std::int64_t* query_offsets;  // [samples + 1]
  const std::int64_t* key_offsets;    // [samples + 1]
  std::int64_t samples;
  std::int64_t heads;
  std::int64_t head_width;
  std::int64_t most_queries;  ///< query rows of the longest sample
  std::int64_t most_keys;     ///< key rows of the longest sample
  T scale;                    ///< of the dot products
  /// Query i of Tq sees key j of Tk only if j <= i + Tk - Tq: the last query sees every key.
  bool causal = false;
  /// Probability of dropping a softmax probability, in [0, 1); the kept ones are divided by 1 -
  /// dropout. The draw for (query row r, head h, key j of its sample) is the stream's element ((r *
  /// heads + h) << 24) + j, where r counts over the whole batch; so at most 2^24 keys. Dropped
  /// where uniform(element) < dropout.
  float dropout = 0;
  RandomStream stream;

  constexpr std::int64_t width() const { return heads * head_width; }
};

/// What the cost of a packed batch depends on, from offsets on the host: those of the problem may
/// be on a device.
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

/// output[i] = sum_j P_ij value[j], P = softmax_j(scale query[i] . key[j]) over the keys that i
/// sees, for each sample and head. A query that sees no key (a sample without keys) gives zeros.
/// log_sum_exp[r, h] = ln sum_j exp(scale q.k), -inf for such a query: with it backward recomputes
/// P, so that memory grows with the rows and not with their square. Scores exist for 96 queries at
/// a time (CUDA: 32 queries by 32 keys, with a running maximum; no workspace is used; heads of up
/// to kAttentionDeviceWidth features). Logits are shifted by their maximum. A sample's bits
/// (without dropout) depend on that sample only. Bytes: the four arrays once. Operations: 4 pairs
/// width (products) + about 20 pairs heads (softmax).
template <class T>
struct AttentionForward {
  static constexpr std::string_view name = "attention_forward";
  AttentionProblem<T> problem;
  T* output;       // [query rows, heads * head_width]
  T* log_sum_exp;  // [query rows, heads]
  T* workspace;    // attention_forward_workspace(problem) elements

  double bytes(const AttentionWork& work) const {
    return 2.0 * sizeof(T) * problem.width() * work.rows;
  }
  double operations(const AttentionWork& work) const {
    return work.pairs * (4.0 * problem.width() + 20.0 * problem.heads);
  }
};

/// With P recomputed as exp(scale q.k - log_sum_exp), M the dropout mask over 1 - dropout, D_i =
/// sum of doutput[i] * output[i]: dP = M * (doutput value^T), dS = P * (dP - D), dvalue = (M * P)^T
/// doutput, dquery = scale dS key, dkey = scale dS^T query (Dao et al. 2022, FlashAttention,
/// appendix B.2). All three gradients are overwritten. One task owns a (sample, head), so nothing
/// is summed across threads (CUDA: one block a tile of 32 queries for dquery, another
/// a tile of 32 keys for dkey and dvalue; no workspace). For logits of magnitude L, P is recomputed
/// with a relative error of about L eps. Bytes: eight arrays. Operations: 10 pairs width + about 24
/// pairs heads.
template <class T>
struct AttentionBackward {
  static constexpr std::string_view name = "attention_backward";
  AttentionProblem<T> problem;
  const T* output;       // [query rows, heads * head_width]
  const T* log_sum_exp;  // [query rows, heads]
  const T* doutput;      // [query rows, heads * head_width]
  T* dquery;             // laid out as query, with its stride
  T* dkey;               // as key
  T* dvalue;             // as value
  T* workspace;          // attention_backward_workspace(problem) elements

  double bytes(const AttentionWork& work) const {
    return 4.0 * sizeof(T) * problem.width() * work.rows;
  }
  double operations(const AttentionWork& work) const {
    return work.pairs * (10.0 * problem.width() + 24.0 * problem.heads);
  }
};

/// The widest head on a CUDA device: a result's row is held in the registers of a warp.
inline constexpr std::int64_t kAttentionDeviceWidth = 256;

/// Queries whose scores exist at a time: a multiple of the register tile's 6 rows.
inline constexpr std::int64_t kAttentionTile = 96;
/// Tasks per chunk such that there are at most 32 chunks, each with a workspace of its own.
inline std::int64_t attention_grain(std::int64_t tasks) {
  return std::max<std::int64_t>(1, (tasks + 31) / 32);
}

/// Forward tasks are (sample, head, tile of queries); a chunk needs packed keys and values, the
/// tile's scores and its output. The rows of what a product writes are padded to whole panels
/// (packed_size of one row), so that it never copies an edge.
template <class T>
std::int64_t attention_forward_tasks(const AttentionProblem<T>& p) {
  return p.samples * p.heads * chunk_count(0, p.most_queries, kAttentionTile);
}
template <class T>
std::int64_t attention_forward_chunk(const AttentionProblem<T>& p) {
  const std::int64_t tile = std::min(p.most_queries, kAttentionTile);
  return cpu::packed_size<T>(p.head_width, p.most_keys) +
         cpu::packed_size<T>(p.most_keys, p.head_width) + cpu::packed_size<T>(tile, p.most_keys) +
         cpu::packed_size<T>(tile, p.head_width);
}
template <class T>
std::int64_t attention_forward_workspace(const AttentionProblem<T>& p) {
  const std::int64_t tasks = attention_forward_tasks(p);
  return chunk_count(0, tasks, attention_grain(tasks)) * attention_forward_chunk(p);
}

/// Backward tasks are (sample, head); a chunk needs packed keys (both ways), values, a tile of
/// queries and of doutput, the tile's probabilities and their gradients, and the head's gradients
/// of keys and values and the tile's of queries.
template <class T>
std::int64_t attention_backward_chunk(const AttentionProblem<T>& p) {
  const std::int64_t tile = std::min(p.most_queries, kAttentionTile);
  return 2 * cpu::packed_size<T>(p.head_width, p.most_keys) +
         3 * cpu::packed_size<T>(p.most_keys, p.head_width) +
         3 * cpu::packed_size<T>(tile, p.head_width) + 2 * cpu::packed_size<T>(tile, p.most_keys);
}
template <class T>
std::int64_t attention_backward_workspace(const AttentionProblem<T>& p) {
  const std::int64_t tasks = p.samples * p.heads;
  return chunk_count(0, tasks, attention_grain(tasks)) * attention_backward_chunk(p);
}

}  // namespace cmir::kernels
