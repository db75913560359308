#include "models/networks/unimodal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "autograd/gradcheck.h"
#include "core/error.h"

namespace cmir {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kWidth = 6;
const Tensor kOffsets = Tensor::from<std::int64_t>({0, 3, 3, 4, 9}, {5});  // sample 1 has no rows

ModalityConfig config_of(const std::string& network) {
  return {.name = "audio", .feature = "covarep", .network = network, .hidden_width = 7};
}

struct Built {
  ParameterStore store{3, DType::f64};
  UnimodalNetwork network;

  Built(const ModalityConfig& config, const ModalityInfo& info)
      : network(store, "unimodal.audio", config, info, kWidth) {}
  Variable operator()(const ModalityInput& input, bool training = false) const {
    DropoutSites sites({.seed = 1}, 0, training);
    return network(input, sites);
  }
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const Parameter& parameter : store.list()) {
      if (parameter.name.find("transformer") == std::string::npos)
        all.push_back(parameter.name.substr(15));
    }
    return all;
  }
};

template <class Action>
std::string message_of(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

ModalityInput sequence(std::int64_t width = 4) { return {random_normal({9, width}, 5), kOffsets}; }
/// Sample s of a packed input, alone.
ModalityInput alone(const ModalityInput& input, std::int64_t s) {
  const auto* offsets = input.offsets.data<std::int64_t>();
  return {input.values.slice(offsets[s], offsets[s + 1]).clone(),
          Tensor::from<std::int64_t>({0, offsets[s + 1] - offsets[s]}, {2})};
}

TEST(Unimodal, ASequenceSampleAloneEqualsItselfInABatch) {
  for (const char* network :
       {"projection", "mlp", "conv_transformer", "transformer_conv", "transformer"}) {
    for (const char* norm : {"pre", "post"}) {
      for (const char* positions : {"none", "sinusoidal", "learned"}) {
        SCOPED_TRACE(fmt::format("{} {} {}", network, norm, positions));
        ModalityConfig config = config_of(network);
        config.norm = norm;
        config.positions = positions;
        const Built built(config, {"audio", InputKind::sequence, 4, {}});
        const Variable together = built(sequence());
        ASSERT_EQ(together.shape(), (Shape{4, kWidth}));
        for (std::int64_t s = 0; s < 4; ++s) {
          const auto one = built(alone(sequence(), s)).value().to_vector();
          const auto same = together.value().slice(s, s + 1).to_vector();
          for (std::size_t i = 0; i < one.size(); ++i)
            EXPECT_NEAR(one[i], same[i], 1e-13) << "sample " << s;
        }
      }
    }
  }
}

TEST(Unimodal, TakesVectorsThroughProjectionAndMlp) {
  const ModalityInfo info{"audio", InputKind::vector, 4, {}};
  const Built projection(config_of("projection"), info), mlp(config_of("mlp"), info);
  const ModalityInput input{random_normal({3, 4}, 1), {}};
  EXPECT_EQ(projection(input).shape(), (Shape{3, kWidth}));
  EXPECT_EQ(mlp(input).shape(), (Shape{3, kWidth}));
  EXPECT_THAT(projection.names(), ::testing::ElementsAre("projection.weight", "projection.bias"));
  EXPECT_THAT(mlp.names(), ::testing::ElementsAre("mlp.0.weight", "mlp.0.bias", "mlp.3.weight",
                                                  "mlp.3.bias", "mlp.6.weight", "mlp.6.bias"));
  const Built none(config_of("none"), {"audio", InputKind::vector, kWidth, {}});
  const Tensor x = random_normal({2, kWidth}, 2);
  EXPECT_EQ(none({x, {}}).value().to_vector(), x.to_vector());
  EXPECT_TRUE(none.store.list().empty());
}

TEST(Unimodal, ConvolutionComesBeforeOrAfterTheTransformer) {
  const ModalityInfo info{"audio", InputKind::sequence, 4, {}};
  const Built first(config_of("conv_transformer"), info), last(config_of("transformer_conv"), info);
  const auto in_proj = [](const Built& built) {
    for (const auto& [name, variable] : built.store.list()) {
      if (name == "unimodal.audio.transformer.layers.0.self_attn.in_proj_weight")
        return variable.shape();
    }
    return Shape{};
  };
  EXPECT_EQ(in_proj(first), (Shape{3 * kWidth, kWidth}));
  EXPECT_EQ(in_proj(last), (Shape{12, 4}));
  EXPECT_THAT(first.names(), ::testing::ElementsAre("conv.weight", "conv.bias"));
  EXPECT_THAT(last.names(), ::testing::ElementsAre("conv.weight", "conv.bias"));
}

TEST(Unimodal, WordsGoThroughTheDataSetsTableOrALearnedOne) {
  const Tensor table = random_normal({11, 4}, 9);
  ModalityConfig config = config_of("conv_transformer");
  const ModalityInput words{Tensor::from<std::int32_t>({1, 10, 0, 3, 3, 3, 2, 7, 1}, {9}),
                            kOffsets};
  const Built frozen(config, {"audio", InputKind::tokens, 11, table});
  EXPECT_EQ(frozen(words).shape(), (Shape{4, kWidth}));
  EXPECT_FALSE(frozen.store.list()[0].variable.requires_gradient());
  // The same rows given as a sequence give the same bits.
  const Built rows(config, {"audio", InputKind::sequence, 4, {}});
  Tensor looked_up = Tensor::empty({9, 4}, DType::f64);
  for (int r = 0; r < 9; ++r) {
    looked_up.slice(r, r + 1).copy_from(table.slice(words.values.data<std::int32_t>()[r],
                                                    words.values.data<std::int32_t>()[r] + 1));
  }
  EXPECT_EQ(frozen(words).value().to_vector(), rows({looked_up, kOffsets}).value().to_vector());

  config.embedding_width = 5;
  const Built learned(config, {"audio", InputKind::tokens, 11, {}});
  EXPECT_EQ(learned.store.list()[0].variable.shape(), (Shape{11, 5}));
  EXPECT_TRUE(learned.store.list()[0].variable.requires_gradient());
  config.train_embedding = true;
  EXPECT_TRUE(Built(config, {"audio", InputKind::tokens, 11, table})
                  .store.list()[0]
                  .variable.requires_gradient());
  // Without offsets each sample is one category.
  EXPECT_EQ(learned({Tensor::from<std::int32_t>({4, 4, 1}, {3}), {}}).shape(), (Shape{3, kWidth}));
}

TEST(Unimodal, DropoutActsInTrainingOnly) {
  ModalityConfig config = config_of("conv_transformer");
  config.dropout = 0.5;
  config.attention_dropout = 0.5;
  const Built built(config, {"audio", InputKind::sequence, 4, {}});
  EXPECT_NE(built(sequence(), true).value().to_vector(), built(sequence()).value().to_vector());
  EXPECT_EQ(built(sequence(), true).value().to_vector(),
            built(sequence(), true).value().to_vector());
}

TEST(Unimodal, RefusesWhatDoesNotFit) {
  const auto built = [](const ModalityConfig& config, const ModalityInfo& info) {
    return message_of([&] { Built(config, info); });
  };
  ModalityConfig heads = config_of("conv_transformer");
  heads.heads = 4;
  EXPECT_THAT(built(heads, {"audio", InputKind::sequence, 4, {}}),
              HasSubstr("modality 'audio': heads = 4 do not divide the Transformer's width 6; use "
                        "one of 1, 2, 3"));
  heads.adjust_heads = true;
  EXPECT_NO_THROW(Built(heads, {"audio", InputKind::sequence, 4, {}}));
  EXPECT_THAT(built(config_of("transformer"), {"audio", InputKind::vector, 4, {}}),
              HasSubstr("works over time"));
  EXPECT_THAT(built(config_of("none"), {"audio", InputKind::vector, 4, {}}),
              HasSubstr("width model.shared_width = 6"));
  EXPECT_THAT(built(config_of("projection"), {"audio", InputKind::tokens, 9, {}}),
              HasSubstr("tokens need an embedding"));
  EXPECT_THAT(
      built(config_of("projection"), {"audio", InputKind::tokens, 9, random_normal({8, 2}, 1)}),
      HasSubstr("the vocabulary has 9 entries"));
  EXPECT_THAT(built(config_of("projection"), {"audio", InputKind::vector, 0, {}}),
              HasSubstr("width 0"));

  const Built vectors(config_of("projection"), {"audio", InputKind::vector, 4, {}});
  const Built frames(config_of("projection"), {"audio", InputKind::sequence, 4, {}});
  EXPECT_THAT(message_of([&] { vectors(sequence()); }), HasSubstr("got a sequence"));
  EXPECT_THAT(message_of([&] {
                vectors({random_normal({2, 5}, 1), {}});
              }),
              HasSubstr("features of width 4"));
  EXPECT_THAT(message_of([&] { vectors({}); }), HasSubstr("no values"));
  EXPECT_THAT(message_of([&] {
                frames({random_normal({2, 4}, 1), {}});
              }),
              HasSubstr("needs offsets"));
  EXPECT_THROW(frames({random_normal({2, 4}, 1), Tensor::from<std::int64_t>({0, 5}, {2})}), Error);
}

}  // namespace
}  // namespace cmir
