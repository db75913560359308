// Attention's kernels for warpgroups (sm_90a): the long samples of bf16 items that on_warpgroups()
// says they do.
#pragma once

#include "kernels/attention/attention.cuh"

namespace cmir::kernels::CMIR_DEVICE {

void forward_on_warpgroups(const AttentionForward<BFloat16>& a);
/// dquery, dkey and dvalue, and the states in the workspace.
void backward_on_warpgroups(const AttentionBackward<BFloat16>& a);

}  // namespace cmir::kernels::CMIR_DEVICE
