/* What one run of a plan costs: floating-point operations and the bytes kernels read and write, with every symbolic dim
 * at its upper bound. Control flow counts the larger branch of an If and one iteration of a Loop. */
#include "api/model.h"
#include "ir/contract.h"
#include "ir/plan.h"

static double upper(const Context *cx, Dim d) {
    int64_t hi = d != 0 ? dim_hi(cx, d) : 0;
    return hi == INT64_MAX ? 0 : (double)hi;
}

static double buffer_bytes(const Context *cx, const Buf *b) {
    double n = dtype_bits(b->dtype) / 8.0;
    for (uint32_t i = 0; i < b->rank; i++) n *= upper(cx, b->dim[i]);
    return n;
}

/* A walk over one kernel. seen[id] == round: the expression was counted for the current statement (a shared
 * subexpression is computed once). */
typedef struct Walk {
    const Kernel *k;
    Context *cx;
    uint32_t *seen, n_seen, round;
} Walk;

static void see_up_to(Walk *w, uint32_t id) { /* arguments have smaller ids than the expression */
    if (id < w->n_seen) return;
    uint32_t n = id * 2 + 64, *seen = ARENA_ARRAY(&w->cx->scratch, uint32_t, n);
    if (w->n_seen != 0) memcpy(seen, w->seen, w->n_seen * sizeof *seen);
    w->seen = seen;
    w->n_seen = n;
}

/* Floating-point operations that evaluating e takes. */
static double expr_flops(Walk *w, const Expr *e) {
    if (e == NULL) return 0;
    see_up_to(w, e->id);
    if (w->seen[e->id] == w->round) return 0;
    w->seen[e->id] = w->round;
    double n = 0;
    if (e->kind == E_FN && dtype_is_float((DType)e->dtype)) {
        Fn fn = (Fn)e->fn;
        bool no_arithmetic = fn == FN_SELECT || fn == FN_CAST || fn == FN_BITCAST || fn == FN_ROUND_TO || fn == FN_REQUIRE || fn == FN_NEG;
        n = no_arithmetic ? 0 : fn == FN_FMA ? 2 : 1;
    }
    for (uint32_t i = 0; i < e->n_arg; i++) n += expr_flops(w, e->arg[i]);
    return n;
}

static double extent_bound(const Walk *w, const Expr *extent) {
    int64_t lo, hi;
    ex_range(w->k, w->cx, extent, &lo, &hi);
    return hi == INT64_MAX || hi < 0 ? 1 : (double)hi;
}

static double stmt_flops(Walk *w, const Stmt *s) {
    double n = 0;
    for (; s != NULL; s = s->next) {
        w->round++;
        double own = expr_flops(w, s->val);
        if (s->reduce != FN_NONE && (s->kind == S_SET || s->kind == S_STORE) && s->val != NULL && dtype_is_float((DType)s->val->dtype)) own += 1;
        for (uint32_t i = 0; i < s->n_arg; i++) own += expr_flops(w, s->arg[i].expr);
        if (s->kind == S_CONTRACT) own += 2 * contract_work(s);
        double body = stmt_flops(w, s->body), orelse = stmt_flops(w, s->orelse);
        if (s->kind == S_FOR) body *= extent_bound(w, s->extent);
        n += own + (body > orelse ? body : orelse);
    }
    return n;
}

static void count_steps(LatheModel *m, const Step *s, const double *kernel_flops, LatheStats *stats) {
    Context *cx = &m->cx;
    for (; s != NULL; s = s->next) {
        if (s->kernel != NULL) {
            stats->flops += kernel_flops[s->kernel->id];
            for (uint32_t i = 0; i < s->kernel->n_arg; i++)
                stats->traffic_bytes += buffer_bytes(cx, &s->kernel->buf[i]) * (s->kernel->buf[i].kind == BUF_INOUT ? 2 : 1);
        }
        LatheStats then = {0}, otherwise = {0};
        count_steps(m, s->body, kernel_flops, &then);
        count_steps(m, s->orelse, kernel_flops, &otherwise);
        const LatheStats *more = then.flops + then.traffic_bytes > otherwise.flops + otherwise.traffic_bytes ? &then : &otherwise;
        stats->flops += more->flops;
        stats->traffic_bytes += more->traffic_bytes;
    }
}

static void count_nodes(Graph *g, void *user) {
    FOR_NODES(n, g) ++*(uint32_t *)user;
}

void stats_from_plan(LatheModel *m) {
    Context *cx = &m->cx;
    const Plan *p = m->m->plan;
    LatheStats *stats = &m->stats;
    graph_visit(m->m->main, count_nodes, &stats->nodes);
    if (p == NULL) return;
    stats->arena_bytes = p->arena_bytes;
    stats->weight_bytes = p->weight_bytes;
    stats->arena_lower_bound = p->lower_bound;
    stats->kernels = p->n_kernel;
    stats->steps = p->n_step;
    uint32_t n_id = 0;
    for (uint32_t i = 0; i < p->n_kernel; i++)
        if (p->kernel[i]->id >= n_id) n_id = p->kernel[i]->id + 1;
    double *flops = ARENA_ARRAY(&cx->arena, double, n_id);
    for (uint32_t i = 0; i < p->n_kernel; i++) {
        Walk w = {.k = p->kernel[i], .cx = cx};
        flops[w.k->id] = stmt_flops(&w, w.k->body);
    }
    count_steps(m, p->first, flops, stats);
    arena_reset(&cx->scratch);
}
