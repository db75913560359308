#include "bench/report/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "models/training/interrupt.h"

extern char** environ;

namespace cmir::bench {
namespace {

struct Pipe {
  int read_end = -1, write_end = -1;
  Pipe() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) fail(ErrorKind::io, "bench", "no pipe: {}", strerror(errno));
    read_end = ends[0], write_end = ends[1];
  }
  ~Pipe() {
    close_end(read_end);
    close_end(write_end);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  static void close_end(int& end) {
    if (end >= 0) close(end);
    end = -1;
  }
};

pid_t spawn(const std::filesystem::path& program, const std::vector<std::string>& arguments,
            Pipe& out, Pipe& err) {
  std::vector<char*> argv{const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out.write_end, 1);
  posix_spawn_file_actions_adddup2(&actions, err.write_end, 2);
  pid_t pid = 0;
  const int error = posix_spawnp(&pid, program.c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    fail(ErrorKind::io, "bench", "cannot run {}: {}", program.string(), strerror(error));
  }
  Pipe::close_end(out.write_end);
  Pipe::close_end(err.write_end);
  return pid;
}

/// Appends what there is; closes the end when the program has closed its own.
bool read_more(int& end, std::string& text) {
  char buffer[1 << 14];
  const ssize_t count = read(end, buffer, sizeof buffer);
  if (count < 0 && errno == EINTR) return false;
  if (count <= 0) {
    Pipe::close_end(end);
    return false;
  }
  text.append(buffer, static_cast<std::size_t>(count));
  return true;
}

}  // namespace

Finished run_process(const std::filesystem::path& program,
                     const std::vector<std::string>& arguments,
                     const std::function<void(std::string_view)>& on_output) {
  constexpr int kMilliseconds = 100;  // how late an interrupt may be seen
  Pipe out, err;
  const pid_t pid = spawn(program, arguments, out, err);
  Finished finished;
  bool told = false;
  while (out.read_end >= 0 || err.read_end >= 0) {
    pollfd ends[2] = {{out.read_end, POLLIN, 0}, {err.read_end, POLLIN, 0}};  // -1 is passed over
    poll(ends, 2, kMilliseconds);
    if (InterruptGuard::requested() && !told) told = kill(pid, SIGTERM) == 0;
    if (ends[0].revents != 0 && read_more(out.read_end, finished.out) && on_output)
      on_output(finished.out);
    if (ends[1].revents != 0) read_more(err.read_end, finished.err);
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  finished.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return finished;
}

}  // namespace cmir::bench
