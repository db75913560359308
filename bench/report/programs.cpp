#include "bench/report/programs.h"

#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "bench/report/process.h"
#include "core/error.h"
#include "models/training/interrupt.h"

namespace cmir::bench {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kSuffix = "_bench";
constexpr std::string_view kPeer = "attention_peer_bench";  // bench/peers/torch_attention.py's

std::vector<Program> all_programs(const fs::path& directory) {
  std::vector<Program> programs;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.ends_with(kSuffix) || name == kPeer || !entry.is_regular_file()) continue;
    if (access(entry.path().c_str(), X_OK) != 0) continue;
    programs.push_back({name.substr(0, name.size() - kSuffix.size()), entry.path()});
  }
  std::ranges::sort(programs, {},
                    [](const Program& p) { return std::pair(!p.is_ceilings(), p.family); });
  return programs;
}

std::vector<std::string> arguments_of(const RunOptions& options) {
  std::vector<std::string> arguments;
  if (options.quick) arguments.emplace_back("--quick");
  if (options.cold) arguments.emplace_back("--cold");
  return arguments;
}

/// "^(a|b)$"
std::string pattern_of(const std::vector<std::string>& names) {
  std::string pattern;
  for (const std::string& name : names) {
    pattern += pattern.empty() ? "^(" : "|";
    for (const char c : name) {
      if (std::string_view(R"(.[]{}()*+?^$|\)").find(c) != std::string_view::npos) pattern += '\\';
      pattern += c;
    }
  }
  return pattern + ")$";
}

/// The last line that says something.
std::string last_line(const std::string& text) {
  std::istringstream stream(text);
  std::string last;
  for (std::string line; std::getline(stream, line);) {
    if (line.find_first_not_of(" \t\r") != std::string::npos) last = line;
  }
  return last;
}

ProgramRun run_and_read(const fs::path& program, const std::vector<std::string>& arguments,
                        const std::function<void(std::int64_t)>& on_case) {
  const Finished finished = run_process(
      program, arguments, [&](std::string_view text) { on_case(complete_entries(text)); });
  ProgramRun run;
  if (complete_entries(finished.out) > 0)
    run.document = read_document(finished.out, program.string());
  if (finished.status != 0) {
    run.failure = fmt::format("{} ended with status {}: {}", program.filename().string(),
                              finished.status, last_line(finished.err));
  }
  return run;
}

}  // namespace

std::vector<Program> find_programs(const fs::path& directory,
                                   const std::vector<std::string>& families) {
  std::vector<Program> programs = all_programs(directory);
  if (programs.empty()) {
    fail(ErrorKind::io, "bench",
         "there are no benchmark programs in '{}'; build them (cmake --preset cpu && cmake "
         "--build --preset cpu), or name their folder with --programs",
         directory.string());
  }
  std::vector<std::string> names;
  for (const Program& program : programs) names.push_back(program.family);
  for (const std::string& family : families) {
    require(std::ranges::find(names, family) != names.end(), "bench",
            "there is no family '{}'; there are {}", family, fmt::join(names, ", "));
  }
  std::erase_if(programs, [&](const Program& p) {
    return !families.empty() && !p.is_ceilings() &&
           std::ranges::find(families, p.family) == families.end();
  });
  return programs;
}

std::vector<std::string> list_cases(const Program& program, const RunOptions& options) {
  std::vector<std::string> arguments = arguments_of(options);
  arguments.emplace_back("--benchmark_list_tests=true");
  const Finished finished = run_process(program.path, arguments);
  std::istringstream stream(finished.out);
  std::vector<std::string> names;
  for (std::string line; std::getline(stream, line);) {
    if (line.find('/') != std::string::npos) names.push_back(line);
  }
  if (finished.status > 1 && !InterruptGuard::requested()) {  // 1: none matches
    fail(ErrorKind::data, "bench", "{} does not list its cases (exit status {}): {}",
         program.path.string(), finished.status, last_line(finished.err));
  }
  return names;
}

int repetitions_of(const Program& program, const RunOptions& options) {
  constexpr int kBestOf = 3;
  return program.is_ceilings() ? std::max(kBestOf, options.repetitions) : options.repetitions;
}

ProgramRun run_program(const Program& program, const RunOptions& options,
                       const std::function<void(std::int64_t)>& on_case) {
  std::vector<std::string> arguments = arguments_of(options);
  if (!program.cases.empty())
    arguments.push_back("--benchmark_filter=" + pattern_of(program.cases));
  arguments.emplace_back("--benchmark_format=json");
  arguments.push_back(fmt::format("--benchmark_min_time={}", options.min_seconds));
  arguments.push_back(fmt::format("--benchmark_repetitions={}", repetitions_of(program, options)));
  return run_and_read(program.path, arguments, on_case);
}

std::string why_no_torch(const std::string& python) try {
  const Finished finished = run_process(python, {"-c", "import torch, safetensors"});
  if (finished.status == 0) return {};
  return fmt::format("{} has no torch, or no safetensors: {}", python, last_line(finished.err));
} catch (const Error&) {
  return fmt::format("{} cannot be run", python);
}

ProgramRun run_torch(const std::string& python, const fs::path& directory,
                     const std::vector<std::string>& families, const std::string& filter,
                     const RunOptions& options, const std::function<void(std::int64_t)>& on_case) {
  std::vector<std::string> arguments = {fs::path(CMIR_PEERS) / "torch_kernels.py", directory,
                                        fmt::format("--seconds={}", options.min_seconds),
                                        fmt::format("--repetitions={}", options.repetitions),
                                        "--filter=" + filter};
  arguments.emplace_back(options.quick ? "--quick" : "--compile");
  if (!families.empty()) arguments.emplace_back("--family");
  arguments.insert(arguments.end(), families.begin(), families.end());
  return run_and_read(python, arguments, on_case);
}

}  // namespace cmir::bench
