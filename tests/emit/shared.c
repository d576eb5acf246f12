/* One file of weights, loaded once, behind two models. Arguments: the file. */
#include <stdio.h>
#include <stdlib.h>

#include "shared_a.h"
#include "shared_b.h"

int main(int argc, char **argv) {
    static unsigned char a[SHARED_A_ARENA_BYTES + 64] __attribute__((aligned(64))), b[SHARED_B_ARENA_BYTES + 64] __attribute__((aligned(64)));
    static float x[2 * 16], y[2 * 16], z[2 * 16];
    shared_a_ctx ca;
    shared_b_ctx cb;
    void *weights = NULL;
    FILE *f = argc > 1 ? fopen(argv[1], "rb") : NULL;
    if (f == NULL || fseek(f, 0, SEEK_END) != 0) return 2;
    const size_t n = (size_t)ftell(f);
    rewind(f);
    if (posix_memalign(&weights, 64, n) != 0 || fread(weights, 1, n, f) != n) return 3;
    fclose(f);
    for (int i = 0; i < 32; i++) x[i] = (float)i / 32.0f;
    if (shared_a_init(&ca, a, sizeof a, weights, n) != SHARED_A_OK || shared_b_init(&cb, b, sizeof b, weights, n) != SHARED_B_OK) return 4;
    const shared_a_inputs ia = {x};
    const shared_b_inputs ib = {x};
    const shared_a_outputs oa = {y};
    const shared_b_outputs ob = {z};
    if (shared_a_run(&ca, &ia, &oa) != 0 || shared_b_run(&cb, &ib, &ob) != 0) return 5;
    float sum = 0.0f, total = 0.0f;
    for (int i = 0; i < 32; i++) sum += y[i] < 0.0f ? -y[i] : y[i], total += z[i];
    if (!(sum > 0.1f) || !(total > 0.1f)) return 6;
    if (shared_b_init(&cb, b, sizeof b, weights, n - 64) != SHARED_B_ERROR_WEIGHTS) return 7;
    ((unsigned char *)weights)[0] ^= 1;
    if (shared_a_init(&ca, a, sizeof a, weights, n) != SHARED_A_ERROR_WEIGHTS) return 8;
    free(weights);
    return 0;
}
