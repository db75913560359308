// A training run of a fraction of a second, for tests of what surrounds the model.
#pragma once

#include "models/config.h"
#include "models/data/synthetic.h"

namespace cmir {

/// Everything random is on: dropout, noise, shuffling; Adam has state; validation picks the best
/// epoch.
inline Config small_config() {
  return parse_config(R"(
[data]
name = "synthetic"
path = "synthetic"
split = "split"
label = "label"
bucket_by_length = true
[[data.modalities]]
name = "text"
feature = "text"
network = "projection"
[[data.modalities]]
name = "audio"
feature = "audio"
network = "conv_transformer"
layers = 1
heads = 2
feed_forward = 16
dropout = 0.2
[model]
shared_width = 8
hidden_width = 12
dropout = 0.1
[loss]
environments = 2
[optimizer]
learning_rate = 3e-3
schedule = "cosine"
warmup_fraction = 0.1
gradient_clip = 1.0
[training]
epochs = 3
batch_size = 16
checkpoint = "best_validation_loss"
)",
                      "small_config");
}

inline Dataset small_dataset() {
  SyntheticOptions options;
  options.samples = 120;
  options.modalities = {{"text", 6, false}, {"audio", 5, true}};
  options.min_length = 1;
  options.max_length = 7;
  return make_synthetic(options);
}

}  // namespace cmir
