#include "kernels/dropout/dropout.h"

#include "kernels/cuda/map.cuh"
#include "kernels/cuda/random.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

template <class T>
struct DropoutElement {
  const T* x;
  T* y;
  T scale;
  std::uint32_t threshold;
  RandomStream stream;

  template <int N>
  __device__ void operator()(std::int64_t, std::int64_t i) const {
    static_assert(N == 1 || N == 4);
    Vector<std::uint32_t, N> words;
    if constexpr (N == 4) {
      words = random_words(stream, static_cast<std::uint64_t>(i) / 4);
    } else {
      words[0] = random_word(stream, static_cast<std::uint64_t>(i));
    }
    auto vector = load_vector<T, N>(x + i);
    for (int k = 0; k < N; ++k) vector[k] = words[k] >> 8 >= threshold ? vector[k] * scale : T{0};
    store_vector(y + i, vector);
  }
};

template <class T>
void dropout(const Dropout<T>& d) {
  launch_map(
      DropoutElement<T>{d.x, d.y, static_cast<T>(1.0 / (1.0 - d.p)), d.threshold(), d.stream}, 1,
      d.count, are_vector_aligned(d.x, d.y));
}

const RegisterDevice registered{&dropout<float>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
