#include "driver/measure.h"

#include <stdlib.h>

#include "driver/progress.h"

enum { ROUNDS = 5 };
static const double slice = 0.2;         /* seconds a contender has in a round when the number of runs is open */
static const double warm_up = 0.25;      /* before the first round: page faults, and threads finding their cores */
static const double shortest = 20e-6;    /* a sample is at least this long: shorter calls are timed in batches */

/* One sample: `batch` calls, seconds per call; negative on error. */
static double sample(Contender *c, uint32_t batch) {
    if (c->sample != NULL) {
        double seconds = c->sample(c->user, batch);
        c->error = seconds < 0 ? -1 : 0;
        return seconds;
    }
    double start = driver_now();
    for (uint32_t i = 0; i < batch; i++) {
        c->error = c->run(c->user, c->threads);
        if (c->error != 0) return -1;
    }
    return (driver_now() - start) / batch;
}

static uint32_t first_runs(Contender *c) {
    double start = driver_now(), t = sample(c, 1), fastest = t;
    while (c->error == 0 && driver_now() - start < warm_up) {
        t = sample(c, 1);
        if (t < fastest) fastest = t;
    }
    return fastest > 0 && fastest < shortest ? (uint32_t)(shortest / fastest) + 1 : 1;
}

static void one_round(Driver *d, Contender *c, uint32_t batch, int64_t runs) {
    sample(c, batch); /* caches hold what the contender before left there */
    double start = driver_now();
    for (int64_t i = 0; c->error == 0; i++) {
        if (runs > 0 ? i == runs : i >= 2 && driver_now() - start >= slice) break;
        double t = sample(c, batch);
        if (c->error == 0) vec_push(&d->arena, &c->samples, t);
        if (runs == 0 && t > 1) break;
    }
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void summarise(Contender *c) {
    c->n_sample = c->samples.n;
    if (c->n_sample == 0) return;
    qsort(c->samples.v, c->samples.n, sizeof *c->samples.v, by_value);
    c->minimum = c->samples.v[0];
    uint32_t middle = c->n_sample / 2;
    c->median = c->n_sample % 2 == 1 ? c->samples.v[middle] : (c->samples.v[middle - 1] + c->samples.v[middle]) / 2;
}

static void turn(Contender *c, bool begins) {
    if (c->turn != NULL) c->turn(c->user, begins);
}

void measure(Driver *d, Contender *contender, uint32_t n, int64_t runs) {
    Progress progress = progress_start(d);
    uint32_t *batch = ARENA_ARRAY(&d->arena, uint32_t, n);
    for (uint32_t i = 0; i < n; i++) {
        turn(&contender[i], true);
        batch[i] = first_runs(&contender[i]);
        turn(&contender[i], false);
    }
    int rounds = runs > 0 && runs < ROUNDS ? (int)runs : ROUNDS;
    for (int round = 0; round < rounds; round++) {
        int64_t share = runs * (round + 1) / rounds - runs * round / rounds;
        for (uint32_t i = 0; i < n; i++) {
            progress_step(&progress, "timing", (round + (double)i / n) / rounds);
            if (contender[i].error != 0) continue;
            turn(&contender[i], true);
            one_round(d, &contender[i], batch[i], share);
            turn(&contender[i], false);
        }
    }
    progress_clear(d);
    for (uint32_t i = 0; i < n; i++) summarise(&contender[i]);
}
