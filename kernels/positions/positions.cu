#include "kernels/positions/positions.h"

#include "kernels/cuda/map.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

constexpr std::int64_t kSlices = 8;  // threads that share a sample's positions

template <class T>
struct PositionsSlice {
  AddPositions<T> a;

  template <int N>
  __device__ void operator()(std::int64_t slice, std::int64_t column) const {
    const std::int64_t sample = slice / kSlices;
    const std::int64_t begin = a.offsets[sample], length = a.offsets[sample + 1] - begin;
    for (std::int64_t p = slice % kSlices; p < length; p += kSlices) {
      auto vector = load_vector<T, N>(a.x + (begin + p) * a.width + column);
      const auto table = load_vector<T, N>(a.table + p * a.width + column);
      for (int k = 0; k < N; ++k) vector[k] = a.scale * vector[k] + table[k];
      store_vector(a.y + (begin + p) * a.width + column, vector);
    }
  }
};

template <class T>
void add_positions(const AddPositions<T>& a) {
  launch_map(PositionsSlice<T>{a}, a.samples * kSlices, a.width,
             are_vector_aligned(a.x, a.table, a.y));
}

/// A thread sums some columns of one position.
template <class T>
struct TablePosition {
  PositionsBackwardTable<T> a;

  template <int N>
  __device__ void operator()(std::int64_t position, std::int64_t column) const {
    Vector<T, N> sum{};
    std::int64_t begin = a.offsets[0];
    for (std::int64_t sample = 0; sample < a.samples; ++sample) {
      const std::int64_t end = a.offsets[sample + 1];
      if (begin + position < end) {
        const auto dy = load_vector<T, N>(a.dy + (begin + position) * a.width + column);
        for (int k = 0; k < N; ++k) sum[k] += dy[k];
      }
      begin = end;
    }
    store_vector(a.dtable + position * a.width + column, sum);
  }
};

template <class T>
void backward_table(const PositionsBackwardTable<T>& a) {
  const bool rows_are_aligned = a.width % kVectorSize<T> == 0 && are_vector_aligned(a.dy, a.dtable);
  launch_map(TablePosition<T>{a}, a.positions, a.width, rows_are_aligned);
}

const RegisterDevice registered{&add_positions<float>, &backward_table<float>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
