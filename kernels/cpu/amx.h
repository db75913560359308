// Matrix products on AMX, the tile registers of Intel's CPUs since Sapphire Rapids, which multiply
// bf16 and sum in f32 at sixteen times the rate of AVX-512's FMA in f32.
//
// f32 factors are cut into three parts of bf16 each, x = x0 + x1 + x2 exactly (8 + 8 + 8 bits): the
// bits above the 16th, then what is left rounded to the nearest, then the rest. Of the nine
// products of parts the six above 2^-22 |x y| are summed (Henry, Tang, Heinecke: "Leveraging the
// bfloat16 artificial intelligence datatype for higher-precision computations", ARITH 2019).
// bf16 factors are one part, and their products exact.
//
// Error of an element, a sum of k products: at most (4 k + 8) eps sum |x y| for f32 and (k + 2) eps
// for bf16, eps = 2^-23; in practice below that of an f32 FMA loop. AMX reads subnormal numbers as
// zeros and writes none, so that beside it parts, products and sums below 2^-126 are lost: at most
// 2^-125 (sum |x| + sum |y| + 6 k). Magnitudes may be as large as f32 holds; an infinite factor
// gives NaN where f32 might give infinity; NaN gives NaN. Sums are in an order of the sizes alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/dtype.h"

namespace cmir::kernels::cpu {

/// Whether this CPU has AMX for bf16 (and the AVX-512 that packs for it) and the system lets this
/// process use it, for which the first call asks.
bool amx_granted();

/// While it lives, the calling thread's tile registers are those that multiply() needs.
class AmxTiles {
 public:
  AmxTiles();
  ~AmxTiles();
  AmxTiles(const AmxTiles&) = delete;
  AmxTiles& operator=(const AmxTiles&) = delete;
};

/// Parts of bf16 in which a factor of T takes part in a product.
template <class T>
inline constexpr int kAmxParts = std::is_same_v<T, BFloat16> ? 1 : 3;

/// A factor of products, packed: tiles of 16 rows (columns, if it is the right factor) by 32 of the
/// depth, each part a tile of its own, zeros beyond the edges. Owns its memory, which comes from
/// the allocator of tensors and is reused for one matrix after another.
template <int kParts>
class AmxFactor {
 public:
  /// Room for a left factor of up to [extent, depth] or a right one of up to [depth, extent].
  AmxFactor(std::int64_t extent, std::int64_t depth);
  ~AmxFactor();
  AmxFactor(const AmxFactor&) = delete;
  AmxFactor& operator=(const AmxFactor&) = delete;

  /// factor op(x), in f32: [extent, depth], or [depth, extent], stored with this stride, transposed
  /// or not. Rounded to nearest even where there is one part.
  template <class T>
  void pack_left(bool transpose, const T* x, std::int64_t stride, std::int64_t extent,
                 std::int64_t depth, float factor = 1);
  template <class T>
  void pack_right(bool transpose, const T* x, std::int64_t stride, std::int64_t depth,
                  std::int64_t extent, float factor = 1);

  /// Tile number `of_extent`, `of_depth`: kParts tiles of 1 KiB.
  const std::uint16_t* tile(std::int64_t of_extent, std::int64_t of_depth) const {
    return data_ + (of_extent * depth_tiles_ + of_depth) * kParts * 512;
  }
  /// Whether it has room for anything.
  bool holds() const { return bytes_ > 0; }
  std::int64_t extent() const { return extent_; }
  std::int64_t depth_tiles() const { return depth_tiles_; }

 private:
  std::size_t bytes_;
  std::uint16_t* data_;
  std::int64_t extent_ = 0, depth_tiles_ = 0;
};

/// C = alpha A B, or alpha (A B + C): A [m, k] the left factor, B [k, n] the right one, C [m, n]
/// row-major with this stride. An AmxTiles must live in this thread.
template <int kParts>
void multiply(float alpha, const AmxFactor<kParts>& a, const AmxFactor<kParts>& b, bool add,
              float* c, std::int64_t stride);

}  // namespace cmir::kernels::cpu
