/* Types of all values of a graph, in execution order: node_reinfer, graph_infer.
 *
 * Shape rules are run again after rewrites. A rule for a data-dependent size makes a fresh symbol each time it runs; a
 * value that had such a symbol keeps it, so that types stay the same where nothing changed:
 *
 *     %y = NonZero(%x) : i64[2,nz_1]      // run again: the rule says i64[2,nz_7], the type stays i64[2,nz_1]
 */
#include "ir/graph.h"

/* What an output was before its rule ran again. */
typedef struct Before { const Type *type; const Dim *sym; uint32_t n_sym; } Before;

typedef struct Renaming {
    Context *cx;
    uint32_t n_old; /* symbols below this index existed before */
    uint32_t n;     /* symbols now */
    Dim *map;       /* by symbol index: the old symbol a fresh one is called by; 0 = none */
    bool any;
} Renaming;

static void match_dim(Renaming *r, Dim fresh, Dim old) {
    if (fresh == 0 || old == 0) return;
    const DimNode *f = dim_node(r->cx, fresh), *o = dim_node(r->cx, old);
    if (f->kind != DIM_SYMBOL || f->symbol < r->n_old || r->map[f->symbol] != 0) return;
    if (o->kind != DIM_SYMBOL || !o->runtime) return;
    r->map[f->symbol] = old;
    r->any = true;
}

/* Pairs the fresh symbols of a type with the symbols that stood in the same places. */
static void match_type(Renaming *r, const Type *fresh, const Type *old) {
    for (; fresh != NULL && old != NULL && fresh != old; fresh = fresh->elem, old = old->elem) {
        if (fresh->kind != old->kind || fresh->rank != old->rank) return;
        for (uint32_t i = 0; fresh->kind == TYPE_TENSOR && fresh->rank != RANK_UNKNOWN && i < fresh->rank; i++) match_dim(r, fresh->dim[i], old->dim[i]);
        match_dim(r, fresh->length, old->length);
    }
}

const Type *type_substitute(Context *cx, const Type *t, const Dim *map) {
    if (t == NULL) return NULL;
    switch (t->kind) {
    case TYPE_TENSOR: {
        Dim dim[RANK_MAX];
        if (t->rank == RANK_UNKNOWN) return t;
        for (uint32_t i = 0; i < t->rank; i++) dim[i] = dim_substitute(cx, t->dim[i], map);
        return type_tensor(cx, t->dtype, t->rank, dim);
    }
    case TYPE_SEQUENCE: return type_sequence(cx, type_substitute(cx, t->elem, map), dim_substitute(cx, t->length, map));
    case TYPE_OPTIONAL: return type_optional(cx, type_substitute(cx, t->elem, map));
    case TYPE_MAP: return t;
    }
    return t;
}

/* The renamed symbols take over the bounds the rule found this time. */
static void rename_bounds(const Renaming *r) {
    for (uint32_t s = r->n_old; s < r->n; s++) {
        if (r->map[s] == 0) continue;
        Dim fresh = dim_symbol_at(r->cx, s);
        dim_set_bounds(r->cx, r->map[s], dim_lo(r->cx, fresh), dim_hi(r->cx, fresh));
    }
}

static void keep_symbols(Module *m, Node *n, const Before *before, uint32_t n_old) {
    Context *cx = m->cx;
    Renaming r = {.cx = cx, .n_old = n_old, .n = dim_symbol_count(cx)};
    if (r.n == n_old) return;
    r.map = ARENA_ARRAY(&cx->scratch, Dim, r.n);
    for (uint32_t i = 0; i < n->n_out; i++)
        if (n->out[i] != NULL) match_type(&r, n->out[i]->type, before[i].type);
    if (!r.any) return;
    rename_bounds(&r);
    if (n->n_agree != 0) {
        DimPair *agree = ARENA_ARRAY(&cx->arena, DimPair, n->n_agree);
        for (uint32_t i = 0; i < n->n_agree; i++)
            agree[i] = (DimPair){dim_substitute(cx, n->agree[i].a, r.map), dim_substitute(cx, n->agree[i].b, r.map), n->agree[i].broadcast};
        n->agree = agree;
    }
    for (uint32_t i = 0; i < n->n_out; i++) {
        Value *v = n->out[i];
        if (v == NULL) continue;
        v->type = type_substitute(cx, v->type, r.map);
        if (v->sym == NULL) continue;
        Dim *sym = ARENA_ARRAY(&cx->arena, Dim, v->n_sym);
        for (uint32_t k = 0; k < v->n_sym; k++) sym[k] = dim_substitute(cx, v->sym[k], r.map);
        v->sym = sym;
    }
}

bool node_reinfer(Module *m, Node *n) {
    Context *cx = m->cx;
    Before *before = ARENA_ARRAY(&cx->scratch, Before, n->n_out);
    for (uint32_t i = 0; i < n->n_out; i++) {
        Value *v = n->out[i];
        if (v == NULL) continue;
        before[i] = (Before){v->type, v->sym, v->n_sym};
        v->sym = NULL; /* rules only set what they know */
        v->n_sym = 0;
    }
    uint32_t n_old = dim_symbol_count(cx);
    if (!node_infer(m, n)) return false;
    keep_symbols(m, n, before, n_old);
    return true;
}

bool graph_infer(Module *m, Graph *g) {
    bool ok = true;
    FOR_NODES(n, g) ok &= node_reinfer(m, n);
    return ok;
}
