/* dce: removes what no output needs.
 *
 *     before:  %a, %mask = Dropout(%x)          after:  %a, _ = Dropout(%x)
 *              %b = Relu(%x)                            (nothing)
 *
 * Liveness is marked backward from the outputs of the model; it passes through regions. An If computes only the
 * outputs that somebody reads; a Loop drops loop-carried values that are neither read after it nor in its body (other
 * than to update themselves), and scan outputs that nobody reads. Then unmarked nodes are unlinked, unread outputs of
 * the others become NULL, and dead inputs and outputs of regions are taken out of their lists. */
#include "passes/expand/bind.h"
#include "passes/pass.h"

typedef struct Owner { Node *node; uint32_t index; } Owner; /* of a region's input: the node that has the region */

typedef struct Dce {
    Module *m;
    bool *live, *live_node; /* by value id, by node id */
    Owner *owner;           /* by value id */
    VEC(Value *) work;
    bool changed;
} Dce;

static bool is_region(const Node *n, uint32_t i) {
    return n->attr[i].present && attr_kind(n, i) == ATTR_GRAPH;
}

static void find_owners(Graph *g, void *user) {
    Dce *d = user;
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_attr; i++) {
            if (!is_region(n, i)) continue;
            const Graph *r = n->attr[i].graph;
            for (uint32_t j = 0; j < r->n_in; j++) d->owner[r->in[j]->id] = (Owner){n, j};
        }
    }
}

/* ---- marking ---------------------------------------------------------------------------------------------------- */
static void mark(Dce *d, Value *v) {
    if (v == NULL || d->live[v->id]) return;
    d->live[v->id] = true;
    vec_push(&d->m->cx->scratch, &d->work, v);
}

static void mark_in(Dce *d, const Node *n, uint32_t i) {
    if (i < n->n_in) mark(d, n->in[i]);
}

static void mark_region_out(Dce *d, const Graph *g, uint32_t i) {
    if (i < g->n_out) mark(d, g->out[i]);
}

/* What a node needs no matter which of its outputs are read. */
static void mark_node(Dce *d, Node *n) {
    if (d->live_node[n->id]) return;
    d->live_node[n->id] = true;
    if (n->op == OP_Fused) return;
    if (n->op == OP_If) {
        mark_in(d, n, 0);
        return;
    }
    if (n->op == OP_Loop) {
        mark_in(d, n, 0);
        mark_in(d, n, 1);
        mark_region_out(d, attr_at(n, AT_Loop_body)->graph, 0);
        return;
    }
    for (uint32_t i = 0; i < n->n_in; i++) mark(d, n->in[i]);
    for (uint32_t i = 0; i < n->n_attr; i++) {
        if (!is_region(n, i)) continue;
        const Graph *r = n->attr[i].graph;
        for (uint32_t j = 0; j < r->n_out; j++) mark(d, r->out[j]);
    }
}

static uint32_t carried_count(const Node *loop) {
    return loop->n_in > 2 ? loop->n_in - 2u : 0;
}

static void mark_carried(Dce *d, const Node *loop, uint32_t k) {
    mark_region_out(d, attr_at(loop, AT_Loop_body)->graph, 1 + k);
    if (k < carried_count(loop)) mark_in(d, loop, 2 + k);
}

static void mark_output(Dce *d, Node *n, uint32_t k) {
    mark_node(d, n);
    if (n->op == OP_If) {
        mark_region_out(d, attr_at(n, AT_If_then_branch)->graph, k);
        mark_region_out(d, attr_at(n, AT_If_else_branch)->graph, k);
    } else if (n->op == OP_Loop) {
        mark_carried(d, n, k);
    } else if (n->op == OP_Fused) {
        mark_region_out(d, attr_at(n, AT_Fused_body)->graph, k);
    }
}

static void mark_region_input(Dce *d, Owner o) {
    if (o.node == NULL) return;
    if (o.node->op == OP_Loop && o.index >= 2) mark_carried(d, o.node, o.index - 2);
    if (o.node->op == OP_Fused) mark_in(d, o.node, o.index);
}

static void mark_live(Dce *d) { /* what the work list needs */
    while (d->work.n != 0) {
        Value *v = d->work.v[--d->work.n];
        if (v->def != NULL) mark_output(d, v->def, v->def_out);
        else mark_region_input(d, d->owner[v->id]);
    }
}

/* ---- sizes ------------------------------------------------------------------------------------------------------ */
/* A run-time symbol that a live value's type or contents speak of must be set, even where nobody reads the tensor it
 * came with: after Shape(NonZero(%x)) is folded to a symbol, only the count of NonZero is needed. */
static void note_dim(const Context *cx, bool *used, Dim d) {
    if (d == 0) return;
    const DimNode *n = dim_node(cx, d);
    if (n->kind == DIM_SYMBOL && n->runtime) used[n->symbol] = true;
    for (uint32_t i = 0; i < n->n_term; i++)
        for (uint32_t j = 0; j < n->term[i].n_factor; j++) note_dim(cx, used, n->term[i].factor[j]);
    note_dim(cx, used, n->a);
    note_dim(cx, used, n->b);
}

static void note_type(const Context *cx, bool *used, const Type *t) {
    for (; t != NULL; t = t->elem) {
        for (uint32_t i = 0; t->kind == TYPE_TENSOR && t->rank != RANK_UNKNOWN && i < t->rank; i++) note_dim(cx, used, t->dim[i]);
        note_dim(cx, used, t->length);
    }
}

typedef struct Symbols { Dce *d; bool *used; bool marked; } Symbols;

static void note_used(Graph *g, void *user) {
    Symbols *s = user;
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_in; i++) { /* operands of live nodes: their sizes and contents may be folded into kernels */
            const Value *v = n->in[i];
            if (v == NULL || !s->d->live_node[n->id]) continue;
            note_type(s->d->m->cx, s->used, v->type);
            for (uint32_t k = 0; k < v->n_sym; k++) note_dim(s->d->m->cx, s->used, v->sym[k]);
        }
        for (uint32_t i = 0; i < n->n_out; i++)
            if (n->out[i] != NULL && s->d->live[n->out[i]->id]) note_type(s->d->m->cx, s->used, n->out[i]->type);
    }
}

static bool speaks_of(const Context *cx, const bool *used, const Type *t) {
    for (; t != NULL; t = t->elem) {
        for (uint32_t i = 0; t->kind == TYPE_TENSOR && t->rank != RANK_UNKNOWN && i < t->rank; i++) {
            const DimNode *n = t->dim[i] != 0 ? dim_node(cx, t->dim[i]) : NULL;
            if (n != NULL && n->kind == DIM_SYMBOL && n->runtime && used[n->symbol]) return true;
        }
    }
    return false;
}

/* Does somebody read the result whose declared size n checks? n stands before the operator. */
static bool checks_live_sizes(const Dce *d, const Node *n) {
    for (uint32_t i = 0; n->op == OP_BindDims && bind_checks(d->m->cx, n) && n->next != NULL && i < n->next->n_out; i++)
        if (n->next->out[i] != NULL && d->live[n->next->out[i]->id]) return true;
    return false;
}

static void mark_definers(Graph *g, void *user) {
    Symbols *s = user;
    const Context *cx = s->d->m->cx;
    FOR_NODES(n, g) {
        if (!(op_info(n->op)->flags & (OPF_DYNSHAPE | OPF_REGION)) && n->op != OP_BindDims) continue;
        for (uint32_t i = 0; i < n->n_out; i++) {
            if (n->out[i] == NULL || s->d->live[n->out[i]->id]) continue;
            const Type *t = n->op == OP_BindDims ? attr_at(n, AT_BindDims_type)->type : n->out[i]->type;
            if (!speaks_of(cx, s->used, t) && !checks_live_sizes(s->d, n)) continue;
            mark(s->d, n->out[i]);
            s->marked = true;
        }
    }
}

static void mark_sizes(Dce *d) {
    Symbols s = {.d = d, .used = ARENA_ARRAY(&d->m->cx->scratch, bool, dim_symbol_count(d->m->cx) + 1), .marked = true};
    while (s.marked) {
        s.marked = false;
        graph_visit(d->m->main, note_used, &s);
        graph_visit(d->m->main, mark_definers, &s);
        mark_live(d);
    }
}

/* ---- sweeping --------------------------------------------------------------------------------------------------- */
static void drop(Value **list, uint32_t n, uint32_t i) {
    memmove(list + i, list + i + 1, (n - i - 1) * sizeof *list);
}

static void drop_output(Node *n, uint32_t k) {
    drop(n->out, n->n_out--, k);
    for (uint32_t i = k; i < n->n_out; i++)
        if (n->out[i] != NULL) n->out[i]->def_out = (uint16_t)i;
}

static void drop_region_out(Graph *g, uint32_t k) {
    if (k < g->n_out) drop(g->out, g->n_out--, k);
}

static bool live(const Dce *d, const Value *v) {
    return v != NULL && d->live[v->id];
}

static void sweep_if(Dce *d, Node *n) {
    for (uint32_t k = n->n_out; k-- > 0;) {
        if (live(d, n->out[k])) continue;
        drop_output(n, k);
        drop_region_out(attr_at(n, AT_If_then_branch)->graph, k);
        drop_region_out(attr_at(n, AT_If_else_branch)->graph, k);
        d->changed = true;
    }
}

static void sweep_loop(Dce *d, Node *n) {
    Graph *body = attr_at(n, AT_Loop_body)->graph;
    for (uint32_t k = n->n_out; k-- > 0;) {
        bool carried = k < carried_count(n) && 2 + k < body->n_in;
        if (live(d, n->out[k]) || (carried && live(d, body->in[2 + k]))) continue;
        if (carried) {
            drop(n->in, n->n_in--, 2 + k);
            drop(body->in, body->n_in--, 2 + k);
        }
        drop_output(n, k);
        drop_region_out(body, 1 + k);
        d->changed = true;
    }
}

static void sweep_fused(Dce *d, Node *n) {
    Graph *body = attr_at(n, AT_Fused_body)->graph;
    for (uint32_t k = n->n_out; k-- > 0;) {
        if (live(d, n->out[k])) continue;
        drop_output(n, k);
        drop_region_out(body, k);
        d->changed = true;
    }
    for (uint32_t k = n->n_in; k-- > 0;) {
        if (k >= body->n_in || live(d, body->in[k])) continue;
        drop(n->in, n->n_in--, k);
        drop(body->in, body->n_in--, k);
        d->changed = true;
    }
}

static void sweep(Dce *d, Graph *g) {
    FOR_NODES(n, g) {
        if (!d->live_node[n->id]) {
            node_remove(n);
            d->changed = true;
            continue;
        }
        if (n->op == OP_If) sweep_if(d, n);
        if (n->op == OP_Loop) sweep_loop(d, n);
        if (n->op == OP_Fused) sweep_fused(d, n);
        for (uint32_t i = 0; i < n->n_out; i++) {
            if (n->out[i] == NULL || live(d, n->out[i])) continue;
            n->out[i] = NULL;
            d->changed = true;
        }
        for (uint32_t i = 0; i < n->n_attr; i++)
            if (is_region(n, i)) sweep(d, n->attr[i].graph);
    }
}

bool pass_dce(Context *cx, Module *m) {
    Dce d = {.m = m,
             .live = ARENA_ARRAY(&cx->scratch, bool, m->n_value),
             .live_node = ARENA_ARRAY(&cx->scratch, bool, m->n_node),
             .owner = ARENA_ARRAY(&cx->scratch, Owner, m->n_value)};
    graph_visit(m->main, find_owners, &d);
    for (uint32_t i = 0; i < m->main->n_out; i++) mark(&d, m->main->out[i]);
    mark_live(&d);
    mark_sizes(&d);
    sweep(&d, m->main);
    return d.changed;
}
