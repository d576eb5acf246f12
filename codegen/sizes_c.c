/* Sizes that come out negative for some dims within their bounds: a convolution of 3 rows over a tensor that may have 1.
 *
 *     H = 1..5, y: f32[H - 2]       ->      if (in->H - 2 < 0) return 2;          dims of the caller, before anything runs
 *                                           err |= (dims[3] - 2 < 0) << 2;        sizes of the run, where the last symbol is set
 *
 * Everything behind such a check may count on sizes of 0 and more. */
#include "codegen/emit.h"

static void collect(Emit *e, const Value *v) {
    if (v == NULL || v->type == NULL || v->type->kind != TYPE_TENSOR) return;
    for (uint32_t i = 0; i < v->type->rank; i++) {
        Dim d = v->type->dim[i];
        if (dim_lo(e->cx, d) >= 0 || dim_node(e->cx, d)->kind == DIM_SYMBOL) continue;
        bool known = false;
        for (uint32_t k = 0; k < e->low_dims.n && !known; k++) known = e->low_dims.v[k] == d;
        if (!known) vec_push(&e->cx->scratch, &e->low_dims, d);
    }
}

static void collect_steps(Emit *e, const Step *s) {
    for (; s != NULL; s = s->next) {
        for (uint32_t i = 0; i < s->n_value; i++) collect(e, s->value[i]);
        collect_steps(e, s->body);
        collect_steps(e, s->orelse);
    }
}

void emit_collect_sizes(Emit *e) {
    const Graph *g = e->m->main;
    e->symbol_set = ARENA_ARRAY(&e->cx->scratch, bool, dim_symbol_count(e->cx) + 1);
    for (uint32_t i = 0; i < dim_symbol_count(e->cx); i++) e->symbol_set[i] = !dim_node(e->cx, dim_symbol_at(e->cx, i))->runtime;
    for (uint32_t i = 0; i < g->n_out; i++) collect(e, g->out[i]);
    collect_steps(e, e->plan->first);
}

/* Does d read the symbol `index`, and are all symbols it reads set? */
static void symbols(const Emit *e, Dim d, uint32_t index, bool *reads, bool *ready) {
    const DimNode *n = dim_node(e->cx, d);
    switch (n->kind) {
    case DIM_CONST: return;
    case DIM_SYMBOL:
        *reads |= n->symbol == index;
        *ready &= e->symbol_set[n->symbol];
        return;
    case DIM_POLY:
        for (uint32_t i = 0; i < n->n_term; i++)
            for (uint32_t j = 0; j < n->term[i].n_factor; j++) symbols(e, n->term[i].factor[j], index, reads, ready);
        return;
    case DIM_FLOORDIV: case DIM_MOD: case DIM_MIN: case DIM_MAX:
        symbols(e, n->a, index, reads, ready);
        symbols(e, n->b, index, reads, ready);
        return;
    }
}

void emit_use_dim(Emit *e, Dim d) {
    for (uint32_t i = 0; i < dim_symbol_count(e->cx); i++) {
        bool reads = false, ready = true;
        symbols(e, d, i, &reads, &ready);
        e->symbol_used[i] |= reads;
    }
}

void emit_check_run_sizes(Emit *e, Writer *w, uint32_t symbol) {
    e->symbol_set[symbol] = true;
    for (uint32_t k = 0; k < e->low_dims.n; k++) {
        bool reads = false, ready = true;
        symbols(e, e->low_dims.v[k], symbol, &reads, &ready);
        if (!reads || !ready) continue;
        emit_use_dim(e, e->low_dims.v[k]);
        cw_line(w, "err |= (%s < 0) << %d;", emit_dim_text(e, e->low_dims.v[k], e->dims_slot, 11), LATHE_RT_SHAPE);
    }
}

void emit_mark_sizes(Emit *e) {
    for (uint32_t k = 0; k < e->low_dims.n; k++) emit_use_dim(e, e->low_dims.v[k]);
}

void emit_check_given_sizes(Emit *e, Writer *w) {
    bool *all = e->symbol_set;
    e->symbol_set = ARENA_ARRAY(&e->cx->scratch, bool, dim_symbol_count(e->cx) + 1);
    for (uint32_t i = 0; i < dim_symbol_count(e->cx); i++) e->symbol_set[i] = emit_symbol_is_input(e, i);
    for (uint32_t k = 0; k < e->low_dims.n; k++) {
        bool reads = false, ready = true;
        symbols(e, e->low_dims.v[k], 0, &reads, &ready);
        if (ready) cw_printf(w, "    if (%s < 0) return %s_ERROR_SHAPE;\n", emit_dim_text(e, e->low_dims.v[k], e->dims_slot, 11), e->upper);
    }
    e->symbol_set = all;
}
