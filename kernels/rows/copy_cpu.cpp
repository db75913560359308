#include "kernels/rows/copy.h"

#include <algorithm>

#include "core/parallel.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

template <class T>
void copy_columns(const CopyColumns<T>& c) {
  const std::int64_t grain = rows_per_chunk(c.width, 16384);
  parallel_for(0, c.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      std::copy_n(c.x + i * c.x_stride, c.width, c.y + i * c.y_stride);
    }
  });
}

const RegisterCpu registered{kIsa, &copy_columns<float>, &copy_columns<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
