// Runs a grid of blocks on the host: blocks one after another, the threads of a block as fibers
// that leave off at barriers and warp operations.
//
// One launch runs at a time in the process, on the OS thread that launches. A thread runs until it
// waits or returns; then the schedule chooses among those that can go on. A thread that never waits
// costs no switch.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>

#include "core/error.h"
#include "kernels/simt/location.h"
#include "kernels/simt/types.h"

namespace cmir::kernels::simt {

/// Position of the running thread: plain variables, so that a debugger prints them.
extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;
inline constexpr int warpSize = 32;

/// Limits of an H100 (compute capability 9.0).
inline constexpr std::size_t kStaticSharedLimit = 48 * 1024;
inline constexpr std::size_t kSharedLimit = 227 * 1024;

/// A call without ownership: what one thread runs.
struct ThreadBody {
  void (*call)(const void* state);
  const void* state;
};
/// Runs body once per thread of the grid. `kernel` is the address that names it. Throws the first
/// fault found as an Error; the grid is not run further.
void run_grid(const void* kernel, dim3 grid, dim3 block, std::size_t shared_bytes,
              const ThreadBody& body);

/// Names, without template arguments, of the kernels launched so far in this process.
std::set<std::string> kernels_run();
/// How many launches there were.
std::uint64_t launches();
/// The kernel launched last: "reduce_rows<float>".
std::string last_kernel();

// What follows is called by the running thread of a kernel.

/// "block (0,0,0), thread (3,0,0), rows.cu:41"; the second form for another thread of the block.
std::string describe(const Location& where);
std::string describe(unsigned thread, const Location& where);
/// Throws the Error "KERNEL: block (..), thread (..), FILE:LINE: MESSAGE" of the running thread.
[[noreturn]] void fault(const Location& where, const std::string& message);

/// Index of the running thread in its block, x fastest, and of its block in the whole process.
unsigned thread_rank();
std::uint64_t block_serial();
/// Rises with every barrier of the running thread, and with every block: two accesses in different
/// epochs are ordered. (Not so those of threads that have met at different named barriers, of which
/// the model does not see that they race.)
std::uint64_t epoch();
/// Operations that the running thread's warp has completed in this block.
std::uint32_t warp_stamp();
/// Whether what `lane` of the running thread's warp did at that stamp is ordered before now, by
/// warp operations.
bool lane_ordered(unsigned lane, std::uint32_t stamp);

struct BarrierResult {
  int count = 0;  ///< threads whose predicate was not zero
  bool all = true;
};
BarrierResult block_barrier(const char* name, int predicate, Location where);

/// Of `threads` threads, those that call with this id.
void part_barrier(int id, int threads, Location where);

/// Suspends the running thread until another one calls wake_waiters(event). It is a fault if no
/// thread can.
void wait_for_event(const void* event, const char* name, Location where);
void wake_waiters(const void* event);
/// What all threads did before is ordered before what follows. That is more than an mbarrier
/// promises, whose phases call it: accesses to shared memory around one are not all checked.
void advance_epoch();

/// The lanes of one warp operation: the pointers are set for those in `mask`.
template <class In, class Out>
struct Lanes {
  unsigned mask;
  std::array<const In*, 32> in;
  std::array<Out*, 32> out;

  template <class F>
  void for_each(F&& f) const {
    for (unsigned lane = 0; lane < 32; ++lane) {
      if (mask >> lane & 1) f(lane);
    }
  }
};

/// One lane's arrival. `complete` is called once, when all lanes of the mask are there.
struct WarpArrival {
  const char* name;
  const void* identity;  ///< differs between operations that may not meet
  unsigned mask;
  const void* in;
  void* out;
  void (*complete)(const WarpArrival& arrival, unsigned mask, const void* const* in,
                   void* const* out);
  const void* state;
  Location where;
};
/// Returns when the operation is done and *arrival.out written.
void arrive_at_warp(const WarpArrival& arrival);

/// Brings the lanes of `mask` together; the last one to come runs complete(const Lanes<In, Out>&),
/// which sets every *out from every *in.
template <class Out, class In, class Complete>
Out warp_operation(const char* name, unsigned mask, const In& in, const Complete& complete,
                   Location where) {
  static constexpr char identity = 0;
  Out out{};
  arrive_at_warp({name, &identity, mask, &in, &out,
                  [](const WarpArrival& arrival, unsigned lanes_mask, const void* const* ins,
                     void* const* outs) {
                    Lanes<In, Out> lanes{lanes_mask, {}, {}};
                    lanes.for_each([&](unsigned lane) {
                      lanes.in[lane] = static_cast<const In*>(ins[lane]);
                      lanes.out[lane] = static_cast<Out*>(outs[lane]);
                    });
                    (*static_cast<const Complete*>(arrival.state))(lanes);
                  },
                  &complete, where});
  return out;
}

}  // namespace cmir::kernels::simt
