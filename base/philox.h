/* Philox 4x32-10: a counter-based random generator (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as
 * 1, 2, 3", SC 2011). Block number `counter` of stream `key` is a pure function of the two, so element i of a tensor has the
 * same value whichever thread, order or machine makes it.
 *
 *     uint32_t r[4];
 *     philox(r, (uint64_t[]){i / 4, stream}, seed);
 *     float u = philox_unit(r[i % 4]);   // [0, 1)
 */
#ifndef LATHE_BASE_PHILOX_H
#define LATHE_BASE_PHILOX_H
#include <stdint.h>

static inline void philox(uint32_t out[4], const uint64_t counter[2], uint64_t key) {
    uint32_t c0 = (uint32_t)counter[0], c1 = (uint32_t)(counter[0] >> 32), c2 = (uint32_t)counter[1], c3 = (uint32_t)(counter[1] >> 32);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

static inline double philox_unit(uint32_t r) { /* [0, 1), exact in float: 24 bits */
    return (double)(r >> 8) * 0x1p-24;
}

#endif
