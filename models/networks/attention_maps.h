// Where the attention of a model looks, for one sample: the probabilities that the fused kernels
// never store, computed again for pictures and reports.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "autograd/tape.h"

namespace cmir {

/// Of one layer.
struct AttentionMap {
  std::string layer;     ///< the prefix of its parameters: "crossmodal.text.audio.layers.0"
  Tensor probabilities;  ///< [Tq, Tk], the mean over heads, on the CPU; each row adds to 1 where
                         ///< there are keys
};

/// While alive, the attention layers that this thread runs leave their maps here, in the order of
/// execution. For inference over one sample: a layer's rows are taken to be one sequence each of
/// queries and keys, and dropout is not applied. Costs what the kernels avoid, O(Tq Tk) memory.
class AttentionMapScope {
 public:
  AttentionMapScope();
  ~AttentionMapScope();
  AttentionMapScope(const AttentionMapScope&) = delete;
  AttentionMapScope& operator=(const AttentionMapScope&) = delete;

  const std::vector<AttentionMap>& maps() const { return maps_; }

  /// What layers call; nothing happens outside a scope. Queries are the `width` columns of query
  /// [Tq, width or more] from query_column on, and so are keys.
  static void note(const std::string& layer, const Variable& query, std::int64_t query_column,
                   const Variable& key, std::int64_t key_column, std::int64_t width,
                   std::int64_t heads);

 private:
  std::vector<AttentionMap> maps_;
  AttentionMapScope* previous_;
};

/// The mean over heads of softmax(query_h key_h^T / sqrt(width / heads)), through the plain ops:
/// query [Tq, width], key [Tk, width] -> [Tq, Tk].
Variable attention_probabilities(const Variable& query, const Variable& key, std::int64_t heads);

}  // namespace cmir
