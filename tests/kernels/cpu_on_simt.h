// The CPU's kernels on the simt device: a test of everything around kernels (allocation, copies,
// what the host reads and writes) without a kernel of CUDA.
#pragma once

#include "kernels/attention/attention.h"
#include "kernels/convolution/conv1d.h"
#include "kernels/dropout/dropout.h"
#include "kernels/elementwise/activation.h"
#include "kernels/elementwise/axpy.h"
#include "kernels/elementwise/binary.h"
#include "kernels/elementwise/round.h"
#include "kernels/embedding/embedding.h"
#include "kernels/information/club.h"
#include "kernels/information/club_sample.h"
#include "kernels/information/gaussian.h"
#include "kernels/information/gaussian_scores.h"
#include "kernels/information/info_nce.h"
#include "kernels/information/leave_one_out.h"
#include "kernels/information/pair_bound.h"
#include "kernels/information/pairs.h"
#include "kernels/information/prior_divergence.h"
#include "kernels/information/unit_rows.h"
#include "kernels/invariance/coral.h"
#include "kernels/invariance/environment_penalty.h"
#include "kernels/invariance/gaussian_mmd.h"
#include "kernels/invariance/hsic.h"
#include "kernels/invariance/loss_slope.h"
#include "kernels/kernel.h"
#include "kernels/loss/corrupt.h"
#include "kernels/loss/decorrelation.h"
#include "kernels/loss/divergence.h"
#include "kernels/loss/invariance.h"
#include "kernels/loss/noise_variants.h"
#include "kernels/loss/normalise.h"
#include "kernels/loss/prediction.h"
#include "kernels/loss/squared_distance.h"
#include "kernels/matrix/gemm.h"
#include "kernels/matrix/linear.h"
#include "kernels/matrix/linear_backward.h"
#include "kernels/norm/layer_norm.h"
#include "kernels/optimizer/adamw.h"
#include "kernels/pool/mean_pool.h"
#include "kernels/positions/positions.h"
#include "kernels/reduce/sum.h"
#include "kernels/rows/copy.h"
#include "kernels/softmax/softmax.h"

namespace cmir::kernels::testing {

/// The simt variant of Args is the CPU's while this lives.
template <class Args>
class CpuKernelOnSimt {
 public:
  CpuKernelOnSimt() : before_(Variants<Args>::simt) {
    Variants<Args>::simt = [](const Args& args) { run(Device{}, args); };
  }
  ~CpuKernelOnSimt() { Variants<Args>::simt = before_; }
  CpuKernelOnSimt(const CpuKernelOnSimt&) = delete;
  CpuKernelOnSimt& operator=(const CpuKernelOnSimt&) = delete;

 private:
  typename Variants<Args>::Function before_;
};

template <template <class> class... Kernels>
struct CpuKernelsOnSimt : CpuKernelOnSimt<Kernels<float>>...,
                          CpuKernelOnSimt<Kernels<double>>... {};

template <template <class> class... Kernels>
struct Bf16CpuKernelsOnSimt : CpuKernelOnSimt<RoundToBFloat16<float>>,
                              CpuKernelOnSimt<Kernels<BFloat16>>... {};

using AllCpuKernelsOfOneType = CpuKernelsOnSimt<
    ActivationBackward, ActivationForward, AdamWPrepare, AdamWStep, AddPositions, AttentionBackward,
    AttentionForward, Axpy, Binary, Broadcast, ClubBackward, ClubForward, ClubSampleBackward,
    ClubSampleForward, Conv1dBackwardInput, Conv1dBackwardWeight, Conv1dForward, CopyColumns, Coral,
    Corrupt, CrossEntropy, CrossEntropySlope, CrossNorm, Dropout, EmbeddingBackward,
    EmbeddingForward, EnvironmentPenalty, GaussianMmd, GaussianNllBackward, GaussianNllForward,
    GaussianScoresBackward, GaussianScoresForward, Gemm, GramNorm, Hsic, InfoNceForward,
    InvarianceBackward, InvarianceForward, LayerNormBackward, LayerNormForward, LeaveOneOutForward,
    LinearForward, LinearReluGradient, LinearWeightGradient, MeanOfSamples, MeanPoolBackward,
    MeanPoolForward, NoiseVariantsBackward, NoiseVariantsForward, NormaliseBackward,
    NormaliseForward, PairBoundForward, PairDivergence, PairGradient, PairSums, PointwiseLoss,
    PointwiseSlope, PositionsBackwardTable, PriorDivergenceBackward, PriorDivergenceForward, RowDot,
    Scale, ScaleRows, SoftmaxBackward, SoftmaxForward, SquaredDistanceBackward,
    SquaredDistanceForward, SquaredNorm, SumAll, SumOverColumns, SumOverRows, UnitRowsBackward,
    UnitRowsForward>;

struct AllCpuKernelsOnSimt
    : AllCpuKernelsOfOneType,
      CpuKernelOnSimt<Permute<std::int32_t>>,
      Bf16CpuKernelsOnSimt<AttentionBackward, AttentionForward, Conv1dBackwardInput,
                           Conv1dBackwardWeight, Conv1dForward, Gemm, InfoNceForward, LinearForward,
                           LinearReluGradient, PairGradient, PairSums, RowDot> {};

}  // namespace cmir::kernels::testing
