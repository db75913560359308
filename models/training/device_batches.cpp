#include "models/training/device_batches.h"

#include <utility>

#include "core/cuda/runtime.h"
#include "core/error.h"

namespace cmir {

DeviceBatches::DeviceBatches(Prefetcher& batches, InputOf input_of, Device device)
    : batches_(batches), input_of_(std::move(input_of)), device_(device) {}

DeviceBatches::~DeviceBatches() {
  // The memory of a batch that nobody took is free now; who gets it must come after its copy.
  if (!started_) return;
  try {
    cuda::compute_stream().wait_for(cuda::copy_stream());
  } catch (const Error&) {  // the device has failed: whoever waits for it says so
  }
}

std::optional<DeviceBatch> DeviceBatches::next() {
  if (device_.has_host_memory()) return fetch();
  if (!std::exchange(started_, true)) ahead_ = fetch_on_copy_stream();
  std::optional<DeviceBatch> current = std::exchange(ahead_, std::nullopt);
  if (!current) return current;
  cuda::compute_stream().wait_for(cuda::copy_stream());
  ahead_ = fetch_on_copy_stream();
  return current;
}

std::optional<DeviceBatch> DeviceBatches::fetch() {
  std::optional<Batch> batch = batches_.next();
  if (!batch) return std::nullopt;
  ModelInput input = input_of_(*batch).to(device_);
  return DeviceBatch{std::move(*batch), std::move(input)};
}

std::optional<DeviceBatch> DeviceBatches::fetch_on_copy_stream() {
  const cuda::StreamScope scope(cuda::copy_stream());
  return fetch();
}

}  // namespace cmir
