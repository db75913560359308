#include "kernels/simt/mbarrier.h"

#include <cstring>
#include <map>
#include <utility>
#include <vector>

namespace cmir::kernels::simt {
namespace {

struct BoxCopy {
  SharedPlace target;
  TensorMap map;
  int feature, head, row;
};
constexpr std::size_t kBoxBytes = std::size_t{kTensorBoxRows} * kTensorBoxWidth * sizeof(BFloat16);

struct Mbarrier {
  unsigned count, pending;  // arrivals of a phase, and those that this one still lacks
  std::int64_t bytes;       // that have to come still
  unsigned phase;
  std::vector<BoxCopy> copies;  // that have not come
};

std::map<std::size_t, Mbarrier>& barriers() {
  static std::map<std::size_t, Mbarrier> at;  // an offset in shared memory
  return at;
}

std::size_t offset_of(const SharedPlace& place) {
  return place.region->begin + static_cast<std::size_t>(place.offset);
}

Mbarrier& barrier_at(const SharedPlace& place) {
  const auto found = barriers().find(offset_of(place));
  if (found == barriers().end()) {
    fault(place.where, fmt::format("no barrier was initialised in shared memory '{}' at byte {}",
                                   place.region->name, place.offset));
  }
  return found->second;
}

void end_phase_if_complete(Mbarrier& barrier) {
  if (barrier.pending > 0 || barrier.bytes > 0) return;
  ++barrier.phase;
  barrier.pending = barrier.count;
  advance_epoch();
}

void finish(const BoxCopy& copy) {
  std::byte* target = finish_async_write(copy.target, kBoxBytes);
  std::byte* memory = target - offset_of(copy.target);
  for (int r = 0; r < kTensorBoxRows; ++r) {
    for (int d = 0; d < kTensorBoxWidth; ++d) {
      const std::int64_t row = copy.row + r, feature = copy.feature + d;
      const bool inside = row < copy.map.rows && feature < copy.map.width;
      const BFloat16 value =
          inside ? copy.map.first[row * copy.map.stride + copy.head * copy.map.width + feature]
                 : BFloat16(0.0F);
      const std::size_t byte = (std::size_t{kTensorBoxWidth} * r + d) * sizeof(value);
      std::memcpy(memory + swizzled(offset_of(copy.target) + byte), &value, sizeof(value));
    }
  }
}

}  // namespace

void init_mbarrier(const SharedPlace& place, unsigned count) {
  use_shared(place, sizeof(std::uint64_t), SharedUse::write, sizeof(std::uint64_t));
  barriers()[offset_of(place)] = {count, count, 0, 0, {}};
}

void arrive_at_mbarrier(const SharedPlace& place, std::size_t bytes) {
  Mbarrier& barrier = barrier_at(place);
  if (barrier.pending == 0) {
    fault(place.where, fmt::format("more than {} arrivals in a phase", barrier.count));
  }
  --barrier.pending;
  barrier.bytes += static_cast<std::int64_t>(bytes);
  end_phase_if_complete(barrier);
  wake_waiters(&barrier);
}

void wait_at_mbarrier(const SharedPlace& place, unsigned parity) {
  Mbarrier& barrier = barrier_at(place);
  while (barrier.phase % 2 == parity) {
    for (const BoxCopy& copy : std::exchange(barrier.copies, {})) {
      finish(copy);
      barrier.bytes -= static_cast<std::int64_t>(kBoxBytes);
    }
    if (barrier.pending == 0 && barrier.bytes < 0) {
      fault(place.where, "more bytes have come than the phase's arrivals announced");
    }
    end_phase_if_complete(barrier);
    if (barrier.phase % 2 != parity) return wake_waiters(&barrier);
    wait_for_event(&barrier, "mbarrier_wait", place.where);
  }
}

void copy_tensor_box(const SharedPlace& target, const TensorMap& map, int feature, int head,
                     int row, const SharedPlace& place) {
  if (offset_of(target) % 1024 != 0) {
    fault(target.where, "the target of a box is not aligned to the 1024 bytes of its swizzling");
  }
  begin_async_write(target, kBoxBytes);
  Mbarrier& barrier = barrier_at(place);
  barrier.copies.push_back({target, map, feature, head, row});
  wake_waiters(&barrier);
}

void begin_mbarriers() { barriers().clear(); }

}  // namespace cmir::kernels::simt
