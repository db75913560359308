// launch(kernel, LaunchConfig{grid, block, shared_bytes}, arguments...) on a GPU.
#pragma once

#include <cxxabi.h>

#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>

#include "core/cuda/runtime.h"
#include "core/error.h"

namespace cmir::kernels::cuda {

struct LaunchConfig {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;  ///< dynamic shared memory; up to 227 KiB on an H100
};

/// The kernel's demangled signature, for messages.
inline std::string kernel_name(const void* kernel) {
  const char* mangled = nullptr;
  if (cudaFuncGetName(&mangled, kernel) != cudaSuccess) return "kernel";
  const std::unique_ptr<char, void (*)(void*)> text(
      abi::__cxa_demangle(mangled, nullptr, nullptr, nullptr), std::free);
  return text == nullptr ? mangled : text.get();
}

/// Throws an Error that names the kernel and the call unless it succeeded.
inline void check_launch(cudaError_t status, std::string_view call, const void* kernel,
                         const LaunchConfig& config) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // clears it
  fail(ErrorKind::internal, kernel_name(kernel),
       "{}: {} (grid {} x {} x {}, block {} x {} x {}, {} bytes of dynamic shared memory)", call,
       cudaGetErrorString(status), config.grid.x, config.grid.y, config.grid.z, config.block.x,
       config.block.y, config.block.z, config.shared_bytes);
}

/// Shared memory that a block may have on the current device.
inline std::size_t most_shared_bytes() {
  static const std::size_t most = [] {
    ::cmir::cuda::current_stream();  // makes the process's device this thread's
    int device = 0, bytes = 48 << 10;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    return static_cast<std::size_t>(bytes);
  }();
  return most;
}

/// Without it, dynamic and static shared memory together are limited to 48 KiB. A kernel's limit is
/// only ever raised: a recorded launch may need the larger one still.
inline void allow_shared_memory(const void* kernel, const LaunchConfig& config) {
  static std::mutex mutex;
  static std::unordered_map<const void*, std::size_t> limits;
  const std::lock_guard lock(mutex);
  std::size_t& limit = limits[kernel];
  if (config.shared_bytes <= limit) return;
  check_launch(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(config.shared_bytes)),
               "cudaFuncSetAttribute", kernel, config);
  limit = config.shared_bytes;
}

/// Runs the kernel on cmir::cuda::current_stream(). Does not wait for it.
template <class... Parameters>
void launch(void (*kernel)(Parameters...), const LaunchConfig& config,
            std::type_identity_t<Parameters>... arguments) {
  const auto* address = reinterpret_cast<const void*>(kernel);
  // First of all: it also makes the process's device this thread's.
  cudaStream_t stream = ::cmir::cuda::current_stream().handle();
  if (config.shared_bytes > 0) allow_shared_memory(address, config);
  cudaLaunchConfig_t launch_config{};
  launch_config.gridDim = config.grid;
  launch_config.blockDim = config.block;
  launch_config.dynamicSmemBytes = config.shared_bytes;
  launch_config.stream = stream;
  check_launch(cudaLaunchKernelEx(&launch_config, kernel, arguments...), "cudaLaunchKernelEx",
               address, config);
}

}  // namespace cmir::kernels::cuda
