/* Emitted C with --threading pool (cases/team.lir) on a pool of POSIX threads: the same bits with one thread, with several, with more
 * threads than processors and from two runs at once; the same error code. */
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "team.h"

enum { MAX_TASKS = 16, RUNS = 40 };

typedef struct Task { void (*run)(void *arg, int index); void *arg; int index; } Task;
static void *start(void *user) {
    const Task *t = user;
    t->run(t->arg, t->index);
    return NULL;
}

/* The calling thread runs task 0. */
static void pool(void *user, int n, void (*run)(void *arg, int index), void *arg) {
    pthread_t thread[MAX_TASKS];
    Task task[MAX_TASKS];
    ++*(int *)user;
    for (int i = 1; i < n; i++) {
        task[i] = (Task){run, arg, i};
        if (pthread_create(&thread[i], NULL, start, &task[i]) != 0) abort();
    }
    run(arg, 0);
    for (int i = 1; i < n; i++) pthread_join(thread[i], NULL);
}

static void yield(void *user) {
    (void)user;
    sched_yield();
}

static float a[96 * 128], b[128 * 160];
typedef struct Result { float y[96 * 160], picked[64 * 160]; } Result;
typedef struct Job {
    int threads, calls, code;
    uint8_t deep;
    bool wrong, yields;
    Result result;
} Job;

static void *run(void *user) {
    Job *j = user;
    void *arena = NULL;
    int64_t rows[64];
    team_ctx ctx;
    if (posix_memalign(&arena, TEAM_ALIGN, TEAM_ARENA_BYTES) != 0) abort();
    if (team_init(&ctx, arena, TEAM_ARENA_BYTES, NULL, 0) != TEAM_OK) abort();
    if (j->threads > 0) ctx.pool = pool;
    if (j->yields) ctx.yield = yield;
    ctx.user = &j->calls;
    ctx.threads = j->threads;
    for (int i = 0; i < 64; i++) rows[i] = (i * 37) % 96;
    if (j->wrong) rows[5] = 96;
    team_inputs in = {a, b, rows, &j->deep};
    team_outputs out = {j->result.y, j->result.picked};
    for (int i = 0; i < (j->threads > 4 ? 3 : RUNS); i++) {
        memset(&j->result, 0, sizeof j->result);
        j->code = team_run(&ctx, &in, &out);
    }
    free(arena);
    return NULL;
}

int main(void) {
    static Job alone[2][2], job, other;
    int failures = 0;
    for (int i = 0; i < 96 * 128; i++) a[i] = (float)((i * 7919) % 1000) / 500.0f - 1;
    for (int i = 0; i < 128 * 160; i++) b[i] = (float)((i * 104729) % 1000) / 500.0f - 1;
    for (int deep = 0; deep < 2; deep++) {
        for (int wrong = 0; wrong < 2; wrong++) {
            Job *one = &alone[deep][wrong];
            *one = (Job){.deep = (uint8_t)deep, .wrong = wrong};
            run(one);
            if (one->code % 16 != (wrong ? TEAM_ERROR_INDEX : TEAM_OK)) printf("one thread: %s\n", team_error(one->code)), failures++;
            static const int counts[] = {1, 2, 3, 4, 12};
            for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
                job = (Job){.threads = counts[k], .deep = (uint8_t)deep, .wrong = wrong, .yields = counts[k] > 2 || k == 1};
                run(&job);
                if (job.code != one->code) printf("%d threads: code %d, not %d\n", counts[k], job.code, one->code), failures++;
                if (!wrong && memcmp(&job.result, &one->result, sizeof job.result) != 0) printf("%d threads: other bits\n", counts[k]), failures++;
                if ((job.calls != 0) != (counts[k] > 1)) printf("%d threads: the pool was called %d times\n", counts[k], job.calls), failures++;
            }
        }
    }
    pthread_t thread;
    job = (Job){.threads = 2, .deep = 1, .yields = true};
    other = (Job){.threads = 2, .yields = true};
    if (pthread_create(&thread, NULL, run, &job) != 0) return 2;
    run(&other);
    pthread_join(thread, NULL);
    if (memcmp(&job.result, &alone[1][0].result, sizeof job.result) != 0 || memcmp(&other.result, &alone[0][0].result, sizeof job.result) != 0)
        puts("two runs at once: other bits"), failures++;
    return failures != 0;
}
