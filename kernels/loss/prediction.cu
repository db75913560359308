#include "kernels/loss/prediction.h"

#include "kernels/cuda/lanes.cuh"
#include "kernels/cuda/map.cuh"
#include "kernels/loss/scaled_sum.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

struct Point {
  float value, derivative;
};

__device__ Point point(PointwiseLossKind kind, float weight, float p, float t) {
  if (kind == PointwiseLossKind::squared) return {(p - t) * (p - t), 2 * (p - t)};
  if (kind == PointwiseLossKind::absolute) {
    const float difference = p - t;
    const auto sign =
        static_cast<float>(static_cast<int>(difference > 0) - static_cast<int>(difference < 0));
    return {fabsf(difference), difference != difference ? difference : sign};
  }
  const float e = expf(-fabsf(p));
  const float positive = (p >= 0 ? 1.0F : e) / (1 + e);  // s(p) and s(-p) without cancellation
  const float negative = (p >= 0 ? e : 1.0F) / (1 + e);
  const float tail = log1pf(e);  // ln(1 + e^-|p|)
  const float loss_of_one = tail + (p < 0 ? -p : 0.0F), loss_of_zero = tail + (p > 0 ? p : 0.0F);
  return {weight * t * loss_of_one + (1 - t) * loss_of_zero,
          (1 - t) * positive - weight * t * negative};
}

template <int kLanes>
__global__ void pointwise_loss_kernel(PointwiseLoss<float> a) {
  const std::int64_t row = row_of_lanes<kLanes>();
  if (row >= a.rows) return;
  const auto width = static_cast<float>(a.width);
  float sum = 0;
  for (std::int64_t j = threadIdx.x % kLanes; j < a.width; j += kLanes) {
    const std::int64_t i = row * a.width + j;
    const float target = a.target[row % a.target_rows * a.width + j];
    const Point at = point(a.kind, a.positive_weight, a.prediction[i], target);
    sum += at.value;
    if (a.derivatives != nullptr) a.derivatives[i] = at.derivative / width;
  }
  sum = lanes_reduce<kLanes>(sum, Sum{});
  if (threadIdx.x % kLanes == 0) a.values[row] = sum / width;
}

template <int kLanes>
__global__ void cross_entropy_kernel(CrossEntropy<float> a) {
  const std::int64_t row = row_of_lanes<kLanes>();
  if (row >= a.rows) return;
  const float* logits = a.logits + row * a.width;
  const unsigned lane = threadIdx.x % kLanes;
  float largest = logits[0], sum = 0;
  for (std::int64_t c = lane; c < a.width; c += kLanes) largest = fmaxf(largest, logits[c]);
  largest = lanes_reduce<kLanes>(largest, Maximum{});
  for (std::int64_t c = lane; c < a.width; c += kLanes) sum += expf(logits[c] - largest);
  sum = lanes_reduce<kLanes>(sum, Sum{});
  const std::int32_t chosen = a.classes[row % a.class_rows];
  if (lane == 0) a.values[row] = logf(sum) + (largest - logits[chosen]);
  for (std::int64_t c = lane; a.derivatives != nullptr && c < a.width; c += kLanes) {
    a.derivatives[row * a.width + c] =
        expf(logits[c] - largest) / sum - (c == chosen ? 1.0F : 0.0F);
  }
}

struct ScaledElement {
  ScaleRows<float> a;

  template <int N>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    const std::int64_t i = row * a.width + column;
    const float factor = static_cast<float>(a.scale) * a.cotangent[a.one_cotangent ? 0 : row];
    auto x = load_vector<float, N>(a.derivatives + i);
    for (int k = 0; k < N; ++k) x[k] *= factor;
    store_vector(a.dx + i, x);
  }
};

void pointwise_loss(const PointwiseLoss<float>& a) {
  if (a.rows == 0) return;
  launch(a.width <= kNarrow ? pointwise_loss_kernel<1> : pointwise_loss_kernel<32>,
         lanes_configuration(a.rows, a.width), a);
}

void cross_entropy(const CrossEntropy<float>& a) {
  if (a.rows == 0) return;
  launch(a.width <= kNarrow ? cross_entropy_kernel<1> : cross_entropy_kernel<32>,
         lanes_configuration(a.rows, a.width), a);
}

void mean_of_samples(const MeanOfSamples<float>& a) {
  scaled_sum(a.values, a.count, 1, 1.0 / static_cast<double>(a.count), a.mean);
}

void scale_rows(const ScaleRows<float>& a) {
  const bool one_row = a.one_cotangent;  // the matrix is taken as one
  launch_map(ScaledElement{a}, one_row ? 1 : a.rows, one_row ? a.rows * a.width : a.width,
             are_vector_aligned(a.derivatives, a.dx));
}

const RegisterDevice registered{&pointwise_loss, &cross_entropy, &mean_of_samples, &scale_rows};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
