#include "bench/report/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace cmir::bench {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

bool is_ceiling(const Case& c) { return c.kernel.starts_with("ceiling_"); }

std::vector<Row> rows_of(const std::vector<Case>& cases, const Ceilings& cpu, const Ceilings& gpu) {
  std::map<std::string, std::vector<const Case*>> by_problem;
  for (const Case& c : cases) by_problem[c.problem()].push_back(&c);
  std::vector<Row> rows;
  for (const Case& c : cases) {
    if (!is_ours(c.place) || is_ceiling(c) || c.seconds.empty()) continue;
    const Ceilings& ceilings = is_on_gpu(c.place) ? gpu : cpu;
    Row row{c, kNone, share_of(c, ceilings), {}, {}};
    for (const Case* other : by_problem[c.problem()]) {
      if (other->seconds.empty() && other->left_out.empty()) continue;
      if (other->place == c.place + "_cold") {
        row.cold_seconds = other->median();
        row.cold_share = share_of(*other, ceilings);
      } else if (!is_ours(other->place) && !other->place.ends_with("_cold") &&
                 is_on_gpu(other->place) == is_on_gpu(c.place)) {
        row.peers.push_back({other->place, other->median() / c.median()});
      }
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string percent(double share) {
  return share > 0 ? fmt::format("{:.{}f} %", 100 * share, share < 0.1 ? 1 : 0) : "";
}

/// Three digits: "0.0135", "1.35", "135", "1350".
std::string digits(double value) {
  if (!std::isfinite(value)) return "";
  const int before = value > 0 ? static_cast<int>(std::floor(std::log10(value))) + 1 : 1;
  return fmt::format("{:.{}f}", value, std::clamp(3 - before, 0, 4));
}
std::string microseconds(double seconds) { return digits(1e6 * seconds); }
std::string rate(double amount, double seconds) {
  return amount > 0 ? digits(1e-9 * amount / seconds) : "";
}

std::string name_of(const Case& c) {
  std::string name = c.variant.empty() ? c.kernel : c.kernel + " " + c.variant;
  return c.place == "cpu" ? name : fmt::format("{} ({})", name, c.place);
}

std::string peers_text(const std::vector<PeerTime>& peers) {
  std::string text;
  for (const PeerTime& peer : peers)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", peer.name,
                        std::isnan(peer.ratio) ? "not run" : digits(peer.ratio));
  return text;
}

void add_ceilings(Table& table, const Json& ceilings, const std::string& device) {
  for (const Json& copy : ceilings["copy"]) {
    table.add_row({device, fmt::format("copy of {:.0f} bytes", copy["bytes"].get<double>()),
                   fmt::format("{}", copy["threads"].get<int>()),
                   digits(copy["GB_per_second"].get<double>()) + " GB/s"});
  }
  for (const Json& product : ceilings["product"]) {
    table.add_row({device, "matrix product, " + product["dtype"].get<std::string>(),
                   fmt::format("{}", product["threads"].get<int>()),
                   digits(product["Gflop_per_second"].get<double>()) + " Gflop/s"});
  }
  table.add_row({device, "start of a kernel", "", digits(ceilings["launch_us"]) + " us"});
  if (ceilings.contains("parallel_for_us")) {
    table.add_row(
        {device, "parallel_for over nothing", "", digits(ceilings["parallel_for_us"]) + " us"});
  }
}

}  // namespace

Report::Report(Results measured)
    : results(std::move(measured)),
      cases(results.cases()),
      cpu(cases, "cpu"),
      gpu(cases, "cuda"),
      rows(rows_of(cases, cpu, gpu)),
      sweeps(bench::sweeps(cases)) {}

std::vector<Case> Report::failed() const {
  std::vector<Case> all;
  std::ranges::copy_if(cases, std::back_inserter(all),
                       [](const Case& c) { return !c.error.empty(); });
  return all;
}

Table ceilings_table(const Report& report) {
  Table table({{"device"}, {"ceiling"}, {"threads"}, {"rate"}});
  if (!report.cpu.empty()) add_ceilings(table, report.cpu.to_json(), "cpu");
  if (!report.gpu.empty()) add_ceilings(table, report.gpu.to_json(), "cuda");
  return table;
}

Table rows_table(const Report& report) {
  const bool any_graph = std::ranges::any_of(
      report.rows, [](const Row& row) { return row.measured.graph_seconds > 0; });
  std::vector<Column> columns{{"kernel"}, {"sizes"}, {"us"}};
  if (any_graph) columns.push_back({"us in a graph"});
  for (const char* header : {"GB/s", "Gflop/s", "of ceiling", "limit", "cold us", "cold of ceiling",
                             "peers' time over ours"})
    columns.push_back({header});
  Table table(columns);
  for (const Row& row : report.rows) {
    const Case& c = row.measured;
    const double seconds = c.median();
    std::vector<Cell> cells{name_of(c), c.sizes_text(), microseconds(seconds)};
    if (any_graph) cells.emplace_back(c.graph_seconds > 0 ? microseconds(c.graph_seconds) : "");
    for (const std::string& text :
         {rate(c.bytes, seconds), rate(c.operations, seconds), percent(row.share.value),
          std::string(row.share.limit), microseconds(row.cold_seconds),
          percent(row.cold_share.value), peers_text(row.peers)})
      cells.emplace_back(text);
    table.add_row(cells);
  }
  return table;
}

std::vector<const Row*> largest_cases(const Report& report, bool on_gpu) {
  std::map<std::string, const Row*> largest;
  for (const Row& row : report.rows) {
    const Case& c = row.measured;
    if (is_on_gpu(c.place) != on_gpu || c.bytes <= 0 || c.variant.starts_with("over_")) continue;
    const Row*& kept = largest[name_of(c)];
    const double grown = kept == nullptr ? 2 : c.bytes / kept->measured.bytes;
    const bool same = std::abs(grown - 1) < 1e-3;  // on another number of threads
    if (same ? c.median() < kept->measured.median() : grown > 1) kept = &row;
  }
  std::vector<const Row*> rows;
  for (const auto& [name, row] : largest) rows.push_back(row);
  return rows;
}

Table families_table(const Report& report, bool on_gpu) {
  std::map<std::string, std::vector<const Row*>> families;
  for (const Row* row : largest_cases(report, on_gpu))
    families[row->measured.family].push_back(row);
  Table table({{"family"}, {"kernels"}, {"lowest"}, {"median"}, {"highest"}, {"limits"}});
  for (auto& [family, rows] : families) {
    std::ranges::sort(rows, {}, [](const Row* row) { return row->share.value; });
    const auto text = [](const Row* row) {
      return fmt::format("{} {}", percent(row->share.value), name_of(row->measured));
    };
    std::map<std::string_view, int> limits;
    for (const Row* row : rows) ++limits[row->share.limit];
    std::string limit_text;
    for (const auto& [limit, count] : limits)
      limit_text += fmt::format("{}{} {}", limit_text.empty() ? "" : ", ", limit, count);
    table.add_row({family, std::to_string(rows.size()), text(rows.front()),
                   percent(rows[rows.size() / 2]->share.value), text(rows.back()), limit_text});
  }
  return table;
}

Table sweeps_table(const Report& report) {
  Table table({{"what"},
               {"over"},
               {"with"},
               {"from"},
               {"to"},
               {"us from"},
               {"us to"},
               {"time grows as"},
               {"memory grows as"}});
  for (const Sweep& s : report.sweeps) {
    const auto power = [&](const Fit& fit) {
      if (std::isnan(fit.exponent)) return std::string();
      return fmt::format("{}^{:.2f}{}", s.size, fit.exponent,
                         std::isnan(fit.error) ? "" : fmt::format(" ± {:.2f}", fit.error));
    };
    table.add_row({s.name, s.size, s.fixed, fmt::format("{:.10g}", s.sizes.front()),
                   fmt::format("{:.10g}", s.sizes.back()), microseconds(s.seconds.front()),
                   microseconds(s.seconds.back()), power(s.time), power(s.memory)});
  }
  return table;
}

Table comparisons_table(const Report& report) {
  Table table({{"case"},
               {"us before, median"},
               {"us now, median"},
               {"ratio of means"},
               {"95 % interval"},
               {""}});
  for (const Comparison& c : report.comparisons) {
    const auto [low, high] = c.ratio.interval;
    table.add_row({c.name, microseconds(c.base_seconds), microseconds(c.now_seconds),
                   fmt::format("{:.3f}", c.ratio.value),
                   std::isfinite(high) ? fmt::format("{:.3f} to {:.3f}", low, high) : "-",
                   is_slower(c, report.threshold) ? "SLOWER"
                   : low > 1                      ? "slower"
                   : high < 1                     ? "faster"
                                                  : ""});
  }
  return table;
}

Json to_json(const Report& report) {
  Json document = {{"context", report.results.context}, {"benchmarks", Json::array()}};
  Json& ceilings = document["context"]["ceilings"] = Json::object();
  if (!report.cpu.empty()) ceilings["cpu"] = report.cpu.to_json();
  if (!report.gpu.empty()) ceilings["cuda"] = report.gpu.to_json();
  std::map<std::string, Share> shares;
  for (const Row& row : report.rows) shares[row.measured.name] = row.share;
  for (Json entry : report.results.benchmarks) {
    const std::string name = case_of(entry.at("name").get<std::string>()).name;
    if (const auto share = shares.find(name); share != shares.end() && share->second.value > 0) {
      entry["share_of_ceiling"] = share->second.value;
      entry["limit"] = share->second.limit;
    }
    document["benchmarks"].push_back(std::move(entry));
  }
  document["scaling"] = to_json(report.sweeps);
  if (!report.base.empty()) {
    Json list = Json::array();
    for (const Comparison& c : report.comparisons) {
      list.push_back({{"name", c.name},
                      {"base_seconds", c.base_seconds},
                      {"seconds", c.now_seconds},
                      {"ratio", c.ratio.value},
                      {"low", c.ratio.interval.low},
                      {"high", c.ratio.interval.high},
                      {"slower", is_slower(c, report.threshold)}});
    }
    document["comparison"] = {
        {"base", report.base}, {"threshold", report.threshold}, {"cases", list}};
  }
  return document;
}

}  // namespace cmir::bench
