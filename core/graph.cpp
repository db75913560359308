#include "core/graph.h"

#include "core/error.h"

namespace cmir {

Graph::Graph(Device device) {
  require(!device.is_cpu(), "graph", "work on the cpu is not recorded; use cuda or simt");
  require_available(device);
  if (device.type == DeviceType::cuda) cuda_ = std::make_unique<cuda::Graph>();
}

void Graph::capture(const std::function<void()>& work) {
  if (cuda_ != nullptr) return cuda_->capture(work);
  require(pool_ == nullptr, "graph", "holds recorded work already; make another one");
  require(detail::recorded_calls == nullptr, "graph", "this thread captures another graph");
  auto pool = std::make_unique<PrivatePool>(cpu_allocator());
  RecordedCalls calls;
  struct Recording {
    explicit Recording(RecordedCalls& into) { detail::recorded_calls = &into; }
    ~Recording() { detail::recorded_calls = nullptr; }
  };
  {
    const ScopedPool scope(*pool);
    const Recording recording(calls);
    work();
  }
  pool_ = std::move(pool);
  calls_ = std::move(calls);
}

void Graph::replay() {
  if (cuda_ != nullptr) return cuda_->replay();
  require(pool_ != nullptr, "graph", "has nothing to replay; capture first");
  for (const auto& call : calls_) call();
}

}  // namespace cmir
