// The three products of a linear layer at CmIR's sizes: the kernel (oneDNN on one thread per chunk
// of the result), OpenBLAS on the same chunks, both libraries with their own threads, and plain
// loops. CMIR_THREADS sets the threads of all. The measurement behind the choice of oneDNN, by an
// earlier form of this program: bench/results/*-cpu-gemm.md.
#include "kernels/matrix/gemm.h"

#include <cblas.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "bench/harness.h"
#include "core/parallel.h"

#ifdef CMIR_ONEDNN
#include <omp.h>
#include <dnnl.hpp>
#endif

namespace cmir::kernels {
namespace {

using namespace bench;

/// x weight^T [rows, out], dy weight [rows, in] or dy^T x [out, in].
template <class T>
Gemm<T> product(int kind, std::int64_t rows, std::int64_t in, std::int64_t out) {
  if (kind == 0)
    return {.transpose_b = true, .m = rows, .n = out, .k = in, .lda = in, .ldb = in, .ldc = out};
  if (kind == 1) return {.m = rows, .n = in, .k = out, .lda = out, .ldb = in, .ldc = in};
  return {.transpose_a = true, .m = out, .n = in, .k = rows, .lda = out, .ldb = in, .ldc = in};
}

template <class T>
std::vector<float> naive(const Gemm<T>& g) {
  std::vector<float> c(g.m * g.n);
  for (std::int64_t i = 0; i < g.m; ++i) {
    for (std::int64_t j = 0; j < g.n; ++j) {
      double sum = 0;
      for (std::int64_t l = 0; l < g.k; ++l) {
        sum += as_double(g.transpose_a ? g.a[l * g.lda + i] : g.a[i * g.lda + l]) *
               as_double(g.transpose_b ? g.b[j * g.ldb + l] : g.b[l * g.ldb + j]);
      }
      c[i * g.n + j] = static_cast<float>(sum);
    }
  }
  return c;
}

/// A library prepares itself for one product on this number of threads, and returns the function to
/// time.
using Prepare = std::function<std::function<void()>(const Gemm<float>&, int threads)>;

void openblas(const Gemm<float>& g) {
  cblas_sgemm(CblasRowMajor, g.transpose_a ? CblasTrans : CblasNoTrans,
              g.transpose_b ? CblasTrans : CblasNoTrans, static_cast<int>(g.m),
              static_cast<int>(g.n), static_cast<int>(g.k), 1.0F, g.a, static_cast<int>(g.lda), g.b,
              static_cast<int>(g.ldb), 0.0F, g.c, static_cast<int>(g.ldc));
}

std::function<void()> openblas_threads(const Gemm<float>& g, int threads) {
  openblas_set_num_threads(threads);
  return [g] { openblas(g); };
}

/// OpenBLAS in the place of oneDNN: our chunks, one thread each.
std::function<void()> openblas_chunks(const Gemm<float>& g, int threads) {
  set_thread_count(threads);
  openblas_set_num_threads(1);
  return [g] {
    const GemmSplit split = GemmSplit::of(g.m, g.n, g.k);
    parallel_for(0, split.extent, split.grain, [&](std::int64_t begin, std::int64_t end) {
      const std::int64_t rows = split.along_rows ? begin : 0,
                         columns = split.along_rows ? 0 : begin;
      Gemm<float> chunk = g;
      chunk.m = split.along_rows ? end - begin : g.m;
      chunk.n = split.along_rows ? g.n : end - begin;
      chunk.a += rows * (g.transpose_a ? 1 : g.lda);
      chunk.b += columns * (g.transpose_b ? g.ldb : 1);
      chunk.c += rows * g.ldc + columns;
      openblas(chunk);
    });
  };
}

#ifdef CMIR_ONEDNN
std::function<void()> onednn(const Gemm<float>& g, int threads) {
  omp_set_num_threads(threads);
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  static dnnl::stream stream(engine);
  using Dims = dnnl::memory::dims;
  const auto f32 = dnnl::memory::data_type::f32;
  const dnnl::memory::desc a({g.m, g.k}, f32, g.transpose_a ? Dims{1, g.lda} : Dims{g.lda, 1});
  const dnnl::memory::desc b({g.k, g.n}, f32, g.transpose_b ? Dims{1, g.ldb} : Dims{g.ldb, 1});
  const dnnl::memory::desc c({g.m, g.n}, f32, Dims{g.ldc, 1});
  const dnnl::matmul matmul(dnnl::matmul::primitive_desc(dnnl::matmul::desc(a, b, c), engine));
  const std::unordered_map<int, dnnl::memory> arguments = {
      {DNNL_ARG_SRC, dnnl::memory(a, engine, const_cast<float*>(g.a))},
      {DNNL_ARG_WEIGHTS, dnnl::memory(b, engine, const_cast<float*>(g.b))},
      {DNNL_ARG_DST, dnnl::memory(c, engine, g.c)}};
  return [matmul, arguments] {
    matmul.execute(stream, arguments);
    stream.wait();
  };
}
#endif

/// The product of a case: forward is 0, dx 1, dweight 2.
template <class T>
struct Problem {
  Gemm<T> gemm;
  Array<T> a, b;
  Array<float> c;

  explicit Problem(const benchmark::State& state)
      : gemm(product<T>(static_cast<int>(state.range(0)), state.range(1), state.range(2),
                        state.range(3))),
        a(normals_of<T>(gemm.m * gemm.k, 1)),
        b(normals_of<T>(gemm.k * gemm.n, 2)),
        c(gemm.m * gemm.n) {
    gemm.a = a.data(), gemm.b = b.data(), gemm.c = c.data();
  }
  bool is_right(benchmark::State& state) {
    Gemm<T> on_host = gemm;
    on_host.a = &a[0], on_host.b = &b[0];
    const auto depth = static_cast<double>(gemm.k);
    const double bound = gemm.tf32 ? 5e-3 * std::sqrt(depth) : 2e-6 * (10.0 + depth);
    return agree(state, c, naive(on_host), bound);
  }
};

template <class T, bool kTf32 = false>
void gemm(benchmark::State& state) {
  Problem<T> p(state);
  p.gemm.tf32 = kTf32;
  measure(state, p.gemm, [&] {
    hand_over(state, [&] {
      return NamedTensors{{"a", tensor_of(p.a)}, {"b", tensor_of(p.b)}, {"out.y", tensor_of(p.c)}};
    });
    return p.is_right(state);
  });
}

void gemm_naive(benchmark::State& state) {
  Problem<float> p(state);
  time_calls(
      state, [&] { benchmark::DoNotOptimize(naive(p.gemm)); }, cost_of(p.gemm));
}

/// On as many threads as the kernel.
Function library(const Prepare& prepare) {
  return [=](benchmark::State& state) {
    Problem<float> p(state);
    const auto run_once = prepare(p.gemm, thread_count());
    run_once();
    if (p.is_right(state)) time_calls(state, run_once, cost_of(p.gemm));
  };
}

const Table kTable = [] {
  const std::pair<std::int64_t, std::int64_t> widths[] = {
      {150, 256}, {150, 600}, {256, 256}, {768, 150}, {450, 256}};
  Table table{{"product", "rows", "in", "out"}, {}, {{0, 38400, 150, 256}, {1, 38400, 150, 256}}};
  for (const auto& [in, out] : widths) {
    const bool common = out == 600 || in == 150;
    for (const std::int64_t rows : {48, 480, 2400}) {
      const bool quick = common && (rows == 2400) == (out == 600) && rows != 480;
      for (const std::int64_t kind : {0, 1, 2})
        (quick ? table.sizes : table.slow).push_back({kind, rows, in, out});
    }
  }
  return table;
}();
const Register products{{
    kernel<Gemm<float>>(kTable, gemm<float>),
    peer<Gemm<float>>("openblas", kTable, library(openblas_threads)),
    peer<Gemm<float>>("openblas_chunks", kTable, library(openblas_chunks)),
#ifdef CMIR_ONEDNN
    peer<Gemm<float>>("onednn", kTable, library(onednn)),
#endif
    peer<Gemm<float>>("naive", {kTable.names, kTable.sizes}, gemm_naive),
    kernel<Gemm<BFloat16>>(kTable, gemm<BFloat16>),
    kernel<Gemm<float>>({kTable.names, {}, kTable.gpu}, gemm<float, true>, "tf32"),  // on a GPU
}};

}  // namespace
}  // namespace cmir::kernels
