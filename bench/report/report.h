// What a run shows: rows for a table, the document for bench.json, the page report.html.
#pragma once

#include <string>
#include <vector>

#include "bench/report/ceilings.h"
#include "bench/report/compare.h"
#include "bench/report/results.h"
#include "bench/report/scaling.h"
#include "models/evaluation/table.h"

namespace cmir::bench {

struct PeerTime {
  std::string name;
  double ratio;  ///< its time over ours: above 1, ours is faster; NaN: it was left out
};

/// A case of ours, with its cold twin and its peers.
struct Row {
  Case measured;
  double cold_seconds;  ///< NaN: it has none
  Share share, cold_share;
  std::vector<PeerTime> peers;
};

struct Report {
  Results results;
  std::vector<Case> cases;
  Ceilings cpu, gpu;
  std::vector<Row> rows;
  std::vector<Sweep> sweeps;
  std::vector<Comparison> comparisons = {};
  std::string base = {};  ///< what the comparisons are with
  double threshold = 0;   ///< above which a slowdown counts

  explicit Report(Results measured);
  /// Cases that were not measured, and why.
  std::vector<Case> failed() const;
};

Table ceilings_table(const Report& report);
Table rows_table(const Report& report);
/// Of each kernel and form, and of the training step, on the CPU or on a GPU the case that moves
/// most bytes, which says most of it, and of several such the fastest; without those that count
/// none, and without sweeps.
std::vector<const Row*> largest_cases(const Report& report, bool on_gpu);
/// The shares of those cases by family: the lowest, the median, the highest.
Table families_table(const Report& report, bool on_gpu);
Table sweeps_table(const Report& report);
Table comparisons_table(const Report& report);

/// Google Benchmark's document, with "ceilings" in its context, "share_of_ceiling" and "limit" in
/// its entries, and "scaling" and "comparison" beside them.
Json to_json(const Report& report);

/// One HTML file that needs no other: machine, rooflines, scaling, tables. Light or dark as the
/// reader's system is.
std::string html_page(const Report& report);
/// The same tables in Markdown.
std::string markdown_page(const Report& report);

}  // namespace cmir::bench
