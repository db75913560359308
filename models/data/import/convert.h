// Converts the files that people have into the project's container. What each family looks like:
// docs/container.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "models/data/dataset.h"

namespace cmir {

struct ConvertOptions {
  std::string family;  ///< one of import_families(); "" detects it from the content
  std::string name;    ///< of the data set; "" takes the input's file name
  /// HKT and UR-FUNNY: keep all columns instead of visual 55..90 of 91 and acoustic 0..59 of 81,
  /// which HKT and the paper use.
  bool all_columns = false;
  /// CMU-SDK: a JSON file {set: {"train": [video, ...], "valid": [...], "test": [...]}} that gives
  /// the split.
  std::filesystem::path folds;
};

/// What was done to the data on the way.
struct ConversionReport {
  std::string family;
  std::map<std::string, std::int64_t> samples;  ///< per part
  std::map<std::string, std::int64_t>
      replaced;                                 ///< per feature: NaN and infinite elements set to 0
  std::map<std::string, std::int64_t> trimmed;  ///< per feature: steps of padding removed
  std::vector<std::string> dropped;             ///< ids of samples without any modality
  std::vector<std::string> notes;

  std::string to_string() const;
  nlohmann::json to_json() const;
};

struct ImportFamily {
  std::string name;
  std::string form;  ///< a sentence for people
};

/// The forms that can be read: mmsa, mult, misa, hkt, hffn, gcnet, urfunny, mfn, csd.
std::vector<ImportFamily> import_families();

/// The family of a file or folder, from its content. Error of kind `data` when it is none of them:
/// it says what was found.
std::string detect_family(const std::filesystem::path& input);

/// Reads the input. Features are f32 and named text, audio, video, hcf (what the family has); words
/// are tokens "tok" with the vocabulary, WordPiece ids tokens "bert"; labels are "reg" (a
/// regression), "bin" (0/1) or "cls" (classes); the split is "given". NaN and infinities become 0,
/// padding and samples without any modality are removed, all counted. Error of kind `data`: another
/// form than the family's, saying what was expected and found, and where.
Dataset import_dataset(const std::filesystem::path& input, const ConvertOptions& options,
                       ConversionReport& report);

/// Reads the input and writes the container `output`.
ConversionReport convert_dataset(const std::filesystem::path& input,
                                 const std::filesystem::path& output,
                                 const ConvertOptions& options = {});

}  // namespace cmir
