#include "models/evaluation/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>

#include "core/error.h"
#include "models/evaluation/svg.h"

namespace cmir {
namespace {

using Point = Svg::Point;

constexpr std::array<const char*, 8> kPalette{"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                              "#e69f00", "#56b4e9", "#555555", "#882255"};
constexpr const char* kGrid = "#e6e6e6";
constexpr const char* kAxis = "#666666";
constexpr const char* kReference = "#777777";
constexpr double kPlotWidth = 620, kPlotHeight = 320, kTickSize = 12, kLabelSize = 13;

const char* color_of(std::size_t index) { return kPalette[index % kPalette.size()]; }
std::size_t style_of(const Series& series, std::size_t index) {
  return series.style < 0 ? index : static_cast<std::size_t>(series.style);
}

/// Values beyond 1e100 would overflow when ranges are formed; no result is that large.
bool drawable(double value) { return std::abs(value) < 1e100; }

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void include(double value) {
    if (!drawable(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return low > high; }
  /// Room around a single value, so that an axis has a length.
  void widen_if_degenerate() {
    if (high - low > 1e-9 * std::max(std::abs(low), std::abs(high))) return;
    const double room = low == 0 ? 0.5 : 0.1 * std::abs(low);
    low -= room;
    high += room;
  }
};

struct Tick {
  double value = 0;
  std::string label, exponent;
};

struct Axis {
  double low = 0, high = 1;  // in data units, or their log10
  double from = 0, to = 1;   // in pixels
  bool log = false;
  std::vector<Tick> ticks;

  double at(double value) const {
    const double position = log ? std::log10(value) : value;
    return from + (position - low) / (high - low) * (to - from);
  }
  double label_width() const {
    double width = 0;
    for (const Tick& tick : ticks) {
      width = std::max(
          width, text_width(tick.label, kTickSize) + text_width(tick.exponent, 0.75 * kTickSize));
    }
    return width;
  }
};

std::string with_minus(std::string number) {
  if (!number.empty() && number.front() == '-') number.replace(0, 1, "\u2212");
  return number;
}

/// The smallest of 1, 2, 2.5, 5 times a power of ten that is at least `rough`.
double nice_step(double rough) {
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 2.5, 5.0}) {
    if (factor * power >= rough * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

std::string step_label(double value, double step) {
  if (std::abs(value) < step * 1e-6) return "0";
  if (std::abs(value) >= 1e6 || step < 1e-5) return with_minus(fmt::format("{:.4g}", value));
  int decimals = 0;
  for (double s = step; decimals < 8 && std::abs(s - std::round(s)) > 1e-6 * s; s *= 10) ++decimals;
  return with_minus(fmt::format("{:.{}f}", value, decimals));
}

/// A linear axis over `range`; its ends move out to ticks if `extend`.
Axis linear_axis(Range range, bool extend, int intervals = 5) {
  range.widen_if_degenerate();
  const double step = nice_step((range.high - range.low) / intervals);
  if (extend) {
    range.low = std::floor(range.low / step + 1e-9) * step;
    range.high = std::ceil(range.high / step - 1e-9) * step;
  }
  Axis axis{.low = range.low, .high = range.high};
  const double first = std::ceil(range.low / step - 1e-9);
  for (double i = first; i * step <= range.high + 1e-9 * step; ++i) {
    axis.ticks.push_back({i * step, step_label(i * step, step), ""});
  }
  return axis;
}

Axis log_axis(Range range) {
  Axis axis{.low = std::log10(range.low), .high = std::log10(range.high), .log = true};
  const double room = axis.high > axis.low ? 0.04 * (axis.high - axis.low) : 0.5;
  axis.low -= room;
  axis.high += room;
  const int first = static_cast<int>(std::ceil(axis.low)),
            last = static_cast<int>(std::floor(axis.high));
  const int stride = std::max(1, (last - first) / 9);
  if (last - first < 2) {  // too few decades to read: fractions of them, written out
    for (int decade = first - 1; decade <= last; ++decade) {
      for (const double factor : {1.0, 2.0, 5.0}) {
        const double value = factor * std::pow(10, decade);
        if (std::log10(value) < axis.low || std::log10(value) > axis.high) continue;
        axis.ticks.push_back({value, fmt::format("{:g}", value), ""});
      }
    }
    if (axis.ticks.size() >= 2) return axis;
    axis.ticks = {{range.low, fmt::format("{:.3g}", range.low), ""}};
    const std::string high = fmt::format("{:.3g}", range.high);
    if (high != axis.ticks[0].label) axis.ticks.push_back({range.high, high, ""});
    return axis;
  }
  for (int decade = first; decade <= last; decade += stride) {
    axis.ticks.push_back({std::pow(10, decade), "10", with_minus(std::to_string(decade))});
  }
  return axis;
}

/// Ticks at the x values themselves where they are few and their labels have room.
void tick_at_values(Axis& axis, const std::set<double>& values) {
  if (values.size() < 2 || values.size() > 12) return;
  Axis exact = axis;
  exact.ticks.clear();
  for (const double value : values) {
    exact.ticks.push_back({value, with_minus(fmt::format("{:.4g}", value)), ""});
  }
  for (std::size_t i = 1; i < exact.ticks.size(); ++i) {
    const double gap = exact.at(exact.ticks[i].value) - exact.at(exact.ticks[i - 1].value);
    if (gap * kPlotWidth < exact.label_width() + 8) return;  // at() of an unplaced axis is in 0..1
  }
  axis.ticks = std::move(exact.ticks);
}

struct LegendEntry {
  std::string name;
  const char* color;
  int shape = -1;     // marker, or a patch (-1)
  bool line = false;  // drawn through the marker
  bool dashed = false;
};

/// The parts that all charts share: title, legend, frame, axes. Construct, then draw data between
/// `left`, `right`, `top` and `bottom`.
class Frame {
 public:
  Frame(std::string title, const std::string& note, const std::vector<LegendEntry>& legend,
        const std::string& y_label, Axis y_axis, double plot_width = kPlotWidth,
        double least_left = 0)
      : y(std::move(y_axis)), title_(std::move(title)) {
    left = std::max(least_left, 30 + y.label_width() + (y_label.empty() ? 0 : 22));
    right = left + plot_width;
    top = 44;
    const double fitting = 17 * std::min(1.0, (plot_width + 10) / text_width(title_, 17 * 1.08));
    shapes.text({left, 30}, title_,
                {.size = fitting, .anchor = "start", .bold = true, .color = "#222222"});
    if (!note.empty()) {
      shapes.text({left, top + 4}, note, {.size = 11.5, .anchor = "start", .color = kAxis});
      top += 18;
    }
    draw_legend(legend);
    top += 12;
    bottom = top + kPlotHeight;
    y.from = bottom;
    y.to = top;
    for (const Tick& tick : y.ticks) {
      shapes.line({left, y.at(tick.value)}, {right, y.at(tick.value)}, kGrid, 1);
      shapes.text({left - 8, y.at(tick.value) + 0.35 * kTickSize}, tick.label,
                  {.size = kTickSize, .anchor = "end"}, tick.exponent);
    }
    if (!y_label.empty()) {
      shapes.text({20, (top + bottom) / 2}, y_label, {.size = kLabelSize, .angle = -90});
    }
    height = bottom + 16;
  }

  void draw_x_axis(Axis& x, const std::string& x_label) {
    x.from = left;
    x.to = right;
    for (const Tick& tick : x.ticks) {
      shapes.line({x.at(tick.value), bottom}, {x.at(tick.value), bottom + 5}, kAxis, 1);
      shapes.text({x.at(tick.value), bottom + 20}, tick.label, {.size = kTickSize}, tick.exponent);
    }
    height = bottom + 32;
    if (!x_label.empty()) {
      shapes.text({(left + right) / 2, bottom + 42}, x_label, {.size = kLabelSize});
      height = bottom + 56;
    }
  }

  void draw_references(const std::vector<ReferenceLine>& references) {
    for (const ReferenceLine& reference : references) {
      if (!drawable(reference.y)) continue;
      shapes.line({left, y.at(reference.y)}, {right, y.at(reference.y)}, kReference, 1.4, true);
    }
  }

  void draw_error(double at, double value, double error, double cap, const char* color) {
    if (!drawable(error) || error <= 0) return;
    const double high = y.at(value + error), low = y.at(value - error);
    shapes.line({at, high}, {at, low}, color, 1.3);
    shapes.line({at - cap, high}, {at + cap, high}, color, 1.3);
    shapes.line({at - cap, low}, {at + cap, low}, color, 1.3);
  }

  std::string finish() {
    shapes.line({left, bottom}, {right, bottom}, kAxis, 1.2);
    return shapes.document(right + 26, height, title_);
  }

  Svg shapes;
  Axis y;
  double left = 0, right = 0, top = 0, bottom = 0, height = 0;

 private:
  void draw_legend(const std::vector<LegendEntry>& legend) {
    if (legend.empty()) return;
    double x = left;
    top += 8;
    for (const LegendEntry& entry : legend) {
      const double width = 34 + text_width(entry.name, 12) + 12;
      if (x > left && x + width > right + 20) {
        x = left;
        top += 19;
      }
      if (entry.line) shapes.line({x, top - 4}, {x + 26, top - 4}, entry.color, 2, entry.dashed);
      if (entry.shape >= 0) shapes.marker(entry.shape, {x + 13, top - 4}, 4.5, entry.color);
      if (entry.shape < 0 && !entry.line) shapes.rectangle({x + 8, top - 10}, 16, 11, entry.color);
      shapes.text({x + 32, top}, entry.name, {.size = 12, .anchor = "start"});
      x += width;
    }
    top += 6;
  }

  std::string title_;
};

void require_same_length(std::string_view name, std::string_view what, std::size_t got,
                         std::size_t wanted) {
  require(got == wanted, "plot", "series '{}' has {} {} for {} points", name, got, what, wanted);
}

void require_data(const Range& range, const std::string& title) {
  require(!range.empty(), "plot", "'{}' has no finite point to draw", title);
}

void append_references(std::vector<LegendEntry>& legend,
                       const std::vector<ReferenceLine>& references, Range& range) {
  for (const ReferenceLine& reference : references) {
    range.include(reference.y);
    legend.push_back({reference.name, kReference, -1, true, true});
  }
  if (!references.empty() && !range.empty()) {  // so that no reference lies on the frame
    const double room = 0.02 * (range.high - range.low);
    range.low -= room;
    range.high += room;
  }
}

double error_at(const std::vector<double>& errors, std::size_t i) {
  return errors.empty() || !drawable(errors[i]) ? 0 : std::abs(errors[i]);
}

void draw_series(Frame& frame, const Axis& x, const Series& series, std::size_t index, bool bands) {
  const char* color = color_of(index);
  std::vector<std::vector<std::size_t>> runs(1);  // a skipped point breaks the line
  for (std::size_t i = 0; i < series.x.size(); ++i) {
    if (drawable(series.x[i]) && drawable(series.y[i])) {
      runs.back().push_back(i);
    } else {
      runs.emplace_back();
    }
  }
  const auto pixel = [&](std::size_t i, double offset) {
    return Point{x.at(series.x[i]), frame.y.at(series.y[i] + offset)};
  };
  for (const auto& run : runs) {
    if (run.empty()) continue;
    std::vector<Point> line, outline;
    for (const std::size_t i : run) line.push_back(pixel(i, 0));
    if (bands && !series.error.empty()) {
      for (const std::size_t i : run) outline.push_back(pixel(i, error_at(series.error, i)));
      for (auto i = run.rbegin(); i != run.rend(); ++i) {
        outline.push_back(pixel(*i, -error_at(series.error, *i)));
      }
      frame.shapes.polygon(outline, color, 0.16);
    }
    const bool dense = series.x.size() > 40;  // a training curve: the line alone
    frame.shapes.polyline(line, color, dense && run.size() > 1 ? 1.6 : 2.2, series.dashed);
    if (dense && run.size() > 1) continue;
    for (const std::size_t i : run) {
      if (!bands) {
        frame.draw_error(x.at(series.x[i]), series.y[i], error_at(series.error, i), 4, color);
      }
      frame.shapes.marker(static_cast<int>(index), pixel(i, 0), 4.5, color);
    }
  }
}

}  // namespace

std::string svg(const LineChart& chart) {
  Range x_range, y_range;
  std::set<double> x_values;
  std::vector<LegendEntry> legend;
  for (const Series& series : chart.series) {
    require_same_length(series.name, "y values", series.y.size(), series.x.size());
    if (!series.error.empty()) {
      require_same_length(series.name, "errors", series.error.size(), series.x.size());
    }
    for (std::size_t i = 0; i < series.x.size(); ++i) {
      if (!drawable(series.x[i]) || !drawable(series.y[i])) continue;
      require(!chart.log_x || series.x[i] > 0, "plot",
              "x value {} of series '{}' has no place on a logarithmic axis", series.x[i],
              series.name);
      require(!chart.log_y || series.y[i] > error_at(series.error, i), "plot",
              "y value {} of series '{}' has no place on a logarithmic axis", series.y[i],
              series.name);
      x_range.include(series.x[i]);
      x_values.insert(series.x[i]);
      y_range.include(series.y[i] - error_at(series.error, i));
      y_range.include(series.y[i] + error_at(series.error, i));
    }
    const std::size_t style = style_of(series, legend.size());
    legend.push_back({series.name, color_of(style), static_cast<int>(style), true, series.dashed});
  }
  require_data(x_range, chart.title);
  append_references(legend, chart.references, y_range);
  Frame frame(chart.title, "", legend, chart.y_label,
              chart.log_y ? log_axis(y_range) : linear_axis(y_range, true));
  Axis x;
  if (chart.log_x) {
    x = log_axis(x_range);
  } else {
    x_range.widen_if_degenerate();
    const double room = 0.04 * (x_range.high - x_range.low);
    x = linear_axis({x_range.low - room, x_range.high + room}, false, 8);
    tick_at_values(x, x_values);
  }
  frame.draw_x_axis(x, chart.x_label);
  frame.draw_references(chart.references);
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    draw_series(frame, x, chart.series[i], style_of(chart.series[i], i), chart.bands);
  }
  return frame.finish();
}

std::string svg(const BarChart& chart) {
  Range range;
  std::vector<LegendEntry> legend;
  for (const BarSeries& series : chart.series) {
    require_same_length(series.name, "values", series.values.size(), chart.groups.size());
    if (!series.errors.empty()) {
      require_same_length(series.name, "errors", series.errors.size(), chart.groups.size());
    }
    for (std::size_t g = 0; g < series.values.size(); ++g) {
      if (!drawable(series.values[g])) continue;
      range.include(series.values[g] - error_at(series.errors, g));
      range.include(series.values[g] + error_at(series.errors, g));
    }
    legend.push_back({series.name, color_of(legend.size())});
  }
  require_data(range, chart.title);
  if (legend.size() == 1 && chart.references.empty() && legend[0].name.empty()) legend.clear();
  append_references(legend, chart.references, range);
  if (chart.from_zero) {
    range.include(0);
  } else {
    range.widen_if_degenerate();
    range.low -= 0.25 * (range.high - range.low);
  }
  const auto count = static_cast<double>(chart.series.size());
  const auto groups = static_cast<double>(chart.groups.size());
  const double plot_width = std::max(kPlotWidth, groups * (count * 18 + 16));
  const double group_width = plot_width / groups;
  const double bar = std::min(64.0, 0.82 * group_width / count);

  const auto label = [&](double value) {
    return with_minus(fmt::format("{:.{}f}", value, chart.decimals));
  };
  double widest = 0;
  for (const BarSeries& series : chart.series) {
    for (const double value : series.values) {
      if (drawable(value)) widest = std::max(widest, text_width(label(value), 11));
    }
  }
  const bool upright = widest > bar + 4;  // value labels stand where they have no room to lie
  const double label_room = (upright ? widest + 8 : 18) / kPlotHeight * (range.high - range.low);
  if (range.high > 0) range.high += label_room;
  if (range.low < 0) range.low -= label_room;
  double group_label = 0;
  for (const std::string& name : chart.groups) {
    group_label = std::max(group_label, text_width(name, kTickSize));
  }
  const bool slanted = group_label > group_width - 6;
  const double overhang = slanted ? 0.87 * group_label + 12 - group_width / 2 : 0;
  Frame frame(chart.title, chart.from_zero ? "" : "The vertical axis does not start at zero.",
              legend, chart.y_label, linear_axis(range, true), plot_width, overhang);
  const double base_value = std::clamp(0.0, frame.y.low, frame.y.high);
  const double base = frame.y.at(base_value);
  const auto group_centre = [&](std::size_t g) {
    return frame.left + (static_cast<double>(g) + 0.5) * group_width;
  };
  const auto bar_centre = [&](std::size_t s, std::size_t g) {
    return group_centre(g) + (static_cast<double>(s) + 0.5 - count / 2) * bar;
  };
  const auto for_each_bar = [&](auto&& draw) {
    for (std::size_t s = 0; s < chart.series.size(); ++s) {
      for (std::size_t g = 0; g < chart.groups.size(); ++g) {
        const BarSeries& series = chart.series[s];
        if (drawable(series.values[g])) {
          draw(bar_centre(s, g), series.values[g], error_at(series.errors, g), color_of(s));
        }
      }
    }
  };
  for_each_bar([&](double x, double value, double error, const char* color) {
    const double end = frame.y.at(value);
    frame.shapes.rectangle({x - bar / 2 + 1, std::min(end, base)}, std::max(1.0, bar - 2),
                           std::abs(base - end), color);
    frame.draw_error(x, value, error, std::min(4.0, bar / 4), "#222222");
  });
  frame.draw_references(chart.references);
  frame.shapes.line({frame.left, base}, {frame.right, base}, kAxis, 1);
  for_each_bar([&](double x, double value, double error, const char*) {
    const bool down = value < 0;
    const double tip = frame.y.at(down ? value - error : value + error);
    TextStyle style{.size = 11, .halo = true};
    if (upright) {
      style.anchor = down ? "end" : "start";
      style.angle = -90;
      frame.shapes.text({x + 4, down ? tip + 6 : tip - 6}, label(value), style);
    } else {
      frame.shapes.text({x, down ? tip + 14 : tip - 5}, label(value), style);
    }
  });
  for (std::size_t g = 0; g < chart.groups.size(); ++g) {
    if (slanted) {
      frame.shapes.text({group_centre(g) + 4, frame.bottom + 16}, chart.groups[g],
                        {.size = kTickSize, .anchor = "end", .angle = -30});
    } else {
      frame.shapes.text({group_centre(g), frame.bottom + 20}, chart.groups[g], {.size = kTickSize});
    }
  }
  frame.height = frame.bottom + (slanted ? 24 + 0.5 * group_label : 34);
  return frame.finish();
}

namespace {

/// Widens the range a little: of a logarithmic axis log_axis() does it.
Axis scatter_axis(Range range, bool log, int intervals) {
  if (log) return log_axis(range);
  range.widen_if_degenerate();
  const double room = 0.04 * (range.high - range.low);
  return linear_axis({range.low - room, range.high + room}, false, intervals);
}

void require_places(const ScatterChart& chart, const ScatterClass& group) {
  require_same_length(group.name, "y values", group.y.size(), group.x.size());
  if (!group.labels.empty())
    require_same_length(group.name, "labels", group.labels.size(), group.x.size());
  for (std::size_t i = 0; i < group.x.size(); ++i) {
    require(!chart.log || !drawable(group.x[i]) || !drawable(group.y[i]) ||
                (group.x[i] > 0 && group.y[i] > 0),
            "plot", "point ({}, {}) of '{}' has no place on logarithmic axes", group.x[i],
            group.y[i], group.name);
  }
}

}  // namespace

std::string svg(const ScatterChart& chart) {
  Range x_range, y_range;
  std::vector<LegendEntry> legend;
  std::size_t longest = 0;
  const auto include = [&](const std::vector<double>& x, const std::vector<double>& y) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (!drawable(x[i]) || !drawable(y[i])) continue;
      x_range.include(x[i]);
      y_range.include(y[i]);
    }
  };
  const auto shape_of = [](std::size_t c) {  // other pairs of shape and colour after the eighth
    return static_cast<int>(c + c / kPalette.size());
  };
  for (const ScatterClass& group : chart.classes) {
    require_places(chart, group);
    include(group.x, group.y);
    longest = std::max(longest, group.x.size());
    const std::size_t c = legend.size();
    legend.push_back({group.name, color_of(c), shape_of(c)});
  }
  for (const Series& line : chart.lines) {
    require_places(chart, {line.name, line.x, line.y});
    include(line.x, line.y);
    const bool dashed = legend.size() % 2 == chart.classes.size() % 2;
    legend.push_back({line.name, kReference, -1, true, dashed});
  }
  require_data(x_range, chart.title);
  Frame frame(chart.title, "", legend, chart.y_label, scatter_axis(y_range, chart.log, 5));
  Axis x = scatter_axis(x_range, chart.log, 8);
  frame.draw_x_axis(x, chart.x_label);
  for (std::size_t l = 0; l < chart.lines.size(); ++l) {
    const Series& line = chart.lines[l];
    for (std::size_t i = 1; i < line.x.size(); ++i) {
      frame.shapes.line({x.at(line.x[i - 1]), frame.y.at(line.y[i - 1])},
                        {x.at(line.x[i]), frame.y.at(line.y[i])}, kReference, 1.6, l % 2 == 0);
    }
  }
  const double radius = longest > 400 ? 2.6 : 3.6;
  for (std::size_t i = 0; i < longest; ++i) {  // classes take turns, so that none covers the others
    for (std::size_t c = 0; c < chart.classes.size(); ++c) {
      const ScatterClass& group = chart.classes[c];
      if (i >= group.x.size() || !drawable(group.x[i]) || !drawable(group.y[i])) continue;
      frame.shapes.marker(shape_of(c), {x.at(group.x[i]), frame.y.at(group.y[i])}, radius,
                          color_of(c), group.labels.empty() ? "" : group.labels[i]);
    }
  }
  return frame.finish();
}

}  // namespace cmir
