#include "kernels/elementwise/binary.h"

#include "kernels/cuda/map.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

template <BinaryOperation operation, class T>
__device__ T apply(T a, T b) {
  if constexpr (operation == BinaryOperation::add) return a + b;
  if constexpr (operation == BinaryOperation::subtract) return a - b;
  if constexpr (operation == BinaryOperation::multiply) return a * b;
}

template <BinaryOperation operation, class T>
struct BinaryElement {
  const T *a, *b;
  T* y;
  std::int64_t width;
  bool b_is_scalar;

  template <int N>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    auto vector = load_vector<T, N>(a + row * width + column);
    const auto other = load_or_repeat<N>(b, column, b_is_scalar);
    for (int k = 0; k < N; ++k) vector[k] = apply<operation>(vector[k], other[k]);
    store_vector(y + row * width + column, vector);
  }
};

template <class T>
void binary(const Binary<T>& f) {
  const bool b_is_scalar = f.width == 1;  // then a column is taken as one row
  const std::int64_t rows = b_is_scalar ? 1 : f.rows, width = b_is_scalar ? f.rows : f.width;
  const bool aligned = are_vector_aligned(f.a, f.y) && (b_is_scalar || are_vector_aligned(f.b));
  const auto run_operation = [&]<BinaryOperation operation>() {
    launch_map(BinaryElement<operation, T>{f.a, f.b, f.y, width, b_is_scalar}, rows, width,
               aligned);
  };
  switch (f.operation) {
    case BinaryOperation::add:
      return run_operation.template operator()<BinaryOperation::add>();
    case BinaryOperation::subtract:
      return run_operation.template operator()<BinaryOperation::subtract>();
    case BinaryOperation::multiply:
      return run_operation.template operator()<BinaryOperation::multiply>();
  }
}

const RegisterDevice registered{&binary<float>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
