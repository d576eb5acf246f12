/* Data-parallel training: every process takes an equal part of each batch, and the losses are those that one process has with
 * whole batches (torch's, in the file). All processes have the same state all the time, but for what each keeps of a divided optimizer; a process
 * whose labels are wrong makes all of them refuse the step. mpi_harness LOSSES [OUT]: OUT gets the losses, bit by bit. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mlp.h"

enum { FEATURES = 20, CLASSES = 5, BATCH = 64, BATCHES = 12, SAVED = 5 }; /* SAVED: the batch before which a checkpoint is made */

static unsigned char arena[MLP_ARENA_BYTES] __attribute__((aligned(64))), state[MLP_STATE_BYTES] __attribute__((aligned(64))), first[MLP_STATE_BYTES];
static float x[BATCHES][BATCH * FEATURES];
static int64_t labels[BATCHES][BATCH];
static int rank, ranks, failed;
static mlp_ctx c;

static void make_data(void) { /* as in harness.c */
    uint32_t r = 1;
    for (int s = 0; s < BATCHES; s++) {
        for (int i = 0; i < BATCH * FEATURES; i++) r = r * 1664525u + 1013904223u, x[s][i] = (float)(r >> 8) / 8388608.0f - 1.0f;
        for (int i = 0; i < BATCH; i++) {
            float best = -9;
            for (int k = 0; k < CLASSES; k++) {
                const float *f = &x[s][i * FEATURES + k * 4], sum = f[0] + f[1] - f[2] + f[3];
                if (sum > best) best = sum, labels[s][i] = k;
            }
        }
    }
}

static void fail(const char *what, int code) {
    printf("FAILED: process %d: %s: %s\n", rank, what, mlp_error(code));
    failed = 1;
}

/* Is it a part of the optimizer's, or a sum of the gradients of this process's batches? */
static int is_own(const mlp_tensor *t) { return strstr(t->name, "/bucket/") != NULL || strncmp(t->name, "optimizer/gradient/", 19) == 0; }

/* Does every process have process 0's bytes? Not of what each of them keeps for itself. */
static void check_equal(void) {
    memcpy(first, state, sizeof state);
    MPI_Bcast(first, (int)sizeof first, MPI_BYTE, 0, MPI_COMM_WORLD);
    for (int i = 0; i < MLP_TENSORS; i++) {
        const mlp_tensor *t = &mlp_tensors[i];
        if (!is_own(t) && memcmp(first + t->offset, state + t->offset, t->bytes) != 0) printf("FAILED: process %d has another %s\n", rank, t->name), failed = 1;
    }
    memcpy(first, state, sizeof state);
}

static int step(int s, float *loss) {
    int part = BATCH / ranks;
    const mlp_inputs in = {.x = x[s] + rank * part * FEATURES, .labels = labels[s] + rank * part, .N = part};
    return mlp_train_step(&c, &in, &(mlp_outputs){.loss = loss});
}

/* ---- checkpoints in memory ---- */
typedef struct File { unsigned char bytes[2 * MLP_STATE_BYTES + 65536]; size_t n; } File;
static File own, other;

static int write_file(void *user, const void *bytes, size_t n) {
    File *f = user;
    if (f->n + n > sizeof f->bytes) return 1;
    memcpy(f->bytes + f->n, bytes, n);
    f->n += n;
    return 0;
}

static int read_file(void *user, uint64_t offset, void *bytes, size_t n) {
    const File *f = user;
    if (offset + n > f->n) return 1;
    memcpy(bytes, f->bytes + offset, n);
    return 0;
}

/* From the checkpoint on, with an empty state, everything is as it was: the same bits. */
static void check_resume(const float *losses) {
    unsigned char *end = malloc(sizeof state);
    int code = mlp_init(&c, arena, sizeof arena, state, sizeof state, NULL, 0, 4);
    c.threads = 1;
    memcpy(end, first, sizeof state);
    if (code == MLP_OK) code = mlp_load(&c, read_file, &own);
    if (code != MLP_OK) fail("load", code);
    for (int s = SAVED; s < BATCHES && code == MLP_OK; s++) {
        float loss = 0;
        code = step(s, &loss);
        if (code != MLP_OK || memcmp(&loss, &losses[s], sizeof loss) != 0) fail("a batch after a checkpoint", code);
    }
    for (int i = 0; i < MLP_TENSORS; i++)
        if (memcmp(end + mlp_tensors[i].offset, state + mlp_tensors[i].offset, mlp_tensors[i].bytes) != 0) fail(mlp_tensors[i].name, code);
    free(end);
}

#ifdef MLP_PROCESSES
/* What the optimizer keeps of each kind is a part of the parameters, and a few zeros. */
static void check_memory(void) {
    static const char *const kinds[] = {"optimizer/mean/", "optimizer/square/", "optimizer/momentum/"};
    size_t parameters = 0, found = 0;
    for (int i = 0; i < MLP_TENSORS; i++)
        if (strncmp(mlp_tensors[i].name, "fc", 2) == 0) parameters += mlp_tensors[i].bytes;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        size_t bytes = 0, buckets = 0;
        for (int i = 0; i < MLP_TENSORS; i++)
            if (strncmp(mlp_tensors[i].name, kinds[k], strlen(kinds[k])) == 0) bytes += mlp_tensors[i].bytes, buckets++;
        if (buckets == 0) continue;
        found++;
        if (bytes * MLP_PROCESSES < parameters || bytes * MLP_PROCESSES > parameters + buckets * MLP_PROCESSES * sizeof(float)) {
            printf("FAILED: %s: %zu bytes on each of %d processes, the parameters have %zu\n", kinds[k], bytes, MLP_PROCESSES, parameters);
            failed = 1;
        }
    }
    if (rank == 0) printf("%zu kinds of divided state\n", found);
}

/* Another process's checkpoint, and other communicators, are refused; the state stays. */
static void check_refusals(void) {
    float loss = 0;
    int to = (rank + 1) % ranks, from = (rank + ranks - 1) % ranks, code = MLP_OK;
    MPI_Sendrecv(&own, (int)sizeof own, MPI_BYTE, to, 0, &other, (int)sizeof other, MPI_BYTE, from, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    if (ranks > 1) {
        code = mlp_load(&c, read_file, &other);
        if (code != MLP_ERROR_WEIGHTS) fail("another process's checkpoint", code);
        c.comm = MPI_COMM_SELF;
        if (step(0, &loss) != MLP_ERROR_PROCESSES) fail("a step with too few processes", code);
        if (mlp_save(&c, write_file, &other) != MLP_ERROR_PROCESSES) fail("save with too few processes", code);
        if (mlp_load(&c, read_file, &own) != MLP_ERROR_PROCESSES) fail("load with too few processes", code);
        if (mlp_broadcast(&c) != MLP_ERROR_PROCESSES) fail("broadcast to too few processes", code);
        if (strstr(mlp_error(MLP_ERROR_PROCESSES), "number of processes") == NULL) fail("no sentence", MLP_ERROR_PROCESSES);
    }
    c.comm = MPI_COMM_WORLD;
    if (memcmp(first, state, sizeof state) != 0) fail("a call that was refused changed the state", code);
}
#endif

int main(int argc, char **argv) {
    int provided, code;
    float loss = 0, losses[BATCHES] = {0};
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    FILE *f = argc >= 2 ? fopen(argv[1], "r") : NULL, *out = rank == 0 && argc >= 3 ? fopen(argv[2], "w") : NULL;
    make_data();
    code = mlp_init(&c, arena, sizeof arena, state, sizeof state, NULL, 0, rank == 0 ? 7 : 99); /* process 0's weights count */
    c.threads = 2;
    failed |= code != MLP_OK || f == NULL;
    check_equal();
    for (int s = 0; s < BATCHES && code == MLP_OK && f != NULL; s++) {
        double want;
        if (s == SAVED && mlp_save(&c, write_file, &own) != MLP_OK) fail("save", code);
        code = step(s, &loss);
        losses[s] = loss;
        if (out != NULL) fprintf(out, "%a\n", (double)loss);
        if (fscanf(f, "%lf", &want) != 1) want = (double)NAN;
        if (code == MLP_OK && fabs((double)loss - want) <= 1e-5 * fabs(want)) continue;
        if (rank == 0) printf("batch %d: loss %.8g, one process has %.8g; %s\n", s, (double)loss, want, mlp_error(code));
        failed = 1;
    }
    if (out != NULL) fclose(out);
    check_equal();
    check_resume(losses);
#ifdef MLP_PROCESSES
    check_memory();
    check_refusals();
#endif
    int64_t *label = &labels[0][rank * (BATCH / ranks)];
    if (rank == ranks - 1) *label = CLASSES;
    code = step(0, &loss);
    int kept = memcmp(first, state, sizeof state) == 0;
    if (code == MLP_OK || !kept) printf("FAILED: process %d %s a step that another one could not take\n", rank, code == MLP_OK ? "took" : "changed in"), failed = 1;
    if (code % 16 != (rank == ranks - 1 ? MLP_ERROR_INDEX : MLP_ERROR_VALUE)) fail("a step that one process could not take", code);
    MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    if (rank == 0) printf("%s\n", failed ? "failed" : "ok");
    MPI_Finalize();
    return failed;
}
