#include "core/formats/npy.h"

#include <memory>
#include <vector>

#include "tests/fuzz/fuzz_target.h"

namespace cmir {
namespace {

void fuzz(std::span<const std::byte> bytes) {
  // An exact copy on the heap, so that a sanitizer sees a read past its end.
  const auto copy = std::make_shared<const std::vector<std::byte>>(bytes.begin(), bytes.end());
  // Either a single array or an archive.
  if (!bytes.empty() && bytes[0] == std::byte{0x93}) {
    parse_npy(*copy, copy).clone();
    return;
  }
  for (const auto& [name, tensor] : parse_npz(*copy, copy)) tensor.clone();  // touches every byte
}

const bool registered = fuzz::register_target("npz", &fuzz);

}  // namespace
}  // namespace cmir
