// What the bounds of mutual information over all pairs of a batch share: a separable critic, the
// sums over its scores, and the gradient through them (kernels/information/pairs.h).
#pragma once

#include "autograd/precision.h"
#include "autograd/tape.h"
#include "kernels/information/pairs.h"

namespace cmir::losses {

/// A bilinear critic a^T W b is `dot` of ops::linear(a, W^T), without a bias, and b.
enum class Critic {
  cosine,  ///< of each pair of rows; a row of zeros has cosine 0 with every other
  dot,
};

/// The scores of a pair of rows: s_ij = critic(a_i, b_j) exp(log_scale) / temperature.
struct CriticOptions {
  Critic critic = Critic::dot;
  double temperature = 1;   ///< > 0
  Variable log_scale = {};  ///< one element, learnt; undefined: 0
};

/// x [N, d] with each row divided by its Euclidean norm; a row of zeros stays zeros, and so is its
/// gradient.
Variable unit_rows(const Variable& x);

/// The inputs of an op over all pairs: a, b and log_scale, if it is defined; with unit rows for
/// Critic::cosine. Error, in the name of `op`: the temperature is not positive.
std::vector<Variable> pair_inputs(std::string_view op, const Variable& a, const Variable& b,
                                  const CriticOptions& options);

/// Tensors that kernels::PairSums fills, and its scratch; those of columns may be undefined.
struct PairSumTensors {
  Tensor diagonal, row_largest, row_sum, column_largest, column_sum, workspace, partial;
  Tensor kept = {};  ///< the scores, where PairGradient need not recompute them

  template <class T>
  kernels::PairTotals<T> totals() const {
    return {diagonal.data<T>(), row_largest.data<T>(), row_sum.data<double>(), diagonal.size(0)};
  }
};

/// The weights and shifts that a forward kernel leaves for kernels::PairGradient: [3, n], or [5, n]
/// with columns; undefined where no gradient is wanted.
struct PairWeightTensor {
  Tensor values;

  /// For the samples of x.
  PairWeightTensor(const Tensor& x, DType dtype, bool columns, bool wanted)
      : values(wanted ? Tensor::empty({columns ? 5 : 3, x.size(0)}, dtype, x.device()) : Tensor()) {
  }
  explicit PairWeightTensor(Tensor saved) : values(std::move(saved)) {}

  /// To be written, and to be read: what was saved does not count as changed.
  template <class T>
  kernels::PairWeights<T> to_write() {
    return values.defined() ? parts(values.mutable_data<T>()) : kernels::PairWeights<T>{};
  }
  template <class T>
  kernels::PairWeights<const T> to_read() const {
    return parts(values.data<T>());
  }

 private:
  template <class T>
  kernels::PairWeights<T> parts(T* first) const {
    const std::int64_t n = values.size(1);
    const bool columns = values.size(0) == 5;
    return {first, first + n, columns ? first + 3 * n : nullptr, columns ? first + 4 * n : nullptr,
            first + 2 * n};
  }
};

/// The scores s_ij = factor exp(log_scale) a_i . b_j, without exp where log_scale is undefined. In
/// Precision::bf16 a and b are rounded copies; log_scale, sums and gradients stay f32.
struct AllPairs {
  Tensor a, b, log_scale;
  double factor;
  Tensor kept = {};  ///< PairSumTensors::kept of what save() kept

  /// Of an op's inputs. Errors, in its name: a and b are not two [N, d] of one shape and dtype, not
  /// empty; log_scale is not one element of that dtype.
  AllPairs(std::string_view op, std::span<const Tensor> inputs, double factor, Precision precision);
  /// What save() kept, which is kSaved tensors.
  static constexpr std::size_t kSaved = 5;
  AllPairs(const OpContext& context, double factor);
  /// s_ij = a_i . b_j
  AllPairs(Tensor of_rows, Tensor of_columns)
      : a(std::move(of_rows)), b(std::move(of_columns)), factor(1) {}

  /// Room for the sums. `for_gradients`: they will be asked for.
  PairSumTensors sum_tensors(bool columns, bool for_gradients) const;
  /// The kernel that fills it; T: of a and b.
  template <class T>
  kernels::PairSums<T> sums(PairSumTensors& tensors) const;
  void save(OpContext& context, const PairSumTensors& sums, const PairWeightTensor& weights) const;
  /// Of the op's inputs, for the cotangent: of each sample, or one.
  Gradients gradients(const OpContext& context, const Tensor& cotangent) const;
  /// The gradients by a and b, those that are wanted.
  std::pair<Tensor, Tensor> factor_gradients(const OpContext& context, const Tensor& cotangent,
                                             bool of_a, bool of_b) const;

 private:
  template <class T>
  kernels::PairScores<T> scores() const;
  template <class T>
  void run_gradient(const PairWeightTensor& weights, const Tensor& cotangent, Tensor& da,
                    Tensor& db) const;
  template <class T>
  Tensor scale_gradient(const Tensor& da) const;
};

}  // namespace cmir::losses
