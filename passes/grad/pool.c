/* Gradients of pools: an element of the result belongs to one position (MaxPool) or to all positions under its window. */
#include "passes/grad/grad.h"
#include "passes/rules.h"

static void set_type(Node *n, AttrSlot slot, const Type *t) { *attr_at(n, slot) = (Attr){.present = true, .type = t}; }

bool grad_max_pool(Grad *g) {
    Value *x = g->n->in[0], *position;
    if (attr_i(g->n, AT_MaxPool_storage_order) == 0) {
        if (!g_need_outputs(g, 2)) return false;
        position = g->n->out[1];
    } else { /* positions in row-major order are needed */
        Node *again = g_node(g, OP_MaxPool, 1, &x, 2);
        attr_share(again, g->n);
        attr_set_i(again, AT_MaxPool_storage_order, 0);
        if (!node_infer(g->m, again)) return false;
        position = again->out[1];
    }
    if (g->dy[0] == NULL) return true;
    Node *n = g_node(g, OP_MaxPoolGrad, 2, (Value *[]){g->dy[0], position}, 1);
    set_type(n, AT_MaxPoolGrad_type, x->type);
    g->dx[0] = g_done(g, n);
    return true;
}

bool grad_max_pool_adjoint(Grad *g) { /* the elements at the positions */
    Value *flat = g_2(g, OP_Reshape, g->dy[0], value_const_i64(g->m, 1, (int64_t[]){-1}));
    g->dx[0] = expand_gather(g->m, g->at, flat, g->n->in[1], 0);
    return true;
}

bool grad_average_pool(Grad *g) {
    Node *n = g_node(g, OP_AveragePoolGrad, 1, g->dy, 1);
    attr_share(n, g->n);
    set_type(n, AT_AveragePoolGrad_type, g->n->in[0]->type);
    g->dx[0] = g_done(g, n);
    return true;
}

bool grad_average_pool_adjoint(Grad *g) {
    Node *n = g_node(g, OP_AveragePool, 1, g->dy, 1);
    attr_share(n, g->n);
    g->dx[0] = g_reshape_like(g, g_done(g, n), g->n->in[0]);
    return true;
}
