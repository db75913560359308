#include "kernels/invariance/loss_slope.h"

#include "kernels/cuda/lanes.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

struct Point {
  float slope, derivative;
};

__device__ Point point(PointwiseLossKind kind, float weight, float f, float t) {
  if (kind == PointwiseLossKind::squared) return {2 * f * (f - t), 2 * (f + (f - t))};
  if (kind == PointwiseLossKind::absolute) {
    const float difference = f - t;
    const auto sign =
        static_cast<float>(static_cast<int>(difference > 0) - static_cast<int>(difference < 0));
    const float slope = difference != difference ? difference : sign;
    return {f * slope, slope};
  }
  const float e = expf(-fabsf(f));
  const float larger = 1 / (1 + e), smaller = e * larger;
  const float positive = f < 0 ? smaller : larger;  // s(f) and s(-f), each without cancellation
  const float negative = f < 0 ? larger : smaller;
  const float slope = (1 - t) * positive - weight * t * negative;
  return {f * slope, slope + f * (larger * smaller) * (1 - t + weight * t)};
}

template <int kLanes>
__global__ void pointwise_slope_kernel(PointwiseSlope<float> a) {
  const std::int64_t row = row_of_lanes<kLanes>();
  if (row >= a.rows) return;
  const std::int64_t target = row % a.target_rows * a.width;
  const auto width = static_cast<float>(a.width);
  float sum = 0;
  for (std::int64_t j = threadIdx.x % kLanes; j < a.width; j += kLanes) {
    const std::int64_t i = row * a.width + j;
    const Point at = point(a.kind, a.positive_weight, a.prediction[i], a.target[target + j]);
    sum += at.slope;
    if (a.derivatives != nullptr) a.derivatives[i] = at.derivative / width;
  }
  sum = lanes_reduce<kLanes>(sum, Sum{});
  if (threadIdx.x % kLanes == 0) a.slopes[row] = sum / width;
}

template <int kLanes>
__global__ void cross_entropy_slope_kernel(CrossEntropySlope<float> a) {
  const std::int64_t row = row_of_lanes<kLanes>();
  if (row >= a.rows) return;
  const float* logits = a.logits + row * a.width;
  const unsigned lane = threadIdx.x % kLanes;
  const std::int64_t chosen = a.classes[row % a.class_rows];
  float largest = logits[0], others = 0, moment = 0;
  for (std::int64_t c = lane; c < a.width; c += kLanes) largest = fmaxf(largest, logits[c]);
  largest = lanes_reduce<kLanes>(largest, Maximum{});
  for (std::int64_t c = lane; c < a.width; c += kLanes) {
    const float u = logits[c] - largest, e = expf(u);
    others += c == chosen ? 0.0F : e;
    moment += e * u;
  }
  others = lanes_reduce<kLanes>(others, Sum{});
  moment = lanes_reduce<kLanes>(moment, Sum{});
  const float u_chosen = logits[chosen] - largest, e_chosen = expf(u_chosen);
  const float sum = others + e_chosen, mean = moment / sum;
  if (lane == 0) a.slopes[row] = mean - u_chosen;
  for (std::int64_t c = lane; a.derivatives != nullptr && c < a.width; c += kLanes) {
    const float u = logits[c] - largest, p = expf(u) / sum;
    a.derivatives[row * a.width + c] =
        c == chosen ? p * (u - mean) - others / sum : p * (1 + (u - mean));
  }
}

void pointwise_slope(const PointwiseSlope<float>& a) {
  if (a.rows == 0) return;
  launch(a.width <= kNarrow ? pointwise_slope_kernel<1> : pointwise_slope_kernel<32>,
         lanes_configuration(a.rows, a.width), a);
}

void cross_entropy_slope(const CrossEntropySlope<float>& a) {
  if (a.rows == 0) return;
  launch(a.width <= kNarrow ? cross_entropy_slope_kernel<1> : cross_entropy_slope_kernel<32>,
         lanes_configuration(a.rows, a.width), a);
}

const RegisterDevice registered{&pointwise_slope, &cross_entropy_slope};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
