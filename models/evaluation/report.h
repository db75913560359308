// Machine-readable reports. Keys keep the order in which they were set; a NaN is written as null.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "models/evaluation/metrics.h"
#include "models/evaluation/table.h"

namespace cmir {

using Json = nlohmann::ordered_json;

/// {"Acc7": 49.8, ..., "Corr": 0.853}
Json to_json(const MetricValues& metrics);
/// [{"model": "CmIR", "Acc7": 49.8, ...}, ...]; a cell with a deviation is {"mean": 49.8, "sd":
/// 0.3}, an empty one null.
Json to_json(const Table& table);

/// Writes the report, indented, so that a reader sees the old file or the new one, never a part. An
/// unwritable path is an Error (kind io).
void write_json(const std::string& path, const Json& report);
/// Reads a report. A missing file is an Error of kind io, a malformed one an Error of kind data
/// that names the place.
Json read_json(const std::string& path);

}  // namespace cmir
