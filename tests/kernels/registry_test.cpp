// Walks the registry of kernels: each must be there for every instruction set, or a program would
// silently run a slower variant than its CPU could; and each for f32 must have a CUDA twin.
#include <gtest/gtest.h>

#include "kernels/kernel.h"

namespace cmir::kernels {
namespace {

TEST(KernelRegistry, EveryKernelHasEveryInstructionSet) {
  const auto kernels = registered_kernels();
  ASSERT_FALSE(kernels.empty());
  for (const KernelInfo& kernel : kernels) {
    for (const Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
      EXPECT_TRUE(kernel.cpu[static_cast<int>(isa)])
          << kernel.name << " has no variant for " << cmir::kernels::name_of(isa);
    }
  }
}

TEST(KernelRegistry, EveryF32KernelHasACudaTwin) {
  for (const KernelInfo& kernel : registered_kernels()) {
    if (kernel.name.ends_with("<f32>")) {
      EXPECT_TRUE(kernel.simt) << kernel.name;
    }
  }
}

}  // namespace
}  // namespace cmir::kernels
