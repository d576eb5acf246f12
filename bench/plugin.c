/* What compare.py loads for one lathe model: compiled together with the emitted C, which must be named `model`. The timing
 * loop is here so that the caller's language adds nothing to it. */
#include "model.c"

#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static model_ctx ctx;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int bench_init(const void *weights, size_t weight_bytes)
{
    void *arena = NULL;
    if (posix_memalign(&arena, 2 << 20, MODEL_ARENA_BYTES + 64) != 0) return -1;
#ifdef MADV_HUGEPAGE
    (void)madvise(arena, MODEL_ARENA_BYTES, MADV_HUGEPAGE); /* advice only */
#endif
    return model_init(&ctx, arena, MODEL_ARENA_BYTES, weights, weight_bytes);
}

const char *bench_error(int code) { return model_error(code); }

/* n samples of `batch` calls each; seconds per call. An error code of the model, or 0. */
int bench_run(int threads, const void *const *in, const int64_t *in_dims, void *const *out, int64_t *out_dims, int n, int batch, double *seconds)
{
    ctx.threads = threads;
    for (int i = 0; i < n; i++) {
        const double start = now();
        for (int k = 0; k < batch; k++) {
            const int code = model_call(&ctx, in, in_dims, out, out_dims);
            if (code != 0) return code;
        }
        seconds[i] = (now() - start) / batch;
    }
    return 0;
}
