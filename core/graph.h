// Work that is recorded once and then replayed as a whole, on a GPU and without one.
#pragma once

#include <functional>
#include <memory>

#include "core/allocator.h"
#include "core/cuda/runtime.h"
#include "core/device.h"
#include "core/recording.h"

namespace cmir {

/// On cuda a cuda::Graph. On simt a list of the calls (kernels, fills, copies) with their
/// arguments as they were, so that what a CUDA graph would freeze or reuse by mistake shows without
/// a GPU. In both, memory that the work allocates belongs to the graph, or to the graphs that share
/// a pool: nobody else gets it, and the addresses stay from replay to replay.
class Graph {
 public:
  /// `pool` of allocator_of(device) for graphs that share their memory, since they are replayed one
  /// after another and no replay reads what an earlier one left; null: memory of its own. Error:
  /// the device is the CPU, or cannot be used.
  explicit Graph(Device device, std::shared_ptr<PrivatePool> pool = nullptr);
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  /// Runs `work`, whose device work is recorded and not done. If it throws, nothing is recorded and
  /// the exception goes on. Errors: `work` copies from or to the host, or the graph holds work
  /// already.
  void capture(const std::function<void()>& work);
  /// Does the recorded work; on cuda it is given to the current stream. Error: there is none.
  void replay();

 private:
  std::unique_ptr<cuda::Graph> cuda_;  // null on simt
  std::shared_ptr<PrivatePool> pool_;
  bool captured_ = false;
  RecordedCalls calls_;
};

}  // namespace cmir
