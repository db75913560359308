// Tensor maps on the host: what copy_tensor_box (kernels/cuda/warpgroup.h) is told of a matrix.
#pragma once

#include <cstdlib>
#include <string_view>

#include "kernels/cuda/warpgroup.h"

namespace cmir::kernels::CMIR_DEVICE {

inline bool warpgroups_wanted() {
  const char* wanted = std::getenv("CMIR_WARPGROUPS");
  return wanted == nullptr || std::string_view(wanted) != "0";
}

}  // namespace cmir::kernels::CMIR_DEVICE

#if defined(__CUDACC__)

namespace cmir::kernels::cuda {

using TensorMap = CUtensorMap;
inline constexpr int kTensorBoxRows = 64, kTensorBoxWidth = 64;

/// Whether the device is one of compute capability 9.0 and this build has code for sm_90a.
/// CMIR_WARPGROUPS=0 in the environment: as if not.
inline bool device_has_warpgroups() {
#if defined(CMIR_SM90A)
  static const bool has = [] {
    ::cmir::cuda::current_stream();  // makes the process's device this thread's
    int device = 0, major = 0, minor = -1;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
    return major == 9 && minor == 0;
  }();
  return has && warpgroups_wanted();
#else
  return false;
#endif
}

/// The driver's function, which needs no link with libcuda.
inline decltype(&cuTensorMapEncodeTiled) tensor_map_encoder() {
  static const auto encoder = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    const cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                                12000, cudaEnableDefault, &found);
    require(status == cudaSuccess && function != nullptr, "tensor_map",
            "the driver has no cuTensorMapEncodeTiled: {}", cudaGetErrorString(status));
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  }();
  return encoder;
}

/// Of [rows, heads, width] bf16, rows `stride` elements apart: all that takes_tensor_map() takes.
inline TensorMap make_tensor_map(const BFloat16* first, std::int64_t width, std::int64_t heads,
                                 std::int64_t rows, std::int64_t stride) {
  TensorMap map;
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(width), static_cast<cuuint64_t>(heads),
                              static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[] = {sizes[0] * sizeof(BFloat16),
                                static_cast<cuuint64_t>(stride) * sizeof(BFloat16)};
  const cuuint32_t box[] = {kTensorBoxWidth, 1, kTensorBoxRows}, steps[] = {1, 1, 1};
  const CUresult status = tensor_map_encoder()(
      &map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<BFloat16*>(first), sizes, strides, box,
      steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  require(status == CUDA_SUCCESS, "tensor_map",
          "cuTensorMapEncodeTiled: error {} for [{}, {}, {}] with rows {} apart",
          static_cast<int>(status), rows, heads, width, stride);
  return map;
}

}  // namespace cmir::kernels::cuda

#else

namespace cmir::kernels::simt {

inline bool device_has_warpgroups() { return warpgroups_wanted(); }

inline TensorMap make_tensor_map(const BFloat16* first, std::int64_t width, std::int64_t heads,
                                 std::int64_t rows, std::int64_t stride) {
  return {first, width, heads, rows, stride};
}

}  // namespace cmir::kernels::simt

#endif

namespace cmir::kernels::CMIR_DEVICE {

/// The first place from `memory` on where a panel may begin: a multiple of 1024 bytes.
__device__ inline SharedPointer<BFloat16> aligned_panels(const SharedPointer<BFloat16>& memory) {
  return memory + static_cast<int>((0U - shared_address(memory)) % 1024 / sizeof(BFloat16));
}

/// Rows and heads have to begin at multiples of 16 bytes.
inline bool takes_tensor_map(const BFloat16* first, std::int64_t width, std::int64_t rows,
                             std::int64_t stride) {
  return reinterpret_cast<std::uintptr_t>(first) % 16 == 0 && width % 8 == 0 && stride % 8 == 0 &&
         rows > 0 && rows < std::int64_t{1} << 31;
}

}  // namespace cmir::kernels::CMIR_DEVICE
