#include "models/evaluation/attention_report.h"

#include <fmt/format.h>

#include <algorithm>

namespace cmir {
namespace {

bool is_crossmodal(const AttentionMap& map) { return map.layer.starts_with("crossmodal."); }

/// "text from audio, layer 0" of "crossmodal.text.audio.layers.0", "audio, layer 0" of
/// "unimodal.audio.transformer.layers.0": modalities' names have no dots.
std::string title_of(const AttentionMap& map) {
  std::vector<std::string> parts{""};
  for (const char c : map.layer) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return is_crossmodal(map) ? fmt::format("{} from {}, layer {}", parts[1], parts[2], parts.back())
                            : fmt::format("{}, layer {}", parts[1], parts.back());
}

}  // namespace

Json to_json(const std::vector<AttentionMap>& maps) {
  Json all = Json::array();
  for (const AttentionMap& map : maps) {
    Json rows = Json::array();
    for (std::int64_t q = 0; q < map.probabilities.size(0); ++q)
      rows.push_back(map.probabilities.slice(q, q + 1).to_vector());
    all.push_back({{"layer", map.layer},
                   {"queries", map.probabilities.size(0)},
                   {"keys", map.probabilities.size(1)},
                   {"probabilities", std::move(rows)}});
  }
  return all;
}

HeatMapChart attention_chart(const std::vector<AttentionMap>& maps, const std::string& title) {
  std::vector<AttentionMap> ordered = maps;
  std::ranges::stable_partition(ordered, is_crossmodal);
  const auto pairs = std::ranges::count_if(ordered, [](const AttentionMap& map) {
    return is_crossmodal(map) && map.layer.ends_with(".layers.0");
  });
  HeatMapChart chart{.title = title,
                     .x_label = "keys: time steps of the source",
                     .y_label = "queries: time steps of the target",
                     .per_line = pairs > 0 ? static_cast<std::size_t>(pairs) : 4};
  for (const AttentionMap& map : ordered) {
    const Tensor& p = map.probabilities;
    chart.maps.push_back({title_of(map), p.size(0), p.size(1), p.to_vector()});
  }
  return chart;
}

}  // namespace cmir
