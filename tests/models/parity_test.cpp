// The whole model against PyTorch: same weights, batch and noise; every loss term and gradient. The
// fixture is made by tests/fixtures/make_parity.py.
#include <gtest/gtest.h>

#include <cmath>

#include "core/formats/safetensors.h"
#include "models/networks/cmir.h"

namespace cmir {
namespace {

/// The paper's MOSI column made small, as make_parity.py builds it.
Config small_mosi() {
  Config config = load_config(find_config("mosi"));
  for (ModalityConfig& modality : config.data.modalities) {
    modality.layers = modality.heads = 2;
    modality.feed_forward = 16;
    modality.dropout = 0;
  }
  config.model.shared_width = 8;
  config.model.hidden_width = 10;
  config.loss.environments = 2;
  config.loss.lambda_decorrelation = 0.01;
  config.loss.decorrelation_alpha = 0.5;
  return config;
}

class Parity : public ::testing::TestWithParam<DType> {
 protected:
  const SafeTensors fixture_ =
      SafeTensors::open(CMIR_SOURCE_DIR "/tests/fixtures/parity.safetensors");

  ModelInput input() const {
    ModelInput input;
    for (const char* name : {"text", "audio", "video"}) {
      ModalityInput& modality = input.modalities[name];
      modality.values = fixture_.at(std::string("input.") + name);
      if (std::string(name) != "text")
        modality.offsets = fixture_.at(std::string("offsets.") + name);
    }
    input.labels = fixture_.at("labels").to(GetParam());
    return input;
  }

  Model model() const {
    Model model(small_mosi(),
                {{"text", InputKind::vector, 12, {}},
                 {"audio", InputKind::sequence, 5, {}},
                 {"video", InputKind::sequence, 7, {}}},
                1, GetParam());
    std::map<std::string, Tensor> parameters;
    for (const std::string& name : fixture_.names()) {
      if (name.starts_with("parameter.")) parameters[name.substr(10)] = fixture_.at(name);
    }
    model.load_parameters(parameters);
    return model;
  }

  /// |actual - expected| <= tolerance |expected|, in the Euclidean norm over the tensor.
  void expect_equal(const Tensor& actual, const std::string& name) const {
    const auto a = actual.to_vector(), e = fixture_.at(name).to_vector();
    ASSERT_EQ(a.size(), e.size()) << name;
    double difference = 0, norm = 0;
    for (std::size_t i = 0; i < e.size(); ++i) {
      difference += (a[i] - e[i]) * (a[i] - e[i]);
      norm += e[i] * e[i];
    }
    // A gradient that is zero in exact arithmetic (a key's bias under softmax) has only rounding to
    // compare.
    const double tolerance =
        GetParam() == DType::f64 ? 2e-6 : 1e-5;  // f64: the noise is drawn in f32 on both
    EXPECT_TRUE(std::sqrt(difference) <= tolerance * std::sqrt(norm) + 1e-9)
        << name << ": relative difference " << std::sqrt(difference / norm);
  }
};

TEST_P(Parity, EveryLossTermAndGradientEqualsPyTorch) {
  const Model m = model();
  const ForwardOutput output = m.forward(input(), Mode::training, {.seed = 77, .step = 3});
  expect_equal(output.prediction.value(), "prediction");
  expect_equal(output.losses.prediction.value(), "term.prediction");
  expect_equal(output.losses.total.value(), "term.total");
  const std::vector<std::string> names = m.modalities();
  for (std::size_t i = 0; i < names.size(); ++i) {
    expect_equal(output.losses.invariance.at(i).value(), "term.invariance." + names[i]);
    expect_equal(output.losses.decorrelation.at(i).value(), "term.decorrelation." + names[i]);
    expect_equal(output.losses.reconstruction.at(i).value(), "term.reconstruction." + names[i]);
  }
  backward(output.losses.total);
  for (const Parameter& p : m.named_parameters()) {
    SCOPED_TRACE(p.name);
    ASSERT_TRUE(p.variable.gradient().defined());
    expect_equal(p.variable.gradient(), "gradient." + p.name);
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, Parity, ::testing::Values(DType::f32, DType::f64),
                         [](const auto& param) { return std::string(name_of(param.param)); });

}  // namespace
}  // namespace cmir
