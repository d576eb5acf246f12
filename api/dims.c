/* What the user says about symbolic dims.
 *
 *     --dim N=4        N is 4: the symbol disappears from every type
 *     --dim N=1..64    1 <= N <= 64: N stays symbolic, memory is planned for 64
 *
 * A name the model does not have is an error that lists the names it has. */
#include "api/model.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

static const char *symbol_names(LatheModel *m) {
    Writer w = {.arena = &m->cx.arena};
    uint32_t n = lathe_symbol_count(m);
    for (uint32_t i = 0; i < n; i++) cw_printf(&w, "%s%s", i == 0 ? "" : ", ", lathe_symbol_info(m, i).name);
    return n == 0 ? "none, all its dims are fixed" : cw_cstr(&w);
}

static bool parse_size(const char **p, int64_t *v) {
    if (!isdigit((unsigned char)**p)) return false;
    char *end;
    errno = 0;
    *v = strtoll(*p, &end, 10);
    *p = end;
    return errno == 0;
}

/* "4" or "1..64" */
static bool parse_bounds(const char *text, int64_t *lo, int64_t *hi) {
    if (!parse_size(&text, lo)) return false;
    *hi = *lo;
    if (strncmp(text, "..", 2) == 0) {
        text += 2;
        if (!parse_size(&text, hi)) return false;
    }
    return *text == 0 && *lo <= *hi;
}

static void apply_dim(LatheModel *m, const char *option) {
    Context *cx = &m->cx;
    const char *equals = strrchr(option, '=');
    int64_t lo, hi;
    if (equals == NULL || equals == option || !parse_bounds(equals + 1, &lo, &hi)) {
        diag(cx, SEV_ERROR, (Loc){0}, "dim \"%s\": expected NAME=SIZE or NAME=LOW..HIGH, sizes not negative, LOW at most HIGH", option);
        return;
    }
    size_t n = (size_t)(equals - option);
    for (uint32_t s = 0; cx->dims != NULL && s < dim_symbol_count(cx); s++) {
        Dim d = dim_symbol_at(cx, s);
        const DimNode *node = dim_node(cx, d);
        if (node->runtime || str_size(cx, node->name) != n || memcmp(str_text(cx, node->name), option, n) != 0) continue;
        dim_set_bounds(cx, d, lo, hi);
        return;
    }
    diag(cx, SEV_ERROR, (Loc){0}, "dim \"%.*s\": the model has no such dim; it has: %s", (int)n, option, symbol_names(m));
}

/* ---- fixed symbols become constants ------------------------------------------------------------------------------ */
static const Type *pinned_type(Context *cx, const Type *t, const Dim *map) {
    if (t == NULL) return NULL;
    switch (t->kind) {
    case TYPE_TENSOR: {
        if (t->rank == RANK_UNKNOWN) return t;
        Dim dim[RANK_MAX];
        for (uint32_t i = 0; i < t->rank; i++) dim[i] = t->dim[i] != 0 ? dim_substitute(cx, t->dim[i], map) : 0;
        return type_tensor(cx, t->dtype, t->rank, dim);
    }
    case TYPE_SEQUENCE:
        return type_sequence(cx, pinned_type(cx, t->elem, map), t->length != 0 ? dim_substitute(cx, t->length, map) : 0);
    case TYPE_OPTIONAL: return type_optional(cx, pinned_type(cx, t->elem, map));
    case TYPE_MAP: return t;
    }
    return t;
}

typedef struct Pin { Context *cx; const Dim *map; } Pin;

static void pin_value(const Pin *p, Value *v) {
    if (v == NULL) return;
    v->type = pinned_type(p->cx, v->type, p->map);
    if (v->sym == NULL || v->data != NULL) return;
    Dim *sym = ARENA_ARRAY(&p->cx->arena, Dim, v->n_sym);
    for (uint32_t i = 0; i < v->n_sym; i++) sym[i] = v->sym[i] != 0 ? dim_substitute(p->cx, v->sym[i], p->map) : 0;
    v->sym = sym;
}

static void pin_graph(Graph *g, void *user) {
    for (uint32_t i = 0; i < g->n_in; i++) pin_value(user, g->in[i]);
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_out; i++) pin_value(user, n->out[i]);
    }
}

static void pin_fixed_symbols(LatheModel *m) {
    Context *cx = &m->cx;
    if (cx->dims == NULL) return;
    uint32_t n = dim_symbol_count(cx);
    Dim *map = ARENA_ARRAY(&cx->arena, Dim, n);
    bool any = false;
    for (uint32_t s = 0; s < n; s++) {
        const DimNode *node = dim_node(cx, dim_symbol_at(cx, s));
        int64_t value = node->lo;
        if (node->runtime || node->lo != node->hi) continue;
        map[s] = dim_const(cx, value);
        any = true;
    }
    if (any) graph_visit(m->m->main, pin_graph, &(Pin){cx, map});
}

void dims_apply(LatheModel *m, const char *const *dims) {
    uint32_t before = m->cx.n_error;
    for (const char *const *d = dims; d != NULL && *d != NULL; d++) apply_dim(m, *d);
    if (m->cx.n_error == before) pin_fixed_symbols(m);
}

static LatheStatus set_dims(LatheModel *m, void *dims) {
    uint32_t before = m->cx.n_error;
    dims_apply(m, dims);
    return m->cx.n_error == before ? LATHE_OK : LATHE_ERROR_USAGE;
}

LatheStatus lathe_set_dims(LatheModel *m, const char *const *dims) {
    return model_enter(m, set_dims, (void *)(uintptr_t)dims);
}

void dims_bound(LatheModel *m) {
    Context *cx = &m->cx;
    for (uint32_t s = 0; cx->dims != NULL && s < dim_symbol_count(cx); s++) {
        Dim d = dim_symbol_at(cx, s);
        DimNode node = *dim_node(cx, d);
        if (node.runtime || node.hi != INT64_MAX) continue;
        int64_t lo = node.lo > 0 ? node.lo : 1, hi = lo > LATHE_DEFAULT_DIM_BOUND ? lo : LATHE_DEFAULT_DIM_BOUND;
        dim_set_bounds(cx, d, lo, hi);
        dim_set_assumed(cx, d, true);
        const char *name = str_text(cx, node.name);
        diag(cx, SEV_NOTE, (Loc){0}, "dim \"%s\" has no upper bound: using %lld..%lld; change it with --dim %s=LOW..HIGH, fix it with --dim %s=SIZE",
             name, (long long)lo, (long long)hi, name, name);
    }
}
