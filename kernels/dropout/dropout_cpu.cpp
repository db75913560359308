#include "kernels/dropout/dropout.h"

#include <algorithm>

#include "core/parallel.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

constexpr std::int64_t kGrain = 4096;  // elements; a multiple of 4 kBlocks
constexpr int kBlocks = 16;            // Philox blocks at a time, so that the rounds vectorise

/// The words of RandomStream's blocks first .. first + kBlocks - 1, in the order of their elements.
void philox_words(const RandomStream& stream, std::uint64_t first, std::uint32_t* words) {
  std::uint32_t c0[kBlocks], c1[kBlocks], c2[kBlocks], c3[kBlocks];
  for (int b = 0; b < kBlocks; ++b) {
    const std::uint64_t block = first + b;
    c0[b] = static_cast<std::uint32_t>(block);
    c1[b] = static_cast<std::uint32_t>(block >> 32);
    c2[b] = stream.site;
    c3[b] = stream.step;
  }
  auto key0 = static_cast<std::uint32_t>(stream.seed);
  auto key1 = static_cast<std::uint32_t>(stream.seed >> 32);
  for (int round = 0; round < 10; ++round) {
#pragma omp simd
    for (int b = 0; b < kBlocks; ++b) {
      const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c0[b];
      const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c2[b];
      c0[b] = static_cast<std::uint32_t>(p1 >> 32) ^ c1[b] ^ key0;
      c1[b] = static_cast<std::uint32_t>(p1);
      c2[b] = static_cast<std::uint32_t>(p0 >> 32) ^ c3[b] ^ key1;
      c3[b] = static_cast<std::uint32_t>(p0);
    }
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
#pragma omp simd
  for (int b = 0; b < kBlocks; ++b) {
    words[4 * b] = c0[b];
    words[4 * b + 1] = c1[b];
    words[4 * b + 2] = c2[b];
    words[4 * b + 3] = c3[b];
  }
}

template <class T>
void dropout(const Dropout<T>& d) {
  const T scale = static_cast<T>(1.0 / (1.0 - d.p));
  const auto threshold = static_cast<std::int32_t>(d.threshold());
  parallel_for(0, d.count, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i += 4 * kBlocks) {
      std::uint32_t words[4 * kBlocks];
      philox_words(d.stream, static_cast<std::uint64_t>(i) / 4, words);
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
