#include "core/formats/safetensors.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <fstream>

#include "core/formats/file.h"

namespace cmir {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

class Files : public ::testing::Test {
 protected:
  void SetUp() override { fs::create_directories(directory_); }
  void TearDown() override { fs::remove_all(directory_); }
  fs::path path(const std::string& name) const { return directory_ / name; }
  std::size_t file_count() const {
    return std::distance(fs::directory_iterator(directory_), fs::directory_iterator());
  }
  static std::string content(const fs::path& file) {
    std::ifstream stream(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
  }

 private:
  fs::path directory_ =
      fs::temp_directory_path() /
      fmt::format("cmir-{}-{}", ::getpid(),
                  ::testing::UnitTest::GetInstance()->current_test_info()->name());
};
using SafeTensorsFile = Files;
using AtomicFile = Files;

TEST_F(SafeTensorsFile, ReadsBackWhatWasWritten) {
  const std::vector<std::pair<std::string, Tensor>> tensors = {
      {"mask", Tensor::from<std::uint8_t>({1, 0, 1}, {3})},
      {"weight", Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3})},
      {"step", Tensor::from<std::int64_t>({-7}, {})},
      {"half", Tensor::full({5}, 1.5, DType::bf16)},
      {"mean", Tensor::from<double>({0.1}, {1})},
      {"index", Tensor::from<std::int32_t>({3, -1}, {2})},
      {"empty \"quoted\" \xC3\xA9", Tensor::zeros({0, 4})}};
  write_safetensors(path("a.safetensors"), tensors, {{"config", "seed = 1\n"}, {"format", "pt"}});
  const auto file = SafeTensors::open(path("a.safetensors"));
  EXPECT_EQ(file.names().size(), tensors.size());
  EXPECT_EQ(file.metadata().at("config"), "seed = 1\n");
  for (const auto& [name, tensor] : tensors) {
    ASSERT_TRUE(file.contains(name));
    const Tensor read = file.at(name);
    EXPECT_EQ(read.describe(), tensor.describe());
    EXPECT_EQ(read.to_vector(), tensor.to_vector());
    EXPECT_THROW(Tensor(read).mutable_raw(), Error) << "mapped, so read-only: " << name;
  }
  EXPECT_EQ(file.tensors().size(), tensors.size());
  EXPECT_EQ(file_count(), 1U);
}

TEST_F(SafeTensorsFile, ATensorOutlivesTheFileObjectAndTheFile) {
  Tensor tensor;
  {
    write_safetensors(path("a"), {{"x", Tensor::from<float>({1, 2}, {2})}});
    tensor = SafeTensors::open(path("a")).at("x");
  }
  write_safetensors(path("a"), {{"x", Tensor::from<float>({3, 4}, {2})}});
  EXPECT_THAT(tensor.to_vector(), ElementsAre(1, 2));
  fs::remove(path("a"));
  EXPECT_THAT(tensor.to_vector(), ElementsAre(1, 2));
}

TEST_F(SafeTensorsFile, RefusesToWriteWhatCouldNotBeRead) {
  const Tensor x = Tensor::zeros({1});
  EXPECT_THROW(write_safetensors(path("a"), {{"x", x}, {"x", x}}), Error);
  EXPECT_THROW(write_safetensors(path("a"), {{"__metadata__", x}}), Error);
  EXPECT_THROW(write_safetensors(path("a"), {{"x", Tensor()}}), Error);
  EXPECT_THROW(write_safetensors(path("a"), {{"\xFF", x}}), Error);
  EXPECT_EQ(file_count(), 0U);
}

// ---- Lies
// ---------------------------------------------------------------------------------------------------

std::string file_of(std::string_view header, std::size_t data, std::uint64_t claimed) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &claimed, 8);
  return bytes.append(header).append(data, '\0');
}
std::string file_of(std::string_view header, std::size_t data) {
  return file_of(header, data, header.size());
}

SafeTensors parse(const std::string& bytes) {
  const auto owner = std::make_shared<const std::string>(bytes);
  return SafeTensors::parse(std::as_bytes(std::span(*owner)), owner, "lie");
}
std::string refusal(const std::string& bytes) {
  try {
    parse(bytes);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data);
    return error.what();
  }
  return "no error";
}
std::string tensor(std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return fmt::format(R"({{"a":{{"dtype":"{}","shape":{},"data_offsets":{}}}}})", dtype, shape,
                     offsets);
}

TEST(SafeTensorsLies, TheHeaderLength) {
  EXPECT_THAT(refusal(""), HasSubstr("too few"));
  EXPECT_THAT(refusal("1234567"), HasSubstr("too few"));
  EXPECT_THAT(refusal(file_of("{}", 0, 3)), HasSubstr("claims 3 bytes, the file has 2"));
  EXPECT_THAT(refusal(file_of("{}", 0, std::uint64_t{1} << 63)),
              HasSubstr("claims 9223372036854775808"));
  EXPECT_THAT(refusal(file_of("{}", 0, ~std::uint64_t{0})), HasSubstr("claims"));
  EXPECT_THAT(refusal(file_of("", 0)), HasSubstr("does not start with '{'"));
}

TEST(SafeTensorsLies, TheJson) {
  EXPECT_THAT(refusal(file_of("[]", 0)), HasSubstr("does not start with '{'"));
  EXPECT_THAT(refusal(file_of("{", 0)), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal(file_of("{}x", 0)), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal(file_of("{\"\xFF\":1}", 0)), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal(file_of("{\"a\":" + std::string(100000, '['), 0)),
              HasSubstr("nested deeper"));
  EXPECT_THAT(refusal(file_of(R"({"a":1})", 0)),
              HasSubstr("exactly dtype, shape and data_offsets"));
  EXPECT_THAT(refusal(file_of(R"({"__metadata__":{"a":1}})", 0)), HasSubstr("is no text"));
  EXPECT_THAT(refusal(file_of(R"({"__metadata__":[]})", 0)), HasSubstr("is no map"));
  EXPECT_EQ(parse(file_of("{}   ", 0)).names().size(), 0U);  // padding is allowed
}

TEST(SafeTensorsLies, DuplicateNames) {
  const std::string entry = R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  EXPECT_THAT(refusal(file_of("{" + entry + "," + entry + "}", 1)),
              HasSubstr("the name 'a' twice"));
  EXPECT_THAT(
      refusal(file_of(R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1)),
      HasSubstr("the name 'dtype' twice"));
}

TEST(SafeTensorsLies, DTypesAndShapes) {
  EXPECT_THAT(refusal(file_of(tensor("F31", "[1]", "[0,4]"), 4)), HasSubstr("unknown dtype 'F31'"));
  EXPECT_THAT(refusal(file_of(tensor("F32", "[-1]", "[0,4]"), 4)), HasSubstr("-1 is no integer"));
  EXPECT_THAT(refusal(file_of(tensor("F32", "[1.0]", "[0,4]"), 4)), HasSubstr("1.0 is no integer"));
  EXPECT_THAT(refusal(file_of(tensor("F32", "4", "[0,4]"), 4)), HasSubstr("list of integers"));
  EXPECT_THAT(refusal(file_of(tensor("F32", "[9223372036854775808]", "[0,4]"), 4)),
              HasSubstr("no integer"));
  EXPECT_THAT(refusal(file_of(tensor("F32", "[4611686018427387904,4]", "[0,4]"), 4)),
              HasSubstr("overflows"));
  EXPECT_THAT(refusal(file_of(tensor("F32", "[4611686018427387905]", "[0,4]"), 4)),
              HasSubstr("are not"));
  EXPECT_THAT(refusal(file_of(tensor("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4)),
              HasSubstr("rank 9"));
  EXPECT_THAT(refusal(file_of(tensor("F32", "[2]", "[0,4]"), 4)),
              HasSubstr("4 bytes are not [2] elements of F32"));
}

TEST(SafeTensorsLies, Offsets) {
  EXPECT_THAT(refusal(file_of(tensor("U8", "[4]", "[4,0]"), 4)),
              HasSubstr("[4, 0) are not within"));
  EXPECT_THAT(refusal(file_of(tensor("U8", "[4]", "[0,4]"), 3)),
              HasSubstr("not within the 3 bytes"));
  EXPECT_THAT(refusal(file_of(tensor("U8", "[4]", "[0]"), 4)), HasSubstr("2 data_offsets"));
  EXPECT_THAT(refusal(file_of(tensor("U8", "[4]", "[1,5]"), 5)), HasSubstr("gap"));
  EXPECT_THAT(refusal(file_of(tensor("U8", "[4]", "[0,4]"), 5)),
              HasSubstr("end at byte 4, its data at 5"));
  EXPECT_THAT(refusal(file_of("{}", 1)), HasSubstr("end at byte 0, its data at 1"));
  const auto two = [](int begin, int end) {
    return file_of(fmt::format(R"({{"a":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}},)"
                               R"("b":{{"dtype":"U8","shape":[4],"data_offsets":[{},{}]}}}})",
                               begin, end),
                   end);
  };
  EXPECT_THAT(refusal(two(2, 6)), HasSubstr("overlap"));
  EXPECT_THAT(refusal(two(5, 9)), HasSubstr("gap"));
  EXPECT_EQ(refusal(two(4, 8)), "no error");
}

TEST(SafeTensorsLies, EveryTruncationOfAFileIsRefused) {
  const std::string whole = file_of(tensor("F32", "[3]", "[0,12]"), 12);
  EXPECT_EQ(refusal(whole), "no error");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_NE(refusal(whole.substr(0, size)), "no error") << size;
  }
}

TEST(SafeTensors, AMisalignedTensorIsCopied) {
  const auto file = parse(file_of(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                  R"("b":{"dtype":"F64","shape":[1],"data_offsets":[1,9]}})",
                                  9));
  Tensor b = file.at("b");
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(b.raw()) % 8, 0U);
  EXPECT_EQ(b.item(), 0);
}

TEST(SafeTensors, NamesTheNearestTensorAndTheUnsupportedDType) {
  const auto file =
      parse(file_of(R"({"weight":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}})", 2));
  const auto message = [&](const char* name) {
    try {
      file.at(name);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(message("wieght"), HasSubstr("the nearest is 'weight'"));
  EXPECT_THAT(message("weight"), HasSubstr("'weight' is F16, which is not supported"));
}

// Atomic writing

TEST_F(AtomicFile, ReplacesTheWholeFile) {
  write_file_atomically(path("report.json"), "a long first version");
  write_file_atomically(path("report.json"), "short");
  EXPECT_EQ(content(path("report.json")), "short");
  EXPECT_EQ(file_count(), 1U);
}

TEST_F(AtomicFile, WritesThroughLinksAndIntoPipesAndReplacesNeither) {
  fs::create_symlink("target", path("link"));  // leads to nothing yet
  write_file_atomically(path("link"), "one");
  EXPECT_TRUE(fs::is_symlink(path("link")));
  EXPECT_EQ(content(path("target")), "one");
  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  const int reader = open(path("pipe").c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  write_file_atomically(path("pipe"), "two");
  char text[8] = {};
  EXPECT_EQ(read(reader, text, sizeof text), 3);
  EXPECT_STREQ(text, "two");
  close(reader);
  EXPECT_TRUE(fs::is_fifo(path("pipe")));
}

TEST_F(AtomicFile, AFullDiskLeavesTheOldFileAndNoOther) {
  write_file_atomically(path("x"), "old");
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 1000;  // a write past it is first short, then refused, as on a full disk
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  ErrorKind kind{};
  try {
    write_file_atomically(path("x"), std::string(5000, 'n'));
  } catch (const Error& error) {
    kind = error.kind();
  }
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(kind, ErrorKind::io);
  EXPECT_EQ(content(path("x")), "old");
  EXPECT_EQ(file_count(), 1U);
}

TEST_F(AtomicFile, PathsThatCannotBeWrittenAreErrorsOfKindIo) {
  fs::create_directory(path("directory"));
  for (const auto& bad : {path("missing") / "x", path("directory")}) {
    try {
      write_file_atomically(bad, "text");
      ADD_FAILURE() << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::io);
      EXPECT_THAT(error.what(), HasSubstr(bad.string()));
    }
  }
  EXPECT_EQ(file_count(), 1U);
}

TEST_F(AtomicFile, MapsFilesAndRefusesOthers) {
  write_file_atomically(path("x"), "12345");
  EXPECT_EQ(MappedFile::open(path("x"))->bytes().size(), 5U);
  write_file_atomically(path("empty"), "");
  EXPECT_TRUE(MappedFile::open(path("empty"))->bytes().empty());
  EXPECT_THROW(MappedFile::open(path("")), Error);
  EXPECT_THROW(MappedFile::open(path("missing")), Error);
}

}  // namespace
}  // namespace cmir
