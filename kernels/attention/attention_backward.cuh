// What attention's backward kernels share: a query's state, and what becomes of logits.
#pragma once

#include "kernels/attention/attention.cuh"
#include "kernels/cuda/reduce.cuh"

namespace cmir::kernels::CMIR_DEVICE {

/// probability = exp2(logit - shift), delta = doutput . output; 0 past the last query.
struct QueryState {
  float shift = 0, delta = 0;
};

/// States are [samples, heads, most_queries], shift and delta side by side.
template <class T>
__device__ float* states_of(const AttentionBackward<T>& a, const AttentionTeams& teams,
                            const AttentionTask& task) {
  const AttentionProblem<T>& p = a.items[task.item].problem;
  return a.workspace + teams.states[task.item] +
         2 * (task.sample * p.heads + task.head) * p.most_queries;
}

/// Of the thread's two queries.
template <class T>
__device__ void find_states(const AttentionBackwardItem<T>& item, const AttentionHead<T>& h,
                            int own, QueryState (&states)[2]) {
  const std::int64_t width = item.problem.width();
  const auto output = h.query_rows(item.output, width);
  const auto doutput = h.query_rows(item.doutput, width);
  for (int half = 0; half < 2; ++half) {
    const int i = own + lane_of_warp() / 4 + 8 * half;
    QueryState state;
    if (i < h.queries) {
      for (int d = lane_of_warp() % 4; d < h.width; d += 4) {
        state.delta += static_cast<float>(doutput.row(i)[d]) * output.row(i)[d];
      }
      const float log_sum_exp = item.log_sum_exp[(h.first_query + i) * item.problem.heads + h.head];
      state.shift = log_sum_exp == kMinusInfinity ? 0.0F : kLog2E * log_sum_exp;
    }
    state.delta = row_of_four(state.delta, Sum{});
    states[half] = state;
  }
}

/// What dropout multiplies the thread's element e of tile n with; bit 4 n + e of kept.
struct Mask {
  unsigned kept;
  float keep;

  template <class T>
  __device__ Mask(const AttentionProblem<T>& p, unsigned bits)
      : kept(bits), keep(1.0F / (1.0F - p.dropout)) {}
  __device__ float operator()(int n, int e) const {
    return (kept >> (4 * n + e) & 1) != 0 ? keep : 0.0F;
  }
};

/// Logits become probabilities. state_of(n, e) is the state of the element's query.
template <int kTiles, class StateOf>
__device__ void to_probabilities(const StateOf& state_of, float (&logits)[1][kTiles][4]) {
  for (int n = 0; n < kTiles; ++n) {
    for (int e = 0; e < 4; ++e) {
      logits[0][n][e] = exp2_approximate(logits[0][n][e] - state_of(n, e).shift);
    }
  }
}

/// The products doutput.value in `gradients` become the derivatives by the logits.
template <int kTiles, class StateOf>
__device__ void to_dlogits(const float (&probabilities)[1][kTiles][4], const Mask& mask,
                           const StateOf& state_of, float (&gradients)[1][kTiles][4]) {
  for (int n = 0; n < kTiles; ++n) {
    for (int e = 0; e < 4; ++e) {
      const float inner = mask(n, e) * gradients[0][n][e] - state_of(n, e).delta;
      gradients[0][n][e] = probabilities[0][n][e] * inner;
    }
  }
}

/// For the kernels that follow, by the lanes that have a row's first columns.
template <class T>
__device__ void save_states(float* saved, const AttentionHead<T>& h, int own,
                            const QueryState (&states)[2]) {
  for (int half = 0; half < 2; ++half) {
    const int i = own + lane_of_warp() / 4 + 8 * half;
    if (lane_of_warp() % 4 != 0 || i >= h.queries) continue;
    saved[2 * i] = states[half].shift;
    saved[2 * i + 1] = states[half].delta;
  }
}

}  // namespace cmir::kernels::CMIR_DEVICE
