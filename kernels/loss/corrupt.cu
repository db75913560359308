#include "kernels/loss/corrupt.h"

#include "kernels/cuda/map.cuh"
#include "kernels/cuda/random.cuh"
#include "kernels/loss/fours.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

__device__ void add_gaussian(const Corrupt<float>& a, std::int64_t first, Vector<float, 4>& x) {
  const auto keep = static_cast<float>(1 - a.rate), rate = static_cast<float>(a.rate);
  for (int k = 0; k < 4; ++k) x[k] *= keep;
  if (a.linear_part_only) return;
  const auto noise = random_normals(a.stream, static_cast<std::uint64_t>(first) / 4);
  for (int k = 0; k < 4; ++k) x[k] += rate * noise[k];
}

/// The lowest bit of a word is a Laplace number's sign: uniforms use the upper 24.
__device__ float laplace_of(std::uint32_t word, float scale) {
  const float magnitude = scale * exponential_of(word);
  return (word & 1U) != 0 ? -magnitude : magnitude;
}

__device__ void add_laplace_or_erase(const Corrupt<float>& a, std::int64_t first,
                                     Vector<float, 4>& x) {
  const auto keep = static_cast<float>(1 - a.rate), rate = static_cast<float>(a.rate);
  const auto words = random_words(a.stream, static_cast<std::uint64_t>(first) / 4);
  CorruptionKind kind = a.kind;
  std::int64_t row = first / a.width, next = row * a.width;  // next: where a row begins
  for (int k = 0; k < 4; ++k) {
    if (a.kind == CorruptionKind::laplace_or_erase && (k == 0 || first + k == next)) {
      if (k > 0) ++row;
      next = (row + 1) * a.width;
      kind = corruption_of_word(
          random_word(a.stream, kCorruptionChoices + static_cast<std::uint64_t>(row)));
    }
    if (kind == CorruptionKind::erase) {
      if (RandomStream::uniform_of(words[k]) < rate) x[k] = 0;
    } else {
      x[k] *= keep;
      if (!a.linear_part_only) {
        x[k] += rate * laplace_of(words[k], static_cast<float>(a.laplace_scale));
      }
    }
  }
}

template <bool kVector>
__global__ void corrupt_kernel(Corrupt<float> a) {
  const std::int64_t count = a.rows * a.width, first = first_of_four();
  if (first >= count) return;
  auto x = load_four<kVector>(a.x, first, count);
  if (a.kind == CorruptionKind::gaussian) {
    add_gaussian(a, first, x);
  } else {
    add_laplace_or_erase(a, first, x);
  }
  store_four<kVector>(a.y, first, count, x);
}

void corrupt(const Corrupt<float>& a) {
  const std::int64_t count = a.rows * a.width;
  if (count == 0) return;
  const bool vector = are_vector_aligned(a.x, a.y);
  launch(vector ? corrupt_kernel<true> : corrupt_kernel<false>, four_each(count), a);
}

const RegisterDevice registered{&corrupt};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
