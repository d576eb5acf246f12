/* bound_sizes: sizes that only the run knows, and that nothing bounds, get the bound that a caller's dims get.
 *
 *     %y = Expand(%x, %shape) : f32[Expand_0]      Expand_0 in 0..   ->   0..64, with a note
 *
 * Memory is planned for the upper bounds, so there must be one; a run that needs more ends with the error "bound". */
#include "lathe.h"
#include "passes/pass.h"

static void bound_dim(Context *cx, Dim d, const Node *n) {
    DimNode node = *dim_node(cx, d);
    if (d == 0 || node.hi != INT64_MAX) return;
    switch (node.kind) {
    case DIM_SYMBOL:
        if (!node.runtime) return;
        dim_set_bounds(cx, d, node.lo, node.lo > LATHE_DEFAULT_DIM_BOUND ? node.lo : LATHE_DEFAULT_DIM_BOUND);
        diag(cx, SEV_NOTE, n->loc, "a size of its result depends on data without a bound: it may be at most %d", LATHE_DEFAULT_DIM_BOUND);
        return;
    case DIM_POLY:
        for (uint32_t t = 0; t < node.n_term; t++)
            for (uint32_t f = 0; f < node.term[t].n_factor; f++) bound_dim(cx, node.term[t].factor[f], n);
        return;
    case DIM_FLOORDIV: case DIM_MOD: case DIM_MIN: case DIM_MAX:
        bound_dim(cx, node.a, n);
        bound_dim(cx, node.b, n);
        return;
    case DIM_CONST: return;
    }
}

static void bound_graph(Graph *g, void *user) {
    Context *cx = user;
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_out; i++) {
            const Type *t = n->out[i] != NULL ? n->out[i]->type : NULL;
            if (t == NULL || t->kind != TYPE_TENSOR || t->rank == RANK_UNKNOWN) continue;
            for (uint32_t k = 0; k < t->rank; k++)
                if (t->dim[k] != 0) bound_dim(cx, t->dim[k], n);
        }
    }
}

bool pass_bound_sizes(Context *cx, Module *m) {
    graph_visit(m->main, bound_graph, cx);
    return false;
}
