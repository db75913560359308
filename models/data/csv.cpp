#include "models/data/csv.h"

#include <charconv>
#include <cmath>

#include "core/error.h"
#include "core/formats/file.h"

namespace cmir {
namespace {

/// Reads rows off a text from front to back.
class Scanner {
 public:
  Scanner(std::string_view text, const std::string& file) : text_(text), file_(file) {}

  bool done() const { return at_ == text_.size(); }

  CsvRow row() {
    CsvRow row;
    row.line = line_;
    while (true) {
      row.fields.push_back(peek() == '"' ? quoted() : plain());
      if (done()) return row;
      const char next = text_[at_++];
      if (next == ',') continue;
      if (next == '\r' && peek() == '\n')
        ++at_;
      else if (next != '\n')
        fail(ErrorKind::data, fmt::format("{}:{}", file_, line_),
             "needs a comma or a line end after a field, got \"{}\"", next);
      ++line_;
      return row;
    }
  }

 private:
  char peek() const { return done() ? '\0' : text_[at_]; }

  std::string plain() {
    const auto end = std::min(text_.find_first_of(",\"\r\n", at_), text_.size());
    std::string field(text_.substr(at_, end - at_));
    at_ = end;
    return field;
  }

  std::string quoted() {
    const std::int64_t opened = line_;
    std::string field;
    for (++at_; !done(); ++at_) {
      if (text_[at_] == '"') {
        ++at_;
        if (peek() != '"') return field;
      }
      line_ += text_[at_] == '\n' ? 1 : 0;
      field += text_[at_];
    }
    fail(ErrorKind::data, fmt::format("{}:{}", file_, opened),
         "opens a quote that is never closed");
  }

  std::string_view text_;
  const std::string& file_;
  std::size_t at_ = 0;
  std::int64_t line_ = 1;
};

}  // namespace

CsvFile CsvFile::read(const std::filesystem::path& file) {
  const auto mapped = MappedFile::open(file);
  const auto bytes = mapped->bytes();
  CsvFile csv;
  csv.file_ = file.string();
  Scanner scanner({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, csv.file_);
  while (!scanner.done()) {
    csv.rows_.push_back(scanner.row());
    const CsvRow& row = csv.rows_.back();
    if (row.fields.size() != csv.columns())
      fail(ErrorKind::data, csv.where(row), "has {} fields, the first row has {}",
           row.fields.size(), csv.columns());
  }
  return csv;
}

double CsvFile::number(const CsvRow& row, std::size_t column) const {
  const std::string& text = row.fields.at(column);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value))
    fail(ErrorKind::data, where(row), "column {} must be a finite number, got \"{}\"", column + 1,
         text);
  return value;
}

std::int64_t CsvFile::integer(const CsvRow& row, std::size_t column, std::int64_t low,
                              std::int64_t high) const {
  const double value = number(row, column);
  if (value != std::floor(value) || value < static_cast<double>(low) ||
      value > static_cast<double>(high))
    fail(ErrorKind::data, where(row), "column {} must be an integer in {}..{}, got \"{}\"",
         column + 1, low, high, row.fields[column]);
  return static_cast<std::int64_t>(value);
}

std::string CsvFile::where(const CsvRow& row) const {
  return fmt::format("{}:{}", file_, row.line);
}

}  // namespace cmir
