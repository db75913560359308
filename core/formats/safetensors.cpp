#include "core/formats/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "core/formats/file.h"
#include "core/nearest_name.h"

namespace cmir {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

using Json = nlohmann::json;
constexpr std::size_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeader = 100'000'000;  // the reference implementation's limit
constexpr int kMaxDepth = 3;                       // file, tensor, shape

struct FileDType {
  std::string_view name;
  std::size_t size;
  std::optional<DType> dtype;  // none: valid in a file, but not an element type of Tensor
};
constexpr std::array<FileDType, 15> kDTypes{{{"F32", 4, DType::f32},
                                             {"F64", 8, DType::f64},
                                             {"BF16", 2, DType::bf16},
                                             {"I32", 4, DType::i32},
                                             {"I64", 8, DType::i64},
                                             {"U8", 1, DType::u8},
                                             {"F16", 2, {}},
                                             {"I8", 1, {}},
                                             {"I16", 2, {}},
                                             {"U16", 2, {}},
                                             {"U32", 4, {}},
                                             {"U64", 8, {}},
                                             {"BOOL", 1, {}},
                                             {"F8_E5M2", 1, {}},
                                             {"F8_E4M3", 1, {}}}};

const FileDType* find_dtype(std::string_view name) {
  const auto* found = std::ranges::find(kDTypes, name, &FileDType::name);
  return found == kDTypes.end() ? nullptr : found;
}

std::string_view file_name_of(DType dtype) {
  return std::ranges::find(kDTypes, std::optional(dtype), &FileDType::dtype)->name;
}

/// The header as JSON. The library keeps the last of two equal keys, so they are looked for while
/// it parses.
Json parse_header(std::string_view text, const std::string& file) {
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto check = [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth > kMaxDepth)
      fail(ErrorKind::data, file, "its header is nested deeper than {} levels", kMaxDepth);
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second) {
      fail(ErrorKind::data, file, "its header has the name '{}' twice", value.get<std::string>());
    }
    return true;
  };
  try {
    return Json::parse(text, check);
  } catch (const Json::exception& error) {
    fail(ErrorKind::data, file, "its header is not valid JSON: {}", error.what());
  }
}

std::string_view header_text(std::span<const std::byte> bytes, const std::string& file) {
  if (bytes.size() < kLengthBytes) {
    fail(ErrorKind::data, file, "{} bytes are too few for a safetensors file", bytes.size());
  }
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  if (length > kMaxHeader || length > bytes.size() - kLengthBytes) {
    fail(ErrorKind::data, file,
         "its header claims {} bytes, the file has {} (cut off, or no safetensors file)", length,
         bytes.size() - kLengthBytes);
  }
  const auto* text = reinterpret_cast<const char*>(bytes.data() + kLengthBytes);
  if (length == 0 || text[0] != '{')
    fail(ErrorKind::data, file, "its header does not start with '{{'");
  return {text, static_cast<std::size_t>(length)};
}

std::vector<std::int64_t> non_negative_integers(const Json& array, const std::string& where) {
  if (!array.is_array())
    fail(ErrorKind::data, where, "needs a list of integers, got {}", array.dump());
  std::vector<std::int64_t> values;
  for (const Json& item : array) {
    if (!item.is_number_unsigned() || item.get<std::uint64_t>() >> 63 != 0) {
      fail(ErrorKind::data, where, "{} is no integer from 0 to 2^63 - 1", item.dump());
    }
    values.push_back(item.get<std::int64_t>());
  }
  return values;
}

struct Extent {
  std::string dtype;
  Shape shape;
  std::size_t begin, end;
};

/// One tensor's description, consistent in itself and within `data_size` bytes.
Extent parse_extent(const Json& json, std::size_t data_size, const std::string& where) {
  if (!json.is_object() || json.size() != 3 || !json.contains("dtype") ||
      !json["dtype"].is_string() || !json.contains("shape") || !json.contains("data_offsets")) {
    fail(ErrorKind::data, where, "needs exactly dtype, shape and data_offsets");
  }
  const auto dtype_name = json["dtype"].get<std::string>();
  const FileDType* dtype = find_dtype(dtype_name);
  if (dtype == nullptr) fail(ErrorKind::data, where, "unknown dtype '{}'", dtype_name);
  const auto sizes = non_negative_integers(json["shape"], where);
  const auto offsets = non_negative_integers(json["data_offsets"], where);
  if (offsets.size() != 2)
    fail(ErrorKind::data, where, "needs 2 data_offsets, got {}", offsets.size());
  Shape shape;
  try {
    shape = Shape(sizes);
  } catch (const Error& error) {
    fail(ErrorKind::data, where, "{}", error.what());
  }
  const auto begin = static_cast<std::size_t>(offsets[0]);
  const auto end = static_cast<std::size_t>(offsets[1]);
  if (begin > end || end > data_size) {
    fail(ErrorKind::data, where,
         "its bytes [{}, {}) are not within the {} bytes of data (cut off?)", begin, end,
         data_size);
  }
  // Divide, since the product could overflow.
  if ((end - begin) % dtype->size != 0 ||
      (end - begin) / dtype->size != static_cast<std::size_t>(shape.numel())) {
    fail(ErrorKind::data, where, "{} bytes are not {} elements of {}", end - begin,
         shape.to_string(), dtype_name);
  }
  return {dtype_name, shape, begin, end};
}

/// The byte ranges must cover [0, data_size) exactly once.
void check_coverage(std::vector<std::pair<Extent, std::string>>& extents, std::size_t data_size,
                    const std::string& file) {
  std::ranges::sort(extents, {},
                    [](const auto& e) { return std::pair(e.first.begin, e.first.end); });
  std::size_t position = 0;
  for (const auto& [extent, name] : extents) {
    if (extent.begin != position) {
      fail(ErrorKind::data, file,
           "tensor '{}' starts at byte {}, but the one before it ends at {} ({})", name,
           extent.begin, position, extent.begin < position ? "overlap" : "gap");
    }
    position = extent.end;
  }
  if (position != data_size) {
    fail(ErrorKind::data, file, "its tensors end at byte {}, its data at {}", position, data_size);
  }
}

}  // namespace

SafeTensors SafeTensors::parse(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                               std::string name) {
  const std::string_view text = header_text(bytes, name);
  const auto data = bytes.subspan(kLengthBytes + text.size());
  const Json header = parse_header(text, name);
  SafeTensors file;
  std::vector<std::pair<Extent, std::string>> extents;
  for (const auto& [key, value] : header.items()) {
    if (key != "__metadata__") {
      extents.emplace_back(
          parse_extent(value, data.size(), fmt::format("{}: tensor '{}'", name, key)), key);
      continue;
    }
    if (!value.is_object()) fail(ErrorKind::data, name, "__metadata__ is no map");
    for (const auto& [entry, text_value] : value.items()) {
      if (!text_value.is_string())
        fail(ErrorKind::data, name, "__metadata__ '{}' is no text", entry);
      file.metadata_.emplace(entry, text_value.get<std::string>());
    }
  }
  check_coverage(extents, data.size(), name);
  for (auto& [extent, key] : extents) {
    const auto range = data.subspan(extent.begin, extent.end - extent.begin);
    file.entries_.emplace(std::move(key), Entry{std::move(extent.dtype), extent.shape, range});
  }
  file.name_ = std::move(name);
  file.owner_ = std::move(owner);
  return file;
}

SafeTensors SafeTensors::open(const std::filesystem::path& path) {
  auto mapped = MappedFile::open(path);
  const auto bytes = mapped->bytes();
  return parse(bytes, std::move(mapped), path.string());
}

std::vector<std::string> SafeTensors::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

Tensor SafeTensors::at(std::string_view name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) {
    const std::string near = nearest_name(name, names());
    fail(ErrorKind::data, name_, "holds no tensor '{}'{}", name,
         near.empty() ? "" : fmt::format("; the nearest is '{}'", near));
  }
  const Entry& entry = found->second;
  const auto dtype = find_dtype(entry.dtype)->dtype;
  if (!dtype) {
    fail(ErrorKind::data, name_,
         "tensor '{}' is {}, which is not supported; store it as F32 or I64", name, entry.dtype);
  }
  if (reinterpret_cast<std::uintptr_t>(entry.bytes.data()) % size_of(*dtype) == 0) {
    return Tensor::wrap(entry.bytes.data(), entry.shape, *dtype, owner_);
  }
  Tensor copy = Tensor::empty(entry.shape, *dtype);
  if (!entry.bytes.empty()) std::memcpy(copy.mutable_raw(), entry.bytes.data(), entry.bytes.size());
  return copy;
}

std::map<std::string, Tensor> SafeTensors::tensors() const {
  std::map<std::string, Tensor> tensors;
  for (const auto& [name, entry] : entries_) tensors.emplace(name, at(name));
  return tensors;
}

void write_safetensors(const std::filesystem::path& path,
                       const std::vector<std::pair<std::string, Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  auto ordered = tensors;
  std::ranges::stable_sort(ordered, std::greater{},
                           [](const auto& t) { return size_of(t.second.dtype()); });
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::set<std::string> names;
  std::vector<std::span<const std::byte>> parts(2);
  std::size_t offset = 0;
  for (const auto& [name, tensor] : ordered) {
    require(tensor.defined() && tensor.device().has_host_memory(), path.string(),
            "tensor '{}' is {}; needs one on the CPU", name, tensor.describe());
    require(name != "__metadata__" && names.insert(name).second, path.string(),
            "the tensor name '{}' is reserved or given twice", name);
    header[name] = {{"dtype", file_name_of(tensor.dtype())},
                    {"shape", tensor.shape().sizes()},
                    {"data_offsets", {offset, offset + tensor.bytes()}}};
    offset += tensor.bytes();
    if (tensor.bytes() > 0) parts.emplace_back(tensor.raw(), tensor.bytes());
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const Json::exception& error) {
    fail(ErrorKind::usage, path.string(), "a name or metadata text is not UTF-8: {}", error.what());
  }
  text.resize((kLengthBytes + text.size() + 63) / 64 * 64 - kLengthBytes, ' ');
  const std::uint64_t length = text.size();
  parts[0] = std::as_bytes(std::span(&length, 1));
  parts[1] = std::as_bytes(std::span(text));
  write_file_atomically(path, parts);
}

}  // namespace cmir
