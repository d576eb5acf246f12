/* The micro-kernel of bfloat16 contractions: up to 255 rows of 32 results, summed in float.
 *
 *     out[r][j] = sum over i < n1, l < n2, k < n of a[r*a_row + i*a_1 + l*a_2 + k] * B[i][l][k][j]
 *
 * B comes packed for the machine's tiles: for every (i, l) the n values of k in blocks of 32, padded with zeros, each block
 * as two halves of 16 columns, each half as 16 pairs of k: [block][half][pair][column][2]. Intel's tile registers (AMX)
 * take such a half as one tile; AVX-512 BF16 takes a pair of k for 16 columns as one vector; plain C reads it as it is.
 * The three sum in different orders and agree to the precision of the products, not to the bit; none depends on threads. */
#ifndef LATHE_RUNTIME_TILE_BF16_H
#define LATHE_RUNTIME_TILE_BF16_H
#include <stdint.h>
#include <string.h>

#include "amx.h"
#include "small_float.h"

/* The instructions to use. */
#if defined(LATHE_AMX) && defined(__AMX_BF16__)
#define LATHE_BF16_AMX 1
#endif
#if defined(__AVX512BF16__) && defined(__AVX512BW__)
#include <immintrin.h>
#define LATHE_BF16_AVX512 1
#endif

#ifdef LATHE_BF16_AMX
/* Copies the `left` columns that are left of `rows` rows into a block of 32 columns, padded with zeros. */
static inline void lathe_bf16_tail(uint16_t *to, const uint16_t *a, int64_t a_row, int64_t rows, int64_t left) {
#ifdef LATHE_BF16_AVX512
    const __mmask32 there = (__mmask32)((1u << left) - 1);
    for (int64_t r = 0; r < rows; r++) _mm512_store_si512(to + r * 32, _mm512_maskz_loadu_epi16(there, a + r * a_row));
#else
    memset(to, 0, (size_t)rows * 32 * sizeof *to);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < left; k++) to[r * 32 + k] = a[r * a_row + k];
#endif
    __asm__ volatile("" : : "r"(to) : "memory"); /* so do tile loads */
}
#endif

#ifdef LATHE_BF16_AMX
/* Two blocks of 16 rows, the second starting at row `second` of the first: they may overlap, rows then are stored twice. */
static inline void lathe_bf16_two(const uint16_t *a, int64_t a_row, int64_t second, int64_t n1, int64_t a_1, int64_t n2, int64_t a_2, int64_t n,
                                  const uint16_t *b, float *out) {
    uint16_t tail[32 * 32] __attribute__((aligned(64)));
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t i = 0; i < n1; i++)
        for (int64_t l = 0; l < n2; l++) {
            const uint16_t *p = a + i * a_1 + l * a_2, *q = p + second * a_row;
            int64_t k = 0, row = a_row * 2;
            for (; k < n; k += 32, b += 1024) {
                if (k + 32 > n) {
                    lathe_bf16_tail(tail, p + k, a_row, 16, n - k);
                    lathe_bf16_tail(tail + 512, q + k, a_row, 16, n - k);
                    p = tail - k, q = tail + 512 - k, row = 64;
                }
                _tile_loadd(4, p + k, (size_t)row);
                _tile_loadd(6, b, 64);
                _tile_loadd(7, b + 512, 64);
                _tile_loadd(5, q + k, (size_t)row);
                _tile_dpbf16ps(0, 4, 6);
                _tile_dpbf16ps(1, 4, 7);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
        }
    _tile_stored(0, out, 128);
    _tile_stored(1, out + 16, 128);
    _tile_stored(2, out + second * 32, 128);
    _tile_stored(3, out + second * 32 + 16, 128);
}
#endif

#ifdef LATHE_BF16_AMX
/* At most 16 rows, as many as the tiles are configured for. */
static inline void lathe_bf16_one(const uint16_t *a, int64_t a_row, int64_t rows, int64_t n1, int64_t a_1, int64_t n2, int64_t a_2, int64_t n,
                                  const uint16_t *b, float *out) {
    uint16_t tail[16 * 32] __attribute__((aligned(64)));
    _tile_zero(0);
    _tile_zero(1);
    for (int64_t i = 0; i < n1; i++)
        for (int64_t l = 0; l < n2; l++) {
            const uint16_t *p = a + i * a_1 + l * a_2;
            int64_t row = a_row * 2;
            for (int64_t k = 0; k < n; k += 32, b += 1024) {
                if (k + 32 > n) {
                    lathe_bf16_tail(tail, p + k, a_row, rows, n - k);
                    p = tail - k, row = 64;
                }
                _tile_loadd(4, p + k, (size_t)row);
                _tile_loadd(6, b, 64);
                _tile_loadd(7, b + 512, 64);
                _tile_dpbf16ps(0, 4, 6);
                _tile_dpbf16ps(1, 4, 7);
            }
        }
    _tile_stored(0, out, 128);
    _tile_stored(1, out + 16, 128);
}
#endif

#ifdef LATHE_BF16_AVX512
/* One pair of k, or the single last one: b's two vectors meet every row. */
static inline __attribute__((always_inline)) void lathe_bf16_pair(int rows, __m512 (*c)[2], const uint16_t *p, int64_t a_row, const uint16_t *b, size_t have) {
    const __m512i b0 = _mm512_loadu_si512(b), b1 = _mm512_loadu_si512(b + 512);
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        uint32_t pair = 0;
        memcpy(&pair, p + r * a_row, 2 * have);
        const __m512i x = _mm512_set1_epi32((int)pair);
        c[r][0] = _mm512_dpbf16_ps(c[r][0], (__m512bh)x, (__m512bh)b0);
        c[r][1] = _mm512_dpbf16_ps(c[r][1], (__m512bh)x, (__m512bh)b1);
    }
}
#endif

#ifdef LATHE_BF16_AVX512
/* A fixed number of rows, so that the accumulators are registers. */
static inline __attribute__((always_inline)) void lathe_bf16_rows(int rows, const uint16_t *a, int64_t a_row, int64_t n1, int64_t a_1, int64_t n2, int64_t a_2,
                                                                  int64_t n, const uint16_t *b, float *out) {
    __m512 c[12][2];
    for (int r = 0; r < rows; r++) c[r][0] = c[r][1] = _mm512_setzero_ps();
    for (int64_t i = 0; i < n1; i++)
        for (int64_t l = 0; l < n2; l++) {
            const uint16_t *p = a + i * a_1 + l * a_2;
            for (int64_t k = 0; k < n; k += 32, b += 1024) {
                const int64_t left = n - k < 32 ? n - k : 32;
                for (int64_t t = 0; t + 2 <= left; t += 2) lathe_bf16_pair(rows, c, p + k + t, a_row, b + 16 * t, 2);
                if (left % 2 != 0) lathe_bf16_pair(rows, c, p + k + left - 1, a_row, b + 16 * (left - 1), 1);
            }
        }
    for (int r = 0; r < rows; r++) {
        _mm512_storeu_ps(out + r * 32, c[r][0]);
        _mm512_storeu_ps(out + r * 32 + 16, c[r][1]);
    }
}
#endif

/* See the top of the file. rows >= 1; out has rows * 32 elements. */
static __attribute__((noinline)) void lathe_tile_bf16(int64_t rows, const uint16_t *a, int64_t a_row, int64_t n1, int64_t a_1, int64_t n2, int64_t a_2, int64_t n,
                                                      const uint16_t *b, float *out) {
#if defined(LATHE_BF16_AMX)
    int64_t r = 0;
#ifdef LATHE_BF16_AVX512
    if (rows < 4) { /* all about reading b, which vector loads do faster */
        for (; r < rows; r++) lathe_bf16_rows(1, a + r * a_row, a_row, n1, a_1, n2, a_2, n, b, out + r * 32);
        return;
    }
#endif
    for (; r + 32 <= rows; r += 32) lathe_bf16_two(a + r * a_row, a_row, 16, n1, a_1, n2, a_2, n, b, out + r * 32);
    if (rows - r > 16) {
        lathe_bf16_two(a + r * a_row, a_row, rows - r - 16, n1, a_1, n2, a_2, n, b, out + r * 32);
    } else if (rows >= 16 && rows > r) { /* the last 16 rows, some of them once more */
        lathe_bf16_one(a + (rows - 16) * a_row, a_row, 16, n1, a_1, n2, a_2, n, b, out + (rows - 16) * 32);
    } else if (rows > r) {
        lathe_amx_configure((int)rows);
        lathe_bf16_one(a, a_row, rows, n1, a_1, n2, a_2, n, b, out);
        lathe_amx_configure(16);
    }
#elif defined(LATHE_BF16_AVX512)
    for (; rows >= 12; rows -= 12, a += 12 * a_row, out += 12 * 32) lathe_bf16_rows(12, a, a_row, n1, a_1, n2, a_2, n, b, out);
    for (; rows >= 4; rows -= 4, a += 4 * a_row, out += 4 * 32) lathe_bf16_rows(4, a, a_row, n1, a_1, n2, a_2, n, b, out);
    for (; rows >= 1; rows -= 1, a += a_row, out += 32) lathe_bf16_rows(1, a, a_row, n1, a_1, n2, a_2, n, b, out);
#else
    for (int64_t r = 0; r < rows; r++) {
        const uint16_t *w = b;
        float sum[32] = {0};
        for (int64_t i = 0; i < n1; i++)
            for (int64_t l = 0; l < n2; l++) {
                const uint16_t *p = a + r * a_row + i * a_1 + l * a_2;
                for (int64_t k = 0; k < n; k++) {
                    const float x = lathe_bits_float((uint32_t)p[k] << 16);
                    const uint16_t *line = w + k / 32 * 1024 + k % 32 / 2 * 32 + k % 2;
                    for (int j = 0; j < 16; j++) sum[j] += x * lathe_bits_float((uint32_t)line[2 * j] << 16);
                    for (int j = 0; j < 16; j++) sum[16 + j] += x * lathe_bits_float((uint32_t)line[512 + 2 * j] << 16);
                }
                w += (n + 31) / 32 * 1024;
            }
        memcpy(out + r * 32, sum, sizeof sum);
    }
#endif
}

#endif
