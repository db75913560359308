// Where a tensor lives, and what runs the kernels on it.
#pragma once

#include <string>

namespace cmir {

enum class DeviceType {
  cpu,
  cuda,
  simt,  ///< the CUDA kernels on the host model of kernels/simt; memory is ordinary CPU memory
};

struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;

  bool operator==(const Device&) const = default;
  bool is_cpu() const { return type == DeviceType::cpu; }
  /// The CPU can read and write its memory, which comes from cpu_allocator().
  bool has_host_memory() const { return type != DeviceType::cuda; }
  /// "cpu", "simt" or "cuda:0"
  std::string to_string() const {
    if (type == DeviceType::cuda) return "cuda:" + std::to_string(index);
    return is_cpu() ? "cpu" : "simt";
  }
};

}  // namespace cmir
