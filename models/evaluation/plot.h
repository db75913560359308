// Pictures of results as SVG text: lines, grouped bars, scatter, heat maps. Save one with
// write_file_atomically(path, svg(chart)).
//
// Colours are told apart by people with any kind of colour vision (Okabe and Ito's palette), and
// series differ in marker shape as well. The legend has rows of its own above the data. Non-finite
// points are skipped (a line is broken there); a chart without any drawable point is an Error, as
// are lists whose lengths differ.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cmir {

struct Series {
  std::string name;
  std::vector<double> x, y;
  std::vector<double> error;  ///< half height of the error bar or band at each point; may be empty
  int style = -1;  ///< number of colour and marker, of 8; -1: the series' own among the chart's
  bool dashed = false;
};

/// A dashed horizontal line, e.g. the paper's figure or the share of the majority class.
struct ReferenceLine {
  std::string name;
  double y = 0;
};

struct LineChart {
  std::string title, x_label, y_label;
  std::vector<Series> series;
  std::vector<ReferenceLine> references = {};
  bool log_x = false;  ///< every x must then be positive
  bool log_y = false;  ///< every y, and y less its error, must then be positive
  bool bands = false;  ///< errors as bands instead of bars
};

struct BarSeries {
  std::string name;
  std::vector<double> values;  ///< one per group
  std::vector<double> errors;  ///< one per group, or empty
};

struct BarChart {
  std::string title, y_label;
  std::vector<std::string> groups;
  std::vector<BarSeries> series;
  std::vector<ReferenceLine> references = {};
  int decimals = 1;  ///< of the value printed over each bar
  bool from_zero =
      true;  ///< false: the axis starts just below the lowest value, and says so under the title
};

struct ScatterClass {
  std::string name;
  std::vector<double> x, y;
  std::vector<std::string> labels = {};  ///< of the points, shown under the pointer; may be empty
};

struct ScatterChart {
  std::string title, x_label, y_label;
  std::vector<ScatterClass> classes;
  std::vector<Series> lines = {};  ///< without markers, behind the points
  bool log = false;                ///< both axes: every x and y must then be positive
};

/// Values of rows by columns, at least 0, as shades from white (0) to dark blue (the map's
/// largest).
struct HeatMap {
  std::string title;
  std::int64_t rows = 0, columns = 0;
  std::vector<double> values;  ///< [rows, columns]; none: the map is drawn as an empty frame
};

/// Maps of one size side by side, `per_line` in a line. Of a map with more than kHeatMapCells rows
/// or columns, means over neighbouring cells are drawn.
struct HeatMapChart {
  std::string title, x_label, y_label;
  std::vector<HeatMap> maps;
  std::size_t per_line = 1;
};
inline constexpr std::int64_t kHeatMapCells = 48;

std::string svg(const LineChart& chart);
std::string svg(const BarChart& chart);
std::string svg(const ScatterChart& chart);
std::string svg(const HeatMapChart& chart);

}  // namespace cmir
