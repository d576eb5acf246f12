/* infer_shapes: fills in the type of every value and the symbolic contents of shape arithmetic.
 *
 *     before:  %s = Shape(%x)                            after:  %s = Shape(%x) : i64[2] = [N, 64]
 *              %y = Reshape(%x, %s)                              %y = Reshape(%x, %s) : f32[N,64]
 *
 * One forward walk; operators with regions infer them from their shape rule. What the model declares about its outputs
 * is compared with what was found: another element type is an error, another shape a warning (exporters leave stale
 * shapes behind, and the inferred one is right). */
#include "ir/shape/shape.h"
#include "passes/pass.h"

static const char *type_text(Context *cx, const Type *t) {
    Writer w = {.arena = &cx->scratch};
    type_print(cx, &w, t);
    return cw_cstr(&w);
}

static void check_declared(Context *cx, const Value *v, const Type *said) {
    const Type *found = v->type;
    if (said == NULL || found == NULL || v->poison || said == found) return;
    Loc loc = v->def != NULL ? v->def->loc : (Loc){0};
    const char *name = str_text(cx, v->name);
    bool same_kind = said->kind == found->kind && (said->kind != TYPE_TENSOR || said->dtype == found->dtype);
    if (!same_kind) diag(cx, SEV_ERROR, loc, "output \"%s\" is declared as %s, it is %s", name, type_text(cx, said), type_text(cx, found));
    else if (!type_agrees(cx, said, found))
        diag(cx, SEV_WARNING, loc, "output \"%s\" is declared as %s, it is %s", name, type_text(cx, said), type_text(cx, found));
}

/* A run-time size without an upper bound that the file declares as a constant: at most that (the run checks it). */
static void bound_by_declared(Graph *g, void *user) {
    Context *cx = user;
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_out; i++) {
            const Value *v = n->out[i];
            const Type *said = v != NULL ? v->declared : NULL, *found = v != NULL ? v->type : NULL;
            if (said == NULL || found == NULL || said->kind != TYPE_TENSOR || found->kind != TYPE_TENSOR || said->rank != found->rank || said->rank == RANK_UNKNOWN) continue;
            for (uint32_t k = 0; k < found->rank; k++) {
                if (said->dim[k] == 0 || !dim_is_const(cx, said->dim[k]) || found->dim[k] == 0) continue;
                const DimNode *d = dim_node(cx, found->dim[k]);
                if (d->kind == DIM_SYMBOL && d->runtime && d->hi == INT64_MAX) dim_set_bounds(cx, found->dim[k], d->lo, dim_value(cx, said->dim[k]));
            }
        }
    }
}

typedef struct Snapshot { const Type **type; uint32_t n; bool changed; } Snapshot;

static void take_types(Graph *g, void *user) {
    Snapshot *s = user;
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_out; i++)
            if (n->out[i] != NULL) s->type[n->out[i]->id] = n->out[i]->type;
    }
}

static void compare_types(Graph *g, void *user) {
    Snapshot *s = user;
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_out; i++) {
            const Value *v = n->out[i];
            s->changed |= v != NULL && (v->id >= s->n || s->type[v->id] != v->type);
        }
    }
}

/* ---- branches of different rank ----------------------------------------------------------------------------------- */
typedef struct Choices { Context *cx; VEC(Node *) list; } Choices;

static void find_choices(Graph *g, void *user) {
    Choices *c = user;
    FOR_NODES(n, g) {
        bool known = n->op != OP_If || attr_i(n, AT_If_keep) < 0;
        for (uint32_t i = 0; i < c->list.n && !known; i++) known = c->list.v[i] == n;
        if (!known) vec_push(&c->cx->scratch, &c->list, n);
    }
}

/* Infers everything again with another choice for n; how many errors there are then. */
static uint32_t retry(Context *cx, Module *m, Node *n, int keep, uint32_t n_diag, uint32_t n_error) {
    attr_set_i(n, AT_If_keep, keep);
    cx->diags.n = n_diag;
    cx->n_error = n_error;
    graph_infer(m, m->main);
    return cx->n_error;
}

/* Which branch of an If of two ranks is meant shows in what follows: as long as there are errors, choices are turned
 * round one at a time, and stay so where that leaves fewer errors. */
static uint32_t infer_choosing(Context *cx, Module *m, uint32_t n_diag, uint32_t n_error) { /* the number of errors */
    cx->diags.n = n_diag;
    cx->n_error = n_error;
    graph_infer(m, m->main);
    if (cx->n_error == n_error) return 0;
    Choices c = {.cx = cx};
    graph_visit(m->main, find_choices, &c);
    for (uint32_t i = 0; i < c.list.n && cx->n_error != n_error; i++) {
        Node *n = c.list.v[i];
        uint32_t errors = cx->n_error;
        int was = (int)attr_i(n, AT_If_keep);
        bool better = false;
        for (int side = 1; side >= 0 && !better; side--)
            if (side != was) better = retry(cx, m, n, side, n_diag, n_error) < errors;
        if (!better) retry(cx, m, n, was, n_diag, n_error);
        graph_visit(m->main, find_choices, &c); /* choices behind this one may only show now */
    }
    return cx->n_error - n_error;
}

static void forget(Graph *g, void *user) { /* what an inference with other bounds found out */
    (void)user;
    FOR_NODES(n, g) {
        if (n->op == OP_If) attr_set_i(n, AT_If_keep, -1);
        for (uint32_t i = 0; i < n->n_out; i++) {
            if (n->out[i] == NULL) continue;
            n->out[i]->type = NULL;
            n->out[i]->sym = NULL;
            n->out[i]->n_sym = 0;
            n->out[i]->poison = false;
        }
    }
}

/* An upper bound that nobody gave may be too small for the model: a convolution over time wants more than it. Where
 * there are errors, such bounds are raised, one symbol at a time, and stay raised where that leaves fewer errors. */
static void infer(Context *cx, Module *m) {
    uint32_t n_diag = cx->diags.n, n_error = cx->n_error, errors = infer_choosing(cx, m, n_diag, n_error), n_symbol = dim_symbol_count(cx);
    static const int64_t bounds[] = {1024, 16384};
    bool *raised = ARENA_ARRAY(&cx->scratch, bool, n_symbol + 1);
    if (errors == 0) return;
    for (size_t b = 0; b < sizeof bounds / sizeof *bounds && errors != 0; b++) {
        for (uint32_t s = 0; s < n_symbol && errors != 0; s++) {
            Dim d = dim_symbol_at(cx, s);
            int64_t lo = dim_lo(cx, d), hi = dim_hi(cx, d);
            if (!dim_node(cx, d)->assumed || hi >= bounds[b]) continue;
            dim_set_bounds(cx, d, lo, bounds[b]);
            graph_visit(m->main, forget, NULL);
            uint32_t now = infer_choosing(cx, m, n_diag, n_error);
            raised[s] |= now < errors;
            if (now < errors) errors = now;
            else dim_set_bounds(cx, d, lo, hi);
        }
    }
    if (errors != 0) graph_visit(m->main, forget, NULL), infer_choosing(cx, m, n_diag, n_error); /* the diagnostics of what was kept */
    for (uint32_t s = 0; s < n_symbol; s++) {
        const DimNode *d = dim_node(cx, dim_symbol_at(cx, s));
        if (raised[s]) diag(cx, SEV_NOTE, (Loc){0}, "dim \"%s\": its assumed bound is too small for the model: using %lld..%lld", str_text(cx, d->name), (long long)d->lo, (long long)d->hi);
    }
}

/* Numbers that one branch gives where the other gives a vector of one become such vectors. */
static void make_vectors(Module *m, Node *n) {
    Graph *branch[2] = {attr_at(n, AT_If_else_branch)->graph, attr_at(n, AT_If_then_branch)->graph};
    for (uint32_t i = 0; i < 2 * n->n_out; i++) {
        Graph *g = branch[i % 2];
        const Type *other = branch[1 - i % 2]->out[i / 2]->type;
        Value *v = g->out[i / 2];
        if (v->type->kind != TYPE_TENSOR || other->kind != TYPE_TENSOR || v->type->rank != 0 || other->rank != 1) continue;
        Node *r = node_new(m, g, NULL, OP_Reshape, 2, (Value *[]){v, value_const_i64(m, 1, (int64_t[]){1})}, 1);
        r->loc = n->loc;
        node_infer(m, r);
        g->out[i / 2] = r->out[0];
    }
    attr_set_i(n, AT_If_keep, -1);
}

/* The branch that is not compiled becomes a run-time error. */
static void settle_choices(Graph *g, void *user) {
    Module *m = user;
    FOR_NODES(n, g) {
        if (n->op != OP_If || attr_i(n, AT_If_keep) < 0) continue;
        if (attr_i(n, AT_If_keep) == IF_VECTORS) {
            make_vectors(m, n);
            continue;
        }
        bool then = attr_i(n, AT_If_keep) == 1;
        Graph *kept = attr_at(n, then ? AT_If_then_branch : AT_If_else_branch)->graph, *fail = graph_new(m, g, "fail");
        diag(m->cx, SEV_NOTE, n->loc, "the branches give different ranks; only the %s branch is compiled, taking the other one is a run-time error", then ? "then" : "else");
        Node *f = node_new(m, fail, NULL, OP_Fail, 0, NULL, n->n_out);
        f->loc = n->loc;
        for (uint32_t i = 0; i < n->n_out; i++) {
            f->out[i]->type = kept->out[i]->type;
            graph_add_output(m, fail, f->out[i]);
        }
        attr_set_graph(n, then ? AT_If_else_branch : AT_If_then_branch, fail);
        attr_set_i(n, AT_If_keep, -1);
    }
}

bool pass_infer_shapes(Context *cx, Module *m) {
    Snapshot s = {.type = ARENA_ARRAY(&cx->scratch, const Type *, m->n_value), .n = m->n_value};
    const Type **said = ARENA_ARRAY(&cx->scratch, const Type *, m->main->n_out);
    graph_visit(m->main, take_types, &s);
    for (uint32_t i = 0; i < m->main->n_out; i++) {
        said[i] = m->main->out[i]->type;
        if (m->main->out[i]->declared == NULL) m->main->out[i]->declared = said[i]; /* before inference: from the file */
    }
    for (uint32_t i = 0; i < m->main->n_in; i++) {
        Value *v = m->main->in[i];
        if (v->type != NULL && (v->type->kind == TYPE_SEQUENCE || v->type->kind == TYPE_OPTIONAL)) v->type = shape_open_elements(cx, v->type);
    }
    infer(cx, m);
    graph_visit(m->main, settle_choices, m);
    graph_visit(m->main, bound_by_declared, cx);
    for (uint32_t i = 0; i < m->main->n_out; i++) check_declared(cx, m->main->out[i], said[i]);
    graph_visit(m->main, compare_types, &s);
    return s.changed;
}
