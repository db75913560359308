#include "kernels/information/leave_one_out.h"

#include <limits>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/rows.cuh"
#include "kernels/loss/scaled_sum.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

__device__ float finite_or_zero(float largest) {
  return largest == kMinusInfinity ? 0.0F : largest;
}

/// ln sum exp over the scores of row `from + row`, which a thread walks through as they come.
struct SumOfRow {
  LeaveOneOutForward<float> l;
  std::int64_t stride, from;

  template <int kThreads, int N>
  __device__ void operator()(std::int64_t row, std::int64_t first) const {
    const std::int64_t sample = from + row;
    float largest = kMinusInfinity;
    double sum = 0;
    for (std::int64_t j = first; j < l.samples; j += kThreads * N) {
      auto s = load_vector<float, N>(l.workspace + row * stride + j);
      float top = largest, part = 0;
      for (int n = 0; n < N; ++n) {
        if (j + n == sample) s[n] = kMinusInfinity;
        top = fmaxf(top, s[n]);
      }
      const float shift = finite_or_zero(top);
      for (int n = 0; n < N; ++n) part += expf(s[n] - shift);
      sum = sum * static_cast<double>(expf(largest - shift)) + static_cast<double>(part);
      largest = top;
    }
    const float top = row_reduce<kThreads>(largest, Maximum{});
    sum *= static_cast<double>(expf(largest - finite_or_zero(top)));
    sum = row_reduce<kThreads>(sum, Sum{});
    if (first != 0) return;
    const double others = log(static_cast<double>(l.samples - 1));
    l.largest[sample] = top;
    l.sum[sample] = sum;
    l.of_rows[sample] = l.own[sample] - (static_cast<double>(top) + log(sum)) + others;
  }
};

/// The scores of a band become -factor P.
struct Weigh {
  LeaveOneOutBackward<float> l;
  std::int64_t stride, from;

  template <int N>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    const std::int64_t sample = from + row;
    const double factor = l.scale * static_cast<double>(*l.cotangent);
    const auto weight = static_cast<float>(-factor / l.sum[sample]);
    float* place = l.workspace + row * stride + column;
    auto s = load_vector<float, N>(place);
    for (int n = 0; n < N; ++n) {
      s[n] = column + n == sample ? 0.0F : weight * expf(s[n] - l.largest[sample]);
    }
    store_vector(place, s);
  }
};

/// Calls f(row, rows) for each band, its scores in the workspace.
template <class Args, class F>
void for_each_band(const Args& l, F&& f) {
  for (std::int64_t row = 0; row < l.samples; row += kLeaveOneOutDeviceRows) {
    const std::int64_t rows = std::min(kLeaveOneOutDeviceRows, l.samples - row);
    product(Gemm<float>{.transpose_b = true,
                        .m = rows,
                        .n = l.samples,
                        .k = l.depth,
                        .a = l.a + row * l.depth,
                        .lda = l.depth,
                        .b = l.b,
                        .ldb = l.depth,
                        .c = l.workspace,
                        .ldc = leave_one_out_stride(l.samples)});
    f(row, rows);
  }
}

void forward(const LeaveOneOutForward<float>& l) {
  const std::int64_t stride = leave_one_out_stride(l.samples);
  for_each_band(l, [&](std::int64_t row, std::int64_t rows) {
    launch_rows(SumOfRow{l, stride, row}, rows, l.samples, are_vector_aligned(l.workspace));
  });
  scaled_sum(l.of_rows, l.samples, 1, l.scale, l.value);
}

/// da = P b or, with `of_b`, db += P^T a, of a band whose P is in the workspace.
void add_gradient(const LeaveOneOutBackward<float>& l, std::int64_t row, std::int64_t rows,
                  bool of_b) {
  product(Gemm<float>{.transpose_a = of_b,
                      .m = of_b ? l.samples : rows,
                      .n = l.depth,
                      .k = of_b ? rows : l.samples,
                      .a = l.workspace,
                      .lda = leave_one_out_stride(l.samples),
                      .b = of_b ? l.a + row * l.depth : l.b,
                      .ldb = l.depth,
                      .beta = of_b && row > 0 ? 1.0F : 0.0F,
                      .c = of_b ? l.db : l.da + row * l.depth,
                      .ldc = l.depth});
}

void backward(const LeaveOneOutBackward<float>& l) {
  const std::int64_t stride = leave_one_out_stride(l.samples);
  for_each_band(l, [&](std::int64_t row, std::int64_t rows) {
    launch_map(Weigh{l, stride, row}, rows, l.samples, are_vector_aligned(l.workspace));
    if (l.da != nullptr) add_gradient(l, row, rows, false);
    if (l.db != nullptr) add_gradient(l, row, rows, true);
  });
}

const RegisterDevice registered{&forward, &backward};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
