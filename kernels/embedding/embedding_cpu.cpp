#include "kernels/embedding/embedding.h"

#include <algorithm>

#include "core/parallel.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

template <class T>
void forward(const EmbeddingForward<T>& e) {
  const std::int64_t grain = rows_per_chunk(e.width, 16384);
  parallel_for(0, e.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      std::copy_n(e.table + e.indices[i] * e.width, e.width, e.y + i * e.width);
    }
  });
}

/// Columns are shared out in ranges of whole cache lines, but only where there is work for more
/// than one thread.
template <class T>
void backward(const EmbeddingBackward<T>& e) {
  const std::int64_t grain = e.rows * e.width < 16384 ? std::max<std::int64_t>(1, e.width) : 64;
  parallel_for(0, e.width, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = 0; i < e.rows; ++i) {
      const T* dy = e.dy + i * e.width;
      T* dtable = e.dtable + e.indices[i] * e.width;
#pragma omp simd
      for (std::int64_t j = begin; j < end; ++j) dtable[j] += dy[j];
    }
  });
}

const RegisterCpu registered{kIsa, &forward<float>, &forward<double>, &backward<float>,
                             &backward<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
