#include "kernels/simt/grid.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <exception>
#include <mutex>
#include <numeric>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/simt/async_copy.h"
#include "kernels/simt/fiber.h"
#include "kernels/simt/kernel_name.h"
#include "kernels/simt/mbarrier.h"
#include "kernels/simt/schedule.h"
#include "kernels/simt/shared.h"
#include "kernels/simt/warpgroup_product.h"

namespace cmir::kernels::simt {

uint3 threadIdx;
uint3 blockIdx;
dim3 blockDim;
dim3 gridDim;

namespace {

constexpr unsigned kMaxThreads = 1024;

enum class State { fresh, ready, at_barrier, at_warp, at_event, done };

struct Thread {
  State state;
  uint3 position;
  Fiber* fiber;  // null until the thread has started
  Location where;
  const char* waits_for;
  int predicate;        // at a barrier
  WarpArrival arrival;  // at a warp operation
  const void* event;    // at an event
  std::uint64_t epoch;  // of its last named barrier
};

/// Who waits, and for how many.
struct PartBarrier {
  std::size_t threads;
  std::vector<unsigned> waiting;
};

/// What the warp's lanes know of one another's accesses to shared memory.
struct Warp {
  std::uint32_t stamp;       // operations completed
  std::uint32_t all_before;  // accesses with a smaller stamp are ordered for every pair of lanes
  std::array<std::array<std::uint32_t, 32>, 32> before;  // the same, [lane that knows][of lane]
};

struct Cancelled {};  // unwinds the threads that still wait when a fault was found

/// The launch that runs now, and its block.
struct Grid {
  std::string kernel;
  const ThreadBody* body;
  Schedule schedule;
  std::mt19937_64 random;

  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::array<std::uint64_t, kMaxThreads / 64> ready;  // one bit per thread
  unsigned running;
  unsigned done;
  unsigned at_barrier;
  BarrierResult barrier;
  std::uint64_t block = 0;
  std::uint64_t epochs = 0;  // so many of any thread
  std::uint64_t epoch = 0;   // of what all threads have met at
  std::array<PartBarrier, 16> named;
  std::exception_ptr error;  // the first fault
};
Grid grid;
std::mutex launch_lock;
std::atomic<std::thread::id> launching;

struct History {
  std::mutex lock;
  std::set<std::string> kernels;
  std::string last;
  std::uint64_t launches = 0;
};
History& history() {
  static History kernels;
  return kernels;
}

unsigned thread_count() { return static_cast<unsigned>(grid.threads.size()); }
Warp& warp_of(unsigned thread) { return grid.warps[thread / 32]; }

void make_ready(unsigned thread) {
  if (grid.threads[thread].fiber != nullptr) grid.threads[thread].state = State::ready;
  grid.ready[thread / 64] |= std::uint64_t{1} << (thread % 64);
}

std::string text_of(const uint3& p) { return fmt::format("({},{},{})", p.x, p.y, p.z); }

std::string line_of(const Location& where) {
  const std::string_view path = where.file;
  return fmt::format("{}:{}", path.substr(path.rfind('/') + 1), where.line);
}

/// " block (0,0,0), thread (5,0,0) ..." of the kernel, without throwing.
Error fault_of(unsigned thread, const Location& where, const std::string& message) {
  return Error(
      ErrorKind::internal, grid.kernel,
      fmt::format("block {}, {}: {}", text_of(blockIdx), describe(thread, where), message));
}

/// Keeps the first fault, and wakes every thread that waits so that its stack unwinds.
void cancel(std::exception_ptr error) {
  if (grid.error == nullptr) grid.error = std::move(error);
  grid.ready = {};
  for (unsigned t = 0; t < thread_count(); ++t) {
    Thread& thread = grid.threads[t];
    if (thread.fiber != nullptr && thread.state != State::done) make_ready(t);
  }
}

unsigned first_in(State state) {
  const auto found = std::find_if(grid.threads.begin(), grid.threads.end(),
                                  [&](const Thread& thread) { return thread.state == state; });
  return static_cast<unsigned>(found - grid.threads.begin());
}

/// No thread can go on although some have not returned: says who waits for whom.
void report_deadlock() {
  const unsigned lane = first_in(State::at_warp);
  unsigned waiting = lane < thread_count() ? lane : first_in(State::at_barrier);
  if (waiting == thread_count()) waiting = first_in(State::at_event);
  const Thread& thread = grid.threads[waiting];
  std::string others;
  if (lane < thread_count()) {
    for (unsigned t = lane / 32 * 32; t < std::min(lane / 32 * 32 + 32, thread_count()); ++t) {
      const Thread& missing = grid.threads[t];
      if ((thread.arrival.mask >> t % 32 & 1) == 0 || missing.state == State::at_warp) continue;
      others = fmt::format("{} waits at {} instead", describe(t, missing.where), missing.waits_for);
      break;
    }
  } else if (grid.done > 0) {
    others = fmt::format("{} of {} threads have returned, the first of them thread {}", grid.done,
                         thread_count(), text_of(grid.threads[first_in(State::done)].position));
  }
  cancel(std::make_exception_ptr(
      fault_of(waiting, thread.where,
               fmt::format("{} is not reached by all threads: {}", thread.waits_for, others))));
}

/// Takes a thread that can go on out of the ready set; thread_count() if there is none.
unsigned choose() {
  const unsigned words = (thread_count() + 63) / 64;
  const bool descending = grid.schedule.order == Schedule::Order::descending;
  unsigned start = 0, shift = 0;
  if (grid.schedule.order == Schedule::Order::random) {
    const std::uint64_t number = grid.random();
    start = static_cast<unsigned>(number % words);
    shift = static_cast<unsigned>(number >> 58);
  }
  for (unsigned i = 0; i < words; ++i) {
    const unsigned w = descending ? words - 1 - i : (start + i) % words;
    if (grid.ready[w] == 0) continue;
    const std::uint64_t turned = std::rotr(grid.ready[w], static_cast<int>(shift));
    const auto bit = descending ? 63 - static_cast<unsigned>(std::countl_zero(turned))
                                : (static_cast<unsigned>(std::countr_zero(turned)) + shift) % 64;
    grid.ready[w] &= ~(std::uint64_t{1} << bit);
    return w * 64 + bit;
  }
  return thread_count();
}

void work();

/// Goes on with the thread that the schedule chooses, or with the launcher when none is left.
/// Returns when the calling fiber is resumed: in a thread that waited, when it may go on; in an
/// idle fiber, to start grid.running.
void next() {
  unsigned chosen = choose();
  if (chosen == thread_count() && grid.done != thread_count() && grid.error == nullptr) {
    report_deadlock();
    chosen = choose();
  }
  if (chosen == thread_count()) return Fiber::launcher().resume();
  Thread& thread = grid.threads[chosen];
  grid.running = chosen;
  threadIdx = thread.position;
  // A thread that has just returned leaves its fiber at the pool's end: going on with a fresh
  // thread there needs no switch.
  if (thread.fiber == nullptr) thread.fiber = &Fiber::take(&work);
  thread.state = State::ready;
  thread.fiber->resume();
}

/// Suspends the running thread, whose state says for what, until that happened.
void wait() {
  next();
  if (grid.error != nullptr) throw Cancelled{};
}

/// A returned lane must not be waited for.
void check_exit(unsigned thread) {
  const unsigned first = thread / 32 * 32;
  for (unsigned t = first; t < std::min(first + 32, thread_count()); ++t) {
    const Thread& other = grid.threads[t];
    if (other.state != State::at_warp || (other.arrival.mask >> thread % 32 & 1) == 0) continue;
    return cancel(std::make_exception_ptr(fault_of(
        t, other.where,
        fmt::format("{} with mask {:#010x} waits for thread {}, which has returned",
                    other.waits_for, other.arrival.mask, text_of(grid.threads[thread].position)))));
  }
}

/// What each fiber does for ever: run a thread, then go on with the next.
void work() {
  for (;;) {
    const unsigned me = grid.running;
    std::exception_ptr error;
    try {
      grid.body->call(grid.body->state);
      end_warpgroup_products();
    } catch (const Cancelled&) {
    } catch (...) {
      error = std::current_exception();
    }
    Thread& thread = grid.threads[me];
    thread.state = State::done;
    ++grid.done;
    if (error != nullptr) {
      cancel(std::move(error));
    } else if (grid.error == nullptr) {
      check_exit(me);
    }
    Fiber::give_back(*thread.fiber);
    next();
  }
}

void suspend_at(State state, const char* name, const Location& where) {
  Thread& thread = grid.threads[grid.running];
  thread.state = state;
  thread.waits_for = name;
  thread.where = where;
}

bool same_place(const Location& a, const Location& b) {
  return a.line == b.line && std::strcmp(a.file, b.file) == 0;
}

void release_barrier() {
  const Thread& last = grid.threads[grid.running];
  grid.barrier = {};
  for (unsigned t = 0; t < thread_count(); ++t) {
    const Thread& thread = grid.threads[t];
    if (!same_place(thread.where, last.where)) {
      fault(last.where, fmt::format("{} is not the barrier that all threads reach: {} is at {}",
                                    last.waits_for, describe(t, thread.where), thread.waits_for));
    }
    grid.barrier.count += thread.predicate != 0;
    grid.barrier.all &= thread.predicate != 0;
  }
  advance_epoch();
  grid.at_barrier = 0;
  for (unsigned t = 0; t < thread_count(); ++t) make_ready(t);
}

/// Faults if the lanes of the arrival's mask cannot all come to this same operation.
void check_arrival(const WarpArrival& arrival) {
  const unsigned me = grid.running, first = me / 32 * 32;
  const auto has = [](unsigned mask, unsigned lane) { return (mask >> lane & 1) != 0; };
  const auto fail_call = [&](const std::string& problem) {
    fault(arrival.where,
          fmt::format("{} with mask {:#010x}{}", arrival.name, arrival.mask, problem));
  };
  if (!has(arrival.mask, me % 32)) {
    fail_call(fmt::format(", which lacks the calling lane {}", me % 32));
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    const unsigned t = first + lane;
    if (t >= thread_count()) {
      if (!has(arrival.mask, lane)) continue;
      fail_call(fmt::format(", but its block of {} threads has no lane {} in this warp",
                            thread_count(), lane));
    }
    const Thread& other = grid.threads[t];
    if (other.state == State::done && has(arrival.mask, lane)) {
      fail_call(
          fmt::format(", but lane {}, thread {}, has returned", lane, text_of(other.position)));
    }
    if (other.state != State::at_warp) continue;
    if (!has(arrival.mask, lane) && !has(other.arrival.mask, me % 32)) continue;
    if (other.arrival.mask == arrival.mask && other.arrival.identity == arrival.identity) continue;
    fail_call(fmt::format(" disagrees with a lane of its warp: {} waits at {} with mask {:#010x}",
                          describe(t, other.where), other.waits_for, other.arrival.mask));
  }
}

/// Orders what the lanes did before against what they do from now on.
void join(Warp& warp, unsigned mask, unsigned present) {
  const std::uint32_t now = ++warp.stamp;
  if (mask == present) {
    warp.all_before = now;
    return;
  }
  std::array<std::uint32_t, 32> joined{};
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    for (unsigned of = 0; of < 32; ++of) {
      joined[of] = std::max(joined[of], warp.before[lane][of]);
    }
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (mask >> lane & 1) joined[lane] = now;
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (mask >> lane & 1) warp.before[lane] = joined;
  }
}

/// Runs the operation of the running thread's warp if all lanes of the mask have come.
void complete_if_all_came(const WarpArrival& arrival) {
  const unsigned first = grid.running / 32 * 32;
  std::array<const void*, 32> in{};
  std::array<void*, 32> out{};
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((arrival.mask >> lane & 1) == 0) continue;
    const Thread& thread = grid.threads[first + lane];
    if (thread.state != State::at_warp) return;
    in[lane] = thread.arrival.in;
    out[lane] = thread.arrival.out;
  }
  arrival.complete(arrival, arrival.mask, in.data(), out.data());
  const unsigned lanes = std::min(32u, thread_count() - first);
  join(warp_of(grid.running), arrival.mask, lanes == 32 ? ~0u : (1u << lanes) - 1);
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (arrival.mask >> lane & 1) make_ready(first + lane);
  }
}

void run_block(uint3 index) {
  blockIdx = index;
  grid.ready = {};
  grid.done = grid.at_barrier = 0;
  ++grid.block;
  advance_epoch();
  grid.named = {};
  const unsigned count = thread_count();
  for (unsigned t = 0; t < count; ++t) {
    grid.threads[t] = {};
    grid.threads[t].position = {t % blockDim.x, t / blockDim.x % blockDim.y,
                                t / (blockDim.x * blockDim.y)};
    make_ready(t);
  }
  std::fill(grid.warps.begin(), grid.warps.end(), Warp{});
  begin_shared_block();
  begin_async_copies(count);
  begin_mbarriers();
  begin_warpgroup_products(count);
  Fiber::launcher();
  next();
  if (grid.error != nullptr) std::rethrow_exception(std::exchange(grid.error, nullptr));
}

void check_launch(std::string_view kernel, dim3 blocks, dim3 block, std::size_t shared_bytes) {
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  require(threads >= 1 && threads <= kMaxThreads && block.z <= 64, kernel,
          "a block of {} x {} x {} threads; needs 1 to {}, at most 64 in z", block.x, block.y,
          block.z, kMaxThreads);
  require(blocks.x >= 1 && blocks.y >= 1 && blocks.z >= 1 && blocks.x <= 0x7FFFFFFF &&
              blocks.y <= 65535 && blocks.z <= 65535,
          kernel, "a grid of {} x {} x {} blocks; needs 1 to 2^31 - 1 in x, 65535 in y and z",
          blocks.x, blocks.y, blocks.z);
  require(shared_bytes <= kSharedLimit, kernel,
          "{} bytes of dynamic shared memory, the limit is {}", shared_bytes, kSharedLimit);
}

}  // namespace

std::string describe(const Location& where) { return describe(grid.running, where); }

std::string describe(unsigned thread, const Location& where) {
  const std::string text = fmt::format("thread {}", text_of(grid.threads[thread].position));
  return where.line == 0 ? text : fmt::format("{}, {}", text, line_of(where));
}

void fault(const Location& where, const std::string& message) {
  throw fault_of(grid.running, where, message);
}

unsigned thread_rank() { return grid.running; }
std::uint64_t block_serial() { return grid.block; }
std::uint64_t epoch() { return std::max(grid.epoch, grid.threads[grid.running].epoch); }
std::uint32_t warp_stamp() { return warp_of(grid.running).stamp; }
bool lane_ordered(unsigned lane, std::uint32_t stamp) {
  const Warp& warp = warp_of(grid.running);
  return stamp < std::max(warp.all_before, warp.before[grid.running % 32][lane]);
}

void wait_for_event(const void* event, const char* name, Location where) {
  suspend_at(State::at_event, name, where);
  grid.threads[grid.running].event = event;
  wait();
}

void wake_waiters(const void* event) {
  for (unsigned t = 0; t < thread_count(); ++t) {
    const Thread& thread = grid.threads[t];
    if (thread.state == State::at_event && thread.event == event) make_ready(t);
  }
}

void advance_epoch() { grid.epoch = ++grid.epochs; }

void part_barrier(int id, int threads, Location where) {
  if (id < 1 || id > 15 || threads < 32 || threads % 32 != 0) {
    fault(where, fmt::format("named_barrier {} for {} threads; needs 1 to 15, and whole warps", id,
                             threads));
  }
  PartBarrier& barrier = grid.named[static_cast<std::size_t>(id)];
  const auto expected = static_cast<std::size_t>(threads);
  if (!barrier.waiting.empty() && barrier.threads != expected) {
    fault(where, fmt::format("named_barrier {} is for {} threads here, and {} waits at it for {}",
                             id, expected, describe(barrier.waiting[0], {}), barrier.threads));
  }
  barrier.threads = expected;
  barrier.waiting.push_back(grid.running);
  if (barrier.waiting.size() < expected) return wait_for_event(&barrier, "named_barrier", where);
  ++grid.epochs;
  for (const unsigned t : barrier.waiting) grid.threads[t].epoch = grid.epochs;
  barrier.waiting.clear();
  wake_waiters(&barrier);
}

BarrierResult block_barrier(const char* name, int predicate, Location where) {
  suspend_at(State::at_barrier, name, where);
  grid.threads[grid.running].predicate = predicate;
  if (++grid.at_barrier == thread_count()) release_barrier();
  wait();
  // The next barrier cannot be released, nor this replaced, before every thread has come back here.
  return grid.barrier;
}

void arrive_at_warp(const WarpArrival& arrival) {
  check_arrival(arrival);
  suspend_at(State::at_warp, arrival.name, arrival.where);
  grid.threads[grid.running].arrival = arrival;
  complete_if_all_came(arrival);
  wait();
}

void run_grid(const void* kernel, dim3 blocks, dim3 block, std::size_t shared_bytes,
              const ThreadBody& body) {
  require(launching.load() != std::this_thread::get_id(), "launch",
          "called in a kernel: kernels do not launch kernels");
  const std::lock_guard guard(launch_lock);
  grid.kernel = kernel_name(kernel);
  check_launch(grid.kernel, blocks, block, shared_bytes);
  {
    const std::lock_guard history_guard(history().lock);
    history().last = grid.kernel;
    ++history().launches;
    history().kernels.emplace(base_name(grid.kernel));
  }
  struct Running {
    Running() { launching = std::this_thread::get_id(); }
    ~Running() { launching = std::thread::id{}; }
  } mark;
  gridDim = blocks;
  blockDim = block;
  grid.body = &body;
  grid.schedule = current_schedule();
  grid.random.seed(grid.schedule.seed);
  grid.threads.resize(block.x * block.y * block.z);
  grid.warps.resize((thread_count() + 31) / 32);
  begin_shared_launch(shared_bytes);

  const std::uint64_t count = std::uint64_t{blocks.x} * blocks.y * blocks.z;
  std::vector<std::uint64_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  using enum Schedule::Order;
  if (grid.schedule.order == descending) std::reverse(order.begin(), order.end());
  if (grid.schedule.order == random) std::shuffle(order.begin(), order.end(), grid.random);
  for (const std::uint64_t b : order) {
    run_block({static_cast<unsigned>(b % blocks.x), static_cast<unsigned>(b / blocks.x % blocks.y),
               static_cast<unsigned>(b / blocks.x / blocks.y)});
  }
}

std::set<std::string> kernels_run() {
  const std::lock_guard guard(history().lock);
  return history().kernels;
}

std::uint64_t launches() {
  const std::lock_guard guard(history().lock);
  return history().launches;
}

std::string last_kernel() {
  const std::lock_guard guard(history().lock);
  return history().last;
}

}  // namespace cmir::kernels::simt
