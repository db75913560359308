#include "models/networks/crossmodal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <optional>

#include "autograd/arithmetic.h"
#include "autograd/attention.h"
#include "autograd/elementwise.h"
#include "autograd/rows.h"
#include "core/error.h"
#include "core/graph.h"
#include "kernels/simt/grid.h"
#include "models/networks/attention_maps.h"
#include "tests/kernels/cpu_on_simt.h"
#include "tests/message_of.h"
#include "tests/models/plain_matrix.h"
#include "tests/models/tiny_model.h"

namespace cmir {
namespace {

using test::Matrix;
using ::testing::HasSubstr;

/// tiny_config() with everything of the fusion on but dropout.
Config fused(const std::string& place) {
  Config config = tiny_config();
  config.model.fusion = "crossmodal";
  config.model.fusion_place = place;
  config.model.fusion_layers = 2;
  config.model.fusion_heads = 2;
  config.model.fusion_feed_forward = 5;
  config.model.fusion_dropout = 0;
  config.model.fusion_attention_dropout = 0;
  config.model.fusion_embedding_dropout = 0;
  config.model.fusion_position_scale = 1;
  return config;
}

constexpr const char* kPlaces[] = {"before", "after"};

TEST(CrossmodalGradient, OfTheWholeModelInEveryParameter) {
  for (const char* place : kPlaces) {
    Config config = fused(place);
    config.model.fusion_layers = place == std::string("after") ? 2 : 1;  // a minute is too long
    expect_right_gradients(config, tiny_input(regression_labels()));
  }
}
TEST(CrossmodalGradient, WithDropoutNoiseAndLearnedPositions) {
  for (const char* place : kPlaces) {
    Config config = fused(place);
    config.model.fusion_layers = 1;
    config.model.fusion_dropout = 0.2;
    config.model.fusion_attention_dropout = 0.2;
    config.model.fusion_embedding_dropout = 0.2;
    config.model.fusion_positions = "learned";
    config.model.fusion_max_positions = 3;
    config.model.representation_dropout = 0.2;
    config.noise = {.train_kind = "laplace_or_erase", .train_rate = 0.3};
    expect_right_gradients(config, tiny_input(regression_labels()));
  }
}
TEST(CrossmodalGradient, OfTheVanillaFramework) {
  for (const char* place : kPlaces) {
    Config config = fused(place);
    config.model.framework = "vanilla";
    config.model.fusion_layers = 1;
    expect_right_gradients(config, tiny_input(regression_labels()));
  }
}

std::map<std::string, std::int64_t> sizes_of(const Model& model) {
  std::map<std::string, std::int64_t> sizes;
  for (const Parameter& p : model.named_parameters()) sizes[p.name] = p.variable.value().numel();
  return sizes;
}

TEST(Crossmodal, HasTheParametersOfItsFormula) {
  const std::int64_t w = 4, f = 5, layers = 2, modalities = 3, pairs = 6;
  for (const char* place : kPlaces) {
    for (const char* positions : {"sinusoidal", "learned"}) {
      Config config = fused(place);
      config.model.fusion_positions = positions;
      config.model.fusion_max_positions = 7;
      std::int64_t count = 0;
      for (const auto& [name, size] : sizes_of(tiny_model(config)))
        count += name.starts_with("crossmodal.") ? size : 0;
      const std::int64_t layer = 4 * (w * w + w) + (2 * w * f + w + f) + 4 * w;
      std::int64_t expected = pairs * (layers * layer - 2 * w + 2 * w) + modalities * 2 * w;
      if (positions == std::string("learned")) expected += modalities * 7 * w;
      if (place == std::string("before")) expected += modalities * ((modalities - 1) * w * w + w);
      EXPECT_EQ(count, expected) << place << positions;
    }
  }
}

TEST(Crossmodal, NamesItsParameters) {
  const auto sizes = sizes_of(tiny_model(fused("before")));
  for (const char* name :
       {"crossmodal.text.norm.weight", "crossmodal.text.projection.weight",
        "crossmodal.text.layers.0.in_proj_weight", "crossmodal.text.layers.1.in_proj_bias",
        "crossmodal.text.audio.layers.1.cross_attn.q_proj_weight",
        "crossmodal.video.audio.layers.1.cross_attn.out_proj.weight",
        "crossmodal.video.audio.layers.1.norm1.weight", "crossmodal.audio.video.norm.bias"})
    EXPECT_TRUE(sizes.contains(name)) << name;
  EXPECT_FALSE(sizes.contains("crossmodal.text.audio.layers.0.norm1.weight"));
  EXPECT_FALSE(sizes.contains("crossmodal.text.audio.layers.0.cross_attn.q_proj_weight"));
  EXPECT_EQ(sizes.at("predictor.0.weight"), 3 * 4 * 5);
  EXPECT_EQ(sizes_of(tiny_model(fused("after"))).at("predictor.0.weight"), 6 * 4 * 5);
}

/// Sample s of tiny_input(), alone.
ModelInput alone(const ModelInput& input, std::int64_t s) {
  ModelInput one;
  for (const auto& [name, modality] : input.modalities) {
    ModalityInput& mine = one.modalities[name];
    if (!modality.offsets.defined()) {
      mine.values = modality.values.slice(s, s + 1).clone();
      continue;
    }
    const auto* at = modality.offsets.data<std::int64_t>();
    mine.values = modality.values.slice(at[s], at[s + 1]).clone();
    mine.offsets = Tensor::from<std::int64_t>({0, at[s + 1] - at[s]}, {2});
  }
  return one;
}

/// The second sample has no words and no frames.
TEST(Crossmodal, ASampleAloneEqualsItselfInABatch) {
  for (const char* place : kPlaces) {
    for (const char* positions : {"none", "sinusoidal", "learned"}) {
      Config config = fused(place);
      config.model.fusion_positions = positions;
      const Model model = tiny_model(config);
      const ModelInput input = tiny_input({});
      const auto together =
          model.forward(input, Mode::inference, {}).prediction.value().to_vector();
      for (std::int64_t s = 0; s < 3; ++s) {
        const double one =
            model.forward(alone(input, s), Mode::inference, {}).prediction.value().to_vector()[0];
        EXPECT_TRUE(std::isfinite(one));
        EXPECT_NEAR(one, together[s], 1e-13) << place << positions << s;
      }
    }
  }
}

/// How the prediction of each sample changes with one value of the last row of audio.
std::vector<double> moved_by_the_last_frame(const Model& model) {
  const ModelInput input = tiny_input({});
  ModelInput changed = input;
  Tensor& values = changed.modalities.at("audio").values;
  values = values.clone();
  values.mutable_data<double>()[values.numel() - 1] += 1;
  auto difference = model.forward(input, Mode::inference, {}).prediction.value().to_vector();
  const auto after = model.forward(changed, Mode::inference, {}).prediction.value().to_vector();
  for (std::size_t i = 0; i < after.size(); ++i) difference[i] -= after[i];
  return difference;
}

TEST(Crossmodal, ATimeStepMovesItsOwnSampleOnly) {
  for (const char* place : kPlaces) {
    const auto moved = moved_by_the_last_frame(tiny_model(fused(place)));
    EXPECT_EQ(moved[0], 0);
    EXPECT_EQ(moved[1], 0);
    EXPECT_GT(std::abs(moved[2]), 1e-9);
  }
}

/// Without positions the order of a source's steps is no matter; with them it is.
TEST(Crossmodal, PositionsGiveTimeStepsAnOrder) {
  for (const char* positions : {"none", "sinusoidal", "learned"}) {
    Config config = fused("after");
    config.model.fusion_positions = positions;
    for (ModalityConfig& modality : config.data.modalities) modality.network = "projection";
    const Model model = tiny_model(config);
    ModelInput input = tiny_input({});
    const auto before = model.forward(input, Mode::inference, {}).prediction.value().to_vector();
    input.modalities["text"].values = Tensor::from<std::int32_t>({8, 3, 0, 1, 1}, {5});
    const auto swapped = model.forward(input, Mode::inference, {}).prediction.value().to_vector();
    if (positions == std::string("none")) {
      EXPECT_NEAR(before[0], swapped[0], 1e-13);
    } else {
      EXPECT_GT(std::abs(before[0] - swapped[0]), 1e-9) << positions;
    }
  }
}

/// Corruption of X_m is that of all its time steps: the mean of what attends is what the encoders
/// see, whatever the kind.
TEST(Crossmodal, ChangesTimeStepsAsTheirMean) {
  ParameterStore store(3, DType::f64);
  const CrossmodalFusion fusion(store, fused("after").model, tiny_data());
  const TimeSteps steps{Variable(random_normal({6, 4}, 1)),
                        Tensor::from<std::int64_t>({0, 3, 3, 4, 6, 6}, {6}), 1};
  const Tensor factor = random_normal({4, 4}, 2), offset = random_normal({4, 4}, 3);
  const auto change = [&](const Variable& x) {
    return ops::add(ops::multiply(x, Variable(factor)), Variable(offset));
  };
  const TimeSteps changed = fusion.changed_alike(steps, change);
  const auto mean = mean_over_time(changed).value().to_vector(),
             expected = change(mean_over_time(steps)).value().to_vector();
  ASSERT_EQ(mean.size(), 16U);
  for (std::size_t i = 0; i < mean.size(); ++i) {
    if (i / 4 != 1) {  // which has no time steps
      EXPECT_NEAR(mean[i], expected[i], 1e-14);
    }
  }
  const TimeSteps vectors{Variable(random_normal({4, 4}, 1)), {}};
  EXPECT_EQ(fusion.changed_alike(vectors, change).rows.value().to_vector(),
            change(vectors.rows).value().to_vector());
}

TEST(Crossmodal, NoiseAtTestReachesWhatIsFused) {
  for (const char* place : kPlaces) {
    Config config = fused(place);
    config.model.fusion_positions = "none";
    const auto prediction = [&](const char* kind, double rate) {
      config.noise.test_kind = kind;
      config.noise.test_rate = rate;
      return tiny_model(config)
          .forward(tiny_input({}), Mode::inference, {.seed = 5})
          .prediction.value()
          .to_vector();
    };
    const auto clean = prediction("none", 0), noisy = prediction("gaussian", 0.5),
               erased = prediction("erase", 1);
    EXPECT_GT(std::abs(clean[2] - noisy[2]), 1e-6) << place;
    EXPECT_GT(std::abs(clean[0] - clean[2]), 1e-6) << place;
    EXPECT_NEAR(erased[0], erased[2], 1e-13) << place;  // nothing of either is left
  }
}

/// Two modalities, two layers, one sample, every parameter random.
struct OnePair {
  static constexpr std::int64_t kWidth = 6;
  ParameterStore store{3, DType::f64};
  std::map<std::string, Tensor> parameters;
  std::optional<CrossmodalFusion> fusion;

  OnePair() {
    ModelConfig config = fused("after").model;
    config.shared_width = kWidth;
    config.fusion_positions = "none";
    fusion.emplace(store, config,
                   std::vector<ModalityInfo>{{"a", InputKind::sequence, 1, {}},
                                             {"b", InputKind::sequence, 1, {}}});
    std::uint64_t seed = 1;
    for (Parameter p : store.list()) {
      p.variable.mutable_value().copy_from(random_normal(p.variable.shape(), seed++));
      parameters[p.name] = p.variable.value();
    }
  }
  Matrix affine(const Matrix& x, const std::string& name, const char* separator = ".") const {
    return test::affine(x, test::rows_of(parameters.at(name + separator + "weight")),
                        parameters.at(name + separator + "bias").to_vector());
  }
  Matrix norm(const Matrix& x, const std::string& name) const {
    const auto gain = parameters.at(name + ".weight").to_vector(),
               offset = parameters.at(name + ".bias").to_vector();
    Matrix y = test::normalised(x);
    for (auto& row : y) {
      for (std::size_t i = 0; i < row.size(); ++i) row[i] = row[i] * gain[i] + offset[i];
    }
    return y;
  }
  /// a's rows after attending to b's.
  Matrix written_out(Matrix x, const Matrix& source) const {
    const Matrix keys_from = norm(source, "crossmodal.b.norm");
    for (int i = 0; i < 2; ++i) {
      const std::string layer = fmt::format("crossmodal.a.b.layers.{}", i);
      const Matrix queries_from = norm(x, i == 0 ? "crossmodal.a.norm" : layer + ".norm1");
      const std::string of_layer = fmt::format(".layers.{}.in_proj", i);
      const Matrix query =
          i == 0 ? test::columns(affine(queries_from, "crossmodal.a" + of_layer, "_"), 0, kWidth)
                 : affine(queries_from, layer + ".cross_attn.q_proj", "_");
      const std::int64_t keys = i == 0 ? kWidth : 0;  // behind b's queries
      const Matrix key_value =
          test::columns(affine(keys_from, "crossmodal.b" + of_layer, "_"), keys, keys + 2 * kWidth);
      const Matrix mixed = test::attention(query, test::columns(key_value, 0, kWidth),
                                           test::columns(key_value, kWidth, 2 * kWidth), 3);
      x = test::sum(x, affine(mixed, layer + ".cross_attn.out_proj"));
      Matrix hidden = affine(norm(x, layer + ".norm2"), layer + ".linear1");
      for (auto& row : hidden) {
        for (double& v : row) v = std::max(v, 0.0);
      }
      x = test::sum(x, affine(hidden, layer + ".linear2"));
    }
    return norm(x, "crossmodal.a.b.norm");
  }
};

TEST(Crossmodal, EqualsTheLayersWrittenOut) {
  const OnePair pair;
  const Tensor a = random_normal({3, 6}, 100), b = random_normal({2, 6}, 101);
  DropoutSites none({}, 0, false);
  const auto means = (*pair.fusion)({{Variable(a), Tensor::from<std::int64_t>({0, 3}, {2})},
                                     {Variable(b), Tensor::from<std::int64_t>({0, 2}, {2})}},
                                    none);
  ASSERT_EQ(means.size(), 2U);
  const Matrix rows = pair.written_out(test::rows_of(a), test::rows_of(b));
  const auto mean = means[0].value().to_vector();
  for (std::size_t i = 0; i < 6; ++i)
    EXPECT_NEAR(mean[i], (rows[0][i] + rows[1][i] + rows[2][i]) / 3, 1e-12);
}

/// The pairs, in their order, whose means change with these rows of a parameter.
std::vector<std::size_t> pairs_moved_by(const CrossmodalFusion& fusion, const ParameterStore& store,
                                        const std::string& name, std::int64_t begin,
                                        std::int64_t end) {
  const std::vector<TimeSteps> x = {
      {Variable(random_normal({5, 4}, 1)), Tensor::from<std::int64_t>({0, 3, 5}, {3})},
      {Variable(random_normal({7, 4}, 2)), Tensor::from<std::int64_t>({0, 2, 7}, {3})},
      {Variable(random_normal({4, 4}, 3)), Tensor::from<std::int64_t>({0, 2, 4}, {3})}};
  DropoutSites none({}, 0, false);
  const auto before = fusion(x, none);
  for (Parameter p : store.list()) {
    if (p.name != name) continue;
    double* values = p.variable.mutable_value().mutable_data<double>();
    const std::int64_t width = p.variable.shape().width();
    for (std::int64_t i = begin * width; i < end * width; ++i) values[i] += 0.1 * (i % 5);
  }
  const auto after = fusion(x, none);
  std::vector<std::size_t> moved;
  for (std::size_t i = 0; i < before.size(); ++i)
    if (before[i].value().to_vector() != after[i].value().to_vector()) moved.push_back(i);
  return moved;
}

/// Pairs of 0 (1, 2), 1 (0, 2), 2 (0, 1) are 0 to 5.
TEST(Crossmodal, EveryPairHasItsPartsOfTheSharedProjections) {
  constexpr std::size_t kAsTarget[3][2] = {{0, 1}, {2, 3}, {4, 5}},
                        kAsSource[3][2] = {{2, 4}, {0, 5}, {1, 3}};
  ParameterStore store(3, DType::f64);
  const CrossmodalFusion fusion(store, fused("after").model, tiny_data());
  for (std::size_t m = 0; m < 3; ++m) {
    for (int layer = 0; layer < 2; ++layer) {
      const auto moved_by_part = [&](std::int64_t begin, std::int64_t end) {
        const std::string name =
            fmt::format("crossmodal.{}.layers.{}.in_proj_weight", tiny_data()[m].name, layer);
        return pairs_moved_by(fusion, store, name, 4 * begin, 4 * end);
      };
      const std::int64_t keys = layer == 0 ? 2 : 0;
      for (std::int64_t other = 0; other < 2; ++other) {
        if (layer == 0) {
          EXPECT_THAT(moved_by_part(other, other + 1), testing::ElementsAre(kAsTarget[m][other]));
        }
        EXPECT_THAT(moved_by_part(keys + 2 * other, keys + 2 * other + 2),
                    testing::ElementsAre(kAsSource[m][other]));
      }
    }
  }
}

/// Calls of kernels, fills and copies in a recorded forward pass, and in the backward pass.
using Calls = std::pair<std::size_t, std::size_t>;

/// Of `forward`, whose parameters are in `store`.
Calls recorded_calls(const ParameterStore& store,
                     const std::function<Variable(DropoutSites&)>& forward) {
  Calls calls;
  Tensor seed;
  const auto pass = [&](bool count) {
    for (Parameter p : store.list()) p.variable.clear_gradient();
    DropoutSites sites({.seed = 1}, 0, true);
    const Variable y = forward(sites);
    if (count) calls.first = detail::recorded_calls->size();
    if (!count) seed = Tensor::full(y.shape(), 1, y.dtype(), y.device());
    backward(y, {.seed = seed});
    if (count) calls.second = detail::recorded_calls->size() - calls.first;
  };
  pass(false);  // offsets come to the device
  Graph graph(Device{DeviceType::simt});
  graph.capture([&] { pass(true); });
  return calls;
}

constexpr Device kSimt{DeviceType::simt};
Variable on_simt(std::int64_t rows) {
  return Variable(random_normal({rows, 4}, rows).to(kSimt), true);
}
Tensor offsets_of(std::int64_t first, std::int64_t second) {
  return Tensor::from<std::int64_t>({0, first, first + second}, {3});
}

Calls calls_of_fusion(std::int64_t layers) {
  ModelConfig config = fused("after").model;
  config.fusion_layers = layers;
  config.fusion_dropout = config.fusion_attention_dropout = 0.1;
  ParameterStore store(3, DType::f64, kSimt);
  const CrossmodalFusion fusion(store, config, tiny_data());
  const std::vector<TimeSteps> x = {
      {on_simt(5), offsets_of(3, 2)}, {on_simt(7), offsets_of(6, 1)}, {on_simt(2), {}}};
  return recorded_calls(store, [&](DropoutSites& sites) { return ops::sum_of(fusion(x, sites)); });
}

Transformer transformer_of(ParameterStore& store, std::int64_t layers) {
  return Transformer(store, "t",
                     {.width = 4,
                      .layers = layers,
                      .heads = 2,
                      .feed_forward = 5,
                      .dropout = 0.1,
                      .attention_dropout = 0.1,
                      .pre_norm = true});
}

Calls calls_of_transformer(std::int64_t layers) {
  ParameterStore store(3, DType::f64, kSimt);
  const Transformer transformer = transformer_of(store, layers);
  const Variable x = on_simt(5);
  const Tensor offsets = offsets_of(3, 2);
  return recorded_calls(store, [&](DropoutSites& sites) { return transformer(x, offsets, sites); });
}

/// The figures of docs/devices.md.
TEST(RecordedCalls, OfOneMoreLayer) {
  const kernels::testing::AllCpuKernelsOnSimt borrowed;
  const Calls self = calls_of_transformer(2), self_more = calls_of_transformer(3);
  EXPECT_EQ(self_more.first - self.first, 7U);
  EXPECT_EQ(self_more.second - self.second, 14U);
  const Calls no_layer = calls_of_fusion(0), one_layer = calls_of_fusion(1);
  EXPECT_EQ(one_layer.first - no_layer.first, 34U);
  EXPECT_EQ(one_layer.second - no_layer.second, 77U);
  const Calls six_pairs = calls_of_fusion(2), six_pairs_more = calls_of_fusion(3);
  EXPECT_EQ(six_pairs_more.first - six_pairs.first, 40U);
  EXPECT_EQ(six_pairs_more.second - six_pairs.second, 93U);
}

/// Launches of our kernels in a forward pass through CUDA's kernels, and in the backward pass;
/// matrix products are the BLAS's and not among them.
Calls launches_of_transformer(std::int64_t layers) {
  ParameterStore store(3, DType::f32, kSimt);
  const Transformer transformer = transformer_of(store, layers);
  const Variable x(random_normal({5, 4}, 5).to(DType::f32).to(kSimt), true);
  DropoutSites sites({.seed = 1}, 0, true);
  const std::uint64_t begin = kernels::simt::launches();
  const Variable y = transformer(x, offsets_of(3, 2), sites);
  const std::uint64_t middle = kernels::simt::launches();
  backward(y, {.seed = Tensor::full(y.shape(), 1, DType::f32, kSimt)});
  return {middle - begin, kernels::simt::launches() - middle};
}

/// The figures of docs/devices.md.
TEST(CudaKernels, LaunchesOfOneMoreTransformerLayer) {
  const Calls two = launches_of_transformer(2), three = launches_of_transformer(3);
  EXPECT_EQ(three.first - two.first, 6U);
  EXPECT_EQ(three.second - two.second, 14U);
}

TEST(Crossmodal, LearnsThreeSamples) {
  for (const char* place : kPlaces) {
    const Model model = tiny_model(fused(place));
    const ModelInput input = tiny_input(regression_labels());
    double first = 0, last = 0;
    for (std::uint32_t step = 0; step < 200; ++step) {
      const LossTerms losses = model.forward(input, Mode::training, {.step = step}).losses;
      last = losses.prediction.value().item();
      if (step == 0) first = last;
      for (Parameter p : model.named_parameters()) p.variable.clear_gradient();
      backward(losses.total);
      for (Parameter p : model.named_parameters()) {
        const Tensor gradient = p.variable.gradient();
        double* value = p.variable.mutable_value().mutable_data<double>();
        for (std::int64_t i = 0; i < gradient.numel(); ++i)
          value[i] -= 0.02 * gradient.data<double>()[i];
      }
    }
    // Plain gradient descent is still on the labels' mean with the deeper of the two.
    EXPECT_LT(last, (place == std::string("after") ? 0.3 : 0.8) * first) << place;
  }
}

TEST(Crossmodal, RefusesWhatDoesNotFit) {
  const auto error_of = [](const Config& config, std::vector<ModalityInfo> data = tiny_data()) {
    return message_of([&] { Model(config, data, 1, DType::f64); });
  };
  Config config = fused("after");
  config.model.fusion_heads = 3;
  EXPECT_THAT(error_of(config),
              HasSubstr("model.fusion_heads = 3 do not divide model.shared_width = 4"));
  config = fused("after");
  config.data.modalities[2].fuse_into = "text";
  EXPECT_THAT(error_of(config), HasSubstr("leave fuse_into empty"));
  config = fused("after");
  config.data.modalities.resize(1);
  EXPECT_THAT(error_of(config), HasSubstr("needs two modalities"));
  config = fused("after");
  for (ModalityConfig& modality : config.data.modalities) modality.network = "projection";
  EXPECT_THAT(error_of(config, {{"text", InputKind::vector, 9, {}},
                                {"audio", InputKind::vector, 3, {}},
                                {"video", InputKind::vector, 6, {}}}),
              HasSubstr("every modality is one vector per sample; use concat"));
}

TEST(AttentionMaps, HoldARowOfProbabilitiesForEachQuery) {
  const Model model = tiny_model(fused("after"));
  const ModelInput one = alone(tiny_input({}), 2);
  const AttentionMapScope scope;
  (void)model.forward(one, Mode::inference, {});
  std::map<std::string, Tensor> maps;
  for (const AttentionMap& map : scope.maps()) maps[map.layer] = map.probabilities;
  EXPECT_EQ(maps.size(), 2U + 6U * 2U);  // two unimodal Transformers of one layer; the pairs
  EXPECT_EQ(maps.at("unimodal.audio.transformer.layers.0").shape(), (Shape{3, 3}));
  EXPECT_EQ(maps.at("crossmodal.text.video.layers.1").shape(), (Shape{3, 1}));
  EXPECT_EQ(maps.at("crossmodal.video.audio.layers.0").shape(), (Shape{1, 3}));
  for (const auto& [layer, map] : maps) {
    for (std::int64_t q = 0; q < map.size(0); ++q) {
      double total = 0;
      for (const double p : map.slice(q, q + 1).to_vector()) {
        EXPECT_GE(p, 0);
        total += p;
      }
      EXPECT_NEAR(total, 1, 1e-12) << layer;
    }
  }
}

/// The maps are what the fused kernel uses: with values of one-hot rows its result is the map.
TEST(AttentionMaps, AreTheProbabilitiesOfTheAttention) {
  const Variable query(random_normal({5, 6}, 1)), key(random_normal({3, 6}, 2));
  Tensor one_hot = Tensor::zeros({3, 3}, DType::f64);
  for (int i = 0; i < 3; ++i) one_hot.mutable_data<double>()[4 * i] = 1;
  const Tensor query_offsets = Tensor::from<std::int64_t>({0, 5}, {2}),
               key_offsets = Tensor::from<std::int64_t>({0, 3}, {2});
  std::vector<double> mean(15);
  for (int head = 0; head < 2; ++head) {
    const auto of_head = [&](const Variable& x) {
      return ops::slice_columns(x, 3 * head, 3 * head + 3);
    };
    const auto mixed = ops::attention(of_head(query), of_head(key), Variable(one_hot),
                                      query_offsets, key_offsets, 1)
                           .value()
                           .to_vector();
    for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += mixed[i] / 2;
  }
  const auto map = attention_probabilities(query, key, 2).value().to_vector();
  for (std::size_t i = 0; i < mean.size(); ++i) EXPECT_NEAR(map[i], mean[i], 1e-14);
}

}  // namespace
}  // namespace cmir
