// MFN's folder of HDF5 files, one dataset each: <modality>_<part>.h5 or X_<part>.h5 (text 300,
// audio 5, video 20 side by side for CMU-MOSI), and y_<part>.h5; (N, steps, width), padded in
// front.
#include <algorithm>
#include <cmath>

#include "models/data/import/hdf5.h"
#include "models/data/import/source.h"

namespace cmir::import {
namespace {

constexpr std::pair<const char*, Part> kParts[] = {
    {"train", kTrain}, {"valid", kValid}, {"test", kTest}};
constexpr const char* kModalities[] = {"text", "audio", "video"};

bool matches(const Source& source) {
  return source.has("y_train.h5") || source.has("y_valid.h5") || source.has("y_test.h5");
}

/// The file's only dataset.
Tensor read_only_dataset(const Source& source, const std::string& file) {
  const hdf5::File opened(source.path() / file);
  const auto names = opened.list("/");
  if (names.size() != 1)
    fail(ErrorKind::data, file, "expected one dataset, found {}", names.size());
  return opened.read("/" + names[0]);
}

/// The modalities [N, steps, width] of a part.
std::map<std::string, Tensor> read_part(const Source& source, const std::string& part,
                                        Builder& builder) {
  std::map<std::string, Tensor> features;
  for (const std::string modality : kModalities) {
    const std::string file = modality + "_" + part + ".h5";
    if (source.has(file))
      features[modality] = builder.finite(modality, read_only_dataset(source, file));
  }
  if (const std::string file = "X_" + part + ".h5"; source.has(file)) {
    const Tensor joined = builder.finite("X", read_only_dataset(source, file));
    if (joined.rank() != 3 || joined.size(2) != 325) {
      fail(ErrorKind::data, file,
           "expected [samples, steps, 325] (text 300, audio 5, video 20), found {}",
           joined.describe());
    }
    const Tensor rows = joined.reshape({joined.size(0) * joined.size(1), 325});
    const auto cut = [&](std::int64_t begin, std::int64_t end) {
      return columns(rows, begin, end).reshape({joined.size(0), joined.size(1), end - begin});
    };
    features = {{"text", cut(0, 300)}, {"audio", cut(300, 305)}, {"video", cut(305, 325)}};
  }
  return features;
}

void convert(const Source& source, const ConvertOptions&, Builder& builder, Dataset& card) {
  if (!source.is_folder())
    fail(ErrorKind::data, "input", "expected the folder with the .h5 files of all parts");
  bool classes = true;
  double most = 1;
  for (const auto& [name, part] : kParts) {
    const std::string label_file = std::string("y_") + name + ".h5";
    if (!source.has(label_file)) {
      builder.note(fmt::format("there is no {}", label_file));
      continue;
    }
    const Tensor labels = read_only_dataset(source, label_file);
    if (labels.rank() < 1 || labels.size(0) == 0)
      fail(ErrorKind::data, label_file, "has no labels");
    const auto values = labels.to_vector();
    const std::size_t per_sample = values.size() / labels.size(0);
    auto features = read_part(source, name, builder);
    for (const auto& [modality, tensor] : features) {
      if (tensor.rank() != 3 || tensor.size(0) != labels.size(0)) {
        fail(ErrorKind::data, fmt::format("{}_{}.h5", modality, name), "{} does not fit {} labels",
             tensor.describe(), labels.size(0));
      }
    }
    for (std::int64_t i = 0; i < labels.size(0); ++i) {
      Sample sample;
      sample.part = part;
      sample.id = fmt::format("{}_{}", name, i);
      const double label = values[i * per_sample];
      classes &= label == std::floor(label) && label >= 0;
      most = std::max(most, label);
      sample.labels["label"] = label;
      for (const auto& [modality, tensor] : features) {
        const Tensor steps = tensor.slice(i, i + 1).reshape({tensor.size(1), tensor.size(2)});
        sample.features[modality] =
            builder.trim(modality, steps, leading_zero_steps(steps), steps.size(0));
      }
      builder.add(std::move(sample));
    }
  }
  if (classes) {
    builder.set_label("label", most > 1 ? LabelKind::multiclass : LabelKind::binary, 0, most);
  } else {
    builder.set_regression("label", 3);
  }
  card.task = classes ? "classes" : "sentiment";
}

}  // namespace

const Family kMfn{"mfn", "MFN's folder of HDF5 files (X or text, audio, video, and y, per part)",
                  &matches, &convert};

}  // namespace cmir::import
