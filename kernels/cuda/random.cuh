// The numbers of core/philox.h on a device: the words and uniforms bit for bit, the normals within
// f32 rounding. Four elements at a time, since a Philox block serves four.
#pragma once

#include "core/philox.h"
#include "kernels/cuda/device.h"

namespace cmir::kernels::CMIR_DEVICE {

/// The words of elements 4 block .. 4 block + 3.
__device__ inline Vector<std::uint32_t, 4> random_words(const RandomStream& stream,
                                                        std::uint64_t block) {
  const auto words = stream.words(block);
  return {{words[0], words[1], words[2], words[3]}};
}

/// One element of a vector. An index that is not known at compile time would put the vector into
/// local memory.
template <class T>
__device__ T select(const Vector<T, 4>& vector, unsigned i) {
  const T low = i == 0 ? vector[0] : vector[1], high = i == 2 ? vector[2] : vector[3];
  return i < 2 ? low : high;
}

/// The word of one element. Costs as much as all four of its block.
__device__ inline std::uint32_t random_word(const RandomStream& stream, std::uint64_t element) {
  return select(random_words(stream, element / 4), static_cast<unsigned>(element % 4));
}

/// cos and sin of 2 pi u for u in [0, 1): reduced to |t| <= 1/8 turn, which is exact, then Taylor
/// polynomials. Absolute error <= 2e-7. (cosf would take a path through local memory into account.)
__device__ inline float2 cos_sin_turn(float u) {
  const int quarter = __float2int_rn(u * 4.0F);  // 0 .. 4
  const float t = (u - static_cast<float>(quarter) * 0.25F) * 6.28318531F;
  const float z = t * t;
  const float s = t + t * z * (-0.1666666465F + z * (0.008332745936F + z * -0.0001958738707F));
  const float c = 1.0F + z * (-0.5F + z * (1.0F / 24 + z * (-1.0F / 720 + z * (1.0F / 40320))));
  const int q = quarter & 3;
  const float cosine = (q & 1) != 0 ? s : c, sine = (q & 1) != 0 ? c : s;
  return make_float2(q == 1 || q == 2 ? -cosine : cosine, q >= 2 ? -sine : sine);
}

/// -ln(u) for u = (24 bits + 1) / 2^24 in (0, 1]: a standard exponential.
__device__ inline float exponential_of(std::uint32_t word) {
  return -logf((static_cast<float>(word >> 8) + 1.0F) * 0x1p-24F);
}

/// RandomStream::normal_pair.
__device__ inline float2 normal_pair(std::uint32_t a, std::uint32_t b) {
  const float radius = sqrtf(2.0F * exponential_of(a));
  const float2 turn = cos_sin_turn(RandomStream::uniform_of(b));
  return make_float2(radius * turn.x, radius * turn.y);
}

/// The standard normals of elements 4 block .. 4 block + 3.
__device__ inline Vector<float, 4> random_normals(const RandomStream& stream, std::uint64_t block) {
  const auto words = random_words(stream, block);
  const float2 low = normal_pair(words[0], words[1]), high = normal_pair(words[2], words[3]);
  return {{low.x, low.y, high.x, high.y}};
}

}  // namespace cmir::kernels::CMIR_DEVICE
