// Helpers for kernel tests: guarded buffers, fills, comparison against an f64 oracle, and sweeps
// over instruction sets, thread counts and devices. The CPU, the host model of CUDA and, where
// there is one, a GPU run the same tests on the same arrays.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "core/cuda/runtime.h"
#include "core/parallel.h"
#include "core/philox.h"
#include "kernels/kernel.h"

namespace cmir::kernels::testing {

inline bool gpu_present() { return cuda::device_count() > 0; }

/// Memory that the host and every device of this process reach: managed where there is a GPU.
template <class T>
struct SharedAllocator {
  using value_type = T;
  SharedAllocator() = default;
  template <class U>
  SharedAllocator(const SharedAllocator<U>&) {}
  T* allocate(std::size_t count) {
    if (!gpu_present()) return std::allocator<T>().allocate(count);
    return static_cast<T*>(cuda::allocate_managed(count * sizeof(T)));
  }
  void deallocate(T* block, std::size_t count) noexcept {
    if (!gpu_present()) return std::allocator<T>().deallocate(block, count);
    cuda::free_managed(block);
  }
  bool operator==(const SharedAllocator&) const = default;
};
/// What a test gives a kernel besides Guarded arrays: never a plain vector, nor a local variable.
template <class T>
using Shared = std::vector<T, SharedAllocator<T>>;

/// An element as a double, which is exact.
template <class T>
double exact(T element) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return static_cast<float>(element);
  } else {
    return static_cast<double>(element);
  }
}

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
  std::vector<double> to_vector() {
    std::vector<double> values;
    for (const T& element : span()) values.push_back(exact(element));
    return values;
  }
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
  Shared<T> values_;
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
  for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512, Isa::amx}) {
    if (!cpu_supports(isa)) continue;
    set_active_isa(isa);
    SCOPED_TRACE(std::string("CMIR_ISA=") + std::string(cmir::kernels::name_of(isa)));
    body();
  }
  set_active_isa(before);
}

struct TestDevice : Device {};

/// The device that a test passes to run(); for_each_variant sets it.
inline TestDevice& test_device() {
  static TestDevice device;
  return device;
}

/// kernels::run, after which the host may read the results.
template <class Args>
void run(const TestDevice& device, const Args& args) {
  kernels::run(static_cast<const Device&>(device), args);
  if (device.type == DeviceType::cuda) cuda::synchronise();
}

/// Calls body() on the host model of CUDA, and on the GPU where there is one.
template <class Body>
void for_each_cuda_device(Body&& body) {
  for (const DeviceType type : {DeviceType::simt, DeviceType::cuda}) {
    if (type == DeviceType::cuda && !gpu_present()) continue;
    test_device() = {{type}};
    SCOPED_TRACE("device " + test_device().to_string());
    body();
    test_device() = {};
  }
}

/// for_each_isa, and then for_each_cuda_device, which has no f64 kernels.
template <class T, class Body>
void for_each_variant(Body&& body) {
  for_each_isa(body);
  if constexpr (!std::is_same_v<T, double>) for_each_cuda_device(body);
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
