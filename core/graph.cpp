#include "core/graph.h"

#include <utility>

#include "core/error.h"

namespace cmir {

Graph::Graph(Device device, std::shared_ptr<PrivatePool> pool) : pool_(std::move(pool)) {
  require(!device.is_cpu(), "graph", "work on the cpu is not recorded; use cuda or simt");
  require_available(device);
  if (device.type == DeviceType::cuda) {
    cuda_ = std::make_unique<cuda::Graph>(std::move(pool_));
  } else if (pool_ == nullptr) {
    pool_ = std::make_shared<PrivatePool>(allocator_of(device));
  }
}

void Graph::capture(const std::function<void()>& work) {
  if (cuda_ != nullptr) return cuda_->capture(work);
  require(!captured_, "graph", "holds recorded work already; make another one");
  require(detail::recorded_calls == nullptr, "graph", "this thread captures another graph");
  RecordedCalls calls;
  struct Recording {
    explicit Recording(RecordedCalls& into) { detail::recorded_calls = &into; }
    ~Recording() { detail::recorded_calls = nullptr; }
  };
  {
    const ScopedPool scope(*pool_);
    const Recording recording(calls);
    work();
  }
  calls_ = std::move(calls);
  captured_ = true;
}

void Graph::replay() {
  if (cuda_ != nullptr) return cuda_->replay();
  require(captured_, "graph", "has nothing to replay; capture first");
  for (const auto& call : calls_) call();
}

}  // namespace cmir
