#include "kernels/pool/mean_pool.h"

#include <algorithm>

#include "core/parallel.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

/// Samples of a chunk: about 16384 elements on average.
std::int64_t grain(std::int64_t samples, std::int64_t rows, std::int64_t width) {
  return std::max<std::int64_t>(1, 16384 * samples / std::max<std::int64_t>(1, rows * width));
}

template <class T>
void forward(const MeanPoolForward<T>& a) {
  parallel_for(0, a.samples, grain(a.samples, a.offsets[a.samples], a.width),
               [&](std::int64_t begin, std::int64_t end) {
                 const std::int64_t width = a.width;
                 for (std::int64_t s = begin; s < end; ++s) {
                   T* y = a.y + s * width;
                   std::fill_n(y, width, T{0});
                   for (std::int64_t r = a.offsets[s]; r < a.offsets[s + 1]; ++r) {
                     const T* x = a.x + r * width;
#pragma omp simd
                     for (std::int64_t j = 0; j < width; ++j) y[j] += x[j];
                   }
                   const auto count =
                       static_cast<T>(std::max<std::int64_t>(1, a.offsets[s + 1] - a.offsets[s]));
#pragma omp simd
                   for (std::int64_t j = 0; j < width; ++j) y[j] /= count;
                 }
               });
}

template <class T>
void backward(const MeanPoolBackward<T>& a) {
  parallel_for(0, a.samples, grain(a.samples, a.offsets[a.samples], a.width),
               [&](std::int64_t begin, std::int64_t end) {
                 const std::int64_t width = a.width;
                 for (std::int64_t s = begin; s < end; ++s) {
                   const T* dy = a.dy + s * width;
                   const auto count =
                       static_cast<T>(std::max<std::int64_t>(1, a.offsets[s + 1] - a.offsets[s]));
                   for (std::int64_t r = a.offsets[s]; r < a.offsets[s + 1]; ++r) {
                     T* dx = a.dx + r * width;
#pragma omp simd
                     for (std::int64_t j = 0; j < width; ++j) dx[j] = dy[j] / count;
                   }
                 }
               });
}

const RegisterCpu registered{kIsa, &forward<float>, &forward<double>, &backward<float>,
                             &backward<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
