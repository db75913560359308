#include "kernels/dropout/dropout.h"

#include "kernels/cuda/dropout_mask.cuh"
#include "kernels/cuda/map.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

template <class T>
struct DropoutElement {
  const T* x;
  T* y;
  DeviceMask mask;

  template <int N>
  __device__ void operator()(std::int64_t, std::int64_t i) const {
    const auto kept = mask.kept<N>(i);
    auto vector = load_vector<T, N>(x + i);
    for (int k = 0; k < N; ++k) vector[k] = kept[k] ? vector[k] * mask.scale : T{0};
    store_vector(y + i, vector);
  }
};

template <class T>
void dropout(const Dropout<T>& d) {
  launch_map(DropoutElement<T>{d.x, d.y, DeviceMask(d.mask())}, 1, d.count,
             are_vector_aligned(d.x, d.y));
}

const RegisterDevice registered{&dropout<float>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
