// Training steps on a device other than the CPU: recorded once per shape of batch, then replayed,
// while their reports come to the host behind them.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/graph.h"
#include "core/readback.h"
#include "models/networks/cmir.h"
#include "models/training/optimizer.h"
#include "models/training/schedule.h"
#include "models/training/shape_bucket.h"

namespace cmir {

/// Forward, backward, clipping, schedule and optimizer. The first step of a shape runs op by op,
/// the second is recorded, from then on the step is one replay (on cuda: the launch of one CUDA
/// graph). Noise, dropout and the schedule advance by the optimizer's step counter in the device's
/// memory. The bits are the same either way.
class DeviceSteps {
 public:
  struct Options {
    std::uint64_t seed = 0;
    double max_gradient_norm = 0;
    LongestSequences longest;
    bool record = true;  ///< false: every step op by op
  };
  struct Report {
    std::vector<std::pair<std::string, double>> losses;
    double gradient_norm = 0;
    std::string failure;  ///< what is not finite; empty: the step was done
  };
  /// Shapes that are recorded at most; steps of further ones run op by op.
  static constexpr std::size_t kMostRecorded = 64;

  /// `model` and `optimizer` must outlive this object, which alone steps the optimizer.
  DeviceSteps(const Model& model, AdamW& optimizer, const Schedule& schedule, Options options);
  ~DeviceSteps();

  /// Gives the step to the device and does not wait for it.
  void submit(const ModelInput& input);
  /// Steps whose report was not taken.
  std::size_t pending() const { return pending_.size(); }
  /// Of the oldest one; waits for it. After a failure no later step changed anything.
  Report take();
  std::size_t recorded() const { return recorded_; }

 private:
  struct Shape;  // what one bucket has: input, tables, graph
  using Names = std::vector<std::string>;
  struct Pending {
    std::shared_ptr<const Names> losses;
    std::shared_ptr<const Names> parameters;
    Readback report;
  };

  /// Everything up to the optimizer's tables; all device work of it can be captured.
  void forward_and_backward(Shape& shape);
  void run_or_replay(Shape& shape);

  const Model& model_;
  AdamW& optimizer_;
  const Options options_;
  Tensor factors_;
  std::map<ShapeBucket, std::unique_ptr<Shape>> shapes_;
  std::deque<Pending> pending_;
  std::size_t recorded_ = 0;
};

/// The terms of a training pass by name: "prediction", "total", "invariance.text", ...
std::vector<std::pair<std::string, Variable>> named_terms(const LossTerms& terms,
                                                          const Model& model);

}  // namespace cmir
