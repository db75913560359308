// The files as users have them, and what is expected in them; shared by the tests of the readers.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace cmir::test {

/// The folder of format samples, or "" when the data is not on this machine.
inline std::filesystem::path format_files() {
  const char* variable = std::getenv("CMIR_DATA");
  const std::filesystem::path data =
      variable != nullptr ? std::filesystem::path(variable)
                          : std::filesystem::path(CMIR_SOURCE_DIR) / ".." / "shared" / "data";
  return std::filesystem::exists(data / "formats" / "expected.json") ? data / "formats"
                                                                     : std::filesystem::path();
}

inline nlohmann::json expected_values() {
  std::ifstream stream(format_files() / "expected.json");
  return nlohmann::json::parse(stream);
}

inline std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(stream), {});
}

/// A new empty directory, removed at the end.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "cmir-import-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~ScratchDirectory() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace cmir::test
