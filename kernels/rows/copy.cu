#include "kernels/rows/copy.h"

#include "kernels/cuda/map.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

template <class T>
struct CopyElement {
  CopyColumns<T> c;

  template <int N>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    store_vector(c.y + row * c.y_stride + column,
                 load_vector<T, N>(c.x + row * c.x_stride + column));
  }
};

template <class T>
void copy_columns(const CopyColumns<T>& c) {
  const bool strides_keep_alignment =
      c.rows == 1 || (c.x_stride | c.y_stride) % kVectorSize<T> == 0;
  launch_map(CopyElement<T>{c}, c.rows, c.width,
             strides_keep_alignment && are_vector_aligned(c.x, c.y));
}

const RegisterDevice registered{&copy_columns<float>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
