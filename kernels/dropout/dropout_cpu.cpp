#include "kernels/dropout/dropout.h"

#include <algorithm>

#include "core/parallel.h"
#include "kernels/cpu/philox.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

constexpr std::int64_t kGrain = 4096;  // elements; a multiple of 4 kBlocks
constexpr int kBlocks = 16;            // Philox blocks at a time, so that the rounds vectorise

template <class T>
void dropout(const Dropout<T>& d) {
  const T scale = static_cast<T>(1.0 / (1.0 - d.p));
  const auto threshold = static_cast<std::int32_t>(d.threshold());
  parallel_for(0, d.count, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i += 4 * kBlocks) {
      std::uint32_t words[4 * kBlocks];
      cpu::philox_words<kBlocks>(d.stream, static_cast<std::uint64_t>(i) / 4, words);
      const T* x = d.x + i;
      T* y = d.y + i;
      const std::int64_t count = std::min<std::int64_t>(4 * kBlocks, end - i);
#pragma omp simd
      for (std::int64_t j = 0; j < count; ++j) {
        const T kept = x[j] * scale;
        y[j] = static_cast<std::int32_t>(words[j] >> 8) >= threshold ? kept : T{0};
      }
    }
  });
}

const RegisterCpu registered{kIsa, &dropout<float>, &dropout<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
