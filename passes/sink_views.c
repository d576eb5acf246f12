/* sink_views: pointwise operators go before the views they read through, so that they fuse with the producer.
 *
 *     %a = Gemm(%x, %w)                        %a = Gemm(%x, %w)
 *     %b = Reshape(%a, …)           ->         %r = Relu(%a)             fuses with Gemm
 *     %c = Relu(%b)                            %c = Reshape(%r, …)       costs nothing
 *
 * Only where the view has no other reader and the operator reads one tensor, its other operands being constants of one
 * element: then it does not matter which shape the elements stand in. */
#include "passes/lower.h"
#include "passes/pass.h"

static bool one_element(Context *cx, const Value *v) {
    if (v == NULL) return true;
    Dim n = v->data != NULL && v->type->kind == TYPE_TENSOR ? type_numel(cx, v->type) : 0;
    return dim_is_const(cx, n) && dim_value(cx, n) == 1;
}

/* The only operand of a pointwise operator that is more than a constant of one element; -1 if it is none or has several. */
static int tensor_operand(Context *cx, const Node *n) {
    const OpInfo *info = op_info(n->op);
    int found = -1;
    if (!(info->flags & OPF_INPLACE) || !(info->flags & OPF_PURE) || op_rules(n->op).define == NULL || n->n_out != 1 || n->out[0] == NULL) return -1;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (one_element(cx, n->in[i])) continue;
        if (found >= 0) return -1;
        found = (int)i;
    }
    return found;
}

/* Exchanges a view and the operator n behind it. The value that n defined keeps its readers and its name. */
static void exchange(Context *cx, Node *view, Node *n, uint32_t operand) {
    Value *x = view->in[0], *between = view->out[0], *result = n->out[0];
    n->in[operand] = x;
    n->out[0] = between;
    between->def = n;
    between->type = type_tensor(cx, result->type->dtype, x->type->rank, x->type->dim);
    between->sym = NULL;
    between->n_sym = 0;
    between->name = 0;
    between->declared = NULL;
    view->in[0] = between;
    view->out[0] = result;
    result->def = view;
    if (n->next != NULL) {
        node_move_before(view, n->next);
    } else { /* behind n, at the end of the graph */
        node_move_before(view, n);
        node_move_before(n, view);
    }
}

/* A constant of more dims than x has would give the result its rank. */
static bool fits_rank(const Node *n, const Value *x) {
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i] != NULL && n->in[i]->data != NULL && n->in[i]->type->rank > x->type->rank) return false;
    return true;
}

static void sink(Graph *g, void *user) {
    struct { Context *cx; const uint32_t *uses; bool changed; } *s = user;
    for (Node *n = g->first; n != NULL; n = n->next) {
        int operand = tensor_operand(s->cx, n);
        if (operand < 0) continue;
        Value *v = n->in[operand];
        Node *view = v->def;
        if (view == NULL || view->graph != g || !op_is_reshape(view->op) || s->uses[v->id] != 1 || !type_same_dims(v->type, n->out[0]->type)) continue;
        const Value *x = view->in[0];
        bool computed = x->def != NULL && x->def->graph == g && s->uses[x->id] == 1 && !op_is_reshape(x->def->op);
        if (!computed || x->type->kind != TYPE_TENSOR || x->type->rank == RANK_UNKNOWN || !fits_rank(n, x)) continue;
        exchange(s->cx, view, n, (uint32_t)operand);
        s->changed = true;
    }
}

bool pass_sink_views(Context *cx, Module *m) {
    struct { Context *cx; const uint32_t *uses; bool changed; } s = {.cx = cx, .uses = module_use_counts(m)};
    graph_visit(m->main, sink, &s);
    return s.changed;
}
