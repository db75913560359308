#include "kernels/attention/attention.h"

#include <array>
#include <limits>
#include <type_traits>

#include "kernels/cuda/map.cuh"
#include "kernels/cuda/random.cuh"
#include "kernels/cuda/reduce.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

// A block owns kTile queries (or, for dkey and dvalue, keys) of one head of one sample and walks
// over the sample's keys (queries), kTile at a time. In a [kTile, kTile] matrix of scores a warp
// owns kRows rows, and a lane a column of them. In a [kTile, head_width] result a warp owns the
// same rows, and a lane the columns lane, lane + 32, ...: kChunks of them.
constexpr int kTile = 32, kRows = 8, kWarps = kTile / kRows;
constexpr int kThreads = 32 * kWarps;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

__device__ int lane() { return static_cast<int>(threadIdx.x % 32); }
__device__ int first_row() { return static_cast<int>(threadIdx.x / 32) * kRows; }

/// One head of one sample, and the block's first query or key in it.
struct Head {
  std::int64_t head, first_query, queries, first_key, keys, begin;

  template <class T>
  __device__ Head(const AttentionProblem<T>& p, std::int64_t sample, std::int64_t h,
                  std::int64_t first)
      : head(h),
        first_query(p.query_begins[sample]),
        queries(p.query_ends[sample] - first_query),
        first_key(p.key_begins[sample]),
        keys(p.key_ends[sample] - first_key),
        begin(first) {}
  /// The block's, of `tiles` a head.
  template <class T>
  __device__ Head(const AttentionProblem<T>& p, std::int64_t tiles)
      : Head(p, blockIdx.x / tiles / p.heads, blockIdx.x / tiles % p.heads,
             blockIdx.x % tiles * kTile) {}
  /// Whether query i, which may be past the last one, sees key j.
  __device__ bool sees(std::int64_t i, std::int64_t j, bool causal) const {
    return i < queries && j < keys && (!causal || j <= i + keys - queries);
  }
};

/// x as a factor of a product: rounded to bf16 where the problem's arrays are.
template <class T>
__device__ float as_factor(float x) {
  return std::is_same_v<T, BFloat16> ? static_cast<float>(BFloat16(x)) : x;
}

/// scale q.k + bias of query i and key j, -inf where it is not seen.
template <class T>
__device__ float logit(const AttentionProblem<T>& p, const Head& h, float score, std::int64_t i,
                       std::int64_t j) {
  if (!h.sees(i, j, p.causal)) return kMinusInfinity;
  const float bias =
      p.bias == nullptr ? 0.0F : p.bias[(h.head * p.bias_queries + i) * p.bias_keys + j];
  return p.scale * score + bias;
}

/// Elements from one row of a tile in shared memory to the next: whole vectors of 4, and an odd
/// number of them, so that 8 lanes that read vectors of 8 rows meet no bank twice.
CMIR_HOST_DEVICE constexpr int tile_stride(std::int64_t width) {
  return static_cast<int>(((width + 3) / 4) | 1) * 4;
}

/// Rows [begin, begin + kTile) of a head of a matrix with `end` rows; 0 beside it.
template <class T>
__device__ void load_tile(SharedPointer<float> tile, const T* matrix, std::int64_t row_stride,
                          std::int64_t begin, std::int64_t end, std::int64_t width) {
  const int stride = tile_stride(width);
  constexpr bool kFloat = std::is_same_v<T, float>;
  const bool vectors =
      kFloat && width % 4 == 0 && row_stride % 4 == 0 && is_vector_aligned<4>(matrix);
  for (int r = static_cast<int>(threadIdx.x) / 32; r < kTile; r += kWarps) {
    const T* row = matrix + (begin + r) * row_stride;
    const bool inside = begin + r < end;
    if (vectors && inside) {
      for (int d = 4 * lane(); d < width; d += 128) {
        if constexpr (kFloat) store_vector(tile + (r * stride + d), load_vector<float, 4>(row + d));
      }
      for (int d = static_cast<int>(width) + lane(); d < stride; d += 32) tile[r * stride + d] = 0;
    } else {
      for (int d = lane(); d < stride; d += 32) {
        tile[r * stride + d] = inside && d < width ? static_cast<float>(row[d]) : 0.0F;
      }
    }
  }
}

/// scores[r] = row r of the warp in tile a . row `lane` of tile b.
__device__ void dot_rows(SharedPointer<float> a, SharedPointer<float> b, std::int64_t width,
                         float (&scores)[kRows]) {
  const int stride = tile_stride(width);
  for (int r = 0; r < kRows; ++r) scores[r] = 0;
  for (int d = 0; d < width; d += 4) {
    const auto y = load_vector<float, 4>(b + (lane() * stride + d));
    for (int r = 0; r < kRows; ++r) {
      const auto x = load_vector<float, 4>(a + ((first_row() + r) * stride + d));
      for (int k = 0; k < 4; ++k) scores[r] += x[k] * y[k];
    }
  }
}

/// sums += weights [kTile, kTile] times tile b, in the order of b's rows. The weights of a warp's
/// rows are its own lanes'.
template <int kChunks>
__device__ void add_product(SharedPointer<float> weights, SharedPointer<float> b,
                            std::int64_t width, float (&sums)[kRows][kChunks]) {
  const int stride = tile_stride(width);
  for (int j = 0; j < kTile; j += 4) {
    Vector<float, 4> w[kRows];
    for (int r = 0; r < kRows; ++r) {
      w[r] = load_vector<float, 4>(weights + ((first_row() + r) * kTile + j));
    }
    for (int k = 0; k < 4; ++k) {
      for (int c = 0; c < kChunks; ++c) {
        const int d = lane() + 32 * c;
        const float value = d < width ? b[(j + k) * stride + d] : 0.0F;
        for (int r = 0; r < kRows; ++r) sums[r][c] += w[r][k] * value;
      }
    }
  }
}

/// Writes the warp's rows, each times its factor, to a head of a matrix with `end` rows.
template <int kChunks>
__device__ void store_rows(const float (&sums)[kRows][kChunks], const float (&factors)[kRows],
                           float* matrix, std::int64_t row_stride, std::int64_t begin,
                           std::int64_t end, std::int64_t width) {
  for (int r = 0; r < kRows; ++r) {
    const std::int64_t i = begin + first_row() + r;
    for (int c = 0; c < kChunks; ++c) {
      const int d = lane() + 32 * c;
      if (i < end && d < width) matrix[i * row_stride + d] = factors[r] * sums[r][c];
    }
  }
}

/// Bit k: whether dropout keeps key 4 group + k of query row `row` of the batch.
template <class T>
__device__ unsigned kept_of_four(const AttentionProblem<T>& p, std::int64_t row, std::int64_t head,
                                 std::int64_t group) {
  const auto words =
      random_words(p.stream, (static_cast<std::uint64_t>(row * p.heads + head) << 22) +
                                 static_cast<std::uint64_t>(group));
  unsigned kept = 0;
  for (int k = 0; k < 4; ++k) {
    kept |= static_cast<unsigned>(RandomStream::uniform_of(words[k]) >= p.dropout) << k;
  }
  return kept;
}

/// masks[r]: 0 where dropout drops key begin + lane of the warp's query r, else 1 / (1 - dropout).
/// Eight lanes draw for 32 keys of one query; so two draws serve kRows = 8 of them.
template <class T>
__device__ void key_masks(const AttentionProblem<T>& p, const Head& h, std::int64_t begin,
                          float (&masks)[kRows]) {
  for (int r = 0; r < kRows; ++r) masks[r] = 1;
  if (p.dropout == 0) return;
  const float keep = 1.0F / (1.0F - p.dropout);
  for (int half = 0; half < 2; ++half) {
    const std::int64_t row = h.first_query + h.begin + first_row() + 4 * half + lane() / 8;
    unsigned kept = kept_of_four(p, row, h.head, begin / 4 + lane() % 8) << (4 * (lane() % 8));
    for (int distance = 1; distance < 8; distance *= 2) {
      kept |= __shfl_xor_sync(0xFFFFFFFF, kept, distance);
    }
    for (int r = 0; r < 4; ++r) {
      const unsigned of_row = __shfl_sync(0xFFFFFFFF, kept, 8 * r);
      masks[4 * half + r] = (of_row >> lane() & 1) != 0 ? keep : 0.0F;
    }
  }
}

/// The running softmax of the warp's queries: its maximum, and each lane's part of the sum.
struct Softmax {
  float maximum[kRows], sum[kRows];

  /// A tile of scores comes in: exp(score - maximum) goes out to weights, and what was summed
  /// before is scaled to the new maximum.
  template <class T, int kChunks>
  __device__ void add(int r, float score, float mask, SharedPointer<float> weights,
                      float (&output)[kRows][kChunks]) {
    const float before = maximum[r];
    maximum[r] = fmaxf(before, warp_reduce(score, Maximum{}));
    const float shift = this->shift(r), decay = expf(before - shift), p = expf(score - shift);
    sum[r] = sum[r] * decay + p;
    for (int c = 0; c < kChunks; ++c) output[r][c] *= decay;
    weights[(first_row() + r) * kTile + lane()] = as_factor<T>(mask * p);
  }
  /// With no score above -inf, exp(-inf - 0) is 0.
  __device__ float shift(int r) const { return maximum[r] == kMinusInfinity ? 0.0F : maximum[r]; }
};

template <class T, int kChunks>
__global__ void __launch_bounds__(kThreads, 1)
    attention_forward_kernel(AttentionForwardItem<T> a, std::int64_t tiles) {
  CMIR_DYNAMIC_SHARED(float, query);
  CMIR_SHARED(float, weights, [kTile * kTile]);
  const AttentionProblem<T>& p = a.problem;
  const Head h(p, tiles);
  if (h.begin >= h.queries) return;
  const std::int64_t width = p.head_width, column = h.head * width;
  const auto key = query + kTile * tile_stride(width), value = key + kTile * tile_stride(width);
  load_tile(query, p.query + h.first_query * p.query_stride + column, p.query_stride, h.begin,
            h.queries, width);
  float output[kRows][kChunks] = {};
  Softmax softmax;
  for (int r = 0; r < kRows; ++r) {
    softmax.maximum[r] = kMinusInfinity;
    softmax.sum[r] = 0;
  }
  for (std::int64_t begin = 0; begin < h.keys; begin += kTile) {
    if (!h.sees(min(h.begin + kTile, h.queries) - 1, begin, p.causal)) break;  // nor do the others
    __syncthreads();  // the last tiles have been used
    load_tile(key, p.key + h.first_key * p.key_stride + column, p.key_stride, begin, h.keys, width);
    load_tile(value, p.value + h.first_key * p.value_stride + column, p.value_stride, begin, h.keys,
              width);
    __syncthreads();
    float scores[kRows], masks[kRows];
    dot_rows(query, key, width, scores);
    key_masks(p, h, begin, masks);
    for (int r = 0; r < kRows; ++r) {
      const float score = logit(p, h, scores[r], h.begin + first_row() + r, begin + lane());
      softmax.add<T>(r, score, masks[r], weights, output);
    }
    __syncwarp();
    add_product(weights, value, width, output);
  }
  float factors[kRows];
  for (int r = 0; r < kRows; ++r) {
    const float sum = warp_reduce(softmax.sum[r], Sum{});
    factors[r] = sum == 0 ? 0.0F : 1.0F / sum;
    const std::int64_t i = h.begin + first_row() + r;
    if (lane() == 0 && i < h.queries) {
      a.log_sum_exp[(h.first_query + i) * p.heads + h.head] =
          sum == 0 ? kMinusInfinity : softmax.shift(r) + logf(sum);
    }
  }
  store_rows(output, factors, a.output + h.first_query * p.width() + column, p.width(), h.begin,
             h.queries, width);
}

/// What backward knows of a query besides its rows: probability = exp(score - shift), and
/// delta = doutput . output.
struct QueryState {
  float shift = 0, delta = 0;
};
/// Exactly 0 for a key that is not seen, whatever its row holds.
__device__ float logit_gradient(float probability, float dprobability, float delta) {
  return probability == 0 ? 0.0F : probability * (dprobability - delta);
}
/// Of query i of the sample, for the warp; 0 past the last one.
template <class T>
__device__ QueryState query_state(const AttentionBackwardItem<T>& a, const Head& h,
                                  std::int64_t i) {
  const AttentionProblem<T>& p = a.problem;
  QueryState state;
  if (i >= h.queries) return state;
  const std::int64_t row = h.first_query + i, at = row * p.width() + h.head * p.head_width;
  for (int d = lane(); d < p.head_width; d += 32)
    state.delta += static_cast<float>(a.doutput[at + d]) * a.output[at + d];
  state.delta = warp_reduce(state.delta, Sum{});
  const float log_sum_exp = a.log_sum_exp[row * p.heads + h.head];
  state.shift = log_sum_exp == kMinusInfinity ? 0.0F : log_sum_exp;
  return state;
}
/// Of the warp's rows of the tile of queries from `begin` on.
template <class T>
__device__ void store_states(const AttentionBackwardItem<T>& a, const Head& h, std::int64_t begin,
                             SharedPointer<float> shifts, SharedPointer<float> deltas) {
  for (int r = 0; r < kRows; ++r) {
    const QueryState state = query_state(a, h, begin + first_row() + r);
    if (lane() == 0) {
      shifts[first_row() + r] = state.shift;
      deltas[first_row() + r] = state.delta;
    }
  }
}

template <class T, int kChunks>
__global__ void __launch_bounds__(kThreads, 1)
    attention_dquery_kernel(AttentionBackwardItem<T> a, std::int64_t tiles) {
  CMIR_DYNAMIC_SHARED(float, query);
  CMIR_SHARED(float, weights, [kTile * kTile]);
  CMIR_SHARED(float, shifts, [kTile]);
  CMIR_SHARED(float, deltas, [kTile]);
  const AttentionProblem<T>& p = a.problem;
  const Head h(p, tiles);
  if (h.begin >= h.queries) return;
  const std::int64_t width = p.head_width, column = h.head * width;
  const int size = kTile * tile_stride(width);
  const auto doutput = query + size, key = doutput + size, value = key + size;
  load_tile(query, p.query + h.first_query * p.query_stride + column, p.query_stride, h.begin,
            h.queries, width);
  load_tile(doutput, a.doutput + h.first_query * p.width() + column, p.width(), h.begin, h.queries,
            width);
  store_states(a, h, h.begin, shifts, deltas);
  float dquery[kRows][kChunks] = {};
  for (std::int64_t begin = 0; begin < h.keys; begin += kTile) {
    if (!h.sees(min(h.begin + kTile, h.queries) - 1, begin, p.causal)) break;  // nor do the others
    __syncthreads();  // the last tiles have been used
    load_tile(key, p.key + h.first_key * p.key_stride + column, p.key_stride, begin, h.keys, width);
    load_tile(value, p.value + h.first_key * p.value_stride + column, p.value_stride, begin, h.keys,
              width);
    __syncthreads();
    float scores[kRows], gradients[kRows], masks[kRows];
    dot_rows(query, key, width, scores);
    dot_rows(doutput, value, width, gradients);
    key_masks(p, h, begin, masks);
    for (int r = 0; r < kRows; ++r) {
      const float shift = shifts[first_row() + r], delta = deltas[first_row() + r];
      const float score = logit(p, h, scores[r], h.begin + first_row() + r, begin + lane());
      const float dlogit = logit_gradient(expf(score - shift), masks[r] * gradients[r], delta);
      weights[(first_row() + r) * kTile + lane()] = as_factor<T>(p.scale * dlogit);
    }
    __syncwarp();
    add_product(weights, key, width, dquery);
  }
  const float ones[kRows] = {1, 1, 1, 1, 1, 1, 1, 1};
  store_rows(dquery, ones, a.dquery + h.first_query * p.query_stride + column, p.query_stride,
             h.begin, h.queries, width);
}

/// Here the block owns keys, and a lane is a query.
template <class T, int kChunks>
__global__ void __launch_bounds__(kThreads, 1)
    attention_dkey_dvalue_kernel(AttentionBackwardItem<T> a, std::int64_t tiles) {
  CMIR_DYNAMIC_SHARED(float, key);
  CMIR_SHARED(float, probabilities, [kTile * kTile]);
  CMIR_SHARED(float, dscores, [kTile * kTile]);
  CMIR_SHARED(float, shifts, [kTile]);
  CMIR_SHARED(float, deltas, [kTile]);
  const AttentionProblem<T>& p = a.problem;
  const Head h(p, tiles);
  if (h.begin >= h.keys) return;
  const std::int64_t width = p.head_width, column = h.head * width;
  const int size = kTile * tile_stride(width);
  const auto value = key + size, query = value + size, doutput = query + size;
  load_tile(key, p.key + h.first_key * p.key_stride + column, p.key_stride, h.begin, h.keys, width);
  load_tile(value, p.value + h.first_key * p.value_stride + column, p.value_stride, h.begin, h.keys,
            width);
  float dkey[kRows][kChunks] = {}, dvalue[kRows][kChunks] = {};
  const float keep = 1.0F / (1.0F - p.dropout);
  // The first tile of queries that may see the block's first key.
  const std::int64_t first_seeing =
      p.causal ? max(h.begin + h.queries - h.keys, std::int64_t{0}) : 0;
  for (std::int64_t begin = first_seeing / kTile * kTile; begin < h.queries; begin += kTile) {
    __syncthreads();  // the last tiles have been used
    load_tile(query, p.query + h.first_query * p.query_stride + column, p.query_stride, begin,
              h.queries, width);
    load_tile(doutput, a.doutput + h.first_query * p.width() + column, p.width(), begin, h.queries,
              width);
    store_states(a, h, begin, shifts, deltas);
    __syncthreads();
    float scores[kRows], gradients[kRows];
    dot_rows(key, query, width, scores);
    dot_rows(value, doutput, width, gradients);
    const float shift = shifts[lane()], delta = deltas[lane()];
    unsigned kept = 0xFF;  // of the warp's 8 keys by the lane's query
    if (p.dropout > 0) {
      const std::int64_t row = h.first_query + begin + lane(), group = (h.begin + first_row()) / 4;
      kept = kept_of_four(p, row, h.head, group) | kept_of_four(p, row, h.head, group + 1) << 4;
    }
    for (int r = 0; r < kRows; ++r) {
      const float score = logit(p, h, scores[r], begin + lane(), h.begin + first_row() + r);
      const float probability = expf(score - shift);
      const float mask = (kept >> r & 1) != 0 ? keep : 0.0F;
      const int at = (first_row() + r) * kTile + lane();
      const float dlogit = logit_gradient(probability, mask * gradients[r], delta);
      probabilities[at] = as_factor<T>(mask * probability);
      dscores[at] = as_factor<T>(p.scale * dlogit);
    }
    __syncwarp();
    add_product(probabilities, doutput, width, dvalue);
    add_product(dscores, query, width, dkey);
  }
  const float ones[kRows] = {1, 1, 1, 1, 1, 1, 1, 1};
  store_rows(dkey, ones, a.dkey + h.first_key * p.key_stride + column, p.key_stride, h.begin,
             h.keys, width);
  store_rows(dvalue, ones, a.dvalue + h.first_key * p.value_stride + column, p.value_stride,
             h.begin, h.keys, width);
}

/// The block owns queries and keys of one head, and walks over the samples.
template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    attention_dbias_kernel(AttentionBackwardItem<T> a, std::int64_t key_tiles) {
  CMIR_DYNAMIC_SHARED(float, query);
  CMIR_SHARED(float, shifts, [kTile]);
  CMIR_SHARED(float, deltas, [kTile]);
  const AttentionProblem<T>& p = a.problem;
  const std::int64_t width = p.head_width, query_tiles = (p.bias_queries + kTile - 1) / kTile;
  const std::int64_t begin = blockIdx.x % key_tiles * kTile,
                     head = blockIdx.x / key_tiles / query_tiles;
  const std::int64_t first = blockIdx.x / key_tiles % query_tiles * kTile, column = head * width;
  const int size = kTile * tile_stride(width);
  const auto doutput = query + size, key = doutput + size, value = key + size;
  float sums[kRows] = {};
  for (std::int64_t s = 0; s < p.samples; ++s) {
    const Head h(p, s, head, first);
    if (first >= h.queries || begin >= h.keys) continue;
    __syncthreads();  // the last tiles have been used
    load_tile(query, p.query + h.first_query * p.query_stride + column, p.query_stride, first,
              h.queries, width);
    load_tile(doutput, a.doutput + h.first_query * p.width() + column, p.width(), first, h.queries,
              width);
    load_tile(key, p.key + h.first_key * p.key_stride + column, p.key_stride, begin, h.keys, width);
    load_tile(value, p.value + h.first_key * p.value_stride + column, p.value_stride, begin, h.keys,
              width);
    store_states(a, h, first, shifts, deltas);
    __syncthreads();
    float scores[kRows], gradients[kRows], masks[kRows];
    dot_rows(query, key, width, scores);
    dot_rows(doutput, value, width, gradients);
    key_masks(p, h, begin, masks);
    for (int r = 0; r < kRows; ++r) {
      const float shift = shifts[first_row() + r], delta = deltas[first_row() + r];
      const float score = logit(p, h, scores[r], first + first_row() + r, begin + lane());
      sums[r] += logit_gradient(expf(score - shift), masks[r] * gradients[r], delta);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    const std::int64_t i = first + first_row() + r, j = begin + lane();
    if (i < p.bias_queries && j < p.bias_keys)
      a.dbias[(head * p.bias_queries + i) * p.bias_keys + j] = sums[r];
  }
}

/// The kernel for heads of up to 32, 64, 128 and 256 features.
template <class Item>
using KernelOfWidth = std::array<void (*)(Item, std::int64_t), 4>;

std::size_t shared_bytes(int tiles, std::int64_t head_width) {
  return sizeof(float) * static_cast<std::size_t>(tiles * kTile * tile_stride(head_width));
}

/// A block for each tile of `most` rows of every head of every sample, with that many tiles of
/// shared memory.
template <class Item>
void launch_tiles(const Item& a, std::int64_t most, int shared_tiles,
                  const KernelOfWidth<Item>& kernels) {
  const auto& p = a.problem;
  const std::int64_t tiles = (most + kTile - 1) / kTile, blocks = p.samples * p.heads * tiles;
  if (blocks == 0) return;
  const int kernel = p.head_width <= 32 ? 0 : p.head_width <= 64 ? 1 : p.head_width <= 128 ? 2 : 3;
  launch(kernels[kernel],
         {.grid = dim3(static_cast<unsigned>(blocks)),
          .block = dim3(kThreads),
          .shared_bytes = shared_bytes(shared_tiles, p.head_width)},
         a, tiles);
}

template <class Args>
void check(const Args& a) {
  check_attention_group(a);
  const std::int64_t width = a.items[0].problem.head_width;
  require(width <= kAttentionDeviceWidth, Args::name,
          "heads of {} features; a CUDA device takes up to {}; use more heads", width,
          kAttentionDeviceWidth);
}

template <class T>
void forward(const AttentionForward<T>& a) {
  check(a);
  for (int i = 0; i < a.count; ++i) {
    launch_tiles(a.items[i], a.items[i].problem.most_queries, 3,
                 {&attention_forward_kernel<T, 1>, &attention_forward_kernel<T, 2>,
                  &attention_forward_kernel<T, 4>, &attention_forward_kernel<T, 8>});
  }
}

template <class T>
void launch_dbias(const AttentionBackwardItem<T>& a) {
  const AttentionProblem<T>& p = a.problem;
  const std::int64_t key_tiles = (p.bias_keys + kTile - 1) / kTile;
  const std::int64_t blocks = p.heads * ((p.bias_queries + kTile - 1) / kTile) * key_tiles;
  if (blocks == 0) return;
  launch(&attention_dbias_kernel<T>,
         {.grid = dim3(static_cast<unsigned>(blocks)),
          .block = dim3(kThreads),
          .shared_bytes = shared_bytes(4, p.head_width)},
         a, key_tiles);
}

template <class T>
void backward(const AttentionBackward<T>& a) {
  check(a);
  for (int i = 0; i < a.count; ++i) {
    const AttentionBackwardItem<T>& item = a.items[i];
    launch_tiles(item, item.problem.most_queries, 4,
                 {&attention_dquery_kernel<T, 1>, &attention_dquery_kernel<T, 2>,
                  &attention_dquery_kernel<T, 4>, &attention_dquery_kernel<T, 8>});
    launch_tiles(item, item.problem.most_keys, 4,
                 {&attention_dkey_dvalue_kernel<T, 1>, &attention_dkey_dvalue_kernel<T, 2>,
                  &attention_dkey_dvalue_kernel<T, 4>, &attention_dkey_dvalue_kernel<T, 8>});
    if (item.dbias != nullptr) launch_dbias(item);
  }
}

const RegisterDevice registered{&forward<float>, &backward<float>, &forward<BFloat16>,
                                &backward<BFloat16>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
