#include "kernels/information/club.h"

#include <algorithm>

#include "kernels/cpu/vector_math.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

/// Columns that are walked down together: as many as a row has, mostly, so that memory is read in
/// order. Rows whose sums stay in registers, and whose terms are summed in T before they are added
/// in f64. Rows between a term and what is fetched meanwhile, into the second-level cache (the
/// locality given to __builtin_prefetch): the first has too few lines under way to fetch while exps
/// are computed.
constexpr std::int64_t kColumns = 256, kTogether = 4, kRows = 16, kAhead = 8;
constexpr int kSecondLevel = 2;

/// What a chunk of rows leaves of each feature: some number near its mean of y, and sums of y less
/// that number, and of a^2, w, w b and w (a^2 - 2ab) about it.
enum ChunkSum : int { kCentre, kY, kSquares, kWeights, kWeightedMean, kWeighted };
static_assert(kWeighted + 1 == kClubChunkSums);

/// Adds to the sums of `count` columns what kCount rows have in them, from element `at` on.
template <class T, bool kHasLogvar, int kCount>
void add_rows(const ClubForward<T>& a, std::int64_t at, std::int64_t count, const T* centre,
              T (&sums)[kClubChunkSums][kColumns]) {
  constexpr std::int64_t kLine = 64 / sizeof(T);
  const std::int64_t width = a.width;
  const T *mu = a.mu + at, *y = a.y + at, *logvar = kHasLogvar ? a.logvar + at : nullptr;
  const auto add = [&](std::int64_t k) {
    T of_y = 0, squares = 0, weights = 0, weighted_mean = 0, weighted = 0;
    for (int row = 0; row < kCount; ++row) {
      const T w = kHasLogvar ? cpu::exp(-logvar[row * width + k]) : T{1};
      const T p = y[row * width + k] - centre[k], q = mu[row * width + k] - centre[k];
      of_y += p;
      squares += p * p;
      weights += w;
      weighted_mean += w * q;
      weighted += w * (p * (p - 2 * q));
    }
    sums[kY][k] += of_y;
    sums[kSquares][k] += squares;
    sums[kWeights][k] += weights;
    sums[kWeightedMean][k] += weighted_mean;
    sums[kWeighted][k] += weighted;
  };
  std::int64_t line = 0;
  for (; line + kLine <= count; line += kLine) {
    for (int row = 0; row < kCount; ++row) {
      __builtin_prefetch(y + (kAhead + row) * width + line, 0, kSecondLevel);
      __builtin_prefetch(mu + (kAhead + row) * width + line, 0, kSecondLevel);
      if (kHasLogvar) __builtin_prefetch(logvar + (kAhead + row) * width + line, 0, kSecondLevel);
    }
#pragma omp simd
    for (std::int64_t k = line; k < line + kLine; ++k) add(k);
  }
#pragma omp simd
  for (std::int64_t k = line; k < count; ++k) add(k);
}

/// Of columns [first, first + count) over a chunk, to out [kClubChunkSums, width].
template <class T, bool kHasLogvar>
void sum_chunk(const ClubForward<T>& a, std::int64_t begin, std::int64_t end, std::int64_t first,
               std::int64_t count, double* out) {
  alignas(64) T centre[kColumns] = {};
  const std::int64_t first_rows = std::min(kRows, end - begin);
  for (std::int64_t i = begin; i < begin + first_rows; ++i) {
    const T* y = a.y + i * a.width + first;
#pragma omp simd
    for (std::int64_t k = 0; k < count; ++k) centre[k] += y[k];
  }
  for (std::int64_t k = 0; k < count; ++k) centre[k] /= static_cast<T>(first_rows);
  for (int s = kCentre; s < kClubChunkSums; ++s) std::fill_n(out + s * a.width + first, count, 0.0);
  std::copy_n(centre, count, out + first);
  for (std::int64_t block = begin; block < end; block += kRows) {
    alignas(64) T sums[kClubChunkSums][kColumns] = {};
    const std::int64_t stop = std::min(block + kRows, end);
    std::int64_t i = block;
    for (; i + kTogether <= stop; i += kTogether) {
      add_rows<T, kHasLogvar, kTogether>(a, i * a.width + first, count, centre, sums);
    }
    for (; i < stop; ++i) {
      add_rows<T, kHasLogvar, 1>(a, i * a.width + first, count, centre, sums);
    }
    for (int s = kY; s < kClubChunkSums; ++s) {
      double* const total = out + s * a.width + first;
#pragma omp simd
      for (std::int64_t k = 0; k < count; ++k) total[k] += static_cast<double>(sums[s][k]);
    }
  }
}

/// moments = the chunks' sums, in order, about the mean m of all rows: with m = centre + shift, a
/// and b are less by shift, sum a^2 = squares - 2 shift sum y + n shift^2, sum w b less by shift
/// sum w, and sum w (a^2 - 2ab) more by shift (2 sum w b - shift sum w).
template <class T>
void merge_chunks(const ClubForward<T>& a) {
  const std::int64_t grain = ClubForward<T>::grain(a.rows), width = a.width;
  const auto for_chunks = [&](auto&& f) {
    for (std::int64_t begin = 0; begin < a.rows; begin += grain) {
      f(static_cast<double>(std::min(grain, a.rows - begin)),
        a.partial + begin / grain * kClubChunkSums * width);
    }
  };
  double* const to = a.moments;
  std::fill_n(to, kClubMoments * width, 0.0);
  for_chunks([&](double rows, const double* from) {
#pragma omp simd
    for (std::int64_t k = 0; k < width; ++k) {
      to[k] += (rows * from[k] + from[kY * width + k]) / static_cast<double>(a.rows);
    }
  });
  for_chunks([&](double rows, const double* from) {
#pragma omp simd
    for (std::int64_t k = 0; k < width; ++k) {
      const double shift = to[k] - from[k], weights = from[kWeights * width + k],
                   weighted_mean = from[kWeightedMean * width + k];
      to[kClubSquares * width + k] +=
          from[kSquares * width + k] + shift * (rows * shift - 2 * from[kY * width + k]);
      to[kClubWeights * width + k] += weights;
      to[kClubWeightedMean * width + k] += weighted_mean - shift * weights;
      to[kClubWeighted * width + k] +=
          from[kWeighted * width + k] + shift * (2 * weighted_mean - shift * weights);
    }
  });
}

template <class T>
void forward(const ClubForward<T>& a) {
  const std::int64_t grain = ClubForward<T>::grain(a.rows);
  const auto chunk = a.logvar ? &sum_chunk<T, true> : &sum_chunk<T, false>;
  parallel_for(0, a.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    double* sums = a.partial + begin / grain * kClubChunkSums * a.width;
    for (std::int64_t first = 0; first < a.width; first += kColumns) {
      chunk(a, begin, end, first, std::min(kColumns, a.width - first), sums);
    }
  });
  merge_chunks(a);
  const double* moments = a.moments;
  double sum = 0;
  for (std::int64_t k = 0; k < a.width; ++k) {
    sum += moments[kClubWeighted * a.width + k] - moments[kClubSquares * a.width + k] *
                                                      moments[kClubWeights * a.width + k] /
                                                      static_cast<double>(a.rows);
  }
  // One row has no other: its terms cancel but for rounding, and for weights that are infinite.
  *a.value = a.rows == 1 ? T{0} : static_cast<T>(-0.5 * a.scale * sum);
}

/// Means of columns in two parts of T: an element less both loses nothing to the mean's size.
template <class T>
struct Centre {
  T high[kColumns], low[kColumns];

  Centre(const double* mean, std::int64_t count) {
#pragma omp simd
    for (std::int64_t k = 0; k < count; ++k) {
      high[k] = static_cast<T>(mean[k]);
      low[k] = static_cast<T>(mean[k] - static_cast<double>(high[k]));
    }
  }
  [[gnu::always_inline]] T operator()(T x, std::int64_t k) const { return x - high[k] - low[k]; }
};

/// The gradients of columns [first, first + count) over a chunk of rows.
template <class T, bool kHasLogvar>
void backward_chunk(const ClubBackward<T>& a, std::int64_t begin, std::int64_t end,
                    std::int64_t first, std::int64_t count) {
  const Centre<T> centred(a.moments + first, count);
  const auto mean_of = [&](ClubMoment moment, T* to) {
    for (std::int64_t k = 0; k < count; ++k) {
      to[k] = static_cast<T>(a.moments[moment * a.width + first + k] / static_cast<double>(a.rows));
    }
  };
  T variance[kColumns], weight[kColumns], weighted_mean[kColumns];
  mean_of(kClubSquares, variance);
  mean_of(kClubWeights, weight);
  mean_of(kClubWeightedMean, weighted_mean);
  const auto c = static_cast<T>(a.scale * static_cast<double>(*a.cotangent));
  T unwanted[kColumns];  // where what is null would be
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t at = i * a.width + first;
    const T *mu = a.mu + at, *y = a.y + at, *logvar = kHasLogvar ? a.logvar + at : nullptr;
    T *dmu = a.dmu ? a.dmu + at : unwanted, *dlogvar = a.dlogvar ? a.dlogvar + at : unwanted,
      *dy = a.dy ? a.dy + at : unwanted;
#pragma omp simd
    for (std::int64_t k = 0; k < count; ++k) {
      const T w = kHasLogvar ? cpu::exp(-logvar[k]) : T{1};
      const T p = centred(y[k], k), q = centred(mu[k], k);
      const T pull = c * w;
      dmu[k] = pull * p;
      dlogvar[k] = T(0.5) * pull * (p * (p - 2 * q) - variance[k]);
      dy[k] = pull * (q - p) + c * (p * weight[k] - weighted_mean[k]);
    }
  }
}

template <class T>
void backward(const ClubBackward<T>& a) {
  if (a.rows == 1) {  // whose bound is 0 whatever it is; the terms show that but for their rounding
    for (T* gradient : {a.dmu, a.dlogvar, a.dy})
      if (gradient != nullptr) std::fill_n(gradient, a.width, T{0});
    return;
  }
  const auto chunk = a.logvar ? &backward_chunk<T, true> : &backward_chunk<T, false>;
  parallel_for(0, a.rows, rows_per_chunk(a.width, 16384),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t first = 0; first < a.width; first += kColumns) {
                   chunk(a, begin, end, first, std::min(kColumns, a.width - first));
                 }
               });
}

const RegisterCpu registered{kIsa, &forward<float>, &forward<double>, &backward<float>,
                             &backward<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
