/* Gradients of If and Loop.
 *
 *     If(c) { A } { B }     ->    If(c) { A, backward of A } { B, backward of B } gives the gradients of what A and B read from outside
 *     Loop(M, …)            ->    Scan over 0 … M-1, whose gradient is passes/grad/scan.c; a condition that ends the loop early freezes the state */
#include "passes/gradient.h"
#include "passes/grad/region.h"
#include "passes/rules.h"

typedef struct Collect { Grad *g; bool *inside; bool *seen; VEC(Value *) found; } Collect;

static void mark_inside(Graph *g, void *user) {
    Collect *c = user;
    for (uint32_t i = 0; i < g->n_in; i++) c->inside[g->in[i]->id] = true;
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_out; i++)
            if (n->out[i] != NULL) c->inside[n->out[i]->id] = true;
    }
}

static void collect_one(Collect *c, Value *v) {
    if (v == NULL || c->inside[v->id] || c->seen[v->id] || !g_reached(c->g, v)) return;
    c->seen[v->id] = true;
    vec_push(&c->g->m->cx->arena, &c->found, v);
}

static void collect_reads(Graph *g, void *user) {
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_in; i++) collect_one(user, n->in[i]);
    }
    for (uint32_t i = 0; i < g->n_out; i++) collect_one(user, g->out[i]);
}

static void collect(Collect *c, Graph *region) {
    graph_visit(region, mark_inside, c);
    graph_visit(region, collect_reads, c);
}

static Collect collect_new(Grad *g) {
    Context *cx = g->m->cx;
    return (Collect){.g = g, .inside = ARENA_ARRAY(&cx->scratch, bool, g->m->n_value), .seen = ARENA_ARRAY(&cx->scratch, bool, g->m->n_value)};
}

Values region_captures(Grad *g, Graph *region) {
    Collect c = collect_new(g);
    collect(&c, region);
    return (Values){c.found.v, c.found.n};
}

/* ---- If -------------------------------------------------------------------------------------------------------------------------- */
static void find_random(Graph *g, void *user) {
    FOR_NODES(n, g) *(bool *)user |= (op_info(n->op)->flags & OPF_RANDOM) != 0;
}

static Value *appended(Module *m, Graph *g, Op op, Value *a, Value *b) {
    Node *n = node_new(m, g, NULL, op, b != NULL ? 2 : 1, (Value *[]){a, b}, 1);
    node_infer(m, n);
    return n->out[0];
}

/* The branch once more, with the gradients of captured values as its results. */
static Graph *backward_branch(Grad *g, const Graph *branch, const Values *captured) {
    Module *m = g->m;
    Graph *copy = graph_clone(m, branch, g->n->graph, NULL);
    Value **y = ARENA_ARRAY(&m->cx->arena, Value *, g->n->n_out), **seed = ARENA_ARRAY(&m->cx->arena, Value *, g->n->n_out);
    Value **grad = ARENA_ARRAY(&m->cx->arena, Value *, captured->n + 1u);
    uint32_t n_y = 0;
    for (uint32_t i = 0; i < g->n->n_out; i++) {
        if (g->dy[i] == NULL) continue;
        y[n_y] = copy->out[i];
        seed[n_y++] = g->dy[i];
    }
    if (!gradient_of(m, copy, NULL, n_y, y, seed, captured->n, captured->v, grad)) return NULL;
    copy->n_out = 0;
    copy->out = NULL;
    for (uint32_t i = 0; i < captured->n; i++) {
        Value *v = captured->v[i], *d = grad[i];
        if (d == NULL) d = appended(m, copy, OP_Expand, value_const_scalar(m, v->type->dtype, 0), appended(m, copy, OP_Shape, v, NULL));
        graph_add_output(m, copy, appended(m, copy, OP_Identity, d, NULL));
    }
    return copy;
}

bool grad_if(Grad *g) {
    Module *m = g->m;
    Graph *then = attr_at(g->n, AT_If_then_branch)->graph, *otherwise = attr_at(g->n, AT_If_else_branch)->graph;
    bool random = false;
    graph_visit(then, find_random, &random);
    graph_visit(otherwise, find_random, &random);
    if (random) {
        diag(m->cx, SEV_ERROR, g->n->loc, "its gradient is not supported: a branch draws random numbers, which the backward pass would draw again");
        return false;
    }
    Collect c = collect_new(g);
    collect(&c, then);
    collect(&c, otherwise);
    Values captured = {c.found.v, c.found.n};
    if (captured.n == 0) return true;
    Graph *back[2] = {backward_branch(g, then, &captured), backward_branch(g, otherwise, &captured)};
    if (back[0] == NULL || back[1] == NULL) return false;
    Node *n = g_node(g, OP_If, 1, &g->n->in[0], captured.n);
    attr_set_graph(n, AT_If_then_branch, back[0]);
    attr_set_graph(n, AT_If_else_branch, back[1]);
    attr_set_i(n, AT_If_keep, attr_i(g->n, AT_If_keep));
    if (!node_infer(m, n)) return false;
    for (uint32_t i = 0; i < captured.n; i++)
        if (!g_contribute(g, captured.v[i], g_reshape_like(g, n->out[i], captured.v[i]))) return false;
    return true;
}

/* ---- Loop as Scan ---------------------------------------------------------------------------------------------------------------- */
static bool is_true(Module *m, const Value *v) {
    uint32_t n;
    if (v == NULL) return true;
    if (v->data != NULL) return const_i64(v, 0) != 0;
    const Dim *d = value_dims(m, v, &n);
    return d != NULL && n == 1 && dim_is_const(m->cx, d[0]) && dim_value(m->cx, d[0]) != 0;
}

static const Value *behind_identities(const Value *v) {
    while (v->def != NULL && v->def->op == OP_Identity) v = v->def->in[0];
    return v;
}

bool grad_expand_loop(Module *m, Node *n, Value **out) {
    Graph *body = attr_at(n, AT_Loop_body)->graph;
    uint32_t carried = n->n_in - 2u, count, stacked = body->n_out - 1u - carried;
    const Dim *trip = n->in[0] != NULL ? value_dims(m, n->in[0], &count) : NULL;
    if (trip == NULL) {
        diag(m->cx, SEV_ERROR, n->loc, "its gradient needs a trip count that is known at compile time");
        return false;
    }
    bool early = !is_true(m, n->in[1]) || !(behind_identities(body->out[0]) == body->in[1] || is_true(m, behind_identities(body->out[0])));
    if (early && stacked != 0) {
        diag(m->cx, SEV_ERROR, n->loc, "its gradient is not supported: a condition ends it early, and it stacks results");
        return false;
    }
    /* states: the carried values and, if the loop may end early, the condition; scanned: the number of the iteration */
    uint32_t states = carried + early;
    Value **map = ARENA_ARRAY(&m->cx->arena, Value *, body->n_in), **param = ARENA_ARRAY(&m->cx->arena, Value *, states + 1u);
    Value *number = map[0] = value_new(m, body->in[0]->type, 0), *condition = value_new(m, body->in[1]->type, 0);
    map[1] = early ? condition : value_const_scalar(m, DT_BOOL, 1);
    for (uint32_t i = 0; i < carried; i++) param[i] = map[2 + i] = value_new(m, body->in[2 + i]->type, 0);
    if (early) param[carried] = condition;
    Graph *scan = graph_clone(m, body, n->graph, map);
    Value **result = scan->out;
    scan->n_out = 0;
    scan->out = NULL;
    for (uint32_t i = 0; i < states; i++) graph_adopt_input(m, scan, param[i]);
    graph_adopt_input(m, scan, number);
    for (uint32_t i = 0; i < carried; i++) {
        Value *v = result[1 + i];
        if (early) {
            Node *hold = node_new(m, scan, NULL, OP_Where, 3, (Value *[]){condition, v, param[i]}, 1);
            if (!node_infer(m, hold)) return false;
            v = hold->out[0];
        } else if (v->def == NULL) {
            v = appended(m, scan, OP_Identity, v, NULL);
        }
        graph_add_output(m, scan, v);
    }
    if (early) graph_add_output(m, scan, appended(m, scan, OP_And, condition, result[0]));
    for (uint32_t i = 0; i < stacked; i++) graph_add_output(m, scan, appended(m, scan, OP_Identity, result[1 + carried + i], NULL));
    Value **in = ARENA_ARRAY(&m->cx->arena, Value *, states + 1u);
    for (uint32_t i = 0; i < carried; i++) in[i] = n->in[2 + i];
    if (early) in[carried] = n->in[1] != NULL ? n->in[1] : value_const_scalar(m, DT_BOOL, 1);
    Value *limit = n->in[0]->type->rank == 0 ? n->in[0] : build2(m, n, OP_Reshape, n->in[0], value_const_i64(m, 0, NULL));
    in[states] = build3(m, n, OP_Range, value_const_scalar(m, DT_I64, 0), limit, value_const_scalar(m, DT_I64, 1));
    Node *s = expand_node(m, n, OP_Scan, states + 1u, in, states + stacked);
    attr_set_graph(s, AT_Scan_body, scan);
    attr_set_i(s, AT_Scan_num_scan_inputs, 1);
    if (!node_infer(m, s)) return false;
    for (uint32_t i = 0; i < n->n_out; i++) out[i] = s->out[i < carried ? i : states + i - carried];
    return true;
}
