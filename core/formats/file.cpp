#include "core/formats/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>

#include "core/error.h"

namespace cmir {
namespace {

[[noreturn]] void fail_errno(std::string_view what, const std::string& path) {
  fail(ErrorKind::io, path, "{}: {}", what, std::strerror(errno));
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  /// Closes now and reports what close() returns: file systems may report a full disk only here.
  int close() { return ::close(std::exchange(fd_, -1)); }

 private:
  int fd_;
};

void write_fully(int fd, std::span<const std::byte> bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), std::min<std::size_t>(bytes.size(), 1 << 30));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail_errno("cannot write", path);
    bytes = bytes.subspan(written);
  }
}

void sync_directory(const std::filesystem::path& directory) {
  Descriptor fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some file systems cannot sync a directory (EINVAL); they have no stronger promise to give.
  if (fd.get() < 0 || (::fsync(fd.get()) != 0 && errno != EINVAL)) {
    fail_errno("cannot sync the directory", directory.string());
  }
}

/// Creates a new file `path.tmp-PID-N`; returns its descriptor and sets `name`.
int create_temporary(const std::string& path, std::string& name) {
  static std::atomic<unsigned> counter{0};
  for (;;) {
    name = fmt::format("{}.tmp-{}-{}", path, ::getpid(), counter.fetch_add(1));
    const int fd = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) return fd;
    if (errno != EEXIST)
      fail_errno("cannot create (does its directory exist, may you write there?)", path);
  }
}

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
  Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (fd.get() < 0 || ::fstat(fd.get(), &status) != 0) fail_errno("cannot open", path.string());
  if (!S_ISREG(status.st_mode)) fail(ErrorKind::io, path.string(), "is no regular file");
  const auto size = static_cast<std::size_t>(status.st_size);
  void* data = nullptr;
  if (size > 0) {
    data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (data == MAP_FAILED) fail_errno("cannot map", path.string());
  }
  return std::shared_ptr<const MappedFile>(
      new MappedFile({static_cast<const std::byte*>(data), size}));
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

namespace {

/// What a name stands for: the target of a symbolic link, also of one that leads to nothing yet.
std::filesystem::path without_links(std::filesystem::path path) {
  std::error_code error;
  for (int links = 0; links < 40 && std::filesystem::is_symlink(path, error); ++links) {
    const auto target = std::filesystem::read_symlink(path, error);
    path = target.is_absolute() ? target : path.parent_path() / target;
  }
  return path;
}

/// A device or a pipe, which is written to and never replaced.
bool is_special(const std::filesystem::path& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode);
}

void write_special_file(const std::filesystem::path& path,
                        std::span<const std::span<const std::byte>> parts) {
  Descriptor fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (fd.get() < 0) fail_errno("cannot open", path.string());
  for (const auto part : parts) write_fully(fd.get(), part, path.string());
  if (fd.close() != 0) fail_errno("cannot close", path.string());
}

}  // namespace

void write_file_atomically(const std::filesystem::path& name,
                           std::span<const std::span<const std::byte>> parts) {
  const std::filesystem::path path = without_links(name);
  if (is_special(path)) return write_special_file(path, parts);
  std::string temporary;
  Descriptor fd(create_temporary(path.string(), temporary));
  try {
    for (const auto part : parts) write_fully(fd.get(), part, path.string());
    if (::fsync(fd.get()) != 0) fail_errno("cannot sync", path.string());
    if (fd.close() != 0) fail_errno("cannot close", path.string());
    if (std::rename(temporary.c_str(), path.c_str()) != 0)
      fail_errno("cannot replace", path.string());
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  sync_directory(path.has_parent_path() ? path.parent_path() : std::filesystem::path("."));
}

void require_writable(const std::filesystem::path& name) {
  const std::filesystem::path path = without_links(name);
  if (std::filesystem::is_directory(path)) fail(ErrorKind::io, path.string(), "is a directory");
  if (is_special(path)) {
    if (::access(path.c_str(), W_OK) != 0) fail_errno("cannot write", path.string());
    return;
  }
  std::string temporary;
  const Descriptor fd(create_temporary(path.string(), temporary));
  ::unlink(temporary.c_str());
}

void write_file_atomically(const std::filesystem::path& path, std::string_view text) {
  const std::span<const std::byte> part = std::as_bytes(std::span(text));
  write_file_atomically(path, std::span(&part, 1));
}

}  // namespace cmir
