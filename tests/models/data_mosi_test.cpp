#include "models/data/mosi.h"

#include <fstream>

#include "data_test.h"
#include "models/data/container.h"
#include "models/data/csv.h"

namespace cmir::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

void write_text(const fs::path& file, std::string_view text) {
  std::ofstream(file, std::ios::binary) << text;
}

// ---- CSV

TEST(Csv, ReadsQuotesAndBothLineEnds) {
  const ScratchFolder folder;
  write_text(folder / "a.csv", "\"a\",1\r\n\"b, \"\"c\"\"\nd\",2\n,\"\"");
  const CsvFile csv = CsvFile::read(folder / "a.csv");
  ASSERT_EQ(csv.rows().size(), 3U);
  EXPECT_EQ(csv.columns(), 2U);
  EXPECT_EQ(csv.rows()[1].fields, (std::vector<std::string>{"b, \"c\"\nd", "2"}));
  EXPECT_EQ(csv.rows()[2].line, 4);
  EXPECT_EQ(csv.rows()[2].fields, (std::vector<std::string>{"", ""}));
  EXPECT_EQ(csv.number(csv.rows()[0], 1), 1.0);
  EXPECT_THAT(error_of([&] { csv.number(csv.rows()[1], 0); }),
              HasSubstr("a.csv:2: column 1 must be a finite number"));
}

TEST(Csv, RefusesWhatItCannotUnderstand) {
  const ScratchFolder folder;
  const auto read = [&](std::string_view text) {
    write_text(folder / "a.csv", text);
    return error_of([&] { CsvFile::read(folder / "a.csv"); });
  };
  EXPECT_EQ(read(""), "");
  EXPECT_THAT(read("1,2\n3\n"), HasSubstr("a.csv:2: has 1 fields, the first row has 2"));
  EXPECT_THAT(read("1,\"2\n3\n"), HasSubstr("a.csv:1: opens a quote that is never closed"));
  EXPECT_THAT(read("1,\"2\"x\n"), HasSubstr("a.csv:1: needs a comma"));
  EXPECT_THAT(read("1,2\n1,a\"b\n"), HasSubstr("a.csv:2: needs a comma"));
  EXPECT_THAT(read("1,2\rx"), HasSubstr("needs a comma or a line end"));
  EXPECT_THAT(error_of([&] { CsvFile::read(folder / "none.csv"); }), HasSubstr("none.csv"));
  for (const char* bad : {"nan", "inf", "1e999", "", "1x", " 1"}) {
    write_text(folder / "a.csv", std::string(bad) + "\n,\n");
    write_text(folder / "a.csv", std::string(bad) + ",0\n");
    const CsvFile csv = CsvFile::read(folder / "a.csv");
    EXPECT_NE(error_of([&] { csv.number(csv.rows()[0], 0); }), "") << bad;
  }
}

// ---- conversion

TEST(MosiConversion, EqualsThePackedFolderBitForBit) {
  if (real_data().empty()) GTEST_SKIP() << "the real data is not here";
  const ScratchFolder folder;
  save_container(convert_mosi(real_data() + "/raw_mosi"), folder / "mosi.safetensors");
  Dataset converted = open_dataset((folder / "mosi.safetensors").string());
  const Dataset packed = open_dataset(real_data() + "/mosi_utt");
  EXPECT_EQ(converted.ids, packed.ids);
  EXPECT_EQ(converted.texts, packed.texts);
  EXPECT_EQ(converted.vocabulary, packed.vocabulary);
  EXPECT_EQ(converted.group_names, packed.group_names);
  for (const std::string name : {"text_cnn", "audio_opensmile", "video_3dcnn"})
    EXPECT_TRUE(same_bits(converted.feature(name).values, packed.feature(name).values)) << name;
  EXPECT_TRUE(same_bits(converted.label("bin").values, packed.label("bin").values));
  EXPECT_TRUE(same_bits(converted.splits.at("bclstm"), packed.splits.at("bclstm")));
  EXPECT_TRUE(same_bits(converted.group, packed.group));
  EXPECT_TRUE(same_bits(converted.extras.at("segment_index"), packed.extras.at("segment_index")));
  EXPECT_TRUE(same_bits(converted.token("tok").ids, packed.token("tok").ids));
  EXPECT_TRUE(same_bits(converted.token("tok").offsets, packed.token("tok").offsets));
  EXPECT_TRUE(validate(converted).ok());
}

/// A copy of the original files that a test may spoil.
void copy_raw(const ScratchFolder& folder) {
  for (const auto& entry : fs::directory_iterator(real_data() + "/raw_mosi")) {
    fs::copy_file(entry.path(), folder / entry.path().filename().string());
    fs::permissions(folder / entry.path().filename().string(), fs::perms::owner_all);
  }
}

std::string read_text(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(MosiConversion, NamesTheFileAndLineOfWhatIsWrong) {
  if (real_data().empty()) GTEST_SKIP() << "the real data is not here";
  const ScratchFolder folder;
  copy_raw(folder);
  const auto convert_with = [&](const std::string& name, const std::string& from,
                                const std::string& to) {
    const std::string original = read_text(folder / name);
    std::string text = original;
    text.replace(text.find(from), from.size(), to);
    write_text(folder / name, text);
    const std::string message = error_of([&] { convert_mosi(folder.path()); });
    write_text(folder / name, original);
    return message;
  };
  EXPECT_THAT(convert_with("audio_train0.csv", "174.95", "x174.95"),
              HasSubstr("audio_train0.csv:1: column 1 must be a finite number"));
  EXPECT_THAT(convert_with("transcripts.csv", "03bSnISJMiM_10", "03bSnISJMiM_0"),
              HasSubstr("transcripts.csv:2: \"03bSnISJMiM_0\" is no segment id"));
  EXPECT_THAT(convert_with("transcripts.csv", "03bSnISJMiM_10", "03bSnISJMiM_1"),
              HasSubstr("segment 03bSnISJMiM_1 occurs twice"));
  EXPECT_THAT(convert_with("transcripts.csv", "GOOD\",\"93\"", "GOOD\""),
              HasSubstr("transcripts.csv:2: has 4 fields, the first row has 3"));
  EXPECT_THAT(convert_with("text_test.csv", "\"0\",", "\"39\","),
              HasSubstr("text_test.csv:1: names transcript 39 a second time"));
  EXPECT_THAT(convert_with("text_test.csv", "\"0\",", "\"2199\","),
              HasSubstr("must be an integer in 0..2198"));
  EXPECT_THAT(convert_with("video_test0.csv", ",\"1\"\r\n", ",\"0\"\r\n"),
              HasSubstr("video_test0.csv:1: label 0 differs"));
  EXPECT_THAT(convert_with("video_test0.csv", "\r\n", "\r\n\r\n"),
              HasSubstr("video_test0.csv:2: has 1 fields"));
  write_text(folder / "text_test0.csv", "");
  EXPECT_THAT(error_of([&] { convert_mosi(folder.path()); }),
              HasSubstr("text_test0.csv: has 0 rows of 0 fields, expected 752 of 101"));
  fs::remove(folder / "text_test0.csv");
  EXPECT_THAT(error_of([&] { convert_mosi(folder.path()); }), HasSubstr("text_test0.csv"));
}

// ---- download, from a local mirror laid out as the repository

std::string make_mirror(const ScratchFolder& folder) {
  const std::map<std::string, std::string> directories{
      {"text_train0.csv", "bc-LSTM/data/text/"},   {"text_test0.csv", "bc-LSTM/data/text/"},
      {"audio_train0.csv", "bc-LSTM/data/audio/"}, {"audio_test0.csv", "bc-LSTM/data/audio/"},
      {"video_train0.csv", "bc-LSTM/data/video/"}, {"video_test0.csv", "bc-LSTM/data/video/"},
      {"text_train.csv", "bc-LSTM/data/"},         {"text_test.csv", "bc-LSTM/data/"},
      {"transcripts.csv", "bc-LSTM/data/"},        {"LICENSE.declare-lab", ""}};
  for (const auto& [name, directory] : directories) {
    fs::create_directories(folder / directory);
    fs::copy_file(real_data() + "/raw_mosi/" + name,
                  folder / (directory + (directory.empty() ? "LICENSE" : name)));
  }
  fs::permissions(folder / "bc-LSTM/data/transcripts.csv", fs::perms::owner_all);
  return "file://" + folder.path().string();
}

TEST(MosiDownload, FetchesChecksKeepsAndMends) {
  if (real_data().empty()) GTEST_SKIP() << "the real data is not here";
  const ScratchFolder mirror, target;
  MosiDownloadOptions options{.base_url = make_mirror(mirror)};
  std::map<std::string, std::size_t> received;
  options.progress = [&](const std::string& file, std::size_t bytes, std::size_t) {
    received[file] = bytes;
  };
  download_mosi(target / "raw", options);
  EXPECT_EQ(received.size(), 10U);
  EXPECT_EQ(received["text_train0.csv"], fs::file_size(target / "raw/text_train0.csv"));
  EXPECT_EQ(convert_mosi(target / "raw").size(), 2199);

  received.clear();
  download_mosi(target / "raw", options);
  EXPECT_TRUE(received.empty()) << "what is there and right is kept";

  write_text(target / "raw/text_test.csv", "cut off");
  fs::remove(target / "raw/audio_test0.csv");
  download_mosi(target / "raw", options);
  EXPECT_EQ(received.size(), 2U);
  EXPECT_EQ(convert_mosi(target / "raw").size(), 2199);
  for (const auto& entry : fs::directory_iterator(target / "raw"))
    EXPECT_NE(entry.path().extension(), ".part");
}

TEST(MosiDownload, RefusesAChangedFileAndSaysHowToGoOnWithoutANetwork) {
  if (real_data().empty()) GTEST_SKIP() << "the real data is not here";
  const ScratchFolder mirror, target;
  const MosiDownloadOptions options{.base_url = make_mirror(mirror)};
  write_text(mirror / "bc-LSTM/data/transcripts.csv", "changed");
  EXPECT_THAT(error_of([&] { download_mosi(target.path(), options); }),
              HasSubstr("transcripts.csv has SHA-256"));
  EXPECT_FALSE(fs::exists(target / "transcripts.csv"));
  EXPECT_TRUE(fs::exists(target / "LICENSE.declare-lab"));

  fs::remove(mirror / "bc-LSTM/data/transcripts.csv");
  const auto message = error_of([&] { download_mosi(target.path(), options); });
  EXPECT_THAT(message,
              HasSubstr("put bc-LSTM/data/transcripts.csv into " + target.path().string()));
  EXPECT_THAT(error_of([&] { download_mosi(target.path(), {.base_url = "http://localhost:1"}); }),
              HasSubstr("transcripts.csv could not be had"));
}

TEST(MosiDownload, PassesOnAnExceptionOfTheProgressReport) {
  if (real_data().empty()) GTEST_SKIP() << "the real data is not here";
  const ScratchFolder mirror, target;
  MosiDownloadOptions options{.base_url = make_mirror(mirror)};
  options.progress = [](const std::string&, std::size_t, std::size_t) {
    throw std::runtime_error("interrupted");
  };
  EXPECT_THROW(download_mosi(target.path(), options), std::runtime_error);
  EXPECT_FALSE(fs::exists(target / "LICENSE.declare-lab"));
}

}  // namespace
}  // namespace cmir::test
