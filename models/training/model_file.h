// A trained model on disk: parameters, feature scaling and configuration in one safetensors file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/config.h"
#include "models/data/standardise.h"
#include "models/networks/cmir.h"

namespace cmir {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

/// What is needed to rebuild a Model and feed it.
struct ModelDescription {
  Config config;
  std::vector<ModalityInfo> modalities;  ///< without embedding tables: those are parameters
  std::uint64_t seed = 0;
  std::string dataset;  ///< name of the data set it was trained on
};

/// {"config": JSON, "modalities": JSON, "seed": ..., "dataset": ..., "format": "cmir-model-1"} as
/// safetensors metadata, and back. Errors of kind data: another format, JSON that does not parse.
std::map<std::string, std::string> description_to_metadata(const ModelDescription& description);
ModelDescription description_from_metadata(const std::map<std::string, std::string>& metadata,
                                           const std::string& origin);

/// "parameter.<name>" for every parameter, and the standardiser's tensors. Handles, not copies.
NamedTensors model_tensors(const Model& model, const Standardiser& standardiser);

struct LoadedModel {
  ModelDescription description;
  Model model;
  Standardiser standardiser;
};

void save_model(const std::filesystem::path& file, const Model& model,
                const ModelDescription& description, const Standardiser& standardiser);
/// Reads what save_model wrote, onto the device (the file knows none); every mismatch of names or
/// shapes is an Error.
LoadedModel load_model(const std::filesystem::path& file, Device device = {});
/// An Error of kind data unless the data set's modalities, `found`, are of the kinds and widths
/// that the model was made for.
void require_modalities(const ModelDescription& model, const std::vector<ModalityInfo>& found,
                        std::string_view dataset);
/// Copies the tensors called "parameter.<name>" into the model.
void load_model_parameters(const Model& model, const std::map<std::string, Tensor>& tensors,
                           const std::string& prefix);

}  // namespace cmir
