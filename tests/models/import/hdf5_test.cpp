#include "models/data/import/hdf5.h"

#include <gmock/gmock.h>
#include <hdf5.h>

#include <cmath>

#include "tests/models/import/format_files.h"

namespace cmir {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

/// Compares a tensor with an entry of expected.json: dtype, shape, sum of the finite values, first
/// values.
void expect_tensor(const Tensor& tensor, const nlohmann::json& expected) {
  EXPECT_EQ(tensor.dtype(), expected["dtype"] == "float64" ? DType::f64 : DType::f32);
  EXPECT_EQ(tensor.shape(), Shape(expected["shape"].get<std::vector<std::int64_t>>()));
  double sum = 0, magnitude = 0;
  for (const double value : tensor.to_vector()) {
    if (std::isfinite(value)) sum += value, magnitude += std::abs(value);
  }
  EXPECT_NEAR(sum, expected["sum_finite"], 1e-12 * magnitude);
  const auto first = expected["first"].get<std::vector<double>>();
  const auto values = tensor.to_vector();
  for (std::size_t i = 0; i < first.size(); ++i) EXPECT_EQ(values[i], first[i]);
}

class Hdf5Files : public ::testing::Test {
 protected:
  void SetUp() override {
    if (test::format_files().empty()) GTEST_SKIP() << "no format samples on this machine";
  }
};

TEST_F(Hdf5Files, EveryExpectedDatasetIsRead) {
  const auto expected = test::expected_values();
  int compared = 0;
  for (const auto* name : {"CMU_MOSI_Labels.csd", "mfn_youtube_audio_valid.h5"}) {
    const hdf5::File file(test::format_files() / name);
    for (const auto& [path, entry] : expected[name].items()) {
      if (!entry.contains("dtype")) continue;
      SCOPED_TRACE(path);
      expect_tensor(file.read("/" + path), entry);
      ++compared;
    }
  }
  EXPECT_GE(compared, 9);
}

TEST_F(Hdf5Files, ComputationalSequenceHasTheLabelsOfAllVideos) {
  const hdf5::ComputationalSequence labels(test::format_files() / "CMU_MOSI_Labels.csd");
  EXPECT_EQ(labels.root(), "Opinion Segment Labels");
  EXPECT_GE(labels.ids().size(), 93u);
  const hdf5::Clip clip = labels.clip("03bSnISJMiM");
  EXPECT_EQ(clip.features.shape(), (Shape{13, 1}));
  EXPECT_EQ(clip.intervals.shape(), (Shape{13, 2}));
  EXPECT_FLOAT_EQ(clip.features.data<float>()[0], 2.4F);
  EXPECT_NEAR(clip.intervals.data<double>()[0], 51.90453338623047, 1e-12);
  const auto version = nlohmann::json::parse(labels.metadata("computational sequence version"));
  EXPECT_FALSE(version.is_null());
  EXPECT_EQ(labels.metadata("no such key"), "");
}

TEST_F(Hdf5Files, MissingObjectsAreNamed) {
  const hdf5::File file(test::format_files() / "mfn_youtube_audio_valid.h5");
  EXPECT_THAT([&] { file.read("/d2"); }, ThrowsMessage<Error>(HasSubstr("'/d2'")));
  EXPECT_THAT([&] { file.list("/nothing"); }, ThrowsMessage<Error>(HasSubstr("'/nothing'")));
  EXPECT_THAT([&] { file.read_strings("/d1"); }, ThrowsMessage<Error>(HasSubstr("strings")));
  EXPECT_THAT(
      [] { hdf5::ComputationalSequence(test::format_files() / "mfn_youtube_audio_valid.h5"); },
      ThrowsMessage<Error>(HasSubstr("computational sequence")));
}

TEST_F(Hdf5Files, TruncatedFileIsRefused) {
  const test::ScratchDirectory scratch;
  const std::string bytes = test::read_bytes(test::format_files() / "mfn_youtube_audio_valid.h5");
  for (const std::size_t size : {8, 100, 1000, 100000}) {
    const auto path = scratch.path() / "cut.h5";
    std::ofstream(path, std::ios::binary).write(bytes.data(), size);
    EXPECT_THROW(hdf5::File(path).read("/d1"), Error) << size;
  }
}

TEST(Hdf5, OtherFilesAreRefused) {
  EXPECT_THAT([] { hdf5::File(std::filesystem::path(CMIR_SOURCE_DIR) / "CMakeLists.txt"); },
              ThrowsMessage<Error>(HasSubstr("not an HDF5 file")));
  EXPECT_THAT([] { hdf5::File("/nonexistent.h5"); },
              ThrowsMessage<Error>(HasSubstr("no such file")));
}

TEST(Hdf5, StringsAndIntegersOfEveryWidth) {
  const test::ScratchDirectory scratch;
  const auto path = scratch.path() / "made.h5";
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  const auto write = [&](const char* name, hid_t type, hsize_t count, const void* values) {
    const hid_t space = H5Screate_simple(1, &count, nullptr);
    const hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    H5Dclose(set);
    H5Sclose(space);
  };
  const hid_t fixed = H5Tcopy(H5T_C_S1);
  H5Tset_size(fixed, 4);
  write("fixed", fixed, 2, "sp\0\0word");
  const hid_t variable = H5Tcopy(H5T_C_S1);
  H5Tset_size(variable, H5T_VARIABLE);
  const char* const texts[] = {"{\"a\": 1}", "", "longer text"};
  write("variable", variable, 3, texts);
  const std::int16_t shorts[] = {-3, 7};
  write("i16", H5T_NATIVE_INT16, 2, shorts);
  const std::uint8_t bytes[] = {0, 255};
  write("u8", H5T_NATIVE_UINT8, 2, bytes);
  const std::int64_t longs[] = {-(std::int64_t{1} << 40), 5};
  write("i64", H5T_NATIVE_INT64, 2, longs);
  H5Tclose(fixed);
  H5Tclose(variable);
  H5Fclose(file);

  const hdf5::File made(path);
  EXPECT_THAT(made.list("/"), ElementsAre("fixed", "i16", "i64", "u8", "variable"));
  EXPECT_THAT(made.read_strings("/fixed"), ElementsAre("sp", "word"));
  EXPECT_THAT(made.read_strings("/variable"), ElementsAre("{\"a\": 1}", "", "longer text"));
  EXPECT_THAT(made.read("/i16").span<std::int32_t>(), ElementsAre(-3, 7));
  EXPECT_THAT(made.read("/u8").span<std::uint8_t>(), ElementsAre(0, 255));
  EXPECT_THAT(made.read("/i64").span<std::int64_t>(), ElementsAre(longs[0], 5));
  EXPECT_THAT([&] { made.read("/fixed"); }, ThrowsMessage<Error>(HasSubstr("numbers")));
  EXPECT_TRUE(made.is_dataset("/u8"));
  EXPECT_FALSE(made.is_group("/u8"));
}

TEST(Hdf5, SizeBeyondTheFileIsRefusedBeforeMemoryIsTaken) {
  const test::ScratchDirectory scratch;
  const auto path = scratch.path() / "huge.h5";
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  const hsize_t sizes[] = {hsize_t{1} << 30, hsize_t{1} << 20};
  const hsize_t chunk[] = {16, 16};
  const hid_t space = H5Screate_simple(2, sizes, nullptr);
  const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_chunk(properties, 2, chunk);
  H5Dclose(H5Dcreate2(file, "x", H5T_NATIVE_DOUBLE, space, H5P_DEFAULT, properties, H5P_DEFAULT));
  H5Pclose(properties);
  H5Sclose(space);
  H5Fclose(file);
  EXPECT_THAT([&] { hdf5::File(path).read("/x"); }, ThrowsMessage<Error>(HasSubstr("claims")));
}

}  // namespace
}  // namespace cmir
