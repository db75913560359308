// A fuzz target: a function that must survive any bytes. One file `<name>_fuzz.cpp` registers one
// target; `fuzz_main.cpp` makes it a libFuzzer program (CMIR_FUZZ), and `corpus_test.cpp` replays
// `corpus/<name>/*` through it in the ordinary tests.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>

namespace cmir::fuzz {

/// Returns normally for bytes that are accepted; throws cmir::Error for bytes that are refused.
/// Anything else is a finding.
using Target = void (*)(std::span<const std::byte> bytes);

inline std::map<std::string, Target>& targets() {
  static std::map<std::string, Target> all;
  return all;
}
/// `const bool registered = register_target("safetensors", &fuzz);`
inline bool register_target(std::string name, Target target) {
  return targets().emplace(std::move(name), target).second;
}

}  // namespace cmir::fuzz
