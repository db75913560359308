#include "models/data/import/convert.h"

#include <gmock/gmock.h>
#include <hdf5.h>

#include <cmath>
#include <numeric>

#include "models/data/container.h"
#include "models/data/import/pickle.h"
#include "tests/models/import/format_files.h"

namespace cmir {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;
namespace fs = std::filesystem;

std::vector<std::int64_t> lengths(const Feature& feature, std::int64_t samples) {
  std::vector<std::int64_t> result;
  for (std::int64_t s = 0; s < samples; ++s) result.push_back(feature.length(s));
  return result;
}

double sum(const Tensor& tensor) {
  const auto values = tensor.to_vector();
  return std::accumulate(values.begin(), values.end(), 0.0);
}

std::vector<std::int32_t> split_of(const Dataset& dataset) {
  const auto span = dataset.splits.at("given").span<std::int32_t>();
  return {span.begin(), span.end()};
}

/// Converts, checks the container against structural faults by loading it, and returns what was
/// loaded.
class ConvertFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    files = test::format_files();
    if (files.empty()) GTEST_SKIP() << "no format samples on this machine";
  }
  Dataset convert(const fs::path& input, const std::string& family,
                  const ConvertOptions& options = {}) {
    EXPECT_EQ(detect_family(input), family);
    const fs::path output = scratch.path() / "converted.safetensors";
    report = convert_dataset(input, output, options);
    EXPECT_EQ(report.family, family);
    Dataset dataset = load_container(output);
    // A file of labels alone is converted, but nothing can be trained on it.
    EXPECT_EQ(validate(dataset).ok(), !dataset.features.empty() || !dataset.tokens.empty())
        << validate(dataset).to_string();
    return dataset;
  }
  nlohmann::json expected(const std::string& file) const { return test::expected_values()[file]; }
  /// A copy of the file with one key renamed to another of the same length.
  fs::path with_replaced(const std::string& file, const std::string& from, const std::string& to) {
    std::string bytes = test::read_bytes(files / file);
    EXPECT_EQ(from.size(), to.size());
    for (auto at = bytes.find(from); at != bytes.npos; at = bytes.find(from, at + 1)) {
      bytes.replace(at, from.size(), to);
    }
    const fs::path path = scratch.path() / file;
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }

  fs::path files;
  test::ScratchDirectory scratch;
  ConversionReport report;
};

const std::vector<std::int32_t> kSixThreeFour{0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2};

TEST_F(ConvertFiles, MmsaAligned) {
  const Dataset dataset = convert(files / "tiny_mmsa_aligned_50.pkl", "mmsa");
  const auto values = expected("tiny_mmsa_aligned_50.pkl");
  ASSERT_EQ(dataset.size(), 13);
  EXPECT_EQ(split_of(dataset), kSixThreeFour);
  EXPECT_EQ(dataset.feature("text").width(), 768);
  EXPECT_EQ(dataset.feature("audio").width(), 5);
  EXPECT_EQ(dataset.feature("video").width(), 20);
  EXPECT_EQ(dataset.ids[0], "WKA5OygbEKI$_$1");
  EXPECT_EQ(dataset.texts[1], "UH IS A REALLY CUTE MOVIE");
  EXPECT_EQ(dataset.group_names[0], "WKA5OygbEKI");
  EXPECT_EQ(dataset.tokens.at("bert").ids.span<std::int32_t>()[0], 101);  // [CLS]
  // All modalities have the words' time axis; WordPiece [CLS] .. [SEP] of the mask remain.
  EXPECT_EQ(lengths(dataset.feature("audio"), 13), lengths(dataset.feature("text"), 13));
  const auto* bert = dataset.tokens.at("bert").offsets.data<std::int64_t>();
  for (int s = 0; s < 13; ++s) {
    EXPECT_EQ(dataset.feature("text").length(s), bert[s + 1] - bert[s]);
    EXPECT_EQ(dataset.tokens.at("bert").ids.data<std::int32_t>()[bert[s + 1] - 1], 102);  // [SEP]
  }
  double audio = 0, label = 0;
  for (const auto* part : {"train", "valid", "test"}) {
    audio += values[fmt::format("/{}/audio", part)]["sum_finite"].get<double>();
    label += values[fmt::format("/{}/regression_labels", part)]["sum_finite"].get<double>();
  }
  EXPECT_NEAR(sum(dataset.feature("audio").values), audio, 1e-3);
  EXPECT_NEAR(sum(dataset.label("reg").values), label, 1e-5);
  EXPECT_EQ(dataset.label("reg").maximum, 3);
  EXPECT_EQ(dataset.label("cls").kind, LabelKind::multiclass);
  EXPECT_GT(report.trimmed.at("text"), 0);
}

TEST_F(ConvertFiles, MmsaUnalignedUsesTheLengths) {
  const fs::path path = files / "tiny_mmsa_unaligned_50.pkl";
  const Dataset dataset = convert(path, "mmsa");
  ASSERT_EQ(dataset.size(), 13);
  const auto document = pickle::Document::open(path);
  std::int64_t sample = 0;
  for (const auto* part : {"train", "valid", "test"}) {
    const auto& given = document.root().at(part).at("audio_lengths").items();
    for (const auto& length : given) {
      EXPECT_EQ(dataset.feature("audio").length(sample++), length.integer());
    }
  }
  EXPECT_EQ(sample, 13);
  double audio = 0;
  for (const auto* part : {"train", "valid", "test"}) {
    audio += expected("tiny_mmsa_unaligned_50.pkl")[fmt::format("/{}/audio", part)]["sum_finite"]
                 .get<double>();
  }
  EXPECT_NEAR(sum(dataset.feature("audio").values), audio, 1e-3);
}

TEST_F(ConvertFiles, MultPaddingInFrontIsRemovedAndInfinityCounted) {
  for (const auto* name : {"tiny_mult_mosi_data.pkl", "tiny_mult_mosi_data_noalign.pkl"}) {
    SCOPED_TRACE(name);
    const Dataset dataset = convert(files / name, "mult");
    ASSERT_EQ(dataset.size(), 13);
    EXPECT_EQ(split_of(dataset), kSixThreeFour);
    EXPECT_EQ(dataset.feature("text").width(), 300);
    double video = 0;
    std::int64_t infinities = 0;
    for (const auto* part : {"train", "valid", "test"}) {
      const auto& values = expected(name);
      video += values[fmt::format("/{}/vision", part)]["sum_finite"].get<double>();
      infinities += values[fmt::format("/{}/audio", part)]["nonfinite"].get<std::int64_t>();
    }
    EXPECT_EQ(report.replaced.at("audio"), infinities);
    EXPECT_GT(infinities, 0);
    EXPECT_NEAR(sum(dataset.feature("video").values), video, 1e-3);
    // 18, 6, 9 and 9 words in the first four segments, as in the word-aligned file of the same
    // clips.
    EXPECT_THAT(lengths(dataset.feature("video"), 4), ElementsAre(18, 6, 9, 9));
    EXPECT_THAT(lengths(dataset.feature("text"), 4), ElementsAre(18, 6, 9, 9));
    EXPECT_EQ(dataset.group_names[0], "WKA5OygbEKI");
    EXPECT_THAT(dataset.ids[0], HasSubstr("WKA5OygbEKI_1"));
  }
}

TEST_F(ConvertFiles, MagBertHasWordsAndVocabulary) {
  const Dataset dataset = convert(files / "tiny_mag_mosi.pkl", "misa");
  ASSERT_EQ(dataset.size(), 13);
  EXPECT_EQ(split_of(dataset), kSixThreeFour);
  EXPECT_EQ(dataset.feature("video").width(), 47);
  EXPECT_EQ(dataset.feature("audio").width(), 74);
  EXPECT_THAT(lengths(dataset.feature("audio"), 4), ElementsAre(18, 6, 9, 9));
  const auto& tokens = dataset.token("tok");
  EXPECT_EQ(tokens.offsets.data<std::int64_t>()[1], 18);
  const auto* ids = tokens.ids.data<std::int32_t>();
  EXPECT_EQ(dataset.vocabulary[ids[0]], "uh");
  EXPECT_EQ(dataset.vocabulary[ids[1]], "i");
  EXPECT_EQ(dataset.vocabulary[ids[18]], "uh");
  EXPECT_EQ(dataset.ids[1], "WKA5OygbEKI[1]");
  EXPECT_FLOAT_EQ(dataset.label("reg").values.data<float>()[0], 1.8F);
}

TEST_F(ConvertFiles, HktJoinsContextAndPunchlineInTime) {
  const Dataset dataset = convert(files / "tiny_hkt_mustard.pkl", "hkt");
  const auto values = expected("tiny_hkt_mustard.pkl");
  EXPECT_EQ(dataset.feature("video").width(), 36);
  EXPECT_EQ(dataset.feature("audio").width(), 60);
  EXPECT_EQ(dataset.feature("hcf").width(), 4);
  EXPECT_EQ(dataset.feature("video").length(0), 13 + 11);
  // Context comes first; the four hcf columns are kept whole.
  const float* hcf = dataset.feature("hcf").values.data<float>();
  EXPECT_EQ(hcf[0], values["/train[0][1][3]"]["first"][0].get<float>());
  EXPECT_EQ(hcf[13 * 4], values["/train[0][0][3]"]["first"][0].get<float>());
  EXPECT_EQ(dataset.feature("audio").values.data<float>()[13 * 60],
            values["/train[0][0][2]"]["first"][0].get<float>());
  EXPECT_EQ(dataset.label("bin").kind, LabelKind::binary);
  EXPECT_THAT(lengths(dataset.feature("hcf"), dataset.size()),
              ::testing::ElementsAreArray(lengths(dataset.feature("audio"), dataset.size())));
  EXPECT_EQ(dataset.vocabulary[dataset.token("tok").ids.data<std::int32_t>()[0]], "i");
  ConvertOptions options;
  options.all_columns = true;
  const Dataset whole = convert(files / "tiny_hkt_mustard.pkl", "hkt", options);
  EXPECT_EQ(whole.feature("video").width(), 91);
  EXPECT_EQ(whole.feature("audio").width(), 81);
  // Column 55 of the whole is column 0 of the cut.
  EXPECT_EQ(whole.feature("video").values.data<float>()[91 + 55],
            dataset.feature("video").values.data<float>()[36]);
}

TEST_F(ConvertFiles, HffnHasOneVectorPerUtterance) {
  const Dataset dataset = convert(files / "unimodal_mosi_2way.pickle", "hffn");
  ASSERT_EQ(dataset.size(), 1447 + 752);
  EXPECT_FALSE(dataset.feature("text").ragged());
  EXPECT_EQ(dataset.feature("video").width(), 50);
  EXPECT_EQ(dataset.label("cls").kind, LabelKind::binary);
  EXPECT_EQ(dataset.group_names.size(), 93u);
  EXPECT_EQ(report.samples.at("train"), 1447);
  EXPECT_EQ(report.samples.at("test"), 752);
  // 1176 of the 2,199 segments are positive or neutral (mosi_utt's label_bin).
  EXPECT_EQ(sum(dataset.label("cls").values), 1176);
}

TEST_F(ConvertFiles, GcnetHasTheStandardSplit) {
  const Dataset dataset = convert(files / "CMUMOSI_features_raw_2way.pkl", "gcnet");
  EXPECT_EQ(dataset.size(), 2199);
  EXPECT_EQ(report.samples.at("train"), 1284);
  EXPECT_EQ(report.samples.at("valid"), 229);
  EXPECT_EQ(report.samples.at("test"), 686);
  EXPECT_EQ(dataset.label("label").kind, LabelKind::regression);
  EXPECT_EQ(dataset.ids[0], "03bSnISJMiM_1");
  EXPECT_EQ(dataset.texts[0], "ANYHOW IT WAS REALLY GOOD");
  EXPECT_FLOAT_EQ(dataset.label("label").values.data<float>()[0], 2.4F);
}

TEST_F(ConvertFiles, UrFunnyFolder) {
  const Dataset dataset = convert(files / "tiny_urfunny_v2", "urfunny");
  ASSERT_EQ(dataset.size(), 3);
  EXPECT_THAT(dataset.ids, ElementsAre("1", "3", "4"));
  EXPECT_THAT(split_of(dataset), ElementsAre(0, 1, 2));
  EXPECT_THAT(dataset.label("bin").values.span<std::int32_t>(), ElementsAre(1, 0, 1));
  EXPECT_EQ(dataset.feature("audio").width(), 60);
  EXPECT_EQ(dataset.feature("video").width(), 371);
  EXPECT_THAT(lengths(dataset.feature("audio"), 3),
              ElementsAre(6, 6, 6));  // 2 + 1 words of context, 3 of the punchline
  EXPECT_THAT(dataset.token("tok").ids.span<std::int32_t>().first(6),
              ElementsAre(4, 5, 6, 1, 2, 3));
  EXPECT_EQ(dataset.embedding("glove").shape(), (Shape{7, 300}));
  EXPECT_EQ(dataset.texts[0], "d e f a b c");
  const auto first =
      expected("tiny_urfunny_v2/openface_features_sdk.pkl")["/1/punchline_features[0][0]"];
  EXPECT_NEAR(dataset.feature("video").values.data<float>()[3 * 371],
              std::stod(first["value"].get<std::string>()), 1e-6);
}

TEST_F(ConvertFiles, LabelsOfTheSdkWithFolds) {
  ConvertOptions options;
  options.folds = files / "cmu_sdk_standard_folds.json";
  const Dataset dataset = convert(files / "CMU_MOSI_Labels.csd", "csd", options);
  EXPECT_EQ(report.samples.at("train"), 1284);
  EXPECT_EQ(report.samples.at("valid"), 229);
  EXPECT_EQ(report.samples.at("test"), 686);
  EXPECT_EQ(dataset.ids[0], "03bSnISJMiM[0]");
  EXPECT_FLOAT_EQ(dataset.label("reg").values.data<float>()[0], 2.4F);
}

TEST_F(ConvertFiles, WrongFamilySaysWhatWasExpectedAndFound) {
  ConvertOptions options;
  ConversionReport unused;
  options.family = "mult";
  EXPECT_THAT([&] { import_dataset(files / "tiny_mmsa_aligned_50.pkl", options, unused); },
              ThrowsMessage<Error>(AllOf(HasSubstr("read as mult"), HasSubstr("train"),
                                         HasSubstr("'labels'"), HasSubstr("'raw_text'"))));
  options.family = "hkt";
  EXPECT_THAT([&] { import_dataset(files / "tiny_mag_mosi.pkl", options, unused); },
              ThrowsMessage<Error>(AllOf(HasSubstr("sample 0"), HasSubstr("expected"))));
  options.family = "mosi";
  EXPECT_THAT([&] { import_dataset(files / "tiny_mag_mosi.pkl", options, unused); },
              ThrowsMessage<Error>(AllOf(HasSubstr("'mosi'"), HasSubstr("gcnet"))));
  // Every file under every wrong family is an error, not a crash.
  for (const auto& entry : fs::directory_iterator(files)) {
    const auto extension = entry.path().extension();
    if (extension != ".pkl" && extension != ".pickle" && extension != ".csd" &&
        !entry.is_directory())
      continue;
    const std::string right = detect_family(entry.path());
    for (const ImportFamily& family : import_families()) {
      options.family = family.name;
      if (family.name == right) continue;
      EXPECT_THROW(import_dataset(entry.path(), options, unused), Error)
          << entry.path() << " as " << family.name;
    }
  }
}

TEST_F(ConvertFiles, MissingKeysAreNamed) {
  const fs::path output = scratch.path() / "out.safetensors";
  EXPECT_THAT(
      [&] { convert_dataset(with_replaced("tiny_mult_mosi_data.pkl", "audio", "sound"), output); },
      ThrowsMessage<Error>(AllOf(HasSubstr("'audio'"), HasSubstr("'sound'"))));
  EXPECT_THAT(
      [&] {
        convert_dataset(with_replaced("unimodal_mosi_2way.pickle", "video_test", "video_part"),
                        output);
      },
      ThrowsMessage<Error>(HasSubstr("'video_test'")));
  EXPECT_THAT(
      [&] { convert_dataset(with_replaced("tiny_mmsa_aligned_50.pkl", "train", "trial"), output); },
      ::testing::Not(::testing::Throws<Error>()));  // valid and test remain
  EXPECT_THAT([&] { detect_family(files / "cmu_sdk_standard_folds.json"); },
              ::testing::Throws<Error>());
  EXPECT_THAT([&] { detect_family(files / "nothing.pkl"); },
              ThrowsMessage<Error>(HasSubstr("no such")));
  fs::copy(files / "tiny_urfunny_v2", scratch.path() / "folder");
  fs::remove(scratch.path() / "folder" / "covarep_features_sdk.pkl");
  EXPECT_THAT([&] { convert_dataset(scratch.path() / "folder", output); },
              ThrowsMessage<Error>(HasSubstr("covarep_features_sdk.pkl")));
  fs::remove(scratch.path() / "folder" / "data_folds.pkl");
  EXPECT_THAT([&] { detect_family(scratch.path() / "folder"); },
              ThrowsMessage<Error>(AllOf(HasSubstr("a folder with"), HasSubstr("urfunny"))));
}

TEST_F(ConvertFiles, TruncatedFileLeavesNoOutput) {
  const std::string bytes = test::read_bytes(files / "tiny_mag_mosi.pkl");
  const fs::path cut = scratch.path() / "cut.pkl", output = scratch.path() / "out.safetensors";
  std::ofstream(cut, std::ios::binary).write(bytes.data(), std::ssize(bytes) / 2);
  EXPECT_THAT([&] { convert_dataset(cut, output); }, ThrowsMessage<Error>(HasSubstr("truncated")));
  EXPECT_FALSE(fs::exists(output));
}

// ---- forms without a sample file: written here in protocol 0

std::string pickled(const std::string& text) { return "V" + text + "\n"; }
std::string pickled(double value) { return fmt::format("F{}\n", value); }
std::string tuple(std::initializer_list<std::string> items) {
  return fmt::format("({}t", fmt::join(items, ""));
}
std::string list(std::initializer_list<std::string> items) {
  return fmt::format("({}l", fmt::join(items, ""));
}

/// One sample of MISA's form with two words.
std::string misa_sample(const std::string& id, double label) {
  const std::string rows = list({list({pickled(1), pickled(2)}), list({pickled(3), pickled(4)})});
  return tuple({tuple({list({"I7\n", "I8\n"}), rows, rows, list({pickled("good"), pickled(id)})}),
                pickled(label), pickled(id)});
}

TEST(Convert, ClueFolderHasFourParts) {
  const test::ScratchDirectory scratch;
  for (const std::string part : {"train", "dev", "test_IID", "test_OOD"}) {
    std::ofstream(scratch.path() / (part + ".pkl"))
        << list({misa_sample(part + "[0]", 1.5)}) << ".";
  }
  EXPECT_EQ(detect_family(scratch.path()), "misa");
  const fs::path output = scratch.path() / "out.safetensors";
  const ConversionReport report = convert_dataset(scratch.path(), output);
  const Dataset dataset = load_container(output);
  EXPECT_THAT(dataset.ids, ElementsAre("train[0]", "dev[0]", "test_IID[0]", "test_OOD[0]"));
  EXPECT_THAT(split_of(dataset), ElementsAre(kTrain, kValid, kTest, kTestOod));
  EXPECT_EQ(dataset.feature("audio").values.shape(), (Shape{8, 2}));
  EXPECT_EQ(dataset.vocabulary[0], "good");
  EXPECT_EQ(report.samples.at("test_ood"), 1);
  EXPECT_THAT(report.to_string(), HasSubstr("samples of test_ood: 1"));
}

TEST(Convert, DuplicateIdsAreNumberedAndEmptySamplesDropped) {
  const test::ScratchDirectory scratch;
  const std::string empty =
      tuple({tuple({list({}), list({}), list({})}), pickled(0.5), pickled("none[0]")});
  std::ofstream(scratch.path() / "train.pkl")
      << list({misa_sample("a[0]", 1), misa_sample("a[0]", -1), empty}) << ".";
  ConversionReport report;
  const Dataset dataset = import_dataset(scratch.path() / "train.pkl", {}, report);
  EXPECT_THAT(dataset.ids, ElementsAre("a[0]", "a[0]#2"));
  EXPECT_THAT(report.dropped, ElementsAre("none[0]"));
}

TEST(Convert, RepeatedReferencesToOneArrayDoNotFillTheMemory) {
  const test::ScratchDirectory scratch;
  // One row of 50,000 numbers, used by each of 50,000 rows: 10 GB from a file of half a megabyte.
  std::string row = "(";
  for (int i = 0; i < 50000; ++i) row += "I0\n";
  std::string rows = "(";
  for (int i = 0; i < 50000; ++i) rows += "g1\n";
  const std::string bytes =
      "(" + row + "lp1\n0" +
      tuple({tuple({list({}), rows + "l", list({})}), pickled(1), pickled("a")}) + "l.";
  std::ofstream(scratch.path() / "train.pkl") << bytes;
  EXPECT_THAT(
      [&] {
        ConversionReport report;
        import_dataset(scratch.path() / "train.pkl", {}, report);
      },
      ThrowsMessage<Error>(HasSubstr("numbers come out of")));
}

class Hdf5Writer {
 public:
  explicit Hdf5Writer(const fs::path& path)
      : file_(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT)) {}
  ~Hdf5Writer() { H5Fclose(file_); }
  void group(const char* name) {
    H5Gclose(H5Gcreate2(file_, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  }
  void floats(const std::string& name, std::vector<hsize_t> sizes,
              const std::vector<float>& values) {
    write(name, sizes, H5T_NATIVE_FLOAT, values.data());
  }
  void words(const std::string& name, hsize_t count, const std::string& padded_to_4) {
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, 4);
    write(name, {count, 1}, type, padded_to_4.data());
    H5Tclose(type);
  }

 private:
  void write(const std::string& name, const std::vector<hsize_t>& sizes, hid_t type,
             const void* values) {
    const hid_t space = H5Screate_simple(static_cast<int>(sizes.size()), sizes.data(), nullptr);
    const hid_t set =
        H5Dcreate2(file_, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    H5Dclose(set);
    H5Sclose(space);
  }
  hid_t file_;
};

TEST(Convert, SdkFeaturesAreAveragedOverWordsAndSegments) {
  const test::ScratchDirectory scratch;
  const auto root = [&](const char* file, const std::string& name, const auto& features,
                        const std::vector<float>& intervals) {
    Hdf5Writer writer(scratch.path() / file);
    writer.group(("/" + name).c_str());
    writer.group(("/" + name + "/data").c_str());
    writer.group(("/" + name + "/data/v").c_str());
    features(writer, "/" + name + "/data/v/features");
    writer.floats("/" + name + "/data/v/intervals", {intervals.size() / 2, 2}, intervals);
  };
  // Two segments, 0..2 s and 2..4 s; the audio has a row per second.
  root("labels.csd", "Opinion Labels",
       [](auto& w, const auto& path) {
         w.floats(path, {2, 1}, {1, -2});
       },
       {0, 2, 2, 4});
  root("audio.csd", "COVAREP",
       [](auto& w, const auto& path) {
         w.floats(path, {4, 1}, {1, 3, 5, 9});
       },
       {0, 1, 1, 2, 2, 3, 3, 4});
  ConversionReport report;
  Dataset dataset = import_dataset(scratch.path(), {}, report);
  EXPECT_EQ(report.family, "csd");
  EXPECT_THAT(dataset.feature("audio").values.span<float>(), ElementsAre(2, 7));
  EXPECT_FALSE(dataset.feature("audio").ragged());
  EXPECT_THAT(dataset.ids, ElementsAre("v[0]", "v[1]"));
  EXPECT_THAT(dataset.label("reg").values.span<float>(), ElementsAre(1, -2));
  // With words: a pause, one word of 0.5..1.5 s in the first segment, two in the second.
  const std::string words("sp\0\0goodbad\0ok\0\0", 16);
  root("words.csd", "words", [&](auto& w, const auto& path) { w.words(path, 4, words); },
       {0, 0.5, 0.5, 1.5, 2, 3, 3, 4});
  dataset = import_dataset(scratch.path(), {}, report);
  EXPECT_THAT(dataset.vocabulary, ElementsAre("good", "bad", "ok"));
  EXPECT_THAT(lengths(dataset.feature("audio"), 2), ElementsAre(1, 2));
  EXPECT_THAT(dataset.feature("audio").values.span<float>(), ElementsAre(2, 5, 9));
}

TEST(Convert, MfnFolder) {
  const test::ScratchDirectory scratch;
  for (const std::string part : {"train", "valid", "test"}) {
    Hdf5Writer(scratch.path() / ("y_" + part + ".h5")).floats("/data", {2}, {1.5, -0.5});
    // The first sample has one step of padding in front.
    Hdf5Writer(scratch.path() / ("audio_" + part + ".h5"))
        .floats("/d1", {2, 2, 2}, {0, 0, 1, 2, 3, 4, NAN, 6});
    if (part != "train")
      Hdf5Writer(scratch.path() / ("text_" + part + ".h5")).floats("/d1", {2, 1, 1}, {7, 8});
  }
  EXPECT_EQ(detect_family(scratch.path()), "mfn");
  ConversionReport report;
  const Dataset dataset = import_dataset(scratch.path(), {}, report);
  ASSERT_EQ(dataset.size(), 6);
  EXPECT_THAT(lengths(dataset.feature("audio"), 6), ElementsAre(1, 2, 1, 2, 1, 2));
  EXPECT_THAT(lengths(dataset.feature("text"), 6),
              ElementsAre(0, 0, 1, 1, 1, 1));  // missing in training
  EXPECT_EQ(report.replaced.at("audio"), 3);
  EXPECT_EQ(dataset.label("label").kind, LabelKind::regression);
}

}  // namespace
}  // namespace cmir
