// Traced training steps: what is in the file, that it adds up, and that the bits stay.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "autograd/attention.h"
#include "autograd/linear.h"
#include "autograd/mean_pool.h"
#include "autograd/tape.h"
#include "core/parallel.h"
#include "core/trace.h"
#include "kernels/pool/mean_pool.h"
#include "models/evaluation/report.h"
#include "models/training/optimizer.h"
#include "models/training/trace_report.h"
#include "models/training/trainer.h"
#include "tests/kernels/cpu_on_simt.h"
#include "tests/models/data_test.h"
#include "tests/models/small_run.h"

namespace cmir {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

/// Wide enough that two threads share the work, and with steps of an estimator.
Config traced_config(const std::string& device = "cpu") {
  Config config = small_config();
  config.model.shared_width = 64;
  config.model.hidden_width = 64;
  config.loss.decorrelation = "club_sample";
  config.loss.estimator_steps = 2;
  config.training.device = device;
  config.training.epochs = 4;  // of three steps
  config.training.batch_size = 20;
  config.training.checkpoint = "last";
  return config;
}

struct TracedRun {
  std::vector<double> parameters;
  std::vector<std::chrono::steady_clock::time_point> reports;  // of each step
};

TracedRun run_of(const Config& config, Trace* trace) {
  TracedRun run;
  TrainOptions options;
  options.trace = trace;
  options.on_step = [&](const StepReport&) {
    run.reports.push_back(std::chrono::steady_clock::now());
  };
  const TrainResult result = train(config, prepare_data(config, small_dataset()), 3, options);
  for (const Parameter& p : result.model->named_parameters()) {
    for (const double x : p.variable.value().to_vector()) run.parameters.push_back(x);
  }
  return run;
}

/// The file's events by thread name, in the file's order.
std::map<std::string, std::vector<Json>> threads_of(const Json& file) {
  std::map<int, std::string> names;
  std::map<std::string, std::vector<Json>> threads;
  for (const Json& e : file.at("traceEvents")) {
    if (e.at("ph") == "M") {
      EXPECT_EQ(e.at("name"), "thread_name");
      EXPECT_TRUE(names.emplace(e.at("tid"), e.at("args").at("name")).second);
      continue;
    }
    EXPECT_EQ(e.at("ph"), "X");
    EXPECT_EQ(e.at("pid"), 1);
    threads[names.at(e.at("tid"))].push_back(e);
  }
  return threads;
}

std::int64_t nanoseconds(const Json& microseconds) {
  return std::llround(1000 * microseconds.get<double>());
}

/// Each event lies within those that are open where it begins. Returns the kinds that enclose it.
void expect_nested(const std::vector<Json>& events) {
  std::vector<std::pair<std::int64_t, std::string>> open;  // end, kind
  for (const Json& e : events) {
    const std::int64_t begin = nanoseconds(e.at("ts")), end = begin + nanoseconds(e.at("dur"));
    while (!open.empty() && open.back().first <= begin) open.pop_back();
    if (!open.empty()) {
      ASSERT_LE(end, open.back().first) << e << " in " << open.back().second;
    }
    const std::string kind = e.at("cat");
    const bool inside =
        std::ranges::any_of(open, [](const auto& o) { return o.second == "phase"; });
    EXPECT_EQ(inside, kind != "step" && kind != "phase") << e;
    open.emplace_back(end, kind);
  }
}

void expect_registered_names(const std::vector<Json>& events) {
  std::set<std::string> kernels, ops;
  for (const auto& kernel : kernels::registered_kernels()) kernels.insert(kernel.name);
  for (const OpInfo& op : registered_ops()) ops.emplace(op.name);
  std::set<std::string> kinds;
  for (const Json& e : events) {
    const std::string name = e.at("name"), kind = e.at("cat");
    kinds.insert(kind);
    if (kind == "kernel") {
      EXPECT_THAT(kernels, Contains(name));
      EXPECT_GT(e.at("args").at("bytes"), 0) << name;
      EXPECT_GE(e.at("args").at("operations"), 0) << name;
    }
    if (kind == "op") {
      EXPECT_THAT(ops, Contains(name));
    }
    if (kind == "step") {
      EXPECT_GE(e.at("args").at("number"), 2);
    }
  }
  for (const char* kind : {"step", "phase", "op", "kernel"}) EXPECT_THAT(kinds, Contains(kind));
}

void expect_sums(const TraceSummary& summary) {
  std::int64_t phases = 0, in_kernels = 0, kernels = 0;
  for (const auto& phase : summary.phases) {
    EXPECT_GT(phase.time, 0) << phase.name;
    EXPECT_GE(phase.time, phase.in_kernels) << phase.name;
    EXPECT_EQ(phase.in_kernels > 0,
              phase.name == "forward" || phase.name == "backward" || phase.name == "optimizer")
        << phase.name;
    phases += phase.time;
    in_kernels += phase.in_kernels;
  }
  for (const auto& kernel : summary.kernels) {
    EXPECT_GT(kernel.calls, 0);
    kernels += kernel.time;
  }
  EXPECT_EQ(phases, summary.time);
  EXPECT_EQ(in_kernels, kernels);
  EXPECT_EQ(summary.together.uncounted, 0);
  EXPECT_EQ(summary.together.time, kernels);
}

/// Two samples, of 2 and 4 rows, through a layer from 3 features to 12, attention with 2 heads of 2
/// and a mean over time; back; and an update of the layer.
void small_step(Device device) {
  const auto filled = [&](const Shape& shape) {
    return Variable(Tensor::full(shape, 0.5, DType::f32, device), true);
  };
  const Variable weight = filled({12, 3}), bias = filled({12});
  const Tensor offsets = Tensor::from<std::int64_t>({0, 2, 6}, {3});
  const Variable x(Tensor::full({6, 3}, 0.5, DType::f32, device));
  const Variable y =
      ops::mean_pool(ops::self_attention(ops::linear(x, weight, bias), offsets, 2), offsets);
  backward(y, {.seed = y.value()});
  AdamW({{.parameters = {{"weight", weight}, {"bias", bias}}}}).step();
}

class TraceTest : public ::testing::Test {
 protected:
  void TearDown() override { set_thread_count(before_); }
  Json file_of(const Trace& trace) const {
    write_trace(trace, folder_.path() / "trace.json");
    return read_json((folder_.path() / "trace.json").string());
  }

 private:
  const test::ScratchFolder folder_;
  const int before_ = thread_count();
};

TEST_F(TraceTest, HoldsNestedStepsOfNamedThreads) {
  for (const int threads : {1, 2}) {
    set_thread_count(threads);
    Trace trace(6);
    run_of(traced_config(), &trace);
    const TraceSummary summary = summarise(trace);
    EXPECT_EQ(summary.steps, 6);
    expect_sums(summary);
    const Json file = file_of(trace);
    auto by_thread = threads_of(file);
    EXPECT_EQ(file.at("otherData").at("steps"), 6);
    EXPECT_EQ(file.at("otherData").at("dropped events"), 0);
    EXPECT_EQ(file.at("otherData").at("kernels").size(), summary.kernels.size() + 2);
    expect_nested(by_thread.at("train"));
    expect_registered_names(by_thread.at("train"));
    EXPECT_EQ(by_thread.contains("worker 1"), threads == 2);
    by_thread.erase("train");
    by_thread.erase("worker 1");
    by_thread.erase("prefetch");  // it may have been ahead of all six
    EXPECT_TRUE(by_thread.empty()) << by_thread.begin()->first;
  }
}

/// By hand from the formulas, not by bytes() and operations().
TEST_F(TraceTest, CountsWhatAStepMovesAndDoes) {
  const kernels::testing::AllCpuKernelsOnSimt borrowed;
  for (const DeviceType type : {DeviceType::cpu, DeviceType::simt}) {
    Trace trace(1);
    for (int number = 1; number <= 2; ++number) {
      const TraceStep step(&trace, number);
      trace_phase("forward");
      small_step({type});
    }
    std::map<std::string, std::pair<double, double>> counted;  // numbers moved, operations
    for (const auto& kernel : summarise(trace).kernels)
      counted[kernel.name] = {kernel.bytes / 4, kernel.operations};
    const std::map<std::string, std::pair<double, double>> expected{
        {"linear_forward<f32>", {6 * 3 + 12 * 3 + 6 * 12, 2 * 6 * 3 * 12}},
        // 2 * 2 + 4 * 4 pairs, of 4 numbers and in 2 heads; 6 rows of four arrays, or of eight
        {"attention_forward<f32>", {4 * 6 * 4, 20 * (4 * 4 + 20 * 2)}},
        {"attention_backward<f32>", {8 * 6 * 4, 20 * (10 * 4 + 24 * 2)}},
        {"mean_pool_forward<f32>", {(6 + 2) * 4, 6 * 4}},
        {"mean_pool_backward<f32>", {(6 + 2) * 4, 6 * 4}},
        {"linear_weight_gradient<f32>", {6 * 3 + 6 * 12 + 3 * 12, 2 * 6 * 3 * 12 + 6 * 12}},
        {"squared_norm<f32>", {48, 2 * 48}},
        {"adamw_prepare<f32>", {sizeof(kernels::AdamWReport) / 4, 10}},
        {"adamw_step<f32>", {7 * 48, 16 * 48}}};
    EXPECT_EQ(counted, expected);
    const auto together = summarise(trace).together;
    EXPECT_EQ(together.operations, 432 + 1120 + 1760 + 24 + 24 + 504 + 96 + 10 + 768);
    EXPECT_EQ(together.uncounted, 0);
  }
}

/// A call whose contract counts by arrays, without what they hold.
TEST_F(TraceTest, SaysWhichCallsItDoesNotCount) {
  Trace trace(1);
  const std::vector<float> x(4);
  const std::vector<std::int64_t> offsets{0, 2};
  std::vector<float> mean(2);
  for (int number = 1; number <= 2; ++number) {
    const TraceStep step(&trace, number);
    trace_phase("forward");
    const kernels::MeanPoolForward<float> args{x.data(), offsets.data(), mean.data(), 1, 2};
    kernels::run(Device{}, args);
    kernels::run(Device{}, args, 2);
  }
  const TraceSummary summary = summarise(trace);
  EXPECT_EQ(summary.together.uncounted, 1);
  EXPECT_EQ(summary.together.operations, 4);
  EXPECT_THAT(describe(summary), HasSubstr("without 1 of 2 calls that are not counted"));
}

TEST_F(TraceTest, LeavesTheBitsAsTheyAre) {
  const kernels::testing::AllCpuKernelsOnSimt borrowed;
  for (const int threads : {1, 2}) {
    set_thread_count(threads);
    for (const char* device : {"cpu", "simt"}) {
      Config config = traced_config(device);
      if (!config.training.device.starts_with("cpu"))
        config.data.modalities.resize(1);  // of one shape, so that recorded steps come after these
      Trace trace(5);
      const TracedRun plain = run_of(config, nullptr), traced = run_of(config, &trace);
      EXPECT_EQ(plain.parameters, traced.parameters) << device;
      EXPECT_EQ(summarise(trace).steps, 5) << device;
    }
  }
}

/// The phases cover the time between the steps' reports. The machine may stop a thread in between,
/// so a few runs are tried.
TEST_F(TraceTest, PhasesCoverTheWallTime) {
  double best = 1;
  for (int attempt = 0; attempt < 10 && !(best <= 0.05); ++attempt) {
    Config config = traced_config();
    config.training.epochs = 1;
    config.training.batch_size = 6;
    Trace trace(8);
    const TracedRun run = run_of(config, &trace);
    const double wall =
        std::chrono::duration<double, std::nano>(run.reports.at(8) - run.reports.at(0)).count();
    double phases = 0;
    for (const auto& phase : summarise(trace).phases) phases += static_cast<double>(phase.time);
    best = std::min(best, std::abs(phases / wall - 1));
  }
  EXPECT_LE(best, 0.05);
}

/// The CUDA kernels themselves, on the host model, op by op though steps are recorded.
TEST_F(TraceTest, ShowsTheKernelsOfTheHostModel) {
  Config config = traced_config("simt");
  config.model.shared_width = 4;
  config.model.hidden_width = 6;
  config.data.modalities.resize(1);
  config.training.batch_size = 30;
  Trace trace(3);
  run_of(config, &trace);
  const TraceSummary summary = summarise(trace);
  EXPECT_EQ(summary.steps, 3);
  expect_sums(summary);
  const auto by_thread = threads_of(file_of(trace));
  expect_nested(by_thread.at("train"));
  expect_registered_names(by_thread.at("train"));
}

TEST_F(TraceTest, EndsWithTheStepThatDidNotFit) {
  const Config config = traced_config();
  Trace whole(1);
  run_of(config, &whole);
  const std::size_t events = whole.buffer("train").events().size();
  Trace trace(20, events * 5 / 2);
  run_of(config, &trace);
  EXPECT_EQ(summarise(trace).steps, 2);
  expect_sums(summarise(trace));
  EXPECT_GT(trace.dropped(), 0U);
  EXPECT_GT(file_of(trace).at("otherData").at("dropped events"), 0);
}

TEST_F(TraceTest, IsATableThatEndsWithTheStep) {
  Trace trace(4);
  run_of(traced_config(), &trace);
  const std::string text = describe(summarise(trace));
  for (const char* part :
       {"4 steps traced", "GB/s", "Gflop/s", "a step moves ", "forward", "backward", "optimizer",
        "data", "other", "(outside kernels)", "gemm<f32>", "adamw_step<f32>"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  EXPECT_THAT(describe(summarise(Trace(4))), HasSubstr("no step was traced"));
}

}  // namespace
}  // namespace cmir
