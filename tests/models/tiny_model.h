// CmIR over three samples, small enough for numerical gradients, in f64.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "autograd/gradcheck.h"
#include "core/parallel.h"
#include "models/networks/cmir.h"

namespace cmir {

/// Three modalities of every kind: words, a sequence, vectors.
inline Config tiny_config() {
  Config config;
  config.data.modalities = {
      {.name = "text",
       .feature = "tok",
       .network = "conv_transformer",
       .layers = 1,
       .heads = 2,
       .feed_forward = 5,
       .dropout = 0},
      {.name = "audio",
       .feature = "frames",
       .network = "transformer_conv",
       .layers = 1,
       .heads = 1,
       .feed_forward = 5,
       .dropout = 0,
       .norm = "pre"},
      {.name = "video", .feature = "clip", .network = "projection", .dropout = 0}};
  config.data.modalities[0].embedding_width = 3;
  config.model.shared_width = 4;
  config.model.hidden_width = 5;
  config.loss.environments = 2;
  config.loss.lambda_decorrelation = 0.02;
  config.loss.decorrelation_scale = "width";
  return config;
}
inline std::vector<ModalityInfo> tiny_data() {
  return {{"text", InputKind::tokens, 9, {}},
          {"audio", InputKind::sequence, 3, {}},
          {"video", InputKind::vector, 6, {}}};
}
/// Three samples; the second has no words and no frames.
inline ModelInput tiny_input(const Tensor& labels) {
  ModelInput input;
  input.modalities["text"] = {Tensor::from<std::int32_t>({3, 8, 0, 1, 1}, {5}),
                              Tensor::from<std::int64_t>({0, 2, 2, 5}, {4})};
  input.modalities["audio"] = {random_normal({4, 3}, 2),
                               Tensor::from<std::int64_t>({0, 1, 1, 4}, {4})};
  input.modalities["video"] = {random_normal({3, 6}, 3), {}};
  input.labels = labels;
  return input;
}
inline Tensor regression_labels() { return Tensor::from<double>({1.2, -0.4, 2.0}, {3}); }

inline Model tiny_model(const Config& config = tiny_config()) {
  return Model(config, tiny_data(), 17, DType::f64);
}

inline bool has_parameter(const Model& model, const std::string& name) {
  return std::ranges::any_of(model.named_parameters(),
                             [&](const Parameter& p) { return p.name == name; });
}

/// d(total)/d(every parameter element) against central differences in f64.
inline void expect_right_gradients(const Config& config, const ModelInput& input) {
  const int threads = thread_count();
  set_thread_count(1);  // the tensors are tiny
  const Model model = tiny_model(config);
  const RandomStreams streams{.seed = 3, .step = 1};
  const auto total = [&] { return model.forward(input, Mode::training, streams).losses.total; };
  backward(total());
  const NoGradScope no_grad;
  double largest = 0, worst = 0;
  std::string where;
  for (Parameter parameter : model.named_parameters()) {
    if (!parameter.variable.requires_gradient()) continue;
    const Tensor gradient = parameter.variable.gradient();
    ASSERT_TRUE(gradient.defined()) << parameter.name << " has no gradient";
    Tensor& value = parameter.variable.mutable_value();
    for (std::int64_t i = 0; i < value.numel(); ++i) {
      const double original = value.data<double>()[i];
      const auto at = [&](double x) {
        value.mutable_data<double>()[i] = x;
        return total().value().item();
      };
      const double h = 1e-5;
      const double numeric = (at(original + h) - at(original - h)) / (2 * h);
      value.mutable_data<double>()[i] = original;
      const double error = std::abs(numeric - gradient.data<double>()[i]);
      largest = std::max(largest, std::abs(numeric));
      if (!(error <= worst)) {
        worst = error;
        where = fmt::format("{}[{}]: backward {}, differences {}", parameter.name, i,
                            gradient.data<double>()[i], numeric);
      }
    }
  }
  set_thread_count(threads);
  EXPECT_GT(largest, 0.01);
  EXPECT_TRUE(worst <= 1e-7 * largest) << where << ", largest " << largest;
}

}  // namespace cmir
