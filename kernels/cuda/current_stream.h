// The stream that launches and copies go to.
#pragma once

#include <cuda_runtime_api.h>

namespace cmir::kernels::cuda {

/// The default stream.
inline cudaStream_t current_stream() { return nullptr; }

}  // namespace cmir::kernels::cuda
