// Values on their way from a device to the host, while the device and the host go on.
#pragma once

#include <memory>

#include "core/tensor.h"

namespace cmir {

class Readback {
 public:
  /// Copies `source` as it is when the current stream comes to this point. Does not wait.
  explicit Readback(const Tensor& source);
  /// The values, on the CPU. Waits for them.
  Tensor wait() const;

 private:
  struct Pinned;  // a copy under way from a GPU
  Tensor on_host_;
  std::shared_ptr<Pinned> pinned_;
};

}  // namespace cmir
