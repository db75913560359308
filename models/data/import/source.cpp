#include "models/data/import/source.h"

#include <algorithm>

namespace cmir::import {
namespace fs = std::filesystem;

Source::Source(const fs::path& path) : path_(path) {
  std::error_code error;
  is_folder_ = fs::is_directory(path, error);
  if (!is_folder_ && !fs::is_regular_file(path, error)) {
    fail(ErrorKind::io, path.string(), "no such file or folder");
  }
  if (!is_folder_) bytes_ = fs::file_size(path);
  for (const auto& file : is_folder_ ? files("") : std::vector<fs::path>()) {
    bytes_ += fs::file_size(file);
  }
}

std::vector<fs::path> Source::files(std::string_view extension) const {
  if (!is_folder_) {
    return path_.extension() == extension ? std::vector{path_} : std::vector<fs::path>();
  }
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(path_)) {
    if (!entry.is_regular_file()) continue;
    if (extension.empty() || entry.path().extension() == extension) found.push_back(entry.path());
  }
  std::ranges::sort(found);
  return found;
}

bool Source::has(const std::string& file) const {
  std::error_code error;
  return is_folder_ && fs::is_regular_file(path_ / file, error);
}

const pickle::Value& Source::pickle(const std::string& file) const {
  auto entry = pickles_.find(file);
  if (entry == pickles_.end()) {
    const fs::path path = file.empty() ? path_ : path_ / file;
    entry = pickles_.emplace(file, pickle::Document::open(path)).first;
  }
  return entry->second.root();
}

const pickle::Value& Source::pickle_or_none() const {
  static const pickle::Value kNone{};
  const std::string extension = path_.extension().string();
  if (is_folder_ || extension == ".h5" || extension == ".hdf5" || extension == ".csd") return kNone;
  return pickle();
}

void for_each_part(const pickle::Value& root, Builder& builder,
                   const std::function<void(Part, const std::string&, const pickle::Value&)>& f) {
  bool any = false;
  for (const auto& entry : root.entries()) {
    const pickle::Value& key = entry.first;
    const std::string name = key.is_text() ? key.text() : key.describe();
    const auto part = part_of(name);
    if (!part) {
      builder.note(fmt::format("skipped the part '{}'", name));
      continue;
    }
    any = true;
    within(name, [&] { f(*part, name, entry.second); });
  }
  if (!any) {
    fail(ErrorKind::data, "pickle", "expected the keys train, valid (or dev) and test, found {}",
         root.describe());
  }
}

const pickle::Value* first_part(const pickle::Value& root) {
  for (const char* name : {"train", "valid", "dev", "test"}) {
    if (const pickle::Value* part = root.find(name)) return part;
  }
  return nullptr;
}

}  // namespace cmir::import
