// Another program, run to its end.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace cmir::bench {

struct Finished {
  int status = 0;  ///< its exit status; 128 + the signal where one ended it, as in a shell
  std::string out, err;
};

/// Runs `program` (a name without a slash is looked for in PATH) with these arguments, without a
/// standard input. on_output gets all of its standard output so far whenever there is more. Where a
/// signal asked this process to stop (InterruptGuard) the program is told to, and what it had
/// written is returned. Error (kind io): it cannot be run.
Finished run_process(const std::filesystem::path& program,
                     const std::vector<std::string>& arguments,
                     const std::function<void(std::string_view)>& on_output = {});

}  // namespace cmir::bench
