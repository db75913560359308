#include "core/readback.h"

#include <cstring>

#include "core/cuda/runtime.h"

namespace cmir {

struct Readback::Pinned {
  explicit Pinned(std::size_t size) : bytes(size), data(cuda::pinned_allocator().allocate(size)) {}
  ~Pinned() {
    try {
      copied.synchronise();   // nobody may get the memory before
    } catch (const Error&) {  // the device has failed: whoever waits for it says so
    }
    cuda::pinned_allocator().deallocate(data, bytes);
  }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;

  std::size_t bytes;
  void* data;
  cuda::Event copied;
};

Readback::Readback(const Tensor& source) {
  if (source.device().has_host_memory()) {
    on_host_ = source.device().is_cpu() ? source.clone() : source.to(Device{});
    return;
  }
  on_host_ = Tensor::empty(source.shape(), source.dtype());
  pinned_ = std::make_shared<Pinned>(source.bytes());
  cuda::start_copy_to_host(pinned_->data, source.raw(), pinned_->bytes);
  pinned_->copied.record(cuda::current_stream());
}

Tensor Readback::wait() const {
  if (pinned_ == nullptr) return on_host_;
  pinned_->copied.synchronise();
  Tensor values = on_host_;
  std::memcpy(values.mutable_byte_span().data(), pinned_->data, pinned_->bytes);
  return values;
}

}  // namespace cmir
