#include "models/data/import/convert.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "models/data/container.h"
#include "models/data/import/source.h"

namespace cmir {
namespace {

using import::Family;

constexpr std::array kFamilies{&import::kMmsa,    &import::kMult, &import::kMisa,
                               &import::kHkt,     &import::kHffn, &import::kGcnet,
                               &import::kUrFunny, &import::kMfn,  &import::kCsd};

std::string family_list() {
  std::string text;
  for (const Family* family : kFamilies)
    text += fmt::format("\n  {}: {}", family->name, family->form);
  return text;
}

std::string describe_content(const import::Source& source) {
  if (!source.is_folder()) return source.pickle_or_none().describe();
  std::vector<std::string> names;
  for (const auto& file : source.files("")) names.push_back(file.filename().string());
  if (names.size() > 12) {
    names.resize(12);
    names.emplace_back("...");
  }
  return fmt::format("a folder with {}",
                     names.empty() ? "no files" : fmt::format("{}", fmt::join(names, ", ")));
}

const Family& family_by_name(const std::string& name) {
  const auto family =
      std::ranges::find_if(kFamilies, [&](const Family* each) { return each->name == name; });
  if (family == kFamilies.end()) {
    fail(ErrorKind::usage, "family", "'{}' is none of those that can be read:{}", name,
         family_list());
  }
  return **family;
}

const Family& detect(const import::Source& source) {
  for (const Family* family : kFamilies) {
    if (family->matches(source)) return *family;
  }
  fail(ErrorKind::data, source.path().string(),
       "found {}, which is none of the forms that can be read:{}", describe_content(source),
       family_list());
}

}  // namespace

std::vector<ImportFamily> import_families() {
  std::vector<ImportFamily> families;
  for (const Family* family : kFamilies) {
    families.push_back({std::string(family->name), std::string(family->form)});
  }
  return families;
}

std::string detect_family(const std::filesystem::path& input) {
  return std::string(detect(import::Source(input)).name);
}

Dataset import_dataset(const std::filesystem::path& input, const ConvertOptions& options,
                       ConversionReport& report) {
  const import::Source source(input);
  const Family& family = options.family.empty() ? detect(source) : family_by_name(options.family);
  report = {};
  report.family = family.name;
  import::Builder builder(report, source.bytes());
  Dataset card, dataset;
  import::within(fmt::format("{} (read as {})", input.string(), family.name), [&] {
    family.convert(source, options, builder, card);
  dataset = builder.finish();
});
dataset.task = card.task;
dataset.embeddings = card.embeddings;
dataset.name = options.name.empty()
                   ? std::filesystem::absolute(input).lexically_normal().stem().string()
                   : options.name;
dataset.source = fmt::format("{} ({})", input.filename().string(), family.form);
dataset.caveats = report.notes;
return dataset;
}  // namespace cmir

ConversionReport convert_dataset(const std::filesystem::path& input,
                                 const std::filesystem::path& output,
                                 const ConvertOptions& options) {
  ConversionReport report;
  save_container(import_dataset(input, options, report), output);
  return report;
}

std::string ConversionReport::to_string() const {
  std::string text = fmt::format("family {}", family);
  const auto add = [&](std::string_view what, const std::map<std::string, std::int64_t>& counts) {
    for (const auto& [name, count] : counts) {
      if (count > 0) text += fmt::format("\n{} {}: {}", what, name, count);
    }
  };
  add("samples of", samples);
  add("NaN and infinities set to 0 in", replaced);
  add("steps of padding removed from", trimmed);
  if (!dropped.empty()) {
    text += fmt::format("\nsamples without any modality, dropped: {}", fmt::join(dropped, ", "));
  }
  for (const auto& line : notes) text += "\nnote: " + line;
  return text;
}

nlohmann::json ConversionReport::to_json() const {
  return {{"family", family},   {"samples", samples}, {"replaced", replaced},
          {"trimmed", trimmed}, {"dropped", dropped}, {"notes", notes}};
}

}  // namespace cmir
