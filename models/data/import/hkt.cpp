// HKT's MUStARD and UR-FUNNY: {train, dev, test} of lists of ((p_words str, p_visual (n,91),
// p_acoustic (n,81), p_hcf (n,4)), (c_words [str], c_visual, c_acoustic, c_hcf), id, label 0|1); p
// is the punchline, c its context.
#include "models/data/import/source.h"

namespace cmir::import {
namespace {

using pickle::Kind;
using pickle::Value;

bool matches(const Source& source) {
  const Value* part = first_part(source.pickle_or_none());
  if (part == nullptr || !part->is_sequence() || part->items().empty()) return false;
  const Value& sample = part->items()[0];
  return sample.is_sequence() && sample.items().size() == 4 &&
         sample.at(std::size_t{0}).is_sequence() && sample.at(std::size_t{0}).items().size() == 4;
}

/// A sentence, or a list of them.
std::string sentences(const Value& value) {
  if (value.is_text()) return value.text();
  std::string text;
  for (const Value& sentence : value.items()) text += (text.empty() ? "" : " ") + sentence.text();
  return text;
}

/// Part k of context then punchline, joined along time as the paper and HKT do.
Tensor joined(const std::string& feature, const Value& context, const Value& punchline,
              std::size_t k, Builder& builder) {
  const auto read = [&](const Value& side) {
    const Tensor steps = builder.read(feature, side.at(k));
    return steps.numel() == 0 ? Tensor::empty({0, 1}) : steps;  // a clip without context
  };
  return join_steps(read(context), read(punchline));
}

Tensor keep(const Tensor& steps, std::int64_t full, std::int64_t begin, std::int64_t end,
            bool all) {
  const bool cut = !all && steps.rank() == 2 && steps.size(1) == full;
  return cut ? columns(steps, begin, end) : steps;
}

void convert(const Source& source, const ConvertOptions& options, Builder& builder, Dataset& card) {
  for_each_part(
      source.pickle(), builder, [&](Part part, const std::string& name, const Value& list) {
        std::size_t i = 0;
        for (const Value& entry : list.items()) {
          within(fmt::format("sample {}", i++), [&] {
            const Value& punchline = entry.at(std::size_t{0});
            const Value& context = entry.at(1);
            Sample sample;
            sample.part = part;
            sample.id = entry.at(2).is_text() ? entry.at(2).text()
                                              : fmt::format("{}_{}", name, entry.at(2).integer());
            sample.labels["bin"] = entry.at(3).number();
            sample.text = sentences(context.at(std::size_t{0}));
            sample.text +=
                (sample.text.empty() ? "" : " ") + sentences(punchline.at(std::size_t{0}));
            sample.words["tok"] = split_words(sample.text);
            sample.features["video"] = keep(joined("video", context, punchline, 1, builder), 91, 55,
                                            91, options.all_columns);
            sample.features["audio"] = keep(joined("audio", context, punchline, 2, builder), 81, 0,
                                            60, options.all_columns);
            sample.features["hcf"] = joined("hcf", context, punchline, 3, builder);
            builder.add(std::move(sample));
          });
        }
      });
  builder.set_label("bin", LabelKind::binary, 0, 1);
  card.task = "humour or sarcasm: 0 or 1, context and punchline joined along time";
}

}  // namespace

const Family kHkt{"hkt", "HKT's MUStARD or UR-FUNNY pickle (punchline and context)", &matches,
                  &convert};

}  // namespace cmir::import
