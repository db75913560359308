// Hopper's part of the scores over all pairs, on the host model: the walk over tiles, and the
// products of a block of dS. What is made of both: pairs_test.cpp.
#include "kernels/cuda/device.h"
#include "kernels/information/pair_block.h"
#include "kernels/information/pair_tile_warpgroups.cuh"
#include "kernels/simt/schedule.h"
#include "tests/kernels/kernel_test.h"
#include "tests/kernels/outputs_test.h"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

using namespace testing;

struct Factors {
  std::int64_t n, d;
  Guarded<BFloat16> a, b;

  Factors(std::int64_t samples, std::int64_t features)
      : n(samples), d(features), a(normals(n * d, 1)), b(normals(n * d, 2)) {}
  PairScores<BFloat16> scores() { return {a.data(), b.data(), n, d, 1.0, nullptr}; }
  double product(std::int64_t i, std::int64_t j) {
    double sum = 0;
    for (std::int64_t k = 0; k < d; ++k) sum += exact(a[i * d + k]) * exact(b[j * d + k]);
    return sum;
  }
};

template <class Tiles>
__global__ void tiles_kernel(PairScores<BFloat16> s, typename Tiles::Source source, TileRange range,
                             float* products, int* visits) {
  CMIR_DYNAMIC_SHARED(BFloat16, memory);
  const Tiles tiles(s, source, memory);
  const auto n = static_cast<int>(s.n);
  tiles.for_each(range, [&](int row, int column, typename Tiles::Scores& scores) {
    Tiles::for_each_score([&](int m, int k, int e) {
      const int i = row + Tiles::own_row(m, e / 2), j = column + Tiles::own_column(k, e % 2);
      if (i >= n || j >= n) return;
      products[i * n + j] = scores[m][k][e];
      ++visits[i * n + j];
    });
    __syncthreads();
  });
}

/// Some tiles, not from the first on, each once, of every number of panels and slots.
template <class Tiles>
void expect_products(std::int64_t n, std::int64_t d) {
  Factors f(n, d);
  const int size = static_cast<int>(n);
  const TileRange range{128, size, 128, size};
  const auto products = expect_same_under_schedules([&] {
    std::vector<float> out(n * n);
    std::vector<int> visits(n * n);
    launch(tiles_kernel<Tiles>,
           {.grid = dim3(1),
            .block = dim3(kPairThreads),
            .shared_bytes = Tiles::shared_bytes(f.scores())},
           f.scores(), Tiles::source_of(f.scores()), range, out.data(), visits.data());
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        EXPECT_EQ(visits[i * n + j], i >= 128 && j >= 128 ? 1 : 0) << i << " " << j;
      }
    }
    return out;
  });
  for (std::int64_t i = 128; i < n; i += 17) {
    for (std::int64_t j = 128; j < n; ++j) {
      ASSERT_NEAR(products[i * n + j], f.product(i, j), 1e-3) << i << " " << j << " d " << d;
    }
  }
}

TEST(PairWarpgroupsTest, TilesHaveTheirProducts) {
  for (const std::int64_t d : {64, 72, 192, 256, 320, 512}) {
    expect_products<PairWarpgroupTiles>(300, d);
    expect_products<MmaTiles<BFloat16>>(300, d);
  }
}

TEST(PairWarpgroupsTest, TakesWhatItCanCopy) {
  Factors f(130, 64), odd(130, 70), narrow(130, 56), wide(130, 520);
  EXPECT_TRUE(PairWarpgroupTiles::takes(f.scores()));
  for (Factors* other : {&odd, &narrow, &wide}) {
    EXPECT_FALSE(PairWarpgroupTiles::takes(other->scores())) << other->d;
  }
  PairScores<BFloat16> shifted = f.scores();
  shifted.a += 4;
  EXPECT_FALSE(PairWarpgroupTiles::takes(shifted));
}

/// A block that is not the first of either side adds to what is there; one that is sets it. The
/// depth is more than twice the ring's, and no multiple of a step.
TEST(PairWarpgroupsTest, ProductsOfABlock) {
  for (const std::int64_t d : {64, 136, 328}) {
    for (const bool wide : {false, true}) {
      for (const auto& [row, rows, column, columns] :
           {std::array<std::int64_t, 4>{0, 200, 0, 620}, {128, 492, 64, 100}}) {
        const std::int64_t n = 620, stride = (columns + 7) / 8 * 8;
        Factors f(n, d);
        Guarded<BFloat16> ds(normals(rows * stride, 3));
        for (std::int64_t e = 0; e < rows * stride; ++e) {
          if (e % stride >= columns) ds[e] = BFloat16(0.0F);
        }
        Guarded<float> da(std::vector<double>(n * d, 7)), db(std::vector<double>(n * d, 7));
        PairGradient<BFloat16> g{};
        g.scores = f.scores();
        g.da = da.data();
        g.db = db.data();
        multiply_on_warpgroups(g, {ds.data(), row, rows, column, columns, stride}, wide);
        const auto near = [&](std::int64_t i, std::int64_t k, double actual, double sum, bool mine,
                              bool adds) {
          const double expected = mine ? sum + (adds ? 7 : 0) : 7;
          ASSERT_NEAR(actual, expected, 1e-3) << i << " " << k << " d " << d << " wide " << wide;
        };
        for (std::int64_t i = 0; i < n; i += 13) {
          for (std::int64_t k = 0; k < d; ++k) {
            const bool in_rows = i >= row && i < row + rows;
            const bool in_columns = i >= column && i < column + columns;
            double of_a = 0, of_b = 0;
            for (std::int64_t j = 0; in_rows && j < columns; ++j) {
              of_a += exact(ds[(i - row) * stride + j]) * exact(f.b[(column + j) * d + k]);
            }
            for (std::int64_t r = 0; in_columns && r < rows; ++r) {
              of_b += exact(ds[r * stride + i - column]) * exact(f.a[(row + r) * d + k]);
            }
            near(i, k, da[i * d + k], of_a, in_rows, column > 0);
            near(i, k, db[i * d + k], of_b, in_columns, row > 0);
          }
        }
      }
    }
  }
}

/// Scores of -128 and shifts with them: what is past the last column would have scores of 0, and
/// exp(128) is infinite.
TEST(PairWarpgroupsTest, ColumnsThatAreNotThereWeighNothing) {
  const std::int64_t n = 131, d = 64;
  Factors f(n, d);
  for (std::int64_t e = 0; e < n * d; ++e) f.a[e] = BFloat16(1.0F), f.b[e] = BFloat16(-2.0F);
  Guarded<float> weight(std::vector<double>(n, 0.5)), shift(std::vector<double>(n, -128)),
      diagonal(std::vector<double>(n, 3)), da(n * d), db(n * d),
      workspace(PairGradient<BFloat16>::workspace_size(Device{DeviceType::simt}, n, d));
  run(Device{DeviceType::simt},
      PairGradient<BFloat16>{f.scores(), weight.data(), shift.data(), weight.data(), shift.data(),
                             diagonal.data(), da.data(), db.data(), workspace.data()});
  const double sum = n - 1 + 3;  // each other pair weighs 1
  expect_close(da, std::vector<double>(n * d, -2 * sum), sum, 8, "da");
  expect_close(db, std::vector<double>(n * d, sum), sum, 8, "db");
}

/// The gradients by blocks of these sizes.
template <class T>
std::vector<double> gradients(std::int64_t n, std::int64_t d, std::int64_t rows,
                              std::int64_t columns) {
  Guarded<T> a(normals(n * d, 1)), b(normals(n * d, 2)), workspace(rows * columns);
  Guarded<float> weight(normals(n, 3)), shift(std::vector<double>(n, 20)), da(n * d), db(n * d);
  PairGradient<T> g{{a.data(), b.data(), n, d, 0.3, nullptr},
                    weight.data(),
                    shift.data(),
                    weight.data(),
                    shift.data(),
                    weight.data(),
                    da.data(),
                    db.data(),
                    reinterpret_cast<float*>(workspace.data())};
  differentiate_by_blocks(g, rows, columns);
  std::vector<double> all = da.to_vector();
  const std::vector<double> of_b = db.to_vector();
  all.insert(all.end(), of_b.begin(), of_b.end());
  return all;
}
template <class T>
void expect_same_by_blocks(std::int64_t n, std::int64_t d) {
  const std::vector<double> whole = gradients<T>(n, d, n, (n + 7) / 8 * 8);
  double largest = 0;
  for (const double x : whole) largest = std::max(largest, std::abs(x));
  for (const auto& [rows, columns] :
       {std::pair<std::int64_t, std::int64_t>{128, 256}, {256, 128}}) {
    const std::vector<double> parts = gradients<T>(n, d, rows, columns);
    for (std::size_t i = 0; i < whole.size(); ++i) {
      ASSERT_NEAR(parts[i], whole[i], 1e-6 * largest) << i << " of " << n << " x " << d;
    }
  }
}

/// Where dS is not held whole. f32, and bf16 without and with warpgroups.
TEST(PairWarpgroupsTest, BlocksAddUp) {
  expect_same_by_blocks<float>(301, 37);
  expect_same_by_blocks<BFloat16>(301, 37);
  expect_same_by_blocks<BFloat16>(301, 72);
}

/// One gradient alone has the bits that it has beside the other.
TEST(PairWarpgroupsTest, OneProductAlone) {
  Factors f(130, 64);
  Guarded<BFloat16> ds(normals(130 * 136, 3));
  for (std::int64_t i = 0; i < 130; ++i) {
    for (std::int64_t j = 130; j < 136; ++j) ds[i * 136 + j] = BFloat16(0.0F);
  }
  const auto gradient = [&](bool of_a, bool of_b) {
    Guarded<float> da(130 * 64), db(130 * 64);
    PairGradient<BFloat16> g{};
    g.scores = f.scores();
    g.da = of_a ? da.data() : nullptr;
    g.db = of_b ? db.data() : nullptr;
    multiply_on_warpgroups(g, {ds.data(), 0, 130, 0, 130, 136}, false);
    return std::pair{da.to_vector(), db.to_vector()};
  };
  const auto both = gradient(true, true);
  EXPECT_EQ(gradient(true, false).first, both.first);
  EXPECT_EQ(gradient(false, true).second, both.second);
}

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
