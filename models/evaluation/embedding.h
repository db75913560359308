// Two-dimensional pictures of representations: principal components and t-SNE. Same input, same
// seed: same bits for any number of threads.
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace cmir {

/// Scores of the first `components` principal components: features [N, d] (f32 or f64, finite) ->
/// f64 [N, components], centred, in the order of falling variance. The d x d covariance is
/// diagonalised by cyclic Jacobi rotations (Golub and Van Loan, 8.5): O(d^3) per sweep, meant for d
/// up to a few hundred. The sign of a component makes its largest loading positive. Needs N >= 2
/// and components <= d.
Tensor pca(const Tensor& features, std::int64_t components = 2);

struct TsneOptions {
  double perplexity = 30;  ///< lowered to (N - 1) / 3 for few samples
  int iterations = 1000;
  double exaggeration =
      12;  ///< factor on the affinities during the first quarter of the iterations, at most 250
  double learning_rate = 0;  ///< 0: max(N / exaggeration / 4, 50)
  std::uint64_t seed = 0;
};

/// Exact t-SNE (van der Maaten and Hinton, JMLR 2008; gains and momentum as in the authors' code):
/// features [N, d] -> f64 [N, 2]. Starts from the principal components scaled to a deviation of
/// 1e-4 (Kobak and Berens, 2019), with a little noise from `seed` so that equal samples and
/// one-dimensional data spread too. O(N^2) per iteration, 4 N^2 bytes; N up to a few thousand.
/// Needs 4 <= N <= 20000 finite samples.
Tensor tsne(const Tensor& features, const TsneOptions& options = {});

}  // namespace cmir
