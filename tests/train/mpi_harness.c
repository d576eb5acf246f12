/* Data-parallel training: every process takes an equal part of each batch, and the losses are those that one process has with
 * whole batches (torch's, in the file). All processes have the same state all the time; a process whose labels are wrong makes
 * all of them refuse the step. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mlp.h"

enum { FEATURES = 20, CLASSES = 5, BATCH = 64, BATCHES = 12 };

static unsigned char arena[MLP_ARENA_BYTES] __attribute__((aligned(64))), state[MLP_STATE_BYTES] __attribute__((aligned(64))), first[MLP_STATE_BYTES];
static float x[BATCHES][BATCH * FEATURES];
static int64_t labels[BATCHES][BATCH];

static void make_data(void) { /* as in harness.c */
    uint32_t r = 1;
    for (int s = 0; s < BATCHES; s++) {
        for (int i = 0; i < BATCH * FEATURES; i++) r = r * 1664525u + 1013904223u, x[s][i] = (float)(r >> 8) / 8388608.0f - 1.0f;
        for (int i = 0; i < BATCH; i++) {
            float best = -9;
            for (int c = 0; c < CLASSES; c++) {
                const float *f = &x[s][i * FEATURES + c * 4], sum = f[0] + f[1] - f[2] + f[3];
                if (sum > best) best = sum, labels[s][i] = c;
            }
        }
    }
}

/* Does every process have process 0's bytes? */
static int all_equal(int rank) {
    int mine = 1, all = 0;
    memcpy(first, state, sizeof state);
    MPI_Bcast(first, (int)sizeof first, MPI_BYTE, 0, MPI_COMM_WORLD);
    if (memcmp(first, state, sizeof state) != 0) mine = 0;
    MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    if (!all && rank == 0) printf("FAILED: the processes have different states\n");
    return all;
}

int main(int argc, char **argv) {
    int rank, ranks, provided, failed = 0, code;
    mlp_ctx c;
    float loss;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    FILE *f = argc == 2 ? fopen(argv[1], "r") : NULL;
    make_data();
    int part = BATCH / ranks;
    code = mlp_init(&c, arena, sizeof arena, state, sizeof state, NULL, 0, rank == 0 ? 7 : 99); /* process 0's weights count */
    c.threads = 2;
    failed |= code != MLP_OK || f == NULL || !all_equal(rank);
    for (int s = 0; s < BATCHES && code == MLP_OK && f != NULL; s++) {
        const mlp_inputs in = {.x = x[s] + rank * part * FEATURES, .labels = labels[s] + rank * part, .N = part};
        const mlp_outputs out = {.loss = &loss};
        double want;
        code = mlp_train_step(&c, &in, &out);
        if (fscanf(f, "%lf", &want) != 1) want = (double)NAN;
        if (code == MLP_OK && fabs((double)loss - want) <= 1e-5 * fabs(want)) continue;
        if (rank == 0) printf("batch %d: loss %.8g, one process has %.8g; %s\n", s, (double)loss, want, mlp_error(code));
        failed = 1;
    }
    failed |= !all_equal(rank);
    if (rank == ranks - 1) labels[0][rank * part] = CLASSES;
    code = mlp_train_step(&c, &(mlp_inputs){.x = x[0] + rank * part * FEATURES, .labels = labels[0] + rank * part, .N = part}, &(mlp_outputs){.loss = &loss});
    int kept = memcmp(first, state, sizeof state) == 0;
    if (code == MLP_OK || !kept) printf("FAILED: process %d %s a step that another one could not take\n", rank, code == MLP_OK ? "took" : "changed in"), failed = 1;
    if (code % 16 != (rank == ranks - 1 ? MLP_ERROR_INDEX : MLP_ERROR_VALUE)) printf("FAILED: process %d: %s\n", rank, mlp_error(code)), failed = 1;
    MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    if (rank == 0) printf("%s\n", failed ? "failed" : "ok");
    MPI_Finalize();
    return failed;
}
