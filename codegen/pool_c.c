/* Threads of the caller's own (--threading pool) instead of OpenMP.
 *
 *     ctx.pool = my_pool;                          void my_pool(void *user, int n, void (*task)(void *arg, int index), void *arg)
 *     ctx.user = &threads;                         runs task(arg, 0) … task(arg, n - 1), all at the same time
 *     ctx.threads = 4;
 *
 * The tasks of one run are a team: they walk the same steps and wait for each other at barriers between them, as OpenMP's threads do. The
 * team stands on the stack of NAME_run, so runs with contexts of their own may share a pool if it has threads for all their tasks. */
#include "codegen/emit.h"

void emit_team(Emit *e, Writer *w) {
    cw_printf(w, "/* The tasks of one run: arrived at the barrier, barriers passed, someone inside what one does at a time. */\n"
                 "typedef struct lathe_team {\n    unsigned arrived, passed, busy;\n    void (*yield)(void *user);\n    void *user;\n} lathe_team;\n\n"
                 "static inline void lathe_wait(const lathe_team *team, int turn)\n{\n    if (turn > 2000 && team->yield != NULL) {\n        team->yield(team->user);\n        return;\n    }\n"
                 "#if defined(__x86_64__) || defined(__i386__)\n    __asm__ volatile(\"pause\");\n#elif defined(__aarch64__)\n    __asm__ volatile(\"yield\");\n#endif\n}\n\n");
    if (e->uses_barrier)
        cw_printf(w, "static inline void lathe_barrier(lathe_team *team, int nt)\n{\n    if (nt < 2) return;\n"
                     "    const unsigned passed = __atomic_load_n(&team->passed, __ATOMIC_RELAXED);\n"
                     "    if (__atomic_add_fetch(&team->arrived, 1u, __ATOMIC_ACQ_REL) == (unsigned)nt) { /* the last one opens it */\n"
                     "        __atomic_store_n(&team->arrived, 0u, __ATOMIC_RELAXED);\n        __atomic_store_n(&team->passed, passed + 1u, __ATOMIC_RELEASE);\n        return;\n    }\n"
                     "    for (int turn = 0; __atomic_load_n(&team->passed, __ATOMIC_ACQUIRE) == passed;) {\n        lathe_wait(team, turn);\n        if (turn < 4000) turn++;\n    }\n}\n\n");
    if (e->faults.n != 0)
        cw_printf(w, "static inline void lathe_enter(lathe_team *team)\n{\n    for (int turn = 0; __atomic_exchange_n(&team->busy, 1u, __ATOMIC_ACQUIRE) != 0u;) {\n"
                     "        lathe_wait(team, turn);\n        if (turn < 4000) turn++;\n    }\n}\n\n"
                     "static inline void lathe_leave(lathe_team *team)\n{\n    __atomic_store_n(&team->busy, 0u, __ATOMIC_RELEASE);\n}\n\n");
}

void emit_critical(Emit *e, Writer *w, bool begins) {
    if (!e->any_parallel) return;
    if (e->pool) cw_printf(w, begins ? "        if (nt > 1) lathe_enter(team);\n" : "        if (nt > 1) lathe_leave(team);\n");
    else if (begins) cw_printf(w, "#ifdef _OPENMP\n#pragma omp critical\n#endif\n");
}

void emit_task(Emit *e, Writer *w, const char *steps) {
    const char *n = e->name;
    cw_printf(w, "typedef struct %s_call {\n    const %s_ctx *ctx;\n    const %s_inputs *in;\n    const %s_outputs *out;\n    int64_t *dims;\n    int nt, *status;\n    lathe_team *team;\n} %s_call;\n\n", steps, n, n, n, steps);
    cw_printf(w, "static void %s_task(void *arg, int index)\n{\n    const %s_call *const c = (const %s_call *)arg;\n", steps, steps, steps);
    cw_printf(w, "    if (index >= 0 && index < c->nt) %s(c->ctx, c->in, c->out, c->dims, index, c->nt, c->status, c->team);\n}\n\n", steps);
}

void emit_run_by_pool(Emit *e, const char *steps) {
    Writer *w = &e->run;
    cw_printf(w, "    if (ctx->pool != NULL && ctx->threads > 1) {\n        lathe_team team = {0u, 0u, 0u, ctx->yield, ctx->user};\n"
                 "        %s_call call = {ctx, in, out, dims, ctx->threads, &status, &team};\n        ctx->pool(ctx->user, ctx->threads, %s_task, &call);\n"
                 "    } else {\n        %s(ctx, in, out, dims, 0, 1, &status, NULL);\n    }\n", steps, steps, steps);
}

void emit_pool_fields(Emit *e, Writer *h) {
    (void)e;
    cw_printf(h, "    int threads;         /* tasks of the pool; 0, 1: the calling thread alone */\n"
                 "    /* Runs task(arg, 0) to task(arg, n - 1), all at the same time, and returns when all have returned. The calling thread may run one\n"
                 "     * of them. They wait for each other: a pool that starts one only when another has ended never ends. NULL: no other threads. */\n"
                 "    void (*pool)(void *user, int n, void (*task)(void *arg, int index), void *arg);\n"
                 "    void (*yield)(void *user); /* called again and again by a task that waits for others, as sched_yield; NULL: it spins */\n"
                 "    void *user;          /* of pool and yield */\n");
}
