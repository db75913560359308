// Comma-separated values, read strictly (RFC 4180).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace cmir {

struct CsvRow {
  std::vector<std::string> fields;
  std::int64_t line = 0;  ///< where it begins, from 1
};

class CsvFile {
 public:
  /// Reads the whole file. Fields may be quoted ("" is a quote, and line ends are text, inside
  /// one); lines end with LF or CRLF. Error of kind data with FILE:LINE: a stray or unclosed quote,
  /// a row whose number of fields is not that of the first.
  static CsvFile read(const std::filesystem::path& file);

  const std::vector<CsvRow>& rows() const { return rows_; }
  /// Fields per row.
  std::size_t columns() const { return rows_.empty() ? 0 : rows_.front().fields.size(); }
  /// Field as a finite number; Error with FILE:LINE and the column otherwise.
  double number(const CsvRow& row, std::size_t column) const;
  /// Field as an integer in low .. high.
  std::int64_t integer(const CsvRow& row, std::size_t column, std::int64_t low,
                       std::int64_t high) const;
  /// "FILE:LINE", for the caller's own messages.
  std::string where(const CsvRow& row) const;

 private:
  std::string file_;
  std::vector<CsvRow> rows_;
};

}  // namespace cmir
