// The one header that device sources (*.cu, *.cuh) include for CUDA.
//
// Every .cu is compiled twice: by nvcc for the GPU, and by g++ against the host model of
// kernels/simt, which runs the same kernels without a GPU and checks them
// (docs/cuda_without_a_gpu.md). All of a source is in `namespace cmir::kernels::CMIR_DEVICE`, which
// is `cuda` or `simt`, so that both are linked into one program.
//
// What differs between the two compilers is behind:
//   launch(kernel, LaunchConfig{grid, block, shared_bytes}, arguments...)     instead of <<<>>>
//   CMIR_SHARED(float, tile, [32][33]);        instead of __shared__; one scalar: [1]
//   CMIR_DYNAMIC_SHARED(float, buffer);        instead of extern __shared__; 16-byte aligned
//   SharedPointer<T>                           instead of T* for a pointer into shared memory
//   shared_cast<U>(pointer)                    instead of reinterpret_cast<U*>
//   RegisterDevice registered{&f<float>, ...};
// A shared element is read by conversion: `float v = tile[i][j];`, not `auto`.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "core/host_device.h"
#include "kernels/kernel.h"

#if defined(__CUDACC__)

#define CMIR_DEVICE cuda
#include <cuda_runtime.h>

#include "kernels/cuda/launch_cuda.h"

#define CMIR_SHARED(type, name, ...) __shared__ __align__(16) type name __VA_ARGS__
#define CMIR_DYNAMIC_SHARED(type, name)                                \
  extern __shared__ __align__(16) unsigned char cmir_dynamic_shared[]; \
  ::cmir::kernels::cuda::SharedPointer<type> name = reinterpret_cast<type*>(cmir_dynamic_shared)

namespace cmir::kernels::cuda {

inline constexpr DeviceType kDeviceType = DeviceType::cuda;

template <class T>
using SharedPointer = T*;

template <class U, class T>
__device__ U* shared_cast(T* pointer) {
  return reinterpret_cast<U*>(pointer);
}

}  // namespace cmir::kernels::cuda

#else

#define CMIR_DEVICE simt
#include "kernels/simt/atomics.h"
#include "kernels/simt/language.h"
#include "kernels/simt/launch.h"
#include "kernels/simt/math.h"
#include "kernels/simt/shared.h"
#include "kernels/simt/warp.h"

#define CMIR_SHARED(type, name, ...)                                                           \
  static constexpr ::cmir::kernels::simt::SharedDeclaration<type __VA_ARGS__> name##_declared{ \
      #name};                                                                                  \
  const auto name = name##_declared.here()
#define CMIR_DYNAMIC_SHARED(type, name) \
  auto name = ::cmir::kernels::simt::dynamic_shared_pointer<type>(#name)

namespace cmir::kernels::simt {

inline constexpr DeviceType kDeviceType = DeviceType::simt;

template <class U, class T>
SharedPointer<U> shared_cast(const SharedPointer<T>& pointer) {
  refine_granule(*pointer.place().region, sizeof(U));
  return SharedPointer<U>(pointer.place());
}

}  // namespace cmir::kernels::simt

#endif

namespace cmir::kernels::CMIR_DEVICE {

/// Registers the functions as their argument types' variants for the device that this source is
/// compiled for: `const RegisterDevice registered{&forward<float>, ...};`
struct RegisterDevice {
  template <class... Args>
  explicit RegisterDevice(void (*... functions)(const Args&)) {
    (add(functions), ...);
  }

 private:
  template <class Args>
  static void add(void (*function)(const Args&)) {
    KernelInfo& info = kernels::detail::registration(registered_name<Args>());
    if constexpr (kDeviceType == DeviceType::cuda) {
      Variants<Args>::cuda = function;
      info.cuda = true;
    } else {
      Variants<Args>::simt = function;
      info.simt = true;
    }
  }
};

}  // namespace cmir::kernels::CMIR_DEVICE

#include "kernels/cuda/vector.h"
