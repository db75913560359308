#include "kernels/reduce/sum.h"

#include <algorithm>

#include "core/parallel.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

constexpr std::int64_t kElements = 16384;  // per chunk, where no workspace fixes it

template <class T>
double sum_of(const T* x, std::int64_t count) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < count; ++i) sum += static_cast<double>(x[i]);
  return sum;
}

template <class T>
void sum_all(const SumAll<T>& s) {
  parallel_for(0, s.count, s.kGrain, [&](std::int64_t begin, std::int64_t end) {
    s.workspace[begin / s.kGrain] = sum_of(s.x + begin, end - begin);
  });
  *s.y = static_cast<T>(s.scale * sum_of(s.workspace, s.workspace_size(s.count)));
}

template <class T>
void add_to_sums(const T* row, double* sums, std::int64_t width) {
#pragma omp simd
  for (std::int64_t j = 0; j < width; ++j) sums[j] += static_cast<double>(row[j]);
}

template <class T>
void add_product_to_sums(const T* row, const T* factor, double* sums, std::int64_t width) {
#pragma omp simd
  for (std::int64_t j = 0; j < width; ++j) {
    sums[j] += static_cast<double>(row[j]) * static_cast<double>(factor[j]);
  }
}

template <class T>
void sum_over_rows(const SumOverRows<T>& s) {
  const std::int64_t grain = s.grain(s.width), chunks = chunk_count(0, s.rows, grain);
  parallel_for(0, s.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    double* sums = s.workspace + begin / grain * s.width;
    std::fill_n(sums, s.width, 0.0);
    for (std::int64_t i = begin * s.width; i < end * s.width; i += s.width) {
      if (s.factor == nullptr) {
        add_to_sums(s.x + i, sums, s.width);
      } else {
        add_product_to_sums(s.x + i, s.factor + i, sums, s.width);
      }
    }
  });
  for (std::int64_t c = 1; c < chunks; ++c)
    add_to_sums(s.workspace + c * s.width, s.workspace, s.width);
  for (std::int64_t j = 0; j < s.width; ++j) {
    s.y[j] = chunks == 0 ? T{0} : static_cast<T>(s.scale * s.workspace[j]);
  }
}

template <class T>
void sum_over_columns(const SumOverColumns<T>& s) {
  parallel_for(0, s.rows, rows_per_chunk(s.width, kElements),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i) {
                   s.y[i] = static_cast<T>(s.scale * sum_of(s.x + i * s.width, s.width));
                 }
               });
}

template <class T>
void broadcast(const Broadcast<T>& b) {
  const T scale = static_cast<T>(b.scale);
  parallel_for(0, b.rows, rows_per_chunk(b.width, kElements),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i) {
                   const T* x = b.x + i * b.row_stride;
                   T* y = b.y + i * b.width;
                   if (b.column_stride == 0) {
                     std::fill_n(y, b.width, scale * x[0]);
                   } else {
#pragma omp simd
                     for (std::int64_t j = 0; j < b.width; ++j) y[j] = scale * x[j];
                   }
                 }
               });
}

const RegisterCpu registered{kIsa,
                             &sum_all<float>,
                             &sum_all<double>,
                             &sum_over_rows<float>,
                             &sum_over_rows<double>,
                             &sum_over_columns<float>,
                             &sum_over_columns<double>,
                             &broadcast<float>,
                             &broadcast<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
