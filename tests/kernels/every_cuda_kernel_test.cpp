// Whether the tests of this program ran every CUDA kernel of the tree on the host model.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "kernels/simt/grid.h"

namespace cmir {
namespace {

/// The names of the __global__ functions in the sources below kernels.
std::set<std::string> kernels_in_the_tree() {
  const std::regex declaration(R"(__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\()");
  std::set<std::string> names;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(CMIR_SOURCE_DIR "/kernels")) {
    const auto extension = entry.path().extension();
    if (extension != ".cu" && extension != ".cuh") continue;
    std::ifstream file(entry.path());
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    for (std::sregex_iterator match(text.begin(), text.end(), declaration), end; match != end;
         ++match) {
      names.insert((*match)[1]);
    }
  }
  return names;
}

/// After the program's last test, and only where CMIR_EVERY_KERNEL asks: a run of some tests cannot
/// have run every kernel.
class EveryCudaKernel : public ::testing::Environment {
  void TearDown() override {
    if (std::getenv("CMIR_EVERY_KERNEL") == nullptr) return;
    const std::set<std::string> all = kernels_in_the_tree();
    std::set<std::string> ran = kernels::simt::kernels_run();
    std::erase_if(ran, [&](const std::string& name) { return !all.contains(name); });  // the tests'
    fmt::print("{} of {} CUDA kernels ran on the host model: {}\n", ran.size(), all.size(),
               fmt::join(ran, ", "));
    EXPECT_EQ(ran, all);
  }
};
[[maybe_unused]] const auto* const registered =
    ::testing::AddGlobalTestEnvironment(new EveryCudaKernel);

}  // namespace
}  // namespace cmir
