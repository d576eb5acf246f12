/* gradient: reverse-mode differentiation of the graph.
 *
 *     %c = Mul(%a, %b)                           %c = Mul(%a, %b)
 *     %ga, %gb = Gradient(%a, %b)        ->      %one = 1 like %c
 *         {xs = ["a", "b"], y = "c"}             %ga = Mul(%one, %b)   %gb = Mul(%one, %a)
 *
 * Every Gradient node (ai.onnx.preview.training) is replaced by the backward graph of y with respect to xs: nodes
 * between xs and y are visited in reverse, each node's rule (column grad of ops.def) turns the gradients of its outputs
 * into those of its inputs, and the contributions to a value are added. Nodes that xs do not reach are left alone. A
 * node on the way without a rule is an error that names it. */
#include "passes/grad/grad.h"

#include "passes/lower.h"
#include "passes/pass.h"

typedef struct Backward {
    Module *m;
    Node *at;         /* the Gradient node: new nodes stand before it */
    bool *reached;    /* by value id: depends on xs */
    Value **grad;     /* by value id: sum of the contributions so far */
    uint32_t n_value; /* values that exist when the walk starts */
} Backward;

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

static void add_contribution(Backward *b, const Value *v, Value *g) {
    if (v == NULL || g == NULL || v->id >= b->n_value || !b->reached[v->id]) return;
    Value *sum = b->grad[v->id];
    b->grad[v->id] = sum != NULL ? build2(b->m, b->at, OP_Add, sum, g) : g;
}

static bool reaches(const Backward *b, const Node *n) {
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i] != NULL && n->in[i]->id < b->n_value && b->reached[n->in[i]->id]) return true;
    return false;
}

/* One node backwards: false after a diagnostic. */
static bool back(Backward *b, Node *n) {
    Context *cx = b->m->cx;
    Value **out = ARENA_ARRAY(&cx->scratch, Value *, n->n_out), **in = ARENA_ARRAY(&cx->scratch, Value *, n->n_in);
    bool any = false;
    for (uint32_t i = 0; i < n->n_out; i++) {
        out[i] = n->out[i] != NULL ? b->grad[n->out[i]->id] : NULL;
        any |= out[i] != NULL;
    }
    if (!any || !reaches(b, n)) return true;
    GradFn *rule = op_rules(n->op).grad;
    if (rule == NULL) {
        diag(cx, SEV_ERROR, n->loc, "it has no gradient rule, and the gradient at %s \"%s\" passes through it", str_text(cx, b->at->loc.op), str_text(cx, b->at->loc.node));
        return false;
    }
    if (!rule(b->m, n, b->at, out, in)) return false;
    for (uint32_t i = 0; i < n->n_in; i++) add_contribution(b, n->in[i], in[i]);
    return true;
}

static Value *filled_like(Module *m, Node *at, Value *v, double x) {
    return build2(m, at, OP_Expand, value_const_scalar(m, v->type->dtype, x), build1(m, at, OP_Shape, v));
}

static bool differentiate(Module *m, Graph *g, Node *gradient) {
    Context *cx = m->cx;
    const Attr *xs = attr_at(gradient, AT_Gradient_xs);
    Value *y = find_named(g, attr_s(gradient, AT_Gradient_y));
    if (y == NULL) {
        diag(cx, SEV_ERROR, gradient->loc, "y names \"%s\", which is no value of the graph", str_text(cx, attr_s(gradient, AT_Gradient_y)));
        return false;
    }
    Backward b = {.m = m, .at = gradient, .n_value = m->n_value};
    b.reached = ARENA_ARRAY(&cx->scratch, bool, m->n_value);
    b.grad = ARENA_ARRAY(&cx->scratch, Value *, m->n_value);
    for (uint32_t i = 0; i < xs->strings.n; i++) {
        Value *x = find_named(g, xs->strings.v[i]);
        if (x == NULL || i >= gradient->n_in || gradient->in[i] != x) {
            diag(cx, SEV_ERROR, gradient->loc, "input %u must be the value \"%s\" that xs names", i, str_text(cx, xs->strings.v[i]));
            return false;
        }
        b.reached[x->id] = true;
    }
    Node *last = NULL;
    for (Node *n = g->first; n != gradient; n = n->next) {
        bool on_the_way = reaches(&b, n);
        for (uint32_t i = 0; i < n->n_out; i++)
            if (n->out[i] != NULL && on_the_way) b.reached[n->out[i]->id] = true;
        last = n;
    }
    if (b.reached[y->id]) b.grad[y->id] = filled_like(m, gradient, y, 1);
    bool ok = true;
    for (Node *n = last, *before; n != NULL && ok; n = before) {
        before = n->prev;
        ok = back(&b, n);
    }
    for (uint32_t i = 0; ok && i < xs->strings.n && i < gradient->n_out; i++) {
        if (gradient->out[i] == NULL) continue;
        Value *x = gradient->in[i], *d = b.grad[x->id] != NULL ? b.grad[x->id] : filled_like(m, gradient, x, 0);
        if (d->def == NULL || d->name != 0) d = build1(m, gradient, OP_Identity, d); /* a result of its own */
        value_replace(m, gradient->out[i], d);
    }
    if (ok) node_remove(gradient);
    return ok;
}

bool pass_gradient(Context *cx, Module *m) {
    bool changed = false;
    (void)cx;
    FOR_NODES(n, m->main) {
        if (n->op == OP_Gradient) changed |= differentiate(m, m->main, n);
    }
    return changed;
}
