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

/// A row-major matrix, which cuBLASLt sees as its transpose.
template <class T>
struct RowMajor {
  T* data;
  std::int64_t rows, columns;

  Layout layout(std::string_view op) const {
    cublasLtMatrixLayout_t layout = nullptr;
    check_blas(cublasLtMatrixLayoutCreate(&layout, kDataType<std::remove_const_t<T>>,
                                          static_cast<std::uint64_t>(columns),
                                          static_cast<std::uint64_t>(rows), columns),
               op, "cublasLtMatrixLayoutCreate");
    return Layout(layout);
  }
  /// The largest power of two up to 256 that divides the address.
  std::uint32_t alignment() const {
    const auto address = reinterpret_cast<std::uintptr_t>(data) | 256;
    return static_cast<std::uint32_t>(address & (~address + 1));
  }
};

/// d^T = op(a^T) op(b^T) with an epilogue, by cuBLASLt.
template <class T>
struct LtProduct {
  std::string_view op;
  RowMajor<const T> a, b;
  cublasOperation_t op_a, op_b;  // of the transposes
  RowMajor<float> d;
  bool tf32;
  cublasLtEpilogue_t epilogue;
  const float* bias;         // or the bias gradient, which is written
  const std::uint8_t* mask;  // of relu, read or written; or null

  auto description() const {
    cublasLtMatmulDesc_t description = nullptr;
    check_blas(cublasLtMatmulDescCreate(&description, compute_type(tf32), CUDA_R_32F), op,
               "cublasLtMatmulDescCreate");
    Descriptor<cublasLtMatmulDesc_t, &cublasLtMatmulDescDestroy> owner(description);
    const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
      check_blas(cublasLtMatmulDescSetAttribute(description, attribute, &value, sizeof(value)), op,
                 "cublasLtMatmulDescSetAttribute");
    };
    set(CUBLASLT_MATMUL_DESC_TRANSA, op_a);
    set(CUBLASLT_MATMUL_DESC_TRANSB, op_b);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
    if (bias != nullptr) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    if (mask != nullptr) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, mask);
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, relu_mask_stride(d.columns));
    }
    return owner;
  }

  /// What an algorithm may use: the workspace, and no more alignment than there is.
  auto preference() const {
    cublasLtMatmulPreference_t preference = nullptr;
    check_blas(cublasLtMatmulPreferenceCreate(&preference), op, "cublasLtMatmulPreferenceCreate");
    Descriptor<cublasLtMatmulPreference_t, &cublasLtMatmulPreferenceDestroy> owner(preference);
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      check_blas(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
                 op, "cublasLtMatmulPreferenceSetAttribute");
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{Blas::kWorkspaceBytes});
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, a.alignment());
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, b.alignment());
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, d.alignment());
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, d.alignment());
    return owner;
  }

  /// False, and nothing done, where cuBLASLt has no algorithm for these sizes and addresses, which
  /// depends on nothing else; with `dry`, nothing done in any case.
  bool run(bool dry = false) const {
    cudaStream_t stream = ::cmir::cuda::current_stream().handle();
    const Blas& blas = Blas::of_thread(op);
    const auto what = description();
    const auto with = preference();
    const Layout of_a = a.layout(op), of_b = b.layout(op), of_d = d.layout(op);
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(blas.lt, what.get(), of_a.get(), of_b.get(), of_d.get(),
                                       of_d.get(), with.get(), 1, &best, &found);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED) return false;
    check_blas(status, op, "cublasLtMatmulAlgoGetHeuristic");
    if (found == 0 || best.state != CUBLAS_STATUS_SUCCESS) return false;
    if (dry) return true;
    const float alpha = 1, beta = 0;
    check_blas(cublasLtMatmul(blas.lt, what.get(), &alpha, a.data, of_a.get(), b.data, of_b.get(),
                              &beta, d.data, of_d.get(), d.data, of_d.get(), &best.algo,
                              blas.workspace, Blas::kWorkspaceBytes, stream),
               op, "cublasLtMatmul");
    return true;
  }
};

/// a.y = x weight^T, with `bias` its bias and with `relu` the larger of that and 0, and a's mask if
/// it wants one; in > 0. No other activation, and no pre_activation. False, and nothing done, where
/// cuBLASLt has no algorithm; with `dry`, that answer alone.
template <class T>
bool linear_product(const LinearForward<T>& a, bool bias, bool relu, bool dry = false) {
  const bool mask = relu && a.relu_mask != nullptr;
  const cublasLtEpilogue_t epilogue =
      mask   ? (bias ? CUBLASLT_EPILOGUE_RELU_AUX_BIAS : CUBLASLT_EPILOGUE_RELU_AUX)
      : relu ? (bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU)
             : (bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT);
  return LtProduct<T>{LinearForward<T>::name,
                      {a.weight, a.out, a.in},
                      {a.x, a.rows, a.in},
                      CUBLAS_OP_T,
                      CUBLAS_OP_N,
                      {a.y, a.rows, a.out},
                      a.tf32,
                      epilogue,
                      bias ? a.bias : nullptr,
                      mask ? a.relu_mask : nullptr}
      .run(dry);
}

/// a.dz and a.dbias (DRELU, DRELU_BGRAD), with the mask that linear_product wrote; out > 0. False,
/// and nothing done, where cuBLASLt has no algorithm.
template <class T>
bool relu_gradient_product(const LinearReluGradient<T>& a) {
  const LinearForward<T>& relu = a.relu;
  return LtProduct<T>{LinearReluGradient<T>::name,
                      {a.weight, a.out, relu.out},
                      {a.dy, relu.rows, a.out},
                      CUBLAS_OP_N,
                      CUBLAS_OP_N,
                      {a.dz, relu.rows, relu.out},
                      relu.tf32,
                      a.dbias != nullptr ? CUBLASLT_EPILOGUE_DRELU_BGRAD : CUBLASLT_EPILOGUE_DRELU,
                      a.dbias,
                      relu.relu_mask}
      .run();
}

/// a.dweight and a.dbias, which is not null (BGRADB); rows > 0. False, and nothing done, where
/// cuBLASLt has no algorithm.
template <class T>
bool weight_gradient_product(const LinearWeightGradient<T>& a) {
  return LtProduct<T>{LinearWeightGradient<T>::name,
                      {a.x, a.rows, a.in},
                      {a.dy, a.rows, a.out},
                      CUBLAS_OP_N,
                      CUBLAS_OP_T,
                      {a.dweight, a.out, a.in},
                      a.tf32,
                      CUBLASLT_EPILOGUE_BGRADB,
                      a.dbias,
                      nullptr}
      .run();
}

}  // namespace cmir::kernels::cuda
