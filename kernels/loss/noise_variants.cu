#include "kernels/loss/noise_variants.h"

#include "kernels/cuda/map.cuh"
#include "kernels/cuda/random.cuh"
#include "kernels/loss/fours.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

/// The normals of elements first .. first + 3, which lie in one Philox block or in two.
__device__ Vector<float, 4> normals_from(const RandomStream& stream, std::uint64_t first) {
  const auto low = random_normals(stream, first / 4);
  const auto shift = static_cast<unsigned>(first % 4);
  if (shift == 0) return low;
  const auto high = random_normals(stream, first / 4 + 1);
  Vector<float, 4> normals;
  for (unsigned k = 0; k < 4; ++k) {
    normals[k] = k + shift < 4 ? select(low, k + shift) : select(high, k + shift - 4);
  }
  return normals;
}

/// The grid's y is the environment, 0 the clean one.
template <bool kVector>
__global__ void noise_variants_kernel(NoiseVariantsForward<float> a) {
  const std::int64_t first = first_of_four();
  if (first >= a.count) return;
  const auto x = load_four<kVector>(a.x, first, a.count);
  for (std::int64_t e = blockIdx.y; e <= a.environments; e += gridDim.y) {
    auto y = x;
    if (e > 0) {
      const auto alpha = static_cast<float>(a.alpha * static_cast<double>(e));
      const auto normals =
          normals_from(a.stream, static_cast<std::uint64_t>((e - 1) * a.count + first));
      for (int k = 0; k < 4; ++k) y[k] += alpha * normals[k];
    }
    store_four<kVector>(a.y + e * a.count, first, a.count, y);
  }
}

struct SumOfBlocks {
  NoiseVariantsBackward<float> a;

  template <int N>
  __device__ void operator()(std::int64_t, std::int64_t i) const {
    auto sum = load_vector<float, N>(a.dy + i);
    for (std::int64_t block = 1; block < a.blocks; ++block) {
      const auto dy = load_vector<float, N>(a.dy + block * a.count + i);
      for (int k = 0; k < N; ++k) sum[k] += dy[k];
    }
    store_vector(a.dx + i, sum);
  }
};

void forward(const NoiseVariantsForward<float>& a) {
  if (a.count == 0) return;
  const bool vector = a.count % 4 == 0 && are_vector_aligned(a.x, a.y);
  launch(vector ? noise_variants_kernel<true> : noise_variants_kernel<false>,
         four_each(a.count, a.environments + 1), a);
}

void backward(const NoiseVariantsBackward<float>& a) {
  launch_map(SumOfBlocks{a}, 1, a.count, a.count % 4 == 0 && are_vector_aligned(a.dy, a.dx));
}

const RegisterDevice registered{&forward, &backward};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
