/* Random calls of the integer micro-kernel (runtime/tile_i8.h), and a hash of all sums. Whatever the instructions it is compiled
 * for, the hash is that of plain loops, which is computed here, too: exit code 1 when they differ.
 *
 *     cc -mavx2 integers.c -o integers && ./integers
 */
#include <stdio.h>
#include <stdlib.h>

#include "../../runtime/tile_i8.h"

enum { CASES = 300, MOST = 70, BYTES = 1 << 20 };

static uint64_t seed = 1;

static int64_t between(int64_t low, int64_t high)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return low + (int64_t)((seed >> 33) % (uint64_t)(high - low + 1));
}

/* Panel widths and signs are literals in emitted code. */
static void call(const lathe_i8_call *c, int64_t rows, int q, int is_signed, int32_t *out)
{
    switch (q * 2 + is_signed) {
    case 2: lathe_i8_tile(c, rows, 1, 0, out); break;
    case 3: lathe_i8_tile(c, rows, 1, 1, out); break;
    case 4: lathe_i8_tile(c, rows, 2, 0, out); break;
    case 5: lathe_i8_tile(c, rows, 2, 1, out); break;
    case 6: lathe_i8_tile(c, rows, 3, 0, out); break;
    case 7: lathe_i8_tile(c, rows, 3, 1, out); break;
    case 8: lathe_i8_tile(c, rows, 4, 0, out); break;
    default: lathe_i8_tile(c, rows, 4, 1, out); break;
    }
}

/* Column j of row r, in plain loops. Sums wrap around. */
static int32_t expected(const lathe_i8_call *c, int64_t r, int q, int j, int is_signed)
{
    const int8_t *b = c->b, *rows = lathe_i8_rows(c, q, 0);
    uint32_t sum;
    memcpy(&sum, rows + j * 4, 4);
    for (int64_t i = 0; i < c->n1; i++)
        for (int64_t l = 0; l < c->n2; l++)
            for (int64_t block = 0; block < (c->n + 63) / 64; block++, b += q * 1024)
                for (int64_t k = 0; k < 64 && block * 64 + k < c->n; k++) {
                    const uint8_t byte = c->a[r * c->a_row + i * c->a_1 + l * c->a_2 + block * 64 + k];
                    const int32_t x = is_signed && byte > 127 ? byte - 256 : byte;
                    sum += (uint32_t)(x * b[j / 16 * 1024 + k / 4 * 64 + j % 16 * 4 + k % 4]);
                }
    return (int32_t)sum;
}

/* Weights of a case: random, with extremes; the padding of k is 0; behind them where the sums start, and the columns' sums. */
static void weights(const lathe_i8_call *c, int q, int8_t *b)
{
    const int64_t blocks = (c->n + 63) / 64, all = c->n1 * c->n2 * blocks;
    int32_t sums[64] = {0};
    for (int64_t block = 0; block < all; block++)
        for (int at = 0; at < q * 1024; at++) {
            const int64_t k = block % blocks * 64 + at % 1024 / 64 * 4 + at % 4;
            const int64_t w = between(0, 7) == 0 ? (between(0, 1) ? 127 : -128) : between(-128, 127);
            b[block * q * 1024 + at] = (int8_t)(k < c->n ? w : 0);
            sums[at / 1024 * 16 + at % 64 / 4] += b[block * q * 1024 + at];
        }
    for (int j = 0; j < q * 16; j++) {
        const int32_t start = (int32_t)between(-100000, 100000);
        memcpy(b + all * q * 1024 + j * 4, &start, 4);
        memcpy(b + all * q * 1024 + q * 64 + j * 4, &sums[j], 4);
    }
}

static int different(uint8_t *a, int8_t *b, int32_t *out, uint64_t *hash)
{
    const int q = (int)between(1, 4), is_signed = (int)between(0, 1);
    const int64_t rows = between(1, MOST), k = between(1, between(0, 1) ? 70 : 300);
    lathe_i8_call c = {.a = a, .n1 = between(1, 3), .n2 = between(1, 3), .n = k, .b = b};
    c.a_row = between(1, 2) == 1 ? k : between(1, 100);
    c.a_1 = between(0, 500);
    c.a_2 = between(0, 100);
    const int64_t used = (rows - 1) * c.a_row + (c.n1 - 1) * c.a_1 + (c.n2 - 1) * c.a_2 + k;
    c.a_end = a + used + between(0, 1) * between(0, 100);
    for (int64_t i = 0; i < used + 200; i++) a[i] = (uint8_t)(between(0, 7) == 0 ? between(0, 1) * 255 : between(0, 255));
    weights(&c, q, b);
    call(&c, rows, q, is_signed, out);
    for (int64_t r = 0; r < rows; r++)
        for (int j = 0; j < q * 16; j++) {
            *hash = (*hash ^ (uint32_t)out[r * q * 16 + j]) * 0x100000001b3u;
            if (out[r * q * 16 + j] != expected(&c, r, q, j, is_signed)) return 1;
        }
    return 0;
}

int main(void)
{
    uint8_t *a = calloc(BYTES, 1);
    int8_t *b = aligned_alloc(64, BYTES);
    int32_t *out = aligned_alloc(64, MOST * 64 * 4);
    uint64_t hash = 0xcbf29ce484222325u;
    if (a == NULL || b == NULL || out == NULL) return 2;
    if (lathe_amx_request() != 0) return 77;
    lathe_amx_configure(16);
    for (int i = 0; i < CASES; i++)
        if (different(a, b, out, &hash)) {
            printf("case %d differs\n", i);
            return 1;
        }
    lathe_amx_release();
    printf("%016llx\n", (unsigned long long)hash);
    free(a), free(b), free(out);
    return 0;
}
