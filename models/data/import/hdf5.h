// HDF5 files through the HDF5 C library: numbers, strings and the names in groups.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.h"

namespace cmir::hdf5 {

/// An open file, read-only. Paths are absolute within the file ("/data/x"). Every error is an Error
/// (of kind `io` when the file cannot be opened, else `data`) that names the file and the object,
/// and nothing is printed. The HDF5 library of most systems is not thread-safe: use all Files from
/// one thread at a time.
class File {
 public:
  explicit File(const std::filesystem::path& path);
  File(File&& other) noexcept;
  File& operator=(File&&) = delete;
  ~File();

  /// Names of the objects in a group, in order of name.
  std::vector<std::string> list(const std::string& group) const;
  /// True when the object exists and is a group, or a dataset.
  bool is_group(const std::string& path) const;
  bool is_dataset(const std::string& path) const;

  /// A numeric dataset: floats of up to 4 bytes as f32, others as f64; integers as u8 (1 byte,
  /// unsigned), i32 or i64. Its size is checked against the file's before memory is taken.
  Tensor read(const std::string& dataset) const;
  /// The elements of a dataset of fixed- or variable-length strings, in C order; fixed ones without
  /// their padding.
  std::vector<std::string> read_strings(const std::string& dataset) const;
  bool holds_strings(const std::string& dataset) const;

  const std::string& name() const { return name_; }

 private:
  std::string name_;
  std::int64_t id_ = -1;
};

/// True when the file begins with the HDF5 signature.
bool is_hdf5(const std::filesystem::path& path);

/// One entry of a CMU-SDK computational sequence: a video, or a segment "video[k]".
struct Clip {
  Tensor features;                 ///< [steps, width] f32 or f64; undefined when they are words
  std::vector<std::string> words;  ///< one per step when the features are strings
  Tensor intervals;                ///< f64 [steps, 2]: begin and end in seconds
};

/// A CMU-SDK computational sequence (.csd): /<root>/data/<id>/{features, intervals} and
/// /<root>/metadata.
class ComputationalSequence {
 public:
  /// Error of kind `data` unless the file has one root group with `data` inside.
  explicit ComputationalSequence(const std::filesystem::path& path);

  const std::string& root() const { return root_; }
  const std::vector<std::string>& ids() const { return ids_; }
  /// Shapes are checked: as many intervals as features.
  Clip clip(const std::string& id) const;
  /// The JSON text under /<root>/metadata/<key>, or "" when there is none.
  std::string metadata(const std::string& key) const;

 private:
  File file_;
  std::string root_;
  std::vector<std::string> ids_;
};

}  // namespace cmir::hdf5
