#include "kernels/cpu/amx.h"

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "core/allocator.h"

namespace cmir::kernels::cpu {

bool amx_granted() {
  static const bool granted = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    constexpr unsigned kBf16 = 1U << 22, kTiles = 1U << 24, kAvx512Bf16 = 1U << 5;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kBf16) == 0 || (d & kTiles) == 0) {
      return false;
    }
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d) == 0 || (a & kAvx512Bf16) == 0) return false;
    constexpr long kRequestPermission = 0x1023, kTileData = 18;  // of arch_prctl, Linux 5.16
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return granted;
}

}  // namespace cmir::kernels::cpu

// What follows may run only where that is true. As in kernels/cpu/isa_begin.h, after the headers,
// which is why the functions that they declare leave the work to others.
#if defined(__clang__)
#pragma clang attribute push(                                                                   \
    __attribute__((target("avx2,fma,avx512f,avx512vl,avx512bw,avx512bf16,amx-tile,amx-bf16"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512vl,avx512bw,avx512bf16,amx-tile,amx-bf16")
#endif

namespace cmir::kernels::cpu {
namespace {

constexpr std::int64_t kRows = 16, kDepth = 32;  // of a tile of 1 KiB
constexpr std::int64_t kTile = kRows * kDepth;
constexpr std::int64_t kBlock = 2 * kRows;  // rows and columns of C for which there are registers
/// Tiles of the depth that a block of C takes in one go, so that the right factor's strip stays
/// near while the left factor streams by.
constexpr std::int64_t kStrip = 8;

std::int64_t tiles_of(std::int64_t size, std::int64_t tile) { return (size + tile - 1) / tile; }

typedef std::uint32_t Words __attribute__((vector_size(64)));  // the bits of 16 f32
typedef float Floats __attribute__((vector_size(64)));
struct Square {
  Words row[16];
};

Words load(const float* x, __mmask16 mask) {
  return reinterpret_cast<Words>(_mm512_maskz_loadu_ps(mask, x));
}
Words load(const BFloat16* x, __mmask16 mask) {
  typedef std::uint16_t Halves __attribute__((vector_size(32)));
  const auto bits = reinterpret_cast<Halves>(_mm256_maskz_loadu_epi16(mask, x));
  return __builtin_convertvector(bits, Words) << 16;
}
/// A matrix as it is stored, of which `factor` times the elements are packed.
template <class T>
struct Stored {
  const T* x;
  std::int64_t stride, rows, columns;
  float factor;
};
/// Its rows from `row` on, 16 elements from `column` on: zeros beyond the edges.
template <class T>
class Rows {
 public:
  Rows(const Stored<T>& matrix, std::int64_t row, std::int64_t column)
      : x_(matrix.x + row * matrix.stride + column),
        stride_(matrix.stride),
        rows_(column < matrix.columns ? matrix.rows - row : 0),
        mask_(first(std::clamp<std::int64_t>(matrix.columns - column, 0, 16))),
        factor_(matrix.factor) {}
  Words operator[](std::int64_t i) const {
    if (i >= rows_) return Words{};
    if (is_bf16()) return load(x_ + i * stride_, mask_);
    return reinterpret_cast<Words>(reinterpret_cast<Floats>(load(x_ + i * stride_, mask_)) *
                                   factor_);
  }
  /// Whether nothing is to be rounded.
  bool is_bf16() const { return std::is_same_v<T, BFloat16> && factor_ == 1; }

 private:
  static __mmask16 first(std::int64_t count) { return static_cast<__mmask16>((1U << count) - 1); }

  const T* x_;
  std::int64_t stride_, rows_;
  __mmask16 mask_;
  float factor_;
};

/// Swaps the off-diagonal blocks of each 2 x 2 blocks of [size, size].
template <int size, int... column>
void swap_blocks(Square& s, std::integer_sequence<int, column...>) {
  for (int i = 0; i < 16; ++i) {
    if ((i & size) != 0) continue;
    const Words a = s.row[i], b = s.row[i + size];
    s.row[i] = __builtin_shufflevector(a, b, (column & size ? 16 + column - size : column)...);
    s.row[i + size] =
        __builtin_shufflevector(a, b, (column & size ? 16 + column : column + size)...);
  }
}
void transpose(Square& s) {
  constexpr std::make_integer_sequence<int, 16> kColumns;
  swap_blocks<1>(s, kColumns);
  swap_blocks<2>(s, kColumns);
  swap_blocks<4>(s, kColumns);
  swap_blocks<8>(s, kColumns);
}

Words minus(Words x, Words y) {
  return reinterpret_cast<Words>(reinterpret_cast<Floats>(x) - reinterpret_cast<Floats>(y));
}
/// The parts of 16 f32, each in the upper 16 bits.
void split(Words x, Words (&part)[1]) {
  const auto number = reinterpret_cast<Floats>(x) == reinterpret_cast<Floats>(x);
  const Words nearest = x + 0x7FFF + (x >> 16 & 1);  // ties to even
  part[0] = (number ? nearest : x | 0x400000) & 0xFFFF0000;
}
void split(Words x, Words (&part)[3]) {
  part[0] = x & 0xFFFF0000;
  const Words rest = minus(x, part[0]);
  part[1] = (rest + 0x8000) & 0xFFFF0000;
  part[2] = minus(rest, part[1]) & 0xFFFF0000;  // nothing but a subnormal has more bits
}

/// A row of a tile of each part. Depths t and 16 + t are neighbours in it, in both factors.
template <int kParts>
void store_row(Words first, Words second, std::uint16_t* out) {
  Words low[kParts], high[kParts];
  split(first, low);
  split(second, high);
  for (int p = 0; p < kParts; ++p) {
    *reinterpret_cast<Words*>(out + p * kTile) = low[p] >> 16 | high[p];
  }
}

/// A tile of bf16, which is transposed with two numbers in a word.
template <class T>
void pack_bf16_tile(const Rows<T>& first, const Rows<T>& second, bool transposed,
                    std::uint16_t* out) {
  Square tile;
  if (first.is_bf16()) {
    for (int i = 0; i < 16; ++i) tile.row[i] = first[i] >> 16 | second[i];
  } else {
    for (int i = 0; i < 16; ++i)
      store_row<1>(first[i], second[i], reinterpret_cast<std::uint16_t*>(&tile.row[i]));
  }
  if (transposed) transpose(tile);
  for (int i = 0; i < 16; ++i) *reinterpret_cast<Words*>(out + i * kDepth) = tile.row[i];
}

/// A tile of each part from the rows of its two halves of the depth.
template <int kParts, class T>
void pack_tile(const Rows<T>& first, const Rows<T>& second, bool transposed, std::uint16_t* out) {
  if constexpr (kParts == 1) return pack_bf16_tile(first, second, transposed, out);
  if (!transposed) {
    for (int i = 0; i < 16; ++i) store_row<kParts>(first[i], second[i], out + i * kDepth);
    return;
  }
  Square a, b;
  for (int i = 0; i < 16; ++i) a.row[i] = first[i];
  for (int i = 0; i < 16; ++i) b.row[i] = second[i];
  transpose(a);
  transpose(b);
  for (int i = 0; i < 16; ++i) store_row<kParts>(a.row[i], b.row[i], out + i * kDepth);
}

/// The 16 rows that are packed after these, which the hardware, going by addresses, does not
/// expect.
template <class T>
void prefetch(const T* x, std::int64_t stride) {
  for (std::int64_t i = 0; i < kRows; ++i) {
    const char* const row = reinterpret_cast<const char*>(x + i * stride);
    _mm_prefetch(row, _MM_HINT_T0);
    if (sizeof(T) * kDepth > 64) _mm_prefetch(row + 64, _MM_HINT_T0);
  }
}

template <int kParts, class T>
void pack_tiles(const Stored<T>& m, bool depth_along_rows, bool transposed, std::uint16_t* out) {
  const std::int64_t extent = depth_along_rows ? m.columns : m.rows;
  const std::int64_t depth = depth_along_rows ? m.rows : m.columns;
  for (std::int64_t e = 0; e < extent; e += kRows) {
    for (std::int64_t k = 0; k < depth; k += kDepth, out += kParts * kTile) {
      if (!depth_along_rows) prefetch(m.x + (e + kRows) * m.stride + k, m.stride);
      const auto from = [&](std::int64_t of_depth) {
        return depth_along_rows ? Rows<T>(m, of_depth, e) : Rows<T>(m, e, of_depth);
      };
      pack_tile<kParts>(from(k), from(k + kDepth / 2), transposed, out);
    }
  }
}

/// The compiler takes tile instructions for ones that touch no memory.
void order_memory() { asm volatile("" ::: "memory"); }

void configure_tiles() {
  struct alignas(64) {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t row_bytes[16] = {};
    std::uint8_t rows[16] = {};
  } config;
  std::fill_n(config.row_bytes, 8, 64);
  std::fill_n(config.rows, 8, 16);
  order_memory();
  _tile_loadconfig(&config);
}
void release_tiles() { _tile_release(); }

/// The sums of a block of 2 x 2 tiles of C, which stay in tile registers 0 to 3.
template <int kParts>
void add_products(const std::uint16_t* const (&a)[2], const std::uint16_t* const (&b)[2],
                  std::int64_t count) {
  const std::uint16_t *a0 = a[0], *a1 = a[1], *b0 = b[0], *b1 = b[1];
  const auto load_a = [&](int part) {
    _tile_loadd(4, a0 + part * kTile, 64);
    _tile_loadd(5, a1 + part * kTile, 64);
  };
  const auto load_b = [&](int part) {
    _tile_loadd(6, b0 + part * kTile, 64);
    _tile_loadd(7, b1 + part * kTile, 64);
  };
  const auto multiply = []() {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  };
  for (std::int64_t k = 0; k < count; ++k) {
    if constexpr (kParts == 1) {
      load_a(0), load_b(0), multiply();
    } else {  // one factor changes at a time
      load_a(2), load_b(0), multiply();
      load_a(0), multiply();
      load_a(1), multiply();
      load_b(1), multiply();
      load_a(0), multiply();
      load_b(2), multiply();
    }
    a0 += kParts * kTile, a1 += kParts * kTile, b0 += kParts * kTile, b1 += kParts * kTile;
  }
}

/// sums [32, 32] = the sums of products of a block.
template <int kParts>
void multiply_tiles(const std::uint16_t* const (&a)[2], const std::uint16_t* const (&b)[2],
                    std::int64_t count, float* sums) {
  constexpr long kStride = kBlock * sizeof(float);
  order_memory();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  add_products<kParts>(a, b, count);
  _tile_stored(0, sums, kStride);
  _tile_stored(1, sums + kRows, kStride);
  _tile_stored(2, sums + kRows * kBlock, kStride);
  _tile_stored(3, sums + kRows * kBlock + kRows, kStride);
  order_memory();
}

/// c = alpha (sums + c), or without c.
void finish(float alpha, const float* sums, bool add, float* c, std::int64_t count) {
  if (add) {
    for (std::int64_t j = 0; j < count; ++j) c[j] = alpha * (sums[j] + c[j]);
  } else {
    for (std::int64_t j = 0; j < count; ++j) c[j] = alpha * sums[j];
  }
}

/// The first [rows, columns] of C, up to a block.
template <int kParts>
void multiply_block(float alpha, const std::uint16_t* const (&a)[2],
                    const std::uint16_t* const (&b)[2], std::int64_t count, bool add, float* c,
                    std::int64_t stride, std::int64_t rows, std::int64_t columns) {
  alignas(64) float sums[kBlock * kBlock];
  multiply_tiles<kParts>(a, b, count, sums);
  for (std::int64_t i = 0; i < std::min(rows, kBlock); ++i) {
    if (columns >= kBlock) {  // of a length that the compiler knows
      finish(alpha, sums + i * kBlock, add, c + i * stride, kBlock);
    } else {
      finish(alpha, sums + i * kBlock, add, c + i * stride, columns);
    }
  }
}

}  // namespace

AmxTiles::AmxTiles() { configure_tiles(); }
AmxTiles::~AmxTiles() { release_tiles(); }

template <int kParts>
AmxFactor<kParts>::AmxFactor(std::int64_t extent, std::int64_t depth)
    : bytes_(tiles_of(extent, kRows) * tiles_of(depth, kDepth) * kParts * kTile * 2),
      data_(static_cast<std::uint16_t*>(cpu_allocator().allocate(bytes_))) {}
template <int kParts>
AmxFactor<kParts>::~AmxFactor() {
  cpu_allocator().deallocate(data_, bytes_);
}

template <int kParts>
template <class T>
void AmxFactor<kParts>::pack_left(bool transpose, const T* x, std::int64_t stride,
                                  std::int64_t extent, std::int64_t depth, float factor) {
  extent_ = extent;
  depth_tiles_ = tiles_of(depth, kDepth);
  const Stored<T> stored{x, stride, transpose ? depth : extent, transpose ? extent : depth, factor};
  pack_tiles<kParts>(stored, transpose, transpose, data_);
}
template <int kParts>
template <class T>
void AmxFactor<kParts>::pack_right(bool transpose, const T* x, std::int64_t stride,
                                   std::int64_t depth, std::int64_t extent, float factor) {
  extent_ = extent;
  depth_tiles_ = tiles_of(depth, kDepth);
  const Stored<T> stored{x, stride, transpose ? extent : depth, transpose ? depth : extent, factor};
  pack_tiles<kParts>(stored, !transpose, transpose, data_);
}

template <int kParts>
void multiply(float alpha, const AmxFactor<kParts>& a, const AmxFactor<kParts>& b, bool add,
              float* c, std::int64_t stride) {
  const std::int64_t m = a.extent(), n = b.extent(), depth = a.depth_tiles();
  const std::int64_t last_a = tiles_of(m, kRows) - 1, last_b = tiles_of(n, kRows) - 1;
  for (std::int64_t k = 0; k < depth; k += kStrip) {
    const bool last = k + kStrip >= depth;
    for (std::int64_t j = 0; j <= last_b; j += 2) {
      // Beyond the last tile it is taken twice, and the result not written.
      const std::uint16_t* const right[2] = {b.tile(j, k), b.tile(std::min(j + 1, last_b), k)};
      for (std::int64_t i = 0; i <= last_a; i += 2) {
        const std::uint16_t* const left[2] = {a.tile(i, k), a.tile(std::min(i + 1, last_a), k)};
        multiply_block<kParts>(last ? alpha : 1, left, right, std::min(kStrip, depth - k),
                               add || k > 0, c + i * kRows * stride + j * kRows, stride,
                               m - i * kRows, n - j * kRows);
      }
    }
  }
}

template class AmxFactor<1>;
template class AmxFactor<3>;
template void AmxFactor<1>::pack_left(bool, const float*, std::int64_t, std::int64_t, std::int64_t,
                                      float);
template void AmxFactor<1>::pack_left(bool, const BFloat16*, std::int64_t, std::int64_t,
                                      std::int64_t, float);
template void AmxFactor<1>::pack_right(bool, const BFloat16*, std::int64_t, std::int64_t,
                                       std::int64_t, float);
template void AmxFactor<3>::pack_left(bool, const float*, std::int64_t, std::int64_t, std::int64_t,
                                      float);
template void AmxFactor<3>::pack_right(bool, const float*, std::int64_t, std::int64_t, std::int64_t,
                                       float);
template void multiply(float, const AmxFactor<1>&, const AmxFactor<1>&, bool, float*, std::int64_t);
template void multiply(float, const AmxFactor<3>&, const AmxFactor<3>&, bool, float*, std::int64_t);

}  // namespace cmir::kernels::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
