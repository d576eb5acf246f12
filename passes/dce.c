/* dce: removes what no output needs.
 *
 *     before:  %a, %mask = Dropout(%x)          after:  %a, _ = Dropout(%x)
 *              %b = Relu(%x)                            (nothing)
 *
 * Liveness is marked backward from the outputs of the model; it passes through regions. An If computes only the
 * outputs that somebody reads; a Loop drops loop-carried values that are neither read after it nor in its body (other
 * than to update themselves), and scan outputs that nobody reads. Then unmarked nodes are unlinked, unread outputs of
 * the others become NULL, and dead inputs and outputs of regions are taken out of their lists. */
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

static void mark_all(Dce *d) {
    for (uint32_t i = 0; i < d->m->main->n_out; i++) mark(d, d->m->main->out[i]);
    while (d->work.n != 0) {
        Value *v = d->work.v[--d->work.n];
        if (v->def != NULL) mark_output(d, v->def, v->def_out);
        else mark_region_input(d, d->owner[v->id]);
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
    mark_all(&d);
    sweep(&d, m->main);
    return d.changed;
}
