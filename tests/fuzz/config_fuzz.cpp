#include <nlohmann/json.hpp>
#include <stdexcept>

#include "models/config.h"
#include "tests/fuzz/fuzz_target.h"

namespace cmir {
namespace {

/// Bytes are a TOML file; the first line, where it is a comment, is tried as an override as well.
void fuzz(std::span<const std::byte> bytes) {
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const Config config = parse_config(text, "fuzz");
  if (parse_config(to_toml(config), "written") != config ||
      config_from_json(to_json(config), "json") != config) {
    throw std::logic_error("an accepted configuration does not round trip");
  }
  if (text.starts_with("#")) {
    Config overridden = config;
    apply_override(overridden, std::string_view(text).substr(1, text.find('\n') - 1));
  }
}

const bool registered = fuzz::register_target("config", &fuzz);

}  // namespace
}  // namespace cmir
