// Cross-modal fusion in the manner of MulT (Tsai et al., ACL 2019): the rows of every modality, the
// target, attend to those of every other, its sources.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "models/config.h"
#include "models/networks/transformer.h"
#include "models/networks/unimodal.h"

namespace cmir {

/// One layer of a (target, source) pair, pre-norm: x += attention(norm1(x), source), x +=
/// feed_forward(norm2(x)). The first layer has no norm1: its queries come, as all keys and values
/// do, from rows that CrossmodalFusion has normalised once for all pairs and layers; gains and
/// offsets of a norm of its own would be those of the projections that follow. Projections from
/// rows that several pairs share are not here but in CrossmodalFusion. All are parts of
/// torch.nn.MultiheadAttention's in_proj_weight, initialised as those.
struct CrossmodalLayer : TransformerBlock {
  Linear query;  // [width, width]; not in the first layer

  CrossmodalLayer(ParameterStore& store, const std::string& prefix,
                  const TransformerOptions& layer_options, bool first);
};

/// Error (usage) where all modalities are vectors: softmax over one key is 1 whatever the query.
void require_time_steps(const std::vector<ModalityInfo>& modalities);

/// M modalities have M (M - 1) pairs of a target and a source: in the order of the targets, and for
/// each in that of its sources. Each pair has `model.fusion_layers` layers of its own, and ends
/// with a LayerNorm. All pairs attend in one call per layer. A source without rows in a sample
/// leaves the target's rows as they are but for out_proj's bias and the feed-forward part; a vector
/// is a sequence of one row.
class CrossmodalFusion {
 public:
  /// Parameters: crossmodal.TARGET.SOURCE.layers.0..., .norm; of each modality crossmodal.M.norm,
  /// .layers.0... and, where learned, .positions.weight; with fusion_place = "before" also
  /// .projection. Error: as require_time_steps().
  CrossmodalFusion(ParameterStore& store, const ModelConfig& config,
                   const std::vector<ModalityInfo>& modalities);

  /// The means over time of every pair's rows, [samples, width] each. `x` holds every modality.
  std::vector<Variable> operator()(const std::vector<TimeSteps>& x, DropoutSites& dropout) const;
  /// Of each modality the Linear of its pairs' means side by side, [samples, width]: X_m for
  /// fusion_place = "before".
  std::vector<Variable> by_modality(const std::vector<TimeSteps>& x, DropoutSites& dropout) const;
  std::int64_t pairs() const { return static_cast<std::int64_t>(pairs_.size()); }

  /// Every row of x changed as `change` changes the row of its sample in [samples, width]. `change`
  /// is a linear map of each element plus a constant, such as corruption: then the mean over time
  /// of the result is change(mean over time).
  TimeSteps changed_alike(const TimeSteps& x,
                          const std::function<Variable(const Variable&)>& change) const;

 private:
  struct Pair {
    std::size_t target, source;
    std::int64_t among_sources, among_targets;  ///< the source's number among the target's, ...
    std::vector<CrossmodalLayer> layers;
    LayerNorm norm;
  };
  struct Modality {
    LayerNorm norm;
    /// Of each layer one product for all that is projected from the modality's normalised rows: in
    /// the first the queries of its pairs as a target, in the order of their sources, then, in
    /// each, the keys and values of its pairs as a source, in the order of their targets.
    std::vector<Linear> projections;  // [(M - 1) 3 width, width], then [(M - 1) 2 width, width]
    Variable positions;               // [fusion_max_positions, width], learned
    Linear projection;                // [width, (M - 1) width]
  };

  /// Positions, dropout and norm.
  ops::SumAndNorm embed(std::size_t m, Variable rows, const Tensor& offsets,
                        DropoutSites& dropout) const;
  /// What layer i of all pairs mixes from the normalised rows of `queries` (of pairs) and `sources`
  /// (of modalities).
  std::vector<Variable> attend(std::size_t i, const std::vector<ops::SumAndNorm>& queries,
                               const std::vector<ops::SumAndNorm>& sources,
                               const std::vector<Tensor>& offsets, DropoutSites& dropout) const;
  /// one_row_each(), made once and on the device: a recorded pass cannot copy it there.
  const Tensor& one_row_offsets(std::int64_t samples, std::int64_t padding, Device device) const;

  ModelConfig config_;
  std::vector<Modality> modalities_;
  std::vector<Pair> pairs_;
  mutable std::map<std::pair<std::int64_t, std::int64_t>, Tensor> one_row_offsets_;
};

}  // namespace cmir
