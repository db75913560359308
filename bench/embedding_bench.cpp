// Embedding lookup and its scatter-add against plain loops.
#include "kernels/embedding/embedding.h"

#include "bench/harness.h"

namespace cmir::kernels {
namespace {

using namespace bench;

struct Data {
  std::int64_t rows, count, width;
  Array<float> table, dy, y, dtable;
  Array<std::int32_t> indices;
  Array<std::int64_t> workspace;

  explicit Data(benchmark::State& state)
      : rows(state.range(0)),
        count(state.range(1)),
        width(state.range(2)),
        table(normals(count * width, 1)),
        dy(normals(rows * width, 2)),
        y(rows * width),
        dtable(count * width),
        indices(rows),
        workspace(2 * rows) {
    const RandomStream stream{.seed = 3};
    for (std::int64_t i = 0; i < rows; ++i)
      indices[i] = static_cast<std::int32_t>(stream.word(i) % count);
  }
  EmbeddingForward<float> forward() {
    return {table.data(), indices.data(), y.data(), rows, width};
  }
  EmbeddingBackward<float> backward() {
    return {dy.data(), indices.data(), dtable.data(), rows, width, workspace.data()};
  }
};

void naive(const Data& d, std::vector<float>& y) {
  for (std::int64_t i = 0; i < d.rows; ++i) {
    for (std::int64_t j = 0; j < d.width; ++j)
      y[i * d.width + j] = d.table[d.indices[i] * d.width + j];
  }
}
void naive_backward(const Data& d, std::vector<float>& dtable) {
  for (std::int64_t i = 0; i < d.rows; ++i) {
    for (std::int64_t j = 0; j < d.width; ++j)
      dtable[d.indices[i] * d.width + j] += d.dy[i * d.width + j];
  }
}

void forward(benchmark::State& state) {
  Data d(state);
  measure(state, d.forward(), [&] {
    hand_over(state, [&] {
      return NamedTensors{{"table", tensor_of(d.table)},
                          {"indices", tensor_of(d.indices)},
                          {"out.y", tensor_of(d.y)}};
    });
    std::vector<float> expected(d.y.size());
    naive(d, expected);
    return agree(state, d.y, expected, 0);
  });
}
void backward(benchmark::State& state) {
  Data d(state);
  measure(state, d.backward(), [&] {
    hand_over(state, [&] {
      return NamedTensors{{"dy", tensor_of(d.dy)},
                          {"indices", tensor_of(d.indices)},
                          {"out.dtable", tensor_of(d.dtable)}};
    });
    std::vector<float> expected(d.dtable.size());
    naive_backward(d, expected);
    return agree(state, d.dtable, expected, 1e-4);
  });
}
void forward_naive(benchmark::State& state) {
  Data d(state);
  time_calls(
      state, [&] { naive(d, d.y.host()); }, cost_of(d.forward()));
}
void backward_naive(benchmark::State& state) {
  Data d(state);
  time_calls(
      state, [&] { naive_backward(d, d.dtable.host()); }, cost_of(d.backward()));
}

const Table kTable = {{"rows", "table", "width"},
                      {{48, 300, 300}, {600, 3000, 300}, {2400, 20000, 300}},
                      {{1 << 16, 1 << 17, 300}}};
const Register registered{{
    kernel<EmbeddingForward<float>>(kTable, forward),
    peer<EmbeddingForward<float>>("naive", kTable, forward_naive),
    kernel<EmbeddingBackward<float>>(kTable, backward),
    peer<EmbeddingBackward<float>>("naive", kTable, backward_naive),
}};

}  // namespace
}  // namespace cmir::kernels
