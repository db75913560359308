// Whether f32 matrix products on a GPU may round their factors to TF32.
#pragma once

#include <atomic>
#include <cstdlib>
#include <string_view>

namespace cmir::kernels {

/// Products then run on tensor cores, with 10 bits of mantissa instead of 23 in each factor. Off,
/// unless the environment variable CMIR_TF32 is 1 at the start or the program sets it.
inline std::atomic<bool> tf32_allowed = [] {
  const char* value = std::getenv("CMIR_TF32");
  return value != nullptr && std::string_view(value) == "1";
}();

}  // namespace cmir::kernels
