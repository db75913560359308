// Ends what kernels/cpu/isa_begin.h started.
#if CMIR_ISA_LEVEL != 0
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
