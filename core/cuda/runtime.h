// CUDA as the rest of core sees it: no CUDA types, so that every file may include it. A build
// without CUDA has the same functions (runtime_stub.cpp); device_count() is then 0 and whatever
// needs a GPU is an Error that says why there is none.
//
// Order: a process uses one device. All its work goes to one compute stream, so that memory freed
// by the host can be handed out again at once: what uses it next comes later in the stream. The
// copy stream is for copies that should overlap compute:
//   { StreamScope scope(copy_stream()); next = batch.to(device); }
//   ... work on the compute stream that overlaps the copy ...
//   compute_stream().wait_for(copy_stream());  // before `next` is used, or its memory freed
// A copy there waits for what the compute stream was given before the copy, which may still use the
// memory that is written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/allocator.h"

struct CUstream_st;
struct CUevent_st;
struct CUgraphExec_st;

namespace cmir::cuda {

/// GPUs that this process can use; 0 when there are none or CUDA cannot be used.
int device_count();
/// Why device_count() is 0, as a sentence: "this build has no CUDA ...", "no NVIDIA driver is
/// installed", ...; empty when there is a device.
const std::string& unavailable_reason();

struct DeviceProperties {
  std::string name;
  int major = 0, minor = 0;  ///< compute capability
  int multiprocessors = 0;
  std::size_t total_memory = 0;             ///< bytes
  std::size_t shared_memory_per_block = 0;  ///< bytes, with opting in
  std::size_t l2_cache = 0;                 ///< bytes
};
DeviceProperties properties(int index);

/// Makes `index` the process's device; all that needs a GPU does so by itself. Error: no such
/// device, or another one was chosen before.
void use_device(int index);
/// Waits until the device has done all it was given. An error of earlier asynchronous work shows
/// here.
void synchronise();

class Event;

/// A queue of device work, done in order.
class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  void synchronise() const;
  /// What is given to this stream from now on waits for `event`, or for all given to `other` so
  /// far.
  void wait_for(const Event& event) const;
  void wait_for(const Stream& other) const;
  CUstream_st* handle() const { return handle_; }

 private:
  CUstream_st* handle_ = nullptr;
};

/// A point in a stream.
class Event {
 public:
  /// `timed` events can be subtracted from each other, and cost a little more.
  explicit Event(bool timed = false);
  ~Event();
  Event(Event&& other) noexcept : handle_(other.handle_) { other.handle_ = nullptr; }
  Event& operator=(Event&&) = delete;

  void record(const Stream& stream);
  /// The stream has come past the event.
  bool done() const;
  void synchronise() const;
  /// Both timed, both done.
  double milliseconds_since(const Event& earlier) const;
  CUevent_st* handle() const { return handle_; }

 private:
  CUevent_st* handle_ = nullptr;
};

Stream& compute_stream();
Stream& copy_stream();
/// Where this thread's kernels, copies and fills go: the compute stream, unless a StreamScope is
/// alive.
Stream& current_stream();

class StreamScope {
 public:
  explicit StreamScope(Stream& stream);
  ~StreamScope();
  StreamScope(const StreamScope&) = delete;
  StreamScope& operator=(const StreamScope&) = delete;

 private:
  [[maybe_unused]] Stream* outer_;  // of a build without CUDA nobody reads it
};

/// Copies on the current stream. To the device: through pinned memory, so `host` may be changed at
/// once and the call does not wait for the copy. To the host: returns when the values are there.
/// Both are Errors inside a graph capture, which would repeat the values of the capture.
void copy_to_device(void* device, const void* host, std::size_t bytes);
void copy_to_host(void* host, const void* device, std::size_t bytes);
/// To page-locked memory, which has the values when the current stream comes past this point. Does
/// not wait. core/readback.h is made of it.
void start_copy_to_host(void* pinned, const void* device, std::size_t bytes);
/// The ranges may overlap.
void copy_on_device(void* to, const void* from, std::size_t bytes);
/// Sets `count` elements of `element_bytes` to the one at `element`, on the current stream: by a
/// memset where its bytes are equal (0), else by copies that double what is filled. Both can be
/// captured.
void fill(void* device, const void* element, std::size_t element_bytes, std::int64_t count);

/// Memory that the host and the device both reach at one address; at most what the device has free.
/// Between work that uses it and the host's next access lies a synchronise(). Freeing waits for the
/// device, and has no error.
void* allocate_managed(std::size_t bytes);
void free_managed(void* block) noexcept;

CachingAllocator& device_allocator(int index);
/// That of the process's device.
CachingAllocator& device_allocator();
/// Page-locked host memory, from which the device copies without waiting.
CachingAllocator& pinned_allocator();

/// Device work that is recorded once and then replayed as a whole, with the same addresses and
/// arguments. What the work allocates comes from a pool that belongs to the graph, so tensors made
/// inside keep their memory from replay to replay and nobody else writes to it; or from a pool that
/// graphs share, whose replays then overwrite each other's tensors. A tensor that escapes stays
/// valid after the graph.
class Graph {
 public:
  /// `pool` of device_allocator(), shared with other graphs; null: one of its own.
  explicit Graph(std::shared_ptr<PrivatePool> pool = nullptr);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  /// Runs `work`, whose device work is recorded and not done. If it throws, nothing is recorded and
  /// the exception goes on. No other thread may use the device meanwhile. Errors: another thread
  /// captures; `work` waits for the device or copies from or to the host.
  void capture(const std::function<void()>& work);
  /// Does the recorded work on the current stream.
  void replay();
  bool captured() const { return executable_ != nullptr; }

 private:
  std::shared_ptr<PrivatePool> pool_;
  CUgraphExec_st* executable_ = nullptr;
};

}  // namespace cmir::cuda
