// The few shapes of SVG that plots are made of.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cmir {

/// Text made safe for XML content and attributes: markup is escaped, bytes that are no UTF-8 and
/// control characters become '?'.
std::string escape_xml(std::string_view text);

/// Approximate width in pixels of text in a common sans-serif face, rather too wide than too
/// narrow.
double text_width(std::string_view text, double size);

struct TextStyle {
  double size = 12;
  const char* anchor = "middle";  ///< "start", "middle" or "end"
  bool bold = false;
  double angle = 0;  ///< degrees, clockwise about the anchor
  const char* color = "#333333";
  bool halo = false;  ///< a white rim, to stay readable over lines
};

/// Shapes in pixels, y downwards, drawn in the order of the calls.
class Svg {
 public:
  using Point = std::pair<double, double>;
  static constexpr int kMarkerShapes = 8;

  void line(Point from, Point to, std::string_view color, double width, bool dashed = false);
  void polyline(const std::vector<Point>& points, std::string_view color, double width,
                bool dashed = false);
  void polygon(const std::vector<Point>& points, std::string_view color, double opacity);
  void rectangle(Point corner, double width, double height, std::string_view color);
  /// Shape 0..7: circle, square, triangle up, diamond, triangle down, plus, cross, ring. `title` is
  /// shown under the pointer, and escaped here.
  void marker(int shape, Point centre, double radius, std::string_view color,
              std::string_view title = "");
  /// `text` is escaped here. `exponent` is set as a superscript behind it.
  void text(Point at, std::string_view text, const TextStyle& style,
            std::string_view exponent = "");

  /// The document, on a white ground; `title` is its accessible name.
  std::string document(double width, double height, std::string_view title) const;

 private:
  void draw_marker(int shape, Point centre, double radius, std::string_view color);

  std::string body_;
};

}  // namespace cmir
