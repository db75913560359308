// What benchmark programs measured: documents in Google Benchmark's JSON, and what a case's name
// and counters say.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/evaluation/report.h"

namespace cmir::bench {

/// One case, all its repetitions. Its name is KERNEL/PLACE[/VARIANT]/SIZE:VALUE/...
struct Case {
  std::string name;    ///< without what Google Benchmark adds ("/real_time")
  std::string family;  ///< of its program: "softmax" of softmax_bench
  std::string kernel, place, variant;
  std::vector<std::pair<std::string, double>> sizes;
  std::vector<double> seconds;       ///< of a call, one per repetition
  double bytes = 0, operations = 0;  ///< of a call; 0 where it does not count them
  double peak_megabytes = 0;         ///< 0 where it does not say
  double graph_seconds = 0;          ///< of a call in a replayed CUDA graph, or 0
  std::string error;                 ///< why it was not measured, which is a failure
  std::string left_out;              ///< why it was not run, which is none

  double median() const;
  /// NaN if it has none of that name.
  double size(std::string_view name) const;
  /// "rows 2400, width 12"
  std::string sizes_text() const;
  /// What a case and its peers have in common.
  std::string problem() const;
};

/// A kernel, or a training step, of ours; not its twin of cold caches ("cpu_cold").
bool is_ours(std::string_view place);
/// "cuda", "cuda_cold" and what ends in "@cuda": a training step of ours ("eager@cuda"), peers.
bool is_on_gpu(std::string_view place);

/// What a name of Google Benchmark's says.
Case case_of(std::string_view name);

/// {"context": {...}, "benchmarks": [...]}
struct Results {
  Json context = Json::object(), benchmarks = Json::array();

  /// Appends a program's entries, each with "family", and what its context says that no earlier one
  /// did, but for the names of the host and of the program. Repetitions are numbered on from those
  /// of the same name.
  void add(const Json& document, const std::string& family);
  /// In the order of their first entries.
  std::vector<Case> cases() const;
};

/// A program's document, as far as it was written: entries behind the place where it breaks off are
/// dropped. Error (kind data), which names `source`, where there is no context.
Json read_document(std::string_view text, const std::string& source);
/// Entries that are complete in the text so far, without aggregates.
std::int64_t complete_entries(std::string_view text);

/// A file that `cmir bench`, or a benchmark program, wrote. Error: of kind io if it cannot be read,
/// of kind data, which says what is wrong, if it is no such file.
Results read_results(const std::string& path);

}  // namespace cmir::bench
