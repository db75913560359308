// One training step at the sizes of the paper's MOSI column: forward, every loss, backward, AdamW;
// and at 16 times its batch. The peer is PyTorch:
//
//   python3 bench/peers/train_step.py BUILD/bench/train_step_bench [--device cuda] [--bf16]
//
// runs both on the same weights and batch, compares every loss term and gradient, and only then
// times them, in turns.
//
//   train_step_bench [--device cpu|cuda|simt] [--precision f32|tf32|bf16] [--quick]
//                    [--export CASE DTYPE SAMPLES FILE] [--benchmark_...]
//
// Without --device on the CPU, and on a GPU where there is one.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <map>
#include <memory>

#include "autograd/precision.h"
#include "bench/context.h"
#include "bench/threads.h"
#include "core/allocator.h"
#include "core/cuda/runtime.h"
#include "core/formats/safetensors.h"
#include "core/parallel.h"
#include "core/philox.h"
#include "losses/environments.h"
#include "models/networks/cmir.h"
#include "models/training/device_steps.h"
#include "models/training/optimizer.h"
#include "models/training/trace_report.h"

namespace {

using namespace cmir;

/// Word counts, at most 50, of 48 segments of CMU-MOSI drawn at random: the lengths of word-aligned
/// audio and video.
constexpr std::int64_t kMosiLengths[48] = {
    11, 11, 5, 15, 10, 16, 5, 28, 4, 15, 11, 1, 16, 10, 7, 20, 5,  11, 7, 16, 10, 19, 5,  5,
    7,  31, 1, 4,  7,  3,  2, 11, 4, 6,  15, 6, 22, 17, 5, 6,  16, 3,  8, 14, 16, 6,  14, 50};
constexpr std::int64_t kSamples = 48;

/// What a step computes, and where. `samples`: kSamples, or a multiple, which repeats the lengths.
struct Problem {
  std::string lengths;  // mosi_lengths, or all_50_steps: no padding for the peer
  std::int64_t samples = kSamples;
  Device device;
  std::string precision = "f32";  // of products, as the configuration names it
  DType dtype = DType::f32;

  std::int64_t length(std::int64_t sample) const {
    return lengths == "mosi_lengths" ? kMosiLengths[sample % kSamples] : 50;
  }
};

/// The paper's MOSI column without dropout, so that the peer computes the same numbers.
Config config_of(const Problem& problem) {
  Config config = load_config(find_config("mosi"));
  config.training.device = problem.device.to_string();
  config.training.precision = problem.precision;
  for (ModalityConfig& modality : config.data.modalities) modality.dropout = 0;
  return config;
}

Tensor normals(const Shape& shape, std::uint64_t seed) {
  Tensor tensor = Tensor::empty(shape);
  const RandomStream stream{.seed = seed};
  auto values = tensor.mutable_span<float>();
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = stream.normal(i);
  return tensor;
}

struct Step {
  Problem problem;
  Model model;
  ModelInput input;  // on the CPU
  ModelInput input_on_device;
  AdamW optimizer;

  explicit Step(const Problem& p)
      : problem(p),
        model(config_of(p),
              {{"text", InputKind::vector, 768, {}},
               {"audio", InputKind::sequence, 74, {}},
               {"video", InputKind::sequence, 47, {}}},
              1, p.dtype),
        optimizer({{.parameters = model.named_parameters(), .learning_rate = 1e-5}}) {
    Tensor offsets = Tensor::empty({p.samples + 1}, DType::i64);
    auto* at = offsets.mutable_data<std::int64_t>();
    at[0] = 0;
    for (std::int64_t s = 0; s < p.samples; ++s) at[s + 1] = at[s] + p.length(s);
    const std::int64_t rows = at[p.samples];
    input.modalities["text"] = {normals({p.samples, 768}, 1), {}};
    input.modalities["audio"] = {normals({rows, 74}, 2), offsets};
    input.modalities["video"] = {normals({rows, 47}, 3), offsets};
    input.labels = normals({p.samples}, 4).to(p.dtype);
    input_on_device = input.to(p.device);
  }

  LossTerms gradients(std::uint32_t step) {
    const ForwardOutput output =
        model.forward(input_on_device, Mode::training, {.seed = 7, .step = step});
    optimizer.zero_gradients();
    backward(output.losses.total);
    return output.losses;
  }
};

/// A way to run the steps 0, 1, ... of a Step.
struct Way {
  virtual ~Way() = default;
  /// Gives a step to the device; waits only where the way itself has to.
  virtual void step() = 0;
  /// The total loss of the last step; waits for it.
  virtual double loss() = 0;
};

/// Op by op.
class Eager : public Way {
 public:
  explicit Eager(Step& step) : step_(step) {}
  void step() override {
    total_ = step_.gradients(number_++).total;
    step_.optimizer.step();
  }
  double loss() override { return total_.value().item(); }

 private:
  Step& step_;
  std::uint32_t number_ = 0;
  Variable total_;
};

/// As the trainer does on a device: recorded and replayed, the report read one step behind.
class Recorded : public Way {
 public:
  explicit Recorded(Step& step)
      : input_(step.input_on_device),
        steps_(step.model, step.optimizer, Schedule{},
               {.seed = 7, .longest = {{"audio", 50}, {"video", 50}}}) {}
  void step() override {
    steps_.submit(input_);
    if (++count_ > DeviceSteps::kStepsBefore && steps_.recorded() == 0)
      fail(ErrorKind::usage, "train_step", "the step was not recorded: too little memory");
    while (steps_.pending() > 1) take();
  }
  double loss() override {
    while (steps_.pending() > 0) take();
    return total_;
  }

 private:
  void take() {
    const DeviceSteps::Report report = steps_.take();
    if (!report.failure.empty()) fail(ErrorKind::numeric, "train_step", "{}", report.failure);
    total_ = report.losses.back().second;
  }

  const ModelInput& input_;
  DeviceSteps steps_;
  std::int64_t count_ = 0;
  double total_ = 0;
};

using MakeWay = std::function<std::unique_ptr<Way>(Step&)>;

/// How a step can be run, by the name that its benchmarks have: these and the comparison with
/// PyTorch find a new one by themselves.
std::vector<std::pair<std::string, MakeWay>> ways(Device device) {
  std::vector<std::pair<std::string, MakeWay>> all = {
      {"eager", [](Step& step) { return std::make_unique<Eager>(step); }}};
  if (!device.is_cpu()) {
    all.emplace_back("recorded", [](Step& step) { return std::make_unique<Recorded>(step); });
  }
  return all;
}

/// Everything the peer needs to repeat step 0 and compare.
void export_step(const Problem& problem, const std::string& file) {
  Step step(problem);
  const LossTerms terms = step.gradients(0);
  std::vector<std::pair<std::string, Tensor>> tensors;
  const auto add = [&](const std::string& name, const Tensor& tensor) {
    tensors.emplace_back(name, tensor.to(Device{}));
  };
  const auto add_term = [&](const std::string& name, const Variable& term) {
    add("term." + name, term.value().reshape({1}));
  };
  for (const auto& [name, modality] : step.input.modalities) {
    add("input." + name, modality.values);
    if (modality.offsets.defined()) add("offsets." + name, modality.offsets);
  }
  add("labels", step.input.labels);
  add_term("prediction", terms.prediction);
  add_term("total", terms.total);
  const auto names = step.model.modalities();
  for (std::size_t m = 0; m < names.size(); ++m) {
    // Variants of zeros are the noise itself: the peer gets the very numbers, since the sign in
    // R_inv's gradient turns on their last bits.
    const RandomStreams streams{.seed = 7, .step = 0};
    const Variable zeros(Tensor::zeros({problem.samples, 150}, DType::f32, problem.device));
    const Variable noise =
        losses::noise_variants(zeros, 1, 1.0, streams.at(DrawPurpose::environments, m));
    add("noise." + names[m], noise.value().slice(problem.samples, 2 * problem.samples).clone());
    add_term("invariance." + names[m], terms.invariance[m]);
    add_term("decorrelation." + names[m], terms.decorrelation[m]);
    add_term("reconstruction." + names[m], terms.reconstruction[m]);
  }
  for (const Parameter& p : step.model.named_parameters()) {
    add("parameter." + p.name, p.variable.value());
    add("gradient." + p.name, p.variable.gradient());
  }
  write_safetensors(file, tensors);
}

/// The loss of the last of `count` more steps.
double run(Way& way, int count) {
  for (int i = 0; i < count; ++i) way.step();
  return way.loss();
}

/// Of a loss, relative: only rounding differs, where a padded batch has another number of rows. On
/// the host model it is the same to the bit, and other noise is 3e-5 away.
double tolerance_of(const Problem& problem) {
  if (problem.device.type == DeviceType::simt) return 1e-5;
  return problem.precision == "f32" ? 1e-4 : 1e-2;
}

/// Bytes and operations of a step, summed over its kernels as their contracts count them: of a step
/// on the CPU, wherever it is timed, which asks for the same work without padding.
TraceSummary::Kernel trace_cost(Problem problem) {
  problem.device = {};
  Step step(problem);
  Eager eager(step);
  Trace trace(1);
  for (int i = 0; i < 2; ++i) {  // the trace leaves the first one out
    const TraceStep traced(&trace, i);
    trace_phase("forward");
    eager.step();
  }
  const TraceSummary summary = summarise(trace);
  require(summary.steps == 1 && summary.together.uncounted == 0, "train_step",
          "{} steps were traced, {} calls are not counted", summary.steps,
          summary.together.uncounted);
  return summary.together;
}
TraceSummary::Kernel cost_of(const Problem& problem) {
  static std::map<std::pair<std::string, std::int64_t>, TraceSummary::Kernel> known;
  const std::pair key(problem.lengths, problem.samples);
  if (!known.contains(key)) known[key] = trace_cost(problem);
  return known[key];
}

bool failed = false;

/// The time of a step, by the clock of the host: on a GPU of ten in a row, since reading the loss
/// waits for it. Before that the loss after the steps that warm up is compared with that of the
/// same steps op by op.
void train_step(benchmark::State& state, const Problem& problem, const MakeWay& make_way,
                int threads) {
  if (threads > 0) set_thread_count(threads);
  const int steps = problem.device.type == DeviceType::cuda ? 10 : 1;
  Step step(problem), plain(problem);
  const auto way = make_way(step);
  Eager eager(plain);
  const int warm_up = 2 * steps + DeviceSteps::kStepsBefore;  // the last one a replay
  CachingAllocator& memory = allocator_of(problem.device);
  memory.reset_peak();
  const std::size_t before = memory.stats().live;
  const double loss = run(*way, warm_up);
  state.counters["peak_MB"] = static_cast<double>(memory.stats().peak - before) / 1e6;
  const double expected = run(eager, warm_up);
  if (!(std::abs(loss - expected) <= tolerance_of(problem) * std::abs(expected))) {
    failed = true;
    return state.SkipWithError(
        fmt::format("the loss after {} steps is {}, op by op {}", warm_up, loss, expected).c_str());
  }
  for (auto _ : state) {
    const auto begin = std::chrono::steady_clock::now();
    benchmark::DoNotOptimize(run(*way, steps));
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    state.SetIterationTime(seconds.count() / steps);
  }
  const TraceSummary::Kernel cost = cost_of(problem);
  const auto rate = benchmark::Counter::kIsIterationInvariantRate;
  state.counters["GB"] = benchmark::Counter(cost.bytes * 1e-9, rate);
  state.counters["Gflop"] = benchmark::Counter(cost.operations * 1e-9, rate);
}

/// The cases and their batches: quick, one; and on the host model, whose times mean nothing, a
/// small one.
std::vector<Problem> problems(Device device, const std::string& precision, bool quick) {
  if (device.type == DeviceType::simt) return {{"mosi_lengths", 2, device, precision}};
  if (quick) return {{"mosi_lengths", kSamples, device, precision}};
  std::vector<Problem> all;
  for (const char* lengths : {"mosi_lengths", "all_50_steps"}) {
    for (const std::int64_t samples : {kSamples, 16 * kSamples})
      all.push_back({lengths, samples, device, precision});
  }
  return all;
}

/// train_step/eager/mosi_lengths/samples:48/threads:1, and train_step/recorded@cuda/.../samples:768
/// on a GPU, where the number of threads matters little.
void register_benchmarks(Device device, const std::string& precision, bool quick) {
  const auto thread_counts =
      device.is_cpu() ? bench::powers_of_two(thread_count()) : std::vector{0};
  const char* place = device.type == DeviceType::cuda ? "@cuda" : "";
  for (const auto& [name, way] : ways(device)) {
    for (const Problem& problem : problems(device, precision, quick)) {
      for (const int threads : thread_counts) {
        std::string title = fmt::format("train_step/{}{}/{}/samples:{}", name, place,
                                        problem.lengths, problem.samples);
        if (threads > 0) title += fmt::format("/threads:{}", threads);
        auto* added = benchmark::RegisterBenchmark(title.c_str(), train_step, problem, way, threads)
                          ->Unit(benchmark::kMillisecond)
                          ->UseManualTime();
        if (device.type == DeviceType::simt) added->Iterations(1);
      }
    }
  }
}

/// The argument behind `option`, both taken out; or `usual` where there is none.
std::string take_option(std::vector<std::string>& arguments, std::string_view option,
                        std::string usual) {
  const auto at = std::ranges::find(arguments, option);
  if (at == arguments.end() || at + 1 == arguments.end()) return usual;
  std::string value = at[1];
  arguments.erase(at, at + 2);
  return value;
}

/// Whether the flag is there; it is taken out.
bool take_flag(std::vector<std::string>& arguments, std::string_view flag) {
  return std::erase(arguments, flag) > 0;
}

int run_program(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  const std::string named = take_option(arguments, "--device", "");
  const Device device = parse_device(named.empty() ? "cpu" : named);
  const std::string precision = take_option(arguments, "--precision", "f32");
  parse_precision(precision);  // for its error
  require_available(device);
  const bool quick = take_flag(arguments, "--quick");
  take_flag(arguments, "--cold");  // a step has no cold twin
  if (arguments.size() == 5 && arguments[0] == "--export") {
    export_step({.lengths = arguments[1],
                 .samples = std::stoll(arguments[3]),
                 .device = device,
                 .precision = precision,
                 .dtype = arguments[2] == "f64" ? DType::f64 : DType::f32},
                arguments[4]);
    return 0;
  }
  std::vector<char*> rest{argv[0]};
  for (std::string& argument : arguments) rest.push_back(argument.data());
  int count = static_cast<int>(rest.size());
  benchmark::Initialize(&count, rest.data());
  if (benchmark::ReportUnrecognizedArguments(count, rest.data())) return 2;
  register_benchmarks(device, precision, quick);
  if (named.empty() && cuda::device_count() > 0)
    register_benchmarks({DeviceType::cuda, 0}, precision, quick);
  bench::add_context();
  benchmark::RunSpecifiedBenchmarks();
  return failed ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run_program(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
