#include "models/evaluation/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace cmir {
namespace {

/// Characters of UTF-8 text: every byte but the continuation bytes.
std::size_t display_width(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string padded(const std::string& text, std::size_t width, bool right) {
  const std::string fill(width - std::min(width, display_width(text)), ' ');
  return right ? fill + text : text + fill;
}

std::string replaced(std::string text, char from, const std::string& to) {
  for (std::size_t i = 0; (i = text.find(from, i)) != std::string::npos; i += to.size()) {
    text.replace(i, 1, to);
  }
  return text;
}

bool has_number(const Cell& cell) { return cell.value && std::isfinite(*cell.value); }

std::string number(double value, int decimals) { return fmt::format("{:.{}f}", value, decimals); }

}  // namespace

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {
  require(!columns_.empty(), "table", "needs at least one column");
}

void Table::add_row(std::vector<Cell> cells, bool reference) {
  require(cells.size() == columns_.size(), "table", "a row of {} cells does not fit {} columns",
          cells.size(), columns_.size());
  rows_.push_back({std::move(cells), reference, rule_pending_});
  rule_pending_ = false;
}

void Table::add_rule() { rule_pending_ = !rows_.empty(); }

bool Table::is_best(std::size_t row, std::size_t column) const {
  const auto [header, best, decimals] = columns_[column];
  if (best == Best::none || rows_[row].reference || !has_number(rows_[row].cells[column])) {
    return false;
  }
  const auto printed = [&, digits = decimals](const Row& r) {
    return std::stod(number(*r.cells[column].value, digits));
  };
  const double own = printed(rows_[row]);
  std::size_t rivals = 0;
  for (const Row& other : rows_) {
    if (other.reference || !has_number(other.cells[column])) continue;
    ++rivals;
    if (best == Best::highest ? printed(other) > own : printed(other) < own) return false;
  }
  return rivals > 1;
}

std::string Table::value_text(std::size_t row, std::size_t column) const {
  const Cell& cell = rows_[row].cells[column];
  if (has_number(cell)) return number(*cell.value, columns_[column].decimals);
  return cell.text.empty() ? "-" : cell.text;
}

std::string Table::spread_text(std::size_t row, std::size_t column) const {
  const Cell& cell = rows_[row].cells[column];
  if (!has_number(cell) || !cell.deviation || !std::isfinite(*cell.deviation)) return "";
  return " ± " + number(*cell.deviation, columns_[column].decimals);
}

std::string Table::plain() const {
  // A column of numbers is two columns set solid: the value with its mark to the right, the spread
  // to the left.
  std::vector<std::string> lines(rows_.size());
  std::string head, rule;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    const auto& [header, best, decimals] = columns_[c];
    std::vector<std::string> values, spreads;
    std::size_t value_width = 0, spread_width = 0;
    bool words = c == 0;
    for (std::size_t r = 0; r < rows_.size(); ++r) {
      const char* mark = best == Best::none ? "" : is_best(r, c) ? "*" : " ";
      values.push_back(value_text(r, c) + mark);
      spreads.push_back(spread_text(r, c));
      value_width = std::max(value_width, display_width(values[r]));
      spread_width = std::max(spread_width, display_width(spreads[r]));
      words = words || !rows_[r].cells[c].text.empty();
    }
    const std::size_t width = std::max(value_width + spread_width, display_width(header));
    const char* gap = c ? "  " : "";
    head += gap + padded(header, width, !words && spread_width == 0);
    rule += gap + std::string(width, '-');
    for (std::size_t r = 0; r < rows_.size(); ++r) {
      const bool is_text = c == 0 || !rows_[r].cells[c].text.empty();
      const std::string text =
          is_text ? values[r]
                  : padded(values[r], value_width, true) + padded(spreads[r], spread_width, false);
      lines[r] += gap + padded(text, width, !is_text);
    }
  }
  const auto trimmed = [](const std::string& line) {
    return line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  };
  std::string text = trimmed(head) + rule + "\n";
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    if (rows_[r].rule_above) text += rule + "\n";
    text += trimmed(lines[r]);
  }
  return text;
}

std::string Table::markdown() const {
  const auto escaped = [](const std::string& text) {
    return replaced(replaced(text, '|', "\\|"), '\n', " ");
  };
  std::string head = "|", rule = "|", body;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    head += " " + escaped(columns_[c].header) + " |";
    rule += c == 0 ? " --- |" : " ---: |";
  }
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    body += "|";
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      const std::string bold = is_best(r, c) ? "**" : "";
      body += " " + bold + escaped(value_text(r, c)) + bold + spread_text(r, c) + " |";
    }
    body += "\n";
  }
  return head + "\n" + rule + "\n" + body;
}

}  // namespace cmir
