#include "kernels/convolution/conv1d.h"

#include <algorithm>
#include <type_traits>

#include "core/parallel.h"

#include "kernels/cpu/isa_begin.h"
#include "kernels/cpu/small_matrix.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

/// windows[r - begin] = the `taps` rows of x around r, zeros outside r's sample, for the rows
/// [begin, end).
template <class From, class T>
void gather_windows(const From* x, const std::int64_t* offsets, const Conv1dSizes& s,
                    std::int64_t begin, std::int64_t end, T* windows) {
  const std::int64_t width = s.in, padding = s.padding();
  // The sample of row `begin`: the last offset <= begin.
  const std::int64_t* bound = std::upper_bound(offsets, offsets + s.samples + 1, begin);
  for (std::int64_t r = begin; r < end; ++r, windows += s.window()) {
    while (r >= *bound) ++bound;
    const std::int64_t first = std::max(r - padding, bound[-1]);
    const std::int64_t last = std::min(r + padding + 1, *bound);
    T* own = windows + (first - (r - padding)) * width;
    std::fill(windows, own, T{0});
    if constexpr (std::is_same_v<From, T>) {
      own = std::copy(x + first * width, x + last * width, own);
    } else {
      own = std::transform(x + first * width, x + last * width, own,
                           [](From value) { return static_cast<T>(value); });
    }
    std::fill(own, windows + s.window(), T{0});
  }
}

/// y [rows, s.out] = start (or 0) + windows of x [rows, s.in] times the packed weight.
template <class From, class T>
void correlate(const From* x, const std::int64_t* offsets, const T* packed, const T* start, T* y,
               const Conv1dSizes& s, T* buffers) {
  const std::int64_t grain = conv1d_grain(s.rows, kConv1dRowChunks);
  parallel_for(0, s.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    T* windows = buffers + begin / grain * kConv1dBlock * s.window();
    for (std::int64_t r = begin; r < end; r += kConv1dBlock) {
      const std::int64_t rows = std::min(kConv1dBlock, end - r);
      gather_windows(x, offsets, s, r, r + rows, windows);
      T* out = y + r * s.out;
      if (start == nullptr) {
        multiply<false>(rows, s.out, s.window(), windows, s.window(), std::int64_t{1}, packed, out,
                        s.out);
      } else {
        for (std::int64_t i = 0; i < rows; ++i) std::copy_n(start, s.out, out + i * s.out);
        multiply<true>(rows, s.out, s.window(), windows, s.window(), std::int64_t{1}, packed, out,
                       s.out);
      }
    }
  });
}

template <class T>
void forward(const Conv1dForward<T>& a) {
  const Conv1dSizes& s = a.sizes;
  parallel_for(0, s.taps, 1, [&](std::int64_t t, std::int64_t) {
    pack(a.weight + t, s.taps, s.window(), s.in, s.out, s.window(),
         a.workspace + t * s.in * kPanel<SumOf<T>>);
  });
  correlate(a.x, a.offsets, a.workspace, a.bias, a.y, s,
            a.workspace + cpu::packed_size<SumOf<T>>(s.window(), s.out));
}

template <class T>
void backward_input(const Conv1dBackwardInput<T>& a) {
  const Conv1dSizes& s = a.sizes;
  const Conv1dSizes exchanged{s.rows, s.samples, s.out, s.in, s.taps};
  parallel_for(0, s.taps, 1, [&](std::int64_t t, std::int64_t) {
    pack(a.weight + (s.taps - 1 - t), s.window(), s.taps, s.out, s.in, exchanged.window(),
         a.workspace + t * s.out * kPanel<SumOf<T>>);
  });
  correlate(a.dy, a.offsets, a.workspace, static_cast<const SumOf<T>*>(nullptr), a.dx, exchanged,
            a.workspace + cpu::packed_size<SumOf<T>>(exchanged.window(), exchanged.out));
}

template <class T>
void backward_weight(const Conv1dBackwardWeight<T>& a) {
  using Sum = SumOf<T>;
  const Conv1dSizes& s = a.sizes;
  if (s.rows == 0) {
    std::fill_n(a.dweight, s.out * s.window(), Sum{0});
    if (a.dbias != nullptr) std::fill_n(a.dbias, s.out, Sum{0});
    return;
  }
  const std::int64_t grain = conv1d_grain(s.rows, kConv1dWeightChunks);
  const std::int64_t chunks = chunk_count(0, s.rows, grain);
  const std::int64_t chunk_size = conv1d_backward_weight_chunk<T>(s);
  // A chunk's sums [window + 1, out]: dweight transposed, then dbias.
  const std::int64_t sums_at =
      kConv1dBlock * s.window() + cpu::packed_size<Sum>(kConv1dBlock, s.out);
  parallel_for(0, s.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    Sum* windows = a.workspace + begin / grain * chunk_size;
    Sum* packed = windows + kConv1dBlock * s.window();
    Sum* sums = windows + sums_at;
    std::fill_n(sums, (s.window() + 1) * s.out, Sum{0});
    for (std::int64_t r = begin; r < end; r += kConv1dBlock) {
      const std::int64_t rows = std::min(kConv1dBlock, end - r);
      const T* dy = a.dy + r * s.out;
      gather_windows(a.x, a.offsets, s, r, r + rows, windows);
      pack(dy, s.out, std::int64_t{1}, rows, s.out, rows, packed);
      multiply<true>(s.window(), s.out, rows, windows, std::int64_t{1}, s.window(), packed, sums,
                     s.out);
      Sum* bias = sums + s.window() * s.out;
      for (std::int64_t i = 0; i < rows; ++i) {
#pragma omp simd
        for (std::int64_t o = 0; o < s.out; ++o) bias[o] += static_cast<Sum>(dy[i * s.out + o]);
      }
    }
  });
  parallel_for(0, s.window() + 1, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {  // row = t * in + i
      Sum* total = a.workspace + sums_at + row * s.out;
      for (std::int64_t c = 1; c < chunks; ++c) {
        const Sum* part = total + c * chunk_size;
#pragma omp simd
        for (std::int64_t o = 0; o < s.out; ++o) total[o] += part[o];
      }
      if (row == s.window()) {
        if (a.dbias != nullptr) std::copy_n(total, s.out, a.dbias);
      } else {
        Sum* to = a.dweight + row % s.in * s.taps + row / s.in;
        for (std::int64_t o = 0; o < s.out; ++o) to[o * s.window()] = total[o];
      }
    }
  });
}

const RegisterCpu registered{kIsa,
                             &forward<float>,
                             &forward<double>,
                             &backward_input<float>,
                             &backward_input<double>,
                             &backward_weight<float>,
                             &backward_weight<double>,
                             &forward<BFloat16>,
                             &backward_input<BFloat16>,
                             &backward_weight<BFloat16>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
