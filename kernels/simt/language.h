// CUDA's keywords, for g++. `__shared__` is not among them: shared memory is declared with
// CMIR_SHARED and CMIR_DYNAMIC_SHARED.
#pragma once

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
