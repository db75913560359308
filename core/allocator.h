// Memory for tensors: a caching allocator with counters, over any source of memory.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/device.h"

namespace cmir {

/// Where an allocator gets its blocks: the system, pinned host memory, a GPU.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  /// At least `bytes` bytes, aligned to CachingAllocator::kAlignment; nullptr when there are none.
  virtual void* take(std::size_t bytes) = 0;
  virtual void give_back(void* block) noexcept = 0;
  /// As messages call it: "the system", "cuda:0".
  virtual std::string name() const = 0;
  /// Bytes that it could still give, where it knows.
  virtual std::optional<std::size_t> free_bytes() const { return std::nullopt; }
};

struct MemoryStats {
  std::size_t live = 0;         ///< bytes handed out now (rounded to the allocator's size classes)
  std::size_t peak = 0;         ///< largest `live` since the last reset_peak()
  std::size_t cached = 0;       ///< bytes kept for reuse, in private pools too
  std::size_t allocations = 0;  ///< calls of allocate() so far
  std::size_t misses = 0;       ///< calls that went to the source
};

/// Free blocks by size class, and how many blocks there are of each.
class BlockCache {
 public:
  /// A free block of the class, or nullptr.
  void* find(std::size_t size);
  /// Makes room for one more block of the class, so that put() of it need not allocate.
  void expect_block(std::size_t size);
  /// False when it has no room: a block that expect_block() was not told of.
  bool put(void* block, std::size_t size) noexcept;
  /// Calls release(block) for every free block and forgets it; returns their bytes.
  template <class Release>
  std::size_t clear(Release&& release) noexcept {
    std::size_t bytes = 0;
    for (auto& [size, size_class] : classes_) {
      for (void* block : size_class.free) release(block);
      bytes += size * size_class.free.size();
      size_class.blocks -= size_class.free.size();
      size_class.free.clear();
    }
    return bytes;
  }

 private:
  struct SizeClass {
    std::vector<void*> free;  // its capacity is at least `blocks`
    std::size_t blocks = 0;   // in use and free
  };
  std::map<std::size_t, SizeClass> classes_;
};

class CachingAllocator;

/// Blocks that nothing outside the pool's scopes gets while the pool lives: what a captured CUDA
/// graph works on. Free blocks go back to the source with the pool; a block still in use then joins
/// the allocator's other blocks when it is freed.
class PrivatePool {
 public:
  explicit PrivatePool(CachingAllocator& allocator) : allocator_(allocator) {}
  PrivatePool(const PrivatePool&) = delete;
  PrivatePool& operator=(const PrivatePool&) = delete;
  ~PrivatePool();

 private:
  friend class CachingAllocator;
  friend class ScopedPool;
  CachingAllocator& allocator_;
  BlockCache blocks_;
};

/// While alive, what this thread allocates from the pool's allocator comes from the pool. Scopes of
/// one allocator do not nest.
class ScopedPool {
 public:
  explicit ScopedPool(PrivatePool& pool);
  ScopedPool(const ScopedPool&) = delete;
  ScopedPool& operator=(const ScopedPool&) = delete;
  ~ScopedPool();
};

/// Thread-safe. Sizes are rounded up to one of four classes per power of two (at most 25 % waste);
/// a freed block is kept for the next request of its class.
///
/// On a GPU a block may be handed out again while work that was given to the device before still
/// uses it: all work of a device goes through one stream, so later work finds it done. Who uses
/// another stream has to make it wait (core/cuda/runtime.h).
class CachingAllocator {
 public:
  static constexpr std::size_t kAlignment = 64;

  explicit CachingAllocator(std::unique_ptr<MemorySource> source) : source_(std::move(source)) {}
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;
  ~CachingAllocator() { release_cached(); }

  /// At least `bytes` bytes of uninitialised memory; nullptr for 0. When the source has no more,
  /// cached blocks are given back first; then Error (kind io) states what was asked, what is live,
  /// cached and free.
  void* allocate(std::size_t bytes);
  /// `bytes` must be what was passed to allocate().
  void deallocate(void* block, std::size_t bytes) noexcept;

  MemoryStats stats() const;
  void reset_peak();
  /// Gives every cached block back to the source, but for those of private pools.
  void release_cached() noexcept;

  /// The size class that a request is rounded up to.
  static std::size_t rounded(std::size_t bytes);

 private:
  friend class PrivatePool;
  /// Inside a capture no block may be given back: a GPU then waits for all its work.
  void* take_or_fail(std::size_t size, bool may_release);
  void release_cached_locked() noexcept;
  void end_pool(PrivatePool& pool) noexcept;

  const std::unique_ptr<MemorySource> source_;
  mutable std::mutex mutex_;
  BlockCache blocks_;
  std::unordered_map<void*, PrivatePool*> pooled_;  // every block of a pool, in use or free
  MemoryStats stats_;
};

/// The process-wide allocator behind every tensor in CPU memory (those of simt too).
CachingAllocator& cpu_allocator();

/// The process-wide allocator of a device's tensors. Error when the device is not available.
CachingAllocator& allocator_of(Device device);

}  // namespace cmir
