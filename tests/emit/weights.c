/* External weights: the right file works, a changed or shortened one does not. Arguments: the .bin file. */
#include <stdio.h>
#include <stdlib.h>

#include "pointwise.h"

int main(int argc, char **argv) {
    static unsigned char arena[POINTWISE_ARENA_BYTES] __attribute__((aligned(64)));
    static float x[2 * 64], b[64], c[2], y[2 * 64], z[2 * 3];
    pointwise_ctx ctx;
    void *weights = NULL;
    FILE *f = argc > 1 ? fopen(argv[1], "rb") : NULL;
    if (f == NULL || posix_memalign(&weights, POINTWISE_ALIGN, POINTWISE_WEIGHT_BYTES) != 0) return 2;
    if (fread(weights, 1, POINTWISE_WEIGHT_BYTES, f) != POINTWISE_WEIGHT_BYTES || fgetc(f) != EOF) return 3;
    fclose(f);
    pointwise_inputs in = {x, b, c, 2};
    pointwise_outputs out = {y, z};
    if (pointwise_init(&ctx, arena, sizeof arena, weights, POINTWISE_WEIGHT_BYTES) != POINTWISE_OK) return 4;
    if (pointwise_run(&ctx, &in, &out) != POINTWISE_OK || z[0] + z[1] + z[2] < 0.999f) return 5;
    if (pointwise_init(&ctx, arena, sizeof arena, weights, POINTWISE_WEIGHT_BYTES - 64) != POINTWISE_ERROR_WEIGHTS) return 6;
    ((unsigned char *)weights)[POINTWISE_WEIGHT_BYTES / 2] ^= 1;
    if (pointwise_init(&ctx, arena, sizeof arena, weights, POINTWISE_WEIGHT_BYTES) != POINTWISE_ERROR_WEIGHTS) return 7;
    if (pointwise_init(&ctx, arena, sizeof arena, NULL, POINTWISE_WEIGHT_BYTES) != POINTWISE_ERROR_ARGUMENT) return 8;
    free(weights);
    return 0;
}
