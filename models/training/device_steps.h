// Training steps on a device other than the CPU: recorded once per shape of batch, then replayed,
// while their reports come to the host behind them.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
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

/// Forward, backward, clipping, schedule and optimizer. The first steps of a shape run op by op,
/// the third is recorded, from then on the step is one replay (on cuda: the launch of one CUDA
/// graph). Noise, dropout and the schedule advance by the optimizer's step counter in the device's
/// memory. The bits are the same either way. A step that is traced (core/trace.h) runs op by op.
/// All graphs work in the same memory, one after another.
class DeviceSteps {
 public:
  struct Options {
    std::uint64_t seed = 0;
    double max_gradient_norm = 0;
    AdamW* estimator_optimizer = nullptr;  ///< of R_dec's estimators; null: they do not learn
    std::int64_t estimator_steps = 1;      ///< for each step of the model
    LongestSequences longest;
    bool record = true;  ///< false: every step op by op
  };
  struct Report {
    std::vector<std::pair<std::string, double>> losses;
    double gradient_norm = 0;
    std::string failure;  ///< what is not finite; empty: the step was done
  };
  /// Steps of a shape before it is worth recording: most shapes of several sequences do not come
  /// again.
  static constexpr std::int64_t kStepsBefore = 2;
  /// Shapes that are recorded at most; steps of further ones run op by op.
  static constexpr std::size_t kMostRecorded = 64;

  /// `model` and the optimizers must outlive this object, which alone steps them.
  DeviceSteps(const Model& model, AdamW& optimizer, const Schedule& schedule, Options options);
  ~DeviceSteps();

  /// Gives the step to the device and does not wait for it. Errors: those of Model::forward.
  void submit(const ModelInput& input);
  /// Steps whose report was not taken.
  std::size_t pending() const { return pending_.size(); }
  /// Of the oldest one; waits for it. After a failure no later step changed anything. Error: none
  /// is pending.
  Report take();
  std::size_t recorded() const { return recorded_.size(); }

 private:
  struct Shape;  // what one bucket has: input, tables, graph
  using Names = std::vector<std::string>;
  struct Pending {
    std::shared_ptr<const Names> losses;
    std::shared_ptr<const Names> parameters;
    Readback report;
    std::shared_ptr<const Names> estimator_parameters;
    std::vector<Readback> estimator_reports;
  };
  /// What is done with an optimizer's tables before its kernels read them.
  using Upload = void (*)(AdamW::Tables&);

  /// The step but for `upload`: all of it can be captured.
  void step(Shape& shape, Upload upload);
  void allocate_estimator_tables(Shape& shape) const;
  void step_estimators(Shape& shape, const ForwardOutput& output, Upload upload);
  /// The shape's recorded step, null where there is not enough memory for it.
  std::unique_ptr<Shape> record(const ModelInput& input, const ShapeBucket& bucket);

  const Model& model_;
  AdamW& optimizer_;
  const Options options_;
  Tensor factors_, one_;               // of the learning rates, by step
  std::shared_ptr<PrivatePool> pool_;  // of all graphs
  std::map<ShapeBucket, std::int64_t> steps_;
  std::map<ShapeBucket, std::unique_ptr<Shape>> recorded_;
  std::deque<Pending> pending_;
  std::size_t loss_count_ = 0;  // of the step before
};

/// The terms of a training pass by name: "prediction", "total", "invariance.text" or, of the whole
/// model, "invariance", ...
std::vector<std::pair<std::string, Variable>> named_terms(const LossTerms& terms,
                                                          const Model& model);

}  // namespace cmir
