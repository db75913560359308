#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/range.h"
#include "core/trace.h"

namespace cmir {
namespace {

thread_local bool inside_parallel_for = false;

void cpu_pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// Adds the grain to nothing that could overflow: it may be as large as an index can be.
void run_chunk(RangeFunction body, std::int64_t begin, std::int64_t end, std::int64_t grain,
               std::int64_t chunk) {
  const std::int64_t b = begin + chunk * grain;
  body(b, b + std::min(grain, end - b));
}

/// One parallel_for in flight. Threads take chunk numbers from a shared counter.
struct Job {
  RangeFunction body;
  std::int64_t begin, end, grain, chunks;
  std::atomic<std::int64_t> next{0};
  std::exception_ptr error;
  std::mutex error_mutex;
  Trace* trace = tracing() ? &detail::trace_buffer->trace() : nullptr;  // of the caller
  const char* op = op_under_way().data();

  /// On the caller, or on the worker with this number.
  void work(int worker = 0) {
    const TraceScope scope(trace, "worker", worker);
    const TraceSpan span(TraceKind::share, op);
    inside_parallel_for = true;
    for (std::int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < chunks;) {
      try {
        run_chunk(body, begin, end, grain, i);
      } catch (...) {
        std::lock_guard lock(error_mutex);
        if (!error) error = std::current_exception();
        next.store(chunks, std::memory_order_relaxed);
      }
    }
    inside_parallel_for = false;
  }
};

/// Worker threads that spin briefly between jobs, since a training step has hundreds of short ones,
/// and then sleep.
class Pool {
 public:
  explicit Pool(int workers) {
    threads_.reserve(workers);
    try {
      for (int worker = 1; worker <= workers; ++worker)
        threads_.emplace_back([this, worker] { run(worker); });
    } catch (const std::system_error&) {
      // The system has no more threads: go on with fewer. Results do not depend on their number.
    }
  }
  ~Pool() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (auto& thread : threads_) thread.join();
  }
  int workers() const { return static_cast<int>(threads_.size()); }

  void run_job(Job& job) {
    job_.store(&job, std::memory_order_relaxed);
    running_.store(workers(), std::memory_order_relaxed);
    {
      std::lock_guard lock(mutex_);
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    job.work();
    for (int spins = 0; running_.load(std::memory_order_acquire) > 0; ++spins) {
      if (spins < kSpins) {
        cpu_pause();
      } else {
        std::this_thread::yield();
      }
    }
  }

 private:
  static constexpr int kSpins = 4000;

  void run(int worker) {
    for (std::uint64_t seen = 0;;) {
      seen = wait_for_change(seen);
      if (stop_) return;
      job_.load(std::memory_order_relaxed)->work(worker);
      running_.fetch_sub(1, std::memory_order_release);
    }
  }

  std::uint64_t wait_for_change(std::uint64_t seen) {
    for (int spins = 0; spins < kSpins; ++spins) {
      const auto now = generation_.load(std::memory_order_acquire);
      if (now != seen) return now;
      cpu_pause();
    }
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
    return generation_.load(std::memory_order_acquire);
  }

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<std::uint64_t> generation_{0};
  std::atomic<Job*> job_{nullptr};
  std::atomic<int> running_{0};
  std::atomic<bool> stop_{false};
};

int default_thread_count() {
  if (const char* text = std::getenv("CMIR_THREADS")) {
    const int count = std::atoi(text);
    require(count >= 1, "CMIR_THREADS", "'{}' is no positive number of threads", text);
    return count;
  }
  return std::max(1U, std::thread::hardware_concurrency());
}

std::mutex pool_mutex;  // held while a job runs
std::unique_ptr<Pool> pool;

std::atomic<int>& configured_threads() {
  static std::atomic<int> count{default_thread_count()};
  return count;
}

}  // namespace

int thread_count() { return configured_threads().load(); }

void set_thread_count(int count) {
  require(count >= 1, "set_thread_count", "needs at least 1 thread, got {}", count);
  require(!inside_parallel_for, "set_thread_count",
          "must not be called from within a parallel_for");
  std::lock_guard lock(pool_mutex);
  configured_threads().store(count);
  pool.reset();
}

void parallel_for(std::int64_t begin, std::int64_t end, std::int64_t grain, RangeFunction body) {
  require(grain >= 1, "parallel_for", "the grain must be at least 1, got {}", grain);
  const std::int64_t chunks = chunk_count(begin, end, grain);
  // The pool serves one caller at a time. Another thread that asks meanwhile (a prefetcher, say)
  // must not wait for it: the caller may in turn be waiting for that thread.
  std::unique_lock lock(pool_mutex, std::defer_lock);
  if (chunks <= 1 || inside_parallel_for || thread_count() == 1 || !lock.try_lock()) {
    for (std::int64_t i = 0; i < chunks; ++i) run_chunk(body, begin, end, grain, i);
    return;
  }
  if (!pool) pool = std::make_unique<Pool>(thread_count() - 1);
  Job job{body, begin, end, grain, chunks};
  pool->run_job(job);
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace cmir
