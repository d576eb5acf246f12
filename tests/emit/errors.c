/* Run-time errors of emitted code: cases/gather.lir is called wrongly in every way and must say so, and still work. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gather.h"

static int failures;
static void expect(const char *what, int code, int want, const char *text) {
    if (code == want && strstr(gather_error(code), text) != NULL) return;
    printf("%s: code %d (%s), expected %d (%s)\n", what, code, gather_error(code), want, text);
    failures++;
}

int main(void) {
    int64_t ids[8] = {0, 4, -5, 2, 1, 1, 3, -1}, dims[3] = {8, 8, 4}, out_dims[4] = {0};
    float x[32] = {0}, rows[32], y[32];
    /* One byte more than promised is never touched: the sanitizer would see it. */
    void *arena = NULL;
    if (posix_memalign(&arena, GATHER_ALIGN, GATHER_ARENA_BYTES + GATHER_ALIGN) != 0) return 2;
    gather_ctx ctx;
    expect("no context", gather_init(NULL, arena, GATHER_ARENA_BYTES, NULL, 0), GATHER_ERROR_ARGUMENT, "null pointer");
    if (GATHER_ARENA_BYTES != 0) {
        expect("small arena", gather_init(&ctx, arena, GATHER_ARENA_BYTES - 1, NULL, 0), GATHER_ERROR_ARGUMENT, "too small");
        expect("crooked arena", gather_init(&ctx, (char *)arena + 4, GATHER_ARENA_BYTES, NULL, 0), GATHER_ERROR_ARGUMENT, "misaligned");
    }
    expect("init", gather_init(&ctx, arena, GATHER_ARENA_BYTES, NULL, 0), GATHER_OK, "no error");
    gather_inputs in = {ids, x, 8};
    gather_outputs out = {rows, y};
    expect("run", gather_run(&ctx, &in, &out), GATHER_OK, "");
    if (fabsf(rows[4] - 16) > 0 || fabsf(rows[8]) > 0) puts("wrong rows"), failures++;

    static const int64_t wrong[] = {5, -6, INT64_MAX, INT64_MIN, INT64_C(1) << 61};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        ids[3] = wrong[i];
        int code = gather_run(&ctx, &in, &out);
        expect("index", code % 16, GATHER_ERROR_INDEX, "");
        if (strstr(gather_error(code), "emb \"a\"") == NULL) printf("%s does not name the node\n", gather_error(code)), failures++;
    }
    ids[3] = 2;
    in.N = 9;
    expect("too long", gather_run(&ctx, &in, &out), GATHER_ERROR_SHAPE, "bounds");
    in.N = 0;
    expect("too short", gather_run(&ctx, &in, &out), GATHER_ERROR_SHAPE, "bounds");
    in.N = 8;
    in.x = NULL;
    expect("no input", gather_run(&ctx, &in, &out) % 16, GATHER_ERROR_ARGUMENT, "");
    in.x = x;
    out.y = NULL;
    expect("no output", gather_run(&ctx, &in, &out) % 16, GATHER_ERROR_ARGUMENT, "");
    out.y = y;

    const void *const ins[2] = {ids, x};
    void *const outs[2] = {rows, y};
    expect("call", gather_call(&ctx, ins, dims, outs, out_dims), GATHER_OK, "");
    if (out_dims[0] != 8 || out_dims[1] != 4 || out_dims[2] != 8 || out_dims[3] != 4) puts("wrong output dims"), failures++;
    dims[1] = 7; /* x and ids must agree on N */
    expect("other N", gather_call(&ctx, ins, dims, outs, NULL) % 16, GATHER_ERROR_SHAPE, "");
    dims[1] = 8, dims[2] = 5;
    expect("other width", gather_call(&ctx, ins, dims, outs, NULL), 32 + GATHER_ERROR_SHAPE, "\"x\"");
    expect("no dims", gather_call(&ctx, ins, NULL, outs, NULL), GATHER_ERROR_SHAPE, "");
    expect("five lines", gather(ids, x, 8, rows, y), GATHER_OK, "");
    expect("unknown code", 12345, 12345, "");
    free(arena);
    return failures != 0;
}
