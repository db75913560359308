#include "core/formats/zip.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>
#include <string_view>

#include "core/error.h"

namespace cmir {
namespace {

// Sizes of the fixed parts of the three records, and their signatures.
constexpr std::size_t kEndSize = 22, kEntrySize = 46, kLocalSize = 30;
constexpr std::uint32_t kEndSignature = 0x06054B50, kEntrySignature = 0x02014B50,
                        kLocalSignature = 0x04034B50;
constexpr std::size_t kMaxComment = 65535;
constexpr std::size_t kMaxRatio = 1032;  // deflate codes at most 258 bytes in 2 bits
constexpr std::uint32_t kZip64 = 0xFFFFFFFF;

class Bytes {
 public:
  Bytes(std::span<const std::byte> bytes, const std::string& archive)
      : bytes_(bytes), archive_(archive) {}

  std::size_t size() const { return bytes_.size(); }
  std::span<const std::byte> range(std::size_t offset, std::size_t count) const {
    if (offset > bytes_.size() || count > bytes_.size() - offset) {
      fail(ErrorKind::data, archive_, "bytes [{}, +{}) of the archive are past its end ({})",
           offset, count, bytes_.size());
    }
    return bytes_.subspan(offset, count);
  }
  std::uint16_t u16(std::size_t offset) const { return number<std::uint16_t>(offset); }
  std::uint32_t u32(std::size_t offset) const { return number<std::uint32_t>(offset); }
  std::string text(std::size_t offset, std::size_t count) const {
    const auto part = range(offset, count);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }

 private:
  template <class T>
  T number(std::size_t offset) const {
    T value;
    std::memcpy(&value, range(offset, sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::span<const std::byte> bytes_;
  const std::string& archive_;
};

/// Offset of the end-of-directory record: the last one whose comment reaches exactly to the end of
/// the archive.
std::size_t find_end(const Bytes& bytes, const std::string& archive) {
  for (std::size_t comment = 0; comment <= kMaxComment && comment + kEndSize <= bytes.size();
       ++comment) {
    const std::size_t offset = bytes.size() - kEndSize - comment;
    if (bytes.u32(offset) == kEndSignature && bytes.u16(offset + 20) == comment) return offset;
  }
  fail(ErrorKind::data, archive,
       "is no ZIP archive, or is cut off: it has no end-of-directory record");
}

/// The range of the archive that a member takes, its local header included.
struct Extent {
  std::size_t begin, end;
};

ZipMember read_entry(const Bytes& bytes, std::size_t entry, const std::string& archive,
                     Extent& extent) {
  ZipMember member;
  const std::uint16_t flags = bytes.u16(entry + 8), method = bytes.u16(entry + 10);
  member.name = bytes.text(entry + kEntrySize, bytes.u16(entry + 28));
  member.crc = bytes.u32(entry + 16);
  member.size = bytes.u32(entry + 24);
  const std::size_t stored_size = bytes.u32(entry + 20), local = bytes.u32(entry + 42);
  if ((flags & 1) != 0) fail(ErrorKind::data, archive, "'{}' is encrypted", member.name);
  if (method != 0 && method != 8) {
    fail(ErrorKind::data, archive, "'{}' has the compression method {}; use numpy.savez",
         member.name, method);
  }
  if (member.size == kZip64 || stored_size == kZip64 || local == kZip64) {
    fail(ErrorKind::data, archive, "'{}' is ZIP64 (over 4 GiB); save it as .npy instead",
         member.name);
  }
  member.deflated = method == 8;
  if (member.deflated ? member.size > stored_size * kMaxRatio : member.size != stored_size) {
    fail(ErrorKind::data, archive, "'{}' cannot have {} bytes in {} stored ones", member.name,
         member.size, stored_size);
  }
  if (bytes.u32(local) != kLocalSignature || bytes.u16(local + 8) != method ||
      bytes.text(local + kLocalSize, bytes.u16(local + 26)) != member.name) {
    fail(ErrorKind::data, archive,
         "'{}': the archive's directory and the member's own header differ", member.name);
  }
  const std::size_t content = local + kLocalSize + bytes.u16(local + 26) + bytes.u16(local + 28);
  member.stored = bytes.range(content, stored_size);
  extent = {local, content + stored_size};
  return member;
}

}  // namespace

std::vector<ZipMember> zip_directory(std::span<const std::byte> data, const std::string& archive) {
  const Bytes bytes(data, archive);
  const std::size_t end = find_end(bytes, archive);
  const std::size_t count = bytes.u16(end + 10), begin = bytes.u32(end + 16);
  if (bytes.u16(end + 4) != 0 || bytes.u16(end + 6) != 0 || bytes.u16(end + 8) != count) {
    fail(ErrorKind::data, archive, "is spread over several disks");
  }
  if (count == 0xFFFF || begin == kZip64) {
    fail(ErrorKind::data, archive,
         "is ZIP64 (over 4 GiB or 65535 arrays); save .npy files instead");
  }
  std::vector<ZipMember> members;
  std::vector<Extent> extents;
  std::set<std::string> names;
  std::size_t entry = begin;
  for (std::size_t i = 0; i < count; ++i) {
    if (bytes.u32(entry) != kEntrySignature)
      fail(ErrorKind::data, archive, "its directory is broken at entry {}", i);
    members.push_back(read_entry(bytes, entry, archive, extents.emplace_back()));
    if (!names.insert(members.back().name).second) {
      fail(ErrorKind::data, archive, "holds '{}' twice", members.back().name);
    }
    entry += kEntrySize + bytes.u16(entry + 28) + bytes.u16(entry + 30) + bytes.u16(entry + 32);
  }
  if (entry != end || bytes.u32(end + 12) != end - begin) {
    fail(ErrorKind::data, archive, "its directory does not end where its last record says");
  }
  std::ranges::sort(extents, {}, &Extent::begin);
  std::size_t position = 0;
  for (const Extent& extent : extents) {
    if (extent.begin < position || extent.end > begin)
      fail(ErrorKind::data, archive, "its members overlap");
    position = extent.end;
  }
  return members;
}

ZipContent zip_content(const ZipMember& member, std::shared_ptr<const void> owner,
                       const std::string& where) {
  ZipContent content{member.stored, std::move(owner)};
  if (member.deflated) {
    auto inflated = std::make_shared<std::vector<std::byte>>(member.size);
    z_stream stream{};
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(member.stored.data()));
    stream.avail_in = static_cast<uInt>(member.stored.size());
    stream.next_out = reinterpret_cast<Bytef*>(inflated->data());
    stream.avail_out = static_cast<uInt>(member.size);
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK)
      fail(ErrorKind::io, where, "zlib has no memory left");
    const int status = inflate(&stream, Z_FINISH);
    inflateEnd(&stream);
    if (status != Z_STREAM_END || stream.avail_in != 0 || stream.avail_out != 0) {
      fail(ErrorKind::data, where, "its compressed content is broken, or not of {} bytes",
           member.size);
    }
    content = {*inflated, inflated};
  }
  if (crc32_z(0, reinterpret_cast<const Bytef*>(content.bytes.data()), content.bytes.size()) !=
      member.crc) {
    fail(ErrorKind::data, where, "its checksum is wrong");
  }
  return content;
}

}  // namespace cmir
