/* Rewrites operators into simpler ones, by the expand rules of ops.def.
 *
 *     %y = Compress(%x, %c)      ->      %i = NonZeroIndex(%c)   %y = Gather(%x, %i)
 *
 * Two kinds of operators are expanded: those that have no other way to become kernels, and those whose sizes may come
 * from run-time operands (OPF_BIND), whose rule adds the nodes that bind the sizes (and BatchNormalization, for its training
 * form). A rule's new nodes stand before the
 * node and are looked at next, so expansions of expansions happen in the same walk. */
#include "passes/lower.h"
#include "passes/pass.h"

typedef struct Expansion {
    Context *cx;
    Module *m;
    Value **replace;  /* by value id */
    uint32_t n_replace;
    bool changed;
} Expansion;

static bool wanted(const Node *n, OpRules rules) {
    if (rules.expand == NULL) return false;
    return (rules.define == NULL && rules.lower == NULL) || (op_info(n->op)->flags & OPF_BIND);
}

static bool known_types(const Node *n) {
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i] != NULL && (n->in[i]->poison || n->in[i]->type == NULL)) return false;
    for (uint32_t i = 0; i < n->n_out; i++)
        if (n->out[i] != NULL && (n->out[i]->poison || n->out[i]->type == NULL)) return false;
    return true;
}

static void note_replacement(Expansion *x, Value *from, Value *to) {
    if (x->m->n_value > x->n_replace) {
        uint32_t n = x->m->n_value + 256;
        Value **grown = ARENA_ARRAY(&x->cx->arena, Value *, n);
        if (x->n_replace != 0) memcpy(grown, x->replace, x->n_replace * sizeof *grown);
        x->replace = grown;
        x->n_replace = n;
    }
    x->replace[from->id] = to;
    if (from->name != 0 && to->name == 0 && to->def != NULL) {
        to->name = from->name;
        from->name = 0;
    }
    if (to->declared == NULL) to->declared = from->declared;
}

static void follow(const Expansion *x, Node *n) { /* inputs that were replaced before */
    for (uint32_t i = 0; i < n->n_in; i++)
        while (n->in[i] != NULL && n->in[i]->id < x->n_replace && x->replace[n->in[i]->id] != NULL) n->in[i] = x->replace[n->in[i]->id];
}

static void expand_graph(Graph *g, void *user) {
    Expansion *x = user;
    for (Node *n = g->first; n != NULL;) {
        follow(x, n);
        OpRules rules = op_rules(n->op);
        Node *before = n->prev, *next = n->next;
        if (!wanted(n, rules) || !known_types(n)) {
            n = next;
            continue;
        }
        Value **out = ARENA_ARRAY(&x->cx->arena, Value *, n->n_out);
        uint32_t n_node = x->m->n_node;
        bool done = rules.expand(x->m, n, out);
        x->changed |= done || x->m->n_node != n_node;
        if (!done) {
            n = next;
            continue;
        }
        for (uint32_t i = 0; i < n->n_out; i++)
            if (n->out[i] != NULL && out[i] != NULL) note_replacement(x, n->out[i], out[i]);
        node_remove(n);
        n = before != NULL ? before->next : g->first;
        if (x->cx->n_error != 0) return;
    }
}

bool pass_expand(Context *cx, Module *m) {
    Expansion x = {.cx = cx, .m = m};
    graph_visit(m->main, expand_graph, &x);
    if (!x.changed) return false;
    Value **map = ARENA_ARRAY(&cx->scratch, Value *, m->n_value + 1u);
    for (uint32_t i = 0; i < x.n_replace && i < m->n_value; i++) {
        Value *to = x.replace[i];
        while (to != NULL && to->id < x.n_replace && x.replace[to->id] != NULL) to = x.replace[to->id];
        map[i] = to;
    }
    values_replace(m, map);
    graph_infer(m, m->main); /* replacements may have other symbols for sizes that only the run knows */
    /* what rules do to weights (transposing those of an LSTM, widening quantized ones) is for the compiler to do */
    if (cx->n_error == 0 && pass_enabled(m, "fold_consts")) pass_fold_consts(cx, m);
    return true;
}
