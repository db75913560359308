#include "models/networks/attention_maps.h"

#include <cmath>

#include "autograd/arithmetic.h"
#include "autograd/linear.h"
#include "autograd/rows.h"
#include "autograd/softmax.h"

namespace cmir {
namespace {

thread_local AttentionMapScope* current = nullptr;

}  // namespace

AttentionMapScope::AttentionMapScope() : previous_(current) { current = this; }
AttentionMapScope::~AttentionMapScope() { current = previous_; }

void AttentionMapScope::note(const std::string& layer, const Variable& query,
                             std::int64_t query_column, const Variable& key,
                             std::int64_t key_column, std::int64_t width, std::int64_t heads) {
  if (current == nullptr) return;
  if (query.shape().rows() == 0 || key.shape().rows() == 0) return;  // nothing is looked at
  const NoGradScope no_grad;
  const Variable probabilities =
      attention_probabilities(ops::slice_columns(query, query_column, query_column + width),
                              ops::slice_columns(key, key_column, key_column + width), heads);
  current->maps_.push_back({layer, probabilities.value().to(Device{})});
}

Variable attention_probabilities(const Variable& query, const Variable& key, std::int64_t heads) {
  const std::int64_t head_width = query.shape().width() / heads;
  const double scale = 1 / std::sqrt(static_cast<double>(head_width));
  std::vector<Variable> of_heads;
  for (std::int64_t begin = 0; begin < query.shape().width(); begin += head_width) {
    const Variable scores = ops::linear(ops::slice_columns(query, begin, begin + head_width),
                                        ops::slice_columns(key, begin, begin + head_width));
    of_heads.push_back(ops::softmax(ops::scale(scores, scale)));
  }
  return ops::scale(ops::sum_of(of_heads), 1.0 / static_cast<double>(heads));
}

}  // namespace cmir
