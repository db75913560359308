#include "core/cuda/kernel_times.h"

#include <cmath>
#include <exception>

#include "core/error.h"

namespace cmir::cuda {

template <class Work>
void KernelTimes::attempt(Work&& work) noexcept {
  if (failed_) return;
  try {
    work();
  } catch (const std::exception&) {
    failed_ = true;
  }
}

void KernelTimes::begin(const char* name, const TraceCost& cost) noexcept {
  attempt([&] {
    const Stream& stream = current_stream();
    if (used_ == 0) {  // near in time: the times between events are floats
      if (!origin_) origin_.emplace(true);
      origin_->record(stream);
      origin_->synchronise();
      origin_time_ = buffer_.trace().now();
    }
    if (used_ == kernels_.size()) kernels_.emplace_back();
    Kernel& kernel = kernels_[used_];
    kernel.name = name;
    kernel.cost = cost;
    kernel.begin.record(stream);
  });
}

void KernelTimes::end() noexcept {
  attempt([&] { kernels_[used_++].end.record(current_stream()); });
}

void KernelTimes::collect() noexcept {
  attempt([&] {
    const auto time_of = [&](const Event& event) {
      return origin_time_ + std::llround(1e6 * event.milliseconds_since(*origin_));
    };
    for (std::size_t i = 0; i < used_; ++i) {
      const Kernel& kernel = kernels_[i];
      kernel.end.synchronise();
      buffer_.add({kernel.name, TraceKind::kernel, time_of(kernel.begin), time_of(kernel.end),
                   kernel.cost, -1});
    }
    used_ = 0;
  });
}

}  // namespace cmir::cuda
