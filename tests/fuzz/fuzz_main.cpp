// libFuzzer's entry point, linked with one *_fuzz.cpp.
#include <cstdint>
#include <cstdlib>

#include "core/error.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto& targets = cmir::fuzz::targets();
  if (targets.size() != 1) std::abort();  // each program links exactly one
  try {
    targets.begin()->second(std::as_bytes(std::span(data, size)));
  } catch (const cmir::Error&) {
  }
  return 0;
}
