#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "core/error.h"
#include "models/evaluation/plot.h"
#include "models/evaluation/svg.h"

namespace cmir {
namespace {

using testing::HasSubstr;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// The first thing wrong with an XML document made of elements, quoted attributes and text; empty
/// when it is well formed.
std::string xml_problem(const std::string& xml) {
  std::vector<std::string> open;
  bool had_root = false;
  for (std::size_t i = 0; i < xml.size();) {
    if (xml[i] == '&') {
      const std::string entity = xml.substr(i, xml.find(';', i) - i + 1);
      if (entity != "&amp;" && entity != "&lt;" && entity != "&gt;" && entity != "&quot;" &&
          entity != "&#39;") {
        return "entity " + entity.substr(0, 10);
      }
    }
    if (xml[i] != '<') {
      if (open.empty() && xml[i] != '\n') return "text outside the root";
      ++i;
      continue;
    }
    std::size_t end = i + 1;
    for (bool quoted = false; end < xml.size() && (quoted || xml[end] != '>'); ++end) {
      if (xml[end] == '"') quoted = !quoted;
      if (xml[end] == '<') return "< inside a tag";
    }
    if (end >= xml.size()) return "unfinished tag";
    const std::string tag = xml.substr(i + 1, end - i - 1);
    const std::string name = tag.substr(0, tag.find_first_of(" /", 1));
    if (name.front() == '/') {
      if (open.empty() || "/" + open.back() != name) return "closes " + name;
      open.pop_back();
    } else if (tag.back() != '/') {
      if (open.empty() && had_root) return "two roots";
      had_root = true;
      open.push_back(name);
    }
    i = end + 1;
  }
  return !open.empty() ? "never closes " + open.back() : had_root ? "" : "no root";
}

int count(const std::string& text, const std::string& part) {
  int n = 0;
  for (auto i = text.find(part); i != std::string::npos; i = text.find(part, i + 1)) ++n;
  return n;
}

void expect_sound(const std::string& picture) {
  EXPECT_EQ(xml_problem(picture), "");
  EXPECT_THAT(picture, testing::StartsWith("<svg xmlns"));
  EXPECT_EQ(count(picture, "nan") + count(picture, "inf"), 0) << picture;
}

template <class Chart>
std::string error_of(const Chart& chart) {
  try {
    svg(chart);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Plot, TheChecksOfThisTestFindFaults) {
  EXPECT_EQ(xml_problem("<a><b x=\"1>2\"/>t &amp; u</a>"), "");
  EXPECT_NE(xml_problem("<a><b></a>"), "");
  EXPECT_NE(xml_problem("<a>&b</a>"), "");
  EXPECT_NE(xml_problem("<a x=\"<\"/>"), "");
  EXPECT_NE(xml_problem("<a/>x"), "");
  EXPECT_NE(xml_problem("<a>"), "");
}

TEST(Plot, LinesShowEverySeriesAndPoint) {
  for (std::size_t n = 1; n <= 8; ++n) {
    LineChart chart{"noise", "rate", "Acc2"};
    for (std::size_t s = 0; s < n; ++s) {
      const auto offset = static_cast<double>(s);
      chart.series.push_back(
          {"series " + std::to_string(s), {0.1, 0.2, 0.7}, {offset, 2, 3}, {0.5, 0.5, 0.5}});
    }
    chart.references = {{"the paper", 2.5}};
    const std::string bars = svg(chart);
    expect_sound(bars);
    EXPECT_EQ(count(bars, "<polyline"), static_cast<int>(n));
    EXPECT_EQ(count(bars, "stroke-dasharray"), 2);  // the line and its legend entry
    for (std::size_t s = 0; s < n; ++s)
      EXPECT_THAT(bars, HasSubstr(">series " + std::to_string(s) + "<"));
    EXPECT_THAT(bars, HasSubstr(">the paper<"));
    chart.bands = true;
    const std::string bands = svg(chart);
    expect_sound(bands);
    EXPECT_EQ(count(bands, "<polygon"), static_cast<int>(n));
  }
}

TEST(Plot, LinesBreakAtNaN) {
  const std::string picture = svg(
      LineChart{"t",
                "x",
                "y",
                {{"s", {1, 2, 3, 4, 5}, {1, 2, kNaN, 4, kInfinity}, {kNaN, 1, 1, kInfinity, 1}}}});
  expect_sound(picture);
  EXPECT_EQ(count(picture, "<polyline"), 2);
  EXPECT_EQ(count(picture, "<circle"), 4);  // three points and the legend
}

TEST(Plot, LogarithmicAxesShowDecades) {
  LineChart chart{"sweep", "weight", "Acc2", {{"s", {1e-6, 1e-4, 1e-2, 1}, {1, 2, 3, 4}, {}}}};
  chart.log_x = true;
  const std::string picture = svg(chart);
  expect_sound(picture);
  for (const char* exponent : {"\u22126", "\u22123", "0"}) {
    EXPECT_THAT(picture, HasSubstr(std::string("font-size=\"9.00\">") + exponent + "<"));
  }
  chart.series[0].x = {0.1, 0.2, 0.3, 0.5};
  EXPECT_THAT(svg(chart), HasSubstr(">0.2<"));
  chart.series[0].x = {0.3, 0.3, 0.3, 0.3};
  expect_sound(svg(chart));
  chart.series[0].x[0] = 0;
  EXPECT_THAT(error_of(chart), HasSubstr("x value 0 of series 's' has no place"));
}

TEST(Plot, BarsShowEveryValue) {
  BarChart chart{"ablation", "Acc2", {"vanilla", "CmIR"}};
  chart.series = {{"A", {76.3, 80.1}, {0.3, 0.4}}, {"B", {-5.04, kNaN}, {}}};
  const std::string picture = svg(chart);
  expect_sound(picture);
  for (const char* text :
       {">76.3<", ">80.1<", ">\u22125.0<", ">vanilla<", ">CmIR<", ">A<", ">B<"}) {
    EXPECT_THAT(picture, HasSubstr(text));
  }
  EXPECT_EQ(count(picture, "<rect"), 1 + 2 + 3);  // ground, legend, bars
  chart.from_zero = false;
  EXPECT_THAT(svg(chart), HasSubstr("does not start at zero"));
  for (int g = 0; g < 40; ++g) {
    chart.groups.push_back("group " + std::to_string(g));
    for (auto& series : chart.series) series.values.push_back(g);
  }
  chart.series[0].errors.resize(42, 1.0);
  expect_sound(svg(chart));
}

TEST(Plot, ScatterShowsEveryPoint) {
  ScatterChart chart{"embedding", "1", "2"};
  chart.classes = {{"circles", {1, 2, kNaN}, {1, 2, 3}}, {"rings", {4}, {4}}, {"none", {}, {}}};
  const std::string picture = svg(chart);
  expect_sound(picture);
  EXPECT_EQ(count(picture, "<circle"), 2 + 1);
  EXPECT_THAT(picture, HasSubstr(">none<"));
}

TEST(Plot, LogarithmicScatterHasLinesAndLabels) {
  ScatterChart chart{.title = "roofline", .x_label = "x", .y_label = "y", .log = true};
  for (int c = 0; c < 9; ++c) {
    const double place = std::pow(10, c - 4);
    chart.classes.push_back(
        {"class " + std::to_string(c), {place}, {place}, {"point <" + std::to_string(c) + ">"}});
  }
  chart.lines = {{"ceiling", {1e-4, 1, 1e4}, {1e-3, 10, 10}, {}}};
  const std::string picture = svg(chart);
  expect_sound(picture);
  EXPECT_EQ(count(picture, "<title>point &lt;"), 9);
  EXPECT_GE(count(picture, ">10<tspan"), 8);  // decades on both axes
  EXPECT_THAT(picture, HasSubstr("ceiling"));
  chart.classes[0].x[0] = 0;
  EXPECT_THAT(error_of(chart), HasSubstr("(0, 0.0001) of 'class 0' has no place on logarithmic"));
  chart.classes[0] = {"short", {1}, {1}, {"a", "b"}};
  EXPECT_THAT(error_of(chart), HasSubstr("labels"));
}

TEST(Plot, LogarithmicValues) {
  LineChart chart{.title = "t", .x_label = "N", .y_label = "ms", .log_x = true, .log_y = true};
  chart.series = {{"s", {1, 10, 100}, {1e-3, 1, 1e3}, {}}};
  const std::string picture = svg(chart);
  expect_sound(picture);
  EXPECT_GE(count(picture, ">10<tspan"), 9);
  chart.series[0].y = {3.25, 4, 8.5};  // only 5 would be a tick
  EXPECT_THAT(svg(chart), AllOf(HasSubstr(">3.25<"), HasSubstr(">8.5<")));
  chart.series[0].y[1] = 0;
  EXPECT_THAT(error_of(chart), HasSubstr("y value 0 of series 's' has no place"));
}

TEST(Plot, HeatMapsShowEveryCellOrMeansOfThem) {
  HeatMapChart chart{.title = "attention", .x_label = "keys", .y_label = "queries", .per_line = 2};
  chart.maps = {{"text from audio", 2, 3, {0, 0.5, 0.5, 1, 0, 0}},
                {"empty", 0, 3, {}},
                {"long", 1, 96, std::vector<double>(96, 0.25)}};
  chart.maps[2].values[0] = 0.75;
  const std::string picture = svg(chart);
  expect_sound(picture);
  EXPECT_EQ(count(picture, "<rect"), 1 + 2 * 3 + 48);  // the ground; cells; means of two
  EXPECT_EQ(count(picture, "#003366"), 1 + 1);         // each map's largest
  EXPECT_THAT(picture, HasSubstr("2 x 3, largest 1<"));
  EXPECT_THAT(picture, HasSubstr("1 x 96, largest 0.5<"));
  EXPECT_THAT(picture, HasSubstr(">text from audio<"));

  chart.maps[0].values[1] = kNaN;
  EXPECT_THAT(error_of(chart), HasSubstr("2 x 3 values, finite"));
  chart.maps[0].values.pop_back();
  EXPECT_THAT(error_of(chart), HasSubstr("2 x 3 values"));
  EXPECT_THAT(error_of(HeatMapChart{.title = "none"}), HasSubstr("no map"));
}

TEST(Plot, DegenerateRanges) {
  for (const double value : {0.0, 1.0, -3.0, 1e-12, 1e15, -1e99}) {
    expect_sound(svg(LineChart{"t", "x", "y", {{"s", {value}, {value}, {}}}}));
    expect_sound(svg(LineChart{"t", "x", "y", {{"s", {value, value}, {value, value}, {0, 0}}}}));
    expect_sound(svg(BarChart{"t", "y", {"g"}, {{"s", {value}, {}}}}));
    expect_sound(svg(ScatterChart{"t", "x", "y", {{"s", {value, value}, {value, value}}}}));
  }
  expect_sound(svg(LineChart{"t", "x", "y", {{"s", {-1e99, 1e99}, {1, 1 + 1e-15}, {}}}}));
}

TEST(Plot, BadInputIsAnError) {
  EXPECT_THAT(error_of(LineChart{"empty", "x", "y"}), HasSubstr("'empty' has no finite point"));
  EXPECT_THAT(error_of(LineChart{"t", "x", "y", {{"s", {1}, {kNaN}, {}}}}),
              HasSubstr("no finite point"));
  EXPECT_THAT(error_of(LineChart{"t", "x", "y", {{"s", {1, 2}, {1}, {}}}}),
              HasSubstr("'s' has 1 y values for 2"));
  EXPECT_THAT(error_of(LineChart{"t", "x", "y", {{"s", {1}, {1}, {1, 2}}}}),
              HasSubstr("2 errors for 1"));
  EXPECT_THAT(error_of(BarChart{"t", "y", {}}), HasSubstr("no finite point"));
  EXPECT_THAT(error_of(BarChart{"t", "y", {"g"}, {{"s", {1, 2}, {}}}}),
              HasSubstr("2 values for 1"));
  EXPECT_THAT(error_of(ScatterChart{"t", "x", "y", {{"s", {1}, {}}}}),
              HasSubstr("0 y values for 1"));
}

TEST(Plot, TextIsEscaped) {
  const std::string evil = "</text><script>&\"'\x01\xff\xc0\x80 \u00e9\xed\xa0\x80";
  EXPECT_EQ(escape_xml(evil), "&lt;/text&gt;&lt;script&gt;&amp;&quot;&#39;???? \u00e9???");
  EXPECT_EQ(escape_xml("\u03bb1 \U0001F600 tab\t"), "\u03bb1 \U0001F600 tab\t");
  const LineChart line{evil, evil, evil, {{evil, {1, 2}, {1, 2}, {}}}, {{evil, 1}}};
  expect_sound(svg(line));
  EXPECT_EQ(svg(line).find("<script"), std::string::npos);
  expect_sound(svg(BarChart{evil, evil, {evil}, {{evil, {1}, {}}}}));
  expect_sound(svg(ScatterChart{evil, evil, evil, {{evil, {1}, {1}}}}));
}

}  // namespace
}  // namespace cmir
