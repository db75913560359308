// What a CUDA kernel must not depend on: the order in which its threads run, and the alignment of
// its arrays.
#pragma once

#include <memory>

#include "kernels/simt/schedule.h"
#include "tests/kernels/kernel_test.h"

namespace cmir::kernels::testing {

/// body() runs kernels on test_device(), with fresh data, and returns the outputs' elements as a
/// vector. They must be bitwise the same for 1, 2 and 3 threads on the CPU, and, unless T is
/// double, for every schedule of the host model of CUDA, and each time on a GPU.
template <class T, class Body>
void expect_same_bits(Body&& body) {
  expect_same_bits_for_any_thread_count(body);
  if constexpr (!std::is_same_v<T, double>) {
    for_each_cuda_device([&] {
      if (test_device().type == DeviceType::simt) {
        EXPECT_NO_THROW(simt::expect_same_under_schedules(body));
      } else {
        const auto first = body();
        for (int repeat = 0; repeat < 3; ++repeat) {
          const auto again = body();
          ASSERT_EQ(first.size(), again.size());
          EXPECT_EQ(std::memcmp(first.data(), again.data(), first.size() * sizeof(first[0])), 0);
        }
      }
    });
  }
}

/// body(pointers) runs f32 kernels on test_device() with arrays of these sizes, filled with
/// normals. On each CUDA device all arrays must end up the same, up to the rounding of sums in
/// another order, whether all are aligned for vectors or one is not.
template <class Body>
void expect_same_for_any_alignment(const std::vector<std::int64_t>& counts, Body&& body) {
  for_each_cuda_device([&] {
    std::vector<double> expected;
    for (std::size_t misaligned = counts.size() + 1; misaligned-- > 0;) {  // first none
      std::vector<std::unique_ptr<Guarded<float>>> arrays;
      std::vector<float*> places;
      for (std::size_t i = 0; i < counts.size(); ++i) {
        arrays.push_back(std::make_unique<Guarded<float>>(counts[i] + 1));
        places.push_back(arrays[i]->data() + (i == misaligned ? 1 : 0));
        const auto values = normals(counts[i], i + 1);
        for (std::int64_t j = 0; j < counts[i]; ++j) places[i][j] = static_cast<float>(values[j]);
      }
      body(places);
      std::vector<double> actual;
      for (std::size_t i = 0; i < counts.size(); ++i) {
        actual.insert(actual.end(), places[i], places[i] + counts[i]);
        EXPECT_TRUE(std::isnan((*arrays[i])[i == misaligned ? 0 : counts[i]]))
            << "wrote beside array " << i << ", array " << misaligned << " misaligned";
      }
      if (expected.empty()) expected = actual;
      for (std::size_t j = 0; j < actual.size(); ++j) {
        ASSERT_NEAR(actual[j], expected[j], 1e-5 * (1 + std::abs(expected[j])))
            << "element " << j << " of all arrays, array " << misaligned << " misaligned";
      }
    }
  });
}

}  // namespace cmir::kernels::testing
