// kernels/cuda/blas.h on a GPU. cuBLAS is column-major: what it is given is the transposed product.
#pragma once

#include <cublasLt.h>
#include <cublas_v2.h>

#include <algorithm>
#include <memory>
#include <string_view>
#include <type_traits>

#include "core/cuda/runtime.h"
#include "core/error.h"

namespace cmir::kernels::cuda {

inline void check_blas(cublasStatus_t status, std::string_view op, std::string_view call) {
  if (status != CUBLAS_STATUS_SUCCESS) {
    fail(ErrorKind::internal, op, "{}: {}", call, cublasGetStatusString(status));
  }
}

/// The handles of one thread and GPU, with a workspace of their own: made by the first product,
/// which therefore must not be captured in a graph.
struct Blas {
  static constexpr std::size_t kWorkspaceBytes = 32 << 20;  // NVIDIA's advice for an H100
  cublasHandle_t handle = nullptr;
  cublasLtHandle_t lt = nullptr;
  void* workspace = nullptr;

  explicit Blas(std::string_view op) {
    check_blas(cublasCreate(&handle), op, "cublasCreate");
    check_blas(cublasLtCreate(&lt), op, "cublasLtCreate");
    const cudaError_t status = cudaMalloc(&workspace, kWorkspaceBytes);
    require(status == cudaSuccess, op, "cudaMalloc of {} bytes for cuBLAS: {}", kWorkspaceBytes,
            cudaGetErrorString(status));
  }
  Blas(const Blas&) = delete;
  Blas& operator=(const Blas&) = delete;

  /// The calling thread's, for the process's device, which current_stream() must have made the
  /// thread's. Never destroyed: threads end after CUDA does, and graphs keep the workspace.
  static Blas& of_thread(std::string_view op) {
    thread_local Blas* const blas = new Blas(op);
    return *blas;
  }
};

/// cuBLAS's name of float or BFloat16.
template <class T>
inline constexpr cudaDataType_t kDataType = std::is_same_v<T, BFloat16> ? CUDA_R_16BF : CUDA_R_32F;

/// Sums are f32 always.
inline cublasComputeType_t compute_type(bool tf32) {
  return tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

/// The product of g; k > 0.
template <class T>
void product(const Gemm<T>& g) {
  constexpr std::string_view op = Gemm<T>::name;
  cudaStream_t stream = ::cmir::cuda::current_stream().handle();
  const Blas& blas = Blas::of_thread(op);
  check_blas(cublasSetStream(blas.handle, stream), op, "cublasSetStream");
  // After every cublasSetStream, which goes back to a workspace of cuBLAS's own.
  check_blas(cublasSetWorkspace(blas.handle, blas.workspace, Blas::kWorkspaceBytes), op,
             "cublasSetWorkspace");
  const auto transposed = [](bool transpose) { return transpose ? CUBLAS_OP_T : CUBLAS_OP_N; };
  check_blas(
      cublasGemmEx_64(blas.handle, transposed(g.transpose_b), transposed(g.transpose_a), g.n, g.m,
                      g.k, &g.alpha, g.b, kDataType<T>, g.ldb, g.a, kDataType<T>, g.lda, &g.beta,
                      g.c, CUDA_R_32F, g.ldc, compute_type(g.tf32), CUBLAS_GEMM_DEFAULT),
      op, "cublasGemmEx");
}

/// Descriptors of cuBLASLt, destroyed at the end of the scope.
template <auto kDestroy>
struct Destroy {
  template <class T>
  void operator()(T* descriptor) const {
    kDestroy(descriptor);
  }
};
template <class Handle, auto kDestroy>
using Descriptor = std::unique_ptr<std::remove_pointer_t<Handle>, Destroy<kDestroy>>;
using Layout = Descriptor<cublasLtMatrixLayout_t, &cublasLtMatrixLayoutDestroy>;

/// A row-major matrix [rows, columns] of T, which cuBLASLt sees as its transpose.
template <class T>
Layout row_major(std::string_view op, std::int64_t rows, std::int64_t columns) {
  cublasLtMatrixLayout_t layout = nullptr;
  check_blas(cublasLtMatrixLayoutCreate(&layout, kDataType<T>, static_cast<std::uint64_t>(columns),
                                        static_cast<std::uint64_t>(rows), columns),
             op, "cublasLtMatrixLayoutCreate");
  return Layout(layout);
}

/// The largest power of two up to 256 that divides the address.
inline std::uint32_t alignment_of(const void* place) {
  const auto address = reinterpret_cast<std::uintptr_t>(place) | 256;
  return static_cast<std::uint32_t>(address & (~address + 1));
}

/// y^T = weight x^T: its description with the epilogue.
template <class T>
auto linear_description(const LinearForward<T>& a, bool bias, bool relu) {
  constexpr std::string_view op = LinearForward<T>::name;
  cublasLtMatmulDesc_t description = nullptr;
  check_blas(cublasLtMatmulDescCreate(&description, compute_type(a.tf32), CUDA_R_32F), op,
             "cublasLtMatmulDescCreate");
  Descriptor<cublasLtMatmulDesc_t, &cublasLtMatmulDescDestroy> owner(description);
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    check_blas(cublasLtMatmulDescSetAttribute(description, attribute, &value, sizeof(value)), op,
               "cublasLtMatmulDescSetAttribute");
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  set(CUBLASLT_MATMUL_DESC_EPILOGUE,
      bias ? (relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS)
           : (relu ? CUBLASLT_EPILOGUE_RELU : CUBLASLT_EPILOGUE_DEFAULT));
  if (bias) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, a.bias);
  return owner;
}

/// What an algorithm may use: the workspace, and no more alignment than there is.
template <class T>
auto linear_preference(const LinearForward<T>& a) {
  constexpr std::string_view op = LinearForward<T>::name;
  cublasLtMatmulPreference_t preference = nullptr;
  check_blas(cublasLtMatmulPreferenceCreate(&preference), op, "cublasLtMatmulPreferenceCreate");
  Descriptor<cublasLtMatmulPreference_t, &cublasLtMatmulPreferenceDestroy> owner(preference);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    check_blas(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
               op, "cublasLtMatmulPreferenceSetAttribute");
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{Blas::kWorkspaceBytes});
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(a.weight));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(a.x));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(a.y));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(a.y));
  return owner;
}

/// a.y = x weight^T, with `bias` its bias and with `relu` the larger of that and 0; in > 0. No
/// other activation, and no pre_activation. False, and nothing done, where cuBLASLt has no
/// algorithm for these sizes and addresses.
template <class T>
bool linear_product(const LinearForward<T>& a, bool bias, bool relu) {
  constexpr std::string_view op = LinearForward<T>::name;
  cudaStream_t stream = ::cmir::cuda::current_stream().handle();
  const Blas& blas = Blas::of_thread(op);
  const auto description = linear_description(a, bias, relu);
  const auto preference = linear_preference(a);
  const Layout weight = row_major<T>(op, a.out, a.in), x = row_major<T>(op, a.rows, a.in),
               y = row_major<float>(op, a.rows, a.out);
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(blas.lt, description.get(), weight.get(), x.get(), y.get(),
                                     y.get(), preference.get(), 1, &best, &found);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return false;
  check_blas(status, op, "cublasLtMatmulAlgoGetHeuristic");
  if (found == 0 || best.state != CUBLAS_STATUS_SUCCESS) return false;
  const float alpha = 1, beta = 0;
  check_blas(cublasLtMatmul(blas.lt, description.get(), &alpha, a.weight, weight.get(), a.x,
                            x.get(), &beta, a.y, y.get(), a.y, y.get(), &best.algo, blas.workspace,
                            Blas::kWorkspaceBytes, stream),
             op, "cublasLtMatmul");
  return true;
}

}  // namespace cmir::kernels::cuda
