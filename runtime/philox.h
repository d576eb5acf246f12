/* Philox4x32-10: random numbers as a function of a counter (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as
 * easy as 1, 2, 3", 2011). The same seed and stream give the same numbers on every machine and with any threads. */
#ifndef LATHE_RUNTIME_PHILOX_H
#define LATHE_RUNTIME_PHILOX_H
#include <stdint.h>

/* Four words of the block with this counter and key; ten rounds. */
static inline void lathe_philox_block(uint32_t *counter, uint32_t key0, uint32_t key1) {
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)0xD2511F53u * counter[0], b = (uint64_t)0xCD9E8D57u * counter[2];
        const uint32_t c1 = counter[1], c3 = counter[3];
        counter[0] = (uint32_t)(b >> 32) ^ c1 ^ key0;
        counter[1] = (uint32_t)b;
        counter[2] = (uint32_t)(a >> 32) ^ c3 ^ key1;
        counter[3] = (uint32_t)a;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

/* out[0..n): uniform words of stream `stream` of seed `seed`. */
static int lathe_philox(uint32_t *out, int64_t n, int64_t seed, int64_t stream) {
    const uint64_t s = (uint64_t)stream, k = (uint64_t)seed;
    for (int64_t i = 0; i < n; i += 4) {
        const uint64_t block = (uint64_t)i / 4;
        uint32_t word[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)s, (uint32_t)(s >> 32)};
        lathe_philox_block(word, (uint32_t)k, (uint32_t)(k >> 32));
        for (int64_t j = 0; j < 4 && i + j < n; j++) out[i + j] = word[j];
    }
    return 0;
}

#endif
