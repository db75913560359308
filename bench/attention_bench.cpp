// Attention against plain loops, and against whole score matrices with two BLAS products per
// (sample, head).
#include "kernels/attention/attention.h"

#include "bench/compare.h"
#include "kernels/matrix/gemm.h"

namespace cmir::kernels {
namespace {

using namespace bench;

struct Data {
  std::int64_t samples, length, heads, width;
  std::vector<std::int64_t> offsets;
  std::vector<float> qkv, doutput, output, log_sum_exp, dqkv, workspace;
  AttentionProblem<float> problem;

  explicit Data(benchmark::State& state)
      : samples(state.range(0)),
        length(state.range(1)),
        heads(state.range(2)),
        width(state.range(3)),
        offsets(even_offsets(samples, length)),
        qkv(normals(samples * length * 3 * heads * width, 1)),
        doutput(normals(samples * length * heads * width, 2)),
        output(doutput.size()),
        log_sum_exp(samples * length * heads),
        dqkv(qkv.size()) {
    const std::int64_t total = heads * width;
    problem = {qkv.data(),
               qkv.data() + total,
               qkv.data() + 2 * total,
               3 * total,
               3 * total,
               3 * total,
               offsets.data(),
               offsets.data(),
               samples,
               heads,
               width,
               length,
               length,
               1 / std::sqrt(static_cast<float>(width))};
    workspace.resize(
        std::max(attention_forward_workspace(problem), attention_backward_workspace(problem)));
  }
  AttentionForward<float> forward() {
    return {problem, output.data(), log_sum_exp.data(), workspace.data()};
  }
  AttentionBackward<float> backward() {
    float* dquery = dqkv.data();
    return {problem,
            output.data(),
            log_sum_exp.data(),
            doutput.data(),
            dquery,
            dquery + problem.width(),
            dquery + 2 * problem.width(),
            workspace.data()};
  }
};

/// Calls f(query, key, value, dquery offset, output offset) of row 0 for each sample and head.
template <class F>
void for_each_head(const Data& d, F&& f) {
  const AttentionProblem<float>& p = d.problem;
  for (std::int64_t s = 0; s < d.samples; ++s) {
    for (std::int64_t h = 0; h < d.heads; ++h) {
      const std::int64_t at = s * d.length * p.query_stride + h * d.width;
      f(at, s * d.length * p.width() + h * d.width);
    }
  }
}

void softmax_rows(std::vector<float>& scores, std::int64_t length) {
  for (std::int64_t i = 0; i < length; ++i) {
    float* row = scores.data() + i * length;
    const float maximum = *std::max_element(row, row + length);
    float sum = 0;
    for (std::int64_t j = 0; j < length; ++j) sum += row[j] = std::exp(row[j] - maximum);
    for (std::int64_t j = 0; j < length; ++j) row[j] /= sum;
  }
}

/// One head's probabilities, written out.
void naive_probabilities(const Data& d, std::int64_t at, std::vector<float>& scores) {
  const AttentionProblem<float>& p = d.problem;
  for (std::int64_t i = 0; i < d.length; ++i) {
    for (std::int64_t j = 0; j < d.length; ++j) {
      float sum = 0;
      for (std::int64_t c = 0; c < d.width; ++c) {
        sum += p.query[at + i * p.query_stride + c] * p.key[at + j * p.key_stride + c];
      }
      scores[i * d.length + j] = p.scale * sum;
    }
  }
  softmax_rows(scores, d.length);
}

void naive(const Data& d, std::vector<float>& output) {
  const AttentionProblem<float>& p = d.problem;
  std::vector<float> scores(d.length * d.length);
  for_each_head(d, [&](std::int64_t at, std::int64_t out) {
    naive_probabilities(d, at, scores);
    for (std::int64_t i = 0; i < d.length; ++i) {
      for (std::int64_t c = 0; c < d.width; ++c) {
        float sum = 0;
        for (std::int64_t j = 0; j < d.length; ++j) {
          sum += scores[i * d.length + j] * p.value[at + j * p.value_stride + c];
        }
        output[out + i * p.width() + c] = sum;
      }
    }
  });
}

void naive_backward(const Data& d, std::vector<float>& dqkv) {
  const AttentionProblem<float>& p = d.problem;
  std::vector<float> scores(d.length * d.length), dscores(d.length * d.length);
  dqkv.assign(d.qkv.size(), 0);
  float *dquery = dqkv.data(), *dkey = dquery + p.width(), *dvalue = dkey + p.width();
  for_each_head(d, [&](std::int64_t at, std::int64_t out) {
    naive_probabilities(d, at, scores);
    for (std::int64_t i = 0; i < d.length; ++i) {
      const float* dout = d.doutput.data() + out + i * p.width();
      float mean = 0;
      for (std::int64_t j = 0; j < d.length; ++j) {
        float sum = 0;
        for (std::int64_t c = 0; c < d.width; ++c)
          sum += dout[c] * p.value[at + j * p.value_stride + c];
        dscores[j] = sum;
        mean += sum * scores[i * d.length + j];
      }
      for (std::int64_t j = 0; j < d.length; ++j) {
        const float ds = p.scale * scores[i * d.length + j] * (dscores[j] - mean);
        for (std::int64_t c = 0; c < d.width; ++c) {
          dquery[at + i * p.query_stride + c] += ds * p.key[at + j * p.key_stride + c];
          dkey[at + j * p.key_stride + c] += ds * p.query[at + i * p.query_stride + c];
          dvalue[at + j * p.value_stride + c] += scores[i * d.length + j] * dout[c];
        }
      }
    }
  });
}

void forward_naive(benchmark::State& state) {
  Data d(state);
  for (auto _ : state) {
    naive(d, d.output);
    benchmark::ClobberMemory();
  }
  count(state, d.forward());
}

void forward_blas(benchmark::State& state) {
  Data d(state);
  const AttentionProblem<float>& p = d.problem;
  const std::int64_t n = d.length;
  std::vector<float> scores(n * n);
  const auto compute = [&] {
    for_each_head(d, [&](std::int64_t at, std::int64_t out) {
      run({}, Gemm<float>{.transpose_b = true,
                          .m = n,
                          .n = n,
                          .k = d.width,
                          .alpha = p.scale,
                          .a = p.query + at,
                          .lda = p.query_stride,
                          .b = p.key + at,
                          .ldb = p.key_stride,
                          .c = scores.data(),
                          .ldc = n});
      softmax_rows(scores, n);
      run({}, Gemm<float>{.m = n,
                          .n = d.width,
                          .k = n,
                          .a = scores.data(),
                          .lda = n,
                          .b = p.value + at,
                          .ldb = p.value_stride,
                          .c = d.output.data() + out,
                          .ldc = p.width()});
    });
  };
  compute();
  std::vector<float> expected(d.output.size());
  naive(d, expected);
  if (!agree(state, d.output, expected, 1e-4)) return;
  for (auto _ : state) compute();
  count(state, d.forward());
}

void forward(benchmark::State& state) {
  Data d(state);
  run({}, d.forward());
  std::vector<float> expected(d.output.size());
  naive(d, expected);
  if (!agree(state, d.output, expected, 1e-4)) return;
  for (auto _ : state) run({}, d.forward());
  count(state, d.forward());
}

void forward_dropout(benchmark::State& state) {
  Data d(state);
  d.problem.dropout = 0.2F;
  for (auto _ : state) run({}, d.forward());
  count(state, d.forward());
}

void backward_naive(benchmark::State& state) {
  Data d(state);
  for (auto _ : state) {
    naive_backward(d, d.dqkv);
    benchmark::ClobberMemory();
  }
  count(state, d.backward());
}

void backward(benchmark::State& state) {
  Data d(state);
  run({}, d.forward());
  run({}, d.backward());
  std::vector<float> expected;
  naive_backward(d, expected);
  if (!agree(state, d.dqkv, expected, 1e-3)) return;
  for (auto _ : state) run({}, d.backward());
  count(state, d.backward());
}

void sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"samples", "length", "heads", "width"})->Unit(benchmark::kMicrosecond);
  b->Args({48, 12, 5, 30})->Args({48, 50, 5, 30})->Args({48, 50, 2, 25})->Args({4, 600, 5, 30});
}
BENCHMARK(forward_naive)->Apply(sizes);
BENCHMARK(forward_blas)->Apply(sizes);
BENCHMARK(forward)->Apply(sizes);
BENCHMARK(forward_dropout)->Apply(sizes);
BENCHMARK(backward_naive)->Apply(sizes);
BENCHMARK(backward)->Apply(sizes);

}  // namespace
}  // namespace cmir::kernels
