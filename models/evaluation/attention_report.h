// Attention maps of one sample as JSON and as a picture.
#pragma once

#include <string>
#include <vector>

#include "models/evaluation/plot.h"
#include "models/evaluation/report.h"
#include "models/networks/attention_maps.h"

namespace cmir {

/// [{"layer", "queries": Tq, "keys": Tk, "probabilities": [Tq lists of Tk numbers]}, ...] in the
/// maps' order.
Json to_json(const std::vector<AttentionMap>& maps);

/// Cross-modal maps first, a line for each layer and a column for each pair; then the modalities'
/// own. Rows are queries, columns keys.
HeatMapChart attention_chart(const std::vector<AttentionMap>& maps, const std::string& title);

}  // namespace cmir
