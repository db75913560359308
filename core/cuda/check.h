// Checks of CUDA calls, for sources that are compiled with CUDA.
#pragma once

#include <cuda_runtime_api.h>

#include <string_view>

namespace cmir::cuda {

/// Throws an Error (kind io) that names the call, the op under way (core/range.h) and CUDA's words,
/// unless `status` is success.
void check(cudaError_t status, std::string_view call);

}  // namespace cmir::cuda
