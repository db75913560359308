#include "kernels/simt/shared.h"

#include <algorithm>
#include <deque>
#include <numeric>

namespace cmir::kernels::simt {
namespace {

/// One thread's read or write.
struct Access {
  std::uint64_t epoch;  // 0: none yet
  std::uint32_t stamp;  // of the thread's warp
  std::uint16_t thread;
  bool atomic;
  Location where;
};

constexpr std::uint16_t kNobody = 0xFFFF;

/// What is known of one granule. Reads are kept as the last one, the lanes of its warp that read at
/// the same stamp, and one reader of another warp: enough to see any later write that races, except
/// with lanes that read before a warp operation that the writer took no part in.
struct Cell {
  std::uint64_t written_in;  // serial of the block that last wrote it; 0: none
  Access write;
  Access read;
  std::uint32_t read_lanes;
  std::uint16_t read_elsewhere;
};

constexpr std::size_t kAlignment = 128;
constexpr std::size_t kCapacity = kSharedLimit + kAlignment;
alignas(kAlignment) std::byte memory[kCapacity];
Cell cells[kCapacity];  // indexed by a granule's first byte

struct Layout {
  std::deque<SharedRegion> regions;  // [0]: the dynamic one
  std::size_t used;
  std::size_t static_bytes;
};
Layout layout;

std::size_t granule_of(std::size_t element) { return std::gcd(element, std::size_t{4}); }

std::size_t aligned(std::size_t offset) { return (offset + 15) / 16 * 16; }

/// Poison: as floats and doubles NaN, as integers -1.
void poison(std::size_t begin, std::size_t bytes) { std::memset(memory + begin, 0xFF, bytes); }

bool ordered(const Access& access) {
  const unsigned me = thread_rank();
  return access.epoch != epoch() || access.thread == me ||
         (access.thread / 32 == me / 32 && lane_ordered(access.thread % 32, access.stamp));
}

/// Region, use and element of one checked access, for messages.
struct Use {
  const SharedPlace& place;
  std::size_t element;
  const char* verb;
};

[[noreturn]] void fail_race(const Use& use, unsigned other, const Access& access,
                            const char* other_verb) {
  fault(use.place.where,
        fmt::format("race on shared memory '{}' element {}: {} here, {} by {}, with no barrier "
                    "between",
                    use.place.region->name,
                    use.place.offset / static_cast<std::ptrdiff_t>(use.element), use.verb,
                    other_verb, describe(other, access.where)));
}

Access access_now(const Location& where, bool atomic) {
  return {epoch(), warp_stamp(), static_cast<std::uint16_t>(thread_rank()), atomic, where};
}

void check_written(const Cell& cell, const Use& use) {
  if (cell.written_in == block_serial()) return;
  fault(use.place.where, fmt::format("shared memory '{}' element {} is read before it is written",
                                     use.place.region->name,
                                     use.place.offset / static_cast<std::ptrdiff_t>(use.element)));
}

void note_read(Cell& cell, const Use& use) {
  check_written(cell, use);
  if (!ordered(cell.write)) fail_race(use, cell.write.thread, cell.write, "written");
  const unsigned me = thread_rank();
  const bool first = cell.read.epoch != epoch();
  const bool same_warp = !first && cell.read.thread / 32 == me / 32;
  if (first) {
    cell.read_elsewhere = kNobody;
  } else if (!same_warp) {
    cell.read_elsewhere = cell.read.thread;
  }
  if (!same_warp || cell.read.stamp != warp_stamp()) cell.read_lanes = 0;
  cell.read_lanes |= 1u << me % 32;
  cell.read = access_now(use.place.where, false);
}

void note_write(Cell& cell, const Use& use, bool atomic) {
  if (atomic) check_written(cell, use);
  if (!(atomic && cell.write.atomic) && !ordered(cell.write)) {
    fail_race(use, cell.write.thread, cell.write, "written");
  }
  if (cell.read.epoch == epoch()) {
    const unsigned me = thread_rank(), first = cell.read.thread / 32u * 32u;
    if (first != me / 32 * 32) fail_race(use, cell.read.thread, cell.read, "read");
    if (cell.read_elsewhere != kNobody) fail_race(use, cell.read_elsewhere, cell.read, "read");
    for (unsigned lane = 0; lane < 32; ++lane) {
      if ((cell.read_lanes >> lane & 1) == 0 || lane == me % 32) continue;
      if (!lane_ordered(lane, cell.read.stamp)) fail_race(use, first + lane, cell.read, "read");
    }
  }
  cell.write = access_now(use.place.where, atomic);
  cell.written_in = block_serial();
}

/// Bounds and alignment; the offset in the block's memory.
std::size_t checked_offset(const SharedPlace& place, std::size_t bytes, std::size_t element) {
  const SharedRegion& region = *place.region;
  const auto size = static_cast<std::ptrdiff_t>(bytes);
  if (place.offset < 0 || place.offset + size > static_cast<std::ptrdiff_t>(region.bytes)) {
    fault(place.where, fmt::format("shared memory '{}' element {} is out of bounds: {} bytes at "
                                   "byte {} of {}",
                                   region.name, place.offset / static_cast<std::ptrdiff_t>(element),
                                   bytes, place.offset, region.bytes));
  }
  const std::size_t offset = region.begin + static_cast<std::size_t>(place.offset);
  if (offset % std::gcd(bytes, std::size_t{16}) != 0) {
    fault(place.where, fmt::format("shared memory '{}' at byte {}: an access of {} bytes is "
                                   "misaligned",
                                   region.name, place.offset, bytes));
  }
  return offset;
}

}  // namespace

void begin_shared_launch(std::size_t dynamic_bytes) {
  layout.regions.clear();
  layout.regions.push_back({"dynamic shared memory", nullptr, 0, dynamic_bytes, 4, true});
  layout.used = aligned(dynamic_bytes);
  layout.static_bytes = 0;
}

void begin_shared_block() {
  poison(0, layout.used);
  for (SharedRegion& region : layout.regions) region.watched = true;
}

SharedRegion& declare_shared(const void* declaration, const char* name, std::size_t bytes,
                             std::size_t element, Location where) {
  for (SharedRegion& region : layout.regions) {
    if (region.declaration == declaration) return region;
  }
  layout.static_bytes += bytes;
  if (layout.static_bytes > kStaticSharedLimit) {
    fault(where, fmt::format("{} bytes of static shared memory with '{}', the limit is {}",
                             layout.static_bytes, name, kStaticSharedLimit));
  }
  const std::size_t begin = layout.used;
  if (begin + bytes > kSharedLimit) {
    fault(where, fmt::format("{} bytes of static and dynamic shared memory with '{}', the limit "
                             "is {}",
                             begin + bytes, name, kSharedLimit));
  }
  layout.used = aligned(begin + bytes);
  poison(begin, bytes);
  return layout.regions.emplace_back(
      SharedRegion{name, declaration, begin, bytes, granule_of(element), true});
}

SharedRegion& dynamic_shared(const char* name, std::size_t element) {
  SharedRegion& region = layout.regions.front();
  region.name = name;
  refine_granule(region, element);
  return region;
}

void refine_granule(SharedRegion& region, std::size_t element) {
  const std::size_t finer = std::min(region.granule, granule_of(element));
  for (std::size_t i = 0; finer < region.granule && i < region.bytes; i += finer) {
    cells[region.begin + i] = cells[region.begin + i / region.granule * region.granule];
  }
  region.granule = finer;
}

std::byte* use_shared(const SharedPlace& place, std::size_t bytes, SharedUse use,
                      std::size_t element) {
  const std::size_t offset = checked_offset(place, bytes, element);
  if (!place.region->watched) return memory + offset;
  for (std::size_t i = offset; i < offset + bytes; i += place.region->granule) {
    if (use == SharedUse::read) {
      note_read(cells[i], {place, element, "read"});
    } else {
      note_write(cells[i], {place, element, "written"}, use == SharedUse::atomic);
    }
  }
  return memory + offset;
}

std::byte* raw_shared(const SharedPlace& place) {
  place.region->watched = false;
  return memory + checked_offset(place, 1, 1);
}

std::byte* begin_async_write(const SharedPlace& place, std::size_t bytes) {
  std::byte* target = use_shared(place, bytes, SharedUse::write, bytes);
  const auto offset = static_cast<std::size_t>(target - memory);
  poison(offset, bytes);
  for (std::size_t i = 0; i < bytes; ++i) cells[offset + i].written_in = 0;
  return target;
}

std::byte* finish_async_write(const SharedPlace& place, std::size_t bytes) {
  const std::size_t offset = checked_offset(place, bytes, bytes);
  for (std::size_t i = 0; i < bytes; ++i) {
    cells[offset + i].write = access_now(place.where, false);
    cells[offset + i].written_in = block_serial();
  }
  return memory + offset;
}

void fail_index(const SharedPlace& place, std::ptrdiff_t index, std::size_t extent) {
  fault(place.where, fmt::format("shared memory '{}': index {} is out of bounds of an extent of {}",
                                 place.region->name, index, extent));
}

}  // namespace cmir::kernels::simt
