#include "models/evaluation/svg.h"

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>

namespace cmir {
namespace {

constexpr const char* kHalo = " stroke=\"#ffffff\" stroke-width=\"3\" paint-order=\"stroke\"";

/// Bytes of the UTF-8 sequence at the start of `text` that XML 1.0 can hold; 0 when there is none.
std::size_t valid_sequence(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) return lead >= 0x20 || lead == '\t' || lead == '\n' ? 1 : 0;
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return 0;
  std::uint32_t code = lead & (0xFFU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3FU);
  }
  const bool overlong = code < (length == 4 ? 0x10000U : length == 3 ? 0x800U : 0x80U);
  const bool forbidden =
      (code >= 0xD800 && code < 0xE000) || code == 0xFFFE || code == 0xFFFF || code > 0x10FFFF;
  return overlong || forbidden ? 0 : length;
}

std::string points_attribute(const std::vector<Svg::Point>& points) {
  std::string text;
  for (const auto& [x, y] : points)
    text += fmt::format("{}{:.2f},{:.2f}", text.empty() ? "" : " ", x, y);
  return text;
}

}  // namespace

std::string escape_xml(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const std::size_t length = valid_sequence(text);
    switch (text.front()) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += length ? text.substr(0, length) : "?";
    }
    text.remove_prefix(length ? length : 1);
  }
  return result;
}

double text_width(std::string_view text, double size) {
  double ems = 0;
  for (const char c : text) {
    if ((c & 0xC0) == 0x80) continue;  // the rest of a character already counted
    if (std::string_view("iljtfI.,:;|!'()[] ").find(c) != std::string_view::npos) {
      ems += 0.36;
    } else if (std::string_view("mwMW@%").find(c) != std::string_view::npos) {
      ems += 0.92;
    } else {
      ems += c >= 'A' && c <= 'Z' ? 0.70 : 0.61;
    }
  }
  return ems * size;
}

void Svg::line(Point from, Point to, std::string_view color, double width, bool dashed) {
  body_ += fmt::format(
      "<line x1=\"{:.2f}\" y1=\"{:.2f}\" x2=\"{:.2f}\" y2=\"{:.2f}\" stroke=\"{}\" "
      "stroke-width=\"{}\"{}/>\n",
      from.first, from.second, to.first, to.second, color, width,
      dashed ? " stroke-dasharray=\"6 4\"" : "");
}

void Svg::polyline(const std::vector<Point>& points, std::string_view color, double width,
                   bool dashed) {
  body_ += fmt::format(
      "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" "
      "stroke-linejoin=\"round\"{}/>\n",
      points_attribute(points), color, width, dashed ? " stroke-dasharray=\"6 4\"" : "");
}

void Svg::polygon(const std::vector<Point>& points, std::string_view color, double opacity) {
  body_ += fmt::format("<polygon points=\"{}\" fill=\"{}\" fill-opacity=\"{}\"/>\n",
                       points_attribute(points), color, opacity);
}

void Svg::rectangle(Point corner, double width, double height, std::string_view color) {
  body_ += fmt::format(
      "<rect x=\"{:.2f}\" y=\"{:.2f}\" width=\"{:.2f}\" height=\"{:.2f}\" fill=\"{}\"/>\n",
      corner.first, corner.second, width, height, color);
}

void Svg::marker(int shape, Point centre, double radius, std::string_view color,
                 std::string_view title) {
  if (!title.empty()) body_ += fmt::format("<g><title>{}</title>", escape_xml(title));
  draw_marker(shape, centre, radius, color);
  if (!title.empty()) body_ += "</g>\n";
}

void Svg::draw_marker(int shape, Point centre, double radius, std::string_view color) {
  const auto [x, y] = centre;
  const double r = radius;
  // A white rim keeps markers apart where they overlap.
  const std::string filled =
      fmt::format("fill=\"{}\" stroke=\"#ffffff\" stroke-width=\"{:.2f}\"", color, r * 0.22);
  const std::string stroked =
      fmt::format("fill=\"none\" stroke=\"{}\" stroke-width=\"{:.2f}\"", color, r * 0.55);
  const auto shape_of = [&](const std::string& path, const std::string& style) {
    body_ += fmt::format("<path d=\"{}\" {}/>\n", path, style);
  };
  switch (shape % kMarkerShapes) {
    case 0:
      body_ +=
          fmt::format("<circle cx=\"{:.2f}\" cy=\"{:.2f}\" r=\"{:.2f}\" {}/>\n", x, y, r, filled);
      break;
    case 1:
      shape_of(fmt::format("M{:.2f} {:.2f}h{s:.2f}v{s:.2f}h-{s:.2f}z", x - 0.9 * r, y - 0.9 * r,
                           fmt::arg("s", 1.8 * r)),
               filled);
      break;
    case 2:
    case 4: {
      const double up = shape % kMarkerShapes == 2 ? 1 : -1;
      shape_of(fmt::format("M{:.2f} {:.2f}L{:.2f} {:.2f}L{:.2f} {:.2f}z", x, y - up * 1.2 * r,
                           x + 1.15 * r, y + up * 0.85 * r, x - 1.15 * r, y + up * 0.85 * r),
               filled);
      break;
    }
    case 3:
      shape_of(fmt::format("M{:.2f} {:.2f}l{s:.2f} {s:.2f}l-{s:.2f} {s:.2f}l-{s:.2f} -{s:.2f}z", x,
                           y - 1.25 * r, fmt::arg("s", 1.25 * r)),
               filled);
      break;
    case 5:
      shape_of(fmt::format("M{:.2f} {:.2f}h{s:.2f}M{:.2f} {:.2f}v{s:.2f}", x - 1.1 * r, y, x,
                           y - 1.1 * r, fmt::arg("s", 2.2 * r)),
               stroked);
      break;
    case 6:
      shape_of(
          fmt::format("M{:.2f} {:.2f}l{s:.2f} {s:.2f}M{:.2f} {:.2f}l{s:.2f} -{s:.2f}", x - 0.85 * r,
                      y - 0.85 * r, x - 0.85 * r, y + 0.85 * r, fmt::arg("s", 1.7 * r)),
          stroked);
      break;
    default:
      body_ += fmt::format("<circle cx=\"{:.2f}\" cy=\"{:.2f}\" r=\"{:.2f}\" {}/>\n", x, y, 0.8 * r,
                           stroked);
  }
}

void Svg::text(Point at, std::string_view text, const TextStyle& style, std::string_view exponent) {
  body_ += fmt::format(
      "<text x=\"{:.2f}\" y=\"{:.2f}\" font-size=\"{:.2f}\" text-anchor=\"{}\" fill=\"{}\"{}{}>{}",
      at.first, at.second, style.size, style.anchor, style.color,
      fmt::format("{}{}", style.bold ? " font-weight=\"bold\"" : "", style.halo ? kHalo : ""),
      style.angle == 0 ? ""
                       : fmt::format(" transform=\"rotate({:.1f} {:.2f} {:.2f})\"", style.angle,
                                     at.first, at.second),
      escape_xml(text));
  if (!exponent.empty()) {
    body_ += fmt::format("<tspan dy=\"{:.2f}\" font-size=\"{:.2f}\">{}</tspan>", -0.4 * style.size,
                         0.75 * style.size, escape_xml(exponent));
  }
  body_ += "</text>\n";
}

std::string Svg::document(double width, double height, std::string_view title) const {
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w:.0f}\" height=\"{h:.0f}\" viewBox=\"0 "
      "0 {w:.0f} {h:.0f}\" "
      "role=\"img\" font-family=\"Helvetica, Arial, 'DejaVu Sans', "
      "sans-serif\">\n<title>{title}</title>\n"
      "<rect width=\"{w:.0f}\" height=\"{h:.0f}\" fill=\"#ffffff\"/>\n{body}</svg>\n",
      fmt::arg("w", width), fmt::arg("h", height), fmt::arg("title", escape_xml(title)),
      fmt::arg("body", body_));
}

}  // namespace cmir
