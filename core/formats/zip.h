// Reading ZIP archives (PKWARE APPNOTE 6.3), as far as numpy writes them: methods stored and
// deflate.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace cmir {

struct ZipMember {
  std::string name;
  bool deflated = false;
  std::uint32_t crc = 0;              ///< CRC-32 of the content
  std::size_t size = 0;               ///< of the content
  std::span<const std::byte> stored;  ///< as it lies in the archive
};

/// The archive's members, in the order of its directory. Checked: every range within the archive,
/// no two members overlapping, local headers that agree with the directory, distinct names.
/// Encryption, several disks, ZIP64 and other methods are refused. Errors are of kind data;
/// `archive` stands in their messages.
std::vector<ZipMember> zip_directory(std::span<const std::byte> bytes, const std::string& archive);

struct ZipContent {
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
};
/// A member's content: a view of the archive (kept alive by `owner`) if stored, else inflated into
/// new memory. A wrong size or checksum is an Error of kind data that names `where`.
ZipContent zip_content(const ZipMember& member, std::shared_ptr<const void> owner,
                       const std::string& where);

}  // namespace cmir
