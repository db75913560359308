#include "core/allocator.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <limits>

#include "core/cuda/runtime.h"
#include "core/error.h"

namespace cmir {
namespace {

/// Of each allocator, the pool that this thread allocates from. At most one or two entries.
thread_local std::vector<std::pair<const CachingAllocator*, PrivatePool*>> active_pools;

PrivatePool* active_pool(const CachingAllocator* allocator) {
  for (const auto& [owner, pool] : active_pools) {
    if (owner == allocator) return pool;
  }
  return nullptr;
}

class SystemMemory final : public MemorySource {
 public:
  void* take(std::size_t bytes) override {
    return std::aligned_alloc(CachingAllocator::kAlignment, bytes);
  }
  void give_back(void* block) noexcept override { std::free(block); }
  std::string name() const override { return "the system"; }
};

double megabytes(std::size_t bytes) { return static_cast<double>(bytes) / 1e6; }

}  // namespace

void* BlockCache::find(std::size_t size) {
  auto& free = classes_[size].free;
  if (free.empty()) return nullptr;
  void* block = free.back();
  free.pop_back();
  return block;
}

void BlockCache::expect_block(std::size_t size) {
  SizeClass& size_class = classes_[size];
  if (size_class.free.capacity() <= size_class.blocks)
    size_class.free.reserve(2 * size_class.blocks + 1);
  ++size_class.blocks;
}

bool BlockCache::put(void* block, std::size_t size) noexcept {
  const auto found = classes_.find(size);
  if (found == classes_.end()) return false;
  auto& free = found->second.free;
  if (free.size() == free.capacity()) return false;
  free.push_back(block);
  found->second.blocks = std::max(found->second.blocks, free.size());
  return true;
}

PrivatePool::~PrivatePool() { allocator_.end_pool(*this); }

ScopedPool::ScopedPool(PrivatePool& pool) {
  require(active_pool(&pool.allocator_) == nullptr, "allocate",
          "this thread already allocates from a private pool");
  active_pools.emplace_back(&pool.allocator_, &pool);
}

ScopedPool::~ScopedPool() { active_pools.pop_back(); }

std::size_t CachingAllocator::rounded(std::size_t bytes) {
  if (bytes <= kAlignment) return kAlignment;
  const std::size_t step = std::max(std::bit_floor(bytes - 1) / 4, kAlignment);
  return (bytes + step - 1) / step * step;
}

void* CachingAllocator::allocate(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  require(bytes <= std::numeric_limits<std::size_t>::max() / 2, "allocate",
          "{} bytes is more than any machine has", bytes);
  const std::size_t size = rounded(bytes);
  PrivatePool* pool = active_pool(this);
  std::lock_guard lock(mutex_);
  BlockCache& blocks = pool != nullptr ? pool->blocks_ : blocks_;
  void* block = blocks.find(size);
  if (block != nullptr) {
    stats_.cached -= size;
  } else {
    block = take_or_fail(size, pool == nullptr);
    try {
      blocks.expect_block(size);
      if (pool != nullptr) pooled_.emplace(block, pool);
    } catch (...) {
      source_->give_back(block);
      throw;
    }
    ++stats_.misses;
  }
  ++stats_.allocations;
  stats_.live += size;
  stats_.peak = std::max(stats_.peak, stats_.live);
  return block;
}

void* CachingAllocator::take_or_fail(std::size_t size, bool may_release) {
  void* block = source_->take(size);
  if (block != nullptr) return block;
  const std::size_t cached = stats_.cached;
  if (may_release) {
    release_cached_locked();
    block = source_->take(size);
    if (block != nullptr) return block;
  }
  const auto free = source_->free_bytes();
  fail(ErrorKind::io, "allocate",
       "{} has no {} bytes ({:.1f} MB) left: {:.1f} MB live, {:.1f} MB cached before this request, "
       "{} free; use a smaller batch or model",
       source_->name(), size, megabytes(size), megabytes(stats_.live), megabytes(cached),
       free ? fmt::format("{:.1f} MB", megabytes(*free)) : "unknown how much");
}

void CachingAllocator::deallocate(void* block, std::size_t bytes) noexcept {
  if (block == nullptr) return;
  const std::size_t size = rounded(bytes);
  std::lock_guard lock(mutex_);
  BlockCache* blocks = &blocks_;
  if (!pooled_.empty()) {
    if (const auto found = pooled_.find(block); found != pooled_.end())
      blocks = &found->second->blocks_;
  }
  stats_.live -= size;
  if (blocks->put(block, size)) {
    stats_.cached += size;
  } else {
    source_->give_back(block);
  }
}

MemoryStats CachingAllocator::stats() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

void CachingAllocator::reset_peak() {
  std::lock_guard lock(mutex_);
  stats_.peak = stats_.live;
}

void CachingAllocator::release_cached() noexcept {
  std::lock_guard lock(mutex_);
  release_cached_locked();
}

void CachingAllocator::release_cached_locked() noexcept {
  stats_.cached -= blocks_.clear([&](void* block) { source_->give_back(block); });
}

void CachingAllocator::end_pool(PrivatePool& pool) noexcept {
  std::lock_guard lock(mutex_);
  stats_.cached -= pool.blocks_.clear([&](void* block) { source_->give_back(block); });
  std::erase_if(pooled_, [&](const auto& entry) { return entry.second == &pool; });
}

// The allocators are never destroyed: tensors with static storage may outlive any other static.
CachingAllocator& cpu_allocator() {
  static auto* allocator = new CachingAllocator(std::make_unique<SystemMemory>());
  return *allocator;
}

CachingAllocator& allocator_of(Device device) {
  return device.has_host_memory() ? cpu_allocator() : cuda::device_allocator(device.index);
}

}  // namespace cmir
