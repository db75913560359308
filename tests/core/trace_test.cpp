#include "core/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "core/range.h"

namespace cmir {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> names_of(const TraceBuffer& buffer) {
  std::vector<std::string> names;
  for (const TraceEvent& e : buffer.events())
    names.push_back(std::string(name_of(e.kind)) + " " + e.name);
  return names;
}

void one_step(Trace* trace, std::int64_t number) {
  const TraceStep step(trace, number);
  trace_phase("forward");
  const TraceSpan span(TraceKind::op, "work");
}

TEST(Trace, NotesNothingWithoutAScope) {
  Trace trace;
  { const TraceSpan span(TraceKind::op, "before"); }
  {
    const TraceScope none(nullptr, "main");
    EXPECT_FALSE(tracing());
    const TraceSpan span(TraceKind::op, "off");
  }
  EXPECT_TRUE(trace.buffers().empty());
  {
    const TraceScope scope(&trace, "main");
    EXPECT_TRUE(tracing());
    const TraceSpan outer(TraceKind::op, "outer");
    const TraceSpan inner(TraceKind::kernel, "inner", {.bytes = 12, .operations = 7});
  }
  EXPECT_FALSE(tracing());
  { const TraceSpan span(TraceKind::op, "after"); }
  ASSERT_EQ(trace.buffers().size(), 1U);
  const TraceBuffer& buffer = *trace.buffers()[0];
  EXPECT_EQ(buffer.thread(), "main");
  EXPECT_THAT(names_of(buffer), ElementsAre("kernel inner", "op outer"));
  const TraceEvent inner = buffer.events()[0], outer = buffer.events()[1];
  EXPECT_EQ(inner.cost.bytes, 12);
  EXPECT_EQ(inner.cost.operations, 7);
  EXPECT_EQ(outer.cost.bytes, -1);
  EXPECT_TRUE(0 <= outer.begin && outer.begin <= inner.begin && inner.begin <= inner.end &&
              inner.end <= outer.end && outer.end <= trace.now());
}

TEST(Trace, AnotherTraceInTheSamePlaceHasItsOwnBuffers) {
  for (int i = 0; i < 3; ++i) {
    Trace trace;
    { const TraceScope scope(&trace, "main"); }
    ASSERT_EQ(trace.buffers().size(), 1U);
  }
}

TEST(Trace, AFullBufferCountsWhatItDrops) {
  Trace trace(1, 3);
  const TraceScope scope(&trace, "main");
  for (int i = 0; i < 5; ++i) const TraceSpan span(TraceKind::op, "work");
  EXPECT_EQ(trace.buffers()[0]->events().size(), 3U);
  EXPECT_EQ(trace.dropped(), 2U);
}

TEST(Trace, StepsAreThoseAfterTheFirstAndConsistOfPhases) {
  Trace trace(2);
  for (int number = 1; number <= 5; ++number) {
    one_step(&trace, number);
    EXPECT_EQ(trace.recording(), number == 2) << number;
  }
  const TraceBuffer& buffer = *trace.buffers().at(0);
  EXPECT_THAT(names_of(buffer), ElementsAre("phase data", "op work", "phase forward", "step step",
                                            "phase data", "op work", "phase forward", "step step"));
}

TEST(Trace, StepsHaveTheirNumberAndTheirPhasesLeaveNoGap) {
  Trace trace(1);
  one_step(&trace, 7);
  one_step(&trace, 8);
  std::vector<TraceEvent> phases;
  for (const TraceEvent& e : trace.buffers().at(0)->events()) {
    if (e.kind == TraceKind::phase) phases.push_back(e);
    if (e.kind != TraceKind::step) continue;
    EXPECT_EQ(e.number, 8);
    ASSERT_EQ(phases.size(), 2U);
    EXPECT_EQ(e.begin, phases[0].begin);
    EXPECT_EQ(phases[0].end, phases[1].begin);
    EXPECT_EQ(phases[1].end, e.end);
  }
}

TEST(Trace, AStepWithoutWorkIsNotNoted) {
  Trace trace(5);
  one_step(&trace, 1);
  { const TraceStep step(&trace, 2); }
  EXPECT_TRUE(trace.buffers().at(0)->events().empty());
  EXPECT_FALSE(tracing());
}

TEST(Trace, OneThreadOwnsIt) {
  Trace trace(5);
  one_step(&trace, 1);
  std::thread([&] {
    one_step(&trace, 1);
    one_step(&trace, 2);
  }).join();
  EXPECT_TRUE(trace.buffers().empty());
  one_step(&trace, 2);
  EXPECT_EQ(trace.buffers().size(), 1U);
}

TEST(Trace, AStepThatDidNotFitDoesNotCountAndEndsIt) {
  Trace trace(5, 6);  // a step has four events
  for (int number = 1; number <= 4; ++number) one_step(&trace, number);
  EXPECT_THAT(
      names_of(*trace.buffers().at(0)),
      ElementsAre("phase data", "op work", "phase forward", "step step", "phase data", "op work"));
  EXPECT_EQ(trace.dropped(), 1U);
  EXPECT_FALSE(trace.recording());
}

TEST(Trace, RefusesToTraceNoStep) { EXPECT_THROW(Trace(0), Error); }

/// Spans of the threads that work on a parallel_for lie within the caller's.
TEST(Trace, NotesTheSharesOfAParallelFor) {
  const int before = thread_count();
  for (const int threads : {1, 2, 3}) {
    set_thread_count(threads);
    Trace trace;
    for (int i = 0; i < 3; ++i) {
      const TraceScope scope(&trace, "main");
      const Range range("busy");
      const TraceSpan span(TraceKind::kernel, "busy");
      std::atomic<int> started{0};
      parallel_for(0, threads, 1, [&](std::int64_t, std::int64_t) {
        for (++started; started < threads;) std::this_thread::yield();  // each does one
      });
    }
    parallel_for(0, threads, 1, [](std::int64_t, std::int64_t) {});
    ASSERT_EQ(trace.buffers().size(), static_cast<std::size_t>(threads));
    std::vector<std::string> names;
    for (const TraceBuffer* buffer : trace.buffers()) {
      names.push_back(buffer->thread());
      const bool caller = buffer->thread() == "main";
      const std::size_t shares = threads == 1 ? 0 : 3;
      ASSERT_EQ(buffer->events().size(), shares + (caller ? 3 : 0));
      for (const TraceEvent& e : buffer->events()) {
        EXPECT_STREQ(e.name, "busy");
        EXPECT_TRUE(caller || e.kind == TraceKind::share);
      }
    }
    std::ranges::sort(names);
    std::vector<std::string> expected{"main"};
    for (int worker = 1; worker < threads; ++worker)
      expected.push_back("worker " + std::to_string(worker));
    EXPECT_EQ(names, expected);
  }
  set_thread_count(before);
}

}  // namespace
}  // namespace cmir
