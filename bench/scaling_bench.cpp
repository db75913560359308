// How whole losses and layers, forward and backward, grow with each of their sizes: named sweeps
// KERNEL/PLACE/over_SIZE/..., to which `cmir bench` fits exponents, on the CPU (over the number of
// threads too) and on a GPU. Counter peak_MB: the largest memory in use above the inputs, of the
// place's tensors. What they compute is compared elsewhere (losses_bench, info_nce_loss_bench and
// the tests); here every result must be finite.
#include "autograd/attention.h"
#include "autograd/linear.h"
#include "bench/harness.h"
#include "bench/threads.h"
#include "core/allocator.h"
#include "core/parallel.h"
#include "losses/decorrelation.h"
#include "losses/info_nce.h"
#include "losses/information.h"
#include "losses/invariance.h"

namespace cmir {
namespace {

using Variables = std::vector<Variable>;

Variable input(const Shape& shape, std::uint64_t seed) {
  const Tensor values = Tensor::from(bench::normals(shape.numel(), seed), shape);
  return Variable(values.to(bench::device()), true);
}

/// One forward and backward; of a result that is no loss, with itself as the cotangent.
void step(const Variables& inputs, const std::function<Variable(const Variables&)>& f) {
  Variables fresh;
  for (const Variable& x : inputs) fresh.emplace_back(x.value(), true);
  const Variable result = f(fresh);
  result.value().numel() == 1 ? backward(result) : backward(result, {.seed = result.value()});
  benchmark::DoNotOptimize(fresh[0].gradient().raw());
}

using MakeInputs = std::function<Variables(const benchmark::State&)>;
using Forward = std::function<Variable(const benchmark::State&, const Variables&)>;

bench::Function sweep(const MakeInputs& make, const Forward& forward) {
  return [=](benchmark::State& state) {
    const Variables inputs = make(state);
    const auto call = [&] { step(inputs, [&](const Variables& x) { return forward(state, x); }); };
    const Tensor result = forward(state, inputs).value();
    for (const double x : result.to_vector()) {
      if (!std::isfinite(x)) return bench::fail(state, "the result is not finite");
    }
    call();  // what is made once
    CachingAllocator& memory = allocator_of(bench::device());
    memory.reset_peak();
    const std::size_t before = memory.stats().live;
    call();
    state.counters["peak_MB"] = static_cast<double>(memory.stats().peak - before) / 1e6;
    bench::time_calls(state, call, {});
  };
}

/// On the CPU and on a GPU.
bench::Entry entry(const std::string& name, const std::string& size, const bench::Table& table,
                   const bench::Function& function) {
  bench::Entry made = bench::anywhere(name, table, function);
  made.variant = "over_" + size;
  return made;
}

/// On the CPU, with the table's one row of sizes, and the last size 1, 2, 4, ... threads.
bench::Entry over_threads(const std::string& name, bench::Table table,
                          const bench::Function& function) {
  const std::vector<std::int64_t> sizes = table.sizes.at(0);
  table.names.emplace_back("threads");
  table.sizes.clear();
  for (const int count : bench::powers_of_two(thread_count())) {
    table.sizes.push_back(sizes);
    table.sizes.back().push_back(count);
  }
  const auto at = static_cast<std::int64_t>(sizes.size());
  bench::Entry made = bench::on_cpu(name, "cpu", table, [=](benchmark::State& state) {
    set_thread_count(static_cast<int>(state.range(at)));
    function(state);
  });
  made.variant = "over_threads";
  return made;
}

/// Sizes N and d for two matrices [N, d].
Variables two_matrices(const benchmark::State& state) {
  const Shape shape{state.range(0), state.range(1)};
  return {input(shape, 1), input(shape, 2)};
}

const auto invariance = sweep(
    [](const benchmark::State& state) {
      return Variables{input({state.range(0) * (state.range(1) + 1), 150}, 1)};
    },
    [](const benchmark::State& state, const Variables& x) {
      return losses::invariance(x[0], static_cast<int>(state.range(1)));
    });
const auto decorrelation = sweep(two_matrices, [](const benchmark::State&, const Variables& x) {
  return losses::decorrelation(x[0], x[1], {.alpha = 0.1});
});
const auto info_nce = sweep(two_matrices, [](const benchmark::State&, const Variables& x) {
  return losses::info_nce(x[0], x[1],
                          {.scores = {losses::Critic::cosine, 0.07}, .symmetric = true});
});
const auto club = sweep(
    [](const benchmark::State& state) {
      const Shape shape{state.range(0), state.range(1)};
      return Variables{input(shape, 1), input(shape, 2), input(shape, 3)};
    },
    [](const benchmark::State&, const Variables& x) { return losses::club(x[0], x[1], x[2]); });
const auto attention = sweep(
    [](const benchmark::State& state) {
      return Variables{input({state.range(0) * state.range(1), 3 * 150}, 1)};
    },
    [](const benchmark::State& state, const Variables& x) {
      const Tensor offsets =
          Tensor::from(bench::even_offsets(state.range(0), state.range(1)), {state.range(0) + 1});
      return ops::self_attention(x[0], offsets, 5);
    });
const auto linear = sweep(
    [](const benchmark::State& state) {
      return Variables{input({state.range(0), 256}, 1), input({256, 256}, 2), input({256}, 3)};
    },
    [](const benchmark::State&, const Variables& x) {
      return ops::linear(x[0], x[1], x[2], Activation::gelu);
    });

const bench::Register registered{{
    entry("r_inv", "K", {{"N", "K"}, {{480, 1}, {480, 2}, {480, 4}, {480, 8}}, {}, {{480, 16}}},
          invariance),
    entry("r_dec", "N", {{"N", "d"}, {{256, 150}, {512, 150}, {1024, 150}}, {}, {{2048, 150}}},
          decorrelation),
    entry(
        "info_nce", "N",
        {{"N", "d"}, {{512, 64}, {1024, 64}, {2048, 64}}, {{32768, 64}}, {{4096, 64}, {8192, 64}}},
        info_nce),
    entry("info_nce", "d", {{"N", "d"}, {{1024, 32}, {1024, 64}, {1024, 128}}, {}, {{1024, 256}}},
          info_nce),
    entry("vclub", "N",
          {{"N", "d"}, {{1024, 128}, {4096, 128}, {16384, 128}}, {{262144, 128}}, {{65536, 128}}},
          club),
    entry("attention", "T",
          {{"samples", "T"}, {{4, 64}, {4, 128}, {4, 256}}, {{4, 4096}}, {{4, 512}, {4, 1024}}},
          attention),
    entry("linear", "batch", {{"batch"}, {{256}, {1024}, {4096}}, {{131072}}, {{16384}}}, linear),
    over_threads("r_inv", {{"N", "K"}, {{480, 8}}}, invariance),
    over_threads("info_nce", {{"N", "d"}, {{1024, 64}}}, info_nce),
    over_threads("attention", {{"samples", "T"}, {{4, 256}}}, attention),
    over_threads("linear", {{"batch"}, {{1024}}}, linear),
}};

}  // namespace
}  // namespace cmir
