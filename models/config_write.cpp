// Configurations as TOML and JSON, and the explanation of every key.
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/config_keys.h"

namespace cmir {
namespace {

using namespace config_keys;
using Json = nlohmann::ordered_json;

/// A value as TOML. JSON's notation is TOML's for strings, booleans, integers, lists and shortest
/// doubles ("1e-05", "0.1", "1.0").
std::string toml_value(const Json& value) { return value.dump(); }

template <class Section>
Json value_of(const Section& section, const Field<Section>& field) {
  return std::visit([&](auto member) { return Json(section.*member); }, field.member);
}

template <class Section>
void write_table(std::string& out, const Section& section, bool with_comments) {
  for (const auto& field : fields(section)) {
    if (with_comments) {
      const std::string allowed = field.allowed.describe();
      out += fmt::format("# {}{}\n", field.comment,
                         allowed == "any" ? "" : fmt::format(" ({})", allowed));
    }
    out += fmt::format("{} = {}\n", field.key, toml_value(value_of(section, field)));
  }
}

template <class Section>
Json table_to_json(const Section& section) {
  Json json = Json::object();
  for (const auto& field : fields(section)) json[std::string(field.key)] = value_of(section, field);
  for_nested(section, [&](std::string_view list, const auto& tables) {
    Json array = Json::array();
    for (const auto& table : tables) array.push_back(table_to_json(table));
    json[std::string(list)] = std::move(array);
  });
  return json;
}

}  // namespace

std::string to_toml(const Config& config, bool with_comments) {
  std::string out;
  for_each_section(config, [&](std::string_view name, const auto& section) {
    out += fmt::format("{}[{}]\n", out.empty() ? "" : "\n", name);
    write_table(out, section, with_comments);
    for_nested(section, [&](std::string_view list, const auto& tables) {
      for (const auto& table : tables) {
        out += fmt::format("\n[[{}.{}]]\n", name, list);
        write_table(out, table, with_comments);
      }
    });
  });
  return out;
}

Json to_json(const Config& config) {
  Json json = Json::object();
  for_each_section(config, [&](std::string_view name, const auto& section) {
    json[std::string(name)] = table_to_json(section);
  });
  return json;
}

std::string config_help() {
  const Config defaults;
  std::string out;
  const auto describe = [&](const std::string& prefix, const auto& section) {
    for (const auto& field : fields(section)) {
      out += fmt::format("{}.{} = {}  ({})\n    {}\n", prefix, field.key,
                         toml_value(value_of(section, field)), field.allowed.describe(),
                         field.comment);
    }
  };
  for_each_section(defaults, [&](std::string_view name, const auto& section) {
    describe(std::string(name), section);
    for_nested(section, [&](std::string_view list, const auto& tables) {
      describe(fmt::format("{}.{}.NAME", name, list),
               typename std::decay_t<decltype(tables)>::value_type{});
    });
  });
  return out;
}

}  // namespace cmir
