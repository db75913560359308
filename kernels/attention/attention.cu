#include "kernels/attention/attention.h"

#include <array>
#include <limits>

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

  __device__ Head(const AttentionProblem<float>& p, std::int64_t tiles) {
    const std::int64_t block = blockIdx.x, sample = block / tiles / p.heads;
    head = block / tiles % p.heads;
    begin = block % tiles * kTile;
    first_query = p.query_offsets[sample];
    queries = p.query_offsets[sample + 1] - first_query;
    first_key = p.key_offsets[sample];
    keys = p.key_offsets[sample + 1] - first_key;
  }
  /// Whether query i, which may be past the last one, sees key j.
  __device__ bool sees(std::int64_t i, std::int64_t j, bool causal) const {
    return i < queries && j < keys && (!causal || j <= i + keys - queries);
  }
};

/// Elements from one row of a tile in shared memory to the next: whole vectors of 4, and an odd
/// number of them, so that 8 lanes that read vectors of 8 rows meet no bank twice.
CMIR_HOST_DEVICE constexpr int tile_stride(std::int64_t width) {
  return static_cast<int>(((width + 3) / 4) | 1) * 4;
}

/// Rows [begin, begin + kTile) of a head of a matrix with `end` rows; 0 beside it.
__device__ void load_tile(SharedPointer<float> tile, const float* matrix, std::int64_t row_stride,
                          std::int64_t begin, std::int64_t end, std::int64_t width) {
  const int stride = tile_stride(width);
  const bool vectors = width % 4 == 0 && row_stride % 4 == 0 && is_vector_aligned<4>(matrix);
  for (int r = static_cast<int>(threadIdx.x) / 32; r < kTile; r += kWarps) {
    const float* row = matrix + (begin + r) * row_stride;
    const bool inside = begin + r < end;
    if (vectors && inside) {
      for (int d = 4 * lane(); d < width; d += 128) {
        store_vector(tile + (r * stride + d), load_vector<float, 4>(row + d));
      }
      for (int d = static_cast<int>(width) + lane(); d < stride; d += 32) tile[r * stride + d] = 0;
    } else {
      for (int d = lane(); d < stride; d += 32) {
        tile[r * stride + d] = inside && d < width ? row[d] : 0.0F;
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
__device__ unsigned kept_of_four(const AttentionProblem<float>& p, std::int64_t row,
                                 std::int64_t head, std::int64_t group) {
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
__device__ void key_masks(const AttentionProblem<float>& p, const Head& h, std::int64_t begin,
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
  template <int kChunks>
  __device__ void add(int r, float score, float mask, SharedPointer<float> weights,
                      float (&output)[kRows][kChunks]) {
    const float before = maximum[r];
    maximum[r] = fmaxf(before, warp_reduce(score, Maximum{}));
    const float shift = this->shift(r), decay = expf(before - shift), p = expf(score - shift);
    sum[r] = sum[r] * decay + p;
    for (int c = 0; c < kChunks; ++c) output[r][c] *= decay;
    weights[(first_row() + r) * kTile + lane()] = mask * p;
  }
  /// With no score above -inf, exp(-inf - 0) is 0.
  __device__ float shift(int r) const { return maximum[r] == kMinusInfinity ? 0.0F : maximum[r]; }
};

template <int kChunks>
__global__ void __launch_bounds__(kThreads, 1)
    attention_forward_kernel(AttentionForward<float> a, std::int64_t tiles) {
  CMIR_DYNAMIC_SHARED(float, query);
  CMIR_SHARED(float, weights, [kTile * kTile]);
  const AttentionProblem<float>& p = a.problem;
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
      const bool seen = h.sees(h.begin + first_row() + r, begin + lane(), p.causal);
      softmax.add(r, seen ? p.scale * scores[r] : kMinusInfinity, masks[r], weights, output);
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
/// Of query i of the sample, for the warp; 0 past the last one.
__device__ QueryState query_state(const AttentionBackward<float>& a, const Head& h,
                                  std::int64_t i) {
  const AttentionProblem<float>& p = a.problem;
  QueryState state;
  if (i >= h.queries) return state;
  const std::int64_t row = h.first_query + i, at = row * p.width() + h.head * p.head_width;
  for (int d = lane(); d < p.head_width; d += 32)
    state.delta += a.doutput[at + d] * a.output[at + d];
  state.delta = warp_reduce(state.delta, Sum{});
  const float log_sum_exp = a.log_sum_exp[row * p.heads + h.head];
  state.shift = log_sum_exp == kMinusInfinity ? 0.0F : log_sum_exp;
  return state;
}
/// Of the warp's rows of the tile of queries from `begin` on.
__device__ void store_states(const AttentionBackward<float>& a, const Head& h, std::int64_t begin,
                             SharedPointer<float> shifts, SharedPointer<float> deltas) {
  for (int r = 0; r < kRows; ++r) {
    const QueryState state = query_state(a, h, begin + first_row() + r);
    if (lane() == 0) {
      shifts[first_row() + r] = state.shift;
      deltas[first_row() + r] = state.delta;
    }
  }
}

template <int kChunks>
__global__ void __launch_bounds__(kThreads, 1)
    attention_dquery_kernel(AttentionBackward<float> a, std::int64_t tiles) {
  CMIR_DYNAMIC_SHARED(float, query);
  CMIR_SHARED(float, weights, [kTile * kTile]);
  CMIR_SHARED(float, shifts, [kTile]);
  CMIR_SHARED(float, deltas, [kTile]);
  const AttentionProblem<float>& p = a.problem;
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
      const bool seen = h.sees(h.begin + first_row() + r, begin + lane(), p.causal);
      const float shift = shifts[first_row() + r], delta = deltas[first_row() + r];
      const float probability = expf(p.scale * scores[r] - shift);
      const float dscore = probability * (masks[r] * gradients[r] - delta);
      weights[(first_row() + r) * kTile + lane()] = seen ? p.scale * dscore : 0.0F;
    }
    __syncwarp();
    add_product(weights, key, width, dquery);
  }
  const float ones[kRows] = {1, 1, 1, 1, 1, 1, 1, 1};
  store_rows(dquery, ones, a.dquery + h.first_query * p.query_stride + column, p.query_stride,
             h.begin, h.queries, width);
}

/// Here the block owns keys, and a lane is a query.
template <int kChunks>
__global__ void __launch_bounds__(kThreads, 1)
    attention_dkey_dvalue_kernel(AttentionBackward<float> a, std::int64_t tiles) {
  CMIR_DYNAMIC_SHARED(float, key);
  CMIR_SHARED(float, probabilities, [kTile * kTile]);
  CMIR_SHARED(float, dscores, [kTile * kTile]);
  CMIR_SHARED(float, shifts, [kTile]);
  CMIR_SHARED(float, deltas, [kTile]);
  const AttentionProblem<float>& p = a.problem;
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
      const bool seen = h.sees(begin + lane(), h.begin + first_row() + r, p.causal);
      const float probability = seen ? expf(p.scale * scores[r] - shift) : 0.0F;
      const float mask = (kept >> r & 1) != 0 ? keep : 0.0F;
      const int at = (first_row() + r) * kTile + lane();
      probabilities[at] = mask * probability;
      dscores[at] = seen ? p.scale * probability * (mask * gradients[r] - delta) : 0.0F;
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

/// The kernel for heads of up to 32, 64, 128 and 256 features.
template <class Args>
using KernelOfWidth = std::array<void (*)(Args, std::int64_t), 4>;

/// A block for each tile of `most` rows of every head of every sample, with that many tiles of
/// shared memory.
template <class Args>
void launch_tiles(const Args& a, std::int64_t most, int shared_tiles,
                  const KernelOfWidth<Args>& kernels) {
  const AttentionProblem<float>& p = a.problem;
  require(p.head_width <= kAttentionDeviceWidth, Args::name,
          "heads of {} features; a CUDA device takes up to {}; use more heads", p.head_width,
          kAttentionDeviceWidth);
  const std::int64_t tiles = (most + kTile - 1) / kTile, blocks = p.samples * p.heads * tiles;
  if (blocks == 0) return;
  const int kernel = p.head_width <= 32 ? 0 : p.head_width <= 64 ? 1 : p.head_width <= 128 ? 2 : 3;
  const int elements = shared_tiles * kTile * tile_stride(p.head_width);
  launch(kernels[kernel],
         {.grid = dim3(static_cast<unsigned>(blocks)),
          .block = dim3(kThreads),
          .shared_bytes = sizeof(float) * static_cast<std::size_t>(elements)},
         a, tiles);
}

void forward(const AttentionForward<float>& a) {
  launch_tiles(a, a.problem.most_queries, 3,
               {&attention_forward_kernel<1>, &attention_forward_kernel<2>,
                &attention_forward_kernel<4>, &attention_forward_kernel<8>});
}

void backward(const AttentionBackward<float>& a) {
  launch_tiles(a, a.problem.most_queries, 4,
               {&attention_dquery_kernel<1>, &attention_dquery_kernel<2>,
                &attention_dquery_kernel<4>, &attention_dquery_kernel<8>});
  launch_tiles(a, a.problem.most_keys, 4,
               {&attention_dkey_dvalue_kernel<1>, &attention_dkey_dvalue_kernel<2>,
                &attention_dkey_dvalue_kernel<4>, &attention_dkey_dvalue_kernel<8>});
}

const RegisterDevice registered{&forward, &backward};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
