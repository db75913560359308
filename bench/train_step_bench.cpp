// One training step at the sizes of the paper's MOSI column: forward, every loss, backward, AdamW.
// The peer is PyTorch:
//
//   python3 bench/peers/train_step.py BUILD/bench/train_step_bench
//
// runs both on the same weights and batch, compares every loss term and gradient, and only then
// times them, in turns.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstring>

#include "core/formats/safetensors.h"
#include "core/parallel.h"
#include "core/philox.h"
#include "losses/environments.h"
#include "models/networks/cmir.h"
#include "models/training/optimizer.h"

namespace {

using namespace cmir;

/// The paper's MOSI column without dropout, so that the peer computes the same numbers.
Config config_without_dropout() {
  Config config = load_config(find_config("mosi"));
  for (ModalityConfig& modality : config.data.modalities) modality.dropout = 0;
  return config;
}

/// Word counts, at most 50, of 48 segments of CMU-MOSI drawn at random: the lengths of word-aligned
/// audio and video.
constexpr std::int64_t kMosiLengths[48] = {
    11, 11, 5, 15, 10, 16, 5, 28, 4, 15, 11, 1, 16, 10, 7, 20, 5,  11, 7, 16, 10, 19, 5,  5,
    7,  31, 1, 4,  7,  3,  2, 11, 4, 6,  15, 6, 22, 17, 5, 6,  16, 3,  8, 14, 16, 6,  14, 50};
constexpr std::int64_t kSamples = 48;

enum class Lengths { mosi, full };

Tensor normals(const Shape& shape, std::uint64_t seed) {
  Tensor tensor = Tensor::empty(shape);
  const RandomStream stream{.seed = seed};
  auto values = tensor.mutable_span<float>();
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = stream.normal(i);
  return tensor;
}

struct Step {
  Model model;
  ModelInput input;
  AdamW optimizer;

  explicit Step(Lengths lengths, DType dtype = DType::f32)
      : model(config_without_dropout(),
              {{"text", InputKind::vector, 768, {}},
               {"audio", InputKind::sequence, 74, {}},
               {"video", InputKind::sequence, 47, {}}},
              1, dtype),
        optimizer({{.parameters = model.named_parameters(), .learning_rate = 1e-5}}) {
    Tensor offsets = Tensor::empty({kSamples + 1}, DType::i64);
    auto* at = offsets.mutable_data<std::int64_t>();
    at[0] = 0;
    for (std::int64_t s = 0; s < kSamples; ++s)
      at[s + 1] = at[s] + (lengths == Lengths::mosi ? kMosiLengths[s] : 50);
    const std::int64_t rows = at[kSamples];
    input.modalities["text"] = {normals({kSamples, 768}, 1), {}};
    input.modalities["audio"] = {normals({rows, 74}, 2), offsets};
    input.modalities["video"] = {normals({rows, 47}, 3), offsets};
    input.labels = normals({kSamples}, 4).to(dtype);
  }

  LossTerms gradients(std::uint32_t step) {
    const ForwardOutput output = model.forward(input, Mode::training, {.seed = 7, .step = step});
    optimizer.zero_gradients();
    backward(output.losses.total);
    return output.losses;
  }

  void run(std::uint32_t step) {
    benchmark::DoNotOptimize(gradients(step).total.value().item());
    optimizer.step();
  }
};

/// Everything the peer needs to repeat step 0 and compare.
void export_step(Lengths lengths, DType dtype, const std::string& file) {
  Step step(lengths, dtype);
  const LossTerms terms = step.gradients(0);
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const auto& [name, modality] : step.input.modalities) {
    tensors.emplace_back("input." + name, modality.values);
    if (modality.offsets.defined()) tensors.emplace_back("offsets." + name, modality.offsets);
  }
  tensors.emplace_back("labels", step.input.labels);
  const auto add = [&](const std::string& name, const Variable& term) {
    tensors.emplace_back("term." + name, term.value().reshape({1}));
  };
  add("prediction", terms.prediction);
  add("total", terms.total);
  const auto names = step.model.modalities();
  for (std::size_t m = 0; m < names.size(); ++m) {
    // Variants of zeros are the noise itself: the peer gets the very numbers, since the sign in
    // R_inv's gradient turns on their last bits.
    const RandomStreams streams{.seed = 7, .step = 0};
    const Variable noise = losses::noise_variants(Variable(Tensor::zeros({kSamples, 150})), 1, 1.0,
                                                  streams.at(DrawPurpose::environments, m));
    tensors.emplace_back("noise." + names[m], noise.value().slice(kSamples, 2 * kSamples).clone());
  }
  for (std::size_t m = 0; m < names.size(); ++m) {
    add("invariance." + names[m], terms.invariance[m]);
    add("decorrelation." + names[m], terms.decorrelation[m]);
    add("reconstruction." + names[m], terms.reconstruction[m]);
  }
  for (const Parameter& p : step.model.named_parameters()) {
    tensors.emplace_back("parameter." + p.name, p.variable.value());
    tensors.emplace_back("gradient." + p.name, p.variable.gradient());
  }
  write_safetensors(file, tensors);
}

void train_step(benchmark::State& state, Lengths lengths) {
  set_thread_count(static_cast<int>(state.range(0)));
  Step step(lengths);
  std::uint32_t number = 0;
  for (int i = 0; i < 3; ++i) step.run(number++);
  for (auto _ : state) step.run(number++);
}

BENCHMARK_CAPTURE(train_step, mosi_lengths, Lengths::mosi)
    ->ArgName("threads")
    ->Arg(1)
    ->Arg(2)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(train_step, all_50_steps, Lengths::full)
    ->ArgName("threads")
    ->Arg(1)
    ->Arg(2)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace

int main(int argc, char** argv) {
  if (argc == 5 && std::strcmp(argv[1], "--export") == 0) {
    export_step(std::strcmp(argv[2], "mosi_lengths") == 0 ? Lengths::mosi : Lengths::full,
                std::strcmp(argv[3], "f64") == 0 ? DType::f64 : DType::f32, argv[4]);
    return 0;
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
