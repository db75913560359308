#include "models/data/batch.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "models/data/permutation.h"

namespace cmir {
namespace {

constexpr std::string_view kOp = "batch";

void check_indices(const Dataset& dataset, std::span<const std::int64_t> indices) {
  for (const auto s : indices) {
    require(s >= 0 && s < dataset.size(), kOp, "sample {} is outside the {} samples of \"{}\"", s,
            dataset.size(), dataset.name);
  }
}

/// The rows of the samples one after the other; dense when `offsets` is undefined.
BatchInput gather_rows(const Tensor& values, const Tensor& offsets,
                       std::span<const std::int64_t> indices) {
  const auto n = static_cast<std::int64_t>(indices.size());
  const auto row_bytes = static_cast<std::size_t>(values.rank() == 1 ? 1 : values.shape().width()) *
                         size_of(values.dtype());
  const auto* first_row = offsets.defined() ? offsets.span<std::int64_t>().data() : nullptr;
  BatchInput input;
  std::int64_t rows = n;
  if (first_row != nullptr) {
    input.offsets = Tensor::empty({n + 1}, DType::i64);
    const auto out = input.offsets.mutable_span<std::int64_t>();
    out[0] = 0;
    for (std::int64_t i = 0; i < n; ++i)
      out[i + 1] = out[i] + first_row[indices[i] + 1] - first_row[indices[i]];
    rows = out[n];
  }
  input.x = Tensor::empty(values.shape().with_leading(rows), values.dtype());
  if (rows == 0) return input;
  std::byte* out = input.x.mutable_byte_span().data();
  const std::byte* in = values.byte_span().data();
  for (const auto s : indices) {
    const std::int64_t begin = first_row != nullptr ? first_row[s] : s;
    const std::int64_t end = first_row != nullptr ? first_row[s + 1] : s + 1;
    const auto bytes = static_cast<std::size_t>(end - begin) * row_bytes;
    if (bytes > 0) std::memcpy(out, in + static_cast<std::size_t>(begin) * row_bytes, bytes);
    out += bytes;
  }
  return input;
}

}  // namespace

Batch gather(const Dataset& dataset, const BatchFields& fields,
             std::span<const std::int64_t> indices) {
  check_indices(dataset, indices);
  Batch batch;
  batch.indices.assign(indices.begin(), indices.end());
  for (const auto& name : fields.inputs) {
    if (const auto tokens = dataset.tokens.find(name); tokens != dataset.tokens.end()) {
      batch.inputs[name] = gather_rows(tokens->second.ids, tokens->second.offsets, indices);
    } else {
      const Feature& feature = dataset.feature(name);
      batch.inputs[name] = gather_rows(feature.values, feature.offsets, indices);
    }
  }
  if (!fields.label.empty()) {
    const Label& label = dataset.label(fields.label);
    const Tensor values = gather_rows(label.values, {}, indices).x;
    batch.label = values.to(DType::f32);
    if (label.kind != LabelKind::regression) batch.label_index = values;
  }
  return batch;
}

std::vector<std::int64_t> sample_lengths(const Dataset& dataset, const BatchFields& fields,
                                         std::span<const std::int64_t> indices) {
  check_indices(dataset, indices);
  std::vector<std::int64_t> lengths(indices.size(), 0);
  for (const auto& name : fields.inputs) {
    const auto tokens = dataset.tokens.find(name);
    const Tensor& offsets =
        tokens != dataset.tokens.end() ? tokens->second.offsets : dataset.feature(name).offsets;
    if (!offsets.defined()) continue;
    const auto o = offsets.span<std::int64_t>();
    for (std::size_t i = 0; i < indices.size(); ++i)
      lengths[i] += o[indices[i] + 1] - o[indices[i]];
  }
  return lengths;
}

BatchSampler::BatchSampler(std::vector<std::int64_t> indices, SamplerOptions options,
                           std::vector<std::int64_t> lengths)
    : indices_(std::move(indices)), lengths_(std::move(lengths)), options_(options) {
  require(!indices_.empty(), kOp,
          "there are no samples to draw batches from: the split part is empty");
  require(options_.batch_size >= 1, kOp, "the batch size must be at least 1, got {}",
          options_.batch_size);
  require(options_.bucket_batches >= 0, kOp, "bucket_batches must not be negative, got {}",
          options_.bucket_batches);
  require(options_.bucket_batches == 0 || lengths_.size() == indices_.size(), kOp,
          "bucketing needs a length per sample: {} lengths for {} samples", lengths_.size(),
          indices_.size());
  require(batches_per_epoch() > 0, kOp,
          "{} samples make no full batch of {}; lower the batch size or switch drop_last off",
          indices_.size(), options_.batch_size);
  order_ = epoch_order(0);
}

std::int64_t BatchSampler::batches_per_epoch() const {
  const auto n = static_cast<std::int64_t>(indices_.size());
  return (n + (options_.drop_last ? 0 : options_.batch_size - 1)) / options_.batch_size;
}

std::vector<std::int64_t> BatchSampler::epoch_order(std::uint32_t epoch) const {
  const auto n = static_cast<std::int64_t>(indices_.size());
  const std::int64_t size = options_.batch_size;
  std::vector<std::int64_t> order(indices_.size());
  std::iota(order.begin(), order.end(), std::int64_t{0});
  if (options_.shuffle)
    order = permutation(n, {options_.seed, epoch, static_cast<std::uint32_t>(DataSite::shuffle)});
  if (options_.bucket_batches > 0) {
    for (std::int64_t begin = 0; begin < n; begin += size * options_.bucket_batches) {
      const std::int64_t end = std::min(n, begin + size * options_.bucket_batches);
      std::stable_sort(order.begin() + begin, order.begin() + end,
                       [&](std::int64_t a, std::int64_t b) { return lengths_[a] < lengths_[b]; });
    }
  }
  if (options_.shuffle && options_.bucket_batches > 0) {  // an incomplete batch stays last
    const auto source = order;
    const auto batches = permutation(
        n / size, {options_.seed, epoch, static_cast<std::uint32_t>(DataSite::batch_order)});
    for (std::size_t b = 0; b < batches.size(); ++b)
      std::copy_n(source.begin() + batches[b] * size, size,
                  order.begin() + static_cast<std::int64_t>(b) * size);
  }
  for (auto& position : order) position = indices_[position];
  return order;
}

std::vector<std::int64_t> BatchSampler::batch(std::uint32_t epoch, std::int64_t position) const {
  require(position >= 0 && position < batches_per_epoch(), kOp,
          "batch {} is outside the {} of an epoch", position, batches_per_epoch());
  if (epoch != order_epoch_) {
    order_ = epoch_order(epoch);
    order_epoch_ = epoch;
  }
  const auto begin = order_.begin() + position * options_.batch_size;
  return {begin, begin + std::min<std::int64_t>(options_.batch_size, order_.end() - begin)};
}

Prefetcher::Prefetcher(Maker make, std::int64_t begin, std::int64_t end, std::size_t depth)
    : make_(std::move(make)),
      depth_(std::max<std::size_t>(depth, 1)),
      thread_([this, begin, end] { produce(begin, end); }) {}

Prefetcher::~Prefetcher() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Prefetcher::produce(std::int64_t begin, std::int64_t end) {
  std::exception_ptr error;
  try {
    for (std::int64_t position = begin; position < end; ++position) {
      Batch batch = make_(position);
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || ready_.size() < depth_; });
      if (stopping_) return;
      ready_.push_back(std::move(batch));
      changed_.notify_all();
    }
  } catch (...) {
    error = std::current_exception();
  }
  const std::lock_guard lock(mutex_);
  error_ = error;
  finished_ = true;
  changed_.notify_all();
}

std::optional<Batch> Prefetcher::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return finished_ || !ready_.empty(); });
  if (ready_.empty()) {
    if (error_) std::rethrow_exception(error_);
    return std::nullopt;
  }
  Batch batch = std::move(ready_.front());
  ready_.pop_front();
  changed_.notify_all();
  return batch;
}

}  // namespace cmir
