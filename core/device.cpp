#include "core/device.h"

#include <charconv>

#include "core/cuda/runtime.h"
#include "core/error.h"

namespace cmir {

Device parse_device(std::string_view name) {
  constexpr std::string_view kPrefix = "cuda:";
  if (name == "cpu") return {};
  if (name == "simt") return {DeviceType::simt};
  if (name == "cuda") return {DeviceType::cuda};
  if (name.starts_with(kPrefix)) {
    int index = -1;
    const char* end = name.data() + name.size();
    const auto [stopped, error] = std::from_chars(name.data() + kPrefix.size(), end, index);
    if (error == std::errc() && stopped == end && index >= 0) return {DeviceType::cuda, index};
  }
  fail(ErrorKind::usage, "device", "'{}' is none of cpu, cuda, cuda:N, simt", name);
}

void require_available(Device device) {
  if (device.type == DeviceType::cuda) cuda::use_device(device.index);
}

}  // namespace cmir
