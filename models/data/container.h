// The container: one safetensors file per data set, its card as JSON in the file's metadata. See
// docs/container.md.
#pragma once

#include <filesystem>

#include "models/data/dataset.h"

namespace cmir {

/// Writes `dataset` (structurally sound, else an Error) to `file`, atomically: a temporary beside
/// it, then a rename. Tensor names: feature.<name>[.offsets], tokens.<name>[.offsets],
/// embedding.<name>, label.<name>, split.<name>, fold.<name>, group, extra.<name>. Metadata "card":
/// JSON with the rest and a SHA-256 of the content.
void save_container(const Dataset& dataset, const std::filesystem::path& file);

/// Reads what save_container wrote. Error of kind `data`: no card, another format version, an
/// unknown or ill-shaped tensor, a checksum that does not fit (`verify` reads every byte).
Dataset load_container(const std::filesystem::path& file, bool verify = true);

/// Reads the packed form: a safetensors file with plain tensor names and, beside it, ids.json;
/// vocab.txt and transcripts.tsv when present. The mapping of names is in docs/container.md.
Dataset load_packed(const std::filesystem::path& file);

/// A container file or folder, or a packed folder, recognised by content.
Dataset load_dataset_path(const std::filesystem::path& path);

/// Hex SHA-256 over the tensors (name, dtype, shape, bytes) in order of name, then ids and
/// vocabulary.
std::string content_checksum(const Dataset& dataset);

}  // namespace cmir
