// What this machine can do, for the shares that `cmir bench` prints: the rate of a copy that moves
// as many bytes, on one and on all threads; the rate of a large matrix product in f32 and bf16, on
// the CPU in f64 and on a GPU in TF32; and the cost of starting work: a kernel on one element, and
// a parallel_for that does nothing. On a GPU the copy is from device to device, the product
// cuBLAS's, and a launch one of a batch of launches.
#include <algorithm>

#include "bench/harness.h"
#include "core/cuda/runtime.h"
#include "core/parallel.h"
#include "kernels/elementwise/axpy.h"
#include "kernels/matrix/gemm.h"

namespace cmir::kernels {
namespace {

using namespace bench;

/// `half` bytes are read, as many written.
void copy_arrays(std::byte* to, const std::byte* from, std::int64_t half) {
  if (device().type == DeviceType::cuda) return cuda::copy_on_device(to, from, half);
  constexpr std::int64_t kLeast = 1 << 16;
  const std::int64_t chunk = std::max(kLeast, half / (4 * thread_count()));
  parallel_for(0, half, chunk, [&](std::int64_t begin, std::int64_t end) {
    std::memcpy(to + begin, from + begin, end - begin);
  });
}

void copy(benchmark::State& state) {
  const std::int64_t half = state.range(0) / 2;
  set_thread_count(static_cast<int>(state.range(1)));
  const Tensor from = Tensor::full({half}, 3, DType::u8).to(device());
  Tensor to = Tensor::zeros({half}, DType::u8, device());
  const auto call = [&, target = to.mutable_raw()] { copy_arrays(target, from.raw(), half); };
  call();
  const Tensor result = to.to(Device{});
  const auto values = result.span<std::uint8_t>();
  if (std::ranges::any_of(values, [](auto x) { return x != 3; })) return fail(state, "no copy");
  time_calls(state, call, {.bytes = 2.0 * static_cast<double>(half), .operations = 0});
}

template <class T>
std::vector<T> elements(std::int64_t count, std::uint64_t seed) {
  if constexpr (std::is_same_v<T, double>) {
    const std::vector<float> values = normals(count, seed);
    return {values.begin(), values.end()};
  } else {
    return normals_of<T>(count, seed);
  }
}

/// A square product, some elements of which are compared.
template <class T, bool kTf32 = false>
void product(benchmark::State& state) {
  const std::int64_t n = state.range(0);
  set_thread_count(static_cast<int>(state.range(1)));
  Array<T> a(elements<T>(n * n, 1)), b(elements<T>(n * n, 2));
  Array<SumOf<T>> c(n * n);
  const Gemm<T> g{.m = n,
                  .n = n,
                  .k = n,
                  .a = a.data(),
                  .lda = n,
                  .b = b.data(),
                  .ldb = n,
                  .c = c.data(),
                  .ldc = n,
                  .tf32 = kTf32};
  measure(state, g, [&] {
    std::vector<double> actual, expected;
    c.fetch();
    for (const std::int64_t i : {std::int64_t{0}, n / 3, n - 1}) {
      const std::int64_t j = n - 1 - i / 2;
      double sum = 0;
      for (std::int64_t l = 0; l < n; ++l) sum += as_double(a[i * n + l]) * as_double(b[l * n + j]);
      actual.push_back(c[i * n + j]), expected.push_back(sum);
    }
    const double rounding = kTf32 ? 1e-2 : std::is_same_v<T, double> ? 1e-12 : 1e-4;
    return agree(state, actual, expected, rounding * std::sqrt(static_cast<double>(n)));
  });
}

void start_kernel(benchmark::State& state) {
  Array<float> x(std::vector{2.0F}), y(1);
  measure(state, Scale<float>{1.5F, x.data(), y.data(), 1},
          [&] { return agree(state, y, std::vector{3.0F}, 0); });
}

void start_parallel_for(benchmark::State& state) {
  const int threads = static_cast<int>(state.range(0));
  set_thread_count(threads);
  const auto call = [&] { parallel_for(0, threads, 1, [](auto, auto) {}); };
  time_calls(state, call, {.bytes = 0, .operations = 0});
}

using Sizes = std::vector<std::vector<std::int64_t>>;
/// Each with one thread and with all.
Sizes threaded(const std::vector<std::int64_t>& values) {
  Sizes all;
  for (const std::int64_t value : values) {
    all.push_back({value, 1});
    if (thread_count() > 1) all.push_back({value, thread_count()});
  }
  return all;
}

const Register registered{{
    anywhere("ceiling_copy",
             {{"bytes", "threads"},
              threaded({1 << 14, 1 << 17, 1 << 20, 1 << 23, 1 << 26, 1 << 29}),
              {{1 << 30, 1}}},
             copy),
    anywhere("ceiling_product<f32>",
             {{"n", "threads"}, threaded({1024}), {{8192, 1}}, threaded({2048})}, product<float>),
    anywhere("ceiling_product<bf16>",
             {{"n", "threads"}, threaded({1024}), {{8192, 1}}, threaded({2048})},
             product<BFloat16>),
    anywhere("ceiling_product<tf32>", {{"n", "threads"}, {}, {{8192, 1}}},
             product<float, true>),  // on a GPU
    on_cpu("ceiling_product<f64>", "cpu", {{"n", "threads"}, threaded({1024})}, product<double>),
    anywhere("ceiling_launch", {{}, {{}}}, start_kernel),
    on_cpu("ceiling_parallel_for", "cpu", {{"threads"}, {{thread_count()}}}, start_parallel_for),
}};

}  // namespace
}  // namespace cmir::kernels
