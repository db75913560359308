#include "bench/harness.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <map>
#include <new>
#include <optional>
#include <sstream>
#include <string_view>

#include "bench/context.h"
#include "core/allocator.h"
#include "core/cuda/runtime.h"
#include "core/formats/safetensors.h"
#include "core/parallel.h"

/// Memory begins at a cache line, as tensors' does: else a vector's every load of 64 bytes crosses
/// two.
void* operator new(std::size_t bytes) {
  constexpr std::size_t kLine = cmir::CachingAllocator::kAlignment;
  void* const block = std::aligned_alloc(kLine, (bytes / kLine + 1) * kLine);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}
void operator delete(void* block) noexcept { std::free(block); }
void operator delete(void* block, std::size_t) noexcept { std::free(block); }

namespace cmir::bench {
namespace {

/// Where and how the benchmark under way runs.
struct Place {
  Device device = {};
  bool reference = false, cold = false;
  std::string title;               // of the benchmark, without sizes
  std::vector<std::string> sizes;  // their names
} place_under_way;
std::string export_directory;  // empty: nothing is handed over
bool failed = false;
bool ran = false;

std::vector<Entry>& entries() {
  static std::vector<Entry> all;
  return all;
}

/// Of `count` calls, by the GPU's clock.
double gpu_seconds(const std::function<void()>& call, std::int64_t count) {
  cuda::Event begin(true), end(true);
  begin.record(cuda::current_stream());
  for (std::int64_t i = 0; i < count; ++i) call();
  end.record(cuda::current_stream());
  end.synchronise();
  return end.milliseconds_since(begin) / 1e3;
}

/// Calls that take some milliseconds together, so that neither launching nor the clock's resolution
/// counts for much. Finding that out warms up.
std::int64_t calls_of_a_batch(const std::function<void()>& call) {
  std::int64_t count = 1;
  while (gpu_seconds(call, count) < 5e-3 && count < 512) count *= 2;
  return count;
}

/// What a copy takes that moves `bytes`, half of them read and half written.
double copy_seconds(double bytes) {
  static std::map<std::int64_t, double> measured;
  const std::int64_t half = std::max<std::int64_t>(16, std::llround(bytes / 2));
  if (const auto known = measured.find(half); known != measured.end()) return known->second;
  const Tensor from = Tensor::zeros({half}, DType::u8, device());
  Tensor to = Tensor::empty({half}, DType::u8, device());
  std::byte* target = to.mutable_raw();
  const auto copy = [&] { cuda::copy_on_device(target, from.raw(), half); };
  const std::int64_t calls = 10 * calls_of_a_batch(copy);
  return measured[half] = gpu_seconds(copy, calls) / static_cast<double>(calls);
}

/// Of a call that is one of many in a graph: what is left when nothing waits for the host.
double graph_seconds(const std::function<void()>& call) {
  constexpr std::int64_t kCalls = 64;
  cuda::Graph graph;
  graph.capture([&] {
    for (std::int64_t i = 0; i < kCalls; ++i) call();
  });
  const auto replay = [&] { graph.replay(); };
  const std::int64_t replays = 10 * calls_of_a_batch(replay);
  return gpu_seconds(replay, replays) / static_cast<double>(replays * kCalls);
}

constexpr double kLaunchBound = 10e-6;  // seconds: a few launches

void time_on_gpu(benchmark::State& state, const std::function<void()>& call, const Cost& cost) {
  const std::int64_t calls = calls_of_a_batch(call);
  double sum = 0, batches = 0;
  for (auto _ : state) {
    const double seconds = gpu_seconds(call, calls) / static_cast<double>(calls);
    state.SetIterationTime(seconds);
    sum += seconds;
    ++batches;
  }
  if (sum / batches < kLaunchBound) state.counters["graph_us"] = 1e6 * graph_seconds(call);
  constexpr double kMemoryBound = 20;  // operations a byte
  if (cost.bytes <= 0 || cost.operations > kMemoryBound * cost.bytes) return;
  state.counters["of_copy"] = copy_seconds(cost.bytes) * batches / sum;
  state.counters["beyond_l2"] =
      cost.bytes > static_cast<double>(cuda::properties(device().index).l2_cache);
}

/// Each call behind a copy that leaves nothing else in the L2 cache, and which is still under way
/// when the call is launched.
void time_cold_on_gpu(benchmark::State& state, const std::function<void()>& call) {
  const std::int64_t half = cuda::properties(device().index).l2_cache;
  const Tensor from = Tensor::zeros({half}, DType::u8, device());
  Tensor to = Tensor::empty({half}, DType::u8, device());
  cuda::Event begin(true), end(true);
  for (auto _ : state) {
    cuda::copy_on_device(to.mutable_raw(), from.raw(), half);
    begin.record(cuda::current_stream());
    call();
    end.record(cuda::current_stream());
    end.synchronise();
    state.SetIterationTime(end.milliseconds_since(begin) / 1e3);
  }
}

void time_cold(benchmark::State& state, const std::function<void()>& call) {
  if (!device().is_cpu()) return time_cold_on_gpu(state, call);
  for (auto _ : state) {
    evict_arrays();
    const auto begin = std::chrono::steady_clock::now();
    call();
    benchmark::ClobberMemory();
    state.SetIterationTime(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
}

void run_entry(benchmark::State& state, const Function& function, const Place& place) {
  ran = true;
  place_under_way = place;
  const int threads = thread_count();
  try {
    function(state);
  } catch (const std::exception& error) {
    fail(state, error.what());
  }
  set_thread_count(threads);  // which the benchmark may have changed
  place_under_way = {};
}

std::string title_of(const Entry& entry, const Place& at) {
  const std::string place = !entry.peer.empty()                  ? entry.peer
                            : at.device.type == DeviceType::cuda ? at.cold ? "cuda_cold" : "cuda"
                            : at.cold                            ? "cpu_cold"
                                                                 : at.device.to_string();
  return fmt::format("{}/{}{}{}", entry.kernel, place, entry.variant.empty() ? "" : "/",
                     entry.variant);
}

/// What the command line asks for.
struct Options {
  std::vector<Device> devices;
  bool gpu_sizes, quick, cold;
};

std::vector<std::vector<std::int64_t>> sizes_of(const Entry& entry, Device device,
                                                const Options& options) {
  std::vector<std::vector<std::int64_t>> sizes = entry.table.sizes;
  const auto append = [&](const auto& more) {
    sizes.insert(sizes.end(), more.begin(), more.end());
  };
  if (device.type == DeviceType::simt) {
    sizes.resize(std::min<std::size_t>(sizes.size(), 1));
  } else if (!options.quick) {
    append(entry.table.slow);
  }
  if (device.type == DeviceType::cuda ||
      (options.gpu_sizes && device.is_cpu() && entry.peer.empty())) {
    append(entry.table.gpu);
  }
  return sizes;
}

/// Whether any benchmark is for the devices.
bool any = false;

void add(const Entry& entry, Place place, const Options& options) {
  const auto sizes = sizes_of(entry, place.device, options);
  if (sizes.empty()) return;
  any = true;
  place.title = title_of(entry, place);
  place.sizes = entry.table.names;
  auto* benchmark = benchmark::RegisterBenchmark(
      place.title.c_str(), [function = entry.function, place](benchmark::State& state) {
        run_entry(state, function, place);
      });
  benchmark->ArgNames(entry.table.names)->Unit(benchmark::kMicrosecond);
  if (place.device.type == DeviceType::simt || !export_directory.empty()) benchmark->Iterations(1);
  if (place.device.type == DeviceType::cuda) {
    benchmark->Iterations(10)->UseManualTime();  // an iteration is a batch of calls
  } else if (place.cold) {
    benchmark->UseManualTime();
  } else {
    benchmark->UseRealTime();
  }
  for (const auto& size : sizes) benchmark->Args(size);
}

/// "cpu,simt"
std::vector<Device> parse_devices(const std::string& list) {
  std::vector<Device> devices;
  std::istringstream stream(list);
  for (std::string name; std::getline(stream, name, ',');) {
    devices.push_back(parse_device(name));
    require_available(devices.back());
  }
  return devices;
}

bool has_kernel(const std::string& name, Device device) {
  for (const kernels::KernelInfo& info : kernels::registered_kernels()) {
    if (info.name != name) continue;
    if (device.type == DeviceType::cuda) return info.cuda;
    return device.is_cpu() ? info.cpu[0] : info.simt;
  }
  return false;
}

/// A peer that is called "X@cuda" runs on a GPU, "X@simt" on the host model, any other on the CPU.
bool is_for(const Entry& entry, Device device) {
  if (entry.peer.ends_with("@simt")) return device.type == DeviceType::simt;
  if (entry.peer.ends_with("@cuda")) return device.type == DeviceType::cuda;
  if (!entry.peer.empty()) return device.is_cpu();
  return !entry.is_kernel || has_kernel(entry.kernel, device);
}

void add_all(const Options& options) {
  for (const Entry& entry : entries()) {
    for (const Device device : options.devices) {
      if (!is_for(entry, device)) continue;
      add(entry, {device, entry.reference}, options);
      const bool is_timed = device.type != DeviceType::simt;
      if (options.cold && is_timed && entry.peer.empty() && entry.is_kernel)
        add(entry, {.device = device, .cold = true}, options);
    }
  }
}

/// The part behind `option` of the argument that starts so, which is taken out; or nothing.
std::optional<std::string> take(int& argc, char** argv, std::string_view option) {
  char** at = std::find_if(argv + 1, argv + argc,
                           [&](std::string_view argument) { return argument.starts_with(option); });
  if (at == argv + argc) return std::nullopt;
  std::string rest = *at + option.size();
  std::copy(at + 1, argv + argc, at);
  --argc;
  return rest;
}

}  // namespace

Device device() { return place_under_way.device; }
bool is_reference() { return place_under_way.reference; }

void fail(benchmark::State& state, const std::string& message) {
  failed = true;
  state.SkipWithError(message.c_str());
}

void leave_out(benchmark::State& state, const std::string& why) {
  state.SetLabel("not run: " + why);
  for (auto _ : state) state.SetIterationTime(0);
}

void hand_over(const benchmark::State& state, const std::function<NamedTensors()>& tensors) {
  if (export_directory.empty()) return;
  std::string name = place_under_way.title;
  for (std::size_t i = 0; i < place_under_way.sizes.size(); ++i)
    name += fmt::format("/{}:{}", place_under_way.sizes[i], state.range(i));
  std::ranges::replace(name, '/', '%');
  write_safetensors(fmt::format("{}/{}.safetensors", export_directory, name), tensors());
}

std::vector<float> normals(std::int64_t count, std::uint64_t seed) {
  constexpr std::int64_t kPeriod = 65521;
  std::vector<float> values(count);
  const RandomStream stream{.seed = seed};
  for (std::int64_t i = 0; i < std::min(count, kPeriod); ++i) values[i] = stream.normal(i);
  for (std::int64_t i = kPeriod; i < count; ++i) values[i] = values[i - kPeriod];
  return values;
}

std::vector<BFloat16> bf16_of(const std::vector<float>& values) {
  std::vector<BFloat16> rounded;
  rounded.reserve(values.size());
  for (const float value : values) rounded.emplace_back(value);
  return rounded;
}

std::vector<std::int64_t> even_offsets(std::int64_t samples, std::int64_t length) {
  std::vector<std::int64_t> offsets(samples + 1);
  for (std::int64_t s = 0; s <= samples; ++s) offsets[s] = s * length;
  return offsets;
}

double relative_difference(std::span<const float> x, std::span<const float> y) {
  double largest = 0, apart = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double difference = std::abs(double{x[i]} - double{y[i]});
    if (std::isnan(difference)) return difference;
    largest = std::max(largest, std::abs(double{y[i]}));
    apart = std::max(apart, difference);
  }
  return apart / largest;
}

void time_calls(benchmark::State& state, const std::function<void()>& call, const Cost& cost) {
  const auto rate = benchmark::Counter::kIsIterationInvariantRate;
  if (device().type == DeviceType::simt || !export_directory.empty()) {
    for (auto _ : state) continue;
    return;
  }
  if (place_under_way.cold) {
    time_cold(state, call);
  } else if (device().type == DeviceType::cuda) {
    time_on_gpu(state, call, cost);
  } else {
    for (auto _ : state) {
      call();
      benchmark::ClobberMemory();
    }
  }
  if (cost.bytes <= 0 && cost.operations <= 0) return;
  if (cost.bytes > 0) state.counters["GB"] = benchmark::Counter(cost.bytes * 1e-9, rate);
  state.counters["Gflop"] = benchmark::Counter(cost.operations * 1e-9, rate);
}

std::vector<Entry> with_references(std::vector<Entry> entries) {
  const std::size_t count = entries.size();
  for (std::size_t i = 0; i < count; ++i) {
    entries.push_back(entries[i]);
    entries.back().peer = "reference";
    entries.back().reference = true;
  }
  return entries;
}

Register::Register(std::vector<Entry> more) {
  entries().insert(entries().end(), std::make_move_iterator(more.begin()),
                   std::make_move_iterator(more.end()));
}

int run_benchmarks(int argc, char** argv) {
  const std::string usual = cuda::device_count() > 0 ? "cpu,cuda" : "cpu";
  const Options options{.devices = parse_devices(take(argc, argv, "--devices=").value_or(usual)),
                        .gpu_sizes = take(argc, argv, "--gpu-sizes").has_value(),
                        .quick = take(argc, argv, "--quick").has_value(),
                        .cold = take(argc, argv, "--cold").has_value()};
  export_directory = take(argc, argv, "--export=").value_or("");
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  add_all(options);
  add_context();
  const std::size_t count = benchmark::RunSpecifiedBenchmarks();
  if (ran) {  // not only listed
    fmt::print(stderr, "{} benchmarks, {}\n", count, failed ? "some failed" : "no result is wrong");
  }
  return failed || (count == 0 && any) ? 1 : 0;
}

}  // namespace cmir::bench
