// Conv1D over packed sequences against plain loops, and against gathering every window and one BLAS
// product.
#include "kernels/convolution/conv1d.h"

#include <algorithm>

#include "bench/harness.h"
#include "kernels/matrix/gemm.h"

namespace cmir::kernels {
namespace {

using namespace bench;

constexpr std::int64_t kLength = 50;

/// T: of the factors, f32 or bf16.
template <class T>
struct Data {
  Conv1dSizes s;
  Array<std::int64_t> offsets;
  Array<T> x, weight, dy;
  Array<float> bias, y, dx, dweight, dbias, workspace;

  explicit Data(benchmark::State& state)
      : s{state.range(0) / kLength * kLength, state.range(0) / kLength, state.range(1), 150, 3},
        offsets(even_offsets(s.samples, kLength)),
        x(normals_of<T>(s.rows * s.in, 1)),
        weight(normals_of<T>(s.out * s.window(), 2)),
        dy(normals_of<T>(s.rows * s.out, 4)),
        bias(normals(s.out, 3)),
        y(s.rows * s.out),
        dx(s.rows * s.in),
        dweight(s.out * s.window()),
        dbias(s.out) {}

  Conv1dForward<T> forward() {
    workspace = Array<float>(conv1d_forward_workspace<T>(s));
    return {x.data(), offsets.data(), weight.data(), bias.data(), y.data(), s, workspace.data()};
  }
  Conv1dBackwardInput<T> backward_input() {
    workspace = Array<float>(conv1d_backward_input_workspace<T>(s));
    return {dy.data(), offsets.data(), weight.data(), dx.data(), s, workspace.data()};
  }
  Conv1dBackwardWeight<T> backward_weight() {
    workspace = Array<float>(conv1d_backward_weight_workspace<T>(s));
    return {x.data(), offsets.data(), dy.data(), dweight.data(), dbias.data(), s, workspace.data()};
  }
};

/// Calls f(y index, x index, weight index) for every product.
template <class T, class F>
void for_each_product(const Data<T>& d, F&& f) {
  const Conv1dSizes& s = d.s;
  for (std::int64_t r = 0; r < s.rows; ++r) {
    for (std::int64_t t = 0; t < s.taps; ++t) {
      const std::int64_t source = r + t - s.padding();
      if (source < r / kLength * kLength || source >= (r / kLength + 1) * kLength) continue;
      for (std::int64_t o = 0; o < s.out; ++o) {
        for (std::int64_t i = 0; i < s.in; ++i)
          f(r * s.out + o, source * s.in + i, (o * s.in + i) * s.taps + t);
      }
    }
  }
}

/// What a product multiplies.
float factor(float x) { return x; }
float factor(BFloat16 x) { return static_cast<float>(x); }

template <class T>
std::vector<float> naive(const Data<T>& d) {
  std::vector<float> y(d.s.rows * d.s.out);
  for (std::int64_t i = 0; i < d.s.rows * d.s.out; ++i) y[i] = d.bias[i % d.s.out];
  for_each_product(
      d, [&](auto yi, auto xi, auto wi) { y[yi] += factor(d.x[xi]) * factor(d.weight[wi]); });
  return y;
}

/// Gathers every window, then one product.
struct Blas {
  std::vector<float> windows, packed;

  explicit Blas(const Conv1dSizes& s) : windows(s.rows * s.window()), packed(s.window() * s.out) {}
  void operator()(Data<float>& d) {
    const Conv1dSizes& s = d.s;
    for (std::int64_t i = 0; i < s.out * s.window(); ++i) {  // [out, in, taps] to [taps in, out]
      packed[(i % s.taps * s.in + i / s.taps % s.in) * s.out + i / s.window()] = d.weight[i];
    }
    std::fill(windows.begin(), windows.end(), 0.0F);
    for (std::int64_t r = 0; r < s.rows; ++r) {
      std::copy_n(d.bias.data(), s.out, d.y.data() + r * s.out);
      const std::int64_t first = std::max(r - 1, r / kLength * kLength);
      const std::int64_t last = std::min(r + 2, (r / kLength + 1) * kLength);
      std::copy(d.x.data() + first * s.in, d.x.data() + last * s.in,
                windows.data() + r * s.window() + (first - r + 1) * s.in);
    }
    run({}, Gemm<float>{.m = s.rows,
                        .n = s.out,
                        .k = s.window(),
                        .a = windows.data(),
                        .lda = s.window(),
                        .b = packed.data(),
                        .ldb = s.out,
                        .beta = 1,
                        .c = d.y.data(),
                        .ldc = s.out});
  }
};

void forward_naive(benchmark::State& state) {
  Data<float> d(state);
  time_calls(
      state, [&] { benchmark::DoNotOptimize(naive(d)); }, cost_of(d.forward()));
}

void forward_blas(benchmark::State& state) {
  Data<float> d(state);
  Blas blas(d.s);
  blas(d);
  if (!agree(state, d.y, naive(d), 1e-3)) return;
  time_calls(
      state, [&] { blas(d); }, cost_of(d.forward()));
}

template <class T>
void forward(benchmark::State& state) {
  Data<T> d(state);
  measure(state, d.forward(), [&] {
    hand_over(state, [&] {
      return NamedTensors{{"x", tensor_of(d.x)},
                          {"weight", tensor_of(d.weight)},
                          {"bias", tensor_of(d.bias)},
                          {"out.y", tensor_of(d.y)}};
    });
    return agree(state, d.y, naive(d), 1e-3);
  });
}

template <class T>
void backward_input(benchmark::State& state) {
  Data<T> d(state);
  measure(state, d.backward_input(), [&] {
    hand_over(state, [&] {
      return NamedTensors{
          {"dy", tensor_of(d.dy)}, {"weight", tensor_of(d.weight)}, {"out.dx", tensor_of(d.dx)}};
    });
    std::vector<float> expected(d.dx.size());
    for_each_product(d, [&](auto yi, auto xi, auto wi) {
      expected[xi] += factor(d.dy[yi]) * factor(d.weight[wi]);
    });
    return agree(state, d.dx, expected, 1e-3);
  });
}

template <class T>
void backward_weight(benchmark::State& state) {
  Data<T> d(state);
  measure(state, d.backward_weight(), [&] {
    hand_over(state, [&] {
      return NamedTensors{{"x", tensor_of(d.x)},
                          {"dy", tensor_of(d.dy)},
                          {"out.dweight", tensor_of(d.dweight)},
                          {"out.dbias", tensor_of(d.dbias)}};
    });
    std::vector<double> expected(d.dweight.size());
    for_each_product(
        d, [&](auto yi, auto xi, auto wi) { expected[wi] += factor(d.dy[yi]) * factor(d.x[xi]); });
    return agree(state, d.dweight, expected, 4e-4 * std::sqrt(static_cast<double>(d.s.rows)));
  });
}

const Table kTable = {{"rows", "in"},
                      {{100, 20},
                       {600, 5},
                       {600, 20},
                       {600, 47},
                       {600, 74},
                       {600, 150},
                       {2400, 47},
                       {2400, 74},
                       {2400, 150}},
                      {{38400, 74}}};
const Table kOne = {{"rows", "in"}, {{600, 74}}};
const Register registered{{
    kernel<Conv1dForward<float>>(kTable, forward<float>),
    peer<Conv1dForward<float>>("naive", kOne, forward_naive),
    peer<Conv1dForward<float>>("blas", kTable, forward_blas),
    kernel<Conv1dBackwardInput<float>>(kTable, backward_input<float>),
    reference<Conv1dBackwardInput<float>>(kOne, backward_input<float>),
    kernel<Conv1dBackwardWeight<float>>(kTable, backward_weight<float>),
    reference<Conv1dBackwardWeight<float>>(kOne, backward_weight<float>),
    kernel<Conv1dForward<BFloat16>>(kTable, forward<BFloat16>),
    kernel<Conv1dBackwardInput<BFloat16>>(kTable, backward_input<BFloat16>),
    kernel<Conv1dBackwardWeight<BFloat16>>(kTable, backward_weight<BFloat16>),
}};

}  // namespace
}  // namespace cmir::kernels
