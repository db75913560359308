#include "models/networks/crossmodal.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#include "autograd/attention.h"
#include "autograd/elementwise.h"
#include "autograd/positions.h"
#include "autograd/precision.h"
#include "autograd/rows.h"
#include "core/error.h"
#include "models/networks/attention_maps.h"

namespace cmir {
namespace {

TransformerOptions transformer_options(const ModelConfig& config) {
  const std::int64_t width = config.shared_width;
  return {.width = width,
          .layers = config.fusion_layers,
          .heads = config.fusion_heads,
          .feed_forward = config.fusion_feed_forward > 0 ? config.fusion_feed_forward : 4 * width,
          .dropout = config.fusion_dropout,
          .attention_dropout = config.fusion_attention_dropout,
          .pre_norm = true};
}

/// Of `parts` parts.
Linear attention_projection(ParameterStore& store, const std::string& prefix, std::int64_t width,
                            std::int64_t parts) {
  Linear linear;
  linear.weight = store.uniform(prefix + "_weight", {parts * width, width}, attention_bound(width));
  linear.bias = store.constant(prefix + "_bias", {parts * width}, 0.0);
  return linear;
}

}  // namespace

CrossmodalLayer::CrossmodalLayer(ParameterStore& store, const std::string& prefix,
                                 const TransformerOptions& layer_options, bool first) {
  options = layer_options;
  if (!first) query = attention_projection(store, prefix + ".cross_attn.q_proj", options.width, 1);
  make(store, prefix, "cross_attn", !first);
}

void require_time_steps(const std::vector<ModalityInfo>& modalities) {
  require(
      std::ranges::any_of(modalities, [](const auto& m) { return m.kind != InputKind::vector; }),
      "model",
      "model.fusion = \"crossmodal\" attends over time, but every modality is one vector per "
      "sample; use concat, or features with time steps");
}

CrossmodalFusion::CrossmodalFusion(ParameterStore& store, const ModelConfig& config,
                                   const std::vector<ModalityInfo>& modalities)
    : config_(config) {
  const std::int64_t width = config.shared_width;
  const auto others = static_cast<std::int64_t>(modalities.size()) - 1;
  require_time_steps(modalities);
  for (const ModalityInfo& info : modalities) {
    const std::string prefix = "crossmodal." + info.name;
    Modality modality{.norm = LayerNorm(store, prefix + ".norm", width)};
    for (std::int64_t i = 0; i < config.fusion_layers; ++i) {
      modality.projections.push_back(attention_projection(
          store, fmt::format("{}.layers.{}.in_proj", prefix, i), width, others * (i == 0 ? 3 : 2)));
    }
    if (config.fusion_positions == "learned") {
      modality.positions =
          store.normal(prefix + ".positions.weight", {config.fusion_max_positions, width}, 0.02);
    }
    if (config.fusion_place == "before")
      modality.projection = Linear(store, prefix + ".projection", others * width, width);
    modalities_.push_back(std::move(modality));
  }
  const TransformerOptions options = transformer_options(config);
  for (std::size_t target = 0; target < modalities.size(); ++target) {
    for (std::size_t source = 0; source < modalities.size(); ++source) {
      if (source == target) continue;
      const std::string prefix =
          fmt::format("crossmodal.{}.{}", modalities[target].name, modalities[source].name);
      Pair pair{.target = target,
                .source = source,
                .among_sources = static_cast<std::int64_t>(source - (source > target ? 1 : 0)),
                .among_targets = static_cast<std::int64_t>(target - (target > source ? 1 : 0))};
      for (std::int64_t i = 0; i < options.layers; ++i)
        pair.layers.emplace_back(store, fmt::format("{}.layers.{}", prefix, i), options, i == 0);
      pair.norm = LayerNorm(store, prefix + ".norm", width);
      pairs_.push_back(std::move(pair));
    }
  }
}

const Tensor& CrossmodalFusion::one_row_offsets(std::int64_t samples, std::int64_t padding,
                                                Device device) const {
  static std::mutex lock;  // two threads may predict with one model
  const std::lock_guard guard(lock);
  const auto [place, made] = one_row_offsets_.try_emplace({samples, padding});
  if (made) {
    place->second = one_row_each(samples, padding);
    (void)place->second.on(device);
  }
  return place->second;
}

ops::SumAndNorm CrossmodalFusion::embed(std::size_t m, Variable rows, const Tensor& offsets,
                                        DropoutSites& dropout) const {
  const double scale = config_.fusion_position_scale > 0
                           ? config_.fusion_position_scale
                           : std::sqrt(static_cast<double>(rows.shape().width()));
  if (config_.fusion_positions != "none")
    rows = ops::add_positions(rows, offsets, modalities_[m].positions, scale);
  rows = dropout.apply(rows, config_.fusion_embedding_dropout);
  return {rows, modalities_[m].norm(rows)};
}

std::vector<Variable> CrossmodalFusion::attend(std::size_t i,
                                               const std::vector<ops::SumAndNorm>& queries,
                                               const std::vector<ops::SumAndNorm>& sources,
                                               const std::vector<Tensor>& offsets,
                                               DropoutSites& dropout) const {
  const std::int64_t width = config_.shared_width;
  const bool first = i == 0;
  const std::int64_t keys_begin = first ? (std::ssize(modalities_) - 1) * width : 0;
  std::vector<Variable> projected;
  for (std::size_t m = 0; m < modalities_.size(); ++m)
    projected.push_back(modalities_[m].projections[i](sources[m].norm));
  std::vector<ops::AttentionInput> problems;
  for (std::size_t p = 0; p < pairs_.size(); ++p) {
    const Pair& pair = pairs_[p];
    const CrossmodalLayer& layer = pair.layers[i];
    const ops::AttentionInput& problem = problems.emplace_back(
        ops::AttentionInput{.query = first ? projected[pair.target] : layer.query(queries[p].norm),
                            .key = projected[pair.source],
                            .query_offsets = offsets[pair.target],
                            .key_offsets = offsets[pair.source],
                            .options = layer.attention(dropout),
                            .width = width,
                            .query_column = first ? pair.among_sources * width : 0,
                            .key_column = keys_begin + 2 * pair.among_targets * width});
    AttentionMapScope::note(layer.name, problem.query, problem.query_column, problem.key,
                            problem.key_column, width, config_.fusion_heads);
  }
  return ops::attention_group(problems, config_.fusion_heads);
}

std::vector<Variable> CrossmodalFusion::operator()(const std::vector<TimeSteps>& x,
                                                   DropoutSites& dropout) const {
  std::int64_t padding = 0;
  for (const TimeSteps& steps : x) padding = std::max(padding, steps.padding);
  std::vector<Tensor> offsets;
  std::vector<ops::SumAndNorm> sources, state;
  for (std::size_t m = 0; m < x.size(); ++m) {
    // One row per sample, but as many samples as the padded sequences have.
    const bool one_row = !x[m].offsets.defined() || x[m].padding < padding;
    offsets.push_back(one_row ? one_row_offsets(x[m].samples(), padding, x[m].rows.device())
                              : x[m].offsets);
    sources.push_back(embed(m, x[m].rows, offsets[m], dropout));
  }
  for (const Pair& pair : pairs_) state.push_back(sources[pair.target]);
  for (std::size_t i = 0; i < pairs_[0].layers.size(); ++i) {
    const std::vector<Variable> mixed = attend(i, state, sources, offsets, dropout);
    for (std::size_t p = 0; p < pairs_.size(); ++p) {
      const Pair& pair = pairs_[p];
      const LayerNorm& next = i + 1 < pair.layers.size() ? pair.layers[i + 1].norm1 : pair.norm;
      state[p] = pair.layers[i].then_norm(state[p].sum, mixed[p], next, dropout);
    }
  }
  std::vector<Variable> means;
  for (std::size_t p = 0; p < pairs_.size(); ++p) {
    const TimeSteps& target = x[pairs_[p].target];
    means.push_back(mean_over_time({state[p].norm, target.offsets, target.padding}));
  }
  return means;
}

std::vector<Variable> CrossmodalFusion::by_modality(const std::vector<TimeSteps>& x,
                                                    DropoutSites& dropout) const {
  const std::vector<Variable> means = (*this)(x, dropout);
  const std::size_t others = modalities_.size() - 1;
  std::vector<Variable> result;
  for (std::size_t m = 0; m < modalities_.size(); ++m) {
    const auto mine = means.begin() + static_cast<std::ptrdiff_t>(m * others);
    result.push_back(
        modalities_[m].projection(ops::concat({mine, mine + static_cast<std::ptrdiff_t>(others)})));
  }
  return result;
}

TimeSteps CrossmodalFusion::changed_alike(
    const TimeSteps& x, const std::function<Variable(const Variable&)>& change) const {
  if (!x.offsets.defined()) return {change(x.rows), {}};
  const Variable& rows = x.rows;
  const PrecisionScope exact(Precision::f32);  // attention here copies
  const auto copied_to_rows = [&](const Variable& of_samples) {
    // Attention over one key is that key's value, whatever the query: each row gets its sample's.
    const Variable query(Tensor::zeros(rows.shape(), rows.dtype(), rows.device()));
    return ops::attention(query, of_samples, of_samples, x.offsets,
                          one_row_offsets(x.samples(), x.padding, rows.device()),
                          config_.fusion_heads);
  };
  Variable offset, factor;
  {
    const NoGradScope constants;
    const Shape shape{x.samples(), rows.shape().width()};
    const Variable zero(Tensor::zeros(shape, rows.dtype(), rows.device()));
    const Variable one(Tensor::full(shape, 1.0, rows.dtype(), rows.device()));
    offset = change(zero);
    factor = copied_to_rows(ops::subtract(change(one), offset));
    offset = copied_to_rows(offset);
  }
  return {ops::add(ops::multiply(rows, factor), offset), x.offsets, x.padding};
}

}  // namespace cmir
