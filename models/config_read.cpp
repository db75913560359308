// Configurations from TOML, JSON and assignments; every message names the key and where it stands.
#include <fmt/ranges.h>
#include <toml++/toml.h>

#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "core/error.h"
#include "core/nearest_name.h"
#include "models/config_keys.h"

namespace cmir {
namespace {

using namespace config_keys;
using Json = nlohmann::ordered_json;

/// Every key as messages name it: "loss.environments", "data.modalities.dropout".
std::vector<std::string> all_keys() {
  std::vector<std::string> keys;
  const auto add = [&](const std::string& prefix, const auto& table) {
    for (const auto& field : fields(table)) keys.push_back(fmt::format("{}.{}", prefix, field.key));
  };
  const Config defaults;
  for_each_section(defaults, [&](std::string_view name, const auto& section) {
    add(std::string(name), section);
    for_nested(section, [&](std::string_view list, const auto& tables) {
      add(fmt::format("{}.{}", name, list), typename std::decay_t<decltype(tables)>::value_type{});
    });
  });
  return keys;
}

[[noreturn]] void fail_unknown(std::string_view where, std::string key) {
  if (key.size() > 200) key = key.substr(0, 200) + "...";
  std::vector<std::string> names = all_keys();
  const Config defaults;
  for_each_section(defaults, [&](std::string_view name, const auto&) { names.emplace_back(name); });
  fail(ErrorKind::usage, where, "unknown key '{}'; did you mean '{}'?", key,
       nearest_name(key, names));
}

std::string type_name(const Json& value) {
  if (value.is_boolean()) return "a boolean";
  if (value.is_number_integer()) return "an integer";
  if (value.is_number_float()) return "a number";
  if (value.is_string()) return "a string";
  return value.is_array() ? "a list" : value.is_object() ? "a table" : "a date or null";
}

/// `value` as a T, or nothing where the type differs. Integers serve as numbers, not the reverse.
template <class T>
std::optional<T> as(const Json& value) {
  if constexpr (std::is_same_v<T, bool>) {
    if (value.is_boolean()) return value.get<bool>();
  } else if constexpr (std::is_same_v<T, std::int64_t>) {
    const bool fits =
        !value.is_number_unsigned() ||
        value.get<std::uint64_t>() <= static_cast<std::uint64_t>(std::numeric_limits<T>::max());
    if (value.is_number_integer() && fits) return value.get<std::int64_t>();
  } else if constexpr (std::is_same_v<T, double>) {
    if (value.is_number()) return value.get<double>();
  } else if constexpr (std::is_same_v<T, std::string>) {
    if (value.is_string()) return value.get<std::string>();
  } else {
    if (!value.is_array()) return std::nullopt;
    T list;
    for (const Json& element : value) {
      const auto one = as<typename T::value_type>(element);
      if (!one) return std::nullopt;
      list.push_back(*one);
    }
    return list;
  }
  return std::nullopt;
}

template <class T>
constexpr std::string_view kTypeName = "a list of integers";
template <>
constexpr std::string_view kTypeName<bool> = "true or false";
template <>
constexpr std::string_view kTypeName<std::int64_t> = "an integer";
template <>
constexpr std::string_view kTypeName<double> = "a number";
template <>
constexpr std::string_view kTypeName<std::string> = "a string";

bool is_allowed(const Allowed& allowed, double value) {
  return value >= allowed.low && value <= allowed.high;  // NaN is not
}
bool is_allowed(const Allowed& allowed, bool) { return allowed.choices.empty(); }
bool is_allowed(const Allowed& allowed, const std::string& value) {
  if (std::ranges::any_of(value, [](unsigned char c) { return c < 0x20 || c == 0x7F; }))
    return false;
  try {
    (void)Json(value).dump();
  } catch (const Json::type_error&) {  // no UTF-8: neither TOML nor JSON could hold it
    return false;
  }
  return allowed.choices.empty() ||
         std::ranges::find(allowed.choices, value) != allowed.choices.end();
}
bool is_allowed(const Allowed& allowed, const std::vector<std::int64_t>& values) {
  return !values.empty() && std::ranges::all_of(values, [&](std::int64_t v) {
    return is_allowed(allowed, static_cast<double>(v));
  });
}

std::string shown(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 200);
}

template <class Section>
void assign(Section& section, const Field<Section>& field, const Json& value,
            std::string_view where, std::string_view name) {
  std::visit(
      [&]<class T>(T Section::*member) {
        const std::optional<T> converted = as<T>(value);
        require(converted.has_value(), where, "'{}' must be {}, not {} ({})", name, kTypeName<T>,
                type_name(value), shown(value));
        bool allowed = false;
        if constexpr (std::is_same_v<T, std::int64_t>) {
          allowed = is_allowed(field.allowed, static_cast<double>(*converted));
        } else {
          allowed = is_allowed(field.allowed, *converted);
        }
        require(allowed, where, "'{}' = {} is not allowed; allowed: {}", name, shown(value),
                field.allowed.describe());
        section.*member = *converted;
      },
      field.member);
}

/// Where in the source a path of keys and indices ("data.modalities.0.dropout") was written.
using Locate = std::function<std::string(const std::string& path)>;

/// Reads the keys of one table; `path` is where it stands, `name` what messages call it (paths have
/// list indices, names do not).
template <class Section>
void read_table(Section& section, const Json& json, const std::string& path,
                const std::string& name, const Locate& locate) {
  require(json.is_object(), locate(path), "'{}' must be a table, not {}", name, type_name(json));
  for (const auto& item :
       json.items()) {  // not taken apart: clang's lambdas could not capture the parts
    const std::string& key = item.key();
    const Json& value = item.value();
    const std::string key_path = path + "." + key;
    const std::string key_name = name + "." + key;
    if (const auto* field = find_field(section, key)) {
      assign(section, *field, value, locate(key_path), key_name);
      continue;
    }
    bool is_list = false;
    for_nested(section, [&](std::string_view list, auto& tables) {
      if (list != key) return;
      is_list = true;
      require(value.is_array(), locate(key_path), "'{}' must be a list of tables: [[{}]]", key_name,
              key_name);
      tables.clear();
      for (std::size_t i = 0; i < value.size(); ++i) {
        read_table(tables.emplace_back(), value[i], fmt::format("{}.{}", key_path, i), key_name,
                   locate);
      }
    });
    if (!is_list) fail_unknown(locate(key_path), key_name);
  }
}

Config read_config(const Json& json, std::string_view origin, const Locate& locate) {
  Config config;
  require(json.is_object(), origin, "a configuration must be a table, not {}", type_name(json));
  for (const auto& item : json.items()) {
    const std::string& key = item.key();
    const Json& value = item.value();
    bool known = false;
    for_each_section(config, [&](std::string_view name, auto& section) {
      if (name != key) return;
      known = true;
      read_table(section, value, key, key, locate);
    });
    if (!known) fail_unknown(locate(key), key);
  }
  try {
    validate(config);
  } catch (const Error& error) {
    throw Error(error.kind(), origin, error.what());
  }
  return config;
}

/// A TOML node as JSON; `lines` gets the line of every path below it.
Json to_json_with_lines(const toml::node& node, const std::string& path,
                        std::map<std::string, std::size_t>& lines) {
  lines[path] = node.source().begin.line;
  if (const auto* table = node.as_table()) {
    Json json = Json::object();
    for (const auto& [key, value] : *table) {
      const std::string name(key.str());
      json[name] = to_json_with_lines(value, path.empty() ? name : path + "." + name, lines);
    }
    return json;
  }
  if (const auto* array = node.as_array()) {
    Json json = Json::array();
    for (const toml::node& value : *array) {
      json.push_back(to_json_with_lines(value, fmt::format("{}.{}", path, json.size()), lines));
    }
    return json;
  }
  if (const auto* value = node.as_boolean()) return value->get();
  if (const auto* value = node.as_integer()) return value->get();
  if (const auto* value = node.as_floating_point()) return value->get();
  if (const auto* value = node.as_string()) return value->get();
  return nullptr;  // dates and times: no key takes one
}

/// The value of an assignment: TOML where it parses, else the text itself.
Json parse_value(std::string_view text) {
  try {
    const toml::table table = toml::parse(fmt::format("value = {}", text));
    std::map<std::string, std::size_t> lines;
    if (table.size() == 1) return to_json_with_lines(*table.get("value"), "value", lines);
  } catch (const toml::parse_error&) {  // a bare word
  }
  return std::string(text);
}

/// The table called `name` in a list; a list of modalities must have it, a parameter group is made.
ModalityConfig& named(std::vector<ModalityConfig>& modalities, std::string_view name) {
  for (ModalityConfig& modality : modalities) {
    if (modality.name == name) return modality;
  }
  std::vector<std::string> names;
  for (const ModalityConfig& modality : modalities) names.push_back(modality.name);
  fail(ErrorKind::usage, "config", "no modality is called '{}'; there are: {}", name,
       fmt::join(names, ", "));
}
ParameterGroupConfig& named(std::vector<ParameterGroupConfig>& groups, std::string_view name) {
  for (ParameterGroupConfig& group : groups) {
    if (group.name == name) return group;
  }
  groups.push_back({.name = std::string(name)});
  return groups.back();
}

/// Applies key = value below one section; false if the section has no such key.
template <class Section>
bool override_key(Section& section, std::string_view key, const Json& value,
                  const std::string& full_name) {
  if (const auto* field = find_field(section, key)) {
    assign(section, *field, value, "config", full_name);
    return true;
  }
  bool done = false;
  for_nested(section, [&](std::string_view list, auto& tables) {
    const auto dot = key.rfind('.');
    if (!key.starts_with(fmt::format("{}.", list)) || dot <= list.size()) return;
    const std::string_view table = key.substr(list.size() + 1, dot - list.size() - 1);
    typename std::decay_t<decltype(tables)>::value_type probe;
    if (find_field(probe, key.substr(dot + 1)) == nullptr) return;
    done = override_key(named(tables, table), key.substr(dot + 1), value, full_name);
  });
  return done;
}

}  // namespace

Config parse_config(std::string_view toml_text, std::string_view origin) {
  toml::table table;
  try {
    table = toml::parse(toml_text, origin);
  } catch (const toml::parse_error& error) {
    fail(ErrorKind::usage, fmt::format("{}:{}", origin, error.source().begin.line), "{}",
         error.description());
  }
  std::map<std::string, std::size_t> lines;
  const Json json = to_json_with_lines(table, "", lines);
  return read_config(json, origin, [&](const std::string& path) {
    const auto line = lines.find(path);
    return line == lines.end() ? std::string(origin) : fmt::format("{}:{}", origin, line->second);
  });
}

Config load_config(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  if (!stream) fail(ErrorKind::io, "config", "cannot read '{}'", file.string());
  return parse_config(text.str(), file.string());
}

Config config_from_json(const Json& json, std::string_view origin) {
  return read_config(json, origin, [&](const std::string&) { return std::string(origin); });
}

void apply_override(Config& config, std::string_view assignment) {
  const auto equals = assignment.find('=');
  require(equals != std::string_view::npos, "config",
          "'{}' is no assignment; write section.key=value", assignment);
  const auto trim = [](std::string_view text) {
    const auto begin = text.find_first_not_of(" \t");
    return begin == std::string_view::npos
               ? ""
               : text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
  };
  const std::string key(trim(assignment.substr(0, equals)));
  const Json value = parse_value(trim(assignment.substr(equals + 1)));
  bool done = false;
  for_each_section(config, [&](std::string_view name, auto& section) {
    if (key.starts_with(fmt::format("{}.", name))) {
      done = override_key(section, std::string_view(key).substr(name.size() + 1), value, key);
    }
  });
  if (!done) fail_unknown("config", key);
}

}  // namespace cmir
