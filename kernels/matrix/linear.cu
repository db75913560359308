#include "kernels/matrix/linear.h"

#include "kernels/cuda/activation_math.cuh"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/dropout_mask.cuh"
#include "kernels/cuda/map.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

/// What the product left to do: y += bias, pre_activation = y, y = activation(y).
template <Activation activation>
struct Epilogue {
  const float* bias;  // or null
  float* pre_activation;
  float* y;
  std::int64_t out;
  bool has_product;  // else y is not read, and taken as 0

  template <int N>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    Vector<float, N> b{};
    if (bias != nullptr) b = load_vector<float, N>(bias + column);
    store_vector(y + row * out + column, activated(row * out + column, b));
  }

  /// Elements i .. i + N - 1, whose biases are b.
  template <int N>
  __device__ Vector<float, N> activated(std::int64_t i, const Vector<float, N>& b) const {
    Vector<float, N> z = b;
    if (has_product) {
      z = load_vector<float, N>(y + i);
      for (int k = 0; k < N; ++k) z[k] += b[k];
    }
    if (pre_activation != nullptr) store_vector(pre_activation + i, z);
    for (int k = 0; k < N; ++k) z[k] = activate<activation>(z[k]);
    return z;
  }
};

/// The same with dropout behind it, over the result as one row: so four elements share a Philox
/// block whatever the width is.
template <Activation activation>
struct DroppedEpilogue {
  Epilogue<activation> before;
  DeviceMask mask;

  template <int N>
  __device__ void operator()(std::int64_t, std::int64_t i) const {
    Vector<float, N> b{};
    if (before.bias != nullptr) {
      std::int64_t column = i % before.out;
      for (int k = 0; k < N; ++k) {
        b[k] = before.bias[column];
        column = column + 1 == before.out ? 0 : column + 1;
      }
    }
    auto y = before.activated(i, b);
    const auto kept = mask.kept<N>(i);
    for (int k = 0; k < N; ++k) y[k] = kept[k] ? y[k] * mask.scale : 0.0F;
    store_vector(before.y + i, y);
  }
};

template <class T>
Gemm<T> plain_product(const LinearForward<T>& a) {
  return {.transpose_b = true,
          .m = a.rows,
          .n = a.out,
          .k = a.in,
          .a = a.x,
          .lda = a.in,
          .b = a.weight,
          .ldb = a.in,
          .c = a.y,
          .ldc = a.out,
          .tf32 = a.tf32};
}

template <class T>
void linear(const LinearForward<T>& a) {
  if (a.rows == 0 || a.out == 0) return;
  const bool has_product = a.in > 0, dropped = a.dropout.p > 0;
  // cuBLASLt asks 16 bytes of a bias; an activation's input is wanted before it is applied.
  bool bias = has_product && a.bias != nullptr && are_vector_aligned(a.bias) && !dropped;
  const bool all = is_one_product(a), relu = a.activation == Activation::relu;
  const bool fused = has_product && linear_product(a, bias, all && relu);
  if (all && fused) return;
  if (has_product && !fused) {
    product(plain_product(a));
    bias = false;  // not added yet
  }
  dispatch_activation(a.activation, [&]<Activation activation>() {
    const Epilogue<activation> epilogue{bias ? nullptr : a.bias, a.pre_activation, a.y, a.out,
                                        has_product};
    if (dropped) {
      launch_map(DroppedEpilogue<activation>{epilogue, DeviceMask(a.dropout)}, 1, a.rows * a.out,
                 are_vector_aligned(a.pre_activation, a.y));
    } else {
      launch_map(epilogue, a.rows, a.out, are_vector_aligned(epilogue.bias, a.pre_activation, a.y));
    }
  });
}

const RegisterDevice registered{&linear<float>, &linear<BFloat16>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
