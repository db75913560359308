#include "kernels/positions/positions.h"

#include <algorithm>

#include "core/parallel.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

template <class T>
void add_positions(const AddPositions<T>& a) {
  const std::int64_t elements = std::max<std::int64_t>(1, a.offsets[a.samples] * a.width);
  const std::int64_t grain = std::max<std::int64_t>(1, 16384 * a.samples / elements);
  parallel_for(0, a.samples, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t s = begin; s < end;
         ++s) {  // a sample's positions are consecutive in x, y and the table alike
      const std::int64_t first = a.offsets[s] * a.width;
      const std::int64_t count = (a.offsets[s + 1] - a.offsets[s]) * a.width;
      const T* x = a.x + first;
      const T* table = a.table;
      T* y = a.y + first;
      const T scale = a.scale;
#pragma omp simd
      for (std::int64_t i = 0; i < count; ++i) y[i] = scale * x[i] + table[i];
    }
  });
}

template <class T>
void backward_table(const PositionsBackwardTable<T>& a) {
  parallel_for(0, a.positions, 8, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t width = a.width;
    std::fill_n(a.dtable + begin * width, (end - begin) * width, T{0});
    for (std::int64_t s = 0; s < a.samples; ++s) {
      const std::int64_t last = std::min(end, a.offsets[s + 1] - a.offsets[s]);
      if (last <= begin) continue;
      const T* dy = a.dy + (a.offsets[s] + begin) * width;
      T* dtable = a.dtable + begin * width;
#pragma omp simd
      for (std::int64_t i = 0; i < (last - begin) * width; ++i) dtable[i] += dy[i];
    }
  });
}

const RegisterCpu registered{kIsa, &add_positions<float>, &add_positions<double>,
                             &backward_table<float>, &backward_table<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
