#include "kernels/elementwise/round.h"

#include <algorithm>

#include "kernels/cuda/device.h"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

constexpr unsigned kThreads = 256;

/// A thread makes N elements: two loads and one store of 16 bytes where N is 8. The tail's elements
/// have a thread each.
template <int N>
__global__ void round_kernel(const float* x, BFloat16* y, std::int64_t count) {
  constexpr int kLoad = N == 1 ? 1 : kVectorSize<float>;
  const std::int64_t thread = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const std::int64_t vectors = count / N;
  if (thread < vectors) {
    Vector<BFloat16, N> rounded;
    for (int part = 0; part < N; part += kLoad) {
      const auto values = load_vector<float, kLoad>(x + thread * N + part);
      for (int i = 0; i < kLoad; ++i) rounded[part + i] = BFloat16(values[i]);
    }
    store_vector(y + thread * N, rounded);
  }
  const std::int64_t tail = vectors * N + thread;
  if (tail < count) y[tail] = BFloat16(x[tail]);
}

template <int N>
void launch_round(const RoundToBFloat16<float>& a) {
  const std::int64_t threads = std::max<std::int64_t>(a.count / N, N);
  launch(round_kernel<N>,
         LaunchConfig{.grid = dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads)),
                      .block = dim3(kThreads)},
         a.x, a.y, a.count);
}

void round_to_bf16(const RoundToBFloat16<float>& a) {
  if (a.count == 0) return;
  constexpr int n = kVectorSize<BFloat16>;
  if (is_vector_aligned<kVectorSize<float>>(a.x) && is_vector_aligned<n>(a.y)) {
    launch_round<n>(a);
  } else {
    launch_round<1>(a);
  }
}

const RegisterDevice registered{&round_to_bf16};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
