// One row against some others: squared distances, and sums of weighted differences. Include it
// after kernels/cpu/isa_begin.h: it is compiled for the instruction set of the including file.
namespace cmir::kernels::CMIR_ISA {
namespace {

/// Rows that a row meets at a time: as many stay in the first-level cache for the rows of a chunk.
constexpr std::int64_t kPairTile = 32;

/// distances[j] = |x - row j|^2 for `count` rows of y; four at a time, which share x.
template <class T>
void squared_distances(const T* x, const T* y, std::int64_t width, std::int64_t count,
                       T* distances) {
  for (std::int64_t j = 0; j < count; j += 4) {
    const T* rows[4];
    for (std::int64_t u = 0; u < 4; ++u) rows[u] = y + std::min(j + u, count - 1) * width;
    const T *y0 = rows[0], *y1 = rows[1], *y2 = rows[2], *y3 = rows[3];
    T sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
#pragma omp simd reduction(+ : sum0, sum1, sum2, sum3)
    for (std::int64_t c = 0; c < width; ++c) {
      sum0 += (x[c] - y0[c]) * (x[c] - y0[c]);
      sum1 += (x[c] - y1[c]) * (x[c] - y1[c]);
      sum2 += (x[c] - y2[c]) * (x[c] - y2[c]);
      sum3 += (x[c] - y3[c]) * (x[c] - y3[c]);
    }
    const T sums[4] = {sum0, sum1, sum2, sum3};
    std::copy_n(sums, std::min<std::int64_t>(4, count - j), distances + j);
  }
}

/// gradient += sum_j factors[j] (x - row j) over `count` rows of y, four at a time.
template <class T>
void add_differences(const T* x, const T* y, std::int64_t width, std::int64_t count,
                     const T* factors, T* gradient) {
  std::int64_t j = 0;
  for (; j + 4 <= count; j += 4) {
    const T *y0 = y + j * width, *y1 = y0 + width, *y2 = y1 + width, *y3 = y2 + width;
    const T f0 = factors[j], f1 = factors[j + 1], f2 = factors[j + 2], f3 = factors[j + 3];
#pragma omp simd
    for (std::int64_t c = 0; c < width; ++c) {
      gradient[c] +=
          f0 * (x[c] - y0[c]) + f1 * (x[c] - y1[c]) + f2 * (x[c] - y2[c]) + f3 * (x[c] - y3[c]);
    }
  }
  for (; j < count; ++j) {
    const T* y0 = y + j * width;
    const T f0 = factors[j];
#pragma omp simd
    for (std::int64_t c = 0; c < width; ++c) gradient[c] += f0 * (x[c] - y0[c]);
  }
}

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
