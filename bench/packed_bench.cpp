// Kernels over packed sequences and blocks of rows against plain loops: mean pooling, positions,
// concatenation.
#include "bench/harness.h"
#include "kernels/pool/mean_pool.h"
#include "kernels/positions/positions.h"
#include "kernels/rows/copy.h"

namespace cmir::kernels {
namespace {

using namespace bench;

/// Samples of equal length: x and y have a row a step, pooled a row a sample, table a row a
/// position.
struct Data {
  std::int64_t samples, length, width, rows;
  Array<std::int64_t> offsets;
  Array<float> x, y, pooled, table;

  explicit Data(benchmark::State& state)
      : samples(state.range(0)),
        length(state.range(1)),
        width(state.range(2)),
        rows(samples * length),
        offsets(even_offsets(samples, length)),
        x(normals(rows * width, 1)),
        y(rows * width),
        pooled(normals(samples * width, 2)),
        table(normals(length * width, 3)) {}
};

MeanPoolForward<float> args_of(Data& d, MeanPoolForward<float>*) {
  return {d.x.data(), d.offsets.data(), d.pooled.data(), d.samples, d.width};
}
MeanPoolBackward<float> args_of(Data& d, MeanPoolBackward<float>*) {
  return {d.pooled.data(), d.offsets.data(), d.y.data(), d.samples, d.width};
}
AddPositions<float> args_of(Data& d, AddPositions<float>*) {
  return {d.x.data(), d.offsets.data(), d.table.data(), 2, d.y.data(), d.samples, d.width};
}
PositionsBackwardTable<float> args_of(Data& d, PositionsBackwardTable<float>*) {
  return {d.x.data(), d.offsets.data(), d.table.data(), d.samples, d.length, d.width};
}

/// Feature by feature, as the formulas read; into `out`, which is what the kernel writes.
void pool(const Data& d, std::vector<float>& out) {
  for (std::int64_t s = 0; s < d.samples; ++s) {
    for (std::int64_t j = 0; j < d.width; ++j) {
      float sum = 0;
      for (std::int64_t r = d.offsets[s]; r < d.offsets[s + 1]; ++r) sum += d.x[r * d.width + j];
      out[s * d.width + j] = sum / static_cast<float>(d.length);
    }
  }
}
void pool_backward(const Data& d, std::vector<float>& out) {
  for (std::int64_t i = 0; i < d.rows * d.width; ++i) {
    out[i] =
        d.pooled[i / (d.length * d.width) * d.width + i % d.width] / static_cast<float>(d.length);
  }
}
void add_positions(const Data& d, std::vector<float>& out) {
  for (std::int64_t i = 0; i < d.rows * d.width; ++i) {
    out[i] = 2 * d.x[i] + d.table[i % (d.length * d.width)];
  }
}
void table_backward(const Data& d, std::vector<float>& out) {
  std::fill(out.begin(), out.end(), 0.0F);
  for (std::int64_t i = 0; i < d.rows * d.width; ++i) out[i % (d.length * d.width)] += d.x[i];
}

const Table kTable = {{"samples", "length", "width"},
                      {{48, 12, 150}, {48, 50, 150}, {48, 600, 20}},
                      {{12288, 50, 150}, {768, 600, 150}}};

/// The kernel and the loop, both of which write `output`.
template <class Args>
std::vector<Entry> both(Array<float> Data::*output, void (*naive)(const Data&, std::vector<float>&),
                        double tolerance) {
  const auto kernel_benchmark = [=](benchmark::State& state) {
    Data d(state);
    measure(
        state, args_of(d, static_cast<Args*>(nullptr)),
        [&] {
          std::vector<float> expected((d.*output).size());
          naive(d, expected);
          return agree(state, d.*output, expected, tolerance);
        },
        d.rows);
  };
  const auto naive_benchmark = [=](benchmark::State& state) {
    Data d(state);
    const Cost cost = cost_of(args_of(d, static_cast<Args*>(nullptr)), d.rows);
    time_calls(
        state, [&] { naive(d, (d.*output).host()); }, cost);
  };
  return {kernel<Args>(kTable, kernel_benchmark), peer<Args>("naive", kTable, naive_benchmark)};
}

/// x beside others in a matrix three times as wide.
void concatenate(benchmark::State& state) {
  const std::int64_t rows = state.range(0), width = state.range(1);
  Array<float> x(normals(rows * width, 1)), y(rows * 3 * width);
  measure(state, CopyColumns<float>{x.data(), width, y.data() + width, 3 * width, rows, width},
          [&] {
            std::vector<float> expected(y.size());
            for (std::int64_t i = 0; i < rows * width; ++i) {
              expected[i / width * 3 * width + width + i % width] = x[i];
            }
            return agree(state, y, expected, 0);
          });
}

const Register pooling{both<MeanPoolForward<float>>(&Data::pooled, pool, 1e-4)};
const Register pooling_backward{both<MeanPoolBackward<float>>(&Data::y, pool_backward, 1e-6)};
const Register positions{both<AddPositions<float>>(&Data::y, add_positions, 1e-6)};
const Register positions_backward{
    both<PositionsBackwardTable<float>>(&Data::table, table_backward, 1e-2)};
const Register row_copies{with_references({kernel<CopyColumns<float>>(
    {{"rows", "width"}, {{48, 150}, {2400, 150}}, {{1 << 18, 150}}}, concatenate)})};

}  // namespace
}  // namespace cmir::kernels
