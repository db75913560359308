// The benchmark programs of a build, and runs of them.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "bench/report/results.h"

namespace cmir::bench {

struct Program {
  std::string family;  ///< "softmax" of softmax_bench
  std::filesystem::path path;
  std::vector<std::string> cases =
      {};  ///< the only ones to run, as list_cases names them; empty: all
  bool is_ceilings() const { return family == "ceilings"; }
};

/// Those of `directory` (*_bench, but for the one that a peer's script runs), ceilings first;
/// `families`: only these (empty: all) and ceilings. Errors: there are none, which says how to
/// build them; an unknown family, which lists those there are.
std::vector<Program> find_programs(const std::filesystem::path& directory,
                                   const std::vector<std::string>& families);

struct RunOptions {
  bool quick = false, cold = false;
  double min_seconds = 0.1;  ///< that a repetition takes at least
  int repetitions = 1;
};
/// Of each of the program's cases: the ceilings, of which the best counts, have three at least.
int repetitions_of(const Program& program, const RunOptions& options);

/// Names of all the program's cases. Error: it does not say.
std::vector<std::string> list_cases(const Program& program, const RunOptions& options);

struct ProgramRun {
  std::optional<Json> document;  ///< nothing where it ended before its first case
  std::string failure;           ///< empty: it ended well
};
/// Runs the program; on_case(n): its first n cases (each repetition counts) are measured.
ProgramRun run_program(const Program& program, const RunOptions& options,
                       const std::function<void(std::int64_t)>& on_case);

/// Why `python` cannot be used for PyTorch's times; empty if it has torch and safetensors.
std::string why_no_torch(const std::string& python);
/// PyTorch's times of the cases that it has an expression for (bench/peers/torch_kernels.py) and
/// whose names match the regular expression `filter`, as if that were a program.
ProgramRun run_torch(const std::string& python, const std::filesystem::path& directory,
                     const std::vector<std::string>& families, const std::string& filter,
                     const RunOptions& options, const std::function<void(std::int64_t)>& on_case);

}  // namespace cmir::bench
