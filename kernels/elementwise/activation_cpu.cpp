#include "kernels/elementwise/activation.h"

#include <algorithm>

#include "core/parallel.h"
#include "kernels/cpu/activation_math.h"
#include "kernels/cpu/dropout_mask.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

constexpr std::int64_t kGrain = 4096;  // elements

template <Activation activation, class T>
void forward_loop(const T* x, T* y, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) y[i] = cpu::activate<activation>(x[i]);
}

template <class T>
void forward(const ActivationForward<T>& a) {
  cpu::dispatch_activation(a.activation, [&]<Activation activation>() {
    parallel_for(0, a.count, kGrain, [&](std::int64_t begin, std::int64_t end) {
      forward_loop<activation>(a.x + begin, a.y + begin, end - begin);
    });
  });
}

template <Activation activation, class T>
void backward_loop(const T* dy, const T* saved, T* dx, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) {
    dx[i] = dy[i] * cpu::activation_derivative<activation>(saved[i]);
  }
}

/// With dropout, for elements [begin, end); begin is a multiple of the mask's tile.
template <Activation activation, class T>
void dropped_backward_loop(const ActivationBackward<T>& a, std::int64_t begin, std::int64_t end) {
  const T* dy = a.dy;
  const T* saved = a.saved;
  T* dx = a.dx;
  const T scale = static_cast<T>(a.dropout.scale());
  if constexpr (activation == Activation::relu) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) dx[i] = saved[i] > T{0} ? dy[i] * scale : T{0};
  } else {
    const T unscale = saved_by(activation) == ActivationSaves::output ? T(1.0 - a.dropout.p) : T{1};
    const auto threshold = static_cast<std::int32_t>(a.dropout.threshold());
    for (std::int64_t tile = begin; tile < end; tile += cpu::kMaskTile) {
      std::uint32_t words[cpu::kMaskTile];
      cpu::draw_mask(a.dropout, tile, words);
      const std::int64_t count = std::min(end - tile, cpu::kMaskTile);
#pragma omp simd
      for (std::int64_t j = 0; j < count; ++j) {
        T gradient = dy[tile + j] * scale;
        if constexpr (activation != Activation::none) {
          gradient *= cpu::activation_derivative<activation>(saved[tile + j] * unscale);
        }
        dx[tile + j] = cpu::is_kept(words[j], threshold) ? gradient : T{0};
      }
    }
  }
}

template <class T>
void add_to_sums(const T* row, double* sums, std::int64_t width) {
#pragma omp simd
  for (std::int64_t j = 0; j < width; ++j) sums[j] += static_cast<double>(row[j]);
}

/// dx of some rows and, where wanted, their column sums, row by row while the row is in the
/// first-level cache; with dropout dx of them all first, since kGrain rows begin with a tile of the
/// mask and a row may not.
template <Activation activation, class T>
void backward_rows(const ActivationBackward<T>& a, std::int64_t begin, std::int64_t end) {
  static_assert(ActivationBackward<T>::kGrain % cpu::kMaskTile == 0);
  double* sums = nullptr;
  if (a.column_sums != nullptr) {
    sums = a.workspace + begin / a.kGrain * a.width;
    std::fill_n(sums, a.width, 0.0);
  }
  const bool dropped = a.dropout.p > 0;
  if (dropped) dropped_backward_loop<activation>(a, begin * a.width, end * a.width);
  for (std::int64_t i = begin * a.width; i < end * a.width; i += a.width) {
    const T* gradient = a.dy + i;
    if (dropped) {
      gradient = a.dx + i;
    } else if constexpr (activation != Activation::none) {
      backward_loop<activation>(gradient, a.saved + i, a.dx + i, a.width);
      gradient = a.dx + i;
    } else if (a.dx != nullptr && a.dx != a.dy) {
      std::copy_n(gradient, a.width, a.dx + i);
    }
    if (sums != nullptr) add_to_sums(gradient, sums, a.width);
  }
}

template <class T>
void merge(const ActivationBackward<T>& a) {
  const std::int64_t chunks = chunk_count(0, a.rows, a.kGrain);
  double* total = a.workspace;
  for (std::int64_t c = 1; c < chunks; ++c) add_to_sums(a.workspace + c * a.width, total, a.width);
  for (std::int64_t j = 0; j < a.width; ++j) {
    a.column_sums[j] = chunks == 0 ? T{0} : static_cast<T>(total[j]);
  }
}

template <class T>
void backward(const ActivationBackward<T>& a) {
  cpu::dispatch_activation(a.activation, [&]<Activation activation>() {
    parallel_for(0, a.rows, a.kGrain, [&](std::int64_t begin, std::int64_t end) {
      backward_rows<activation>(a, begin, end);
    });
  });
  if (a.column_sums != nullptr) merge(a);
}

const RegisterCpu registered{kIsa, &forward<float>, &forward<double>, &backward<float>,
                             &backward<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
