// The twins of kernels/cuda/ptx.h, which holds the contracts and the lane layouts. The lanes' parts
// of a matrix are gathered by the layout, multiplied as plain matrices, and given back.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "core/dtype.h"
#include "kernels/simt/async_copy.h"
#include "kernels/simt/warp.h"

namespace cmir::kernels::simt {

inline unsigned pack_bf16(float low, float high) {
  return BFloat16(low).bits | static_cast<unsigned>(BFloat16(high).bits) << 16;
}

inline unsigned to_tf32(float value) {
  const auto bits = std::bit_cast<unsigned>(value);
  const bool finite = (bits & 0x7F800000) != 0x7F800000;
  return (finite ? bits + 0x1000 : bits) & 0xFFFFE000;  // half of the last kept bit: ties go away
}

inline float exp2_approximate(float x) {
  const float power = std::exp2(x);
  return power < std::numeric_limits<float>::min() ? 0.0F : power;  // NaN stays
}

namespace detail {

/// Element `half` of register `r` of a lane, and where it is in its matrix.
struct Element {
  unsigned r, half, row, column;
};

struct Tf32 {
  static constexpr const char* name = "mma_m16n8k8_tf32";
  static constexpr unsigned depth = 8;
  static constexpr unsigned halves = 1;
  static float value(unsigned bits, unsigned) { return std::bit_cast<float>(bits & 0xFFFFE000); }
  static Element of_a(unsigned lane, unsigned r, unsigned) {
    return {r, 0, lane / 4 + r % 2 * 8, lane % 4 + r / 2 * 4};
  }
  static Element of_b(unsigned lane, unsigned r, unsigned) {
    return {r, 0, lane % 4 + r * 4, lane / 4};
  }
};

struct Bf16 {
  static constexpr const char* name = "mma_m16n8k16_bf16";
  static constexpr unsigned depth = 16;
  static constexpr unsigned halves = 2;
  static float value(unsigned bits, unsigned half) {
    return std::bit_cast<float>(bits >> (16 * half) << 16);
  }
  static Element of_a(unsigned lane, unsigned r, unsigned half) {
    return {r, half, lane / 4 + r % 2 * 8, lane % 4 * 2 + half + r / 2 * 8};
  }
  static Element of_b(unsigned lane, unsigned r, unsigned half) {
    return {r, half, lane % 4 * 2 + half + r * 8, lane / 4};
  }
};

struct Fragments {
  std::array<unsigned, 4> a;
  std::array<unsigned, 2> b;
  std::array<float, 4> d;
};

/// d += a b of one warp; sums in f64, rounded once (the GPU's order of additions is not specified).
template <class Type>
void multiply(const Lanes<Fragments, std::array<float, 4>>& lanes) {
  double a[16][Type::depth], b[Type::depth][8];
  lanes.for_each([&](unsigned lane) {
    for (unsigned half = 0; half < Type::halves; ++half) {
      for (unsigned r = 0; r < 4; ++r) {
        const Element e = Type::of_a(lane, r, half);
        a[e.row][e.column] = Type::value(lanes.in[lane]->a[r], half);
      }
      for (unsigned r = 0; r < 2; ++r) {
        const Element e = Type::of_b(lane, r, half);
        b[e.row][e.column] = Type::value(lanes.in[lane]->b[r], half);
      }
    }
  });
  lanes.for_each([&](unsigned lane) {
    for (unsigned r = 0; r < 4; ++r) {
      const unsigned row = lane / 4 + r / 2 * 8, column = lane % 4 * 2 + r % 2;
      double sum = lanes.in[lane]->d[r];
      for (unsigned k = 0; k < Type::depth; ++k) sum += a[row][k] * b[k][column];
      (*lanes.out[lane])[r] = static_cast<float>(sum);
    }
  });
}

template <class Type>
void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], Location where) {
  const Fragments mine{std::to_array(a), std::to_array(b), std::to_array(d)};
  const auto result = warp_operation<std::array<float, 4>>(
      Type::name, 0xFFFFFFFF, mine, [](const auto& lanes) { multiply<Type>(lanes); }, where);
  std::copy(result.begin(), result.end(), d);
}

using MatrixRow = std::array<std::uint16_t, 8>;

template <unsigned Count, class T>
void load_matrices(const char* name, unsigned (&r)[Count], const SharedPointer<T>& row,
                   bool transposed, Location where) {
  MatrixRow mine{};
  if (lane_index() < 8 * Count) {
    const SharedPlace place{row.place().region, row.place().offset, where};
    std::memcpy(&mine, use_shared(place, sizeof(mine), SharedUse::read, sizeof(T)), sizeof(mine));
  }
  const auto result = exchange<std::array<unsigned, Count>>(
      name, 0xFFFFFFFF, mine,
      [transposed](const auto& lanes, unsigned lane) {
        std::array<unsigned, Count> registers;
        for (unsigned j = 0; j < Count; ++j) {
          const auto element = [&](unsigned i, unsigned k) -> unsigned {
            return (*lanes.in[8 * j + (transposed ? k : i)])[transposed ? i : k];
          };
          const unsigned group = lane / 4, pair = lane % 4;
          registers[j] = element(group, 2 * pair) | element(group, 2 * pair + 1) << 16;
        }
        return registers;
      },
      where);
  std::copy(result.begin(), result.end(), r);
}

}  // namespace detail

inline void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                             Location where = Location::current()) {
  detail::mma<detail::Tf32>(d, a, b, where);
}
inline void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                              Location where = Location::current()) {
  detail::mma<detail::Bf16>(d, a, b, where);
}

template <unsigned Count, class T>
requires(Count == 1 || Count == 2 ||
         Count == 4) void ldmatrix(unsigned (&r)[Count], const SharedPointer<T>& row,
                                   Location where = Location::current()) {
  detail::load_matrices("ldmatrix", r, row, false, where);
}
template <unsigned Count, class T>
requires(Count == 1 || Count == 2 ||
         Count == 4) void ldmatrix_trans(unsigned (&r)[Count], const SharedPointer<T>& row,
                                         Location where = Location::current()) {
  detail::load_matrices("ldmatrix_trans", r, row, true, where);
}

template <class T>
void cp_async_4(const SharedPointer<T>& target, const std::type_identity_t<T>* source,
                int copied = 4, Location where = Location::current()) {
  issue_async_copy({target.place().region, target.place().offset, where}, source, 4, copied);
}
template <class T>
void cp_async_8(const SharedPointer<T>& target, const std::type_identity_t<T>* source,
                int copied = 8, Location where = Location::current()) {
  issue_async_copy({target.place().region, target.place().offset, where}, source, 8, copied);
}
template <class T>
void cp_async_16(const SharedPointer<T>& target, const std::type_identity_t<T>* source,
                 int copied = 16, Location where = Location::current()) {
  issue_async_copy({target.place().region, target.place().offset, where}, source, 16, copied);
}

template <int kId>
void named_barrier(int threads, Location where = Location::current()) {
  part_barrier(kId, threads, where);
}

inline void cp_async_commit() { commit_async_copies(); }
template <int Keep>
void cp_async_wait_group() {
  wait_async_copies(Keep);
}

}  // namespace cmir::kernels::simt
