#include "kernels/loss/squared_distance.h"

#include <algorithm>

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

constexpr std::int64_t kTile = 512;  // summed in T, then added in f64

template <class T>
T tile_sum(const T* a, const T* b, std::int64_t count) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < count; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

template <class T>
void forward(const SquaredDistanceForward<T>& a) {
  constexpr std::int64_t grain = SquaredDistanceForward<T>::kGrain;
  parallel_for(0, a.count, grain, [&](std::int64_t begin, std::int64_t end) {
    double sum = 0;
    for (std::int64_t i = begin; i < end; i += kTile) {
      sum += tile_sum(a.a + i, a.b + i, std::min(kTile, end - i));
    }
    a.partial[begin / grain] = sum;
  });
  double sum = 0;
  for (std::int64_t chunk = 0; chunk < chunk_count(0, a.count, grain); ++chunk) {
    sum += a.partial[chunk];
  }
  *a.value = static_cast<T>(a.scale * sum);
}

template <class T>
void backward(const SquaredDistanceBackward<T>& a) {
  const T factor = static_cast<T>(2 * a.scale) * *a.cotangent;
  parallel_for(0, a.count, SquaredDistanceForward<T>::kGrain,
               [&](std::int64_t begin, std::int64_t end) {
                 const auto write = [&](T* out, T sign) {
                   if (!out) return;
                   const T *x = a.a, *y = a.b;
#pragma omp simd
                   for (std::int64_t i = begin; i < end; ++i) out[i] = sign * (x[i] - y[i]);
                 };
                 write(a.da, factor);
                 write(a.db, -factor);
               });
}

const RegisterCpu registered{kIsa, &forward<float>, &forward<double>, &backward<float>,
                             &backward<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
