#include "kernels/loss/noise_variants.h"

#include <algorithm>

#include "core/parallel.h"
#include "kernels/cpu/philox.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

constexpr std::int64_t kGrain = 16384;
constexpr std::int64_t kTilesPerChunk = 16;

/// The noisy elements of one tile, split where the environment changes.
template <class T>
void noisy_tile(const NoiseVariantsForward<T>& a, std::int64_t tile) {
  alignas(64) float normals[cpu::kPhiloxTile];
  cpu::philox_normals(a.stream, static_cast<std::uint64_t>(tile), normals);
  const std::int64_t begin = tile * cpu::kPhiloxTile;
  const std::int64_t end = std::min(begin + cpu::kPhiloxTile, a.environments * a.count);
  for (std::int64_t at = begin; at < end;) {
    const std::int64_t environment = at / a.count, offset = at % a.count;
    const std::int64_t length = std::min(end - at, a.count - offset);
    const T alpha = static_cast<T>(a.alpha * (environment + 1.0));
    const T* x = a.x + offset;
    const float* normal = normals + (at - begin);
    T* y = a.y + a.count + at;
#pragma omp simd
    for (std::int64_t i = 0; i < length; ++i) y[i] = x[i] + alpha * static_cast<T>(normal[i]);
    at += length;
  }
}

template <class T>
void forward(const NoiseVariantsForward<T>& a) {
  parallel_for(0, a.count, kGrain, [&](std::int64_t begin, std::int64_t end) {
    std::copy(a.x + begin, a.x + end, a.y + begin);
  });
  const std::int64_t tiles = (a.environments * a.count + cpu::kPhiloxTile - 1) / cpu::kPhiloxTile;
  parallel_for(0, tiles, kTilesPerChunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t tile = begin; tile < end; ++tile) noisy_tile(a, tile);
  });
}

template <class T>
void backward(const NoiseVariantsBackward<T>& a) {
  constexpr std::int64_t kTile = 1024;  // stays in the first-level cache while the blocks are added
  parallel_for(0, a.count, kTile, [&](std::int64_t begin, std::int64_t end) {
    std::copy(a.dy + begin, a.dy + end, a.dx + begin);
    for (std::int64_t block = 1; block < a.blocks; ++block) {
      const T* dy = a.dy + block * a.count;
      T* dx = a.dx;
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) dx[i] += dy[i];
    }
  });
}

const RegisterCpu registered{kIsa, &forward<float>, &forward<double>, &backward<float>,
                             &backward<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
