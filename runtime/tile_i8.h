/* The micro-kernel of integer contractions: rows of u8 or s8 against packed s8 weights, summed exactly in 32 bits.
 *
 *     out[r][j] = start[j] + sum over i < n1, l < n2, k < n of a[r*a_row + i*a_1 + l*a_2 + k] * B[i][l][k][j]
 *
 * B comes in panels of 16 * q columns, q from 1 to 4. For every (i, l) the n values of k stand in blocks of 64, padded with
 * zeros, a block as q quarters of 16 columns, a quarter as 16 groups of 4 k: [block][quarter][group][column][4]. Behind them
 * stand two rows of 32-bit integers per column: where the sum starts, and the sum of the column's weights. Intel's tile
 * registers (AMX) take a quarter as one tile; VNNI takes a group of 16 columns as one vector, as do AVX2 and NEON in parts;
 * plain C reads it as it is. Instructions that want one side unsigned, or none, get s8 with the top bit flipped (x + 128), or
 * u8 the same way (x - 128), and start 128 column sums lower or higher. All of them give the same bits.
 *
 * a_end: one past the last readable element of a; tile registers read whole blocks when that stays inside. */
#ifndef LATHE_RUNTIME_TILE_I8_H
#define LATHE_RUNTIME_TILE_I8_H
#include <stdint.h>
#include <string.h>

#include "amx.h"

/* The instructions to use. */
#if defined(LATHE_AMX) && defined(__AMX_INT8__)
#define LATHE_I8_AMX 1
#endif
#if defined(__AVX512VNNI__)
#include <immintrin.h>
#define LATHE_I8_VNNI 1
#elif defined(__AVXVNNI__) && defined(__AVX2__)
#include <immintrin.h>
#define LATHE_I8_VNNI256 1
#elif defined(__AVX2__)
#include <immintrin.h>
#define LATHE_I8_AVX2 1
#elif defined(__ARM_FEATURE_DOTPROD) && defined(__aarch64__)
#include <arm_neon.h>
#define LATHE_I8_NEON 1
#else
#define LATHE_I8_PLAIN 1
#endif
#define LATHE_I8_INLINE static inline __attribute__((always_inline))

/* What a call works on; one for u8 and s8, which differ in how their bytes are read. */
typedef struct lathe_i8_call {
    const uint8_t *a, *a_end;
    int64_t a_row, n1, a_1, n2, a_2, n;
    const int8_t *b;
} lathe_i8_call;

/* Four values of k of one row, or the last `left` ones and zeros. */
LATHE_I8_INLINE uint32_t lathe_i8_four(const uint8_t *p, int64_t left)
{
    uint32_t x = p[0];
    if (left >= 4) {
        memcpy(&x, p, 4);
        return x;
    }
    if (left > 1) x |= (uint32_t)p[1] << 8;
    if (left > 2) x |= (uint32_t)p[2] << 16;
    return x;
}

/* Behind the weights of a panel: element j of `start` (row 0) or of the column sums (row 1). */
LATHE_I8_INLINE const int8_t *lathe_i8_rows(const lathe_i8_call *c, int q, int row)
{
    return c->b + c->n1 * c->n2 * ((c->n + 63) / 64) * q * 1024 + row * q * 64;
}

#ifdef LATHE_I8_AMX
/* The last block of 16 rows that would be read beyond a_end: a padded copy. */
static inline void lathe_i8_tail(uint8_t *to, const uint8_t *a, int64_t a_row, int64_t left)
{
    memset(to, 0, 1024);
    for (int64_t r = 0; r < 16; r++) memcpy(to + r * 64, a + r * a_row, (size_t)left);
    __asm__ volatile("" : : "r"(to) : "memory"); /* tile loads read it behind the compiler's back */
}
#endif

#ifdef LATHE_I8_AMX
/* 32 rows, the second 16 starting at row `second` (rows in both are stored twice), by two quarters. */
LATHE_I8_INLINE void lathe_i8_amx_two(const lathe_i8_call *c, const uint8_t *a, int64_t second, int q, int at, int is_signed, int32_t *out)
{
    uint8_t tail[2048];
    const int8_t *b = c->b + at * 1024, *start = lathe_i8_rows(c, q, 0) + at * 64;
    _tile_loadd(0, start, 0);
    _tile_loadd(1, start + 64, 0);
    _tile_loadd(2, start, 0);
    _tile_loadd(3, start + 64, 0);
    for (int64_t i = 0; i < c->n1; i++)
        for (int64_t l = 0; l < c->n2; l++) {
            const uint8_t *p = a + i * c->a_1 + l * c->a_2, *s = p + second * c->a_row;
            size_t row = (size_t)c->a_row;
            for (int64_t k = 0; k < c->n; k += 64, b += q * 1024) {
                if (k + 64 > c->n && c->a_end - (s + 15 * c->a_row) < k + 64) {
                    lathe_i8_tail(tail, p + k, c->a_row, c->n - k);
                    lathe_i8_tail(tail + 1024, s + k, c->a_row, c->n - k);
                    p = tail - k, s = tail + 1024 - k, row = 64;
                }
                _tile_loadd(4, p + k, row);
                _tile_loadd(6, b, 64);
                _tile_loadd(7, b + 1024, 64);
                _tile_loadd(5, s + k, row);
                if (is_signed) {
                    _tile_dpbssd(0, 4, 6);
                    _tile_dpbssd(1, 4, 7);
                    _tile_dpbssd(2, 5, 6);
                    _tile_dpbssd(3, 5, 7);
                } else {
                    _tile_dpbusd(0, 4, 6);
                    _tile_dpbusd(1, 4, 7);
                    _tile_dpbusd(2, 5, 6);
                    _tile_dpbusd(3, 5, 7);
                }
            }
        }
    const size_t step = (size_t)q * 64;
    _tile_stored(0, out + at * 16, step);
    _tile_stored(1, out + at * 16 + 16, step);
    _tile_stored(2, out + second * q * 16 + at * 16, step);
    _tile_stored(3, out + second * q * 16 + at * 16 + 16, step);
}
#endif

#ifdef LATHE_I8_AMX
/* 32 rows as above, by one quarter. */
LATHE_I8_INLINE void lathe_i8_amx_one(const lathe_i8_call *c, const uint8_t *a, int64_t second, int q, int at, int is_signed, int32_t *out)
{
    uint8_t tail[2048];
    const int8_t *b = c->b + at * 1024, *start = lathe_i8_rows(c, q, 0) + at * 64;
    _tile_loadd(0, start, 0);
    _tile_loadd(2, start, 0);
    for (int64_t i = 0; i < c->n1; i++)
        for (int64_t l = 0; l < c->n2; l++) {
            const uint8_t *p = a + i * c->a_1 + l * c->a_2, *s = p + second * c->a_row;
            size_t row = (size_t)c->a_row;
            for (int64_t k = 0; k < c->n; k += 64, b += q * 1024) {
                if (k + 64 > c->n && c->a_end - (s + 15 * c->a_row) < k + 64) {
                    lathe_i8_tail(tail, p + k, c->a_row, c->n - k);
                    lathe_i8_tail(tail + 1024, s + k, c->a_row, c->n - k);
                    p = tail - k, s = tail + 1024 - k, row = 64;
                }
                _tile_loadd(4, p + k, row);
                _tile_loadd(6, b, 64);
                _tile_loadd(5, s + k, row);
                if (is_signed) {
                    _tile_dpbssd(0, 4, 6);
                    _tile_dpbssd(2, 5, 6);
                } else {
                    _tile_dpbusd(0, 4, 6);
                    _tile_dpbusd(2, 5, 6);
                }
            }
        }
    _tile_stored(0, out + at * 16, (size_t)q * 64);
    _tile_stored(2, out + second * q * 16 + at * 16, (size_t)q * 64);
}
#endif

#ifdef LATHE_I8_AMX
/* At least 16 rows. */
LATHE_I8_INLINE void lathe_i8_amx(const lathe_i8_call *c, int64_t rows, int q, int is_signed, int32_t *out)
{
    for (int64_t r = 0; r < rows; r += 32) {
        int64_t first = r, second = rows - r - 16;
        if (rows - r >= 32) second = 16;
        else if (rows - r < 16) first = rows - 16, second = 0; /* the last 16 rows, some of them once more */
        const uint8_t *a = c->a + first * c->a_row;
        int at = 0;
        for (; at + 2 <= q; at += 2) lathe_i8_amx_two(c, a, second, q, at, is_signed, out + first * q * 16);
        if (at < q) lathe_i8_amx_one(c, a, second, q, at, is_signed, out + first * q * 16);
    }
}
#endif

#ifdef LATHE_I8_VNNI
/* One group of k: q vectors of weights meet every row. */
LATHE_I8_INLINE void lathe_i8_vnni_group(int rows, int q, __m512i (*s)[4], const uint8_t *p, int64_t a_row, int64_t left, uint32_t flip, const int8_t *b)
{
    __m512i w[4];
#pragma GCC unroll 4
    for (int j = 0; j < q; j++) w[j] = _mm512_loadu_si512(b + j * 1024);
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        const __m512i x = _mm512_set1_epi32((int)(lathe_i8_four(p + r * a_row, left) ^ flip));
#pragma GCC unroll 4
        for (int j = 0; j < q; j++) s[r][j] = _mm512_dpbusd_epi32(s[r][j], x, w[j]);
    }
}
#endif

#ifdef LATHE_I8_VNNI
/* A fixed number of rows, so that the sums are registers. */
LATHE_I8_INLINE void lathe_i8_vnni(int rows, const lathe_i8_call *c, int64_t first, int q, int is_signed, int32_t *out)
{
    __m512i s[16][4];
#pragma GCC unroll 4
    for (int j = 0; j < q; j++) {
        __m512i start = _mm512_loadu_si512(lathe_i8_rows(c, q, 0) + j * 64);
        if (is_signed) start = _mm512_sub_epi32(start, (__m512i)((__v16su)_mm512_loadu_si512(lathe_i8_rows(c, q, 1) + j * 64) << 7)); /* gcc's own shift warns in C++ */
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) s[r][j] = start;
    }
    const uint32_t flip = is_signed ? 0x80808080u : 0;
    const int8_t *b = c->b;
    for (int64_t i = 0; i < c->n1; i++)
        for (int64_t l = 0; l < c->n2; l++) {
            const uint8_t *p = c->a + first * c->a_row + i * c->a_1 + l * c->a_2;
            for (int64_t k = 0; k < c->n; k += 64, b += q * 1024) {
                const int64_t left = c->n - k < 64 ? c->n - k : 64;
                const int8_t *w = b;
                int64_t t = 0;
                for (; t + 4 <= left; t += 4, w += 64) lathe_i8_vnni_group(rows, q, s, p + k + t, c->a_row, 4, flip, w);
                if (t < left) lathe_i8_vnni_group(rows, q, s, p + k + t, c->a_row, left - t, flip, w);
            }
        }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int j = 0; j < q; j++) _mm512_storeu_si512(out + ((first + r) * q + j) * 16, s[r][j]);
}
#endif

#ifdef LATHE_I8_VNNI256
/* A fixed number of rows by one quarter. */
LATHE_I8_INLINE void lathe_i8_vnni256(int rows, const lathe_i8_call *c, int64_t first, int q, int at, int is_signed, int32_t *out)
{
    __m256i s[6][2];
    for (int j = 0; j < 2; j++) {
        __m256i start = _mm256_loadu_si256((const __m256i *)(const void *)(lathe_i8_rows(c, q, 0) + at * 64 + j * 32));
        const __m256i sums = _mm256_loadu_si256((const __m256i *)(const void *)(lathe_i8_rows(c, q, 1) + at * 64 + j * 32));
        if (is_signed) start = _mm256_sub_epi32(start, _mm256_slli_epi32(sums, 7));
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) s[r][j] = start;
    }
    const uint32_t flip = is_signed ? 0x80808080u : 0;
    const int8_t *b = c->b + at * 1024;
    for (int64_t i = 0; i < c->n1; i++)
        for (int64_t l = 0; l < c->n2; l++) {
            const uint8_t *p = c->a + first * c->a_row + i * c->a_1 + l * c->a_2;
            for (int64_t k = 0; k < c->n; k += 64, b += q * 1024)
                for (int64_t t = 0; t < 64 && k + t < c->n; t += 4) {
                    const __m256i w0 = _mm256_loadu_si256((const __m256i *)(const void *)(b + t * 16)), w1 = _mm256_loadu_si256((const __m256i *)(const void *)(b + t * 16 + 32));
#pragma GCC unroll 6
                    for (int r = 0; r < rows; r++) {
                        const __m256i x = _mm256_set1_epi32((int)(lathe_i8_four(p + k + t + r * c->a_row, c->n - k - t) ^ flip));
                        s[r][0] = _mm256_dpbusd_avx_epi32(s[r][0], x, w0);
                        s[r][1] = _mm256_dpbusd_avx_epi32(s[r][1], x, w1);
                    }
                }
        }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 2; j++) _mm256_storeu_si256((__m256i *)(void *)(out + ((first + r) * q + at) * 16 + j * 8), s[r][j]);
}
#endif

#ifdef LATHE_I8_AVX2
/* One or two rows by one quarter. pmaddubsw would saturate: both sides are widened to 16 bits, which is exact. */
LATHE_I8_INLINE void lathe_i8_avx2(int rows, const lathe_i8_call *c, int64_t first, int q, int at, int is_signed, int32_t *out)
{
    __m256i s[2][4]; /* [row][four columns]: pairs of k apart */
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 4; j++) s[r][j] = _mm256_setzero_si256();
    const int8_t *b = c->b + at * 1024;
    for (int64_t i = 0; i < c->n1; i++)
        for (int64_t l = 0; l < c->n2; l++) {
            const uint8_t *p = c->a + first * c->a_row + i * c->a_1 + l * c->a_2;
            for (int64_t k = 0; k < c->n; k += 64, b += q * 1024)
                for (int64_t t = 0; t < 64 && k + t < c->n; t += 4) {
                    __m256i x[2];
#pragma GCC unroll 2
                    for (int r = 0; r < rows; r++) {
                        const __m128i four = _mm_cvtsi32_si128((int)lathe_i8_four(p + k + t + r * c->a_row, c->n - k - t));
                        x[r] = _mm256_broadcastq_epi64(is_signed ? _mm_cvtepi8_epi16(four) : _mm_cvtepu8_epi16(four));
                    }
#pragma GCC unroll 4
                    for (int j = 0; j < 4; j++) {
                        const __m256i w = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(b + t * 16 + j * 16)));
#pragma GCC unroll 2
                        for (int r = 0; r < rows; r++) s[r][j] = _mm256_add_epi32(s[r][j], _mm256_madd_epi16(x[r], w));
                    }
                }
        }
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 2; j++) {
            const __m256i sum = _mm256_permute4x64_epi64(_mm256_hadd_epi32(s[r][2 * j], s[r][2 * j + 1]), 0xD8);
            const __m256i start = _mm256_loadu_si256((const __m256i *)(const void *)(lathe_i8_rows(c, q, 0) + at * 64 + j * 32));
            _mm256_storeu_si256((__m256i *)(void *)(out + ((first + r) * q + at) * 16 + j * 8), _mm256_add_epi32(sum, start));
        }
}
#endif

#ifdef LATHE_I8_NEON
/* A fixed number of rows by one quarter; u8 is read as s8, 128 lower. */
LATHE_I8_INLINE void lathe_i8_neon(int rows, const lathe_i8_call *c, int64_t first, int q, int at, int is_signed, int32_t *out)
{
    int32x4_t s[4][4];
    for (int j = 0; j < 4; j++) {
        int32x4_t start = vreinterpretq_s32_s8(vld1q_s8(lathe_i8_rows(c, q, 0) + at * 64 + j * 16));
        const int32x4_t sums = vreinterpretq_s32_s8(vld1q_s8(lathe_i8_rows(c, q, 1) + at * 64 + j * 16));
        if (!is_signed) start = vaddq_s32(start, vshlq_n_s32(sums, 7));
        for (int r = 0; r < rows; r++) s[r][j] = start;
    }
    const uint32_t flip = is_signed ? 0 : 0x80808080u;
    const int8_t *b = c->b + at * 1024;
    for (int64_t i = 0; i < c->n1; i++)
        for (int64_t l = 0; l < c->n2; l++) {
            const uint8_t *p = c->a + first * c->a_row + i * c->a_1 + l * c->a_2;
            for (int64_t k = 0; k < c->n; k += 64, b += q * 1024)
                for (int64_t t = 0; t < 64 && k + t < c->n; t += 4)
                    for (int r = 0; r < rows; r++) {
                        const int8x16_t x = vreinterpretq_s8_u32(vdupq_n_u32(lathe_i8_four(p + k + t + r * c->a_row, c->n - k - t) ^ flip));
                        for (int j = 0; j < 4; j++) s[r][j] = vdotq_s32(s[r][j], vld1q_s8(b + t * 16 + j * 16), x);
                    }
        }
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 4; j++) vst1q_s32(out + ((first + r) * q + at) * 16 + j * 4, s[r][j]);
}
#endif

#ifdef LATHE_I8_PLAIN
/* One row by one quarter in plain C. */
LATHE_I8_INLINE void lathe_i8_plain(const lathe_i8_call *c, int64_t row, int q, int at, int is_signed, int32_t *out)
{
    int32_t s[16];
    memcpy(s, lathe_i8_rows(c, q, 0) + at * 64, sizeof s);
    const int8_t *b = c->b + at * 1024;
    for (int64_t i = 0; i < c->n1; i++)
        for (int64_t l = 0; l < c->n2; l++) {
            const uint8_t *p = c->a + row * c->a_row + i * c->a_1 + l * c->a_2;
            for (int64_t k = 0; k < c->n; k += 64, b += q * 1024)
                for (int64_t t = 0; t < 64 && k + t < c->n; t += 4) {
                    const uint32_t four = lathe_i8_four(p + k + t, c->n - k - t);
                    int32_t x[4];
                    for (int g = 0; g < 4; g++) {
                        const int32_t byte = (int32_t)(four >> 8 * g & 255);
                        x[g] = is_signed && byte > 127 ? byte - 256 : byte;
                    }
                    for (int j = 0; j < 16; j++) {
                        const int8_t *w = b + t * 16 + 4 * j;
                        s[j] += x[0] * w[0] + x[1] * w[1] + x[2] * w[2] + x[3] * w[3];
                    }
                }
        }
    memcpy(out + (row * q + at) * 16, s, sizeof s);
}
#endif

/* See the top of the file. q and is_signed are literals: each pair is a function of its own in the emitted file. */
LATHE_I8_INLINE void lathe_i8_tile(const lathe_i8_call *c, int64_t rows, int q, int is_signed, int32_t *out)
{
#ifdef LATHE_I8_AMX
    if (rows >= 16) {
        lathe_i8_amx(c, rows, q, is_signed, out);
        return;
    }
#endif
    int64_t r = 0;
#if defined(LATHE_I8_VNNI)
    const int most = q == 4 ? 6 : q == 3 ? 8 : 12;
    for (; r + most <= rows; r += most) lathe_i8_vnni(most, c, r, q, is_signed, out);
    for (; r + most / 2 <= rows; r += most / 2) lathe_i8_vnni(most / 2, c, r, q, is_signed, out);
    for (; r + 2 <= rows; r += 2) lathe_i8_vnni(2, c, r, q, is_signed, out);
    if (r < rows) lathe_i8_vnni(1, c, r, q, is_signed, out);
#elif defined(LATHE_I8_VNNI256)
    for (; r + 6 <= rows; r += 6)
        for (int at = 0; at < q; at++) lathe_i8_vnni256(6, c, r, q, at, is_signed, out);
    for (; r < rows; r++)
        for (int at = 0; at < q; at++) lathe_i8_vnni256(1, c, r, q, at, is_signed, out);
#elif defined(LATHE_I8_AVX2)
    for (; r + 2 <= rows; r += 2)
        for (int at = 0; at < q; at++) lathe_i8_avx2(2, c, r, q, at, is_signed, out);
    for (int at = 0; r < rows && at < q; at++) lathe_i8_avx2(1, c, r, q, at, is_signed, out);
#elif defined(LATHE_I8_NEON)
    for (; r + 4 <= rows; r += 4)
        for (int at = 0; at < q; at++) lathe_i8_neon(4, c, r, q, at, is_signed, out);
    for (; r < rows; r++)
        for (int at = 0; at < q; at++) lathe_i8_neon(1, c, r, q, at, is_signed, out);
#else
    for (; r < rows; r++)
        for (int at = 0; at < q; at++) lathe_i8_plain(c, r, q, at, is_signed, out);
#endif
}

#endif
