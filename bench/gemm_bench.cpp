// The three products of a linear layer at CmIR's sizes: the kernel (oneDNN on one thread per chunk
// of the result), OpenBLAS on the same chunks, and both libraries with their own threads. f32. The
// measurement behind the choice: bench/results/*-cpu-gemm.md.
#include "kernels/matrix/gemm.h"

#include <cblas.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <tuple>

#include "bench/harness.h"
#include "core/parallel.h"

#ifdef CMIR_ONEDNN
#include <omp.h>
#include <dnnl.hpp>
#endif

namespace cmir::kernels {
namespace {

using namespace bench;

constexpr std::int64_t kRows[] = {48, 96, 480, 2400};
constexpr std::pair<std::int64_t, std::int64_t> kWidths[] = {
    {150, 256}, {256, 256}, {256, 150}, {450, 256}, {768, 150}, {150, 600}, {600, 150}, {150, 450}};
constexpr const char* kProducts[] = {"forward", "dx", "dweight"};

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

/// One product with its data and its result by the naive loop, kept while the libraries take turns
/// at it.
struct Problem {
  Gemm<float> gemm;
  std::vector<float> a, b, c, expected;

  explicit Problem(const Gemm<float>& g)
      : gemm(g), a(normals(g.m * g.k, 1)), b(normals(g.k * g.n, 2)), c(g.m * g.n) {
    gemm.a = a.data(), gemm.b = b.data(), gemm.c = c.data();
    expected = naive(gemm);
  }
};

Problem& problem(int kind, std::int64_t rows, std::int64_t in, std::int64_t out) {
  static std::unique_ptr<Problem> kept;
  static std::tuple<int, std::int64_t, std::int64_t, std::int64_t> key;
  if (kept == nullptr || key != std::tuple(kind, rows, in, out)) {
    kept = std::make_unique<Problem>(product<float>(kind, rows, in, out));
    key = {kind, rows, in, out};
  }
  return *kept;
}

/// A library prepares itself for one product and one thread count, and returns the function to
/// time.
using Prepare = std::function<std::function<void()>(const Gemm<float>&, int threads)>;

void measure_library(benchmark::State& state, const Prepare& prepare, int kind, std::int64_t rows,
                     std::int64_t in, std::int64_t out, int threads) {
  Problem& p = problem(kind, rows, in, out);
  std::ranges::fill(p.c, 0.0F);
  const auto run_once = prepare(p.gemm, threads);
  run_once();
  if (!agree(state, p.c, p.expected, 2e-6 * (10.0 + static_cast<double>(p.gemm.k)))) return;
  time_calls(state, run_once, cost_of(p.gemm));
}

std::function<void()> ours(const Gemm<float>& g, int threads) {
  set_thread_count(threads);
  return [g] { run({}, g); };
}

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

/// The kernel on any device: forward is product 0, dx 1, dweight 2.
template <class T>
void gemm(benchmark::State& state) {
  Gemm<T> g =
      product<T>(static_cast<int>(state.range(0)), state.range(1), state.range(2), state.range(3));
  Array<T> a(normals_of<T>(g.m * g.k, 1)), b(normals_of<T>(g.k * g.n, 2));
  Array<float> c(g.m * g.n);
  Gemm<T> on_host = g;
  on_host.a = &a[0], on_host.b = &b[0];
  g.a = a.data(), g.b = b.data(), g.c = c.data();
  measure(state, g, [&] {
    return agree(state, c, naive(on_host), 2e-6 * (10.0 + static_cast<double>(g.k)));
  });
}

const Table kTable = {{"product", "rows", "in", "out"},
                      {{0, 48, 150, 256},
                       {1, 48, 150, 256},
                       {2, 48, 150, 256},
                       {0, 2400, 150, 600},
                       {1, 2400, 150, 600},
                       {2, 2400, 150, 600}},
                      {{0, 38400, 150, 256}, {1, 38400, 150, 256}}};
const Register products{{
    kernel<Gemm<float>>(kTable, gemm<float>),
    kernel<Gemm<BFloat16>>(kTable, gemm<BFloat16>),
}};

const bool registered = [] {
  std::vector<std::pair<std::string, Prepare>> libraries = {
      {"gemm", ours}, {"openblas_chunks", openblas_chunks}, {"openblas_threads", openblas_threads}};
#ifdef CMIR_ONEDNN
  libraries.emplace_back("onednn", onednn);
#endif
  for (const std::int64_t rows : kRows) {
    for (const auto& [in, out] : kWidths) {
      for (int kind = 0; kind < 3; ++kind) {
        for (const int threads : {1, 2}) {
          for (const auto& [name, prepare] : libraries) {
            const std::string title = fmt::format("{}/{}/rows:{}/in:{}/out:{}/threads:{}", name,
                                                  kProducts[kind], rows, in, out, threads);
            benchmark::RegisterBenchmark(title.c_str(), measure_library, prepare, kind, rows, in,
                                         out, threads)
                ->UseRealTime()
                ->ComputeStatistics("min", [](const std::vector<double>& v) {
                  return *std::ranges::min_element(v);
                });
          }
        }
      }
    }
  }
  return true;
}();

}  // namespace
}  // namespace cmir::kernels
