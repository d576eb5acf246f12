/* MT19937 (Matsumoto and Nishimura, "Mersenne Twister", 1998): the stream of ONNX's random operators with a seed. The
 * reference implementation of ONNX draws from numpy.random.RandomState(seed), which is this generator with two words
 * to a number of 53 bits. The state is on the stack of one call, so a node starts its stream anew in every run. */
#ifndef LATHE_RUNTIME_MT19937_H
#define LATHE_RUNTIME_MT19937_H
#include <stdint.h>

typedef struct lathe_mt {
    uint32_t word[624];
    int at;
} lathe_mt;

static inline void lathe_mt_seed(lathe_mt *m, uint32_t seed) {
    m->word[0] = seed;
    for (uint32_t i = 1; i < 624; i++) m->word[i] = 1812433253u * (m->word[i - 1] ^ m->word[i - 1] >> 30) + i;
    m->at = 624;
}

static inline void lathe_mt_refill(lathe_mt *m) {
    for (int i = 0; i < 624; i++) {
        const uint32_t y = (m->word[i] & 0x80000000u) | (m->word[(i + 1) % 624] & 0x7FFFFFFFu);
        m->word[i] = m->word[(i + 397) % 624] ^ y >> 1 ^ ((y & 1u) != 0 ? 0x9908B0DFu : 0u);
    }
    m->at = 0;
}

static inline uint32_t lathe_mt_next(lathe_mt *m) {
    if (m->at >= 624) lathe_mt_refill(m);
    uint32_t y = m->word[m->at++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9D2C5680u;
    y ^= y << 15 & 0xEFC60000u;
    return y ^ y >> 18;
}

/* A number in [0, 1). */
static inline double lathe_mt_double(lathe_mt *m) {
    const uint32_t a = lathe_mt_next(m) >> 5, b = lathe_mt_next(m) >> 6;
    return ((double)a * 67108864.0 + (double)b) / 9007199254740992.0;
}

/* out[0..n): numbers in [0, 1). */
static inline int lathe_mt_uniform(double *out, int64_t n, int64_t seed) {
    lathe_mt m;
    lathe_mt_seed(&m, (uint32_t)(uint64_t)seed);
    for (int64_t i = 0; i < n; i++) out[i] = lathe_mt_double(&m);
    return 0;
}

/* Points inside the unit circle, for Marsaglia's polar method: out[2k], out[2k + 1] for 2k < n; out has n + 1 elements.
 * The second coordinate comes first, as numpy hands out the second number of a pair before the first. */
static inline int lathe_mt_disc(double *out, int64_t n, int64_t seed) {
    lathe_mt m;
    lathe_mt_seed(&m, (uint32_t)(uint64_t)seed);
    for (int64_t i = 0; i < n; i += 2) {
        double x, y, r;
        do {
            x = 2.0 * lathe_mt_double(&m) - 1.0;
            y = 2.0 * lathe_mt_double(&m) - 1.0;
            r = x * x + y * y;
        } while (r >= 1.0 || r == 0.0);
        out[i] = y;
        out[i + 1] = x;
    }
    return 0;
}

#endif
