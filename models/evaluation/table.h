// Tables of results for a terminal and for Markdown.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace cmir {

/// What counts as the best value of a column.
enum class Best { none, highest, lowest };

struct Column {
  std::string header;
  Best best = Best::none;
  int decimals = 1;
};

/// Text, a number, or a number with its standard deviation. A NaN or default-made cell prints as
/// "-".
struct Cell {
  Cell() = default;
  Cell(std::string words) : text(std::move(words)) {}  // NOLINT(google-explicit-constructor)
  Cell(const char* words) : text(words) {}             // NOLINT(google-explicit-constructor)
  Cell(double number) : value(number) {}               // NOLINT(google-explicit-constructor)
  Cell(double number, double spread) : value(number), deviation(spread) {}

  std::string text;
  std::optional<double> value;
  std::optional<double> deviation;  ///< printed as "mean ± deviation"; a NaN is left out
};

/// Rows of cells under headers; numbers are aligned at the decimal point. The best value of each
/// column that names a direction is marked: `*` after it in plain text, bold in Markdown. Values
/// are compared as printed, so ties at the printed precision are all marked.
class Table {
 public:
  explicit Table(std::vector<Column> columns);

  /// As many cells as columns. A `reference` row (a published figure) takes no part in the choice
  /// of the best.
  void add_row(std::vector<Cell> cells, bool reference = false);
  /// A line between the rows before and after; Markdown has none.
  void add_rule();

  std::string plain() const;
  std::string markdown() const;

  const std::vector<Column>& columns() const { return columns_; }
  std::size_t row_count() const { return rows_.size(); }
  const std::vector<Cell>& row(std::size_t index) const { return rows_[index].cells; }

 private:
  struct Row {
    std::vector<Cell> cells;
    bool reference = false;
    bool rule_above = false;
  };
  bool is_best(std::size_t row, std::size_t column) const;
  std::string value_text(std::size_t row, std::size_t column) const;
  std::string spread_text(std::size_t row, std::size_t column) const;

  std::vector<Column> columns_;
  std::vector<Row> rows_;
  bool rule_pending_ = false;
};

}  // namespace cmir
