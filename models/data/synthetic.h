// The synthetic causal benchmark: data drawn from a causal model whose factors are known.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/data/dataset.h"

namespace cmir {

struct SyntheticModality {
  std::string name;
  std::int64_t width = 32;
  bool sequence = false;  ///< ragged steps instead of one vector
};

/// Per modality m, factors z_inv,m ~ N(0, I). The label's latent value
///     y = sqrt(1 - label_noise^2) * sum_m <a_m, z_inv,m> + label_noise * N(0, 1)        (|a| = 1,
///     so y ~ N(0, 1))
/// does not look at the environment. The spurious factors do, component by component:
///     z_spu,m = rho_e * y + sqrt(1 - rho_e^2) * N(0, 1).
/// Training environments e = 0 .. E-1 have rho_e = spurious * (1 - spread * e / max(E-1, 1)); parts
/// train, valid and test mix them evenly. test_ood is environment E, with rho = ood_spurious: by
/// default the correlation turned round. Observed:
///     x = A_m (invariant_gain * z_inv,m ; spurious_gain * z_spu,m) + noise * N(0, I),       A_m ~
///     N(0, 1 / factors) fixed.
/// A sequence shows this, noise included, in each of its L steps, L uniform in min_length ..
/// max_length, under fresh noise of the same size and a label-free wave of random phase along a
/// fixed direction: averaging over time does not remove the sample's own noise.
struct SyntheticOptions {
  std::int64_t samples = 2000;
  std::uint64_t seed = 0;
  std::vector<SyntheticModality> modalities = {{"text"}, {"audio"}, {"video"}};
  std::int64_t invariant_factors = 4;  ///< per modality
  std::int64_t spurious_factors = 2;   ///< per modality
  std::int64_t environments = 2;       ///< training environments E
  double spurious = 0.9;               ///< correlation with y, -1..1
  double spread = 0.3;                 ///< 0..1, how much weaker the last training environment's is
  double ood_spurious = -0.9;          ///< correlation in test_ood
  double label_noise = 0.3;            ///< 0..1
  double noise = 0.5;                  ///< of the observation
  double invariant_gain = 1;
  double spurious_gain = 1;
  std::int64_t min_length = 5;
  std::int64_t max_length = 20;
  LabelKind label = LabelKind::regression;
  std::int64_t classes = 3;  ///< of a multi-class label, equally frequent
};

/// "synthetic", or "synthetic:n=2000,seed=1,spurious=0.9,modalities=3,kind=sequence". Keys: n,
/// seed, modalities, names, widths, kind (vector or sequence), invariant, spurious_factors,
/// environments, spurious, spread, ood (default: minus spurious), label_noise, noise,
/// invariant_gain, spurious_gain, min_length, max_length, label (regression, binary, multiclass),
/// classes. Lists are divided by "/": widths=768/74/47. An unknown key or bad value is an Error
/// that says which.
SyntheticOptions parse_synthetic(std::string_view text);

/// Labels: "label" is regression 1.5 y cut to -3..3, or y > 0, or the class by quantile. Split:
/// "split" with 50 % train, 10 % valid, 20 % test, 20 % test_ood, at random. Extras: "environment"
/// i32 [n]; "truth.invariant.<m>" and "truth.spurious.<m>" f32 [n, factors]; "truth.y" f32 [n]. The
/// same options give the same bits.
Dataset make_synthetic(const SyntheticOptions& options);

}  // namespace cmir
