// The configurations that are shipped, and where they lie.
#include <fmt/ranges.h>

#include <set>

#include "core/error.h"
#include "models/config.h"

namespace cmir {
namespace {

std::vector<std::filesystem::path> config_directories() {
  std::error_code ignored;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", ignored);
  return {program.parent_path() / "configs", program.parent_path() / "../share/cmir/configs",
          CMIR_CONFIG_DIR};
}

}  // namespace

std::filesystem::path find_config(std::string_view name_or_path) {
  const std::filesystem::path given(name_or_path);
  if (std::filesystem::is_regular_file(given)) return given;
  std::string name(name_or_path);
  if (!name.ends_with(".toml")) name += ".toml";
  for (const auto& directory : config_directories()) {
    if (std::filesystem::is_regular_file(directory / name)) return directory / name;
  }
  fail(ErrorKind::io, "config",
       "there is no file '{}' and no shipped configuration of that name; shipped: {}", name_or_path,
       fmt::join(shipped_configs(), ", "));
}

std::vector<std::string> shipped_configs() {
  std::set<std::string> names;
  for (const auto& directory : config_directories()) {
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(directory, ignored)) {
      if (entry.path().extension() == ".toml") names.insert(entry.path().stem().string());
    }
  }
  return {names.begin(), names.end()};
}

}  // namespace cmir
