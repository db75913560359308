// One PTX instruction per function, each with a twin in kernels/simt/ptx.h that keeps the lane
// layout. Names and layouts: PTX ISA, "Matrix multiply-accumulate operation using mma instruction",
// "ldmatrix", "cp.async", "barrier".
//
// All 32 lanes call an mma or ldmatrix together. With group = lane / 4 and pair = lane % 4:
//
//   D, C f32 [16, 8]   registers 0, 1: row group,     columns 2 pair, 2 pair + 1
//                      registers 2, 3: row group + 8, the same columns
//   m16n8k8, tf32, one element a register
//     A [16, 8]        0: (group, pair)      1: (group + 8, pair)
//                      2: (group, pair + 4)  3: (group + 8, pair + 4)
//     B [8, 8]         0: (pair, group)      1: (pair + 4, group)
//   m16n8k16, bf16, two elements a register, the one of the lower index in the lower half
//     A [16, 16]       0: row group,     columns 2 pair, 2 pair + 1    1: row group + 8, the same
//                      2: row group,     columns 2 pair + 8, + 9       3: row group + 8, the same
//     B [16, 8]        0: rows 2 pair, 2 pair + 1, column group        1: rows 2 pair + 8, + 9
//   ldmatrix of `Count` 8 x 8 matrices of 16-bit elements
//     Lane 8 j + r gives the address of row r of matrix j: 16 bytes, aligned to 16; the addresses
//     of lanes from 8 Count on are not used. Register j: row group of matrix j, columns 2 pair and
//     2 pair + 1; for ldmatrix_trans of the transposed matrix.
// So ldmatrix of a row-major [16, 16] bf16 tile's four quarters (upper left, lower left, upper
// right, lower right) gives A, and ldmatrix_trans of a row-major [16, 8] tile's two halves gives B.
#pragma once

#include "kernels/cuda/device.h"

#if defined(__CUDACC__)

namespace cmir::kernels::cuda {

/// Two numbers rounded to bf16 in a register; `low` is the one of the lower index.
__device__ inline unsigned pack_bf16(float low, float high) {
  unsigned packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

/// f32 rounded to tf32's 10 bits of mantissa, ties away from zero.
__device__ inline unsigned to_tf32(float value) {
  unsigned rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(value));
  return rounded;
}

/// 2^x within 2^-22 of itself, 0 where it is below the least normal number.
__device__ inline float exp2_approximate(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}

/// d += a b. The low 13 bits of a's and b's elements are ignored.
__device__ inline void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4],
                                        const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// d += a b.
__device__ inline void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4],
                                         const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// The 32-bit address in shared memory of a generic pointer into it.
__device__ inline unsigned shared_address(const void* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

template <class T>
__device__ void ldmatrix(unsigned (&r)[1], const T* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
               : "=r"(r[0])
               : "r"(shared_address(row))
               : "memory");
}
template <class T>
__device__ void ldmatrix(unsigned (&r)[2], const T* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}
template <class T>
__device__ void ldmatrix(unsigned (&r)[4], const T* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
template <class T>
__device__ void ldmatrix_trans(unsigned (&r)[1], const T* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
               : "=r"(r[0])
               : "r"(shared_address(row))
               : "memory");
}
template <class T>
__device__ void ldmatrix_trans(unsigned (&r)[2], const T* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}
template <class T>
__device__ void ldmatrix_trans(unsigned (&r)[4], const T* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

/// Starts a copy of that many bytes from global to shared memory: the first `copied` of them from
/// `source`, the rest zeros. Both addresses are multiples of the size. 4 and 8 go through L1, 16
/// past it.
template <class T>
__device__ void cp_async_4(T* target, const T* source, int copied = 4) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(target)),
               "l"(source), "r"(copied)
               : "memory");
}
template <class T>
__device__ void cp_async_8(T* target, const T* source, int copied = 8) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared_address(target)),
               "l"(source), "r"(copied)
               : "memory");
}
template <class T>
__device__ void cp_async_16(T* target, const T* source, int copied = 16) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(target)),
               "l"(source), "r"(copied)
               : "memory");
}

/// As __syncthreads, for `threads` of the block, whole warps: those that call with this id, 1 to
/// 15. (An id that the compiler did not know would cost a block all 16.)
template <int kId>
__device__ void named_barrier(int threads) {
  asm volatile("barrier.sync %0, %1;" ::"n"(kId), "r"(threads) : "memory");
}

/// Closes the thread's group of copies.
__device__ inline void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits for the thread's own groups, all but the newest `Keep`. Other threads see the bytes after
/// a barrier that follows.
template <int Keep>
__device__ void cp_async_wait_group() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Keep) : "memory");
}

}  // namespace cmir::kernels::cuda

#else

#include "kernels/simt/ptx.h"

#endif
