// Memory for tensors: a caching allocator with counters.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <vector>

namespace cmir {

struct MemoryStats {
  std::size_t live = 0;         ///< bytes handed out now (rounded to the allocator's size classes)
  std::size_t peak = 0;         ///< largest `live` since the last reset_peak()
  std::size_t cached = 0;       ///< bytes kept for reuse
  std::size_t allocations = 0;  ///< calls of allocate() so far
  std::size_t misses = 0;       ///< calls that went to the operating system
};

/// Thread-safe caching allocator of 64-byte aligned CPU memory. Sizes are rounded up to one of four
/// classes per power of two (at most 25 % waste); a freed block is kept for the next request of its
/// class.
class CpuAllocator {
 public:
  static constexpr std::size_t kAlignment = 64;

  CpuAllocator() = default;
  CpuAllocator(const CpuAllocator&) = delete;
  CpuAllocator& operator=(const CpuAllocator&) = delete;
  ~CpuAllocator() { release_cached(); }

  /// At least `bytes` bytes of uninitialised memory; nullptr for 0. When the system has no more,
  /// cached blocks are given back first; then Error (kind io) states what was asked and what is
  /// live.
  void* allocate(std::size_t bytes);
  /// `bytes` must be what was passed to allocate().
  void deallocate(void* block, std::size_t bytes) noexcept;

  MemoryStats stats() const;
  void reset_peak();
  /// Gives every cached block back to the system.
  void release_cached() noexcept;

  /// The size class that a request is rounded up to.
  static std::size_t rounded(std::size_t bytes);

 private:
  struct SizeClass {
    std::vector<void*> free;
    std::size_t blocks =
        0;  // in use and free; `free` has capacity for all, so that deallocate() cannot throw
  };
  void release_cached_locked() noexcept;

  mutable std::mutex mutex_;
  std::map<std::size_t, SizeClass> classes_;
  MemoryStats stats_;
};

/// The process-wide allocator behind every CPU tensor.
CpuAllocator& cpu_allocator();

}  // namespace cmir
