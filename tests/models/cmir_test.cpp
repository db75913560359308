#include "models/networks/cmir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "autograd/gradcheck.h"
#include "core/error.h"
#include "core/parallel.h"
#include "tests/message_of.h"
#include "tests/models/tiny_model.h"

namespace cmir {
namespace {

using ::testing::HasSubstr;

std::set<std::string> parts_of(const Model& model) {
  std::set<std::string> parts;
  for (const auto& [part, count] : count_parameters(model.named_parameters(), 1))
    parts.insert(part);
  return parts;
}

TEST(CmirGradient, OfTheWholeModelInEveryParameter) {
  expect_right_gradients(tiny_config(), tiny_input(regression_labels()));
}
TEST(CmirGradient, WithNoiseDropoutAndTheOtherSwitches) {
  Config config = tiny_config();
  config.noise = {.train_kind = "gaussian", .train_rate = 0.3};
  config.model.dropout = 0.2;
  config.model.representation_dropout = 0.2;
  config.model.predictor = "B";
  config.data.modalities[0].dropout = 0.2;
  config.data.modalities[0].attention_dropout = 0.2;
  config.loss.decorrelation_alpha = 0.3;
  config.loss.decorrelation_axis = "feature";
  config.loss.reconstruction_stop_gradient = false;
  config.loss.reconstruction_reduction = "sum";
  config.loss.prediction = "mae";
  expect_right_gradients(config, tiny_input(regression_labels()));
}
TEST(CmirGradient, OfAppendixHAndHumourFeatures) {
  Config config = tiny_config();
  config.data.task = "multiclass";
  config.loss.prediction = "cross_entropy";
  config.loss.invariance = "kl";
  config.model.outputs = 3;
  config.data.modalities[2].fuse_into = "text";
  expect_right_gradients(config, tiny_input(Tensor::from<std::int32_t>({0, 2, 1}, {3})));
}
TEST(CmirGradient, OfTheVanillaFramework) {
  Config config = tiny_config();
  config.model.framework = "vanilla";
  config.data.task = "binary";
  config.loss.prediction = "bce";
  expect_right_gradients(config, tiny_input(Tensor::from<double>({1, 0, 1}, {3})));
}

TEST(Cmir, HasThePapersParametersAndNames) {
  const Config config = load_config(find_config("mosi"));
  const std::vector<ModalityInfo> data = {{"text", InputKind::vector, 768, {}},
                                          {"audio", InputKind::sequence, 74, {}},
                                          {"video", InputKind::sequence, 47, {}}};
  const auto count = [&](const std::string& reading) {
    Config read = config;
    read.model.predictor = reading;
    std::int64_t total = 0;
    for (const auto& [part, elements] :
         count_parameters(Model(read, data, 1).named_parameters(), 1))
      total += elements;
    return total;
  };
  // 187.514 M and 187.459 M with DeBERTa-v3-base's 183,831,552 parameters; the paper prints 187.51
  // M.
  EXPECT_EQ(count("B"), 187'513'387 - 183'831'552);
  EXPECT_EQ(count("A"), 187'459'009 - 183'831'552);

  const Model model(config, data, 1);
  const std::map<std::string, Shape> expected = {
      {"unimodal.text.projection.weight", {150, 768}},
      {"unimodal.audio.conv.weight", {150, 74, 3}},
      {"unimodal.video.transformer.layers.3.linear1.weight", {600, 150}},
      {"encoder.text.trunk.0.weight", {256, 150}},
      {"encoder.text.trunk.2.weight", {256, 256}},
      {"encoder.text.invariant.weight", {150, 256}},
      {"encoder.text.spurious.weight", {150, 256}},
      {"decoder.audio.0.weight", {256, 300}},
      {"decoder.audio.2.weight", {256, 256}},
      {"decoder.audio.4.weight", {150, 256}},
      {"predictor.0.weight", {256, 450}},
      {"predictor.2.weight", {256, 256}},
      {"predictor.3.weight", {256, 256}},
      {"predictor.5.weight", {1, 256}}};
  for (const auto& [name, shape] : expected) {
    const auto& list = model.named_parameters();
    const auto found = std::ranges::find(list, name, &Parameter::name);
    ASSERT_NE(found, list.end()) << name;
    EXPECT_EQ(found->variable.shape(), shape) << name;
  }
}

TEST(Cmir, AddsUpItsTermsWithTheirWeights) {
  const Config config = tiny_config();
  const auto out =
      tiny_model().forward(tiny_input(regression_labels()), Mode::training, {.seed = 1});
  ASSERT_EQ(out.prediction.shape(), (Shape{3, 1}));
  ASSERT_EQ(out.losses.invariance.size(), 3U);
  ASSERT_EQ(out.losses.decorrelation.size(), 3U);
  ASSERT_EQ(out.losses.reconstruction.size(), 3U);
  double total = out.losses.prediction.value().item();
  for (int m = 0; m < 3; ++m) {
    total += config.loss.lambda_invariance * out.losses.invariance[m].value().item() +
             config.loss.lambda_decorrelation * out.losses.decorrelation[m].value().item() +
             config.loss.lambda_reconstruction * out.losses.reconstruction[m].value().item();
  }
  EXPECT_NEAR(out.losses.total.value().item(), total, 1e-12);
  double mse = 0;
  for (int i = 0; i < 3; ++i) {
    mse +=
        std::pow(out.prediction.value().data<double>()[i] - regression_labels().data<double>()[i],
                 2) /
        3;
  }
  EXPECT_NEAR(out.losses.prediction.value().item(), mse, 1e-12);
}

TEST(Cmir, PredictsFromTheCleanRepresentation) {
  // Noise and environments change no prediction: those come from the clean block of rows.
  Config config = tiny_config();
  const auto input = tiny_input(regression_labels());
  const auto clean =
      tiny_model(config).forward(input, Mode::inference, {}).prediction.value().to_vector();
  const auto trained =
      tiny_model(config).forward(input, Mode::training, {.seed = 4}).prediction.value().to_vector();
  for (std::size_t i = 0; i < clean.size(); ++i) EXPECT_NEAR(clean[i], trained[i], 1e-12);
  config.noise = {.test_kind = "laplace_or_erase", .test_rate = 0.5};
  Model noisy = tiny_model(config);
  EXPECT_NE(noisy.forward(input, Mode::inference, {}).prediction.value().to_vector(), clean);
  noisy.set_noise({});
  EXPECT_EQ(noisy.forward(input, Mode::inference, {}).prediction.value().to_vector(), clean);
}

TEST(Cmir, ASampleAloneEqualsItselfInABatch) {
  const Model model = tiny_model();
  const ModelInput batch = tiny_input({});
  const auto together = model.forward(batch, Mode::inference, {}).prediction.value().to_vector();
  for (std::int64_t s = 0; s < 3; ++s) {
    ModelInput one;
    for (const auto& [name, input] : batch.modalities) {
      if (!input.offsets.defined()) {
        one.modalities[name] = {input.values.slice(s, s + 1).clone(), {}};
        continue;
      }
      const auto* offsets = input.offsets.data<std::int64_t>();
      one.modalities[name] = {input.values.slice(offsets[s], offsets[s + 1]).clone(),
                              Tensor::from<std::int64_t>({0, offsets[s + 1] - offsets[s]}, {2})};
    }
    EXPECT_NEAR(model.forward(one, Mode::inference, {}).prediction.value().item(), together[s],
                1e-13);
  }
}

TEST(Cmir, AblationsRemoveTheirTermsAndParameters) {
  const auto input = tiny_input(regression_labels());
  const auto build = [](auto change) {
    Config config = tiny_config();
    change(config);
    return tiny_model(config);
  };
  const auto train = [&](const Model& model) {
    return model.forward(input, Mode::training, {}).losses;
  };

  const Model no_invariance = build([](Config& c) { c.model.use_invariance = false; });
  EXPECT_TRUE(train(no_invariance).invariance.empty());
  EXPECT_EQ(train(no_invariance).decorrelation.size(), 3U);
  EXPECT_TRUE(train(build([](Config& c) { c.loss.environments = 0; })).invariance.empty());

  const Model no_decorrelation = build([](Config& c) { c.model.use_decorrelation = false; });
  EXPECT_TRUE(train(no_decorrelation).decorrelation.empty());
  EXPECT_TRUE(has_parameter(no_decorrelation, "encoder.text.spurious.weight"));

  const Model no_reconstruction = build([](Config& c) { c.loss.lambda_reconstruction = 0; });
  EXPECT_TRUE(train(no_reconstruction).reconstruction.empty());
  EXPECT_FALSE(parts_of(no_reconstruction).contains("decoder"));

  const Model neither =
      build([](Config& c) { c.model.use_decorrelation = c.model.use_reconstruction = false; });
  EXPECT_FALSE(has_parameter(neither, "encoder.text.spurious.weight"));
  EXPECT_FALSE(neither.representations(input, {})[0].spurious.defined());

  const Model vanilla = build([](Config& c) { c.model.framework = "vanilla"; });
  EXPECT_EQ(parts_of(vanilla), (std::set<std::string>{"unimodal", "predictor"}));
  EXPECT_NEAR(train(vanilla).total.value().item(), train(vanilla).prediction.value().item(), 1e-15);
  // An ablation leaves the rest of the model as it was, to the bit.
  EXPECT_EQ(neither.forward(input, Mode::inference, {}).prediction.value().to_vector(),
            tiny_model().forward(input, Mode::inference, {}).prediction.value().to_vector());
}

TEST(Cmir, TakesOneModalityOneSampleAndSeveralClasses) {
  Config config = tiny_config();
  config.data.modalities.erase(config.data.modalities.begin(), config.data.modalities.begin() + 2);
  config.data.task = "multiclass";
  config.loss.prediction = "cross_entropy";
  config.model.outputs = 7;
  const Model model(config, tiny_data(), 1);
  EXPECT_THAT(model.modalities(), ::testing::ElementsAre("video"));
  ModelInput input;
  input.modalities["video"] = {random_normal({1, 6}, 3).to(DType::f32), {}};
  input.labels = Tensor::from<std::int32_t>({6}, {1});
  const auto out = model.forward(input, Mode::training, {});
  EXPECT_EQ(out.prediction.shape(), (Shape{1, 7}));
  EXPECT_TRUE(std::isfinite(out.losses.total.value().item()));
  backward(out.losses.total);
  for (const auto& [name, variable] : model.named_parameters()) {
    ASSERT_TRUE(variable.gradient().defined()) << name;
    EXPECT_NO_THROW(require_finite(variable.gradient(), name));
  }
}

TEST(Cmir, FusesHumourFeaturesIntoTheLanguage) {
  Config config = tiny_config();
  config.data.modalities[2].fuse_into = "text";
  const Model model = tiny_model(config);
  EXPECT_THAT(model.modalities(), ::testing::ElementsAre("text", "audio"));
  EXPECT_TRUE(has_parameter(model, "fusion.video.weight"));
  EXPECT_FALSE(has_parameter(model, "encoder.video.trunk.0.weight"));
  ModelInput input = tiny_input({});
  const auto before = model.forward(input, Mode::inference, {}).prediction.value().to_vector();
  input.modalities["video"].values = random_normal({3, 6}, 99);
  EXPECT_NE(model.forward(input, Mode::inference, {}).prediction.value().to_vector(), before);
}

TEST(Cmir, InferenceRecordsNoGraphAndNeedsNoLabels) {
  const auto out = tiny_model().forward(tiny_input({}), Mode::inference, {});
  EXPECT_FALSE(out.prediction.requires_gradient());
  EXPECT_FALSE(out.losses.prediction.defined());
  const auto labelled =
      tiny_model().forward(tiny_input(regression_labels()), Mode::inference, {}).losses;
  EXPECT_TRUE(labelled.prediction.defined());
  EXPECT_FALSE(labelled.total.defined());
}

TEST(Cmir, SameStreamsSameBitsForAnyThreadCount) {
  Config config = tiny_config();
  config.model.dropout = 0.3;
  const auto bits = [&](int threads, std::uint32_t step) {
    set_thread_count(threads);
    const Model model(config, tiny_data(), 17);
    ModelInput input = tiny_input(regression_labels().to(DType::f32));
    const auto out = model.forward(input, Mode::training, {.seed = 3, .step = step});
    backward(out.losses.total);
    std::vector<double> all = {out.losses.total.value().item()};
    for (const auto& [name, variable] : model.named_parameters()) {
      const auto gradient = variable.gradient().to_vector();
      all.insert(all.end(), gradient.begin(), gradient.end());
    }
    return all;
  };
  const int before = thread_count();
  const auto one = bits(1, 5);
  EXPECT_EQ(one, bits(2, 5));
  EXPECT_NE(one, bits(1, 6));
  set_thread_count(before);
}

TEST(Cmir, StoresAndLoadsItsParameters) {
  const Model source = tiny_model();
  Model target(tiny_config(), tiny_data(), 99, DType::f64);
  const auto input = tiny_input({});
  const auto expected = source.forward(input, Mode::inference, {}).prediction.value().to_vector();
  EXPECT_NE(target.forward(input, Mode::inference, {}).prediction.value().to_vector(), expected);
  std::map<std::string, Tensor> values;
  for (const auto& [name, variable] : source.named_parameters()) values[name] = variable.value();
  target.load_parameters(values);
  EXPECT_EQ(target.forward(input, Mode::inference, {}).prediction.value().to_vector(), expected);
  values.erase("predictor.0.bias");
  EXPECT_THAT(message_of([&] { target.load_parameters(values); }),
              HasSubstr("'predictor.0.bias' is missing"));
}

TEST(Cmir, NamesTheModalityThatDoesNotFit) {
  const Model model = tiny_model();
  const auto forward = [&](auto change) {
    ModelInput input = tiny_input({});
    change(input);
    return message_of([&] { model.forward(input, Mode::inference, {}); });
  };
  EXPECT_THAT(forward([](ModelInput& in) { in.modalities.erase("audio"); }),
              HasSubstr("lacks the modality 'audio'"));
  EXPECT_THAT(forward([](ModelInput& in) {
                in.modalities["video"].values = random_normal({2, 6}, 1);
              }),
              HasSubstr("modality 'video' has 2 samples, 'text' has 3"));
  EXPECT_THAT(forward([](ModelInput& in) {
                in.modalities["video"].values = random_normal({3, 5}, 1);
              }),
              HasSubstr("modality 'video'"));
  EXPECT_THAT(message_of([] {
                Model(tiny_config(), {{"text", InputKind::tokens, 9, {}}}, 1);
              }),
              HasSubstr("describes no modality 'audio'; it has: text"));
  EXPECT_THAT(message_of([] {
                Config config = tiny_config();
                config.model.outputs = 2;
                tiny_model(config);
              }),
              HasSubstr("model.outputs = 2"));
}

}  // namespace
}  // namespace cmir
