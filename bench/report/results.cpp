#include "bench/report/results.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>

#include "core/error.h"

namespace cmir::bench {
namespace {

/// A document's objects at depth 2 that are complete: those of the list "benchmarks", and before it
/// the context. They are read one by one, since Google Benchmark writes NaN into some aggregates,
/// which is no JSON, and since a program may be stopped at any place.
struct Parts {
  std::string_view context;
  std::vector<std::string_view> entries;
};
Parts parts_of(std::string_view text) {
  Parts parts;
  int depth = 0;
  std::size_t begin = 0;
  bool in_string = false, in_list = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth == 2) in_list = c == '[';
      if (depth == (in_list ? 3 : 2)) begin = i;
    } else if (c == '}' || c == ']') {
      const std::string_view object = text.substr(begin, i + 1 - begin);
      if (c == '}' && depth == 3 && in_list) parts.entries.push_back(object);
      if (c == '}' && depth == 2 && parts.context.empty()) parts.context = object;
      --depth;
    }
  }
  return parts;
}

bool is_addition(std::string_view part) {
  return part == "real_time" || part == "manual_time" || part == "process_time" ||
         part.starts_with("iterations:") || part.starts_with("min_time:") ||
         part.starts_with("repeats:");
}

/// Sets name, kernel, place, variant and sizes.
void parse_name(Case& c, std::string_view text) {
  int position = 0;
  while (!text.empty()) {
    const std::size_t slash = text.find('/');
    const std::string_view part = text.substr(0, slash);
    text = slash == std::string_view::npos ? "" : text.substr(slash + 1);
    if (part.empty() || is_addition(part)) continue;
    c.name += (c.name.empty() ? "" : "/") + std::string(part);
    const std::size_t colon = part.find(':');
    double value = 0;
    if (colon != std::string_view::npos &&
        std::from_chars(part.data() + colon + 1, part.data() + part.size(), value).ec ==
            std::errc{}) {
      c.sizes.emplace_back(part.substr(0, colon), value);
    } else if (position++ == 0) {
      c.kernel = part;
    } else if (position == 2) {
      c.place = part;
    } else {
      c.variant += (c.variant.empty() ? "" : "/") + std::string(part);
    }
  }
}

double number(const Json& entry, const char* key) {
  const auto found = entry.find(key);
  return found != entry.end() && found->is_number() ? found->get<double>() : 0;
}

double seconds_per_unit(const Json& entry) {
  const std::string unit = entry.value("time_unit", "ns");
  return unit == "s" ? 1 : unit == "ms" ? 1e-3 : unit == "us" ? 1e-6 : 1e-9;
}

/// Of a row without a time, which is no failure (bench/harness.h, leave_out).
constexpr std::string_view kNotRun = "not run: ";
bool is_left_out(const Json& entry) {
  const auto label = entry.find("label");
  return label != entry.end() && label->is_string() &&
         label->get<std::string>().starts_with(kNotRun);
}

void add_entry(Case& c, const Json& entry) {
  if (entry.value("error_occurred", false)) {
    c.error = entry.value("error_message", "failed");
    return;
  }
  if (is_left_out(entry)) {
    c.left_out = entry["label"].get<std::string>().substr(kNotRun.size());
    return;
  }
  const double seconds = number(entry, "real_time") * seconds_per_unit(entry);
  c.seconds.push_back(seconds);
  c.bytes = 1e9 * number(entry, "GB") * seconds;
  c.operations = 1e9 * number(entry, "Gflop") * seconds;
  c.peak_megabytes = std::max(c.peak_megabytes, number(entry, "peak_MB"));
  c.graph_seconds = 1e-6 * number(entry, "graph_us");
}

bool is_measurement(const Json& entry) {
  return entry.is_object() && entry.contains("name") && entry["name"].is_string() &&
         entry.value("run_type", "iteration") == "iteration";
}

}  // namespace

double Case::median() const {
  if (seconds.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::vector<double> sorted = seconds;
  std::ranges::sort(sorted);
  const std::size_t n = sorted.size();
  return (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
}

double Case::size(std::string_view wanted) const {
  for (const auto& [name_of_size, value] : sizes) {
    if (name_of_size == wanted) return value;
  }
  return std::numeric_limits<double>::quiet_NaN();
}

bool is_ours(std::string_view place) {
  return place == "cpu" || place == "cuda" || place.starts_with("eager") ||
         place.starts_with("recorded");
}

bool is_on_gpu(std::string_view place) {
  return place.starts_with("cuda") || place.ends_with("@cuda");
}

Case case_of(std::string_view name) {
  Case parsed;
  parse_name(parsed, name);
  return parsed;
}

std::string Case::sizes_text() const {
  std::string text;
  for (const auto& [name_of_size, value] : sizes)
    text += fmt::format("{}{} {:.10g}", text.empty() ? "" : ", ", name_of_size, value);
  return text;
}

std::string Case::problem() const { return fmt::format("{}/{}/{}", kernel, variant, sizes_text()); }

void Results::add(const Json& document, const std::string& family) {
  for (const auto& [key, value] : document.at("context").items()) {
    if (key != "host_name" && key != "executable" && !context.contains(key)) context[key] = value;
  }
  std::map<std::string, std::int64_t> repetitions;
  for (const Json& entry : benchmarks) ++repetitions[entry.at("name").get<std::string>()];
  for (Json entry : document.at("benchmarks")) {
    if (!is_measurement(entry)) continue;
    entry["family"] = family;
    entry["repetition_index"] = repetitions[entry.at("name").get<std::string>()]++;
    benchmarks.push_back(std::move(entry));
  }
}

std::vector<Case> Results::cases() const {
  std::vector<Case> all;
  std::map<std::string, std::size_t> at;
  for (const Json& entry : benchmarks) {
    Case parsed = case_of(entry.at("name").get<std::string>());
    const auto [known, is_new] = at.try_emplace(parsed.name, all.size());
    if (is_new) {
      parsed.family = entry.value("family", "");
      all.push_back(std::move(parsed));
    }
    add_entry(all[known->second], entry);
  }
  return all;
}

std::int64_t complete_entries(std::string_view text) {
  return std::ranges::count_if(parts_of(text).entries, [](std::string_view entry) {
    return entry.find("\"aggregate_name\"") == std::string_view::npos;
  });
}

Json read_document(std::string_view text, const std::string& source) {
  const Parts parts = parts_of(text);
  Json document = {{"context", Json::parse(parts.context, nullptr, false)},
                   {"benchmarks", Json::array()}};
  if (!document["context"].is_object())
    fail(ErrorKind::data, "bench", "{} is no JSON of Google Benchmark", source);
  for (const std::string_view entry : parts.entries) {
    Json parsed = Json::parse(entry, nullptr, false);
    if (!parsed.is_discarded()) document["benchmarks"].push_back(std::move(parsed));
  }
  return document;
}

Results read_results(const std::string& path) {
  const Json document = read_json(path);
  const auto require_that = [&](bool holds, std::string_view problem) {
    if (!holds) fail(ErrorKind::data, "bench", "'{}': {}", path, problem);
  };
  require_that(document.is_object(), "is no JSON object");
  require_that(document.contains("context") && document["context"].is_object(),
               "has no \"context\"; it should be the bench.json of a run");
  require_that(document.contains("benchmarks") && document["benchmarks"].is_array(),
               "has no list \"benchmarks\"; it should be the bench.json of a run");
  Results results{document["context"], Json::array()};
  for (const Json& entry : document["benchmarks"]) {
    require_that(entry.is_object() && entry.contains("name") && entry["name"].is_string(),
                 "a benchmark has no name");
    if (!is_measurement(entry)) continue;
    const std::string name = entry["name"];
    require_that(entry.value("error_occurred", false) || is_left_out(entry) ||
                     number(entry, "real_time") > 0,
                 fmt::format("'{}' has no \"real_time\" above 0", name));
    results.benchmarks.push_back(entry);
  }
  require_that(!results.benchmarks.empty(), "has no benchmarks");
  return results;
}

}  // namespace cmir::bench
