// Batches on the model's device, a GPU's copied while the step before them computes.
#pragma once

#include <functional>
#include <optional>

#include "models/data/batch.h"
#include "models/networks/input.h"

namespace cmir {

struct DeviceBatch {
  Batch batch;       ///< on the CPU
  ModelInput input;  ///< what the model gets, on the device
};

class DeviceBatches {
 public:
  using InputOf = std::function<ModelInput(const Batch&)>;

  /// `batches` must outlive this object, which alone takes from it.
  DeviceBatches(Prefetcher& batches, InputOf input_of, Device device);
  DeviceBatches(const DeviceBatches&) = delete;
  DeviceBatches& operator=(const DeviceBatches&) = delete;
  ~DeviceBatches();

  /// The next batch; nothing after the last. On a GPU this starts the copy of the one after it, so
  /// an error in making a batch shows one step early.
  std::optional<DeviceBatch> next();

 private:
  std::optional<DeviceBatch> fetch();
  std::optional<DeviceBatch> fetch_on_copy_stream();

  Prefetcher& batches_;
  InputOf input_of_;
  Device device_;
  bool started_ = false;
  std::optional<DeviceBatch> ahead_;
};

}  // namespace cmir
