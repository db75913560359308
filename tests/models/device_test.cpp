// Training and evaluation on another device than the CPU: mostly with the CPU's kernels there, so
// that the bits can be compared.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/data/synthetic.h"
#include "models/training/device_batches.h"
#include "models/training/evaluate.h"
#include "models/training/interrupt.h"
#include "models/training/optimizer.h"
#include "models/training/trainer.h"
#include "tests/kernels/cpu_on_simt.h"
#include "tests/message_of.h"

namespace cmir {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const Device kSimt{DeviceType::simt};

std::string content_of(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

Config config_on(const std::string& device) {
  Config config = parse_config(R"(
[data]
name = "synthetic"
path = "synthetic"
split = "split"
label = "label"
[[data.modalities]]
name = "text"
feature = "text"
network = "projection"
[[data.modalities]]
name = "audio"
feature = "audio"
network = "conv_transformer"
layers = 1
heads = 2
feed_forward = 16
dropout = 0.2
[model]
shared_width = 8
hidden_width = 12
[loss]
environments = 2
[optimizer]
gradient_clip = 1.0
[training]
epochs = 2
batch_size = 16
checkpoint = "best_validation_loss"
)",
                               "config");
  config.training.device = device;
  return config;
}

Dataset small_dataset() {
  SyntheticOptions options;
  options.samples = 80;
  options.modalities = {{"text", 6, false}, {"audio", 5, true}};
  options.min_length = 1;
  options.max_length = 7;
  return make_synthetic(options);
}

class DeviceTest : public ::testing::Test {
 protected:
  DeviceTest() : data_(prepare_data(cpu_, small_dataset())) {
    directory_ = fs::temp_directory_path() / ("cmir-device-" + std::to_string(getpid()));
    fs::remove_all(directory_);
  }
  ~DeviceTest() override { fs::remove_all(directory_); }

  static void expect_same_bits(const Model& a, const Model& b) {
    ASSERT_EQ(a.named_parameters().size(), b.named_parameters().size());
    for (std::size_t i = 0; i < a.named_parameters().size(); ++i) {
      const Tensor x = a.named_parameters()[i].variable.value().to(Device{});
      const Tensor y = b.named_parameters()[i].variable.value().to(Device{});
      ASSERT_EQ(x.bytes(), y.bytes());
      EXPECT_EQ(std::memcmp(x.raw(), y.raw(), x.bytes()), 0) << a.named_parameters()[i].name;
    }
  }

  const kernels::testing::AllCpuKernelsOnSimt borrowed_;
  const Config cpu_ = config_on("cpu"), simt_ = config_on("simt");
  const PreparedData data_;
  fs::path directory_;
};

TEST_F(DeviceTest, TheKeyTakesDevicesOnly) {
  EXPECT_EQ(config_on("cuda:1").training.device, "cuda:1");
  EXPECT_THAT(message_of([] { validate(config_on("gpu")); }),
              HasSubstr("'gpu' is none of cpu, cuda, cuda:N, simt"));
}

TEST_F(DeviceTest, AModelStartsWithTheSameNumbersOnEveryDevice) {
  const Model here(cpu_, data_.modalities, 3), there(simt_, data_.modalities, 3);
  EXPECT_EQ(there.device(), kSimt);
  for (const Parameter& p : there.named_parameters())
    EXPECT_EQ(p.variable.device(), kSimt) << p.name;
  expect_same_bits(here, there);
}

TEST_F(DeviceTest, TrainsWithTheSameBits) {
  const TrainResult here = train(cpu_, data_, 1), there = train(simt_, data_, 1);
  EXPECT_EQ(there.model->device(), kSimt);
  expect_same_bits(*here.model, *there.model);
  EXPECT_EQ(to_json(here.state.history), to_json(there.state.history));
  EXPECT_EQ(predict(*here.model, data_, data_.split.test).values,
            predict(*there.model, data_, data_.split.test).values);
}

TEST_F(DeviceTest, ACheckpointOfOneDeviceResumesOnAnother) {
  const TrainResult whole = train(cpu_, data_, 4);
  TrainOptions options{.directory = directory_};
  // Reports are a step behind on a device, so one more comes after the signal; a second would kill.
  options.on_step = [](const StepReport&) {
    if (!InterruptGuard::requested()) raise(SIGINT);
  };
  TrainResult result;
  for (int runs = 0; runs < 1000; ++runs) {
    const InterruptGuard guard;
    result = train(runs % 2 == 0 ? simt_ : cpu_, data_, 4, options);
    EXPECT_EQ(result.resumed, runs > 0);
    if (!result.interrupted) break;
  }
  const InterruptGuard no_longer_interrupted;  // for the tests after this one
  ASSERT_FALSE(result.interrupted);
  expect_same_bits(*whole.model, *result.model);
}

TEST_F(DeviceTest, AModelFileKnowsNoDevice) {
  train(simt_, data_, 1, {.directory = directory_ / "simt"});
  train(cpu_, data_, 1, {.directory = directory_ / "cpu"});
  const auto file = [&](const char* run) { return directory_ / run / "model.safetensors"; };
  EXPECT_TRUE(content_of(file("simt")) == content_of(file("cpu")));
  const LoadedModel here = load_model(file("simt")), there = load_model(file("simt"), kSimt);
  EXPECT_EQ(here.model.device(), Device{});
  EXPECT_EQ(there.model.device(), kSimt);
  expect_same_bits(here.model, there.model);
}

TEST_F(DeviceTest, ANonFiniteGradientIsNamed) {
  const Variable weight(Tensor::zeros({3}, DType::f32, kSimt), true);
  weight.node()->gradient =
      Tensor::from<float>({1, std::numeric_limits<float>::infinity(), 0}, {3}, kSimt);
  AdamW optimizer({{.parameters = {{"weight", weight}}}});
  EXPECT_THAT(message_of([&] { optimizer.step(); }), HasSubstr("'weight'"));
}

TEST_F(DeviceTest, TheOptimizersStateGoesFromDeviceToDevice) {
  const auto optimizer_on = [](Device device) {
    const Variable weight(Tensor::full({5}, 1).to(device), true);
    weight.node()->gradient = Tensor::full({5}, 0.25).to(device);
    return std::pair(weight, AdamW({{.parameters = {{"weight", weight}}}}));
  };
  auto [there, first] = optimizer_on(kSimt);
  first.step();
  auto [here, second] = optimizer_on({});
  here.mutable_value().copy_from(there.value());
  second.load_state(first.state());
  first.step();
  second.step();
  EXPECT_EQ(here.value().to_vector(), there.value().to_vector());
  EXPECT_EQ(first.state().at("adamw.first_moment.weight").device(), kSimt);
}

TEST_F(DeviceTest, BatchesArriveOnTheDeviceInOrder) {
  for (const Device device : {Device{}, kSimt}) {
    Prefetcher prefetcher(
        [&](std::int64_t i) {
          const std::vector<std::int64_t> samples = {i};
          return gather(data_.dataset, data_.fields, samples);
        },
        0, 5);
    DeviceBatches batches(
        prefetcher, [&](const Batch& batch) { return model_input(cpu_, batch); }, device);
    for (std::int64_t i = 0; i < 5; ++i) {
      const auto next = batches.next();
      ASSERT_TRUE(next);
      EXPECT_EQ(next->batch.indices, (std::vector<std::int64_t>{i}));
      EXPECT_EQ(next->input.modalities.at("audio").values.device(), device);
      EXPECT_EQ(next->input.modalities.at("audio").offsets.device(), Device{});
    }
    EXPECT_FALSE(batches.next());
  }
}

/// Every loss term of every step, by name.
std::vector<LossValues> losses_on(const std::string& device, const std::string& framework) {
  Config config = config_on(device);
  config.model.framework = framework;
  std::vector<LossValues> losses;
  TrainOptions options;
  options.on_step = [&](const StepReport& report) { losses.push_back(report.losses); };
  train(config, prepare_data(config, small_dataset()), 1, options);
  return losses;
}

// The CUDA kernels themselves, on the host model: here nothing borrows the CPU's.
TEST(CudaKernels, TrainToTheLossesOfTheCpu) {
  for (const std::string framework : {"cmir", "vanilla"}) {
    const auto cpu = losses_on("cpu", framework), simt = losses_on("simt", framework);
    ASSERT_EQ(cpu.size(), simt.size());
    ASSERT_GT(cpu.size(), 4U);
    for (std::size_t step = 0; step < cpu.size(); ++step) {
      ASSERT_EQ(cpu[step].size(), simt[step].size());
      for (const auto& [term, value] : cpu[step]) {
        // Sums in another order, through a few steps of AdamW, whose first ones amplify a
        // difference.
        EXPECT_NEAR(simt[step].at(term), value, 1e-3 * std::max(1.0, std::abs(value)))
            << framework << ", step " << step << ", " << term;
      }
    }
    EXPECT_EQ(simt, losses_on("simt", framework)) << "not the same bits from run to run";
  }
}

}  // namespace
}  // namespace cmir
