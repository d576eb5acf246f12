/* Gradients of pools: an element of the result belongs to one position (MaxPool) or to all positions under its window.
 *
 *     MaxpoolWithMask(x, mask)   ->   p = MaxpoolWithMaskPosition(x, mask)     y = p < 0 ? lowest : x[p]
 *     MaxRoiPoolGrad(dy, r, x)   ->   p = MaxRoiPoolPosition(x, r)             dx = 0, dx[p] += p < 0 ? 0 : dy */
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

/* Elements at positions that may be -1, the largest of which are those of maxima: positions as a row, never negative, and which are none. */
typedef struct Positions { Value *row, *none; } Positions;

static Positions positions_of(Grad *g, Op op, Value *x, Value *other) {
    Node *n = g_node(g, op, 2, (Value *[]){x, other}, 1);
    attr_share(n, g->n);
    Value *row = g_2(g, OP_Reshape, g_done(g, n), value_const_i64(g->m, 1, (int64_t[]){-1})), *zero = value_const_scalar(g->m, DT_I64, 0);
    return (Positions){g_2(g, OP_Max, row, zero), g_2(g, OP_Less, row, zero)};
}

static Value *flat(Grad *g, Value *v) { return g_2(g, OP_Reshape, v, value_const_i64(g->m, 1, (int64_t[]){-1})); }

bool grad_expand_max_pool_mask(Module *m, Node *n, Value **out) {
    Grad g = {.m = m, .n = n, .at = n};
    Value *x = n->in[0];
    Positions p = positions_of(&g, OP_MaxpoolWithMaskPosition, x, n->in[1]);
    Value *y = g_where(&g, p.none, g_num(&g, x, -3.4028234663852886e38), expand_gather(m, n, flat(&g, x), p.row, 0));
    out[0] = g_reshape_like(&g, y, n->out[0]);
    return true;
}

bool grad_expand_max_roi_pool_adjoint(Module *m, Node *n, Value **out) {
    Grad g = {.m = m, .n = n, .at = n};
    Value *d = flat(&g, n->in[0]), *x = n->in[2];
    Positions p = positions_of(&g, OP_MaxRoiPoolPosition, x, n->in[1]);
    d = g_where(&g, p.none, g_num(&g, d, 0), d);
    out[0] = g_reshape_like(&g, g_gather_adjoint(&g, d, p.row, flat(&g, x), 0), n->out[0]);
    return true;
}
