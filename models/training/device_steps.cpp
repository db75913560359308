#include "models/training/device_steps.h"

#include <algorithm>

#include "autograd/arithmetic.h"
#include "core/error.h"
#include "core/trace.h"

namespace cmir {
namespace {

Tensor factor_table(const Schedule& schedule, Device device) {
  std::vector<double> factors;
  for (std::int64_t step = 0; step < std::max<std::int64_t>(schedule.total_steps, 1); ++step)
    factors.push_back(schedule.factor(step));
  return Tensor::from(factors, {static_cast<std::int64_t>(factors.size())}, device);
}

/// Why the optimizer did not make this step; empty: it did, or a loss was not finite.
std::string gradient_failure(const kernels::AdamWReport& step,
                             const std::vector<std::string>& parameters) {
  if (step.stopped_before != 0) return "an earlier step was not finite";
  if (step.nonfinite_tensor < 0) return "";
  return fmt::format("the gradient of parameter '{}' holds a NaN or an infinity",
                     parameters[step.nonfinite_tensor]);
}

}  // namespace

std::vector<std::pair<std::string, Variable>> named_terms(const LossTerms& terms,
                                                          const Model& model) {
  std::vector<std::pair<std::string, Variable>> all{{"prediction", terms.prediction}};
  const auto names = model.modalities();
  const auto add = [&](const char* term, const std::vector<Variable>& parts) {
    for (std::size_t m = 0; m < parts.size(); ++m) {
      if (parts[m].defined()) all.emplace_back(fmt::format("{}.{}", term, names[m]), parts[m]);
    }
  };
  add("invariance", terms.invariance);
  if (terms.model_invariance.defined()) all.emplace_back("invariance", terms.model_invariance);
  add("decorrelation", terms.decorrelation);
  add("reconstruction", terms.reconstruction);
  add("unimodal", terms.unimodal);
  add("sufficiency", terms.sufficiency);
  add("estimator", terms.estimator);
  all.emplace_back("total", terms.total);
  return all;
}

/// The memory of one shape's steps.
struct DeviceSteps::Shape {
  Shape(const ModelInput& like, const ShapeBucket& bucket, DType dtype, Device device)
      : input(like, bucket, dtype, device) {}

  PaddedInput input;
  std::shared_ptr<const Names> losses, parameters, estimator_parameters;
  std::vector<Tensor> loss_values;  // which the optimizer's kernels read
  std::optional<AdamW::Tables> tables;
  std::vector<AdamW::Tables> estimator_tables;  // of each of their steps
  std::optional<Graph> graph;                   // last: released before what it works on
};

DeviceSteps::DeviceSteps(const Model& model, AdamW& optimizer, const Schedule& schedule,
                         Options options)
    : model_(model),
      optimizer_(optimizer),
      options_(std::move(options)),
      factors_(factor_table(schedule, model.device())),
      one_(Tensor::from<double>({1}, {1}, model.device())),
      pool_(std::make_shared<PrivatePool>(allocator_of(model.device()))) {}

DeviceSteps::~DeviceSteps() = default;

void DeviceSteps::submit(const ModelInput& input) {
  model_.check_values(input);
  const ShapeBucket bucket = ShapeBucket::of(input, options_.longest);
  const auto found = recorded_.find(bucket);
  std::unique_ptr<Shape> passing;
  Shape* shape = found == recorded_.end() || tracing() ? nullptr : found->second.get();
  if (shape == nullptr && options_.record && !tracing() && recorded_.size() < kMostRecorded &&
      steps_[bucket]++ == kStepsBefore) {
    if (auto recording = record(input, bucket))
      shape = recorded_.emplace(bucket, std::move(recording)).first->second.get();
  }
  if (shape != nullptr) {
    shape->input.fill(input);
    shape->graph->replay();
  } else {
    passing = std::make_unique<Shape>(input, bucket, optimizer_.dtype(), model_.device());
    shape = passing.get();
    shape->input.fill(input);
    step(*shape, [](AdamW::Tables& tables) { tables.upload(); });
  }
  optimizer_.count_step();
  Pending pending{shape->losses, shape->parameters, Readback(shape->tables->report()),
                  shape->estimator_parameters};
  for (const AdamW::Tables& tables : shape->estimator_tables) {
    options_.estimator_optimizer->count_step();
    pending.estimator_reports.emplace_back(tables.report());
  }
  pending_.push_back(std::move(pending));
}

void DeviceSteps::step(Shape& shape, Upload upload) {
  const RandomStreams streams{.seed = options_.seed, .counter = optimizer_.step_counter()};
  trace_phase("forward");
  const ForwardOutput output = model_.forward(shape.input.input(), Mode::training, streams);
  Names names;
  shape.loss_values.clear();
  for (const auto& [name, term] : named_terms(output.losses, model_)) {
    names.push_back(name);
    shape.loss_values.push_back(term.value());
  }
  trace_phase("backward");
  optimizer_.zero_gradients();
  backward(output.losses.total);
  trace_phase("optimizer");
  loss_count_ = names.size();
  if (!shape.tables) shape.tables.emplace(optimizer_, loss_count_);
  optimizer_.stage_step(*shape.tables, shape.loss_values);
  upload(*shape.tables);
  optimizer_.run_step(*shape.tables, factors_, options_.max_gradient_norm);
  shape.losses = std::make_shared<Names>(std::move(names));
  shape.parameters = std::make_shared<Names>(shape.tables->parameter_names());
  if (options_.estimator_optimizer != nullptr) step_estimators(shape, output, upload);
}

void DeviceSteps::step_estimators(Shape& shape, const ForwardOutput& output, Upload upload) {
  allocate_estimator_tables(shape);
  AdamW& optimizer = *options_.estimator_optimizer;
  std::vector<Variable> losses = output.losses.estimator;
  for (AdamW::Tables& tables : shape.estimator_tables) {
    trace_phase("forward");
    if (&tables != &shape.estimator_tables.front())
      losses = model_.estimator_losses(output.estimator_samples);
    trace_phase("backward");
    optimizer.zero_gradients();
    backward(ops::sum_of(losses));
    trace_phase("optimizer");
    optimizer.stage_step(tables, {});
    upload(tables);
    optimizer.run_step(tables, one_, 0);
  }
  shape.estimator_parameters =
      std::make_shared<Names>(shape.estimator_tables.front().parameter_names());
}

void DeviceSteps::allocate_estimator_tables(Shape& shape) const {
  if (options_.estimator_optimizer == nullptr || !shape.estimator_tables.empty()) return;
  for (std::int64_t k = 0; k < options_.estimator_steps; ++k)
    shape.estimator_tables.emplace_back(*options_.estimator_optimizer);
}

std::unique_ptr<DeviceSteps::Shape> DeviceSteps::record(const ModelInput& input,
                                                        const ShapeBucket& bucket) {
  auto shape = std::make_unique<Shape>(input, bucket, optimizer_.dtype(), model_.device());
  shape->input.fill(input);
  shape->tables.emplace(optimizer_, loss_count_);  // here, so not in the graphs' memory
  allocate_estimator_tables(*shape);
  try {
    shape->graph.emplace(model_.device(), pool_);
    shape->graph->capture([&] { step(*shape, [](AdamW::Tables&) {}); });
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::io) throw;
    return nullptr;  // no memory for it: op by op, then
  }
  shape->tables->upload();
  for (AdamW::Tables& tables : shape->estimator_tables) tables.upload();
  return shape;
}

DeviceSteps::Report DeviceSteps::take() {
  require(!pending_.empty(), "DeviceSteps", "no step is pending");
  const Pending pending = std::move(pending_.front());
  pending_.pop_front();
  const Tensor values = pending.report.wait();
  const kernels::AdamWReport step = AdamW::Tables::report_of(values);
  const std::vector<double> losses = AdamW::Tables::losses_of(values);
  Report report{.gradient_norm = step.gradient_norm};
  for (std::size_t i = 0; i < losses.size(); ++i)
    report.losses.emplace_back((*pending.losses)[i], losses[i]);
  report.failure =
      step.nonfinite_loss >= 0 && step.stopped_before == 0
          ? fmt::format("the loss term '{}' is {}", (*pending.losses)[step.nonfinite_loss],
                        losses[step.nonfinite_loss])
          : gradient_failure(step, *pending.parameters);
  for (const Readback& of_estimator : pending.estimator_reports) {
    if (!report.failure.empty()) break;
    report.failure = gradient_failure(AdamW::Tables::report_of(of_estimator.wait()),
                                      *pending.estimator_parameters);
  }
  return report;
}

}  // namespace cmir
