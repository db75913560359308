// Walks the registry of kernels: each must be there for every instruction set, or a program would
// silently run a slower variant than its CPU could; and each but those for f64 must have a CUDA
// twin. The document of error bounds must name each.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "tests/kernels/kernel_test.h"

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

TEST(KernelRegistry, EveryF32AndBf16KernelHasACudaTwin) {
  for (const KernelInfo& kernel : registered_kernels()) {
    if (!kernel.name.ends_with("<f64>")) {
      EXPECT_TRUE(kernel.simt) << kernel.name;
    }
  }
}

TEST(KernelRegistry, EveryKernelHasItsErrorBoundInTheDocument) {
  std::ifstream file(CMIR_SOURCE_DIR "/docs/precision.md");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  for (const KernelInfo& kernel : registered_kernels()) {
    const std::string name = kernel.name.substr(0, kernel.name.find('<'));
    EXPECT_NE(text.find("`" + name + "`"), std::string::npos) << name;
  }
}

/// Where CMIR_REQUIRE_GPU is set, a run that silently left the GPU out fails.
TEST(KernelDevices, TheGpuIsSweptWhereItIsRequired) {
  if (std::getenv("CMIR_REQUIRE_GPU") == nullptr) GTEST_SKIP() << "CMIR_REQUIRE_GPU is not set";
  EXPECT_TRUE(testing::gpu_present()) << cuda::unavailable_reason();
}

}  // namespace
}  // namespace cmir::kernels
