// The packed layout of a small matrix's right-hand side, and how much workspace it takes.
#pragma once

#include <cstdint>

namespace cmir::kernels::cpu {

/// Columns of the widest panel of any instruction set: two 64-byte vectors.
template <class T>
inline constexpr std::int64_t kWidestPanel = 128 / static_cast<std::int64_t>(sizeof(T));

/// Elements that a [depth, columns] matrix takes when packed for multiply_add
/// (kernels/cpu/small_matrix.h), whatever the instruction set: its columns are rounded up to whole
/// panels.
template <class T>
constexpr std::int64_t packed_size(std::int64_t depth, std::int64_t columns) {
  return (columns + kWidestPanel<T> - 1) / kWidestPanel<T> * kWidestPanel<T> * depth;
}

}  // namespace cmir::kernels::cpu
