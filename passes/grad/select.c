/* Gradients of operators that select: what was taken gets the gradient. */
#include "ir/shape/window.h"
#include "passes/grad/grad.h"
#include "passes/rules.h"

bool grad_top_k(Grad *g) {
    if (g->dy[0] == NULL) return true;
    if (!g_need_outputs(g, 2)) return false;
    Node *n = g_node(g, OP_ScatterElements, 3, (Value *[]){g_filled_like(g, g->n->in[0], 0), g->n->out[1], g->dy[0]}, 1);
    attr_set_i(n, AT_ScatterElements_axis, attr_i(g->n, AT_TopK_axis));
    g->dx[0] = g_done(g, n);
    return true;
}

/* Positions count in the dims the pool would have had. */
bool grad_max_unpool(Grad *g) {
    Value *x = g->n->in[0], *dy = g->dy[0];
    Dim inner[RANK_MAX];
    if (!unpool_inferred(g->m, g->n, inner)) return false;
    for (uint32_t a = 2; a < x->type->rank; a++) {
        Dim more = dim_sub(g->m->cx, dy->type->dim[a], inner[a]);
        if (!dim_is_const(g->m->cx, more)) {
            diag(g->m->cx, SEV_ERROR, g->n->loc, "its gradient needs sizes that are known at compile time");
            return false;
        }
        if (dim_value(g->m->cx, more) == 0) continue;
        int64_t pads[2 * RANK_MAX] = {0};
        pads[x->type->rank + a] = -dim_value(g->m->cx, more);
        dy = g_2(g, OP_Pad, dy, value_const_i64(g->m, 2 * x->type->rank, pads));
    }
    Value *flat = g_2(g, OP_Reshape, dy, value_const_i64(g->m, 1, (int64_t[]){-1}));
    g->dx[0] = g_reshape_like(g, expand_gather(g->m, g->at, flat, g->n->in[1], 0), x);
    return true;
}

/* Where the elements of the update went along the axis, of the update's shape. */
static Value *written_at(Grad *g, Value *update, uint32_t axis) {
    Module *m = g->m;
    uint32_t rank = update->type->rank;
    int64_t axes[RANK_MAX];
    uint32_t n = 0;
    for (uint32_t a = 0; a < rank; a++)
        if (a != axis) axes[n++] = a;
    Value *count = g_2(g, OP_Reshape, g_size(g, update, axis), value_const_i64(m, 0, NULL));
    Value *at = g_3(g, OP_Range, value_const_scalar(m, DT_I64, 0), count, value_const_scalar(m, DT_I64, 1));
    at = g_2(g, OP_Unsqueeze, at, value_const_i64(m, n, axes));
    if (g_in(g, 2) != NULL) {
        for (uint32_t a = 1; a < rank; a++) axes[a - 1] = a;
        at = g_add(g, at, g_2(g, OP_Unsqueeze, g_cast(g, g_in(g, 2), DT_I64), value_const_i64(m, rank - 1, axes)));
    }
    if (attr_s_is(m->cx, g->n, AT_TensorScatter_mode, "circular"))
        at = g_2(g, OP_Mod, at, g_2(g, OP_Reshape, g_size(g, g->n->in[0], axis), value_const_i64(m, 0, NULL)));
    return g_2(g, OP_Expand, at, g_shape(g, update));
}

bool grad_tensor_scatter(Grad *g) {
    Value *x = g->n->in[0], *update = g->n->in[1], *dy = g->dy[0];
    Node *n = g_node(g, OP_TensorScatter, 3, (Value *[]){dy, g_filled_like(g, update, 0), g_in(g, 2)}, 1);
    for (uint32_t i = 0; i < n->n_attr; i++) n->attr[i] = g->n->attr[i];
    g->dx[0] = g_done(g, n);
    if (g_wants(g, 1)) {
        uint32_t axis = g_axis(g, attr_i(g->n, AT_TensorScatter_axis), x->type->rank);
        Node *read = g_node(g, OP_GatherElements, 2, (Value *[]){dy, written_at(g, update, axis)}, 1);
        attr_set_i(read, AT_GatherElements_axis, axis);
        g->dx[1] = g_done(g, read);
    }
    return true;
}

/* Pairs are turned by an angle; back is by the opposite angle. */
bool grad_rotary(Grad *g) {
    uint32_t cosine = g->n->op == OP_Ms_RotaryEmbedding ? 2 : 1;
    if (g_wants(g, cosine) || g_wants(g, cosine + 1)) {
        diag(g->m->cx, SEV_ERROR, g->n->loc, "its gradient with respect to the tables of sines and cosines is not supported");
        return false;
    }
    Value *in[4];
    for (uint32_t i = 0; i < g->n->n_in && i < 4; i++) in[i] = g->n->in[i];
    in[0] = g->dy[0];
    in[cosine + 1] = g_neg(g, in[cosine + 1]);
    Node *n = g_node(g, (Op)g->n->op, g->n->n_in, in, 1);
    for (uint32_t i = 0; i < n->n_attr; i++) n->attr[i] = g->n->attr[i];
    g->dx[0] = g_done(g, n);
    return true;
}

/* RoiAlign by averaging is linear in x; regions are no parameters. */
static bool regions_are_fixed(Grad *g) {
    if (!g_wants(g, 1)) return true;
    diag(g->m->cx, SEV_ERROR, g->n->loc, "its gradient with respect to the regions is not supported");
    return false;
}

bool grad_roi_align(Grad *g) {
    if (!regions_are_fixed(g)) return false;
    bool maximum = attr_s_is(g->m->cx, g->n, AT_RoiAlign_mode, "max");
    Node *n = g_node(g, OP_RoiAlignGrad, 4, (Value *[]){g->dy[0], g->n->in[1], g->n->in[2], maximum ? g->n->in[0] : NULL}, 1);
    for (uint32_t i = 0; i < g->n->n_attr; i++) n->attr[i] = g->n->attr[i]; /* the same, then type */
    *attr_at(n, AT_RoiAlignGrad_type) = (Attr){.present = true, .type = g->n->in[0]->type};
    g->dx[0] = g_done(g, n);
    return true;
}

bool grad_roi_align_adjoint(Grad *g) {
    if (g_in(g, 3) != NULL) {
        diag(g->m->cx, SEV_ERROR, g->n->loc, "the second derivative of RoiAlign by maxima is not supported");
        return false;
    }
    Node *n = g_node(g, OP_RoiAlign, 3, (Value *[]){g->dy[0], g->n->in[1], g->n->in[2]}, 1);
    for (uint32_t i = 0; i < n->n_attr; i++) n->attr[i] = g->n->attr[i];
    g->dx[0] = g_done(g, n);
    return true;
}

bool grad_max_roi_pool(Grad *g) {
    if (!regions_are_fixed(g)) return false;
    Node *n = g_node(g, OP_MaxRoiPoolGrad, 3, (Value *[]){g->dy[0], g->n->in[1], g->n->in[0]}, 1);
    for (uint32_t i = 0; i < g->n->n_attr; i++) n->attr[i] = g->n->attr[i];
    *attr_at(n, AT_MaxRoiPoolGrad_type) = (Attr){.present = true, .type = g->n->in[0]->type};
    g->dx[0] = g_done(g, n);
    return true;
}
