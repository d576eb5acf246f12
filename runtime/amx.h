/* The tile registers of x86 (AMX): leave to use them, their shape, giving them up.
 *
 * The system grants them once per process, in NAME_init; a kernel that uses them configures them on every thread that
 * runs it and releases them at its end. Without AMX all of this is nothing. */
#ifndef LATHE_RUNTIME_AMX_H
#define LATHE_RUNTIME_AMX_H

/* Is the code compiled for a machine that has them? */
#if defined(__AMX_TILE__) && defined(__x86_64__) && defined(__linux__)
#include <immintrin.h>
#define LATHE_AMX 1
#endif

/* Leave to use the tile registers: 0 if granted or not needed. Linux: arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA). */
static inline int lathe_amx_request(void) {
#ifdef LATHE_AMX
    long status;
    __asm__ volatile("syscall" : "=a"(status) : "0"(158L), "D"(0x1023L), "S"(18L) : "rcx", "r11", "memory");
    return status != 0;
#else
    return 0;
#endif
}

/* The shape of the eight tile registers: rows of 64 bytes. Accumulators and left operands have `rows` of them. */
static inline void lathe_amx_configure(int rows) {
#ifdef LATHE_AMX
    unsigned char config[64] = {1};
    for (int i = 0; i < 8; i++) {
        config[16 + 2 * i] = 64;
        config[48 + i] = (unsigned char)(i < 6 ? rows : 16);
    }
    __asm__ volatile("" : : "r"(config) : "memory"); /* the instruction reads it behind the compiler's back */
    _tile_loadconfig(config);
#else
    (void)rows;
#endif
}

static inline void lathe_amx_release(void) {
#ifdef LATHE_AMX
    _tile_release();
#endif
}

#endif
