/* gradient: reverse-mode differentiation of the graph.
 *
 *     %c = Mul(%a, %b)                           %c = Mul(%a, %b)
 *     %ga, %gb = Gradient(%a, %b)        ->      %one = 1 like %c
 *         {xs = ["a", "b"], y = "c"}             %ga = Mul(%one, %b)   %gb = Mul(%one, %a)
 *
 * Nodes between wrt and y are visited in reverse, each node's rule (column grad of ops.def) turns the gradients of its outputs into those
 * of its inputs, and the contributions to a value are added. Operators without a rule of their own are first replaced by simpler ones
 * (passes/grad/expansion.c). Nodes that wrt does not reach, or that y does not need, are left alone; of the new nodes only those
 * that the results need stay. The pass replaces every Gradient node (ai.onnx.preview.training) this way. */
#include "passes/gradient.h"

#include "passes/fold.h"
#include "passes/grad/grad.h"
#include "passes/lower.h"
#include "passes/pass.h"

typedef struct Backward {
    Module *m;
    Graph *g;
    Node *at;         /* new nodes stand before it */
    bool *reached;    /* by value id: a tensor of floats that depends on wrt */
    bool *needed;     /* by value id: y depends on it */
    Value **grad;     /* by value id: sum of the contributions so far */
    uint32_t n_value; /* values that exist when the walk starts */
} Backward;

static bool is_differentiable(const Value *v) {
    return v != NULL && v->type != NULL && v->type->kind == TYPE_TENSOR && (dtype_is_float(v->type->dtype) || grad_is_quantized(v));
}

static bool reached(const Backward *b, const Value *v) { return v != NULL && v->id < b->n_value && b->reached[v->id]; }

/* ---- which nodes lie between wrt and y ------------------------------------------------------------------------------------------- */
typedef struct Captures { const Backward *b; bool any; } Captures;

static void captured(Graph *g, void *user) {
    Captures *c = user;
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_in; i++) c->any |= reached(c->b, n->in[i]);
    }
    for (uint32_t i = 0; i < g->n_out; i++) c->any |= reached(c->b, g->out[i]);
}

static void need_captured(Graph *g, void *user) {
    Backward *b = user;
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_in; i++)
            if (n->in[i] != NULL) b->needed[n->in[i]->id] = true;
    }
    for (uint32_t i = 0; i < g->n_out; i++) b->needed[g->out[i]->id] = true;
}

static void visit_regions(const Node *n, void (*visit)(Graph *, void *), void *user) {
    if ((op_info(n->op)->flags & OPF_REGION) == 0) return;
    for (uint32_t i = 0; i < n->n_attr; i++)
        if (attr_kind(n, i) == ATTR_GRAPH && n->attr[i].present) graph_visit(n->attr[i].graph, visit, user);
}

static bool reads_reached(Backward *b, const Node *n) {
    Captures c = {b, false};
    for (uint32_t i = 0; i < n->n_in; i++) c.any |= reached(b, n->in[i]);
    if (!c.any) visit_regions(n, captured, &c);
    return c.any;
}

static bool on_the_way(const Backward *b, const Node *n) {
    for (uint32_t i = 0; i < n->n_out; i++)
        if (n->out[i] != NULL && b->reached[n->out[i]->id] && b->needed[n->out[i]->id]) return true;
    return false;
}

static void mark(Backward *b, uint32_t n_y, Value *const *y, uint32_t n_wrt, Value *const *wrt) {
    Context *cx = b->m->cx;
    b->n_value = b->m->n_value;
    b->reached = ARENA_ARRAY(&cx->scratch, bool, b->n_value);
    b->needed = ARENA_ARRAY(&cx->scratch, bool, b->n_value);
    for (uint32_t i = 0; i < n_wrt; i++) b->reached[wrt[i]->id] = true;
    for (Node *n = b->g->first; n != b->at; n = n->next) {
        if (!reads_reached(b, n)) continue;
        for (uint32_t i = 0; i < n->n_out; i++)
            if (is_differentiable(n->out[i])) b->reached[n->out[i]->id] = true;
    }
    for (uint32_t i = 0; i < n_y; i++) b->needed[y[i]->id] = true;
    for (Node *n = b->at->prev; n != NULL; n = n->prev) {
        bool any = false;
        for (uint32_t i = 0; i < n->n_out; i++) any |= n->out[i] != NULL && b->needed[n->out[i]->id];
        if (!any) continue;
        for (uint32_t i = 0; i < n->n_in; i++)
            if (n->in[i] != NULL) b->needed[n->in[i]->id] = true;
        visit_regions(n, need_captured, b);
    }
}

/* ---- operators into simpler ones ------------------------------------------------------------------------------------------------- */
/* Output i of n becomes output of the node that made `to`; whoever reads it sees no difference. */
static void take_over(Module *m, Node *n, uint32_t i, Value *to, const Node *before) {
    Value *from = n->out[i];
    bool fresh = false; /* made by this expansion, and not an output already */
    for (const Node *k = n->prev; k != before && !fresh; k = k->prev) fresh = k == to->def;
    fresh = fresh && to->name == 0;
    if (!fresh) to = build1(m, n, OP_Identity, to);
    Node *def = to->def;
    for (Node *k = n->prev; k != before; k = k->prev)
        for (uint32_t j = 0; j < k->n_in; j++)
            if (k->in[j] == to) k->in[j] = from;
    def->out[to->def_out] = from;
    from->def = def;
    from->def_out = to->def_out;
    from->sym = to->sym;
    from->n_sym = to->n_sym;
    n->out[i] = NULL;
}

static bool expand_in_place(Module *m, Node *n, ExpandFn *expand) {
    Value **out = ARENA_ARRAY(&m->cx->scratch, Value *, n->n_out);
    const Node *before = n->prev;
    if (!expand(m, n, out)) {
        if (m->cx->n_error == 0) diag(m->cx, SEV_ERROR, n->loc, "its gradient is not supported: it cannot be written with simpler operators here");
        return false;
    }
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (n->out[i] == NULL || out[i] == NULL) continue;
        for (uint32_t k = 0; k < i; k++) /* one value for two outputs */
            if (out[k] == out[i]) out[i] = build1(m, n, OP_Identity, out[i]);
        take_over(m, n, i, out[i], before);
    }
    node_remove(n);
    return true;
}

/* Until no operator on the way needs it: expansions may hold operators to expand. */
static bool expand_on_the_way(Backward *b, uint32_t n_y, Value *const *y, uint32_t n_wrt, Value *const *wrt) {
    for (bool again = true; again;) {
        again = false;
        mark(b, n_y, y, n_wrt, wrt);
        for (Node *n = b->g->first, *next; n != b->at; n = next) {
            next = n->next;
            if (!on_the_way(b, n)) continue;
            ExpandFn *expand = grad_expansion_of(b->m, n);
            if (expand == NULL) continue;
            if (!expand_in_place(b->m, n, expand)) return false;
            again = true;
        }
    }
    return true;
}

/* ---- backwards ------------------------------------------------------------------------------------------------------------------- */
static bool add_contribution(Backward *b, const Node *n, Value *v, Value *g) {
    if (g == NULL || !reached(b, v)) return true;
    if (g->poison || g->type == NULL || g->type->dtype != v->type->dtype || g->type->rank != v->type->rank) {
        if (b->m->cx->n_error == 0) diag(b->m->cx, SEV_ERROR, n->loc, "internal: the gradient of an input has another type than the input");
        return false;
    }
    Value *sum = b->grad[v->id];
    b->grad[v->id] = sum != NULL ? build2(b->m, b->at, OP_Add, sum, g) : g;
    return true;
}

/* One node backwards: false after a diagnostic. */
static bool back(Backward *b, Node *n) {
    Context *cx = b->m->cx;
    Value **dy = ARENA_ARRAY(&cx->scratch, Value *, n->n_out), **dx = ARENA_ARRAY(&cx->scratch, Value *, n->n_in);
    bool any = false, *wanted = ARENA_ARRAY(&cx->scratch, bool, n->n_in);
    for (uint32_t i = 0; i < n->n_out; i++) {
        dy[i] = n->out[i] != NULL && n->out[i]->id < b->n_value ? b->grad[n->out[i]->id] : NULL;
        any |= dy[i] != NULL;
    }
    if (!any) return true;
    for (uint32_t i = 0; i < n->n_in; i++) wanted[i] = reached(b, n->in[i]);
    GradFn *rule = op_rules(n->op).grad;
    if (rule == NULL) {
        diag(cx, SEV_ERROR, n->loc, "it has no gradient, and a gradient that was asked for passes through it");
        return false;
    }
    const Node *last = b->at->prev;
    Grad g = {.m = b->m, .n = n, .at = b->at, .dy = dy, .dx = dx, .wanted = wanted, .walk = b};
    bool ok = rule(&g);
    for (Node *k = b->at->prev; k != last; k = k->prev) k->loc = n->loc;
    if (!ok && cx->n_error == 0) diag(cx, SEV_ERROR, n->loc, "its gradient is not supported for these operands");
    for (uint32_t i = 0; ok && i < n->n_in; i++) ok = add_contribution(b, n, n->in[i], dx[i]);
    return ok;
}

bool g_reached(const Grad *g, const Value *v) { return reached(g->walk, v); }
bool g_contribute(Grad *g, Value *v, Value *d) { return add_contribution(g->walk, g->n, v, d); }

bool grad_expand_region(Module *m, Graph *region, uint32_t n_y, Value *const *y, uint32_t n_wrt, Value *const *wrt) {
    Node *end = node_new(m, region, NULL, OP_Identity, 1, &y[0], 1);
    Backward b = {.m = m, .g = region, .at = end};
    bool ok = expand_on_the_way(&b, n_y, y, n_wrt, wrt);
    node_remove(end);
    return ok;
}

static Value *ones_like(Module *m, Node *at, Value *v) {
    Value *one = value_const_scalar(m, v->type->dtype, 1);
    return v->type->rank == 0 ? one : build2(m, at, OP_Expand, one, build1(m, at, OP_Shape, v));
}

/* New nodes whose results nobody reads. */
static void remove_unused(Module *m, Graph *g, const Node *first, Node *at, uint32_t n_grad, Value *const *grad) {
    uint32_t *uses = ARENA_ARRAY(&m->cx->scratch, uint32_t, m->n_value);
    grad_count_reads(g, uses);
    for (uint32_t i = 0; i < n_grad; i++)
        if (grad[i] != NULL) uses[grad[i]->id]++;
    for (Node *n = at->prev, *before; n != first; n = before) {
        before = n->prev;
        bool used = false;
        for (uint32_t i = 0; i < n->n_out; i++) used |= n->out[i] != NULL && uses[n->out[i]->id] != 0;
        if (used) continue;
        for (uint32_t i = 0; i < n->n_in; i++)
            if (n->in[i] != NULL) uses[n->in[i]->id]--;
        node_remove(n);
    }
}

static bool walk(Backward *b, uint32_t n_y, Value *const *y, Value *const *seed) {
    b->grad = ARENA_ARRAY(&b->m->cx->scratch, Value *, b->n_value);
    Node *last = b->at->prev;
    for (uint32_t i = 0; i < n_y; i++) {
        if (!b->reached[y[i]->id]) continue;
        Value *s = seed != NULL && seed[i] != NULL ? seed[i] : ones_like(b->m, b->at, y[i]), *sum = b->grad[y[i]->id];
        b->grad[y[i]->id] = sum != NULL ? build2(b->m, b->at, OP_Add, sum, s) : s;
    }
    for (Node *n = last, *before; n != NULL; n = before) {
        before = n->prev;
        if (on_the_way(b, n) && !back(b, n)) return false;
    }
    return true;
}

bool gradient_of(Module *m, Graph *g, Node *at, uint32_t n_y, Value *const *y, Value *const *seed, uint32_t n_wrt, Value *const *wrt, Value **grad) {
    for (uint32_t i = 0; i < n_wrt; i++) grad[i] = NULL;
    if (n_y == 0 || n_wrt == 0) return true;
    Node *anchor = at != NULL ? at : node_new(m, g, NULL, OP_Identity, 1, &y[0], 1);
    Backward b = {.m = m, .g = g, .at = anchor};
    bool ok = expand_on_the_way(&b, n_y, y, n_wrt, wrt);
    const Node *first = anchor->prev;
    ok = ok && walk(&b, n_y, y, seed);
    for (uint32_t i = 0; ok && i < n_wrt; i++) grad[i] = b.grad[wrt[i]->id];
    if (ok) remove_unused(m, g, first, anchor, n_wrt, grad);
    if (at == NULL) node_remove(anchor);
    return ok;
}

/* ---- constants of sizes ---------------------------------------------------------------------------------------------------------- */
enum { FOLD_BYTES = 1024 };

static bool is_small(const Value *v, const bool *kept) { return v == NULL || (v->data != NULL && v->data->bytes <= FOLD_BYTES && !kept[v->id]); }

void gradient_fold_sizes(Module *m, uint32_t n_keep, Value *const *keep) {
    bool *kept = ARENA_ARRAY(&m->cx->scratch, bool, m->n_value), changed = false;
    for (uint32_t i = 0; i < n_keep; i++) kept[keep[i]->id] = true;
    FOR_NODES(n, m->main) {
        bool small = n->n_in != 0;
        for (uint32_t i = 0; i < n->n_in; i++) small &= is_small(n->in[i], kept);
        if (!small || (op_info(n->op)->flags & (OPF_RANDOM | OPF_REGION)) != 0) continue;
        if (changed && !node_reinfer(m, n)) return;
        changed |= fold_node(m, n);
    }
    if (changed) graph_infer(m, m->main);
}

/* ---- Gradient nodes -------------------------------------------------------------------------------------------------------------- */
static Value *find_named(const Graph *g, Str name) {
    for (; g != NULL; g = g->outer) {
        for (uint32_t i = 0; i < g->n_in; i++)
            if (g->in[i]->name == name) return g->in[i];
        for (const Node *n = g->first; n != NULL; n = n->next)
            for (uint32_t i = 0; i < n->n_out; i++)
                if (n->out[i] != NULL && n->out[i]->name == name) return n->out[i];
    }
    return NULL;
}

static Value *zeros_like(Module *m, Node *at, Value *v) {
    return build2(m, at, OP_Expand, value_const_scalar(m, v->type->dtype, 0), build1(m, at, OP_Shape, v));
}

static bool differentiate(Module *m, Graph *g, Node *gradient) {
    Context *cx = m->cx;
    const Attr *xs = attr_at(gradient, AT_Gradient_xs);
    Value *y = find_named(g, attr_s(gradient, AT_Gradient_y));
    if (y == NULL) {
        diag(cx, SEV_ERROR, gradient->loc, "y names \"%s\", which is no value of the graph", str_text(cx, attr_s(gradient, AT_Gradient_y)));
        return false;
    }
    uint32_t n = xs->strings.n;
    Value **wrt = ARENA_ARRAY(&cx->scratch, Value *, n), **grad = ARENA_ARRAY(&cx->scratch, Value *, n);
    for (uint32_t i = 0; i < n; i++) {
        const Value *named = find_named(g, xs->strings.v[i]);
        wrt[i] = i < gradient->n_in ? gradient->in[i] : NULL;
        if (wrt[i] == NULL || (wrt[i] != named && wrt[i]->name != xs->strings.v[i])) {
            diag(cx, SEV_ERROR, gradient->loc, "input %u must be the value \"%s\" that xs names", i, str_text(cx, xs->strings.v[i]));
            return false;
        }
    }
    if (!gradient_of(m, g, gradient, 1, &y, NULL, n, wrt, grad)) return false;
    Value **result = ARENA_ARRAY(&cx->scratch, Value *, n);
    for (uint32_t i = 0; i < n && i < gradient->n_out; i++) {
        if (gradient->out[i] == NULL) continue;
        Value *d = grad[i] != NULL ? grad[i] : zeros_like(m, gradient, wrt[i]);
        result[i] = build1(m, gradient, OP_Identity, d); /* a result of its own */
    }
    Value **map = ARENA_ARRAY(&cx->scratch, Value *, m->n_value);
    for (uint32_t i = 0; i < n && i < gradient->n_out; i++)
        if (gradient->out[i] != NULL) map[gradient->out[i]->id] = result[i];
    node_remove(gradient);
    values_replace(m, map);
    return true;
}

bool pass_gradient(Context *cx, Module *m) {
    bool changed = false;
    VEC(Value *) keep = {0};
    FOR_NODES(n, m->main) {
        for (uint32_t i = 0; n->op == OP_Gradient && i < n->n_in; i++)
            if (n->in[i] != NULL) vec_push(&cx->scratch, &keep, n->in[i]);
    }
    if (keep.n != 0) {
        pass_sequences(cx, m);
        gradient_fold_sizes(m, keep.n, keep.v);
    }
    FOR_NODES(n, m->main) {
        if (n->op != OP_Gradient) continue;
        if (!differentiate(m, m->main, n)) return changed;
        changed = true;
        n_next = m->main->first; /* nodes were replaced: look again; Gradient nodes are gone one by one */
    }
    if (changed && cx->n_error == 0) graph_infer(m, m->main);
    return changed;
}
