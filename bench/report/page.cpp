// report.html
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "bench/report/report.h"
#include "models/evaluation/plot.h"
#include "models/evaluation/svg.h"

namespace cmir::bench {
namespace {

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1200px; padding: 0 1em;
  background: #ffffff; color: #222222; }
h1, h2 { font-weight: 600; } h2 { margin-top: 2em; }
table { border-collapse: collapse; font-size: 12.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 2px 9px; text-align: right; border-bottom: 1px solid #dddddd; white-space: nowrap; }
th { position: sticky; top: 0; background: #f2f2f2; }
th:first-child, td:first-child { position: sticky; left: 0; text-align: left; background: #ffffff; }
th:first-child { z-index: 1; background: #f2f2f2; }
.wide { overflow-x: auto; max-height: 80vh; overflow-y: auto; }
.charts { display: flex; flex-wrap: wrap; gap: 1em; overflow-x: auto; } svg { flex: none; }
@media (max-width: 600px) {
  td, th { white-space: normal; padding: 2px 6px; }
  td:first-child { min-width: 9em; overflow-wrap: anywhere; }
}
p.note { color: #555555; max-width: 60em; }
@media (prefers-color-scheme: dark) {
  body, td:first-child { background: #121212; } body { color: #dddddd; }
  th, th:first-child { background: #262626; }
  th, td { border-color: #3a3a3a; } p.note { color: #aaaaaa; }
  svg { filter: invert(0.94) hue-rotate(180deg) brightness(1.45); }
})";

std::string html(const Table& table) {
  std::string text = "<div class=\"wide\"><table>\n<thead><tr>";
  for (const Column& column : table.columns())
    text += fmt::format("<th>{}</th>", escape_xml(column.header));
  text += "</tr></thead>\n<tbody>\n";
  for (std::size_t r = 0; r < table.row_count(); ++r) {
    text += "<tr>";
    for (const Cell& cell : table.row(r)) text += fmt::format("<td>{}</td>", escape_xml(cell.text));
    text += "</tr>\n";
  }
  return text + "</tbody></table></div>\n";
}

/// A line of the roofline, over the range of intensities.
Series ceiling_line(const std::string& name, double bandwidth, double peak, double from,
                    double to) {
  Series line{name, {}, {}, {}};
  const double ridge = peak / bandwidth;
  for (const double intensity : {from, std::clamp(ridge, from, to), to}) {
    line.x.push_back(intensity);
    line.y.push_back(1e-9 * std::min(peak, intensity * bandwidth));
  }
  return line;
}

std::string roofline(const Report& report, bool on_gpu) {
  const Ceilings& ceilings = on_gpu ? report.gpu : report.cpu;
  std::vector<const Row*> rows = largest_cases(report, on_gpu);
  std::erase_if(rows, [](const Row* row) { return row->measured.operations <= 0; });
  const double peak = ceilings.product_rate("f32");
  if (rows.empty() || ceilings.empty() || !(peak > 0)) return {};
  std::map<std::string, ScatterClass> classes;
  double least = 0.05, most = 100;
  for (const Row* row : rows) {
    const Case& c = row->measured;
    const double intensity = c.operations / c.bytes, rate = 1e-9 * c.operations / c.median();
    least = std::min(least, intensity), most = std::max(most, intensity);
    ScatterClass& group = classes[c.family];
    group.name = c.family;
    group.x.push_back(intensity);
    group.y.push_back(rate);
    group.labels.push_back(fmt::format("{} {} ({}): {:.3g} Gflop/s, {:.0f} % of its ceiling",
                                       c.kernel, c.variant, c.sizes_text(), rate,
                                       100 * row->share.value));
  }
  ScatterChart chart{.title = on_gpu ? "Roofline, cuda" : "Roofline, cpu",
                     .x_label = "operations a byte",
                     .y_label = "Gflop/s",
                     .log = true};
  for (auto& [family, group] : classes) chart.classes.push_back(std::move(group));
  const double memory = ceilings.memory_rate(), cache = ceilings.copy_rate(1 << 18);
  chart.lines = {ceiling_line(fmt::format("memory {:.0f} GB/s, f32 product {:.0f} Gflop/s",
                                          1e-9 * memory, 1e-9 * peak),
                              memory, peak, least, most),
                 ceiling_line(fmt::format("copy of 256 KB {:.0f} GB/s", 1e-9 * cache), cache, peak,
                              least, most)};
  for (const char* dtype : {"tf32", "bf16"}) {
    const double rate = ceilings.product_rate(dtype);
    if (rate > peak)
      chart.lines.push_back(ceiling_line(
          fmt::format("{} product {:.0f} Gflop/s", dtype, 1e-9 * rate), memory, rate, least, most));
  }
  return svg(chart);
}

/// Of each size that is swept, a chart of these values.
std::string scaling_charts(const Report& report, const std::string& what, const std::string& unit,
                           double per_unit, std::vector<double> Sweep::*values, Fit Sweep::*fit) {
  std::map<std::string, LineChart> charts;  // by the size
  for (const Sweep& sweep : report.sweeps) {
    if (std::isnan((sweep.*fit).exponent)) continue;  // was not measured
    LineChart& chart = charts[sweep.size];
    chart.log_x = chart.log_y = true;
    chart.title = fmt::format("{} over {}", what, sweep.size);
    chart.x_label = sweep.size;
    chart.y_label = unit;
    Series series{fmt::format("{}{}{}: {}^{:.2f}", sweep.name, sweep.fixed.empty() ? "" : ", ",
                              sweep.fixed, sweep.size, (sweep.*fit).exponent),
                  sweep.sizes,
                  {},
                  {}};
    for (const double value : sweep.*values) series.y.push_back(value / per_unit);
    chart.series.push_back(std::move(series));
  }
  std::string text;
  for (const auto& [size, chart] : charts) text += svg(chart);
  return text;
}

std::string context_list(const Json& context) {
  std::string text;
  for (const auto& [key, value] : context.items()) {
    if (value.is_object() || value.is_array()) continue;
    text += fmt::format("<tr><td>{}</td><td>{}</td></tr>\n", escape_xml(key),
                        escape_xml(value.is_string() ? value.get<std::string>() : value.dump()));
  }
  return "<div class=\"wide\"><table>\n" + text + "</table></div>\n";
}

std::string section(const std::string& title, const std::string& note, const std::string& body) {
  if (body.empty()) return {};
  return fmt::format("<h2>{}</h2>\n<p class=\"note\">{}</p>\n{}", escape_xml(title),
                     escape_xml(note), body);
}

std::string comparison_section(const Report& report) {
  if (report.base.empty()) return {};
  return section(
      "Compared with " + report.base,
      fmt::format("Ratios above 1 are slower. SLOWER: by more than {:.0f} % at the lower "
                  "end of the 95 % interval.",
                  100 * report.threshold),
      html(comparisons_table(report)));
}

}  // namespace

std::string markdown_page(const Report& report) {
  std::string text = "# cmir bench\n\n";
  for (const auto& [key, value] : report.results.context.items()) {
    if (value.is_object() || value.is_array()) continue;
    text +=
        fmt::format("- {}: {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
  }
  const auto add = [&](const char* title, const Table& table) {
    if (table.row_count() > 0) text += fmt::format("\n## {}\n\n{}", title, table.markdown());
  };
  add("Ceilings", ceilings_table(report));
  add("Families", families_table(report, false));
  add("Families on a GPU", families_table(report, true));
  add("Scaling", sweeps_table(report));
  add("Comparison", comparisons_table(report));
  add("Kernels and their peers", rows_table(report));
  return text;
}

std::string html_page(const Report& report) {
  std::string body = context_list(report.results.context);
  body += section("Ceilings", "The best of the repetitions, measured in this run.",
                  html(ceilings_table(report)));
  const std::string rooflines = roofline(report, false) + roofline(report, true);
  if (!rooflines.empty()) {
    body += section("Roofline",
                    "Each kernel's case that moves most bytes, and the training step's, which "
                    "counts what its kernels do; the name shows under the pointer. Kernels that do "
                    "no arithmetic are in the table only.",
                    "<div class=\"charts\">" + rooflines + "</div>\n");
  }
  if (!report.sweeps.empty()) {
    body += section(
        "Scaling", "Exponents: least squares of the logarithms.",
        "<div class=\"charts\">" +
            scaling_charts(report, "Time", "milliseconds", 1e-3, &Sweep::seconds, &Sweep::time) +
            scaling_charts(report, "Memory", "MB", 1, &Sweep::megabytes, &Sweep::memory) +
            "</div>\n" + html(sweeps_table(report)));
  }
  body += comparison_section(report);
  for (const auto& [on_gpu, title] : {std::pair{false, "Families"}, {true, "Families on a GPU"}}) {
    const Table families = families_table(report, on_gpu);
    if (families.row_count() == 0) continue;
    body += section(title,
                    "Of each kernel's case that moves most bytes: how near the family's kernels "
                    "come to their ceilings.",
                    html(families));
  }
  body +=
      section("Kernels and their peers",
              "Of ceiling: of a copy that moves as many bytes, of a matrix product's rate, or of "
              "the time that starting a kernel takes, whichever is nearest. Cold: every array "
              "was taken out of the caches before each call. Peers: their time over ours, above "
              "1 where ours is faster.",
              html(rows_table(report)));
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta name=\"viewport\" "
      "content=\"width=device-width\">\n<title>cmir bench</title>\n<style>{}</style></head>\n"
      "<body>\n<h1>cmir bench</h1>\n{}</body></html>\n",
      kStyle, body);
}

}  // namespace cmir::bench
