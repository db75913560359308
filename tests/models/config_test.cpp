#include "models/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace cmir {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view kMinimal = R"([data]
name = "toy"
label = "label"

[[data.modalities]]
name = "text"
feature = "words"
)";

/// The message of the Error that `action` throws.
template <class Action>
std::string message_of(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}
std::string parse_message(const std::string& extra) {
  return message_of([&] { parse_config(std::string(kMinimal) + extra, "toy.toml"); });
}

TEST(Config, KeepsDefaultsOfWhatIsLeftOut) {
  const Config config = parse_config(kMinimal, "toy.toml");
  Config expected;
  expected.data.name = "toy";
  expected.data.label = "label";
  expected.data.modalities = {{.name = "text", .feature = "words"}};
  EXPECT_EQ(config, expected);
}

TEST(Config, EveryShippedConfigurationLoadsAndRoundTrips) {
  const std::vector<std::string> names = shipped_configs();
  for (const char* name :
       {"mosi", "mosei", "ch_sims_v2", "mustard", "ur_funny", "mosi_ood", "mosi_utt_a",
        "mosi_utt_b", "mosi_utt_words", "mosi_utt_ood", "mosi_mini", "mustard_text",
        "mosi_mini_crossmodal", "mustard_text_crossmodal", "synthetic"}) {
    EXPECT_THAT(names, ::testing::Contains(name));
  }
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    const Config config = load_config(find_config(name));
    EXPECT_EQ(parse_config(to_toml(config), "written"), config);
    EXPECT_EQ(parse_config(to_toml(config, true), "commented"), config);
    EXPECT_EQ(config_from_json(nlohmann::ordered_json::parse(to_json(config).dump()), "json"),
              config);
  }
}

TEST(Config, HoldsTableSeven) {
  struct Column {
    const char *name, *loss;
    std::int64_t batch;
    double rate;
    std::int64_t environments;
    double intensity, l1, l2, l3;
    std::int64_t width, hidden;
    double alpha;
  };
  for (const Column& c :
       std::vector<Column>{{"mosi", "mse", 48, 1e-5, 1, 0.1, 0.1, 0.001, 0.05, 150, 256, 1},
                           {"mosei", "mse", 50, 1e-5, 5, 1, 0.1, 0.1, 0.01, 150, 128, 1},
                           {"ch_sims_v2", "mae", 50, 5e-4, 2, 0.1, 0.01, 0.01, 0.1, 100, 100, 0.01},
                           {"mustard", "bce", 32, 2e-5, 4, 0.1, 0.05, 0.01, 0.05, 128, 48, 0.1},
                           {"ur_funny", "bce", 64, 7e-6, 2, 0.1, 0.001, 0.01, 0.01, 120, 120, 0.1},
                           {"mosi_ood", "mse", 48, 1e-5, 4, 0.1, 0.01, 0.01, 0.01, 150, 150, 1}}) {
    SCOPED_TRACE(c.name);
    const Config config = load_config(find_config(c.name));
    EXPECT_EQ(config.loss.prediction, c.loss);
    EXPECT_EQ(config.training.batch_size, c.batch);
    EXPECT_EQ(config.optimizer.learning_rate, c.rate);
    EXPECT_EQ(config.loss.environments, c.environments);
    EXPECT_EQ(config.loss.noise_intensity, c.intensity);
    EXPECT_EQ(config.loss.lambda_invariance, c.l1);
    EXPECT_EQ(config.loss.lambda_decorrelation, c.l2);
    EXPECT_EQ(config.loss.lambda_reconstruction, c.l3);
    EXPECT_EQ(config.model.shared_width, c.width);
    EXPECT_EQ(config.model.hidden_width, c.hidden);
    EXPECT_EQ(config.loss.decorrelation_alpha, c.alpha);
  }
}

TEST(Config, RoundTripsAwkwardValues) {
  Config config = parse_config(kMinimal, "toy.toml");
  config.data.path = "a \"quoted\" \\ back\xC3\xA9 # not a comment";
  config.loss.lambda_invariance = 0.1 + 0.2;
  config.loss.noise_intensity = 1e300;
  config.optimizer.epsilon = 5e-324;
  config.optimizer.learning_rate = 3;
  config.training.seeds = {0, 9000000000000000};
  config.optimizer.groups = {{.name = "encoder.text", .learning_rate = 1e-7, .weight_decay = 0}};
  EXPECT_EQ(parse_config(to_toml(config), "written"), config);
  EXPECT_EQ(config_from_json(nlohmann::ordered_json::parse(to_json(config).dump()), "json"),
            config);
}

TEST(Config, NamesTheNearestKeyAndTheLine) {
  EXPECT_EQ(parse_message("\n[loss]\nenviroments = 3\n"),
            "toy.toml:10: unknown key 'loss.enviroments'; did you mean 'loss.environments'?");
  EXPECT_THAT(parse_message("droput = 0.5\n"),
              HasSubstr("did you mean 'data.modalities.dropout'?"));
  EXPECT_THAT(parse_message("[los]\n"),
              HasSubstr("toy.toml:8: unknown key 'los'; did you mean 'loss'?"));
  EXPECT_THAT(parse_message("[model]\nlambda_invariance = 1\n"),
              HasSubstr("'loss.lambda_invariance'"));
}

TEST(Config, NamesKeyValueAndWhatIsAllowed) {
  EXPECT_EQ(parse_message("[loss]\nenvironments = \"four\"\n"),
            "toy.toml:9: 'loss.environments' must be an integer, not a string (\"four\")");
  EXPECT_EQ(parse_message("[loss]\nenvironments = -1\n"),
            "toy.toml:9: 'loss.environments' = -1 is not allowed; allowed: 0 to 64");
  EXPECT_EQ(parse_message("[model]\npredictor = \"C\"\n"),
            "toy.toml:9: 'model.predictor' = \"C\" is not allowed; allowed: one of A, B");
  EXPECT_THAT(parse_message("[loss]\nlambda_invariance = nan\n"), HasSubstr("is not allowed"));
  EXPECT_THAT(parse_message("[loss]\nlambda_invariance = inf\n"), HasSubstr("is not allowed"));
  EXPECT_THAT(parse_message("[loss]\nenvironments = 1.5\n"), HasSubstr("must be an integer"));
  EXPECT_THAT(parse_message("[model]\nuse_invariance = 1\n"), HasSubstr("must be true or false"));
  EXPECT_THAT(parse_message("[training]\nseeds = []\n"), HasSubstr("is not allowed"));
  EXPECT_THAT(parse_message("[training]\nseeds = [1, \"two\"]\n"),
              HasSubstr("must be a list of integers"));
  EXPECT_THAT(parse_message("[training]\nepochs = 2024-01-01\n"), HasSubstr("must be an integer"));
  EXPECT_THAT(parse_message("[optimizer]\ngroups = 3\n"), HasSubstr("must be a list of tables"));
  EXPECT_THAT(parse_message("[optimizer]\ngroups = [3]\n"), HasSubstr("must be a table"));
  EXPECT_THAT(message_of([] { parse_config("loss = 3", "toy.toml"); }),
              HasSubstr("'loss' must be a table"));
  EXPECT_THAT(message_of([] { parse_config("[loss\n", "toy.toml"); }), HasSubstr("toy.toml:1"));
}

TEST(Config, ChecksWhatNoSingleKeyShows) {
  const std::string second = "[[data.modalities]]\nfeature = \"x\"\n";
  EXPECT_THAT(parse_message(second + "name = \"text\"\n"),
              HasSubstr("two modalities are called 'text'"));
  EXPECT_THAT(parse_message(second), HasSubstr("needs a name"));
  EXPECT_THAT(parse_message(second + "name = \"hcf\"\nfuse_into = \"txt\"\n"),
              HasSubstr("fuse_into = 'txt'"));
  EXPECT_THAT(parse_message("fuse_into = \"text\"\n"), HasSubstr("fuse_into = 'text'"));
  EXPECT_THAT(parse_message("kernel = 4\n"), HasSubstr("must be odd"));
  EXPECT_THAT(parse_message("[loss]\nprediction = \"bce\"\n"),
              HasSubstr("does not suit data.task"));
  EXPECT_THAT(parse_message("[model]\noutputs = 7\n"), HasSubstr("model.outputs = 7"));
  EXPECT_THAT(parse_message("[noise]\ntest_rate = 0.5\n"), HasSubstr("a kind other than 'none'"));
  EXPECT_THAT(parse_message("[loss]\nenvironments_from = \"data\"\n"),
              HasSubstr("loss.invariance = \"l1\" compares noisy variants"));
  EXPECT_THAT(parse_message("[loss]\nenvironments_from = \"data\"\ninvariance = \"kl\"\n"),
              HasSubstr("use irmv1, vrex, mmrex, mmd or coral"));
  EXPECT_THAT(parse_message("[loss]\nenvironments_from = \"data\"\ninvariance = \"vrex\"\n"),
              HasSubstr("needs data.environment"));
  EXPECT_THAT(parse_message("[loss]\nenvironments_from = \"inferred\"\ninvariance = \"mmrex\"\n"
                            "mmrex_minimum_weight = 0.6\n"),
              HasSubstr("is above 1 / 2"));
  EXPECT_THAT(parse_message("[loss]\nmmrex_minimum_weight = 0.6\n"), HasSubstr("is above 1 / (K"));
  EXPECT_THAT(message_of([] { parse_config("", "empty.toml"); }),
              HasSubstr("at least one modality"));
}

TEST(Config, IsOverriddenByAssignments) {
  Config config = parse_config(kMinimal, "toy.toml");
  apply_override(config, "loss.environments=4");
  apply_override(config, " optimizer.learning_rate = 1e-5 ");
  apply_override(config, "model.framework=vanilla");
  apply_override(config, "data.path=\"/tmp/some place\"");
  apply_override(config, "data.modalities.text.dropout=0.25");
  apply_override(config, "training.seeds=[7, 8]");
  apply_override(config, "optimizer.groups.encoder.text.learning_rate=1e-3");
  apply_override(config, "optimizer.groups.encoder.text.weight_decay=0");
  EXPECT_EQ(config.loss.environments, 4);
  EXPECT_EQ(config.optimizer.learning_rate, 1e-5);
  EXPECT_EQ(config.model.framework, "vanilla");
  EXPECT_EQ(config.data.path, "/tmp/some place");
  EXPECT_EQ(config.data.modalities[0].dropout, 0.25);
  EXPECT_EQ(config.training.seeds, (std::vector<std::int64_t>{7, 8}));
  ASSERT_EQ(config.optimizer.groups.size(), 1U);
  EXPECT_EQ(config.optimizer.groups[0], (ParameterGroupConfig{"encoder.text", 1e-3, 0}));

  const auto message = [&](std::string_view text) {
    return message_of([&] { apply_override(config, text); });
  };
  EXPECT_THAT(message("loss.environments"), HasSubstr("write section.key=value"));
  EXPECT_THAT(message("loss.enviroments=4"), HasSubstr("did you mean 'loss.environments'"));
  EXPECT_THAT(message("loss.environments=four"), HasSubstr("must be an integer, not a string"));
  EXPECT_THAT(message("data.modalities.audio.dropout=0"),
              HasSubstr("no modality is called 'audio'; there are: text"));
  EXPECT_THAT(message("data.modalities.text.droput=0"), HasSubstr("unknown key"));
  EXPECT_THAT(message("model.framework=\xFF"), HasSubstr("is not allowed"));
}

TEST(Config, HelpListsEveryKey) {
  const std::string help = config_help();
  EXPECT_THAT(help, HasSubstr("loss.environments = 1  (0 to 64)"));
  EXPECT_THAT(help, HasSubstr("data.modalities.NAME.network"));
  EXPECT_THAT(help, HasSubstr("optimizer.groups.NAME.learning_rate"));
}

TEST(Config, MissingFilesNameTheShippedOnes) {
  try {
    find_config("mosy");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::io);
    EXPECT_THAT(error.what(), HasSubstr("mosi_mini"));
  }
  EXPECT_THROW(load_config("/nonexistent/x.toml"), Error);
}

}  // namespace
}  // namespace cmir
