// cmir bench: runs the benchmark programs of a build and says what they measured.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <regex>
#include <set>

#include "bench/report/programs.h"
#include "bench/report/report.h"
#include "core/error.h"
#include "core/formats/file.h"
#include "models/experiments/trial.h"
#include "models/training/interrupt.h"
#include "models/training/progress.h"
#include "tools/command.h"

namespace cmir::tools {
namespace {

namespace fs = std::filesystem;
using namespace bench;

/// The build's own programs: build/X/tools/cmir has build/X/bench beside it.
fs::path usual_programs() {
  std::error_code ignored;
  return fs::read_symlink("/proc/self/exe", ignored).parent_path().parent_path() / "bench";
}

struct BenchCommand {
  std::vector<std::string> families;
  std::string filter, programs, compare, torch, out = "bench-results";
  bool quick = false, json = false;
  double threshold = 10, min_seconds = 0;
  int repetitions = 0;

  void run() const {
    require_filter();
    const fs::path directory = programs.empty() ? usual_programs() : fs::path(programs);
    const auto ours = find_programs(directory, families);
    const std::string python = python_with_torch();
    Sides sides = open_base(ours);
    make_directory();
    measure(directory, ours, python, sides);
    const bool all_ended_well = sides.failures.empty();
    Report report(std::move(sides.now));
    report.base = compare;
    report.threshold = threshold / 100;
    report.comparisons = bench::compare(sides.base, report.results, sides.take_turns());
    write(report);
    print(report);
    finish(report, all_ended_well);
  }

 private:
  /// What is measured, and what it is compared with: a recorded run, or other programs, which then
  /// take turns with ours.
  struct Sides {
    Results now, base;
    std::vector<Program> base_programs;
    std::vector<std::string> failures;
    bool take_turns() const { return !base_programs.empty(); }
  };

  /// --torch; or python3, where it has torch and there is time for it; else empty.
  std::string python_with_torch() const {
    if (torch == "none") return {};
    if (!torch.empty()) {
      const std::string why_not = why_no_torch(torch);
      require(why_not.empty(), "bench", "{}", why_not);
      return torch;
    }
    return !quick && compare.empty() && why_no_torch("python3").empty() ? "python3" : "";
  }

  void require_filter() const try {
    const std::regex valid(filter);
  } catch (const std::regex_error& error) {
    fail(ErrorKind::usage, "bench", "--filter '{}' is no regular expression: {}", filter,
         error.what());
  }

  RunOptions options() const {
    const int usual = quick ? 1 : 3;
    return {.quick = quick,
            .cold = !quick,
            .min_seconds = min_seconds > 0 ? min_seconds
                           : quick         ? 0.01
                                           : 0.1,
            .repetitions = repetitions > 0   ? repetitions
                           : compare.empty() ? usual
                                             : 5};
  }

  Sides open_base(const std::vector<Program>& ours) const {
    Sides sides;
    if (compare.empty()) return sides;
    const fs::path recorded = fs::path(compare) / "bench.json";
    if (!fs::is_directory(compare) || fs::exists(recorded)) {
      sides.base = read_results(fs::is_directory(compare) ? recorded.string() : compare);
      return sides;
    }
    std::vector<std::string> wanted;
    for (const Program& program : ours) wanted.push_back(program.family);
    sides.base_programs = find_programs(compare, {});
    std::erase_if(sides.base_programs, [&](const Program& p) {
      return p.is_ceilings() || std::ranges::find(wanted, p.family) == wanted.end();
    });
    return sides;
  }

  void make_directory() const {
    std::error_code error;
    fs::create_directories(out, error);
    if (error) fail(ErrorKind::io, "bench", "cannot make '{}': {}", out, error.message());
  }

  /// The program's cases: those that the filter names and, for a comparison, that are compared. The
  /// program runs no others.
  std::vector<std::string> choose_cases(Program& program, const RunOptions& each) const {
    std::vector<std::string> names = list_cases(program, each);
    if (program.is_ceilings() || (filter.empty() && compare.empty())) return names;
    const std::regex wanted(filter);
    std::erase_if(names, [&](const std::string& name) {
      const Case c = case_of(name);
      return !std::regex_search(c.name, wanted) || (!compare.empty() && !is_compared(c));
    });
    return program.cases = names;
  }

  /// Of each program, which is told its cases; each repetition counts. Errors: the filter leaves
  /// none but ceilings; a recorded base has none of them.
  std::vector<std::int64_t> count_cases(std::vector<Program>& all, const RunOptions& each,
                                        const Results& base) const {
    std::set<std::string> recorded;
    for (const Case& c : base.cases()) recorded.insert(c.name);
    std::vector<std::int64_t> counts;
    bool any = false, shared = recorded.empty();
    for (Program& program : all) {
      const std::vector<std::string> names = choose_cases(program, each);
      counts.push_back(std::ssize(names) * repetitions_of(program, each));
      if (program.is_ceilings()) continue;
      any = any || !names.empty();
      shared = shared || std::ranges::any_of(names, [&](const std::string& name) {
                 return recorded.contains(case_of(name).name);
               });
    }
    if (InterruptGuard::requested()) return counts;
    require(any || filter.empty(), "bench", "--filter '{}' matches no case", filter);
    if (!shared) fail(ErrorKind::data, "bench", "'{}' has none of the cases to measure", compare);
    return counts;
  }

  /// Programs after one another; where two sides take turns, each program of both once a turn, but
  /// for the ceilings, which are not compared.
  void measure(const fs::path& directory, std::vector<Program> ours, const std::string& python,
               Sides& sides) const {
    RunOptions each = options();
    const int most_turns = sides.take_turns() ? each.repetitions : 1;
    each.repetitions /= most_turns;
    const auto turns_of = [&](const Program& p) { return p.is_ceilings() ? 1 : most_turns; };
    const auto counts = count_cases(ours, each, sides.base);
    std::erase_if(sides.base_programs,
                  [&](Program& program) { return choose_cases(program, each).empty(); });
    std::int64_t total = 0;
    for (std::size_t p = 0; p < ours.size(); ++p) total += counts[p] * turns_of(ours[p]);
    Progress progress("bench", "case", total);
    std::int64_t done = 0;
    for (std::size_t p = 0; p < ours.size(); ++p) {
      if (counts[p] == 0) continue;
      for (int turn = 0; turn < turns_of(ours[p]) && !InterruptGuard::requested();
           ++turn, done += counts[p]) {
        for (const Program& base : sides.base_programs) {
          if (base.family == ours[p].family)
            keep(run_program(base, each, [](std::int64_t) {}), base.family, sides.base, sides);
        }
        const auto on_case = [&](std::int64_t n) { progress.update(done + n, ours[p].family); };
        keep(run_program(ours[p], each, on_case), ours[p].family, sides.now, sides);
      }
    }
    if (!InterruptGuard::requested()) progress.update(done, "");
    progress.finish();
    if (!python.empty() && !InterruptGuard::requested()) measure_torch(python, directory, sides);
    for (const std::string& failure : sides.failures) fmt::print(stderr, "cmir: {}\n", failure);
  }

  void measure_torch(const std::string& python, const fs::path& directory, Sides& sides) const {
    Progress progress("PyTorch", "case", 0);
    const auto on_case = [&](std::int64_t n) { progress.update(n, ""); };
    keep(run_torch(python, directory, families, filter, options(), on_case), "torch", sides.now,
         sides);
  }

  static void keep(const ProgramRun& run, const std::string& family, Results& results,
                   Sides& sides) {
    if (run.document) results.add(*run.document, family);
    if (!run.failure.empty() && !InterruptGuard::requested()) sides.failures.push_back(run.failure);
  }

  void write(const Report& report) const {
    write_json((fs::path(out) / "bench.json").string(), to_json(report));
    write_file_atomically(fs::path(out) / "report.html", html_page(report));
    write_file_atomically(fs::path(out) / "table.md", markdown_page(report));
  }

  void print(const Report& report) const {
    if (json) {
      fmt::print("{}\n", to_json(report).dump(2));
      return;
    }
    fmt::print("{}\n", ceilings_table(report).plain());
    fmt::print("{}\n", rows_table(report).plain());
    for (const bool on_gpu : {false, true}) {
      const Table shares = families_table(report, on_gpu);
      if (shares.row_count() > 0) fmt::print("{}\n", shares.plain());
    }
    if (!report.sweeps.empty()) fmt::print("{}\n", sweeps_table(report).plain());
    if (!report.comparisons.empty()) fmt::print("{}\n", comparisons_table(report).plain());
    fmt::print("{0}/bench.json, {0}/table.md, {0}/report.html\n", out);
  }

  void finish(const Report& report, bool all_ended_well) const {
    if (InterruptGuard::requested()) throw Interrupted("interrupted; what was measured is written");
    for (const Case& c : report.failed()) fmt::print(stderr, "cmir: {}: {}\n", c.name, c.error);
    const auto slower = std::ranges::count_if(
        report.comparisons, [&](const Comparison& c) { return is_slower(c, report.threshold); });
    if (!report.failed().empty() || !all_ended_well) throw ExitCode{1};
    if (!compare.empty() && report.comparisons.empty())
      fail(ErrorKind::data, "bench", "'{}' has none of the cases that were measured", compare);
    const auto unsure = std::ranges::count_if(report.comparisons, [](const Comparison& c) {
      return !std::isfinite(c.ratio.interval.high);
    });
    if (unsure > 0) {
      fmt::print(stderr,
                 "cmir: {} of {} cases were timed once on a side: they have no interval and count "
                 "as no slower (--repetitions)\n",
                 unsure, report.comparisons.size());
    }
    if (slower > 0) {
      fmt::print(stderr, "cmir: {} of {} cases are slower by more than {} %\n", slower,
                 report.comparisons.size(), threshold);
      throw ExitCode{kSlower};
    }
  }
};

}  // namespace

void add_bench(CLI::App& app) {
  auto command = std::make_shared<BenchCommand>();
  CLI::App* sub = app.add_subcommand(
      "bench",
      "time every kernel against this machine's ceilings and its peers; compare two builds");
  sub->add_option("--family", command->families, "only these programs: softmax for softmax_bench")
      ->type_name("NAME");
  sub->add_option("--filter", command->filter,
                  "only cases whose name, as in bench.json but without /real_time, matches")
      ->type_name("REGEX");
  sub->add_flag("--quick", command->quick, "without slow and cold cases, one short repetition");
  sub->add_option("--compare", command->compare,
                  "bench.json of an earlier run (or its --out), or the folder of another build's "
                  "programs, which then take turns with these; peers are left out")
      ->type_name("BASE");
  sub->add_option("--threshold", command->threshold,
                  "exit code 6 where a case is surely slower than in BASE by more than this")
      ->type_name("PERCENT")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  sub->add_option("--repetitions", command->repetitions, "of each case: 3, quick 1, compared 5")
      ->check(CLI::Range(1, 1000));
  sub->add_option("--min-time", command->min_seconds, "seconds of a repetition: 0.1, quick 0.01")
      ->check(CLI::PositiveNumber);
  sub->add_option("--torch", command->torch,
                  "a python3 with torch and safetensors, for PyTorch's times; without it python3, "
                  "where it has both (not with --quick or --compare); none: leave them out")
      ->type_name("PYTHON");
  sub->add_option("--programs", command->programs, "the folder of the programs: ../bench from here")
      ->type_name("DIR");
  sub->add_option("--out", command->out, "folder for bench.json, table.md and report.html")
      ->type_name("DIR")
      ->capture_default_str();
  sub->add_flag("--json", command->json, "print the JSON instead of tables");
  sub->callback([command] { command->run(); });
}

}  // namespace cmir::tools
