// Starts the part of a `*_cpu.cpp` that is compiled once per instruction set. Include it after
// every other header and close with kernels/cpu/isa_end.h. The build compiles the file with
// CMIR_ISA_LEVEL = 0, 1, 2; the code between goes into a namespace of that set's name:
//
//   #include "kernels/cpu/isa_begin.h"
//   namespace cmir::kernels::CMIR_ISA {
//   namespace { ... functions, and one `const RegisterCpu registered{kIsa, ...};` ... }
//   }
//   #include "kernels/cpu/isa_end.h"
//
// The target is set by pragma after the headers, not by a compiler flag: an inline function of a
// header, which the linker merges across files, must never contain instructions that the CPU may
// lack.
#ifndef CMIR_ISA_LEVEL
#error "a *_cpu.cpp is compiled once per instruction set: see kernels/CMakeLists.txt"
#endif

#if CMIR_ISA_LEVEL == 0
#define CMIR_ISA baseline
#elif CMIR_ISA_LEVEL == 1
#define CMIR_ISA avx2
#elif CMIR_ISA_LEVEL == 2
#define CMIR_ISA avx512
#endif

namespace cmir::kernels::CMIR_ISA {
[[maybe_unused]] static constexpr Isa kIsa = Isa::CMIR_ISA;
}

#if CMIR_ISA_LEVEL == 1
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#elif CMIR_ISA_LEVEL == 2
#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx2,fma,avx512f,avx512vl,avx512bw,avx512dq"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512vl,avx512bw,avx512dq,prefer-vector-width=512")
#endif
#endif
