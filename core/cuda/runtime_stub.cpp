// core/cuda/runtime.h in a build without CUDA.
#include "core/cuda/runtime.h"
#include "core/error.h"

namespace cmir::cuda {
namespace {

[[noreturn]] void refuse() {
  fail(ErrorKind::usage, "cuda", "{}; use the device cpu", unavailable_reason());
}

}  // namespace

int device_count() { return 0; }
const std::string& unavailable_reason() {
  static const std::string reason =
      "this build has no CUDA: it was configured without a CUDA compiler, or with CMIR_CUDA=OFF";
  return reason;
}

DeviceProperties properties(int) { refuse(); }
void use_device(int) { refuse(); }
void synchronise() { refuse(); }

Stream::Stream() { refuse(); }
Stream::~Stream() = default;
void Stream::synchronise() const { refuse(); }
void Stream::wait_for(const Event&) const { refuse(); }
void Stream::wait_for(const Stream&) const { refuse(); }

Event::Event(bool) { refuse(); }
Event::~Event() = default;
void Event::record(const Stream&) { refuse(); }
bool Event::done() const { refuse(); }
void Event::synchronise() const { refuse(); }
double Event::milliseconds_since(const Event&) const { refuse(); }

Stream& compute_stream() { refuse(); }
Stream& copy_stream() { refuse(); }
Stream& current_stream() { refuse(); }
StreamScope::StreamScope(Stream&) { refuse(); }
StreamScope::~StreamScope() = default;

void copy_to_device(void*, const void*, std::size_t) { refuse(); }
void copy_to_host(void*, const void*, std::size_t) { refuse(); }
void start_copy_to_host(void*, const void*, std::size_t) { refuse(); }
void copy_on_device(void*, const void*, std::size_t) { refuse(); }
void fill(void*, const void*, std::size_t, std::int64_t) { refuse(); }

void* allocate_managed(std::size_t) { refuse(); }
void free_managed(void*) noexcept {}

CachingAllocator& device_allocator(int) { refuse(); }
CachingAllocator& device_allocator() { refuse(); }
CachingAllocator& pinned_allocator() { refuse(); }

Graph::Graph(std::shared_ptr<PrivatePool>) { refuse(); }
Graph::~Graph() = default;
void Graph::capture(const std::function<void()>&) { refuse(); }
void Graph::replay() { refuse(); }

}  // namespace cmir::cuda
