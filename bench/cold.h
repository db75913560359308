// Arrays out of every cache, for benchmarks of a kernel whose inputs come from memory.
#pragma once

#include <cstddef>

namespace cmir::bench {

/// The benchmark under way uses these bytes, until they are forgotten (before they are freed).
void note_array(const void* begin, std::size_t bytes);
void forget_array(const void* begin);

/// Writes back and drops every line of the noted arrays from every cache of every core. Other
/// inputs by turns would not do it where the last level holds hundreds of megabytes. Error on CPUs
/// other than x86-64, which have no such instruction here.
void evict_arrays();

}  // namespace cmir::bench
