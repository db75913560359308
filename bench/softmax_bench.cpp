// Masked softmax against plain loops.
#include "kernels/softmax/softmax.h"

#include <algorithm>

#include "bench/harness.h"

namespace cmir::kernels {
namespace {

using namespace bench;

struct Data {
  std::int64_t rows, width;
  Array<std::int64_t> lengths;
  Array<float> x, dy, y, dx;

  explicit Data(benchmark::State& state)
      : rows(state.range(0)),
        width(state.range(1)),
        lengths(rows),
        x(normals(rows * width, 1)),
        dy(normals(rows * width, 2)),
        y(rows * width),
        dx(rows * width) {
    for (std::int64_t r = 0; r < rows; ++r) lengths[r] = width - r % (width / 4);
  }
  SoftmaxForward<float> forward() { return {x.data(), lengths.data(), y.data(), rows, width}; }
  SoftmaxBackward<float> backward() {
    return {y.data(), lengths.data(), dy.data(), dx.data(), rows, width};
  }
};

std::vector<float> naive(const Data& d) {
  std::vector<float> y(d.rows * d.width);
  for (std::int64_t r = 0; r < d.rows; ++r) {
    const float* x = &d.x[r * d.width];
    float* out = y.data() + r * d.width;
    const float maximum = *std::max_element(x, x + d.lengths[r]);
    float sum = 0;
    for (std::int64_t j = 0; j < d.lengths[r]; ++j) sum += out[j] = std::exp(x[j] - maximum);
    for (std::int64_t j = 0; j < d.lengths[r]; ++j) out[j] /= sum;
  }
  return y;
}
std::vector<float> naive_backward(const Data& d) {
  std::vector<float> dx(d.rows * d.width);
  for (std::int64_t r = 0; r < d.rows; ++r) {
    float dot = 0;
    for (std::int64_t j = 0; j < d.width; ++j) dot += d.y[r * d.width + j] * d.dy[r * d.width + j];
    for (std::int64_t j = 0; j < d.width; ++j) {
      dx[r * d.width + j] = d.y[r * d.width + j] * (d.dy[r * d.width + j] - dot);
    }
  }
  return dx;
}

void forward_naive(benchmark::State& state) {
  Data d(state);
  time_calls(
      state, [&] { benchmark::DoNotOptimize(naive(d)); }, cost_of(d.forward()));
}
void forward(benchmark::State& state) {
  Data d(state);
  measure(state, d.forward(), [&] {
    hand_over(state, [&] {
      return NamedTensors{
          {"x", tensor_of(d.x)}, {"lengths", tensor_of(d.lengths)}, {"out.y", tensor_of(d.y)}};
    });
    return agree(state, d.y, naive(d), 1e-6);
  });
}
void backward_naive(benchmark::State& state) {
  Data d(state);
  run({}, d.forward());
  time_calls(
      state, [&] { benchmark::DoNotOptimize(naive_backward(d)); }, cost_of(d.backward()));
}
void backward(benchmark::State& state) {
  Data d(state);
  run(device(), d.forward());
  d.y.fetch();
  measure(state, d.backward(), [&] {
    hand_over(state, [&] {
      return NamedTensors{
          {"y", tensor_of(d.y)}, {"dy", tensor_of(d.dy)}, {"out.dx", tensor_of(d.dx)}};
    });
    return agree(state, d.dx, naive_backward(d), 1e-5);
  });
}

const Table kTable = {{"rows", "width"},
                      {{2400, 12}, {12000, 12}, {12000, 50}, {600, 600}},
                      {{1 << 20, 50}, {1 << 16, 600}}};
const Register registered{{
    kernel<SoftmaxForward<float>>(kTable, forward),
    peer<SoftmaxForward<float>>("naive", kTable, forward_naive),
    kernel<SoftmaxBackward<float>>(kTable, backward),
    peer<SoftmaxBackward<float>>("naive", kTable, backward_naive),
}};

}  // namespace
}  // namespace cmir::kernels
