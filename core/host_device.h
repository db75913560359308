// CMIR_HOST_DEVICE: marks a function of core that device code calls too.
#pragma once

#if defined(__CUDACC__)
#define CMIR_HOST_DEVICE __host__ __device__
#else
#define CMIR_HOST_DEVICE
#endif
