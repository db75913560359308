#include "core/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "core/error.h"

namespace cmir {
namespace {

class ParallelFor : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override { set_thread_count(GetParam()); }
  void TearDown() override { set_thread_count(before_); }

 private:
  int before_ = thread_count();
};
INSTANTIATE_TEST_SUITE_P(Threads, ParallelFor, ::testing::Values(1, 2, 5));

TEST_P(ParallelFor, VisitsEveryIndexOnce) {
  for (const std::int64_t count : {0, 1, 7, 64, 65, 1001}) {
    for (const std::int64_t grain : {1, 8, 64, 5000}) {
      std::vector<std::atomic<int>> visits(count);
      parallel_for(-3, count - 3, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) visits[i + 3].fetch_add(1);
      });
      for (const auto& v : visits) ASSERT_EQ(v.load(), 1) << count << " by " << grain;
    }
  }
}

TEST_P(ParallelFor, ChunkBoundsDependOnTheGrainOnly) {
  std::mutex mutex;
  std::set<std::pair<std::int64_t, std::int64_t>> chunks;
  parallel_for(5, 27, 10, [&](std::int64_t begin, std::int64_t end) {
    std::lock_guard lock(mutex);
    chunks.emplace(begin, end);
  });
  EXPECT_EQ(chunks, (std::set<std::pair<std::int64_t, std::int64_t>>{{5, 15}, {15, 25}, {25, 27}}));
  EXPECT_EQ(chunk_count(5, 27, 10), 3);
}

TEST_P(ParallelFor, HugeGrainsAndRangesDoNotOverflow) {
  constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(chunk_count(0, 10, kMax), 1);
  EXPECT_EQ(chunk_count(0, kMax, kMax - 1), 2);
  std::atomic<std::int64_t> sum{0};
  parallel_for(10, kMax, kMax - 20,
               [&](std::int64_t begin, std::int64_t end) { sum += end - begin; });
  EXPECT_EQ(sum.load(), kMax - 10);
}

TEST_P(ParallelFor, NestedCallsRunInline) {
  std::atomic<int> sum{0};
  parallel_for(0, 10, 1, [&](std::int64_t begin, std::int64_t) {
    const auto outer = std::this_thread::get_id();
    parallel_for(0, 10, 1, [&](std::int64_t inner, std::int64_t) {
      sum += static_cast<int>(begin * 10 + inner);
      if (thread_count() > 1) {
        EXPECT_EQ(std::this_thread::get_id(), outer);
      }
    });
  });
  EXPECT_EQ(sum.load(), 99 * 100 / 2);
}

TEST_P(ParallelFor, RethrowsAnExceptionAndStaysUsable) {
  for (int round = 0; round < 20; ++round) {
    EXPECT_THROW(parallel_for(0, 100, 1,
                              [](std::int64_t begin, std::int64_t) {
                                if (begin % 10 == 3)
                                  fail(ErrorKind::numeric, "body", "chunk {}", begin);
                              }),
                 Error);
    std::atomic<int> count{0};
    parallel_for(0, 100, 1, [&](std::int64_t, std::int64_t) { ++count; });
    ASSERT_EQ(count.load(), 100);
  }
}

TEST_P(ParallelFor, ManyShortJobsInARowAllComplete) {
  std::vector<std::int64_t> partial(3);
  for (int job = 0; job < 1000; ++job) {
    parallel_for(0, 3, 1, [&](std::int64_t begin, std::int64_t) { partial[begin] += job; });
  }
  for (const auto sum : partial) EXPECT_EQ(sum, 1000LL * 999 / 2);
}

TEST_P(ParallelFor, SeveralCallersAtOnceAreAllServed) {
  std::vector<std::thread> callers;
  std::atomic<std::int64_t> sum{0};
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int job = 0; job < 100; ++job) {
        parallel_for(0, 16, 1, [&](std::int64_t begin, std::int64_t) { sum += begin; });
      }
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(sum.load(), 4 * 100 * 120);
}

TEST_P(ParallelFor, RefusesNonsense) {
  EXPECT_THROW(parallel_for(0, 10, 0, [](std::int64_t, std::int64_t) {}), Error);
  EXPECT_THROW(set_thread_count(0), Error);
  if (GetParam() > 1) {
    EXPECT_THROW(parallel_for(0, 10, 1, [](std::int64_t, std::int64_t) { set_thread_count(1); }),
                 Error);
  }
  EXPECT_EQ(thread_count(), GetParam());
}

}  // namespace
}  // namespace cmir
