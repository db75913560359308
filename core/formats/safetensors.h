// The safetensors format (github.com/huggingface/safetensors): an 8-byte little-endian header
// length, a JSON header that gives each tensor's dtype, shape and byte range, then the tensors'
// bytes without gaps.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace cmir {

/// A validated safetensors file. Opening checks everything (header length, JSON, duplicate names,
/// dtypes, shapes, that the byte ranges cover the data exactly once); a violation is an Error of
/// kind data that names the file and the tensor.
class SafeTensors {
 public:
  /// Maps the file: its tensors are read from disk as they are touched.
  static SafeTensors open(const std::filesystem::path& path);
  /// The same over bytes in memory, which `owner` keeps alive; `name` stands in error messages.
  static SafeTensors parse(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                           std::string name = "safetensors");

  /// In alphabetical order.
  std::vector<std::string> names() const;
  bool contains(std::string_view name) const { return entries_.find(name) != entries_.end(); }
  /// A read-only tensor over the file's bytes (a copy if they are misaligned for its dtype). It may
  /// outlive this object. A name that is not there, or a dtype that Tensor lacks (F16, BOOL, ...),
  /// is an Error of kind data.
  Tensor at(std::string_view name) const;
  /// All tensors by name.
  std::map<std::string, Tensor> tensors() const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  struct Entry {
    std::string dtype;  // as in the file: "F32"
    Shape shape;
    std::span<const std::byte> bytes;
  };
  std::string name_;
  std::shared_ptr<const void> owner_;
  std::map<std::string, Entry, std::less<>> entries_;
  std::map<std::string, std::string> metadata_;
};

/// Writes `tensors` atomically (see write_file_atomically). Wider dtypes come first, and the data
/// starts at a multiple of 64 bytes, so that all tensors are aligned when the file is mapped. Names
/// must be distinct and not "__metadata__".
void write_safetensors(const std::filesystem::path& path,
                       const std::vector<std::pair<std::string, Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace cmir
