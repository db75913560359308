#include "kernels/loss/corrupt.h"

#include <algorithm>

#include "core/parallel.h"
#include "kernels/cpu/philox.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

constexpr std::int64_t kTilesPerChunk = 16;

/// The random numbers of one tile, in element order; only the kinds in use are made.
struct Draws {
  alignas(64) std::uint32_t words[cpu::kPhiloxTile];
  alignas(64) float noise[cpu::kPhiloxTile];
};

template <class T>
void draw(const Corrupt<T>& a, std::int64_t tile, Draws& draws) {
  const auto index = static_cast<std::uint64_t>(tile);
  if (a.kind == CorruptionKind::gaussian) {
    if (!a.linear_part_only) cpu::philox_normals(a.stream, index, draws.noise);
    return;
  }
  cpu::philox_words<cpu::kPhiloxBlocks>(a.stream, index * cpu::kPhiloxBlocks, draws.words);
  if (a.kind == CorruptionKind::erase || a.linear_part_only) return;
  const auto scale = static_cast<float>(a.laplace_scale);
#pragma omp simd
  for (int i = 0; i < cpu::kPhiloxTile; ++i) {  // the lowest bit is free: uniforms use the upper 24
    const float magnitude = scale * cpu::exponential_of(draws.words[i]);
    draws.noise[i] = (draws.words[i] & 1U) != 0 ? -magnitude : magnitude;
  }
}

/// `length` elements of one sample.
template <class T>
void corrupt_span(const Corrupt<T>& a, CorruptionKind kind, const T* x, T* y, std::int64_t length,
                  const std::uint32_t* words, const float* noise) {
  const T keep = static_cast<T>(1 - a.rate), rate = static_cast<T>(a.rate);
  if (kind == CorruptionKind::erase) {
    const auto threshold = static_cast<float>(a.rate);
#pragma omp simd
    for (std::int64_t i = 0; i < length; ++i) {
      y[i] = cpu::uniform_of(words[i]) < threshold ? T{0} : x[i];
    }
  } else if (a.linear_part_only) {
#pragma omp simd
    for (std::int64_t i = 0; i < length; ++i) y[i] = keep * x[i];
  } else {
#pragma omp simd
    for (std::int64_t i = 0; i < length; ++i) y[i] = keep * x[i] + rate * static_cast<T>(noise[i]);
  }
}

template <class T>
void corrupt(const Corrupt<T>& a) {
  const std::int64_t count = a.rows * a.width;
  const std::int64_t tiles = (count + cpu::kPhiloxTile - 1) / cpu::kPhiloxTile;
  parallel_for(0, tiles, kTilesPerChunk, [&](std::int64_t first, std::int64_t last) {
    Draws draws;
    for (std::int64_t tile = first; tile < last; ++tile) {
      draw(a, tile, draws);
      const std::int64_t begin = tile * cpu::kPhiloxTile;
      const std::int64_t end = std::min(begin + cpu::kPhiloxTile, count);
      for (std::int64_t at = begin; at < end;) {
        const std::int64_t row = at / a.width;
        const std::int64_t length = std::min(end, (row + 1) * a.width) - at;
        const CorruptionKind kind = a.kind == CorruptionKind::laplace_or_erase
                                        ? corruption_of_sample(a.stream, row)
                                        : a.kind;
        corrupt_span(a, kind, a.x + at, a.y + at, length, draws.words + (at - begin),
                     draws.noise + (at - begin));
        at += length;
      }
    }
  });
}

const RegisterCpu registered{kIsa, &corrupt<float>, &corrupt<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
