/* Code for vectors of a fixed width on processors that have them in several (Arm SVE, RISC-V V). */
#ifndef LATHE_RUNTIME_VECTOR_WIDTH_H
#define LATHE_RUNTIME_VECTOR_WIDTH_H
#include <stdint.h>

/* Whether this processor's vectors have the width the compiler was told. */
static inline int lathe_vector_width_fits(void) {
#if defined(__ARM_FEATURE_SVE_BITS) && __ARM_FEATURE_SVE_BITS != 0
    uint64_t bytes;
    __asm__("cntb %0" : "=r"(bytes));
    return bytes * 8 == __ARM_FEATURE_SVE_BITS;
#elif defined(__riscv_v_fixed_vlen)
    uint64_t bytes;
    __asm__("csrr %0, vlenb" : "=r"(bytes));
    return bytes * 8 == __riscv_v_fixed_vlen;
#else
    return 1;
#endif
}

#endif
