#include "core/trace.h"

#include <algorithm>
#include <chrono>
#include <new>
#include <utility>

#include "core/cuda/kernel_times.h"
#include "core/error.h"

namespace cmir {
namespace {

std::int64_t clock_nanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::uint64_t next_id() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

thread_local TraceStep* step_under_way = nullptr;

}  // namespace

std::string_view name_of(TraceKind kind) {
  constexpr std::string_view kNames[] = {"step", "phase", "op", "kernel", "launch", "share"};
  return kNames[static_cast<int>(kind)];
}

TraceBuffer::TraceBuffer(Trace& trace, std::string thread, std::size_t capacity)
    : trace_(trace),
      thread_(std::move(thread)),
      capacity_(capacity),
      events_(std::make_unique_for_overwrite<TraceEvent[]>(capacity)) {}

void TraceBuffer::add(const TraceEvent& event) {
  const std::size_t count = count_.load(std::memory_order_relaxed);
  if (count == capacity_) {
    dropped_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  events_[count] = event;
  count_.store(count + 1, std::memory_order_release);
}

std::span<const TraceEvent> TraceBuffer::events() const {
  return {events_.get(), count_.load(std::memory_order_acquire)};
}

Trace::Trace(std::int64_t steps, std::size_t events_per_thread)
    : steps_(steps), capacity_(events_per_thread), id_(next_id()), start_(clock_nanoseconds()) {
  require(steps >= 1, "trace", "needs at least 1 step, got {}", steps);
}
Trace::~Trace() = default;

std::int64_t Trace::now() const { return clock_nanoseconds() - start_; }

TraceBuffer& Trace::buffer(const std::string& thread) {
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find(buffers_, thread, &TraceBuffer::thread);
  if (found != buffers_.end()) return **found;
  return *buffers_.emplace_back(std::make_unique<TraceBuffer>(*this, thread, capacity_));
}

std::vector<const TraceBuffer*> Trace::buffers() const {
  const std::lock_guard lock(mutex_);
  std::vector<const TraceBuffer*> all;
  for (const auto& buffer : buffers_) all.push_back(buffer.get());
  return all;
}

std::size_t Trace::dropped() const {
  std::size_t sum = 0;
  for (const TraceBuffer* buffer : buffers()) sum += buffer->dropped();
  return sum;
}

cuda::KernelTimes& Trace::kernel_times() {
  if (!kernel_times_) kernel_times_ = std::make_unique<cuda::KernelTimes>(buffer("GPU"));
  return *kernel_times_;
}

bool Trace::admits_step() {
  std::thread::id owner{};
  const std::thread::id here = std::this_thread::get_id();
  if (!owner_.compare_exchange_strong(owner, here) && owner != here) return false;
  const bool admitted = begun_++ > 0 && done_ < steps_ && dropped() == 0;
  recording_.store(admitted, std::memory_order_relaxed);
  return admitted;
}

void Trace::end_step(const TraceEvent& step) {
  if (dropped() == 0) {
    detail::trace_buffer->add(step);
    ++done_;
  }
  if (done_ == steps_ || dropped() > 0) recording_.store(false, std::memory_order_relaxed);
}

void TraceScope::enter(Trace& trace, const char* thread, int number) {
  thread_local std::uint64_t id = 0;
  thread_local TraceBuffer* own = nullptr;
  if (id != trace.id()) {
    try {
      own = &trace.buffer(number == 0 ? thread : fmt::format("{} {}", thread, number));
    } catch (const std::bad_alloc&) {
      return;  // a loop that is shared must not end here
    }
    id = trace.id();
  }
  detail::trace_buffer = own;
}

std::int64_t TraceSpan::now() const { return buffer_->trace().now(); }
void TraceSpan::note() const { buffer_->add({name_, kind_, begin_, now(), cost_, -1}); }

TracedKernel::TracedKernel(Device device, const char* name, const TraceCost& cost)
    : span_(device.type == DeviceType::cuda ? TraceKind::launch : TraceKind::kernel, name, cost),
      times_(device.type == DeviceType::cuda ? &detail::trace_buffer->trace().kernel_times()
                                             : nullptr) {
  if (times_ != nullptr) times_->begin(name, cost);
}

TracedKernel::~TracedKernel() {
  if (times_ != nullptr) times_->end();
}

TraceStep::TraceStep(Trace* trace, std::int64_t number) : number_(number) {
  if (trace == nullptr || !trace->admits_step()) return;
  scope_.emplace(trace, "train");
  begin_ = phase_begin_ = trace->now();
  step_under_way = this;
}

void TraceStep::end_phase() {
  TraceBuffer& buffer = *detail::trace_buffer;
  if (buffer.trace().kernel_times_) buffer.trace().kernel_times_->collect();
  const std::int64_t now = buffer.trace().now();
  buffer.add({phase_, TraceKind::phase, phase_begin_, now, kNoTraceCost, -1});
  phase_begin_ = now;
}

TraceStep::~TraceStep() {
  if (!scope_) return;
  step_under_way = nullptr;
  if (!has_work_) return;
  end_phase();
  detail::trace_buffer->trace().end_step({.name = "step",
                                          .kind = TraceKind::step,
                                          .begin = begin_,
                                          .end = phase_begin_,
                                          .cost = kNoTraceCost,
                                          .number = number_});
}

void trace_phase(const char* name) {
  TraceStep* step = step_under_way;
  if (step == nullptr) return;
  step->end_phase();
  step->phase_ = name;
  step->has_work_ = true;
}

}  // namespace cmir
