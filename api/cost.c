/* What a plan costs in memory: its arena and weights, and the bytes its kernels read and write in one run, with every
 * symbolic dim at its upper bound. Control flow counts the larger branch of an If and one iteration of a Loop. */
#include "api/model.h"
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

double kernel_traffic(const Context *cx, const Kernel *k) {
    double bytes = 0;
    for (uint32_t i = 0; i < k->n_arg; i++) bytes += buffer_bytes(cx, &k->buf[i]) * (k->buf[i].kind == BUF_INOUT ? 2 : 1);
    return bytes;
}

static double traffic(const Context *cx, const Step *s) {
    double bytes = 0;
    for (; s != NULL; s = s->next) {
        if (s->kernel != NULL) bytes += kernel_traffic(cx, s->kernel);
        double body = traffic(cx, s->body), orelse = traffic(cx, s->orelse);
        bytes += body > orelse ? body : orelse;
    }
    return bytes;
}

static void count_nodes(Graph *g, void *user) {
    FOR_NODES(n, g) ++*(uint32_t *)user;
}

void stats_from_plan(LatheModel *m) {
    const Plan *p = m->m->plan;
    LatheStats *stats = &m->stats;
    graph_visit(m->m->main, count_nodes, &stats->nodes);
    if (p == NULL) return;
    for (const Plan *of = p; of != NULL; of = of->before) {
        if (of->arena_bytes > stats->arena_bytes) stats->arena_bytes = of->arena_bytes;
        if (of->fast_bytes > stats->fast_bytes) stats->fast_bytes = of->fast_bytes;
    }
    stats->weight_bytes = p->weight_bytes;
    stats->arena_lower_bound = p->lower_bound;
    stats->kernels = p->n_kernel;
    stats->steps = p->n_step;
    stats->traffic_bytes = traffic(&m->cx, p->first);
}
