// The one kernel that core itself needs.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace cmir::cuda {

/// Sets `count` elements of `element_bytes` (1, 2, 4 or 8) to the one at `element` of the host.
cudaError_t launch_fill(void* device, const void* element, std::size_t element_bytes,
                        std::int64_t count, cudaStream_t stream);

}  // namespace cmir::cuda
