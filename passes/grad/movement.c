/* Gradients of operators that move elements: the gradients move back; where an element was read several times they are summed. */
#include "passes/grad/grad.h"
#include "passes/rules.h"

bool grad_transpose(Grad *g) {
    const Attr *perm = attr_at(g->n, AT_Transpose_perm);
    uint32_t rank = g->n->in[0]->type->rank;
    int64_t inverse[RANK_MAX];
    for (uint32_t i = 0; i < rank; i++) inverse[perm->present ? perm->ints.v[i] : rank - 1 - i] = i;
    g->dx[0] = g_transpose(g, g->dy[0], inverse);
    return true;
}

bool grad_reshape(Grad *g) {
    g->dx[0] = g_reshape_like(g, g->dy[0], g->n->in[0]);
    return true;
}

bool grad_expand(Grad *g) {
    g->dx[0] = g_sum_to(g, g->dy[0], g->n->in[0]);
    return true;
}

/* Sizes of the values along an axis as one operand. */
static Value *sizes_along(Grad *g, uint32_t n, Value *const *v, uint32_t axis) {
    Value **size = ARENA_ARRAY(&g->m->cx->scratch, Value *, n);
    int64_t *known = ARENA_ARRAY(&g->m->cx->scratch, int64_t, n);
    bool all = true;
    for (uint32_t i = 0; i < n; i++) {
        size[i] = g_size(g, v[i], axis);
        if (size[i]->data != NULL) known[i] = const_i64(size[i], 0);
        else all = false;
    }
    return all ? value_const_i64(g->m, n, known) : expand_concat(g->m, g->at, n, size, 0);
}

bool grad_concat(Grad *g) {
    uint32_t n = g->n->n_in, axis = g_axis(g, attr_i(g->n, AT_Concat_axis), g->dy[0]->type->rank);
    if (n == 1) {
        g->dx[0] = g->dy[0];
        return true;
    }
    Node *split = g_node(g, OP_Split, 2, (Value *[]){g->dy[0], sizes_along(g, n, g->n->in, axis)}, n);
    attr_set_i(split, AT_Split_axis, axis);
    if (!node_infer(g->m, split)) return false;
    for (uint32_t i = 0; i < n; i++) g->dx[i] = split->out[i];
    return true;
}

bool grad_split(Grad *g) {
    Value **part = ARENA_ARRAY(&g->m->cx->scratch, Value *, g->n->n_out);
    for (uint32_t i = 0; i < g->n->n_out; i++) {
        if (g->n->out[i] == NULL) return false;
        part[i] = g_dy(g, i);
    }
    g->dx[0] = g->n->n_out == 1 ? part[0] : expand_concat(g->m, g->at, g->n->n_out, part, attr_i(g->n, AT_Split_axis));
    return true;
}

/* d with `before` and `after` zeros around it (negative: elements cut off), both i64 vectors over all axes. */
static Value *padded(Grad *g, Value *d, Value *before, Value *after) {
    Value *pads = expand_concat(g->m, g->at, 2, (Value *[]){before, after}, 0);
    return g_2(g, OP_Pad, d, pads);
}

/* The axes a Slice or Pad names in operand i: all by default. False when only the run knows them. */
static bool named_axes(Grad *g, Value *axes, uint32_t n_default, uint32_t rank, uint32_t *n, uint32_t *out) {
    if (axes == NULL) {
        *n = n_default;
        for (uint32_t i = 0; i < *n; i++) out[i] = i;
        return true;
    }
    const Dim *d = value_dims(g->m, axes, n);
    if (d == NULL) return false;
    for (uint32_t i = 0; i < *n; i++) {
        if (!dim_is_const(g->m->cx, d[i])) return false;
        out[i] = g_axis(g, dim_value(g->m->cx, d[i]), rank);
    }
    return true;
}

/* Step 1: zeros around the gradient. Where an axis is walked in other steps: back through the positions, one by one. */
bool grad_slice(Grad *g) {
    Value *x = g->n->in[0], *y = g->n->out[0], *d = g->dy[0];
    Context *cx = g->m->cx;
    uint32_t rank = x->type->rank, n, count, axis[RANK_MAX];
    const Dim *start = value_dims(g->m, g->n->in[1], &count), *step = g_in(g, 4) != NULL ? value_dims(g->m, g_in(g, 4), &n) : NULL;
    if (start == NULL || !named_axes(g, g_in(g, 3), count, rank, &n, axis) || (g_in(g, 4) != NULL && step == NULL)) {
        diag(cx, SEV_ERROR, g->n->loc, "its gradient needs starts, axes and steps that are known at compile time");
        return false;
    }
    int64_t before[RANK_MAX] = {0};
    for (uint32_t i = 0; i < count; i++) {
        Dim size = x->type->dim[axis[i]];
        int64_t by = step != NULL && dim_is_const(cx, step[i]) ? dim_value(cx, step[i]) : step != NULL ? 0 : 1;
        int64_t from = dim_is_const(cx, start[i]) ? dim_value(cx, start[i]) : -1;
        if (by != 1 || from < 0) { /* positions from the end or in steps: the size must be known */
            if (!dim_is_const(cx, size) || !dim_is_const(cx, y->type->dim[axis[i]]) || !dim_is_const(cx, start[i]) || by == 0) {
                diag(cx, SEV_ERROR, g->n->loc, "its gradient along axis %u needs a size that is known at compile time", axis[i]);
                return false;
            }
            int64_t in = dim_value(cx, size), out = dim_value(cx, y->type->dim[axis[i]]);
            if (from < 0 && dim_value(cx, start[i]) < 0) from = dim_value(cx, start[i]) + in;
            if (from < 0) from = 0;
            if (from > (by > 0 ? in : in - 1)) from = by > 0 ? in : in - 1;
            if (by != 1) {
                int64_t *index = ARENA_ARRAY(&cx->scratch, int64_t, (size_t)out + 1);
                for (int64_t k = 0; k < out; k++) index[k] = from + k * by;
                /* the other axes still have the size of the slice: put this one back alone */
                Dim dim[RANK_MAX];
                for (uint32_t a = 0; a < rank; a++) dim[a] = a == axis[i] ? size : d->type->dim[a];
                Node *adjoint = g_node(g, OP_GatherGrad, 2, (Value *[]){d, value_const_i64(g->m, (uint32_t)out, index)}, 1);
                attr_set_i(adjoint, AT_GatherGrad_axis, axis[i]);
                *attr_at(adjoint, AT_GatherGrad_type) = (Attr){.present = true, .type = type_tensor(cx, x->type->dtype, rank, dim)};
                d = g_done(g, adjoint);
                continue;
            }
        }
        before[axis[i]] = from;
    }
    bool whole = true;
    for (uint32_t a = 0; a < rank; a++) whole &= d->type->dim[a] == x->type->dim[a];
    if (whole) {
        g->dx[0] = d;
        return true;
    }
    int64_t after[RANK_MAX];
    bool known = true;
    for (uint32_t a = 0; a < rank; a++) {
        Dim gap = dim_sub(cx, x->type->dim[a], d->type->dim[a]);
        known &= gap != 0 && dim_is_const(cx, gap);
        after[a] = known ? dim_value(cx, gap) - before[a] : 0;
    }
    Value *first = value_const_i64(g->m, rank, before);
    Value *last = known ? value_const_i64(g->m, rank, after) : g_sub(g, g_sub(g, g_shape(g, x), g_shape(g, d)), first);
    g->dx[0] = g_reshape_like(g, padded(g, d, first, last), x);
    return true;
}

/* Constant padding: cut off. The others read elements of x several times. */
bool grad_pad(Grad *g) {
    Value *pads = g->n->in[1], *value = g_in(g, 2), *axes = g_in(g, 3), *dy = g->dy[0];
    g->dx[0] = g_reshape_like(g, expand_result(g->m, g_node(g, OP_Pad, 4, (Value *[]){dy, g_neg(g, pads), NULL, axes}, 1)), g->n->in[0]);
    if (g_wants(g, 2)) {
        uint32_t all = (1u << dy->type->rank) - 1;
        Value *rest = g_sub(g, g_sum(g, dy, all), g_sum(g, g->dx[0], all));
        g->dx[2] = g_reshape_like(g, rest, value);
    }
    return true;
}

/* [.., d, ..] repeated r times: the repetitions become axes and are summed. */
bool grad_tile(Grad *g) {
    Value *x = g->n->in[0];
    uint32_t rank = x->type->rank, count, mask = 0, k = 0;
    const Dim *repeat = value_dims(g->m, g->n->in[1], &count);
    Value *part[2 * RANK_MAX];
    if (repeat == NULL || 2 * rank > RANK_MAX) return false;
    Value *shape = g_shape(g, x), *repeats = g->n->in[1];
    for (uint32_t a = 0; a < rank; a++) {
        if (repeat[a] != dim_const(g->m->cx, 1)) {
            mask |= 1u << k;
            part[k++] = expand_slice(g->m, g->at, repeats, a, a + 1, 0);
        }
        part[k++] = expand_slice(g->m, g->at, shape, a, a + 1, 0);
    }
    if (mask == 0) {
        g->dx[0] = g->dy[0];
        return true;
    }
    Value *split = g_2(g, OP_Reshape, g->dy[0], expand_concat(g->m, g->at, k, part, 0));
    g->dx[0] = g_reshape_like(g, g_sum(g, split, mask), x);
    return true;
}

/* Operators that are their own adjoint, with the same attributes. */
static bool again(Grad *g, Op op, uint32_t n_in, Value *const *in) {
    Node *n = g_node(g, op, n_in, in, 1);
    for (uint32_t i = 0; i < n->n_attr; i++) n->attr[i] = g->n->attr[i];
    g->dx[0] = g_done(g, n);
    return true;
}

bool grad_trilu(Grad *g) { return again(g, (Op)g->n->op, g->n->n_in, (Value *[]){g->dy[0], g_in(g, 1)}); }
bool grad_reverse_sequence(Grad *g) { return again(g, OP_ReverseSequence, 2, (Value *[]){g->dy[0], g->n->in[1]}); }

bool grad_depth_to_space(Grad *g) { /* either way: blocksize and mode stand in the same slots */
    return again(g, g->n->op == OP_DepthToSpace ? OP_SpaceToDepth : OP_DepthToSpace, 1, g->dy);
}

bool grad_center_crop_pad(Grad *g) { /* what was cut off is padded, and the other way round */
    const Attr *axes = attr_at(g->n, AT_CenterCropPad_axes);
    Value *x = g->n->in[0], *shape = g_shape(g, x);
    if (axes->present) shape = expand_gather(g->m, g->at, shape, value_const_i64(g->m, axes->ints.n, axes->ints.v), 0);
    if (!again(g, OP_CenterCropPad, 2, (Value *[]){g->dy[0], shape})) return false;
    g->dx[0] = g_reshape_like(g, g->dx[0], x);
    return true;
}
