#include "core/allocator.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/tensor.h"

namespace cmir {
namespace {

TEST(Allocator, RoundsToFourAlignedClassesPerPowerOfTwo) {
  std::size_t previous = 0;
  int classes = 0;
  for (std::size_t bytes = 1; bytes <= 8192; ++bytes) {
    const std::size_t size = CpuAllocator::rounded(bytes);
    ASSERT_GE(size, bytes);
    ASSERT_EQ(size % CpuAllocator::kAlignment, 0U);
    ASSERT_LE(size, std::max<std::size_t>(bytes + 63, bytes + bytes / 4)) << bytes;
    ASSERT_EQ(CpuAllocator::rounded(size), size);
    classes += size != previous ? 1 : 0;
    previous = size;
  }
  EXPECT_EQ(classes, 4 + 4 * 5);  // 64, 128, 192, 256, then four for each of 512 .. 8192
}

TEST(Allocator, CountsLivePeakCachedAndReuses) {
  CpuAllocator allocator;
  void* a = allocator.allocate(1000);
  void* b = allocator.allocate(1000);
  EXPECT_NE(a, b);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(a) % CpuAllocator::kAlignment, 0U);
  EXPECT_EQ(allocator.stats().live, 2048U);
  allocator.deallocate(a, 1000);
  EXPECT_EQ(allocator.stats().live, 1024U);
  EXPECT_EQ(allocator.stats().cached, 1024U);
  EXPECT_EQ(allocator.stats().peak, 2048U);
  EXPECT_EQ(allocator.allocate(900), a);  // the same class
  EXPECT_EQ(allocator.stats().misses, 2U);
  EXPECT_EQ(allocator.stats().allocations, 3U);
  allocator.deallocate(a, 900);
  allocator.deallocate(b, 1000);
  allocator.reset_peak();
  EXPECT_EQ(allocator.stats().peak, 0U);
  allocator.release_cached();
  EXPECT_EQ(allocator.stats().cached, 0U);
  void* c = allocator.allocate(1000);
  EXPECT_EQ(allocator.stats().misses, 3U);
  allocator.deallocate(c, 1000);
}

TEST(Allocator, ZeroBytesAreNoBlock) {
  CpuAllocator allocator;
  EXPECT_EQ(allocator.allocate(0), nullptr);
  allocator.deallocate(nullptr, 0);
  EXPECT_EQ(allocator.stats().allocations, 0U);
}

TEST(Allocator, OutOfMemoryIsAnErrorThatGivesTheCacheBackAndLeavesTheCountersRight) {
  CpuAllocator allocator;
  allocator.deallocate(allocator.allocate(1000), 1000);
  try {
    allocator.allocate(std::size_t{1} << 62);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::io);
    EXPECT_NE(std::string(error.what()).find("4611686018427387904"), std::string::npos)
        << error.what();
  }
  EXPECT_EQ(allocator.stats().cached, 0U);
  EXPECT_EQ(allocator.stats().live, 0U);
  EXPECT_THROW(allocator.allocate(std::numeric_limits<std::size_t>::max()), Error);
  void* block = allocator.allocate(64);
  EXPECT_EQ(allocator.stats().live, 64U);
  allocator.deallocate(block, 64);
}

TEST(Allocator, ManyBlocksOfOneClassCanAllBeFreed) {
  CpuAllocator allocator;
  std::vector<void*> blocks;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 1000; ++i) blocks.push_back(allocator.allocate(64));
    for (void* block : blocks) allocator.deallocate(block, 64);
    blocks.clear();
    EXPECT_EQ(allocator.stats().cached, 64000U);
    if (round == 1) allocator.release_cached();
    if (round == 1) allocator.deallocate(allocator.allocate(64), 64);
  }
}

TEST(Allocator, ThreadsNeverShareABlock) {
  CpuAllocator allocator;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&allocator, t] {
      for (int i = 0; i < 2000; ++i) {
        const std::size_t bytes = 1 + (i * 37 + t) % 500;
        auto* block = static_cast<unsigned char*>(allocator.allocate(bytes));
        std::memset(block, t, bytes);
        for (std::size_t j = 0; j < bytes; ++j) ASSERT_EQ(block[j], t);
        allocator.deallocate(block, bytes);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(allocator.stats().live, 0U);
  EXPECT_EQ(allocator.stats().allocations, 8000U);
}

TEST(Allocator, TensorsReturnTheirMemory) {
  const std::size_t before = cpu_allocator().stats().live;
  {
    const Tensor tensor = Tensor::zeros({100, 100});
    const Tensor view = tensor.slice(1, 2);
    EXPECT_EQ(cpu_allocator().stats().live, before + CpuAllocator::rounded(40000));
  }
  EXPECT_EQ(cpu_allocator().stats().live, before);
}

}  // namespace
}  // namespace cmir
