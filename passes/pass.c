#include "passes/pass.h"

#include <stdio.h>
#include <time.h>

#include "ir/plan.h"
#include "ir/target.h"
#include "lathe.h"

static const PassInfo passes[] = {
#define PASS(pname, plevel, pwhen, ppurpose) {.name = #pname, .purpose = ppurpose, .level = LEVEL_##plevel, .when = WHEN_##pwhen, .run = pass_##pname},
#include "passes/passes.def"
#undef PASS
};

const PassInfo *pass_list(uint32_t *n) {
    *n = sizeof passes / sizeof *passes;
    return passes;
}

const PassInfo *pass_find(const char *name) {
    for (size_t i = 0; i < sizeof passes / sizeof *passes; i++)
        if (strcmp(passes[i].name, name) == 0) return &passes[i];
    return NULL;
}

bool pass_enabled(const Module *m, const char *name) {
    const PassInfo *pass = pass_find(name);
    if (pass == NULL || pass->when == WHEN_ALWAYS) return pass != NULL;
    if (m->options->opt_level == 0) return false;
    for (const char *const *d = m->options->disable; d != NULL && *d != NULL; d++)
        if (strcmp(*d, name) == 0) return false;
    return true;
}

static double now(void) {
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void dump(Module *m, const PassInfo *pass) {
    const LatheOptions *o = m->options;
    if (o->dump == NULL || o->dump_to == NULL) return;
    if (strcmp(o->dump, "all") != 0 && strcmp(o->dump, pass->name) != 0) return;
    Writer w = {.arena = &m->cx->scratch};
    cw_line(&w, "// after %s", pass->name);
    if (pass->level == LEVEL_PLAN && m->plan != NULL) plan_print(m, &w);
    else module_print(m, &w);
    fwrite(w.text, 1, w.n, o->dump_to);
}

/* Plans are checked kernel by kernel, memory by a test that knows nothing of the planner. */
static void verify(Module *m, const PassInfo *pass) {
    if (pass->level == LEVEL_GRAPH) module_verify(m);
    if (m->plan == NULL) return;
    for (uint32_t i = 0; i < m->plan->n_kernel; i++) kernel_verify(m->cx, m->plan->kernel[i]);
    if (m->plan->n_buffer != 0) plan_check_overlap(m->cx, m->plan);
}

bool pass_run(Module *m, const PassInfo *pass) {
    Context *cx = m->cx;
    double start = now();
    bool changed = pass->run(cx, m);
    double seconds = now() - start;
    if (m->options->time_passes != NULL) fprintf(m->options->time_passes, "%-14s %9.3f ms%s\n", pass->name, seconds * 1e3, changed ? "" : "  (unchanged)");
    if (cx->n_error == 0 && m->options->verify_ir && changed) verify(m, pass);
    dump(m, pass);
    arena_reset(&cx->scratch);
    return cx->n_error == 0;
}

static bool run_level(Module *m, PassLevel level) {
    size_t n = sizeof passes / sizeof *passes;
    for (size_t i = 0; i < n; i++) {
        if (passes[i].level != level || !pass_enabled(m, passes[i].name)) continue;
        if (m->cx->progress != NULL) m->cx->progress(m->cx->progress_user, passes[i].name, (double)i / (double)n);
        if (!pass_run(m, &passes[i])) return false;
    }
    return true;
}

bool pass_run_pipeline(Module *m) {
    if (!run_level(m, LEVEL_GRAPH)) return false;
    const TargetList list = target_list(m->options->target);
    bool good = true;
    for (uint32_t i = 0; i < list.n && good; i++) { /* one graph, a plan for every target */
        if (i + 1 < list.n && target_plans_alike(list.target[i], list.target[i + 1])) continue;
        m->target = list.target[i];
        good = run_level(m, LEVEL_PLAN);
    }
    m->target = NULL;
    return good;
}
