#include "core/allocator.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <limits>

#include "core/error.h"

namespace cmir {

std::size_t CpuAllocator::rounded(std::size_t bytes) {
  if (bytes <= kAlignment) return kAlignment;
  const std::size_t step = std::max(std::bit_floor(bytes - 1) / 4, kAlignment);
  return (bytes + step - 1) / step * step;
}

void* CpuAllocator::allocate(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  require(bytes <= std::numeric_limits<std::size_t>::max() / 2, "allocate",
          "{} bytes is more than any machine has", bytes);
  const std::size_t size = rounded(bytes);
  std::lock_guard lock(mutex_);
  SizeClass& size_class = classes_[size];
  void* block = nullptr;
  if (!size_class.free.empty()) {
    block = size_class.free.back();
    size_class.free.pop_back();
    stats_.cached -= size;
  } else {
    if (size_class.free.capacity() <= size_class.blocks)
      size_class.free.reserve(2 * size_class.blocks + 1);
    block = std::aligned_alloc(kAlignment, size);
    if (block == nullptr) {
      release_cached_locked();
      block = std::aligned_alloc(kAlignment, size);
    }
    if (block == nullptr) {
      fail(ErrorKind::io, "allocate",
           "the system has no {} bytes left ({} live); use a smaller batch", size, stats_.live);
    }
    ++size_class.blocks;
    ++stats_.misses;
  }
  ++stats_.allocations;
  stats_.live += size;
  stats_.peak = std::max(stats_.peak, stats_.live);
  return block;
}

void CpuAllocator::deallocate(void* block, std::size_t bytes) noexcept {
  if (block == nullptr) return;
  const std::size_t size = rounded(bytes);
  std::lock_guard lock(mutex_);
  classes_.find(size)->second.free.push_back(block);
  stats_.live -= size;
  stats_.cached += size;
}

MemoryStats CpuAllocator::stats() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

void CpuAllocator::reset_peak() {
  std::lock_guard lock(mutex_);
  stats_.peak = stats_.live;
}

void CpuAllocator::release_cached() noexcept {
  std::lock_guard lock(mutex_);
  release_cached_locked();
}

void CpuAllocator::release_cached_locked() noexcept {
  for (auto& [size, size_class] : classes_) {
    for (void* block : size_class.free) std::free(block);
    size_class.blocks -= size_class.free.size();
    size_class.free.clear();
  }
  stats_.cached = 0;
}

CpuAllocator& cpu_allocator() {
  // Never destroyed: tensors with static storage may outlive any other static.
  static auto* allocator = new CpuAllocator;
  return *allocator;
}

}  // namespace cmir
