#include "bench/cold.h"

#include <map>

#include "core/error.h"

#ifdef __x86_64__
#include <emmintrin.h>
#endif

namespace cmir::bench {
namespace {

std::map<const void*, std::size_t>& arrays() {
  static auto* noted = new std::map<const void*, std::size_t>;  // arrays may be static too
  return *noted;
}

}  // namespace

void note_array(const void* begin, std::size_t bytes) { arrays()[begin] = bytes; }
void forget_array(const void* begin) { arrays().erase(begin); }

void evict_arrays() {
#ifdef __x86_64__
  constexpr std::size_t kLine = 64;
  for (const auto& [begin, bytes] : arrays()) {
    const auto* at = static_cast<const char*>(begin);
    for (std::size_t i = 0; i < bytes; i += kLine) _mm_clflush(at + i);
    if (bytes > 0) _mm_clflush(at + bytes - 1);
  }
  _mm_mfence();
#else
  fail(ErrorKind::usage, "--cold", "needs an x86-64 CPU");
#endif
}

}  // namespace cmir::bench
