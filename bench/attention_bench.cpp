// Attention against plain loops, and against whole score matrices with two BLAS products per
// (sample, head).
#include "kernels/attention/attention.h"

#include <algorithm>

#include "bench/harness.h"
#include "kernels/matrix/gemm.h"

namespace cmir::kernels {
namespace {

using namespace bench;

struct Data {
  std::int64_t samples, length, heads, width;
  Array<std::int64_t> offsets;
  Array<float> qkv, doutput, output, log_sum_exp, dqkv, workspace;
  AttentionProblem<float> problem;
  AttentionWork work;

  explicit Data(benchmark::State& state)
      : samples(state.range(0)),
        length(state.range(1)),
        heads(state.range(2)),
        width(state.range(3)),
        offsets(even_offsets(samples, length)),
        qkv(normals(samples * length * 3 * heads * width, 1)),
        doutput(normals(samples * length * heads * width, 2)),
        output(samples * length * heads * width),
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
    workspace = Array<float>(
        std::max(attention_forward_workspace(problem), attention_backward_workspace(problem)));
    work = AttentionWork::of(&offsets[0], &offsets[0], samples);
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

/// Calls f(offset in qkv, offset in the output) of row 0 for each sample and head.
template <class F>
void for_each_head(const Data& d, F&& f) {
  const AttentionProblem<float>& p = d.problem;
  for (std::int64_t s = 0; s < d.samples; ++s) {
    for (std::int64_t h = 0; h < d.heads; ++h) {
      f(s * d.length * p.query_stride + h * d.width, s * d.length * p.width() + h * d.width);
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
  const std::int64_t stride = d.problem.query_stride, total = d.problem.width();
  const float *query = &d.qkv[at], *key = query + total;
  for (std::int64_t i = 0; i < d.length; ++i) {
    for (std::int64_t j = 0; j < d.length; ++j) {
      float sum = 0;
      for (std::int64_t c = 0; c < d.width; ++c) sum += query[i * stride + c] * key[j * stride + c];
      scores[i * d.length + j] = d.problem.scale * sum;
    }
  }
  softmax_rows(scores, d.length);
}

std::vector<float> naive(const Data& d) {
  const std::int64_t stride = d.problem.query_stride, total = d.problem.width();
  std::vector<float> output(d.output.size()), scores(d.length * d.length);
  for_each_head(d, [&](std::int64_t at, std::int64_t out) {
    naive_probabilities(d, at, scores);
    const float* value = &d.qkv[at] + 2 * total;
    for (std::int64_t i = 0; i < d.length; ++i) {
      for (std::int64_t j = 0; j < d.length; ++j) {
        for (std::int64_t c = 0; c < d.width; ++c) {
          output[out + i * total + c] += scores[i * d.length + j] * value[j * stride + c];
        }
      }
    }
  });
  return output;
}

std::vector<float> naive_backward(const Data& d) {
  const std::int64_t stride = d.problem.query_stride, total = d.problem.width();
  std::vector<float> scores(d.length * d.length), dscores(d.length * d.length), dqkv(d.qkv.size());
  for_each_head(d, [&](std::int64_t at, std::int64_t out) {
    naive_probabilities(d, at, scores);
    const float *query = &d.qkv[at], *key = query + total, *value = key + total;
    float *dquery = dqkv.data() + at, *dkey = dquery + total, *dvalue = dkey + total;
    for (std::int64_t i = 0; i < d.length; ++i) {
      const float* dout = &d.doutput[out + i * total];
      float mean = 0;
      for (std::int64_t j = 0; j < d.length; ++j) {
        float sum = 0;
        for (std::int64_t c = 0; c < d.width; ++c) sum += dout[c] * value[j * stride + c];
        dscores[j] = sum;
        mean += sum * scores[i * d.length + j];
      }
      for (std::int64_t j = 0; j < d.length; ++j) {
        const float ds = d.problem.scale * scores[i * d.length + j] * (dscores[j] - mean);
        for (std::int64_t c = 0; c < d.width; ++c) {
          dquery[i * stride + c] += ds * key[j * stride + c];
          dkey[j * stride + c] += ds * query[i * stride + c];
          dvalue[j * stride + c] += scores[i * d.length + j] * dout[c];
        }
      }
    }
  });
  return dqkv;
}

/// Whole score matrices, two BLAS products per (sample, head).
void blas(Data& d, std::vector<float>& scores) {
  const AttentionProblem<float>& p = d.problem;
  const std::int64_t n = d.length;
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
}

void forward_naive(benchmark::State& state) {
  Data d(state);
  time_calls(
      state, [&] { benchmark::DoNotOptimize(naive(d)); }, cost_of(d.forward(), d.work));
}

void forward_blas(benchmark::State& state) {
  Data d(state);
  std::vector<float> scores(d.length * d.length);
  blas(d, scores);
  if (!agree(state, d.output, naive(d), 1e-4)) return;
  time_calls(
      state, [&] { blas(d, scores); }, cost_of(d.forward(), d.work));
}

void forward(benchmark::State& state) {
  Data d(state);
  measure(
      state, d.forward(),
      [&] {
        hand_over(state, [&] {
          return NamedTensors{{"qkv", tensor_of(d.qkv)}, {"out.y", tensor_of(d.output)}};
        });
        return agree(state, d.output, naive(d), 1e-4);
      },
      d.work);
}

/// Not compared: the tests do that.
void forward_dropout(benchmark::State& state) {
  Data d(state);
  d.problem.dropout = 0.2F;
  measure(
      state, d.forward(), [] { return true; }, d.work);
}

void backward_naive(benchmark::State& state) {
  Data d(state);
  time_calls(
      state, [&] { benchmark::DoNotOptimize(naive_backward(d)); }, cost_of(d.backward(), d.work));
}

void backward(benchmark::State& state) {
  Data d(state);
  run(device(), d.forward());
  measure(
      state, d.backward(),
      [&] {
        hand_over(state, [&] {
          return NamedTensors{{"qkv", tensor_of(d.qkv)},
                              {"dy", tensor_of(d.doutput)},
                              {"out.dqkv", tensor_of(d.dqkv)}};
        });
        return agree(state, d.dqkv, naive_backward(d), 1e-3);
      },
      d.work);
}

const Table kTable = {
    {"samples", "length", "heads", "width"},
    {{4, 12, 5, 30}, {48, 12, 5, 30}, {48, 50, 5, 30}, {48, 50, 2, 25}, {4, 600, 5, 30}},
    {{768, 50, 5, 30}, {64, 600, 5, 30}}};
const Register registered{{
    kernel<AttentionForward<float>>(kTable, forward),
    kernel<AttentionForward<float>>(kTable, forward_dropout, "dropout"),
    peer<AttentionForward<float>>("naive", kTable, forward_naive),
    peer<AttentionForward<float>>("blas", kTable, forward_blas),
    kernel<AttentionBackward<float>>(kTable, backward),
    peer<AttentionBackward<float>>("naive", kTable, backward_naive),
}};

}  // namespace
}  // namespace cmir::kernels
