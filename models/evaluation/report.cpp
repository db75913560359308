#include "models/evaluation/report.h"

#include <cmath>
#include <fstream>

#include "core/error.h"
#include "core/formats/file.h"

namespace cmir {

Json to_json(const MetricValues& metrics) {
  Json json = Json::object();
  for (const MetricValue& metric : metrics) json[metric.name] = metric.value;
  return json;
}

Json to_json(const Table& table) {
  Json rows = Json::array();
  for (std::size_t r = 0; r < table.row_count(); ++r) {
    Json row = Json::object();
    for (std::size_t c = 0; c < table.columns().size(); ++c) {
      const Cell& cell = table.row(r)[c];
      Json& entry = row[table.columns()[c].header];
      if (cell.value && cell.deviation) {
        entry = {{"mean", *cell.value}, {"sd", *cell.deviation}};
      } else if (cell.value) {
        entry = *cell.value;
      } else if (!cell.text.empty()) {
        entry = cell.text;
      }
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

void write_json(const std::string& path, const Json& report) {
  // Text that is no UTF-8 is shown with replacement characters instead of losing the whole report.
  write_file_atomically(path, report.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

Json read_json(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(ErrorKind::io, "read_json", "cannot open '{}'", path);
  try {
    return Json::parse(file);
  } catch (const Json::exception& error) {
    fail(ErrorKind::data, "read_json", "'{}' is no valid JSON: {}", path, error.what());
  }
}

}  // namespace cmir
