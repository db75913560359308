#include "models/training/device_steps.h"

#include <algorithm>

#include "core/error.h"

namespace cmir {
namespace {

Tensor factor_table(const Schedule& schedule, Device device) {
  std::vector<double> factors;
  for (std::int64_t step = 0; step < std::max<std::int64_t>(schedule.total_steps, 1); ++step)
    factors.push_back(schedule.factor(step));
  return Tensor::from(factors, {static_cast<std::int64_t>(factors.size())}, device);
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
  add("decorrelation", terms.decorrelation);
  add("reconstruction", terms.reconstruction);
  add("unimodal", terms.unimodal);
  all.emplace_back("total", terms.total);
  return all;
}

struct DeviceSteps::Shape {
  Shape(const ModelInput& like, const ShapeBucket& bucket, DType dtype, Device device)
      : input(like, bucket, dtype, device) {}

  PaddedInput input;
  std::shared_ptr<const Names> losses, parameters;
  std::optional<AdamW::Tables> tables;  // of the graph, once there is one
  std::optional<Graph> graph;           // last: released before what it works on
  std::int64_t steps = 0;
};

DeviceSteps::DeviceSteps(const Model& model, AdamW& optimizer, const Schedule& schedule,
                         Options options)
    : model_(model),
      optimizer_(optimizer),
      options_(std::move(options)),
      factors_(factor_table(schedule, model.device())) {}

DeviceSteps::~DeviceSteps() = default;

void DeviceSteps::submit(const ModelInput& input) {
  const ShapeBucket bucket = ShapeBucket::of(input, options_.longest);
  auto found = shapes_.find(bucket);
  std::unique_ptr<Shape> passing;
  if (found == shapes_.end()) {
    const DType dtype = model_.named_parameters().front().variable.value().dtype();
    passing = std::make_unique<Shape>(input, bucket, dtype, model_.device());
    if (options_.record && shapes_.size() < kMostRecorded)
      found = shapes_.emplace(bucket, std::move(passing)).first;
  }
  Shape& shape = passing != nullptr ? *passing : *found->second;
  shape.input.fill(input);
  run_or_replay(shape);
  ++shape.steps;
  optimizer_.count_step();
  pending_.push_back({shape.losses, shape.parameters, Readback(shape.tables->report())});
}

void DeviceSteps::forward_and_backward(Shape& shape) {
  const RandomStreams streams{.seed = options_.seed, .counter = optimizer_.step_counter()};
  const ForwardOutput output = model_.forward(shape.input.input(), Mode::training, streams);
  Names names;
  std::vector<Tensor> values;
  for (const auto& [name, term] : named_terms(output.losses, model_)) {
    names.push_back(name);
    values.push_back(term.value());
  }
  optimizer_.zero_gradients();
  backward(output.losses.total);
  if (!shape.tables) shape.tables.emplace(optimizer_, values.size());
  optimizer_.stage_step(*shape.tables, values);
  shape.losses = std::make_shared<Names>(std::move(names));
  shape.parameters = std::make_shared<Names>(shape.tables->parameter_names());
}

void DeviceSteps::run_or_replay(Shape& shape) {
  if (options_.record && shape.steps == 1) {
    shape.graph.emplace(model_.device());
    shape.graph->capture([&] {
      forward_and_backward(shape);
      optimizer_.run_step(*shape.tables, factors_, options_.max_gradient_norm);
    });
    shape.tables->upload();
    ++recorded_;
  }
  if (shape.graph) return shape.graph->replay();
  forward_and_backward(shape);
  shape.tables->upload();
  optimizer_.run_step(*shape.tables, factors_, options_.max_gradient_norm);
}

DeviceSteps::Report DeviceSteps::take() {
  const Pending pending = std::move(pending_.front());
  pending_.pop_front();
  const Tensor values = pending.report.wait();
  const kernels::AdamWReport step = AdamW::Tables::report_of(values);
  const std::vector<double> losses = AdamW::Tables::losses_of(values);
  Report report{.gradient_norm = step.gradient_norm};
  for (std::size_t i = 0; i < losses.size(); ++i)
    report.losses.emplace_back((*pending.losses)[i], losses[i]);
  if (step.nonfinite_loss >= 0) {
    report.failure = fmt::format("the loss term '{}' is {}", (*pending.losses)[step.nonfinite_loss],
                                 losses[step.nonfinite_loss]);
  } else if (step.nonfinite_tensor >= 0) {
    report.failure = fmt::format("the gradient of parameter '{}' holds a NaN or an infinity",
                                 (*pending.parameters)[step.nonfinite_tensor]);
  }
  return report;
}

}  // namespace cmir
