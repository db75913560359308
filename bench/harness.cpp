#include "bench/harness.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <map>
#include <new>
#include <optional>
#include <sstream>
#include <string_view>

#include "core/allocator.h"
#include "core/cuda/runtime.h"

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

Device device_under_way;
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

void time_on_gpu(benchmark::State& state, const std::function<void()>& call, const Cost& cost) {
  const std::int64_t calls = calls_of_a_batch(call);
  double sum = 0, batches = 0;
  for (auto _ : state) {
    const double seconds = gpu_seconds(call, calls) / static_cast<double>(calls);
    state.SetIterationTime(seconds);
    sum += seconds;
    ++batches;
  }
  constexpr double kMemoryBound = 20;  // operations a byte
  if (cost.operations > kMemoryBound * cost.bytes) return;
  state.counters["of_copy"] = copy_seconds(cost.bytes) * batches / sum;
  state.counters["beyond_l2"] =
      cost.bytes > static_cast<double>(cuda::properties(device().index).l2_cache);
}

void run_entry(benchmark::State& state, const Function& function, Device device) {
  ran = true;
  device_under_way = device;
  try {
    function(state);
  } catch (const std::exception& error) {
    fail(state, error.what());
  }
  device_under_way = {};
}

std::string title_of(const Entry& entry, Device device) {
  const std::string place = !entry.peer.empty()               ? entry.peer
                            : device.type == DeviceType::cuda ? "cuda"
                                                              : device.to_string();
  return fmt::format("{}/{}{}{}", entry.kernel, place, entry.variant.empty() ? "" : "/",
                     entry.variant);
}

void add(const Entry& entry, Device device, bool gpu_sizes) {
  auto* benchmark =
      benchmark::RegisterBenchmark(title_of(entry, device).c_str(),
                                   [function = entry.function, device](benchmark::State& state) {
                                     run_entry(state, function, device);
                                   });
  benchmark->ArgNames(entry.table.names)->Unit(benchmark::kMicrosecond);
  std::vector<std::vector<std::int64_t>> sizes = entry.table.sizes;
  if (device.type == DeviceType::simt) {
    sizes.resize(1);
    benchmark->Iterations(1);
  }
  if (device.type == DeviceType::cuda || (gpu_sizes && device.is_cpu() && entry.peer.empty())) {
    sizes.insert(sizes.end(), entry.table.gpu.begin(), entry.table.gpu.end());
  }
  if (device.type == DeviceType::cuda) {
    benchmark->Iterations(10)->UseManualTime();  // an iteration is a batch of calls
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

void add_all(const std::vector<Device>& devices, bool gpu_sizes) {
  for (const Entry& entry : entries()) {
    for (const Device device : devices) {
      if (!entry.peer.empty() ? device.is_cpu() : has_kernel(entry.kernel, device)) {
        add(entry, device, gpu_sizes);
      }
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

Device device() { return device_under_way; }

void fail(benchmark::State& state, const std::string& message) {
  failed = true;
  state.SkipWithError(message.c_str());
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

void time_calls(benchmark::State& state, const std::function<void()>& call, const Cost& cost) {
  const auto rate = benchmark::Counter::kIsIterationInvariantRate;
  if (device().type == DeviceType::cuda) {
    time_on_gpu(state, call, cost);
  } else if (device().type == DeviceType::simt) {
    for (auto _ : state) continue;
    return;
  } else {
    for (auto _ : state) {
      call();
      benchmark::ClobberMemory();
    }
  }
  state.counters["GB"] = benchmark::Counter(cost.bytes * 1e-9, rate);
  state.counters["Gflop"] = benchmark::Counter(cost.operations * 1e-9, rate);
}

Register::Register(std::vector<Entry> more) {
  entries().insert(entries().end(), std::make_move_iterator(more.begin()),
                   std::make_move_iterator(more.end()));
}

int run_benchmarks(int argc, char** argv) {
  const std::string usual = cuda::device_count() > 0 ? "cpu,cuda" : "cpu";
  const auto devices = parse_devices(take(argc, argv, "--devices=").value_or(usual));
  const bool gpu_sizes = take(argc, argv, "--gpu-sizes").has_value();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  add_all(devices, gpu_sizes);
  if (cuda::device_count() > 0) benchmark::AddCustomContext("gpu", cuda::properties(0).name);
  const std::size_t count = benchmark::RunSpecifiedBenchmarks();
  if (ran) {  // not only listed
    fmt::print(stderr, "{} benchmarks, {}\n", count, failed ? "some failed" : "no result is wrong");
  }
  return failed || count == 0 ? 1 : 0;
}

}  // namespace cmir::bench
