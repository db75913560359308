#include "kernels/elementwise/activation.h"

#include "kernels/cuda/activation_math.cuh"
#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/dropout_mask.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

template <Activation activation, class T>
struct ForwardElement {
  const T* x;
  T* y;

  template <int N>
  __device__ void operator()(std::int64_t, std::int64_t i) const {
    auto vector = load_vector<T, N>(x + i);
    for (int k = 0; k < N; ++k) vector[k] = activate<activation>(vector[k]);
    store_vector(y + i, vector);
  }
};

template <class T>
void forward(const ActivationForward<T>& a) {
  dispatch_activation(a.activation, [&]<Activation activation>() {
    launch_map(ForwardElement<activation, T>{a.x, a.y}, 1, a.count, are_vector_aligned(a.x, a.y));
  });
}

template <Activation activation, bool dropped, class T>
struct BackwardElement {
  const T *dy, *saved;
  T* dx;  // null: not wanted
  DeviceMask mask;
  T unscale;  // what makes the activation's output of a saved output that was kept

  /// Returns what it writes to dx.
  template <int N>
  __device__ Vector<T, N> gradient(std::int64_t i) const {
    auto vector = load_vector<T, N>(dy + i);
    Vector<T, N> saved_vector{};
    if constexpr (activation != Activation::none) saved_vector = load_vector<T, N>(saved + i);
    if constexpr (!dropped) {
      for (int k = 0; k < N; ++k) vector[k] *= activation_derivative<activation>(saved_vector[k]);
    } else if constexpr (activation == Activation::relu) {
      for (int k = 0; k < N; ++k)
        vector[k] = saved_vector[k] > T{0} ? vector[k] * mask.scale : T{0};
    } else {
      const auto kept = mask.kept<N>(i);
      for (int k = 0; k < N; ++k) {
        vector[k] *= mask.scale;  // first, as where dropout is a kernel of its own
        vector[k] *= activation_derivative<activation>(saved_vector[k] * unscale);
        if (!kept[k]) vector[k] = T{0};
      }
    }
    if (dx != nullptr) store_vector(dx + i, vector);
    return vector;
  }
  template <int N>
  __device__ void operator()(std::int64_t, std::int64_t i) const {
    gradient<N>(i);
  }
};

template <class Element, class T>
struct BackwardChunk {
  using Sum = double;
  static constexpr int kSums = 1;
  Element element;
  double* workspace;  // [chunks, width]
  std::int64_t width;

  template <int N>
  __device__ void add(std::int64_t row, std::int64_t column, double (&sums)[N]) const {
    const auto gradient = element.template gradient<N>(row * width + column);
    for (int k = 0; k < N; ++k) sums[k] += static_cast<double>(gradient[k]);
  }
  template <int N>
  __device__ void store(std::int64_t chunk, std::int64_t column, const double (&sums)[N]) const {
    for (int k = 0; k < N; ++k) workspace[chunk * width + column + k] = sums[k];
  }
};

template <Activation activation, bool dropped, class T>
void launch_backward(const ActivationBackward<T>& a) {
  const bool unchanged = activation == Activation::none && !dropped && a.dx == a.dy;
  const bool scaled = dropped && saved_by(activation) == ActivationSaves::output;
  using Element = BackwardElement<activation, dropped, T>;
  const Element element{a.dy, a.saved, unchanged ? nullptr : a.dx, DeviceMask(a.dropout),
                        scaled ? static_cast<T>(1.0 - a.dropout.p) : T{1}};
  const bool aligned = are_vector_aligned(a.dy, a.saved, a.dx);  // null is
  if (a.column_sums == nullptr) {
    launch_map(element, 1, a.rows * a.width, aligned);
  } else if (a.rows > 0) {
    launch_columns(BackwardChunk<Element, T>{element, a.workspace, a.width}, a.rows, a.width,
                   a.kGrain, aligned);
  }
}

template <class T>
void backward(const ActivationBackward<T>& a) {
  dispatch_activation(a.activation, [&]<Activation activation>() {
    if (a.dropout.p > 0) {
      launch_backward<activation, true>(a);
    } else {
      launch_backward<activation, false>(a);
    }
  });
  if (a.column_sums != nullptr) {
    launch_column_totals(a.workspace, a.column_sums, 1.0, chunk_count(0, a.rows, a.kGrain), a.width,
                         a.width);
  }
}

const RegisterDevice registered{&forward<float>, &backward<float>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
