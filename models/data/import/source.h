// An input file or folder, opened once for detection and conversion. Internal to the importers.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "models/data/import/builder.h"

namespace cmir::import {

class Source {
 public:
  /// Error of kind `io` when there is no such file or folder.
  explicit Source(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  bool is_folder() const { return is_folder_; }
  /// Files of the folder (or the file itself) with this extension, in order of name.
  std::vector<std::filesystem::path> files(std::string_view extension) const;
  /// True when this is a folder with a file of that name.
  bool has(const std::string& file) const;
  /// Size of the file, or of all files of the folder.
  std::size_t bytes() const { return bytes_; }

  /// The object in the pickle (a file in the folder, or "" for the file itself). Read once, then
  /// kept.
  const pickle::Value& pickle(const std::string& file = "") const;
  /// The same where a file that is no pickle is an answer, not an error: its root is then None.
  const pickle::Value& pickle_or_none() const;
  void release(const std::string& file) const { pickles_.erase(file); }

 private:
  std::filesystem::path path_;
  bool is_folder_ = false;
  std::size_t bytes_ = 0;
  mutable std::map<std::string, pickle::Document> pickles_;
};

/// One form of file. `matches` looks at keys and nesting only; `convert` may then find faults.
struct Family {
  std::string_view name;
  std::string_view form;
  bool (*matches)(const Source&);
  void (*convert)(const Source&, const ConvertOptions&, Builder&, Dataset& card);
};

// One per .cpp file; `card` takes task and source, which the samples do not tell.
extern const Family kMmsa, kMult, kMisa, kHkt, kHffn, kGcnet, kUrFunny, kMfn, kCsd;

/// Calls f(part, name, value) for the entries of a {train, valid, test, ...} dict; other keys are
/// noted and skipped. Error when there is no train, valid or test part.
void for_each_part(const pickle::Value& root, Builder& builder,
                   const std::function<void(Part, const std::string&, const pickle::Value&)>& f);
/// The first part of such a dict, or nullptr when this is no such dict.
const pickle::Value* first_part(const pickle::Value& root);

}  // namespace cmir::import
