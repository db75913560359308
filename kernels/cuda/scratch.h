// Memory of one call of a kernel, where a library asks for it, and so its size is not known before.
#pragma once

#include "core/cuda/runtime.h"
#include "kernels/cuda/device.h"

namespace cmir::kernels::CMIR_DEVICE {

inline CachingAllocator& scratch_allocator() {
  if constexpr (kDeviceType == DeviceType::cuda) {
    return ::cmir::cuda::device_allocator();
  } else {
    return cpu_allocator();
  }
}

/// `count` uninitialised elements on the device. At the end of the scope the host gives them back,
/// while the device may not have begun: who gets them next works later in the same stream.
template <class T>
class Scratch {
 public:
  explicit Scratch(std::int64_t count)
      : bytes_(static_cast<std::size_t>(count) * sizeof(T)),
        data_(static_cast<T*>(scratch_allocator().allocate(bytes_))) {}
  ~Scratch() { scratch_allocator().deallocate(data_, bytes_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  T* data() const { return data_; }

 private:
  std::size_t bytes_;
  T* data_;
};

}  // namespace cmir::kernels::CMIR_DEVICE
