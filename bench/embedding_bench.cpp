// Embedding lookup and its scatter-add against plain loops. Range: rows, table rows, width.
#include "kernels/embedding/embedding.h"

#include "bench/compare.h"

namespace cmir::kernels {
namespace {

using namespace bench;

struct Data {
  std::int64_t rows, count, width;
  std::vector<float> table, dy, y, dtable;
  std::vector<std::int32_t> indices;

  explicit Data(benchmark::State& state)
      : rows(state.range(0)),
        count(state.range(1)),
        width(state.range(2)),
        table(normals(count * width, 1)),
        dy(normals(rows * width, 2)),
        y(rows * width),
        dtable(count * width),
        indices(rows) {
    const RandomStream stream{.seed = 3};
    for (std::int64_t i = 0; i < rows; ++i)
      indices[i] = static_cast<std::int32_t>(stream.word(i) % count);
  }
};

void forward_kernel(Data& d) {
  run({}, EmbeddingForward<float>{d.table.data(), d.indices.data(), d.y.data(), d.rows, d.width});
}
void forward_naive(Data& d) {
  for (std::int64_t i = 0; i < d.rows; ++i) {
    for (std::int64_t j = 0; j < d.width; ++j)
      d.y[i * d.width + j] = d.table[d.indices[i] * d.width + j];
  }
}
void backward_kernel(Data& d) {
  run({},
      EmbeddingBackward<float>{d.dy.data(), d.indices.data(), d.dtable.data(), d.rows, d.width});
}
void backward_naive(Data& d) {
  for (std::int64_t i = 0; i < d.rows; ++i) {
    for (std::int64_t j = 0; j < d.width; ++j)
      d.dtable[d.indices[i] * d.width + j] += d.dy[i * d.width + j];
  }
}

void embedding(benchmark::State& state, void (*step)(Data&), void (*reference)(Data&)) {
  Data d(state), expected(state);
  step(d);
  reference(expected);
  if (!agree(state, d.y, expected.y, 0) || !agree(state, d.dtable, expected.dtable, 1e-5)) return;
  for (auto _ : state) {
    step(d);
    benchmark::ClobberMemory();
  }
  count(state,
        EmbeddingForward<float>{d.table.data(), d.indices.data(), d.y.data(), d.rows, d.width});
}

void sizes(benchmark::internal::Benchmark* b) {
  b->Args({600, 3000, 300})->Args({2400, 20000, 300})->UseRealTime();
}
BENCHMARK_CAPTURE(embedding, forward_kernel, forward_kernel, forward_naive)->Apply(sizes);
BENCHMARK_CAPTURE(embedding, forward_naive, forward_naive, forward_naive)->Apply(sizes);
BENCHMARK_CAPTURE(embedding, backward_kernel, backward_kernel, backward_naive)->Apply(sizes);
BENCHMARK_CAPTURE(embedding, backward_naive, backward_naive, backward_naive)->Apply(sizes);

}  // namespace
}  // namespace cmir::kernels
