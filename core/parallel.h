// A deterministic parallel-for.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace cmir {

/// Threads that work on a parallel_for, the caller included. The default is the number of hardware
/// threads, or the environment variable CMIR_THREADS.
int thread_count();
/// Takes effect with the next parallel_for; must not be called from within one.
void set_thread_count(int count);

/// A non-owning reference to a callable void(begin, end).
class RangeFunction {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, RangeFunction>)
      RangeFunction(F&& f)  // NOLINT(google-explicit-constructor)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* object, std::int64_t begin, std::int64_t end) {
          (*static_cast<std::remove_reference_t<F>*>(object))(begin, end);
        }) {}
  void operator()(std::int64_t begin, std::int64_t end) const { call_(object_, begin, end); }

 private:
  void* object_;
  void (*call_)(void*, std::int64_t, std::int64_t);
};

/// Calls body(b, e) once for each chunk [b, e) of `grain` consecutive indices (the last may be
/// shorter) that cover [begin, end). Chunk bounds depend on begin, end and grain only, never on the
/// thread count; so a body whose chunks are independent gives the same bits for any number of
/// threads. Runs on the caller when there is one chunk, one thread, or when called from within a
/// parallel_for. Where the system refuses a thread, fewer do the work. The first exception thrown
/// by a body is rethrown here.
void parallel_for(std::int64_t begin, std::int64_t end, std::int64_t grain, RangeFunction body);

/// Rows of a chunk of about `elements` elements, at least one.
constexpr std::int64_t rows_per_chunk(std::int64_t width, std::int64_t elements = 8192) {
  return std::max<std::int64_t>(1, elements / std::max<std::int64_t>(1, width));
}

/// Number of chunks that parallel_for makes: for partial results to be merged in chunk order.
constexpr std::int64_t chunk_count(std::int64_t begin, std::int64_t end, std::int64_t grain) {
  return end > begin ? (end - begin - 1) / grain + 1 : 0;
}

}  // namespace cmir
