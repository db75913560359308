// Replays every kept input through its fuzz target.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "core/error.h"
#include "tests/fuzz/fuzz_target.h"

namespace cmir {
namespace {

TEST(FuzzCorpus, EveryInputIsReadOrRefused) {
  ASSERT_FALSE(fuzz::targets().empty());
  for (const auto& [name, target] : fuzz::targets()) {
    const auto corpus = std::filesystem::path(CMIR_SOURCE_DIR) / "tests/fuzz/corpus" / name;
    ASSERT_TRUE(std::filesystem::is_directory(corpus))
        << "fuzz target '" << name << "' has no corpus";
    int accepted = 0, refused = 0;
    for (const auto& file : std::filesystem::directory_iterator(corpus)) {
      SCOPED_TRACE(file.path().string());
      std::ifstream stream(file.path(), std::ios::binary);
      const std::vector<char> bytes(std::istreambuf_iterator<char>(stream), {});
      try {
        target(std::as_bytes(std::span(bytes)));
        ++accepted;
      } catch (const Error&) {
        ++refused;
      }
    }
    // A target that refuses everything, or nothing, tests only half of a reader.
    EXPECT_GT(accepted, 0) << name;
    EXPECT_GT(refused, 0) << name;
  }
}

}  // namespace
}  // namespace cmir
