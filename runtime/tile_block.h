/* The micro-kernel of products with weights of 4 or 8 bits in groups: up to 255 rows of 64 results, summed in float.
 *
 *     out[r][j] = sum over groups g:  scale[g][j] * (sum over k in g of a[r*a_row + k] * code[k][j]  -  zero[g][j] * sum over k in g of a[r*a_row + k])
 *
 * B is a panel of 64 columns, one group behind the other. Of a group stand first the codes, then 64 scales as floats, then 64 zero points
 * as bytes. Codes of 4 bits: [k/8][64] words of 32 bits, byte i with k = i in its low and k = 4 + i in its high half. Codes of 8 bits:
 * [k][64] bytes, for integers [k/4][64][4]. A last group that is cut short has all its codes. So a product of one row reads memory
 * once, in order.
 *
 * lathe_block_tile8 and 4 take floats. lathe_block_int8 and 4 take s8 with a scale and a sum per row and group, made by the caller, and
 * multiply integers: exact sums within a group, on VNNI as on plain C. */
#ifndef LATHE_RUNTIME_TILE_BLOCK_H
#define LATHE_RUNTIME_TILE_BLOCK_H
#include <stdint.h>
#include <string.h>

/* Vectors of 16, split by the compiler where the machine's are shorter. */
typedef float lathe_block_f __attribute__((vector_size(64)));
typedef float lathe_block_fu __attribute__((vector_size(64), aligned(1), may_alias));
typedef uint32_t lathe_block_w __attribute__((vector_size(64)));
typedef int32_t lathe_block_i __attribute__((vector_size(64)));
typedef uint32_t lathe_block_wu __attribute__((vector_size(64), aligned(1), may_alias));
typedef uint8_t lathe_block_b __attribute__((vector_size(16), aligned(1), may_alias));
#if defined(__AVX512F__)
#include <immintrin.h>
#define LATHE_BLOCK_TABLE 1
#endif
#if defined(__AVX512VNNI__)
#define LATHE_BLOCK_VNNI 1
#endif

/* Fetches a line of what is read a little later: processors follow a stream to the end of its page of 4 KiB by themselves, and a line of
 * the next one makes them go on there. By number, as a pointer may not leave its object. */
static inline __attribute__((always_inline)) void lathe_block_fetch(const uint8_t *b) { __builtin_prefetch((const void *)((uintptr_t)b + 2048), 0, 2); }

/* Bits shift to shift + 3 of every lane, as floats. */
static inline __attribute__((always_inline)) void lathe_block_nibbles(const lathe_block_wu *words, uint32_t shift, lathe_block_f *to)
{
    const lathe_block_w w = *words >> shift;
#ifdef LATHE_BLOCK_TABLE
    const lathe_block_f table = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    *to = (lathe_block_f)_mm512_permutexvar_ps((__m512i)w, (__m512)table);
#else
    *to = __builtin_convertvector((lathe_block_i)(w & 15u), lathe_block_f);
#endif
}

/* Bytes as floats; where the machine has an instruction, by name: gcc converts them one by one otherwise. */
static inline __attribute__((always_inline)) void lathe_block_floats(const uint8_t *b, lathe_block_f *to)
{
#ifdef LATHE_BLOCK_TABLE
    *to = (lathe_block_f)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)b)));
#else
    *to = __builtin_convertvector(*(const lathe_block_b *)b, lathe_block_f);
#endif
}

/* part += a's element times a row of 64 bytes. */
static inline __attribute__((always_inline)) void lathe_block_bytes(int rows, const float *a, int64_t a_row, const uint8_t *b, lathe_block_f (*part)[4])
{
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        lathe_block_f w;
        lathe_block_floats(b + j * 16, &w);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) part[r][j] += w * a[r * a_row];
    }
}

/* part[.][j] += a's elements times nibbles 0 to count - 1 of 16 words: the low halves of their bytes first. */
static inline __attribute__((always_inline)) void lathe_block_halves(int rows, int count, const float *a, int64_t a_row, const uint8_t *b, int j, lathe_block_f (*part)[4])
{
#pragma GCC unroll 8
    for (int s = 0; s < count; s++) {
        lathe_block_f w;
        lathe_block_nibbles((const lathe_block_wu *)b, (uint32_t)(s < 4 ? 8 * s : 8 * s - 28), &w);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) part[r][j] += w * a[r * a_row + s];
    }
}

/* The products of one group, without scale and zero points: part[row][quarter]; total: sums of a. */
static inline __attribute__((always_inline)) void lathe_block_group(int rows, int bits, const float *a, int64_t a_row, int64_t n, const uint8_t *b, lathe_block_f (*part)[4], float *total)
{
    for (int r = 0; r < rows; r++) {
        lathe_block_f sums = {0}; /* lane by lane: one chain of additions would take as long as the products */
        int64_t k = 0;
        for (; k + 16 <= n; k += 16) sums += *(const lathe_block_fu *)(a + r * a_row + k);
        total[r] = 0;
        for (; k < n; k++) total[r] += a[r * a_row + k];
        for (int i = 0; i < 16; i++) total[r] += sums[i];
        for (int j = 0; j < 4; j++) part[r][j] = (lathe_block_f){0};
    }
    int64_t k = 0;
    if (bits == 8) {
        for (; k + 8 <= n; k += 8) {
            lathe_block_fetch(b + k * 64);
#pragma GCC unroll 8
            for (int s = 0; s < 8; s++) lathe_block_bytes(rows, a + k + s, a_row, b + (k + s) * 64, part);
        }
        for (; k < n; k++) lathe_block_bytes(rows, a + k, a_row, b + k * 64, part);
        return;
    }
    for (; k + 8 <= n; k += 8) /* nothing fetched ahead: taking the halves apart is what takes the time */
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) lathe_block_halves(rows, 8, a + k, a_row, b + k * 32 + j * 64, j, part);
    for (int j = 0; j < 4; j++) lathe_block_halves(rows, (int)(n - k), a + k, a_row, b + k * 32 + j * 64, j, part);
}

/* A fixed number of rows. */
static inline __attribute__((always_inline)) void lathe_block_rows(int rows, int bits, const float *a, int64_t a_row, int64_t n, int64_t group, const uint8_t *b, float *out)
{
    lathe_block_f sum[4][4];
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 4; j++) sum[r][j] = (lathe_block_f){0};
    const int64_t codes = group * bits * 8;
    for (int64_t k = 0; k < n; k += group, b += codes + 320) {
        lathe_block_f part[4][4];
        float total[4];
        lathe_block_group(rows, bits, a + k, a_row, n - k < group ? n - k : group, b, part, total);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            const lathe_block_f scale = *(const lathe_block_fu *)(b + codes + j * 64), zero = __builtin_convertvector(*(const lathe_block_b *)(b + codes + 256 + j * 16), lathe_block_f);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++) sum[r][j] += scale * (part[r][j] - zero * total[r]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) *(lathe_block_fu *)(out + r * 64 + j * 16) = sum[r][j];
}

/* See the top of the file; n: K of the product. */
static __attribute__((noinline)) void lathe_block_tile8(int64_t rows, const float *a, int64_t a_row, int64_t n, int64_t group, const uint8_t *b, float *out)
{
    for (; rows >= 3; rows -= 3, a += 3 * a_row, out += 3 * 64) lathe_block_rows(3, 8, a, a_row, n, group, b, out);
    for (; rows >= 1; rows -= 1, a += a_row, out += 64) lathe_block_rows(1, 8, a, a_row, n, group, b, out);
}

/* The same with codes of 4 bits. */
static __attribute__((noinline)) void lathe_block_tile4(int64_t rows, const float *a, int64_t a_row, int64_t n, int64_t group, const uint8_t *b, float *out)
{
    for (; rows >= 3; rows -= 3, a += 3 * a_row, out += 3 * 64) lathe_block_rows(3, 4, a, a_row, n, group, b, out);
    for (; rows >= 1; rows -= 1, a += a_row, out += 64) lathe_block_rows(1, 4, a, a_row, n, group, b, out);
}

/* sum += four unsigned codes of every lane times the four s8 in x. */
static inline __attribute__((always_inline)) void lathe_block_dot(lathe_block_i *sum, const lathe_block_w *codes, const int8_t *x)
{
#ifdef LATHE_BLOCK_VNNI
    uint32_t four;
    memcpy(&four, x, 4);
    *sum = (lathe_block_i)_mm512_dpbusd_epi32((__m512i)*sum, (__m512i)*codes, _mm512_set1_epi32((int)four));
#else
    for (int i = 0; i < 4; i++) *sum += (lathe_block_i)(*codes >> (uint32_t)(8 * i) & 255u) * (int32_t)x[i];
#endif
}

/* A fixed number of rows of s8 in whole groups; scale and total: of a's groups, [row][groups]. */
static inline __attribute__((always_inline)) void lathe_block_int_rows(int rows, int bits, const int8_t *a, int64_t a_row, const float *scale, const int32_t *total, int64_t groups, int64_t group,
                                                                       const uint8_t *b, float *out)
{
    lathe_block_f sum[4][4];
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 4; j++) sum[r][j] = (lathe_block_f){0};
    const int64_t codes = group * bits * 8;
    for (int64_t g = 0; g < groups; g++, a += group, b += codes + 320) {
        lathe_block_i part[4][4];
        for (int r = 0; r < rows; r++)
            for (int j = 0; j < 4; j++) part[r][j] = (lathe_block_i){0};
        for (int64_t k = 0; k < group; k += bits == 4 ? 8 : 4) {
            lathe_block_fetch(b + k * bits * 8);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                const lathe_block_w w = *(const lathe_block_wu *)(b + k * bits * 8 + j * 64), low = bits == 4 ? w & 0x0F0F0F0Fu : w, high = w >> 4u & 0x0F0F0F0Fu;
#pragma GCC unroll 4
                for (int r = 0; r < rows; r++) {
                    lathe_block_dot(&part[r][j], &low, a + r * a_row + k);
                    if (bits == 4) lathe_block_dot(&part[r][j], &high, a + r * a_row + k + 4);
                }
            }
        }
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            const lathe_block_f own = *(const lathe_block_fu *)(b + codes + j * 64);
            const lathe_block_i zero = __builtin_convertvector(*(const lathe_block_b *)(b + codes + 256 + j * 16), lathe_block_i);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++)
                sum[r][j] += own * scale[r * groups + g] * __builtin_convertvector(part[r][j] - zero * total[r * groups + g], lathe_block_f);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) *(lathe_block_fu *)(out + r * 64 + j * 16) = sum[r][j];
}

/* See the top of the file. */
static __attribute__((noinline)) void lathe_block_int8(int64_t rows, const int8_t *a, int64_t a_row, const float *scale, const int32_t *total, int64_t groups, int64_t group, const uint8_t *b, float *out)
{
    for (; rows >= 3; rows -= 3, a += 3 * a_row, scale += 3 * groups, total += 3 * groups, out += 3 * 64) lathe_block_int_rows(3, 8, a, a_row, scale, total, groups, group, b, out);
    for (; rows >= 1; rows -= 1, a += a_row, scale += groups, total += groups, out += 64) lathe_block_int_rows(1, 8, a, a_row, scale, total, groups, group, b, out);
}

/* The same with codes of 4 bits. */
static __attribute__((noinline)) void lathe_block_int4(int64_t rows, const int8_t *a, int64_t a_row, const float *scale, const int32_t *total, int64_t groups, int64_t group, const uint8_t *b, float *out)
{
    for (; rows >= 3; rows -= 3, a += 3 * a_row, scale += 3 * groups, total += 3 * groups, out += 3 * 64) lathe_block_int_rows(3, 4, a, a_row, scale, total, groups, group, b, out);
    for (; rows >= 1; rows -= 1, a += a_row, scale += groups, total += groups, out += 64) lathe_block_int_rows(1, 4, a, a_row, scale, total, groups, group, b, out);
}

#endif
