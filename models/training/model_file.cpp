#include "models/training/model_file.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/formats/safetensors.h"

namespace cmir {
namespace {

constexpr const char* kFormat = "cmir-model-1";

nlohmann::json modalities_to_json(const std::vector<ModalityInfo>& modalities) {
  nlohmann::json list = nlohmann::json::array();
  for (const ModalityInfo& m : modalities) {
    nlohmann::json entry = {{"name", m.name}, {"kind", name_of(m.kind)}, {"width", m.width}};
    if (m.embedding.defined()) {
      entry["embedding"] = {m.embedding.size(0), m.embedding.size(1)};
    }
    list.push_back(entry);
  }
  return list;
}

InputKind parse_kind(const std::string& name, const std::string& origin) {
  for (InputKind kind : {InputKind::vector, InputKind::sequence, InputKind::tokens}) {
    if (name_of(kind) == name) return kind;
  }
  fail(ErrorKind::data, origin, "unknown kind of modality '{}'", name);
}

std::vector<ModalityInfo> modalities_from_json(const nlohmann::json& list,
                                               const std::string& origin) {
  std::vector<ModalityInfo> modalities;
  for (const auto& entry : list) {
    ModalityInfo info{.name = entry.at("name"),
                      .kind = parse_kind(entry.at("kind"), origin),
                      .width = entry.at("width")};
    if (entry.contains("embedding")) {
      const auto& sizes = entry.at("embedding");
      // The table's values are a parameter of the file; only its shape is needed to build the
      // model.
      info.embedding =
          Tensor::zeros({sizes.at(0).get<std::int64_t>(), sizes.at(1).get<std::int64_t>()});
    }
    modalities.push_back(std::move(info));
  }
  return modalities;
}

}  // namespace

std::map<std::string, std::string> description_to_metadata(const ModelDescription& description) {
  return {{"format", kFormat},
          {"config", to_json(without_device(description.config)).dump()},
          {"modalities", modalities_to_json(description.modalities).dump()},
          {"seed", std::to_string(description.seed)},
          {"dataset", description.dataset}};
}

ModelDescription description_from_metadata(const std::map<std::string, std::string>& metadata,
                                           const std::string& origin) {
  const auto field = [&](const std::string& name) -> const std::string& {
    const auto found = metadata.find(name);
    if (found == metadata.end()) {
      fail(ErrorKind::data, origin,
           "is no CmIR model (its metadata has no '{}'); name one that `cmir train` left", name);
    }
    return found->second;
  };
  if (field("format") != kFormat) {
    fail(ErrorKind::data, origin, "has the model format '{}'; this program reads '{}'",
         field("format"), kFormat);
  }
  try {
    return {
        .config = config_from_json(nlohmann::ordered_json::parse(field("config")), "configuration"),
        .modalities = modalities_from_json(nlohmann::json::parse(field("modalities")), origin),
        .seed = std::stoull(field("seed")),
        .dataset = field("dataset")};
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorKind::data, origin, "its description does not parse: {}", error.what());
  } catch (const Error& error) {  // a key or value that this version does not know
    fail(ErrorKind::data, origin, "its {}", error.what());
  } catch (const std::logic_error& error) {
    fail(ErrorKind::data, origin, "its seed '{}' is no number", field("seed"));
  }
}

NamedTensors model_tensors(const Model& model, const Standardiser& standardiser) {
  NamedTensors tensors;
  for (const Parameter& p : model.named_parameters()) {
    tensors.emplace_back("parameter." + p.name, p.variable.value());
  }
  for (const auto& [name, tensor] : standardiser.to_tensors()) tensors.emplace_back(name, tensor);
  return tensors;
}

void save_model(const std::filesystem::path& file, const Model& model,
                const ModelDescription& description, const Standardiser& standardiser) {
  write_safetensors(file, model_tensors(model, standardiser), description_to_metadata(description));
}

void load_model_parameters(const Model& model, const std::map<std::string, Tensor>& tensors,
                           const std::string& prefix) {
  std::map<std::string, Tensor> values;
  for (const auto& [name, tensor] : tensors) {
    if (name.starts_with(prefix)) values[name.substr(prefix.size())] = tensor;
  }
  load_parameters(model.named_parameters(), values);
}

LoadedModel load_model(const std::filesystem::path& file, Device device) {
  const SafeTensors content = SafeTensors::open(file);
  ModelDescription description = description_from_metadata(content.metadata(), file.string());
  std::map<std::string, Tensor> tensors;
  for (const std::string& name : content.names()) tensors[name] = content.at(name);
  description.config.training.device = device.to_string();
  Model model(description.config, description.modalities, description.seed);
  load_model_parameters(model, tensors, "parameter.");
  return {std::move(description), std::move(model), Standardiser::from_tensors(tensors)};
}

void require_modalities(const ModelDescription& model, const std::vector<ModalityInfo>& found,
                        std::string_view dataset) {
  for (const ModalityInfo& expected : model.modalities) {
    const auto is = std::ranges::find(found, expected.name, &ModalityInfo::name);
    if (is != found.end() && is->kind == expected.kind && is->width == expected.width) continue;
    fail(
        ErrorKind::data, dataset,
        "its modality '{}' is {}, the model's is {} of width {}: use a data set with the features "
        "that the model was trained on",
        expected.name,
        is == found.end() ? "missing" : fmt::format("{} of width {}", name_of(is->kind), is->width),
        name_of(expected.kind), expected.width);
  }
}

}  // namespace cmir
