// Shared by the tests of models/data: small data sets, scratch folders, the real data where it is
// present.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include "models/data/dataset.h"

namespace cmir::test {

/// The folder of the real data sets, or "" when it is not on this machine.
inline std::string real_data() {
  const char* variable = std::getenv("CMIR_DATA");
  const std::string folder = variable != nullptr ? variable : CMIR_SOURCE_DIR "/../shared/data";
  return std::filesystem::exists(folder + "/mosi_utt") ? folder : "";
}

class ScratchFolder {
 public:
  ScratchFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "cmir-data-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder() { std::filesystem::remove_all(path_); }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// The message of the Error that `body` throws; "" when it throws none.
template <class F>
std::string error_of(F&& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

/// Six samples of three videos: dense "text" [6, 2], ragged "audio" (0 to 3 steps of width 3),
/// tokens "words", both kinds of label, a split with all parts and folds.
inline Dataset tiny_dataset() {
  Dataset d;
  d.name = "tiny";
  d.task = "test";
  d.source = "written here";
  d.licence = "none";
  d.caveats = {"tiny"};
  d.ids = {"a_1", "a_2", "b_1", "b_2", "c_1", "c_2"};
  d.texts = {"zero", "one", "two", "three", "four", "five"};
  d.vocabulary = {"<pad>", "good", "bad"};
  d.features["text"] = {
      Tensor::from({1.F, 10.F, 2.F, 20.F, 3.F, 30.F, 4.F, 40.F, 5.F, 50.F, 6.F, 60.F}, {6, 2}), {}};
  Tensor steps = Tensor::empty({9, 3});
  for (int i = 0; i < 27; ++i) steps.mutable_data<float>()[i] = static_cast<float>(i);
  d.features["audio"] = {steps, Tensor::from<std::int64_t>({0, 2, 3, 3, 6, 8, 9}, {7})};
  d.tokens["words"] = {Tensor::from<std::int32_t>({1, 2, 1, 2, 2, 1, 1}, {7}),
                       Tensor::from<std::int64_t>({0, 1, 2, 3, 5, 6, 7}, {7})};
  d.embeddings["glove"] = Tensor::from({0.F, 0.F, 1.F, 2.F, -1.F, -2.F}, {3, 2});
  d.labels["reg"] = {Tensor::from({-3.F, -1.F, 0.F, 1.F, 2.F, 3.F}, {6}), LabelKind::regression, -3,
                     3};
  d.labels["bin"] = {Tensor::from<std::int32_t>({0, 0, 1, 1, 1, 1}, {6}), LabelKind::binary, 0, 1};
  d.splits["main"] = Tensor::from<std::int32_t>({0, 0, 1, 2, 2, 3}, {6});
  d.folds["five"] = Tensor::from<std::int32_t>({0, 1, 2, 0, 1, 2}, {6});
  d.extras["segment_index"] = Tensor::from<std::int32_t>({1, 2, 1, 2, 1, 2}, {6});
  d.group = Tensor::from<std::int32_t>({0, 0, 1, 1, 2, 2}, {6});
  d.group_names = {"a", "b", "c"};
  return d;
}

/// The same dtype, shape and bytes.
inline bool same_bits(const Tensor& a, const Tensor& b) {
  if (a.defined() != b.defined()) return false;
  if (!a.defined()) return true;
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         (a.bytes() == 0 || std::memcmp(a.raw(), b.raw(), a.bytes()) == 0);
}

}  // namespace cmir::test
