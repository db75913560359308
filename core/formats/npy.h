// NumPy's array files: .npy (versions 1, 2, 3) and .npz (a ZIP archive of them).
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "core/tensor.h"

namespace cmir {

/// One array. dtypes f4, f8, i4, i8, u1 are kept; f2 becomes f32, i1, i2 and u2 become i32, u4
/// becomes i64, b1 becomes u8. Little-endian only. C order is wrapped (read-only, mapped from
/// disk), Fortran order is transposed into a copy. Anything else (objects, which would be pickles;
/// text; structured types; a truncated or overlong file) is an Error of kind data.
Tensor read_npy(const std::filesystem::path& path);
/// The same over bytes in memory, which `owner` keeps alive; `name` stands in error messages.
Tensor parse_npy(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                 const std::string& name = "npy");

/// Every array of an archive written by numpy.savez or savez_compressed, by name without ".npy".
/// The archive's directory is checked before any use, each member against its checksum, and a
/// declared size that deflate could not reach is refused before memory is taken. No ZIP64 (archives
/// over 4 GiB) and no encryption. Errors are of kind data.
std::map<std::string, Tensor> read_npz(const std::filesystem::path& path);
std::map<std::string, Tensor> parse_npz(std::span<const std::byte> bytes,
                                        std::shared_ptr<const void> owner,
                                        const std::string& name = "npz");

}  // namespace cmir
