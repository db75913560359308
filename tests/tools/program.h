// Runs the `cmir` program as a user does: in a directory of its own, as a child process.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tests/models/data_test.h"

namespace cmir::test {

struct Finished {
  int exit_code = -1;  ///< 128 + the signal where one ended the program, as in a shell
  std::string out, err;
};

inline std::string read_text(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  EXPECT_TRUE(stream) << file;
  return {std::istreambuf_iterator<char>(stream), {}};
}

/// A data set and a model small enough to train in milliseconds.
inline const std::vector<std::string> kTinyModel = {
    "--data",    "synthetic:n=60,seed=1,widths=5/4/3",
    "--set",     "model.shared_width=4",
    "--set",     "model.hidden_width=6",
    "--set",     "training.epochs=2",
    "--set",     "training.batch_size=8",
    "--threads", "2",
    "--quiet",   "--seeds",
    "1"};

using Arguments = std::vector<std::string>;

/// {"train", "synthetic"} + kTinyModel + {"--out", "r"}
inline Arguments operator+(Arguments first, const Arguments& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

class ProgramTest : public ::testing::Test {
 protected:
  /// A program that runs; `out` is the file that it has for standard output.
  struct Running {
    pid_t pid;
    std::string out;
  };

  /// `in_child` runs between fork and exec, so that a test can set limits there.
  Running start(
      const Arguments& arguments, const std::string& out = "stdout",
      const std::function<void()>& in_child = [] {}) const {
    const pid_t pid = fork();
    if (pid != 0) return {pid, out};
    std::vector<char*> argv{const_cast<char*>(CMIR_PROGRAM)};
    for (const std::string& argument : arguments)
      argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC;
    if (chdir(folder_.path().c_str()) != 0 || dup2(open(out.c_str(), kFlags, 0666), 1) < 0 ||
        dup2(open("stderr", kFlags, 0666), 2) < 0) {
      _exit(99);
    }
    in_child();
    execv(argv[0], argv.data());
    _exit(99);
  }

  Finished wait(const Running& running) const {
    int status = 0;
    EXPECT_EQ(waitpid(running.pid, &status, 0), running.pid);
    const bool device = running.out.starts_with('/');
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
            device ? "" : read_text(folder_ / running.out), read_text(folder_ / "stderr")};
  }

  Finished run(const Arguments& arguments) const { return wait(start(arguments)); }

  /// The program must end with this code and a message that holds every one of `parts`.
  void expect_error(const Arguments& arguments, int exit_code,
                    const std::vector<std::string>& parts) const {
    const Finished finished = run(arguments);
    SCOPED_TRACE(::testing::PrintToString(arguments));
    EXPECT_EQ(finished.exit_code, exit_code) << finished.err;
    for (const std::string& part : parts) EXPECT_THAT(finished.err, ::testing::HasSubstr(part));
  }

  /// Trains the tiny model into `directory`.
  void train(const std::string& directory) const {
    const Finished finished = run(Arguments{"train", "synthetic", "--out", directory} + kTinyModel);
    ASSERT_EQ(finished.exit_code, 0) << finished.err;
  }

  std::filesystem::path path(const std::string& name) const { return folder_ / name; }

  const ScratchFolder folder_;
};

/// Asks every millisecond, for at most a minute.
template <class Condition>
void wait_until(Condition&& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!condition() && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

}  // namespace cmir::test
