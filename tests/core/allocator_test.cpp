#include "core/allocator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/tensor.h"

namespace cmir {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// Memory of the test's own: never more than `capacity` bytes at once.
struct Supply {
  std::size_t capacity = std::size_t{1} << 40;
  std::size_t taken = 0;
  std::map<void*, std::size_t> blocks;
  ~Supply() {
    for (const auto& [block, bytes] : blocks) std::free(block);  // what a test did not give back
  }
};

class FakeMemory final : public MemorySource {
 public:
  explicit FakeMemory(Supply& supply) : supply_(supply) {}
  void* take(std::size_t bytes) override {
    if (bytes > supply_.capacity - supply_.taken) return nullptr;
    void* block = std::aligned_alloc(CachingAllocator::kAlignment, bytes);
    supply_.blocks[block] = bytes;
    supply_.taken += bytes;
    return block;
  }
  void give_back(void* block) noexcept override {
    supply_.taken -= supply_.blocks.at(block);
    supply_.blocks.erase(block);
    std::free(block);
  }
  std::string name() const override { return "the fake"; }
  std::optional<std::size_t> free_bytes() const override {
    return supply_.capacity - supply_.taken;
  }

 private:
  Supply& supply_;
};

struct FakeAllocator {
  Supply supply;
  CachingAllocator allocator{std::make_unique<FakeMemory>(supply)};

  FakeAllocator() = default;
  explicit FakeAllocator(std::size_t capacity) { supply.capacity = capacity; }
  void* allocate(std::size_t bytes) { return allocator.allocate(bytes); }
  void deallocate(void* block, std::size_t bytes) { allocator.deallocate(block, bytes); }
  MemoryStats stats() const { return allocator.stats(); }
};

TEST(Allocator, RoundsToFourAlignedClassesPerPowerOfTwo) {
  std::size_t previous = 0;
  int classes = 0;
  for (std::size_t bytes = 1; bytes <= 8192; ++bytes) {
    const std::size_t size = CachingAllocator::rounded(bytes);
    ASSERT_GE(size, bytes);
    ASSERT_EQ(size % CachingAllocator::kAlignment, 0U);
    ASSERT_LE(size, std::max<std::size_t>(bytes + 63, bytes + bytes / 4)) << bytes;
    ASSERT_EQ(CachingAllocator::rounded(size), size);
    classes += size != previous ? 1 : 0;
    previous = size;
  }
  EXPECT_EQ(classes, 4 + 4 * 5);  // 64, 128, 192, 256, then four for each of 512 .. 8192
}

TEST(Allocator, CountsLivePeakCachedAndReuses) {
  FakeAllocator allocator;
  void* a = allocator.allocate(1000);
  void* b = allocator.allocate(1000);
  EXPECT_NE(a, b);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(a) % CachingAllocator::kAlignment, 0U);
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
  allocator.allocator.reset_peak();
  EXPECT_EQ(allocator.stats().peak, 0U);
  allocator.allocator.release_cached();
  EXPECT_EQ(allocator.stats().cached, 0U);
  void* c = allocator.allocate(1000);
  EXPECT_EQ(allocator.stats().misses, 3U);
  allocator.deallocate(c, 1000);
}

TEST(Allocator, ZeroBytesAreNoBlock) {
  FakeAllocator allocator;
  EXPECT_EQ(allocator.allocate(0), nullptr);
  allocator.deallocate(nullptr, 0);
  EXPECT_EQ(allocator.stats().allocations, 0U);
}

TEST(Allocator, OutOfMemoryGivesTheCacheBackFirst) {
  FakeAllocator allocator(4096);
  void* live = allocator.allocate(1024);
  allocator.deallocate(allocator.allocate(2048), 2048);
  void* large = allocator.allocate(3072);  // only without the cached 2048
  EXPECT_NE(large, nullptr);
  EXPECT_EQ(allocator.stats().cached, 0U);
  EXPECT_EQ(allocator.supply.taken, 4096U);
  allocator.deallocate(large, 3072);
  allocator.deallocate(live, 1024);
}

TEST(Allocator, OutOfMemoryIsAnErrorThatSaysWhatWasAskedLiveCachedAndFree) {
  FakeAllocator allocator(8'000'000);
  void* live = allocator.allocate(2'097'152);
  allocator.deallocate(allocator.allocate(1'048'576), 1'048'576);
  try {
    allocator.allocate(16'777'216);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::io);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("the fake has no 16777216 bytes (16.8 MB) left"),
                                    HasSubstr("2.1 MB live"), HasSubstr("1.0 MB cached"),
                                    HasSubstr("5.9 MB free"), HasSubstr("smaller batch")));
  }
  EXPECT_EQ(allocator.stats().cached, 0U);
  EXPECT_EQ(allocator.stats().live, 2'097'152U);
  EXPECT_THROW(allocator.allocate(std::numeric_limits<std::size_t>::max()), Error);
  allocator.deallocate(live, 2'097'152);
  EXPECT_EQ(allocator.stats().live, 0U);
}

TEST(Allocator, TheSystemRunsOutToo) {
  EXPECT_THROW(cpu_allocator().allocate(std::size_t{1} << 62), Error);
}

TEST(Allocator, APoolReusesItsBlocksAndNobodyElseGetsThem) {
  FakeAllocator allocator;
  void* outside = allocator.allocate(1000);
  allocator.deallocate(outside, 1000);
  {
    PrivatePool pool(allocator.allocator);
    void *first = nullptr, *escaped = nullptr;
    {
      const ScopedPool scope(pool);
      first = allocator.allocate(1000);
      EXPECT_NE(first, outside);
      allocator.deallocate(first, 1000);
      EXPECT_EQ(allocator.allocate(1000), first);
      escaped = allocator.allocate(1000);
      allocator.deallocate(first, 1000);
    }
    EXPECT_EQ(allocator.allocate(1000), outside);
    void* fresh = allocator.allocate(1000);
    EXPECT_NE(fresh, first);
    allocator.allocator.release_cached();  // the pool keeps its blocks
    EXPECT_EQ(allocator.supply.blocks.count(first), 1U);
    allocator.deallocate(escaped, 1000);  // outside its scope, but it stays the pool's
    EXPECT_NE(allocator.allocate(1000), escaped);
    const ScopedPool scope(pool);
    EXPECT_EQ(allocator.allocate(1000), escaped);
    allocator.deallocate(escaped, 1000);
    EXPECT_EQ(allocator.stats().cached, 2048U);
  }
  EXPECT_EQ(allocator.stats().cached, 0U);
  EXPECT_EQ(allocator.supply.taken, allocator.stats().live);
}

TEST(Allocator, ABlockThatOutlivesItsPoolIsFreedLikeAnyOther) {
  FakeAllocator allocator;
  void* survivor = nullptr;
  {
    PrivatePool pool(allocator.allocator);
    const ScopedPool scope(pool);
    survivor = allocator.allocate(500);
  }
  EXPECT_EQ(allocator.stats().live, 512U);
  allocator.deallocate(survivor, 500);
  EXPECT_EQ(allocator.stats().live, 0U);
  EXPECT_EQ(allocator.stats().cached, allocator.supply.taken);
}

TEST(Allocator, APoolThatRunsOutGivesNothingBack) {
  FakeAllocator allocator(4096);
  allocator.deallocate(allocator.allocate(2048), 2048);
  PrivatePool pool(allocator.allocator);
  const ScopedPool scope(pool);
  EXPECT_THROW(allocator.allocate(3072), Error);
  EXPECT_EQ(allocator.stats().cached, 2048U);
  EXPECT_THROW(ScopedPool{pool}, Error);
}

TEST(Allocator, APoolIsOfTheThreadThatEnteredIt) {
  FakeAllocator allocator;
  PrivatePool pool(allocator.allocator);
  const ScopedPool scope(pool);
  void* mine = allocator.allocate(64);
  allocator.deallocate(mine, 64);
  std::thread([&] {
    void* other = allocator.allocate(64);
    EXPECT_NE(other, mine);
    allocator.deallocate(other, 64);
  }).join();
}

TEST(Allocator, ManyBlocksOfOneClassCanAllBeFreed) {
  FakeAllocator allocator;
  std::vector<void*> blocks;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 1000; ++i) blocks.push_back(allocator.allocate(64));
    for (void* block : blocks) allocator.deallocate(block, 64);
    blocks.clear();
    EXPECT_EQ(allocator.stats().cached, 64000U);
    if (round == 1) allocator.allocator.release_cached();
    if (round == 1) allocator.deallocate(allocator.allocate(64), 64);
  }
}

TEST(Allocator, ThreadsNeverShareABlock) {
  FakeAllocator allocator;
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
    EXPECT_EQ(cpu_allocator().stats().live, before + CachingAllocator::rounded(40000));
  }
  EXPECT_EQ(cpu_allocator().stats().live, before);
}

}  // namespace
}  // namespace cmir
