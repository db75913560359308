// The same for the host model, so that it runs without a GPU.
#include "bench/cuda/materialised.cu"
