#include "models/data/container.h"

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/formats/safetensors.h"
#include "data_test.h"
#include "models/data/sha256.h"

namespace cmir::test {
namespace {

using testing::HasSubstr;

TEST(Sha256, AgreesWithTheStandardsExamples) {  // FIPS 180-2, appendix B
  Sha256 one, two;
  one.update("abc");
  two.update("abcdbcdecdefdefgefghfghighijhijk");
  two.update("ijkljklmklmnlmnomnopnopq");
  EXPECT_EQ(one.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(two.hex(), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST(Container, GivesBackWhatWasSaved) {
  const ScratchFolder folder;
  const Dataset saved = tiny_dataset();
  save_container(saved, folder / "tiny.safetensors");
  for (const auto& path : {folder / "tiny.safetensors", folder.path()}) {
    const Dataset loaded = open_dataset(path.string());
    EXPECT_EQ(loaded.summary(), saved.summary());
    EXPECT_EQ(loaded.ids, saved.ids);
    EXPECT_EQ(loaded.texts, saved.texts);
    EXPECT_EQ(loaded.vocabulary, saved.vocabulary);
    EXPECT_EQ(loaded.group_names, saved.group_names);
    EXPECT_EQ(content_checksum(loaded), content_checksum(saved));
    EXPECT_TRUE(same_bits(loaded.features.at("audio").values, saved.features.at("audio").values));
    EXPECT_TRUE(same_bits(loaded.features.at("audio").offsets, saved.features.at("audio").offsets));
    EXPECT_FALSE(loaded.features.at("text").ragged());
    EXPECT_TRUE(same_bits(loaded.tokens.at("words").ids, saved.tokens.at("words").ids));
    EXPECT_TRUE(same_bits(loaded.embeddings.at("glove"), saved.embeddings.at("glove")));
    EXPECT_TRUE(same_bits(loaded.labels.at("reg").values, saved.labels.at("reg").values));
    EXPECT_EQ(loaded.labels.at("bin").kind, LabelKind::binary);
    EXPECT_TRUE(same_bits(loaded.splits.at("main"), saved.splits.at("main")));
    EXPECT_TRUE(same_bits(loaded.folds.at("five"), saved.folds.at("five")));
    EXPECT_TRUE(same_bits(loaded.extras.at("segment_index"), saved.extras.at("segment_index")));
    EXPECT_TRUE(same_bits(loaded.group, saved.group));
  }
}

TEST(Container, TheChecksumSeesEveryPart) {
  const std::string before = content_checksum(tiny_dataset());
  Dataset value = tiny_dataset(), id = tiny_dataset(), name = tiny_dataset();
  value.features["text"].values.mutable_data<float>()[3] += 1;
  id.ids[2] = "b_9";
  name.extras["other"] = name.extras["segment_index"];
  name.extras.erase("segment_index");
  for (const auto* changed : {&value, &id, &name}) EXPECT_NE(content_checksum(*changed), before);
}

/// Rewrites the card of a saved container.
void edit_card(const std::filesystem::path& file,
               const std::function<void(nlohmann::json&)>& edit) {
  const auto tensors = SafeTensors::open(file);
  nlohmann::json card = nlohmann::json::parse(tensors.metadata().at("card"));
  edit(card);
  std::vector<std::pair<std::string, Tensor>> list;
  for (const auto& name : tensors.names()) list.emplace_back(name, tensors.at(name));
  write_safetensors(file, list, {{"card", card.dump()}});
}

TEST(Container, RefusesADamagedOrForeignFile) {
  const ScratchFolder folder;
  const auto file = folder / "tiny.safetensors";
  const auto load_after = [&](const std::function<void(nlohmann::json&)>& edit) {
    save_container(tiny_dataset(), file);
    edit_card(file, edit);
    return error_of([&] { load_container(file); });
  };
  EXPECT_EQ(load_after([](auto&) {}), "");
  EXPECT_THAT(load_after([](auto& card) { card["version"] = 99; }),
              HasSubstr("version 99, this program reads version 1"));
  EXPECT_THAT(load_after([](auto& card) { card["format"] = "other"; }),
              HasSubstr("not that of a cmir-dataset file"));
  EXPECT_THAT(load_after([](auto& card) { card["checksum"] = "00"; }),
              HasSubstr("does not fit its checksum"));
  EXPECT_THAT(load_after([](auto& card) { card.erase("vocabulary"); }),
              HasSubstr("\"vocabulary\" is missing"));
  EXPECT_THAT(load_after([](auto& card) { card["ids"][1] = 7; }),
              HasSubstr("\"ids\" is missing or ill-typed"));
  EXPECT_THAT(load_after([](auto& card) { card["ids"].erase(0); }), HasSubstr("with 5 rows"));
  EXPECT_THAT(load_after([](auto& card) { card["summary"]["labels"]["bin"]["kind"] = "ordinal"; }),
              HasSubstr("\"ordinal\" is none of"));
  EXPECT_THAT(load_after([](auto& card) { card["summary"]["labels"].erase("bin"); }),
              HasSubstr("\"label.bin\" is not part"));

  write_safetensors(file, {{"x", Tensor::zeros({2})}});
  EXPECT_THAT(error_of([&] { open_dataset(file.string()); }), HasSubstr("without a card"));
  write_safetensors(file, {{"x", Tensor::zeros({2})}}, {{"card", "not json"}});
  EXPECT_THAT(error_of([&] { open_dataset(file.string()); }),
              HasSubstr("not that of a cmir-dataset file"));
}

TEST(Container, RefusesABrokenDatasetBeforeWriting) {
  const ScratchFolder folder;
  Dataset broken = tiny_dataset();
  broken.features["audio"].offsets.mutable_data<std::int64_t>()[3] = 1;
  EXPECT_THAT(error_of([&] { save_container(broken, folder / "x.safetensors"); }),
              HasSubstr("decreases from 3 to 1 at sample b_1"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  Dataset latin = tiny_dataset();
  latin.texts[0] = "caf\xe9";
  EXPECT_THAT(error_of([&] { save_container(latin, folder / "x.safetensors"); }),
              HasSubstr("no valid JSON"));
  EXPECT_THAT(error_of([&] { save_container(tiny_dataset(), folder / "missing/x.safetensors"); }),
              HasSubstr("missing/x.safetensors"));
}

TEST(OpenDataset, SaysWhatToDoWithOtherPaths) {
  const ScratchFolder folder;
  EXPECT_THAT(error_of([&] { open_dataset(folder.path().string()); }),
              HasSubstr("holds no .safetensors file"));
  std::ofstream(folder / "mosi.pkl") << "x";
  EXPECT_THAT(error_of([&] { open_dataset((folder / "mosi.pkl").string()); }),
              HasSubstr("cmir data convert"));
  EXPECT_THAT(error_of([&] { open_dataset("no-such-set"); }), HasSubstr("set CMIR_DATA"));
  EXPECT_THAT(error_of([&] { open_dataset(""); }), HasSubstr("needs a name"));
  save_container(tiny_dataset(), folder / "a.safetensors");
  save_container(tiny_dataset(), folder / "b.safetensors");
  EXPECT_THAT(error_of([&] { open_dataset(folder.path().string()); }), HasSubstr("holds several"));
}

TEST(OpenDataset, FindsANameInTheFolderOfTheEnvironmentVariable) {
  const ScratchFolder folder;
  save_container(tiny_dataset(), folder / "tiny.safetensors");
  const char* old = std::getenv("CMIR_DATA");
  const std::string kept = old != nullptr ? old : "";
  ::setenv("CMIR_DATA", folder.path().c_str(), 1);
  EXPECT_EQ(dataset_search_path().front(), folder.path());
  EXPECT_EQ(open_dataset("tiny").size(), 6);
  old != nullptr ? ::setenv("CMIR_DATA", kept.c_str(), 1) : ::unsetenv("CMIR_DATA");
}

// ---- the packed form

TEST(PackedForm, OpensTheRealFolders) {
  if (real_data().empty()) GTEST_SKIP() << "the real data is not here";
  const Dataset mosi = open_dataset(real_data() + "/mosi_utt");
  EXPECT_EQ(mosi.size(), 2199);
  EXPECT_EQ(mosi.features.size(), 6U);
  EXPECT_EQ(mosi.feature("audio_opensmile").width(), 73);
  EXPECT_EQ(mosi.vocabulary.size(), 3108U);
  EXPECT_EQ(mosi.embedding("emb_840b300").shape(), (Shape{3108, 300}));
  EXPECT_EQ(mosi.token("tok").ids.numel(), 27540);
  EXPECT_EQ(mosi.label("label_reg").kind, LabelKind::regression);
  EXPECT_EQ(mosi.label("bin").kind, LabelKind::binary);
  EXPECT_EQ(mosi.group_names.size(), 93U);
  EXPECT_EQ(mosi.texts.front(), "ANYHOW IT WAS REALLY GOOD");
  EXPECT_EQ(mosi.vocabulary[mosi.token("tok").ids.data<std::int32_t>()[0]], "anyhow");
  const Split ood = resolve_split(mosi, "split_ood");
  EXPECT_EQ(ood.train.size(), 1203U);
  EXPECT_EQ(ood.valid.size(), 200U);
  EXPECT_EQ(ood.test.size(), 400U);
  EXPECT_EQ(ood.test_ood.size(), 396U);

  const Dataset mini = open_dataset(real_data() + "/mosi_mini/mosi_mini.safetensors");
  EXPECT_EQ(mini.size(), 400);
  EXPECT_TRUE(mini.feature("audio_seq").ragged());
  EXPECT_EQ(mini.feature("video_seq").offsets.data<std::int64_t>()[400], 8647);
  EXPECT_FALSE(mini.feature("audio_mfcc").ragged());
  EXPECT_EQ(mini.label("annot").kind, LabelKind::multiclass);
  EXPECT_EQ(mini.label("annot").outputs(), 3);
  EXPECT_EQ(resolve_split(mini, "fold_video").test.size(), 98U);

  const Dataset mustard = open_dataset(real_data() + "/mustard_text");
  EXPECT_EQ(mustard.size(), 690);
  EXPECT_EQ(mustard.feature("speaker").width(), 21);
  EXPECT_EQ(mustard.feature("show").width(), 4);
  EXPECT_EQ(mustard.tokens.size(), 2U);
  EXPECT_TRUE(mustard.extras.contains("ctx_utt_len"));
  EXPECT_EQ(mustard.group_names[1], "SHELDON");
  EXPECT_EQ(resolve_split(mustard, "speaker_indep").test.size(), 356U);
  EXPECT_EQ(resolve_split(mustard, "fold5", {.test_fold = 4}).test.size(), 138U);
}

/// The sums in checks.json are float64 sums of every tensor, taken when the folders were made.
TEST(PackedForm, HoldsTheValuesOfTheFoldersOwnChecks) {
  if (real_data().empty()) GTEST_SKIP() << "the real data is not here";
  for (const std::string name : {"mosi_utt", "mosi_mini", "mustard_text"}) {
    const Dataset d = open_dataset(real_data() + "/" + name);
    std::ifstream in(real_data() + "/" + name + "/checks.json");
    const auto checks = nlohmann::json::parse(in);
    for (const auto& [feature, f] : d.features) {
      if (!checks.contains(feature) || f.values.rank() != 2 || d.extras.contains(feature))
        continue;  // one-hot
      double sum = 0;
      for (const double value : f.values.to_vector()) sum += value;
      const double expected = checks[feature]["sum"];
      EXPECT_LE(std::abs(sum - expected), 1e-9 * std::abs(expected) + 1e-6)
          << name << " " << feature;
    }
  }
}

TEST(PackedForm, SurvivesTheWayThroughAContainer) {
  if (real_data().empty()) GTEST_SKIP() << "the real data is not here";
  const ScratchFolder folder;
  const Dataset packed = open_dataset(real_data() + "/mustard_text");
  save_container(packed, folder / "m.safetensors");
  const Dataset loaded = open_dataset((folder / "m.safetensors").string());
  EXPECT_EQ(content_checksum(loaded), content_checksum(packed));
  EXPECT_EQ(loaded.summary(), packed.summary());
}

TEST(PackedForm, SaysWhichFileIsWrong) {
  const ScratchFolder folder;
  const auto write = [&](const std::string& ids) {
    write_safetensors(folder / "p.safetensors",
                      {{"a", Tensor::zeros({2, 3})}, {"label", Tensor::zeros({2}, DType::i32)}});
    std::ofstream(folder / "ids.json") << ids;
    return error_of([&] { open_dataset(folder.path().string()); });
  };
  EXPECT_EQ(write(R"({"ids": ["x", "y"]})"), "");
  EXPECT_THAT(write(R"({"ids": ["x"]})"), HasSubstr("feature.a must be f32 of rank 2 with 1 rows"));
  EXPECT_THAT(write(R"({"ids": [1, 2]})"), HasSubstr("ids.json"));
  EXPECT_THAT(write("[1"), HasSubstr("is not a JSON object"));
}

}  // namespace
}  // namespace cmir::test
