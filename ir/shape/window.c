/* Shapes of pools: MaxPool(x: f32[N,3,32,32], kernel 2x2, stride 2) is f32[N,3,16,16]. See window.h. */
#include "ir/shape/window.h"

#include "ir/shape/shape.h"

enum { SIZE_MAX_ATTR = 1 << 24 }; /* window attributes beyond this are nonsense and would overflow products */

/* Element i of an INTS attribute with n (or 2n) entries; otherwise the given value when it is absent. */
static bool window_ints(Module *m, Node *node, const char *name, uint32_t n, int64_t lo, int64_t otherwise, int64_t *v) {
    AttrSlot slot = attr_named(node, name);
    const Attr *a = slot != AT_COUNT && attr_has(node, slot) ? attr_at(node, slot) : NULL;
    if (a == NULL || a->ints.n == 0) {
        for (uint32_t i = 0; i < n; i++) v[i] = otherwise;
        return true;
    }
    if (a->ints.n != n) {
        diag(m->cx, SEV_ERROR, node->loc, "%s has %u entries, %u are needed", name, a->ints.n, n);
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        v[i] = a->ints.v[i];
        if (v[i] >= lo && v[i] <= SIZE_MAX_ATTR) continue;
        diag(m->cx, SEV_ERROR, node->loc, "%s[%u] is %lld, outside [%lld, %d]", name, i, (long long)v[i], (long long)lo, SIZE_MAX_ATTR);
        return false;
    }
    return true;
}

static bool auto_pad_is(const Context *cx, const Node *n, const char *text) {
    AttrSlot slot = attr_named(n, "auto_pad");
    return slot != AT_COUNT && attr_s_is(cx, n, slot, text);
}

/* SAME: as many outputs as strides fit; padding split evenly, the odd one behind (UPPER) or before (LOWER). */
static void same_axis(Context *cx, Window *w, uint32_t a, Dim reach, bool upper) {
    Dim one = dim_const(cx, 1), zero = dim_const(cx, 0);
    w->out[a] = dim_ceildiv(cx, w->in[a], dim_const(cx, w->stride[a]));
    Dim last = dim_mul(cx, dim_sub(cx, w->out[a], one), dim_const(cx, w->stride[a]));
    Dim total = dim_max(cx, dim_sub(cx, dim_add(cx, last, reach), w->in[a]), zero);
    Dim half = dim_floordiv(cx, total, dim_const(cx, 2)), rest = dim_sub(cx, total, half);
    w->before[a] = upper ? half : rest;
    w->after[a] = upper ? rest : half;
}

static void padded_axis(Context *cx, Window *w, uint32_t a, Dim reach, bool ceil_mode) {
    Dim one = dim_const(cx, 1), stride = dim_const(cx, w->stride[a]);
    Dim padded = dim_add(cx, dim_add(cx, w->in[a], w->before[a]), w->after[a]);
    Dim room = dim_sub(cx, padded, reach);
    Dim floor_out = dim_add(cx, dim_floordiv(cx, room, stride), one);
    if (!ceil_mode) {
        w->out[a] = floor_out;
        return;
    }
    /* The last window must start inside the input or the padding before it. */
    Dim ceil_out = dim_add(cx, dim_ceildiv(cx, room, stride), one);
    w->out[a] = dim_min(cx, ceil_out, dim_ceildiv(cx, dim_add(cx, w->in[a], w->before[a]), stride));
}

bool window_resolve(Module *m, Node *node, uint32_t n, const Dim *in, const Dim *kernel, Window *w) {
    Context *cx = m->cx;
    int64_t pads[2 * WINDOW_AXES_MAX];
    *w = (Window){.n = n};
    if (!window_ints(m, node, "strides", n, 1, 1, w->stride) || !window_ints(m, node, "dilations", n, 1, 1, w->dilation) ||
        !window_ints(m, node, "pads", 2 * n, -SIZE_MAX_ATTR, 0, pads)) return false;
    bool upper = auto_pad_is(cx, node, "SAME_UPPER"), lower = auto_pad_is(cx, node, "SAME_LOWER"), valid = auto_pad_is(cx, node, "VALID");
    AttrSlot ceil_slot = attr_named(node, "ceil_mode");
    bool ceil_mode = ceil_slot != AT_COUNT && attr_i(node, ceil_slot) != 0;
    for (uint32_t a = 0; a < n; a++) {
        w->in[a] = in[a];
        w->kernel[a] = kernel[a];
        w->before[a] = dim_const(cx, valid ? 0 : pads[a]);
        w->after[a] = dim_const(cx, valid ? 0 : pads[n + a]);
        Dim one = dim_const(cx, 1), reach = dim_add(cx, dim_mul(cx, dim_sub(cx, kernel[a], one), dim_const(cx, w->dilation[a])), one);
        if (upper || lower) same_axis(cx, w, a, reach, upper);
        else padded_axis(cx, w, a, reach, ceil_mode);
        if (w->out[a] != 0 && dim_hi(cx, w->out[a]) < 0) {
            diag(cx, SEV_ERROR, node->loc, "spatial axis %u: the window is larger than the padded input", a);
            return false;
        }
        if (w->out[a] != 0 && dim_is_const(cx, w->out[a]) && dim_value(cx, w->out[a]) < 0) w->out[a] = dim_const(cx, 0);
    }
    return true;
}

bool window_of_pool(Module *m, Node *node, Window *w) {
    const Type *t = shape_in(m, node, 0);
    if (t == NULL) return false;
    if (t->rank < 3) {
        diag(m->cx, SEV_ERROR, node->loc, "input 0 has rank %u, [N, C, spatial...] is needed", t->rank);
        return false;
    }
    uint32_t n = t->rank - 2;
    int64_t size[WINDOW_AXES_MAX];
    Dim kernel[WINDOW_AXES_MAX];
    if (!window_ints(m, node, "kernel_shape", n, 1, 0, size)) return false;
    for (uint32_t a = 0; a < n; a++) kernel[a] = dim_const(m->cx, size[a]);
    return window_resolve(m, node, n, t->dim + 2, kernel, w);
}

/* x [N,C,spatial…] and a mask of planes as large, of any number */
bool shape_max_pool_mask(Module *m, Node *n) {
    const Type *x = shape_in(m, n, 0), *mask = x != NULL ? shape_in(m, n, 1) : NULL;
    if (mask == NULL) return false;
    if (mask->rank != x->rank || mask->dtype != DT_I32 || (x->dtype != DT_F32 && x->dtype != DT_F64)) {
        diag(m->cx, SEV_ERROR, n->loc, "a float or double input and an int32 mask with as many dims are needed");
        return false;
    }
    for (uint32_t a = 2; a < x->rank; a++)
        if (shape_unify(m, n, x->dim[a], mask->dim[a], "spatial dims of input and mask") == 0) return false;
    return shape_pool(m, n);
}

bool shape_pool(Module *m, Node *n) {
    Window w;
    if (!window_of_pool(m, n, &w)) return false;
    const Type *t = n->in[0]->type;
    Dim dim[RANK_MAX] = {t->dim[0], t->dim[1]};
    for (uint32_t a = 0; a < w.n; a++) dim[2 + a] = w.out[a];
    shape_out(m, n, 0, n->op == OP_MaxpoolWithMaskPosition ? DT_I64 : t->dtype, t->rank, dim);
    shape_out(m, n, 1, DT_I64, t->rank, dim);
    return true;
}
