// What the benchmarks of kernels share. One table of sizes serves the CPU, a GPU where there is
// one, and the host model of CUDA; results are compared with a plain form before anything is timed.
//
//   const Register registered{{
//       kernel<Axpy<float>>({{"count"}, {{7200}}, {{1 << 25}}}, axpy),
//       peer<Axpy<float>>("naive", {{"count"}, {{7200}}}, axpy_naive),
//   }};
//
// registers axpy<f32>/cpu/count:7200, axpy<f32>/cuda/..., axpy<f32>/naive/... . Every kernel needs
// one (the test bench.every_kernel_has_a_benchmark).
#pragma once

#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "bench/cold.h"
#include "core/philox.h"
#include "core/tensor.h"
#include "kernels/kernel.h"

namespace cmir::bench {

/// Where the kernel of the benchmark under way runs; the CPU for what is no kernel.
Device device();

/// Ends the benchmark with an error, and the program with a failure.
void fail(benchmark::State& state, const std::string& message);

/// Ends the benchmark without a time, which is no failure: its row is labelled "not run: " and why.
void leave_out(benchmark::State& state, const std::string& why);

/// Values on the host and, while the benchmark's device is another, a copy there.
template <class T>
class Array {
 public:
  Array() = default;
  explicit Array(std::int64_t count) : host_(count) {}
  Array(std::vector<T> values) : host_(std::move(values)) {}
  Array(const Array&) = default;
  Array(Array&&) noexcept = default;
  Array& operator=(Array other) noexcept {
    std::swap(host_, other.host_);
    std::swap(copy_, other.copy_);
    return *this;
  }
  ~Array() { forget_array(host_.data()); }

  /// For kernels. Host writes that come after the first call are not seen by a device.
  T* data() {
    if (device().is_cpu()) {
      note_array(host_.data(), byte_count());
      return host_.data();
    }
    if (!copy_.defined()) {
      Tensor bytes = Tensor::empty({static_cast<std::int64_t>(byte_count())}, DType::u8);
      if (!host_.empty()) std::memcpy(bytes.mutable_raw(), host_.data(), byte_count());
      copy_ = bytes.to(device());
    }
    return reinterpret_cast<T*>(copy_.mutable_raw());
  }
  /// The host's values as they are.
  std::vector<T>& host() { return host_; }
  T& operator[](std::int64_t i) { return host_[i]; }
  const T& operator[](std::int64_t i) const { return host_[i]; }
  auto begin() const { return host_.begin(); }
  auto end() const { return host_.end(); }
  std::int64_t size() const { return static_cast<std::int64_t>(host_.size()); }
  /// The host's values, after the device's were copied over them.
  std::vector<T>& fetch() {
    if (copy_.defined() && !host_.empty()) {
      std::memcpy(host_.data(), copy_.to(Device{}).raw(), byte_count());
    }
    return host_;
  }

 private:
  std::size_t byte_count() const { return host_.size() * sizeof(T); }

  std::vector<T> host_;
  Tensor copy_;
};

/// An array's values on the host, as it is now.
template <class T>
Tensor tensor_of(Array<T>& array) {
  const std::vector<T>& values = array.fetch();
  Tensor tensor = Tensor::empty({array.size()}, dtype_of<T>);
  if (!values.empty()) std::memcpy(tensor.mutable_raw(), values.data(), values.size() * sizeof(T));
  return tensor;
}

/// With --export=DIR, which times nothing: writes the arrays to a file named after the case, for
/// bench/peers/torch_kernels.py, which compares PyTorch's results with those called "out.NAME".
/// Without it nothing is done, and `tensors` is not called.
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;
void hand_over(const benchmark::State& state, const std::function<NamedTensors()>& tensors);

/// Standard normals; after 65521 (a prime) they repeat, so that large arrays are made quickly.
std::vector<float> normals(std::int64_t count, std::uint64_t seed);
/// The same numbers as T; bf16_of rounds them to bf16.
std::vector<BFloat16> bf16_of(const std::vector<float>& values);
template <class T>
std::vector<T> normals_of(std::int64_t count, std::uint64_t seed) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return bf16_of(normals(count, seed));
  } else {
    return normals(count, seed);
  }
}
/// Offsets of `samples` sequences of `length` rows.
std::vector<std::int64_t> even_offsets(std::int64_t samples, std::int64_t length);

inline double as_double(double x) { return x; }
inline double as_double(BFloat16 x) { return static_cast<float>(x); }

/// Every element within `tolerance` of the expected one; otherwise fail().
template <class T, class E>
bool agree(benchmark::State& state, const std::vector<T>& actual, const std::vector<E>& expected,
           double tolerance) {
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double a = as_double(actual[i]), e = as_double(expected[i]);
    if (std::abs(a - e) <= tolerance) continue;
    fail(state, fmt::format("element {} is {}, the plain form gives {}", i, a, e));
    return false;
  }
  return true;
}
template <class T, class E>
bool agree(benchmark::State& state, Array<T>& actual, const std::vector<E>& expected,
           double tolerance) {
  return agree(state, actual.fetch(), expected, tolerance);
}

/// The largest |x - y| over the largest |y|; NaN if either has one.
double relative_difference(std::span<const float> x, std::span<const float> y);

/// Bytes moved and operations done by one call, as the kernel's contract counts them.
struct Cost {
  double bytes, operations;
};
/// `work`: what the contract needs besides the arguments, where those hold it on the device.
template <class Args, class... Work>
Cost cost_of(const Args& args, const Work&... work) {
  return {args.bytes(work...), args.operations(work...)};
}

/// Times call(), and counts GB and Gflop a second. On a GPU by events around batches of calls, and
/// with these for kernels that the memory should limit (at most 20 operations a byte, an H100's f32
/// rate over its bandwidth): of_copy, the rate of bytes over that of a copy that moves as many,
/// measured in the same run, and beyond_l2, whether they are more than the L2 cache holds; where a
/// launch takes much of the time, graph_us, a call's time within a replayed graph of calls. On the
/// host model nothing is timed. In a cold twin of a kernel (--cold) each call is timed by itself,
/// after its arrays were taken out of every cache.
void time_calls(benchmark::State& state, const std::function<void()>& call, const Cost& cost);

/// The benchmark under way times the check of a kernel's results, not the kernel.
bool is_reference();

/// Runs the kernel once on the benchmark's device; times it if right() says that its results are.
template <class Args, class Right, class... Work>
void measure(benchmark::State& state, const Args& args, Right&& right, const Work&... work) {
  const auto call = [&] { kernels::run(device(), args); };
  call();
  if (!right()) return;
  if (is_reference()) {
    time_calls(
        state, [&] { benchmark::DoNotOptimize(right()); }, cost_of(args, work...));
  } else {
    time_calls(state, call, cost_of(args, work...));
  }
}

struct Table {
  std::vector<std::string> names;                ///< of the sizes
  std::vector<std::vector<std::int64_t>> sizes;  ///< the first is small: the host model's only one
  std::vector<std::vector<std::int64_t>> gpu = {};   ///< for a GPU: beyond its L2 cache (50 MB)
  std::vector<std::vector<std::int64_t>> slow = {};  ///< more that --quick leaves out
};
using Function = std::function<void(benchmark::State&)>;

/// A benchmark of a kernel, or of what it is compared with.
struct Entry {
  std::string kernel;
  std::string peer;     ///< empty: the kernel itself
  std::string variant;  ///< which of its forms; empty: there is one
  Table table;
  Function function;
  bool reference = false;  ///< times the check: see is_reference()
  bool is_kernel = true;   ///< otherwise for every device, and never cold
};
template <class Args>
Entry kernel(const Table& table, Function function, const std::string& variant = {}) {
  return {kernels::registered_name<Args>(), {}, variant, table, std::move(function)};
}
template <class Args>
Entry peer(const std::string& name, const Table& table, Function function,
           const std::string& variant = {}) {
  return {kernels::registered_name<Args>(), name, variant, table, std::move(function)};
}
/// The kernel's benchmark once more, which times the plain loops that its results are compared
/// with, comparison included: the peer "reference" where there is no other form to write out.
template <class Args>
Entry reference(const Table& table, Function function, const std::string& variant = {}) {
  return {kernels::registered_name<Args>(), "reference", variant, table, std::move(function), true};
}
/// The entries, all kernels, and a reference of each.
std::vector<Entry> with_references(std::vector<Entry> entries);
/// What is no kernel, on every device.
inline Entry anywhere(const std::string& name, const Table& table, Function function) {
  return {.kernel = name, .table = table, .function = std::move(function), .is_kernel = false};
}
/// What is no kernel, on the CPU: ours where `place` is "cpu", else what it is compared with.
inline Entry on_cpu(const std::string& name, const std::string& place, const Table& table,
                    Function function) {
  return {name, place, {}, table, std::move(function)};
}

struct Register {
  explicit Register(std::vector<Entry> entries);
};

/// Runs the program's benchmarks. --devices=cpu,cuda,simt: where kernels run; by default the CPU
/// and a GPU that is there. --gpu-sizes: kernels on the CPU get the GPU's sizes too. --quick:
/// without slow sizes. --cold: with cold twins of the kernels on the CPU, named cpu_cold. Returns
/// what main() does: not 0 if a result was wrong, a benchmark broke off, or none was to run.
int run_benchmarks(int argc, char** argv);

}  // namespace cmir::bench
