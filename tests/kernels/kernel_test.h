// Helpers for kernel tests: guarded buffers, fills, comparison against an f64 oracle, and sweeps
// over instruction sets and thread counts.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "core/parallel.h"
#include "core/philox.h"
#include "kernels/kernel.h"

namespace cmir::kernels::testing {

/// An array with 64 sentinel elements on either side, filled with NaN (or the largest integer) so
/// that a kernel that fails to write an element, or writes beside the array, is seen.
template <class T>
class Guarded {
 public:
  explicit Guarded(std::int64_t count, T fill = sentinel())
      : values_(count + 2 * kGuard, sentinel()), count_(count) {
    for (std::int64_t i = 0; i < count; ++i) values_[kGuard + i] = fill;
  }
  explicit Guarded(const std::vector<double>& values)
      : Guarded(static_cast<std::int64_t>(values.size())) {
    for (std::size_t i = 0; i < values.size(); ++i) data()[i] = static_cast<T>(values[i]);
  }
  ~Guarded() {
    for (std::int64_t i = 0; i < kGuard; ++i) {
      const T expected = sentinel();
      EXPECT_EQ(std::memcmp(&values_[i], &expected, sizeof(T)), 0)
          << "wrote " << kGuard - i << " before the array";
      EXPECT_EQ(std::memcmp(&values_[kGuard + count_ + i], &expected, sizeof(T)), 0)
          << "wrote " << i << " past the array's end";
    }
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  T* data() { return values_.data() + kGuard; }
  T& operator[](std::int64_t i) { return data()[i]; }
  std::span<T> span() { return {data(), static_cast<std::size_t>(count_)}; }
  /// As doubles: what an oracle should be given, since it sees the rounding to T.
  std::vector<double> to_vector() { return {data(), data() + count_}; }
  std::vector<T> bits() { return {data(), data() + count_}; }

 private:
  static constexpr std::int64_t kGuard = 64;
  static T sentinel() {
    if constexpr (std::numeric_limits<T>::has_quiet_NaN) {
      return std::numeric_limits<T>::quiet_NaN();
    } else {
      return std::numeric_limits<T>::max();
    }
  }
  std::vector<T> values_;
  std::int64_t count_;
};

/// `count` normals times `scale`, reproducible.
inline std::vector<double> normals(std::int64_t count, std::uint64_t seed, double scale = 1.0) {
  std::vector<double> values(count);
  const RandomStream stream{.seed = seed};
  for (std::int64_t i = 0; i < count; ++i) values[i] = scale * stream.normal(i);
  return values;
}

/// Sizes around the vector widths and the chunk bounds, and primes.
inline const std::vector<std::int64_t> kAwkwardSizes = {1,  2,  3,  7,  8,  9,   15, 16,
                                                        17, 31, 33, 64, 65, 127, 150};

/// Every element within `factor` * eps(T) * `norm` of the oracle (norm: a bound on the magnitudes
/// that went into one element). NaN must meet NaN, infinity the same infinity.
template <class T>
void expect_close(std::span<const T> actual, const std::vector<double>& expected, double norm,
                  double factor, const std::string& reproduce) {
  ASSERT_EQ(actual.size(), expected.size()) << reproduce;
  const double bound = factor * std::numeric_limits<T>::epsilon() * norm;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (std::isnan(expected[i])) {
      ASSERT_TRUE(std::isnan(actual[i]))
          << reproduce << ": element " << i << " is " << actual[i] << ", not NaN";
    } else if (std::isinf(expected[i])) {
      ASSERT_EQ(static_cast<double>(actual[i]), expected[i]) << reproduce << ": element " << i;
    } else {
      ASSERT_TRUE(std::abs(actual[i] - expected[i]) <= bound)
          << reproduce << ": element " << i << " is " << actual[i] << ", the oracle says "
          << expected[i] << ", allowed difference " << bound;
    }
  }
}
template <class T>
void expect_close(Guarded<T>& actual, const std::vector<double>& expected, double norm,
                  double factor, const std::string& reproduce) {
  expect_close<T>(std::span<const T>(actual.data(), actual.span().size()), expected, norm, factor,
                  reproduce);
}

/// Calls body() once per instruction set that this CPU has, with a scoped trace of its name.
template <class Body>
void for_each_isa(Body&& body) {
  const Isa before = active_isa();
  for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    if (!cpu_supports(isa)) continue;
    set_active_isa(isa);
    SCOPED_TRACE(std::string("CMIR_ISA=") + std::string(cmir::kernels::name_of(isa)));
    body();
  }
  set_active_isa(before);
}

/// The device that a test passes to run(); for_each_variant sets it.
inline Device& test_device() {
  static Device device;
  return device;
}

/// for_each_isa, and then body() once more on the host model of CUDA, whose kernels are f32.
template <class T, class Body>
void for_each_variant(Body&& body) {
  for_each_isa(body);
  if constexpr (std::is_same_v<T, float>) {
    test_device() = {DeviceType::simt};
    SCOPED_TRACE("device simt");
    body();
    test_device() = {};
  }
}

/// body() returns the output's elements as a vector; they must be bitwise the same for 1, 2 and 3
/// threads.
template <class Body>
void expect_same_bits_for_any_thread_count(Body&& body) {
  const int before = thread_count();
  set_thread_count(1);
  const auto one = body();
  for (int threads : {2, 3}) {
    set_thread_count(threads);
    const auto many = body();
    ASSERT_EQ(one.size(), many.size());
    EXPECT_EQ(std::memcmp(one.data(), many.data(), one.size() * sizeof(one[0])), 0)
        << threads << " threads give other bits than 1";
  }
  set_thread_count(before);
}

}  // namespace cmir::kernels::testing
