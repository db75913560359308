// From a data set to batches: which samples (BatchSampler), their values (gather), ahead of time
// (Prefetcher).
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "models/data/dataset.h"

namespace cmir {

/// `x` is f32 [N, width] (dense), f32 [rows, width] (ragged) or i32 [rows] (tokens); `offsets` i64
/// [N + 1], undefined when dense.
struct BatchInput {
  Tensor x;
  Tensor offsets;
};

struct Batch {
  std::vector<std::int64_t> indices;         ///< samples of the data set, N of them
  std::map<std::string, BatchInput> inputs;  ///< by feature or token name
  Tensor label;                              ///< f32 [N]; undefined when no label was asked for
  Tensor label_index;  ///< i32 [N]; undefined when the label is a regression value
  std::int64_t size() const { return static_cast<std::int64_t>(indices.size()); }
};

struct BatchFields {
  std::vector<std::string> inputs;  ///< names of features or tokens
  std::string label;                ///< "" for none
};

/// The fields of samples `indices`, in that order. Error: unknown field, index out of range.
Batch gather(const Dataset& dataset, const BatchFields& fields,
             std::span<const std::int64_t> indices);

/// Steps per sample over the ragged inputs together: what bucketing sorts by. Parallel to
/// `indices`.
std::vector<std::int64_t> sample_lengths(const Dataset& dataset, const BatchFields& fields,
                                         std::span<const std::int64_t> indices);

struct SamplerOptions {
  std::int64_t batch_size = 48;
  bool shuffle = true;
  bool drop_last = false;  ///< leave out the incomplete last batch
  std::int64_t bucket_batches =
      0;  ///< sort by length inside windows of this many batches; 0: not at all
  std::uint64_t seed = 0;
};

/// Which samples form batch `position` of epoch `epoch`: a pure function of (options, epoch,
/// position), so that a resumed run goes on with the same batches. Shuffled samples are cut into
/// windows of `bucket_batches` batches, each window is sorted by length, and the order of the full
/// batches is shuffled. Every sample comes once per epoch (but for drop_last).
class BatchSampler {
 public:
  /// `lengths` is parallel to `indices`, or empty where bucket_batches is 0. Error: no samples, a
  /// batch size below 1, no full batch with drop_last.
  BatchSampler(std::vector<std::int64_t> indices, SamplerOptions options,
               std::vector<std::int64_t> lengths = {});

  std::int64_t batches_per_epoch() const;
  /// Samples of one batch. The order of the last epoch asked for is kept; not for concurrent use:
  /// give each thread its copy.
  std::vector<std::int64_t> batch(std::uint32_t epoch, std::int64_t position) const;

 private:
  std::vector<std::int64_t> epoch_order(std::uint32_t epoch) const;

  std::vector<std::int64_t> indices_;
  std::vector<std::int64_t> lengths_;
  SamplerOptions options_;
  mutable std::vector<std::int64_t> order_;
  mutable std::uint32_t order_epoch_ = 0;
};

/// Makes items `begin` .. `end - 1` in order on one background thread, at most `depth` ahead of the
/// reader.
class Prefetcher {
 public:
  using Maker = std::function<Batch(std::int64_t position)>;

  /// `make` runs on the background thread only; what it refers to must outlive this object.
  Prefetcher(Maker make, std::int64_t begin, std::int64_t end, std::size_t depth = 2);
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;
  /// Stops after the item in the making.
  ~Prefetcher();

  /// The next batch; nothing after the last. An exception of `make` is rethrown when its turn
  /// comes, and again after that.
  std::optional<Batch> next();

 private:
  void produce(std::int64_t begin, std::int64_t end);

  Maker make_;
  std::size_t depth_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Batch> ready_;
  std::exception_ptr error_;
  bool finished_ = false;
  bool stopping_ = false;
  std::thread thread_;  // last: starts when the rest is there
};

}  // namespace cmir
