// InfoNCE's whole loss, forward and backward, of unit rows and a fixed temperature: symmetric and
// one-way, in f32 and with factors in bf16. Against forms that hold all N x N scores: on the CPU
// `materialised`, as an array library has it (the scores, their softmax over rows and over columns
// and dS, an array each), and `in_place`, fused by hand (one array), through the same BLAS; their
// passes are threaded and vectorised too, which is why this file is compiled for this machine. On a
// GPU `cublas@cuda`, fused by hand as well (cuda/materialised.cu), whose passes the host model runs
// as `cublas@simt`. They are compared with ours before anything is timed, where there is memory for
// both; a row that was not says so. Counters: peak_MB, the largest memory in use above the inputs;
// Gflop, a second, counting the products that ours (four) or theirs (three) makes. PyTorch's times,
// on the same arrays: peers/torch_kernels.py.
#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>

#include "bench/cuda/materialised.h"
#include "bench/harness.h"
#include "core/allocator.h"
#include "core/parallel.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/matrix/gemm.h"
#include "losses/info_nce.h"

namespace cmir::kernels {
namespace {

using namespace bench;

constexpr float kTemperature = 0.07F;
constexpr float kScale = 1 / kTemperature;  // of cosines: no score is larger

/// Unit rows [n, d] on the benchmark's device.
Tensor unit_rows(std::int64_t n, std::int64_t d, std::uint64_t seed) {
  std::vector<float> rows = normals(n * d, seed);
  for (std::int64_t i = 0; i < n; ++i) {
    double square = 0;
    for (std::int64_t k = 0; k < d; ++k) square += rows[i * d + k] * rows[i * d + k];
    for (std::int64_t k = 0; k < d; ++k) rows[i * d + k] /= static_cast<float>(std::sqrt(square));
  }
  return Tensor::from(rows, {n, d}).to(device());
}

struct Problem {
  Tensor a, b;  // [n, d], f32
  bool symmetric;
  Precision precision;

  std::int64_t size() const { return a.size(0); }
};
struct Result {
  Tensor value, da, db;
};
using Form = Result (*)(const Problem&);

Result fused(const Problem& p) {
  const PrecisionScope scope(p.precision);
  const Variable x(p.a, true), y(p.b, true);
  const Variable loss = losses::info_nce(
      x, y, {.scores = {losses::Critic::dot, kTemperature}, .symmetric = p.symmetric});
  backward(loss);
  return {loss.value(), x.gradient(), y.gradient()};
}

/// kScale op(a) op(b), in f32.
template <class T>
Tensor product(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b) {
  const std::int64_t m = a.size(transpose_a ? 1 : 0), k = a.size(transpose_a ? 0 : 1);
  const std::int64_t n = b.size(transpose_b ? 0 : 1);
  Tensor c = Tensor::empty({m, n}, DType::f32, device());
  kernels::run(device(), Gemm<T>{.transpose_a = transpose_a,
                                 .transpose_b = transpose_b,
                                 .m = m,
                                 .n = n,
                                 .k = k,
                                 .alpha = kScale,
                                 .a = a.data<T>(),
                                 .lda = a.size(1),
                                 .b = b.data<T>(),
                                 .ldb = b.size(1),
                                 .c = c.mutable_data<float>(),
                                 .ldc = n});
  return c;
}
template <class T>
Result gradients(const Tensor& value, const Tensor& ds, const Tensor& a, const Tensor& b) {
  return {value, product<T>(ds, false, b, false), product<T>(ds, true, a, false)};
}

// ---- On the CPU, in f32

/// f(begin, end) over parts of the N rows or columns, in parallel.
template <class F>
void in_parts(std::int64_t n, F&& f) {
  parallel_for(0, n, std::max<std::int64_t>(16, n / 16), f);
}

/// ln sum_j exp(s_ij) of each row.
std::vector<float> row_log_sums(const float* s, std::int64_t n) {
  std::vector<float> out(n);
  in_parts(n, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const float* row = s + i * n;
      float largest = row[0], sum = 0;
#pragma omp simd reduction(max : largest)
      for (std::int64_t j = 0; j < n; ++j) largest = std::max(largest, row[j]);
#pragma omp simd reduction(+ : sum)
      for (std::int64_t j = 0; j < n; ++j) sum += cpu::exp(row[j] - largest);
      out[i] = largest + std::log(sum);
    }
  });
  return out;
}

/// ln sum_i exp(s_ij) of each column.
std::vector<float> column_log_sums(const float* s, std::int64_t n) {
  std::vector<float> out(n);
  in_parts(n, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> largest(end - begin, -INFINITY), sum(end - begin);
    float *most = largest.data(), *total = sum.data();
    for (std::int64_t i = 0; i < n; ++i) {
      const float* row = s + i * n + begin;
#pragma omp simd
      for (std::int64_t j = 0; j < end - begin; ++j) most[j] = std::max(most[j], row[j]);
    }
    for (std::int64_t i = 0; i < n; ++i) {
      const float* row = s + i * n + begin;
#pragma omp simd
      for (std::int64_t j = 0; j < end - begin; ++j) total[j] += cpu::exp(row[j] - most[j]);
    }
    for (std::int64_t j = begin; j < end; ++j)
      out[j] = most[j - begin] + std::log(total[j - begin]);
  });
  return out;
}

/// ln of the sums of a matrix's exps over its rows and, of the symmetric loss, columns; the loss.
struct LogSums {
  std::vector<float> rows, columns;
  Tensor value;

  LogSums(const float* s, std::int64_t n, bool symmetric) : rows(row_log_sums(s, n)) {
    if (symmetric) columns = column_log_sums(s, n);
    double sum = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      sum += (symmetric ? 0.5 * (rows[i] + columns[i]) : rows[i]) - s[i * n + i];
    }
    value = Tensor::full({}, sum / static_cast<double>(n));
  }
};

/// out[i, j] = f(i, j), in parallel.
template <class F>
void map(float* out, std::int64_t n, F&& f) {
  in_parts(n, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      float* row = out + i * n;
#pragma omp simd
      for (std::int64_t j = 0; j < n; ++j) row[j] = f(i, j);
    }
  });
}

/// Of the symmetric loss.
Result materialised(const Problem& p) {
  const std::int64_t n = p.size();
  const Tensor scores = product<float>(p.a, false, p.b, true);
  const float* s = scores.data<float>();
  const LogSums sums(s, n, true);
  Tensor of_rows = Tensor::empty({n, n}), of_columns = Tensor::empty({n, n});
  Tensor ds = Tensor::empty({n, n});
  float *u = of_rows.mutable_data<float>(), *v = of_columns.mutable_data<float>();
  const float *r = sums.rows.data(), *c = sums.columns.data();
  map(u, n, [=](std::int64_t i, std::int64_t j) { return cpu::exp(s[i * n + j] - r[i]); });
  map(v, n, [=](std::int64_t i, std::int64_t j) { return cpu::exp(s[i * n + j] - c[j]); });
  const float share = 0.5F / static_cast<float>(n);
  float* g = ds.mutable_data<float>();
  map(g, n, [=](std::int64_t i, std::int64_t j) { return share * (u[i * n + j] + v[i * n + j]); });
  for (std::int64_t i = 0; i < n; ++i) g[i * n + i] -= 2 * share;
  return gradients<float>(sums.value, ds, p.a, p.b);
}

Result in_place(const Problem& p) {
  const std::int64_t n = p.size();
  Tensor scores = product<float>(p.a, false, p.b, true);
  float* s = scores.mutable_data<float>();
  const LogSums sums(s, n, p.symmetric);
  const float *r = sums.rows.data(), *c = sums.columns.data();
  const float whole = 1 / static_cast<float>(n), share = p.symmetric ? whole / 2 : whole;
  if (p.symmetric) {
    map(s, n, [=](std::int64_t i, std::int64_t j) {
      const float score = s[i * n + j];
      return share * (cpu::exp(score - r[i]) + cpu::exp(score - c[j]));
    });
  } else {
    map(s, n,
        [=](std::int64_t i, std::int64_t j) { return share * cpu::exp(s[i * n + j] - r[i]); });
  }
  for (std::int64_t i = 0; i < n; ++i) s[i * n + i] -= whole;
  return gradients<float>(sums.value, scores, p.a, p.b);
}

// ---- On a GPU, with cuBLAS; on the host model with the CPU's BLAS

template <class T>
Result with_blas(const Problem& p) {
  const std::int64_t n = p.size();
  const auto empty = [](const Shape& shape, DType dtype = DType::f32) {
    return Tensor::empty(shape, dtype, device());
  };
  const Tensor a = as_factor("cublas", p.a, p.precision), b = as_factor("cublas", p.b, p.precision);
  Tensor scores = product<T>(a, false, b, true);
  Tensor rows = empty({n}), columns = empty({n}), value = empty({});
  float* of_columns = p.symmetric ? columns.mutable_data<float>() : nullptr;
  kernels::run(device(),
               MaterialisedSums<float>{scores.data<float>(), n, rows.mutable_data<float>(),
                                       of_columns, value.mutable_data<float>()});
  Tensor ds = std::is_same_v<T, float> ? scores : empty({n, n}, dtype_of<T>);
  kernels::run(device(), MaterialisedGradient<T>{scores.data<float>(), n, rows.data<float>(),
                                                 of_columns, ds.mutable_data<T>()});
  return gradients<T>(value, ds, a, b);
}

Result with_blas(const Problem& p) {
  return p.precision == Precision::bf16 ? with_blas<BFloat16>(p) : with_blas<float>(p);
}

// ---- The benchmarks

/// Of the value, relative, and of both gradients, added up: NaN where there is one.
double difference(const Result& x, const Result& y) {
  const auto apart = [](const Tensor& of_x, const Tensor& of_y) {
    return relative_difference(of_x.to(Device{}).span<float>(), of_y.to(Device{}).span<float>());
  };
  return apart(x.value, y.value) + apart(x.da, y.da) + apart(x.db, y.db);
}

/// What holds the scores here and is compared with ours.
Form other_form(Form form) {
  if (form != &fused) return &fused;
  return device().is_cpu() ? &in_place : static_cast<Form>(&with_blas);
}

/// Nothing where there is no memory for it.
std::optional<Result> result_of(Form form, const Problem& p) try {
  return form(p);
} catch (const Error& error) {
  if (!std::string_view(error.what()).starts_with("allocate: ")) throw;
  return std::nullopt;
}

void loss(benchmark::State& state, Form form, double products, bool symmetric,
          Precision precision) {
  const std::int64_t n = state.range(0), d = state.range(1);
  const Problem p{unit_rows(n, d, 1), unit_rows(n, d, 2), symmetric, precision};
  CachingAllocator& memory = allocator_of(device());
  if (!result_of(form, p)) {  // a first call, which also makes what is made once
    if (form == &fused) return fail(state, "there is no memory for it");
    return leave_out(state, "no memory for its matrices");
  }
  memory.reset_peak();
  const std::size_t before = memory.stats().live;
  const Result result = form(p);
  const double peak = static_cast<double>(memory.stats().peak - before) / 1e6;
  const std::optional<Result> other = result_of(other_form(form), p);
  if (!other) state.SetLabel("not compared");
  const double apart = other ? difference(*other, result) : 0;
  if (!(apart <= (precision == Precision::bf16 ? 4e-2 : 1e-4)))
    return fail(state, fmt::format("the forms differ by {}", apart));
  hand_over(state, [&] {
    return NamedTensors{{"a", p.a.to(Device{})},
                        {"b", p.b.to(Device{})},
                        {"out.value", result.value.to(Device{})},
                        {"out.da", result.da.to(Device{})},
                        {"out.db", result.db.to(Device{})}};
  });
  const double size = static_cast<double>(n);
  time_calls(state, [&] { form(p); },
             {.bytes = 0, .operations = products * 2 * size * size * static_cast<double>(d)});
  state.counters["peak_MB"] = peak;
}

Function loss_of(Form form, double products, bool symmetric, Precision precision) {
  return [=](benchmark::State& state) { loss(state, form, products, symmetric, precision); };
}

const std::vector<std::vector<std::int64_t>> kGpuSizes = [] {
  std::vector<std::vector<std::int64_t>> sizes;
  for (const std::int64_t n : {4096, 32768, 131072}) {
    for (const std::int64_t d : {128, 256, 512}) sizes.push_back({n, d});
  }
  return sizes;
}();
const Table kSymmetric{{"N", "d"},
                       {{128, 64}, {128, 256}, {1024, 64}, {1024, 256}},
                       kGpuSizes,
                       {{8192, 64}, {8192, 256}, {32768, 64}, {32768, 256}}};
const Table kOthers{
    {"N", "d"}, {{128, 64}, {1024, 64}, {1024, 256}}, kGpuSizes, {{8192, 64}, {8192, 256}}};
/// Four matrices would take 17 GB at N = 32768.
const Table kMaterialised = [] {
  Table table = kSymmetric;
  std::erase_if(table.slow, [](const auto& sizes) { return sizes[0] > 8192; });
  return table;
}();

/// One form of the loss: ours, and the peer that a GPU has.
std::vector<Entry> entries_of(const char* name, const char* variant, const Table& table,
                              bool symmetric, Precision precision) {
  Entry ours = anywhere(name, table, loss_of(&fused, 4, symmetric, precision));
  const Form peer = static_cast<Form>(&with_blas);
  Entry theirs{name, "cublas@cuda", {}, table, loss_of(peer, 3, symmetric, precision)};
  Entry on_host_model = theirs;
  on_host_model.peer = "cublas@simt";
  std::vector<Entry> entries{ours, theirs, on_host_model};
  for (Entry& entry : entries) entry.variant = variant;
  return entries;
}

Entry on_cpu_of(const char* place, const Table& table, Form form, bool symmetric) {
  Entry entry =
      on_cpu("info_nce_loss<f32>", place, table, loss_of(form, 3, symmetric, Precision::f32));
  entry.variant = symmetric ? "symmetric" : "one_way";
  return entry;
}

constexpr auto kF32 = Precision::f32, kBf16 = Precision::bf16;
const Register registered[] = {
    Register{entries_of("info_nce_loss<f32>", "symmetric", kSymmetric, true, kF32)},
    Register{entries_of("info_nce_loss<f32>", "one_way", kOthers, false, kF32)},
    Register{entries_of("info_nce_loss<bf16>", "symmetric", kOthers, true, kBf16)},
    Register{entries_of("info_nce_loss<bf16>", "one_way", kOthers, false, kBf16)},
    Register{{on_cpu_of("materialised", kMaterialised, &materialised, true),
              on_cpu_of("in_place", kSymmetric, &in_place, true),
              on_cpu_of("in_place", kOthers, &in_place, false)}},
};

}  // namespace
}  // namespace cmir::kernels
