#include "core/formats/safetensors.h"

#include <memory>
#include <vector>

#include "tests/fuzz/fuzz_target.h"

namespace cmir {
namespace {

void fuzz(std::span<const std::byte> bytes) {
  // An exact copy on the heap, so that a sanitizer sees a read past its end.
  const auto copy = std::make_shared<const std::vector<std::byte>>(bytes.begin(), bytes.end());
  const auto file = SafeTensors::parse(*copy, copy);
  for (const auto& name : file.names()) file.at(name).clone();  // touches every byte
}

const bool registered = fuzz::register_target("safetensors", &fuzz);

}  // namespace
}  // namespace cmir
