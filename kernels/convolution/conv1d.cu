#include "kernels/convolution/conv1d.h"

#include <type_traits>

#include "kernels/cuda/map.cuh"
#include "kernels/cuda/ptx.h"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

// A block makes a tile [kTile, kTile] of a product, kTile of its depth at a time; a thread makes
// kRows x kColumns elements of it. Windows and weights are read element by element, neighbours by
// neighbouring threads: rows of 5, 47 or 74 features are no multiples of 16 bytes.
constexpr int kTile = 32;
constexpr int kRows = 2, kColumns = 4;
constexpr int kThreads = kTile * kTile / (kRows * kColumns);

/// f32 factors are multiplied by the CUDA cores; a thread makes 2 x 4 neighbours. bf16 factors are
/// multiplied by the tensor cores (m16n8k16); each of the four warps makes 16 x 16, and a thread
/// the elements that kernels/cuda/ptx.h says.
template <class T>
constexpr bool kOnTensorCores = std::is_same_v<T, BFloat16>;

/// Where in the tile the thread's element (r, c) is.
template <class T>
__device__ int tile_row(int r, int c) {
  const int thread = static_cast<int>(threadIdx.x);
  if constexpr (kOnTensorCores<T>) {
    return thread / 64 * 16 + thread % 32 / 4 + c / 2 * 8;
  } else {
    return thread / (kTile / kColumns) * kRows + r;
  }
}
template <class T>
__device__ int tile_column(int r, int c) {
  const int thread = static_cast<int>(threadIdx.x);
  if constexpr (kOnTensorCores<T>) {
    return thread / 32 % 2 * 16 + r * 8 + thread % 4 * 2 + c % 2;
  } else {
    return thread % (kTile / kColumns) * kColumns + c;
  }
}

// Elements of a row of the tiles in shared memory. f32: a is [depth][row], padded so that no bank
// is met twice. bf16: a is [row][depth]; both are padded, by 16 bytes since ldmatrix wants its rows
// aligned to that. b is [depth][column].
template <class T>
constexpr int kAStride = kOnTensorCores<T> ? kTile + 8 : kTile + 1;
template <class T>
constexpr int kBStride = kOnTensorCores<T> ? kTile + 8 : kTile;

/// sums += a b of two tiles in shared memory.
template <class T, class ATile, class BTile>
__device__ void add_products(const ATile& a_tile, const BTile& b_tile,
                             float (&sums)[kRows][kColumns]) {
  if constexpr (kOnTensorCores<T>) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int row = static_cast<int>(threadIdx.x) / 64 * 16,
              column = static_cast<int>(threadIdx.x) / 32 % 2 * 16;
    for (int depth = 0; depth < kTile; depth += 16) {
      unsigned a[4], b[4];
      ldmatrix(a, &a_tile[row + lane % 16][depth + lane / 16 * 8]);
      ldmatrix_trans(b, &b_tile[depth + lane % 16][column + lane / 16 * 8]);
      const unsigned left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
      mma_m16n8k16_bf16(sums[0], a, left);
      mma_m16n8k16_bf16(sums[1], a, right);
    }
  } else {
    for (int depth = 0; depth < kTile; ++depth) {
      const auto b_vector = load_vector<float, kColumns>(b_tile[depth] + tile_column<T>(0, 0));
      for (int r = 0; r < kRows; ++r) {
        const float a_value = a_tile[depth][tile_row<T>(r, 0)];
        for (int c = 0; c < kColumns; ++c) sums[r][c] += a_value * b_vector[c];
      }
    }
  }
}

/// sums += a b over depths [begin, end), in order. a(row, depth) and b(depth, column) get indices
/// in the tile, whose depth 0 is `from` of the last prepare(from), and must be 0 from `end` on.
/// kDepthFirst: neighbouring threads read a's neighbouring depths, else its rows. T: of the
/// factors.
template <class T, bool kDepthFirst, class Prepare, class A, class B>
__device__ void multiply_tile(std::int64_t begin, std::int64_t end, const Prepare& prepare,
                              const A& a, const B& b, float (&sums)[kRows][kColumns]) {
  CMIR_SHARED(T, a_tile, [kTile][kAStride<T>]);
  CMIR_SHARED(T, b_tile, [kTile][kBStride<T>]);
  for (std::int64_t from = begin; from < end; from += kTile) {
    prepare(from);
    __syncthreads();  // the last tile has been used, and all threads are prepared
    for (int i = static_cast<int>(threadIdx.x); i < kTile * kTile; i += kThreads) {
      const int row = kDepthFirst ? i / kTile : i % kTile,
                depth = kDepthFirst ? i % kTile : i / kTile;
      const bool row_first = kOnTensorCores<T>;
      a_tile[row_first ? row : depth][row_first ? depth : row] = a(row, depth, from);
      b_tile[i / kTile][i % kTile] = b(i / kTile + from, i % kTile);
    }
    __syncthreads();
    add_products<T>(a_tile, b_tile, sums);
  }
}

/// The elements of x that the windows of kTile rows may touch: of each row's sample. Set by the
/// first threads for the rows from `row` on; the other threads see them after a barrier.
struct Limits {
  SharedPointer<std::int64_t> first, last;

  __device__ void set(const std::int64_t* offsets, const Conv1dSizes& s, std::int64_t row) const {
    if (threadIdx.x >= kTile || row + threadIdx.x >= s.rows) return;
    std::int64_t low = 0, high = s.samples;  // offsets[low] <= row < offsets[high]
    while (high - low > 1) {
      const std::int64_t middle = low + (high - low) / 2;
      (offsets[middle] <= row + threadIdx.x ? low : high) = middle;
    }
    first[threadIdx.x] = offsets[low] * s.in;
    last[threadIdx.x] = offsets[high] * s.in;
  }
};

/// Element `column` of the window of `row`, which is number `slot` of the limits.
template <class T>
__device__ T window_element(const T* x, const Conv1dSizes& s, const Limits& limits,
                            std::int64_t row, int slot, std::int64_t column) {
  const std::int64_t i = (row - s.padding()) * s.in + column;
  return i >= limits.first[slot] && i < limits.last[slot] ? x[i] : T{};
}

/// y [rows, s.out] = bias (or 0) + windows of x [rows, s.in] times weight [window, s.out].
template <class T>
__global__ void correlate_kernel(const T* x, const std::int64_t* offsets, const T* weight,
                                 const float* bias, float* y, Conv1dSizes s) {
  CMIR_SHARED(std::int64_t, first, [kTile]);
  CMIR_SHARED(std::int64_t, last, [kTile]);
  const Limits limits{first, last};
  const std::int64_t row = std::int64_t{blockIdx.x} * kTile,
                     column = std::int64_t{blockIdx.y} * kTile;
  limits.set(offsets, s, row);
  float sums[kRows][kColumns] = {};
  multiply_tile<T, true>(
      0, s.window(), [](std::int64_t) {},
      [&](int r, int depth, std::int64_t from) {
        const bool inside = row + r < s.rows && from + depth < s.window();
        return inside ? window_element(x, s, limits, row + r, r, from + depth) : T{};
      },
      [&](std::int64_t depth, int c) {
        return depth < s.window() && column + c < s.out ? weight[depth * s.out + column + c] : T{};
      },
      sums);
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) {
      const std::int64_t i = row + tile_row<T>(r, c), o = column + tile_column<T>(r, c);
      if (i < s.rows && o < s.out) y[i * s.out + o] = sums[r][c] + (bias != nullptr ? bias[o] : 0);
    }
  }
}

/// One chunk of rows' sums [window + 1, out]: dweight transposed, then dbias, as if every window
/// ended with a 1.
template <class T>
__global__ void weight_sums_kernel(const T* x, const std::int64_t* offsets, const T* dy,
                                   float* sums_of_chunks, Conv1dSizes s, std::int64_t grain) {
  CMIR_SHARED(std::int64_t, first, [kTile]);
  CMIR_SHARED(std::int64_t, last, [kTile]);
  const Limits limits{first, last};
  const std::int64_t row = std::int64_t{blockIdx.x} * kTile,
                     column = std::int64_t{blockIdx.y} * kTile;
  const std::int64_t begin = blockIdx.z * grain, end = min(s.rows, begin + grain);
  float sums[kRows][kColumns] = {};
  multiply_tile<T, false>(
      begin, end, [&](std::int64_t from) { limits.set(offsets, s, from); },
      [&](int r, int depth, std::int64_t from) {
        if (from + depth >= end || row + r > s.window()) return T{};
        if (row + r == s.window()) return T(1.0F);
        return window_element(x, s, limits, from + depth, depth, row + r);
      },
      [&](std::int64_t depth, int c) {
        return depth < end && column + c < s.out ? dy[depth * s.out + column + c] : T{};
      },
      sums);
  float* out = sums_of_chunks + blockIdx.z * (s.window() + 1) * s.out;
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) {
      const std::int64_t m = row + tile_row<T>(r, c), o = column + tile_column<T>(r, c);
      if (m <= s.window() && o < s.out) out[m * s.out + o] = sums[r][c];
    }
  }
}

/// Adds the chunks' sums in order; row = tap * in + input, or the bias.
template <class T>
struct MergedSum {
  Conv1dBackwardWeight<T> a;
  std::int64_t chunks;

  template <int N>
  __device__ void operator()(std::int64_t row, std::int64_t o) const {
    const Conv1dSizes& s = a.sizes;
    Vector<float, N> sum{};
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
      const auto part =
          load_vector<float, N>(a.workspace + (chunk * (s.window() + 1) + row) * s.out + o);
      for (int k = 0; k < N; ++k) sum[k] += part[k];
    }
    if (row == s.window()) {
      if (a.dbias != nullptr) store_vector(a.dbias + o, sum);
      return;
    }
    float* to = a.dweight + o * s.window() + row % s.in * s.taps + row / s.in;
    for (int k = 0; k < N; ++k) to[k * s.window()] = sum[k];
  }
};

/// packed [taps * inner, columns] of weight [out, in, taps], inner being in or (reversed) out.
template <class T>
struct PackedWeight {
  const T* weight;
  T* packed;
  std::int64_t taps, inner, columns, inner_stride, column_stride;
  bool reversed;

  template <int N>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    const std::int64_t tap = row / inner, i = row - tap * inner;
    const T* from = weight + i * inner_stride + (reversed ? taps - 1 - tap : tap);
    Vector<T, N> vector;
    for (int k = 0; k < N; ++k) vector[k] = from[(column + k) * column_stride];
    store_vector(packed + row * columns + column, vector);
  }
};

LaunchConfig tiles_of(std::int64_t rows, std::int64_t columns, std::int64_t chunks = 1) {
  const auto tiles = [](std::int64_t size) {
    return static_cast<unsigned>((size + kTile - 1) / kTile);
  };
  return {.grid = dim3(tiles(rows), tiles(columns), static_cast<unsigned>(chunks)),
          .block = dim3(kThreads)};
}

template <class T>
void correlate(const T* x, const std::int64_t* offsets, const PackedWeight<T>& weight,
               const float* bias, float* y, const Conv1dSizes& s) {
  if (s.rows == 0 || s.out == 0) return;
  launch_map(weight, s.window(), s.out, are_vector_aligned(weight.packed));
  launch(correlate_kernel<T>, tiles_of(s.rows, s.out), x, offsets, weight.packed, bias, y, s);
}

/// The packed weight is of the factors' type.
template <class T>
T* packed_in(float* workspace) {
  return reinterpret_cast<T*>(workspace);
}

template <class T>
void forward(const Conv1dForward<T>& a) {
  const Conv1dSizes& s = a.sizes;
  const PackedWeight<T> weight{
      a.weight, packed_in<T>(a.workspace), s.taps, s.in, s.out, s.taps, s.window(), false};
  correlate(a.x, a.offsets, weight, a.bias, a.y, s);
}

template <class T>
void backward_input(const Conv1dBackwardInput<T>& a) {
  const Conv1dSizes& s = a.sizes;
  const PackedWeight<T> weight{
      a.weight, packed_in<T>(a.workspace), s.taps, s.out, s.in, s.window(), s.taps, true};
  correlate(a.dy, a.offsets, weight, nullptr, a.dx, {s.rows, s.samples, s.out, s.in, s.taps});
}

template <class T>
void backward_weight(const Conv1dBackwardWeight<T>& a) {
  const Conv1dSizes& s = a.sizes;
  const std::int64_t grain = conv1d_grain(s.rows, kConv1dWeightChunks);
  const std::int64_t chunks = chunk_count(0, s.rows, grain);
  if (chunks > 0 && s.out > 0) {
    launch(weight_sums_kernel<T>, tiles_of(s.window() + 1, s.out, chunks), a.x, a.offsets, a.dy,
           a.workspace, s, grain);
  }
  launch_map(MergedSum<T>{a, chunks}, s.window() + 1, s.out,
             s.out % kVectorSize<float> == 0 && are_vector_aligned(a.workspace, a.dbias));
}

const RegisterDevice registered{&forward<float>,           &backward_input<float>,
                                &backward_weight<float>,   &forward<BFloat16>,
                                &backward_input<BFloat16>, &backward_weight<BFloat16>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
