// Heat maps, the only picture without axes.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "models/evaluation/plot.h"
#include "models/evaluation/svg.h"

namespace cmir {
namespace {

constexpr double kSide = 150, kGap = 26, kMargin = 40, kTitles = 34;

/// White to the palette's blue, darkened.
std::string shade(double part) {
  const auto mix = [&](int dark) {
    return static_cast<int>(std::lround(255 + part * (dark - 255)));
  };
  return fmt::format("#{:02x}{:02x}{:02x}", mix(0x00), mix(0x33), mix(0x66));
}

/// The map with at most kHeatMapCells rows and columns, each the mean of the cells it stands for.
HeatMap coarsened(const HeatMap& map) {
  HeatMap coarse{.title = map.title,
                 .rows = std::min(map.rows, kHeatMapCells),
                 .columns = std::min(map.columns, kHeatMapCells)};
  for (std::int64_t r = 0; r < coarse.rows; ++r) {
    for (std::int64_t c = 0; c < coarse.columns; ++c) {
      const std::int64_t r0 = r * map.rows / coarse.rows, r1 = (r + 1) * map.rows / coarse.rows;
      const std::int64_t c0 = c * map.columns / coarse.columns,
                         c1 = (c + 1) * map.columns / coarse.columns;
      double sum = 0;
      for (std::int64_t i = r0; i < r1; ++i) {
        for (std::int64_t j = c0; j < c1; ++j) sum += map.values[i * map.columns + j];
      }
      coarse.values.push_back(sum / static_cast<double>((r1 - r0) * (c1 - c0)));
    }
  }
  return coarse;
}

void draw(Svg& shapes, const HeatMap& whole, Svg::Point corner) {
  const HeatMap map = coarsened(whole);
  const auto [x, y] = corner;
  const double largest = map.values.empty() ? 0 : *std::ranges::max_element(map.values);
  const double width = kSide / static_cast<double>(std::max<std::int64_t>(map.columns, 1));
  const double height = kSide / static_cast<double>(std::max<std::int64_t>(map.rows, 1));
  for (std::size_t i = 0; i < map.values.size(); ++i) {
    const auto row = static_cast<double>(i / map.columns),
               column = static_cast<double>(i % map.columns);
    shapes.rectangle({x + column * width, y + row * height}, width, height,
                     shade(largest > 0 ? map.values[i] / largest : 0));
  }
  const Svg::Point right{x + kSide, y}, below{x, y + kSide}, across{x + kSide, y + kSide};
  for (const auto& [from, to] :
       {std::pair{corner, right}, {right, across}, {across, below}, {below, corner}})
    shapes.line(from, to, "#666666", 1);
  shapes.text({x, y - 16}, whole.title, {.size = 10, .anchor = "start", .bold = true});
  shapes.text({x, y - 5},
              fmt::format("{} x {}, largest {:.3g}", whole.rows, whole.columns, largest),
              {.size = 9, .anchor = "start"});
}

}  // namespace

std::string svg(const HeatMapChart& chart) {
  require(!chart.maps.empty() && chart.per_line > 0, chart.title, "there is no map to draw");
  const std::size_t lines = (chart.maps.size() + chart.per_line - 1) / chart.per_line;
  Svg shapes;
  for (std::size_t i = 0; i < chart.maps.size(); ++i) {
    const HeatMap& map = chart.maps[i];
    require(
        static_cast<std::int64_t>(map.values.size()) == map.rows * map.columns &&
            std::ranges::all_of(map.values, [](double v) { return std::isfinite(v) && v >= 0; }),
        map.title, "needs {} x {} values, finite and at least 0", map.rows, map.columns);
    const auto column = static_cast<double>(i % chart.per_line),
               line = static_cast<double>(i / chart.per_line);
    draw(shapes, map,
         {kMargin + column * (kSide + kGap), 2 * kMargin + line * (kSide + kGap + kTitles)});
  }
  const double width =
      std::max(2 * kMargin + static_cast<double>(chart.per_line) * (kSide + kGap) - kGap,
               2 * kMargin + text_width(chart.title, 15));
  const double height =
      3 * kMargin + static_cast<double>(lines) * (kSide + kGap + kTitles) - kTitles;
  shapes.text({kMargin, 28}, chart.title, {.size = 15, .anchor = "start", .bold = true});
  shapes.text({width / 2, height - 14}, chart.x_label, {});
  shapes.text({16, height / 2}, chart.y_label, {.angle = -90});
  return shapes.document(width, height, chart.title);
}

}  // namespace cmir
