#include "core/cuda/runtime.h"

#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <exception>
#include <limits>
#include <mutex>

#include "core/cuda/check.h"
#include "core/error.h"
#include "core/range.h"

namespace cmir::cuda {
namespace {

constexpr std::size_t kStagingChunk = std::size_t{16} << 20;
constexpr std::size_t kMostStaged = std::size_t{64} << 20;

const bool nvtx_is_set = [] {
  range_hooks = {[](const char* name) { nvtxRangePushA(name); }, [] { nvtxRangePop(); }};
  return true;
}();

struct Availability {
  int count = 0;
  std::string reason;
};

std::string version_text(int version) {  // 13020 is 13.2
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

Availability find_devices() {
  int driver = 0, runtime = 0, count = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    (void)cudaGetLastError();
    return {0, "no NVIDIA driver is installed"};
  }
  (void)cudaRuntimeGetVersion(&runtime);
  const cudaError_t status = cudaGetDeviceCount(&count);
  (void)cudaGetLastError();
  if (status == cudaErrorInsufficientDriver) {
    return {0, fmt::format("the NVIDIA driver is too old: it knows CUDA {}, this build needs {}",
                           version_text(driver), version_text(runtime))};
  }
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0))
    return {0, "the NVIDIA driver finds no device (is CUDA_VISIBLE_DEVICES set?)"};
  if (status != cudaSuccess)
    return {0, fmt::format("CUDA does not start: {}", cudaGetErrorString(status))};
  return {count, ""};
}

const Availability& availability() {
  static const Availability found = find_devices();
  return found;
}

std::atomic<int> process_device{-1};

/// Makes this thread work on the process's device, device 0 if none was chosen.
void enter() {
  thread_local bool entered = false;
  if (entered) return;
  if (process_device.load() < 0) use_device(0);
  check(cudaSetDevice(process_device.load()), "cudaSetDevice");
  entered = true;
}

/// While alive, this thread may allocate although a capture is under way.
class RelaxedCapture {
 public:
  RelaxedCapture() { (void)cudaThreadExchangeStreamCaptureMode(&mode_); }
  ~RelaxedCapture() { (void)cudaThreadExchangeStreamCaptureMode(&mode_); }
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

/// nullptr for "no memory left"; any other failure is an Error.
void* taken(cudaError_t status, void* block, std::string_view call) {
  if (status == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();  // it is handled: later calls must not report it
    return nullptr;
  }
  check(status, call);
  return block;
}

class DeviceMemory final : public MemorySource {
 public:
  explicit DeviceMemory(int index) : index_(index) {}
  void* take(std::size_t bytes) override {
    enter();
    const RelaxedCapture relaxed;
    void* block = nullptr;
    const cudaError_t status = cudaMalloc(&block, bytes);
    return taken(status, block, "cudaMalloc");
  }
  void give_back(void* block) noexcept override { (void)cudaFree(block); }
  std::string name() const override { return Device{DeviceType::cuda, index_}.to_string(); }
  std::optional<std::size_t> free_bytes() const override {
    std::size_t free = 0, total = 0;
    if (cudaMemGetInfo(&free, &total) != cudaSuccess) return std::nullopt;
    return free;
  }

 private:
  int index_;
};

class PinnedMemory final : public MemorySource {
 public:
  void* take(std::size_t bytes) override {
    enter();
    const RelaxedCapture relaxed;
    void* block = nullptr;
    const cudaError_t status = cudaHostAlloc(&block, bytes, cudaHostAllocDefault);
    return taken(status, block, "cudaHostAlloc");
  }
  void give_back(void* block) noexcept override { (void)cudaFreeHost(block); }
  std::string name() const override { return "the system's page-locked memory"; }
};

thread_local Stream* chosen_stream = nullptr;

bool is_capturing(const Stream& stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream.handle(), &status), "cudaStreamIsCapturing");
  return status != cudaStreamCaptureStatusNone;
}

void refuse_in_capture(const Stream& stream) {
  require(!is_capturing(stream), op_under_way(),
          "copies from or to the host inside a graph capture, which would repeat the values of the "
          "capture; copy before it");
}

/// The current stream, when it is to write to memory that the allocator gave out: what the compute
/// stream was given before may use it still.
const Stream& stream_after_compute() {
  const Stream& stream = current_stream();
  if (&stream != &compute_stream()) stream.wait_for(compute_stream());
  return stream;
}

/// Pinned blocks that copies under way still read.
class Staging {
 public:
  /// A block of at most kStagingChunk bytes; waits for old copies when too much is under way.
  void* allocate(std::size_t bytes) {
    std::lock_guard lock(mutex_);
    while (!under_way_.empty() &&
           (under_way_.front().copied.done() || bytes_under_way_ + bytes > kMostStaged)) {
      under_way_.front().copied.synchronise();
      free_first();
    }
    return pinned_allocator().allocate(bytes);
  }
  /// The block is free once the stream has come to this point.
  void free_after(const Stream& stream, void* block, std::size_t bytes) {
    Event copied;
    copied.record(stream);
    std::lock_guard lock(mutex_);
    under_way_.push_back({std::move(copied), block, bytes});
    bytes_under_way_ += bytes;
  }

 private:
  struct Block {
    Event copied;
    void* data;
    std::size_t bytes;
  };
  void free_first() {
    pinned_allocator().deallocate(under_way_.front().data, under_way_.front().bytes);
    bytes_under_way_ -= under_way_.front().bytes;
    under_way_.pop_front();
  }
  std::mutex mutex_;
  std::deque<Block> under_way_;
  std::size_t bytes_under_way_ = 0;
};

Staging& staging() {
  static auto* blocks = new Staging;  // never destroyed: CUDA may be gone before it
  return *blocks;
}

}  // namespace

void check(cudaError_t status, std::string_view call) {
  if (status == cudaSuccess) [[likely]]
    return;
  (void)cudaGetLastError();
  fail(ErrorKind::io, op_under_way(), "{} failed: {} ({})", call, cudaGetErrorString(status),
       cudaGetErrorName(status));
}

int device_count() { return availability().count; }
const std::string& unavailable_reason() { return availability().reason; }

DeviceProperties properties(int index) {
  require(index >= 0 && index < device_count(), "cuda", "there is no cuda:{}: {}", index,
          device_count() == 0 ? unavailable_reason()
                              : fmt::format("there are cuda:0 .. {}", device_count() - 1));
  cudaDeviceProp p{};
  check(cudaGetDeviceProperties(&p, index), "cudaGetDeviceProperties");
  return {.name = p.name,
          .major = p.major,
          .minor = p.minor,
          .multiprocessors = p.multiProcessorCount,
          .total_memory = p.totalGlobalMem,
          .shared_memory_per_block = p.sharedMemPerBlockOptin,
          .l2_cache = static_cast<std::size_t>(p.l2CacheSize)};
}

void use_device(int index) {
  require(device_count() > 0, "cuda", "{}; use the device cpu", unavailable_reason());
  require(index >= 0 && index < device_count(), "cuda",
          "there is no cuda:{}; there are cuda:0 .. {}", index, device_count() - 1);
  int before = -1;
  require(process_device.compare_exchange_strong(before, index) || before == index, "cuda",
          "a process works on one device: it is cuda:{} already, not cuda:{}", before, index);
}

void synchronise() {
  enter();
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

Stream::Stream() {
  enter();
  check(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
}
Stream::~Stream() { (void)cudaStreamDestroy(handle_); }

void Stream::synchronise() const { check(cudaStreamSynchronize(handle_), "cudaStreamSynchronize"); }

void Stream::wait_for(const Event& event) const {
  check(cudaStreamWaitEvent(handle_, event.handle(), 0), "cudaStreamWaitEvent");
}

void Stream::wait_for(const Stream& other) const {
  Event event;
  event.record(other);
  wait_for(event);
}

Event::Event(bool timed) {
  enter();
  check(cudaEventCreateWithFlags(&handle_, timed ? cudaEventDefault : cudaEventDisableTiming),
        "cudaEventCreateWithFlags");
}
Event::~Event() {
  if (handle_ != nullptr) (void)cudaEventDestroy(handle_);
}

void Event::record(const Stream& stream) {
  check(cudaEventRecord(handle_, stream.handle()), "cudaEventRecord");
}

bool Event::done() const {
  const cudaError_t status = cudaEventQuery(handle_);
  if (status == cudaErrorNotReady) {
    (void)cudaGetLastError();
    return false;
  }
  check(status, "cudaEventQuery");
  return true;
}

void Event::synchronise() const { check(cudaEventSynchronize(handle_), "cudaEventSynchronize"); }

double Event::milliseconds_since(const Event& earlier) const {
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, earlier.handle_, handle_), "cudaEventElapsedTime");
  return milliseconds;
}

// The streams and allocators are never destroyed: CUDA may be gone before they are.
Stream& compute_stream() {
  static auto* stream = new Stream;
  return *stream;
}
Stream& copy_stream() {
  static auto* stream = new Stream;
  return *stream;
}

Stream& current_stream() {
  enter();
  return chosen_stream != nullptr ? *chosen_stream : compute_stream();
}

StreamScope::StreamScope(Stream& stream) : outer_(chosen_stream) { chosen_stream = &stream; }
StreamScope::~StreamScope() { chosen_stream = outer_; }

void copy_to_device(void* device, const void* host, std::size_t bytes) {
  const Stream& stream = stream_after_compute();
  refuse_in_capture(stream);
  for (std::size_t done = 0; done < bytes;) {
    const std::size_t chunk = std::min(bytes - done, kStagingChunk);
    void* staged = staging().allocate(chunk);
    std::memcpy(staged, static_cast<const std::byte*>(host) + done, chunk);
    check(cudaMemcpyAsync(static_cast<std::byte*>(device) + done, staged, chunk,
                          cudaMemcpyHostToDevice, stream.handle()),
          "cudaMemcpyAsync to the device");
    staging().free_after(stream, staged, chunk);
    done += chunk;
  }
}

void start_copy_to_host(void* pinned, const void* device, std::size_t bytes) {
  const Stream& stream = stream_after_compute();
  refuse_in_capture(stream);
  check(cudaMemcpyAsync(pinned, device, bytes, cudaMemcpyDeviceToHost, stream.handle()),
        "cudaMemcpyAsync to the host");
}

void copy_to_host(void* host, const void* device, std::size_t bytes) {
  for (std::size_t done = 0; done < bytes;) {
    const std::size_t chunk = std::min(bytes - done, kStagingChunk);
    void* staged = pinned_allocator().allocate(chunk);
    start_copy_to_host(staged, static_cast<const std::byte*>(device) + done, chunk);
    current_stream().synchronise();
    std::memcpy(static_cast<std::byte*>(host) + done, staged, chunk);
    pinned_allocator().deallocate(staged, chunk);
    done += chunk;
  }
}

void copy_on_device(void* to, const void* from, std::size_t bytes) {
  const auto target = reinterpret_cast<std::uintptr_t>(to);
  const auto source = reinterpret_cast<std::uintptr_t>(from);
  const auto copy = [&](void* a, const void* b) {
    check(cudaMemcpyAsync(a, b, bytes, cudaMemcpyDeviceToDevice, stream_after_compute().handle()),
          "cudaMemcpyAsync on the device");
  };
  if (target >= source + bytes || source >= target + bytes) return copy(to, from);
  CachingAllocator& allocator = device_allocator(process_device.load());
  void* between = allocator.allocate(bytes);
  copy(between, from);
  copy(to, between);
  allocator.deallocate(between, bytes);
}

void fill(void* device, const void* element, std::size_t element_bytes, std::int64_t count) {
  if (count == 0) return;
  const auto* value = static_cast<const unsigned char*>(element);
  auto* begin = static_cast<std::byte*>(device);
  const std::size_t bytes = element_bytes * static_cast<std::size_t>(count);
  cudaStream_t stream = stream_after_compute().handle();
  if (std::all_of(value, value + element_bytes, [&](auto byte) { return byte == value[0]; })) {
    return check(cudaMemsetAsync(begin, value[0], bytes, stream), "cudaMemsetAsync");
  }
  for (std::size_t i = 0; i < element_bytes; ++i) {
    check(cudaMemsetAsync(begin + i, value[i], 1, stream), "cudaMemsetAsync");
  }
  for (std::size_t done = element_bytes; done < bytes; done *= 2) {
    check(cudaMemcpyAsync(begin + done, begin, std::min(done, bytes - done),
                          cudaMemcpyDeviceToDevice, stream),
          "cudaMemcpyAsync on the device");
  }
}

void* allocate_managed(std::size_t bytes) {
  enter();
  void* block = nullptr;
  check(cudaMallocManaged(&block, bytes, cudaMemAttachGlobal), "cudaMallocManaged");
  return block;
}
void free_managed(void* block) noexcept { (void)cudaFree(block); }

CachingAllocator& device_allocator(int index) {
  use_device(index);
  static auto* allocator = new CachingAllocator(std::make_unique<DeviceMemory>(index));
  return *allocator;
}

CachingAllocator& device_allocator() {
  enter();
  return device_allocator(process_device.load());
}

CachingAllocator& pinned_allocator() {
  static auto* allocator = new CachingAllocator(std::make_unique<PinnedMemory>());
  return *allocator;
}

Graph::Graph(std::shared_ptr<PrivatePool> pool) : pool_(std::move(pool)) {
  enter();
  if (pool_ == nullptr) pool_ = std::make_shared<PrivatePool>(device_allocator());
}

Graph::~Graph() {
  if (executable_ == nullptr) return;
  (void)cudaDeviceSynchronize();  // a replay may still work on the pool
  (void)cudaGraphExecDestroy(executable_);
}

void Graph::capture(const std::function<void()>& work) {
  require(!captured(), "cuda::Graph", "holds recorded work already; make another one");
  static std::mutex one_at_a_time;
  const std::unique_lock lock(one_at_a_time, std::try_to_lock);
  require(lock.owns_lock(), "cuda::Graph",
          "another thread captures a graph; a capture must have the device to itself");
  const Stream& stream = current_stream();
  cudaGraph_t graph = nullptr;
  std::exception_ptr error;
  {
    const ScopedPool scope(*pool_);
    check(cudaStreamBeginCapture(stream.handle(), cudaStreamCaptureModeThreadLocal),
          "cudaStreamBeginCapture");
    try {
      work();
    } catch (...) {
      error = std::current_exception();
    }
    const cudaError_t status = cudaStreamEndCapture(stream.handle(), &graph);
    if (!error) check(status, "cudaStreamEndCapture");
  }
  cudaError_t status = cudaSuccess;
  if (!error) status = cudaGraphInstantiate(&executable_, graph, 0);
  if (graph != nullptr) (void)cudaGraphDestroy(graph);
  (void)cudaGetLastError();
  if (error) std::rethrow_exception(error);
  check(status, "cudaGraphInstantiate");
}

void Graph::replay() {
  require(captured(), "cuda::Graph", "has nothing to replay; capture first");
  check(cudaGraphLaunch(executable_, current_stream().handle()), "cudaGraphLaunch");
}

}  // namespace cmir::cuda
