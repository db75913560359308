// Whole files: mapped for reading, replaced atomically on writing.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>

namespace cmir {

/// A file mapped read-only for as long as the object lives. A file that another program shortens
/// meanwhile ends this process (SIGBUS); one that is replaced by write_file_atomically() stays
/// readable in its old form.
class MappedFile {
 public:
  /// Throws Error of kind io when the path cannot be opened or is no regular file.
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::span<const std::byte> bytes_;
};

/// Makes `path` hold the concatenation of `parts`, or leaves it as it was: writes a temporary file
/// in the same directory, syncs it, renames it over `path` and syncs the directory. Any failure (no
/// space, no permission) removes the temporary file and is an Error of kind io. A process killed
/// meanwhile leaves at most a file `path.tmp-*`.
void write_file_atomically(const std::filesystem::path& path,
                           std::span<const std::span<const std::byte>> parts);
void write_file_atomically(const std::filesystem::path& path, std::string_view text);
/// For a file that is written only after long work: the Error of kind io that
/// write_file_atomically() would end with, but for a full disk. `path` stays as it is.
void require_writable(const std::filesystem::path& path);

}  // namespace cmir
