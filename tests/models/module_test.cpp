#include "models/networks/module.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "autograd/gradcheck.h"
#include "core/error.h"
#include "models/networks/transformer.h"
#include "tests/models/plain_matrix.h"

namespace cmir {
namespace {

using test::affine;
using test::Matrix;
using test::normalised;
using test::rows_of;
using test::sum;
using ::testing::HasSubstr;

std::map<std::string, Shape> shapes_of(const ParameterList& parameters) {
  std::map<std::string, Shape> shapes;
  for (const auto& [name, variable] : parameters) shapes.emplace(name, variable.shape());
  return shapes;
}

TEST(Initialisation, DependsOnSeedAndNameOnly) {
  ParameterStore first(7), second(7), other(8);
  const Linear a(first, "a", 5, 3);
  const Linear b(first, "b", 5, 3);
  const Linear b_first(second, "b", 5, 3);
  EXPECT_EQ(b.weight.value().to_vector(), b_first.weight.value().to_vector());
  EXPECT_NE(a.weight.value().to_vector(), b.weight.value().to_vector());
  EXPECT_NE(Linear(other, "b", 5, 3).weight.value().to_vector(), b.weight.value().to_vector());
}

/// The values fill (-bound, bound): at most the bound, and near it, with the moments of a uniform
/// variable.
void expect_uniform(const Variable& parameter, double bound) {
  double sum = 0, squares = 0, largest = 0;
  for (const double v : parameter.value().to_vector()) {
    sum += v;
    squares += v * v;
    largest = std::max(largest, std::abs(v));
  }
  const auto n = static_cast<double>(parameter.value().numel());
  EXPECT_LE(largest, bound);
  EXPECT_GT(largest, 0.97 * bound);
  EXPECT_NEAR(sum / n, 0, 5 * bound / std::sqrt(3 * n));
  EXPECT_NEAR(squares / n, bound * bound / 3, 0.1 * bound * bound);
}

TEST(Initialisation, FollowsPyTorch) {
  ParameterStore store(1);
  const Linear linear(store, "linear", 60, 50);
  expect_uniform(linear.weight, 1 / std::sqrt(60.0));
  const Conv1d conv(store, "conv", 20, 30, 3);
  expect_uniform(conv.weight, 1 / std::sqrt(60.0));
  const Transformer transformer(store, "t",
                                {.width = 32, .layers = 1, .heads = 4, .feed_forward = 64});
  expect_uniform(transformer.layers[0].in_proj_weight, std::sqrt(6.0 / (4 * 32)));
  EXPECT_THAT(transformer.layers[0].in_proj_bias.value().to_vector(), ::testing::Each(0.0));
  EXPECT_THAT(transformer.layers[0].norm1.weight.value().to_vector(), ::testing::Each(1.0));
  EXPECT_THAT(transformer.layers[0].norm1.bias.value().to_vector(), ::testing::Each(0.0));
}

TEST(Transformer, HasPyTorchsNamesAndShapes) {
  ParameterStore store(1);
  const Transformer post(store, "t", {.width = 6, .layers = 1, .heads = 2, .feed_forward = 10});
  const std::map<std::string, Shape> expected = {{"t.layers.0.self_attn.in_proj_weight", {18, 6}},
                                                 {"t.layers.0.self_attn.in_proj_bias", {18}},
                                                 {"t.layers.0.self_attn.out_proj.weight", {6, 6}},
                                                 {"t.layers.0.self_attn.out_proj.bias", {6}},
                                                 {"t.layers.0.linear1.weight", {10, 6}},
                                                 {"t.layers.0.linear1.bias", {10}},
                                                 {"t.layers.0.linear2.weight", {6, 10}},
                                                 {"t.layers.0.linear2.bias", {6}},
                                                 {"t.layers.0.norm1.weight", {6}},
                                                 {"t.layers.0.norm1.bias", {6}},
                                                 {"t.layers.0.norm2.weight", {6}},
                                                 {"t.layers.0.norm2.bias", {6}}};
  EXPECT_EQ(shapes_of(store.list()), expected);
  ParameterStore pre_store(1);
  const Transformer pre(
      pre_store, "t", {.width = 6, .layers = 1, .heads = 2, .feed_forward = 10, .pre_norm = true});
  EXPECT_EQ(pre_store.list().size(), expected.size() + 2);
  EXPECT_EQ(pre_store.list().back().name, "t.norm.bias");
}

/// torch.nn.TransformerEncoderLayer written out for one sample, both norms.
Matrix plain_layer(const TransformerLayer& layer, const Matrix& x) {
  const std::size_t width = x[0].size(), head_width = width / layer.options.heads;
  const auto attend = [&](const Matrix& input) {
    const Matrix qkv = affine(input, rows_of(layer.in_proj_weight.value()),
                              layer.in_proj_bias.value().to_vector());
    const Matrix mixed =
        test::attention(test::columns(qkv, 0, width), test::columns(qkv, width, 2 * width),
                        test::columns(qkv, 2 * width, 3 * width), head_width);
    return affine(mixed, rows_of(layer.out_proj.weight.value()),
                  layer.out_proj.bias.value().to_vector());
  };
  const auto feed_forward = [&](const Matrix& input) {
    Matrix hidden = affine(input, rows_of(layer.linear1.weight.value()),
                           layer.linear1.bias.value().to_vector());
    for (auto& row : hidden) {
      for (double& v : row) v = std::max(v, 0.0);
    }
    return affine(hidden, rows_of(layer.linear2.weight.value()),
                  layer.linear2.bias.value().to_vector());
  };
  if (layer.options.pre_norm) {
    const Matrix attended = sum(x, attend(normalised(x)));
    return sum(attended, feed_forward(normalised(attended)));
  }
  const Matrix attended = normalised(sum(x, attend(x)));
  return normalised(sum(attended, feed_forward(attended)));
}

TEST(Transformer, EqualsTheLayerWrittenOut) {
  for (const bool pre_norm : {false, true}) {
    ParameterStore store(3, DType::f64);
    const TransformerLayer layer(store, "t",
                                 {.width = 6, .heads = 2, .feed_forward = 9, .pre_norm = pre_norm});
    const Tensor x = random_normal({5, 6}, 11);
    DropoutSites none({}, 0, false);
    const Tensor offsets =
        Tensor::from<std::int64_t>({0, 2, 2, 5}, {4});  // the middle sample is empty
    const auto actual = rows_of(layer(Variable(x), offsets, none).value());
    Matrix expected = plain_layer(layer, rows_of(x.slice(0, 2)));
    for (auto& row : plain_layer(layer, rows_of(x.slice(2, 5)))) expected.push_back(row);
    for (std::size_t r = 0; r < expected.size(); ++r) {
      for (std::size_t i = 0; i < expected[r].size(); ++i)
        EXPECT_NEAR(actual[r][i], expected[r][i], 1e-12);
    }
  }
}

/// Layers in a row fuse each sum with the next layer's norm; one by one they do not.
TEST(Transformer, PreNormLayersInARowEqualTheLayersOneByOne) {
  for (const std::int64_t layers : {0, 1, 3}) {
    ParameterStore store(3, DType::f64);
    const Transformer transformer(store, "t",
                                  {.width = 6,
                                   .layers = layers,
                                   .heads = 2,
                                   .feed_forward = 9,
                                   .dropout = 0.2,
                                   .attention_dropout = 0.1,
                                   .pre_norm = true});
    const Tensor offsets = Tensor::from<std::int64_t>({0, 2, 2, 5}, {4});
    const auto gradients = [&](bool one_by_one) {
      for (Parameter parameter : store.list()) parameter.variable.clear_gradient();
      DropoutSites sites({.seed = 5, .step = 2}, 0, true);
      Variable x(random_normal({5, 6}, 11), true), y = x;
      if (one_by_one) {
        for (const TransformerLayer& layer : transformer.layers) y = layer(y, offsets, sites);
        y = transformer.norm(y);
      } else {
        y = transformer(x, offsets, sites);
      }
      backward(y, {.seed = random_normal({5, 6}, 12)});
      std::vector<double> all = y.value().to_vector();
      for (const double v : x.gradient().to_vector()) all.push_back(v);
      for (const Parameter& parameter : store.list()) {
        for (const double v : parameter.variable.gradient().to_vector()) all.push_back(v);
      }
      return all;
    };
    const auto expected = gradients(true), actual = gradients(false);
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i)
      EXPECT_NEAR(actual[i], expected[i], 1e-12) << layers << " layers, number " << i;
  }
}

TEST(Dropout, DrawsEachSiteByItselfAndOnlyInTraining) {
  const Variable x(Tensor::full({64}, 1.0));
  const RandomStreams streams{.seed = 5, .step = 2};
  DropoutSites sites(streams, 1, true), again(streams, 1, true), other(streams, 2, true),
      off(streams, 1, false);
  const auto first = sites.apply(x, 0.5).value().to_vector();
  EXPECT_NE(first, sites.apply(x, 0.5).value().to_vector());
  EXPECT_EQ(first, again.apply(x, 0.5).value().to_vector());
  EXPECT_NE(first, other.apply(x, 0.5).value().to_vector());
  EXPECT_THAT(off.apply(x, 0.5).value().to_vector(), ::testing::Each(1.0));
}

TEST(Dropout, AFusedSiteDropsWhatItWouldByItself) {
  ParameterStore store(1);
  const Linear linear(store, "a", 3, 64);
  const Variable x(random_normal({5, 3}, 1).to(DType::f32));
  const RandomStreams streams{.seed = 5, .step = 2};
  DropoutSites fused(streams, 1, true), apart(streams, 1, true), off(streams, 1, false);
  for (int site = 0; site < 2; ++site) {  // the second is of the next stream
    EXPECT_EQ(linear.relu(x, fused.mask(0.5)).value().to_vector(),
              apart.apply(linear.relu(x), 0.5).value().to_vector());
  }
  EXPECT_EQ(fused.mask(0).p, 0);
  EXPECT_EQ(fused.next().site, apart.next().site);  // p = 0 used no stream
  EXPECT_EQ(off.mask(0.5).p, 0);
}

TEST(RandomStreams, SitesDiffer) {
  std::set<std::uint32_t> sites;
  for (const auto purpose :
       {DrawPurpose::dropout, DrawPurpose::environments, DrawPurpose::corruption}) {
    for (std::size_t modality : {0, 1, 255}) {
      for (std::uint32_t index : {0, 1, 65535})
        sites.insert(RandomStreams{}.at(purpose, modality, index).site);
    }
  }
  EXPECT_EQ(sites.size(), 27U);
}

TEST(LoadParameters, ListsEveryFaultAndThenWritesNothing) {
  ParameterStore store(1);
  const Linear linear(store, "a", 2, 3);
  const auto before = linear.weight.value().to_vector();
  try {
    load_parameters(store.list(),
                    {{"a.weight", Tensor::zeros({2, 3})}, {"b.weight", Tensor::zeros({1})}});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data);
    EXPECT_THAT(error.what(),
                HasSubstr("'a.weight' is f32[2, 3] on cpu, the model's is f32[3, 2]"));
    EXPECT_THAT(error.what(), HasSubstr("'a.bias' is missing"));
    EXPECT_THAT(error.what(), HasSubstr("'b.weight' is not in the model"));
  }
  EXPECT_EQ(linear.weight.value().to_vector(), before);
  load_parameters(store.list(), {{"a.weight", Tensor::full({3, 2}, 0.5, DType::f64)},
                                 {"a.bias", Tensor::zeros({3})}});
  EXPECT_THAT(linear.weight.value().to_vector(), ::testing::Each(0.5));
}

TEST(ParameterStore, RefusesANameTwiceAndCountsByPart) {
  ParameterStore store(1);
  const Linear a(store, "encoder.text.trunk.0", 2, 3), b(store, "encoder.audio.trunk.0", 4, 5),
      c(store, "predictor.0", 1, 1);
  EXPECT_THROW(Linear(store, "predictor.0", 1, 1), Error);
  using Counts = std::vector<std::pair<std::string, std::int64_t>>;
  EXPECT_EQ(count_parameters(store.list(), 1), (Counts{{"encoder", 34}, {"predictor", 2}}));
  EXPECT_EQ(count_parameters(store.list(), 2),
            (Counts{{"encoder.text", 9}, {"encoder.audio", 25}, {"predictor.0", 2}}));
}

}  // namespace
}  // namespace cmir
