#include "models/data/import/hdf5.h"

#include <hdf5.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <memory>
#include <utility>

namespace cmir::hdf5 {
namespace {

/// Owns an HDF5 identifier.
class Handle {
 public:
  using Close = herr_t (*)(hid_t);
  Handle(hid_t id, Close close) : id_(id), close_(close) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Handle& operator=(Handle&&) = delete;
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  hid_t id() const { return id_; }
  explicit operator bool() const { return id_ >= 0; }

 private:
  hid_t id_;
  Close close_;
};

/// The innermost message of the library's error stack, which it otherwise prints.
std::string last_error() {
  std::string message = "unknown HDF5 error";
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_DOWNWARD,
      [](unsigned, const H5E_error2_t* error, void* text) {
        if (error->desc != nullptr) *static_cast<std::string*>(text) = error->desc;
        return herr_t{0};
      },
      &message);
  return message;
}

struct Dataset {
  Handle id, type, space;
  Shape shape;
  H5T_class_t type_class;
  std::size_t element_size;
};

/// No element of a file can be compressed further than deflate does (1032 to 1), so anything beyond
/// is a lie.
constexpr double kMaxExpansion = 1100;

Dataset open_dataset(hid_t file, const std::string& name, const std::string& path) {
  const auto failed = [&](std::string_view what) {
    fail(ErrorKind::data, name, "dataset '{}' {}: {}", path, what, last_error());
  };
  Handle id(H5Dopen2(file, path.c_str(), H5P_DEFAULT), H5Dclose);
  if (!id) failed("cannot be opened");
  Handle type(H5Dget_type(id.id()), H5Tclose);
  Handle space(H5Dget_space(id.id()), H5Sclose);
  if (!type || !space) failed("cannot be described");
  const int rank = H5Sget_simple_extent_ndims(space.id());
  if (rank < 0 || rank > Shape::kMaxRank) {
    fail(ErrorKind::data, name, "dataset '{}' has {} dimensions; up to {} are supported", path,
         rank, Shape::kMaxRank);
  }
  std::array<hsize_t, Shape::kMaxRank> sizes{};
  H5Sget_simple_extent_dims(space.id(), sizes.data(), nullptr);
  const std::size_t element_size = H5Tget_size(type.id());
  hsize_t file_size = 0;
  H5Fget_filesize(file, &file_size);
  double bytes = static_cast<double>(element_size);
  for (int i = 0; i < rank; ++i) bytes *= static_cast<double>(sizes[i]);
  if (bytes > kMaxExpansion * static_cast<double>(file_size) ||
      std::ranges::any_of(sizes, [](hsize_t size) { return size > hsize_t{1} << 40; })) {
    fail(ErrorKind::data, name, "dataset '{}' claims {:.0f} bytes in a file of {}: it is damaged",
         path, bytes, file_size);
  }
  const std::vector<std::int64_t> dimensions(sizes.begin(), sizes.begin() + rank);
  const H5T_class_t type_class = H5Tget_class(type.id());
  return {std::move(id),     std::move(type), std::move(space),
          Shape(dimensions), type_class,      element_size};
}

struct Target {
  DType dtype;
  hid_t native;
};

Target target_of(const Dataset& dataset, const std::string& name, const std::string& path) {
  const std::size_t size = dataset.element_size;
  if (dataset.type_class == H5T_FLOAT) {
    return size <= 4 ? Target{DType::f32, H5T_NATIVE_FLOAT} : Target{DType::f64, H5T_NATIVE_DOUBLE};
  }
  if (dataset.type_class == H5T_INTEGER) {
    const bool is_unsigned = H5Tget_sign(dataset.type.id()) == H5T_SGN_NONE;
    if (size == 1 && is_unsigned) return {DType::u8, H5T_NATIVE_UINT8};
    if (size < 4 || (size == 4 && !is_unsigned)) return {DType::i32, H5T_NATIVE_INT32};
    return {DType::i64, H5T_NATIVE_INT64};
  }
  fail(ErrorKind::data, name, "dataset '{}' does not hold numbers", path);
}

std::vector<std::string> read_variable(const Dataset& dataset, const Handle& memory_type) {
  std::vector<char*> pointers(dataset.shape.numel(), nullptr);
  if (H5Dread(dataset.id.id(), memory_type.id(), H5S_ALL, H5S_ALL, H5P_DEFAULT, pointers.data()) <
      0) {
    return {};
  }
  std::vector<std::string> strings;
  strings.reserve(pointers.size());
  for (const char* text : pointers) strings.emplace_back(text == nullptr ? "" : text);
  H5Dvlen_reclaim(memory_type.id(), dataset.space.id(), H5P_DEFAULT, pointers.data());
  return strings;
}

std::vector<std::string> read_fixed(const Dataset& dataset, const Handle& memory_type) {
  const std::size_t size = dataset.element_size;
  std::string buffer(size * dataset.shape.numel(), '\0');
  if (H5Dread(dataset.id.id(), memory_type.id(), H5S_ALL, H5S_ALL, H5P_DEFAULT, buffer.data()) <
      0) {
    return {};
  }
  std::vector<std::string> strings;
  strings.reserve(dataset.shape.numel());
  for (std::size_t i = 0; i < buffer.size(); i += size) {
    std::string text = buffer.substr(i, size);
    text.resize(std::min(text.find('\0'), text.size()));
    strings.push_back(std::move(text));
  }
  return strings;
}

}  // namespace

bool is_hdf5(const std::filesystem::path& path) {
  constexpr std::string_view kSignature = "\x89HDF\r\n\x1a\n";
  std::array<char, 8> start{};
  std::ifstream(path, std::ios::binary).read(start.data(), start.size());
  return std::string_view(start.data(), start.size()) == kSignature;
}

File::File(const std::filesystem::path& path) : name_(path.string()) {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) fail(ErrorKind::io, name_, "no such file");
  if (!is_hdf5(path))
    fail(ErrorKind::data, name_, "is not an HDF5 file (its signature is missing)");
  id_ = H5Fopen(name_.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  if (id_ < 0) fail(ErrorKind::data, name_, "cannot be opened as HDF5: {}", last_error());
}

File::File(File&& other) noexcept
    : name_(std::move(other.name_)), id_(std::exchange(other.id_, -1)) {}

File::~File() {
  if (id_ >= 0) H5Fclose(id_);
}

std::vector<std::string> File::list(const std::string& group) const {
  const Handle id(H5Gopen2(id_, group.c_str(), H5P_DEFAULT), H5Gclose);
  if (!id) fail(ErrorKind::data, name_, "group '{}' cannot be opened: {}", group, last_error());
  std::vector<std::string> names;
  const herr_t status = H5Literate(
      id.id(), H5_INDEX_NAME, H5_ITER_INC, nullptr,
      [](hid_t, const char* name, const H5L_info_t*, void* list) {
        static_cast<std::vector<std::string>*>(list)->emplace_back(name);
        return herr_t{0};
      },
      &names);
  if (status < 0) fail(ErrorKind::data, name_, "group '{}' is damaged: {}", group, last_error());
  return names;
}

bool File::is_group(const std::string& path) const {
  return bool(Handle(H5Gopen2(id_, path.c_str(), H5P_DEFAULT), H5Gclose));
}

bool File::is_dataset(const std::string& path) const {
  return bool(Handle(H5Dopen2(id_, path.c_str(), H5P_DEFAULT), H5Dclose));
}

Tensor File::read(const std::string& path) const {
  const Dataset dataset = open_dataset(id_, name_, path);
  const Target target = target_of(dataset, name_, path);
  Tensor result = Tensor::empty(dataset.shape, target.dtype);
  if (result.numel() > 0 && H5Dread(dataset.id.id(), target.native, H5S_ALL, H5S_ALL, H5P_DEFAULT,
                                    result.mutable_raw()) < 0) {
    fail(ErrorKind::data, name_, "dataset '{}' cannot be read: {}", path, last_error());
  }
  return result;
}

bool File::holds_strings(const std::string& path) const {
  return open_dataset(id_, name_, path).type_class == H5T_STRING;
}

std::vector<std::string> File::read_strings(const std::string& path) const {
  const Dataset dataset = open_dataset(id_, name_, path);
  if (dataset.type_class != H5T_STRING) {
    fail(ErrorKind::data, name_, "dataset '{}' does not hold strings", path);
  }
  if (dataset.shape.numel() == 0) return {};
  // A copy of the file's own type: character set and padding as they are, no conversion.
  const Handle memory_type(H5Tcopy(dataset.type.id()), H5Tclose);
  std::vector<std::string> strings = H5Tis_variable_str(dataset.type.id()) > 0
                                         ? read_variable(dataset, memory_type)
                                         : read_fixed(dataset, memory_type);
  if (strings.empty()) {
    fail(ErrorKind::data, name_, "dataset '{}' cannot be read: {}", path, last_error());
  }
  return strings;
}

ComputationalSequence::ComputationalSequence(const std::filesystem::path& path) : file_(path) {
  const auto roots = file_.list("/");
  if (roots.size() != 1 || !file_.is_group("/" + roots[0] + "/data")) {
    fail(ErrorKind::data, file_.name(),
         "expected a CMU-SDK computational sequence (one group with 'data' in it), found {} "
         "objects: {}",
         roots.size(), fmt::join(roots, ", "));
  }
  root_ = roots[0];
  ids_ = file_.list("/" + root_ + "/data");
}

Clip ComputationalSequence::clip(const std::string& id) const {
  const std::string group = "/" + root_ + "/data/" + id;
  Clip clip;
  clip.intervals = file_.read(group + "/intervals").to(DType::f64);
  std::int64_t steps = 0;
  if (file_.holds_strings(group + "/features")) {
    clip.words = file_.read_strings(group + "/features");
    steps = static_cast<std::int64_t>(clip.words.size());
  } else {
    clip.features = file_.read(group + "/features");
    if (clip.features.rank() != 2) {
      fail(ErrorKind::data, file_.name(), "'{}/features' must be [steps, width], found {}", group,
           clip.features.describe());
    }
    steps = clip.features.size(0);
  }
  if (clip.intervals.shape() != Shape{steps, 2}) {
    fail(ErrorKind::data, file_.name(), "'{}' has {} features but intervals {}", group, steps,
         clip.intervals.describe());
  }
  return clip;
}

std::string ComputationalSequence::metadata(const std::string& key) const {
  const std::string path = "/" + root_ + "/metadata/" + key;
  if (!file_.is_dataset(path)) return "";
  return file_.read_strings(path).at(0);
}

}  // namespace cmir::hdf5
