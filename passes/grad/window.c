/* Window operators and normalisations as what they are made of, for differentiation. */
#include "ir/shape/window.h"
#include "passes/grad/grad.h"
#include "passes/rules.h"

/* (x - mean) / (sqrt(mean of squares) + 1e-9) */
bool grad_expand_mean_variance_norm(Module *m, Node *n, Value **out) {
    Grad g = {.m = m, .n = n, .at = n};
    Value *x = n->in[0];
    const Attr *axes = attr_at(n, AT_MeanVarianceNormalization_axes);
    uint32_t mask = 0;
    for (uint32_t i = 0; i < axes->ints.n; i++) mask |= 1u << g_axis(&g, axes->ints.v[i], x->type->rank);
    Value *d = g_sub(&g, x, g_mean(&g, x, mask));
    out[0] = g_div(&g, d, g_plus(&g, g_1(&g, OP_Sqrt, g_mean(&g, g_mul(&g, d, d), mask)), 1e-9));
    return true;
}

/* x / (bias + alpha * mean of squares over neighbouring channels)^beta: the mean is an AveragePool over the channel axis. */
bool grad_expand_lrn(Module *m, Node *n, Value **out) {
    Grad g = {.m = m, .n = n, .at = n};
    Value *x = n->in[0];
    int64_t size = attr_i(n, AT_LRN_size), before = (size - 1) / 2;
    Value *rows = g_2(&g, OP_Reshape, g_mul(&g, x, x), value_const_i64(m, 3, (int64_t[]){0, 0, -1}));
    Value *planes = g_2(&g, OP_Unsqueeze, rows, value_const_i64(m, 1, (int64_t[]){1}));
    Node *pool = g_node(&g, OP_AveragePool, 1, &planes, 1);
    attr_set_ints(m->cx, pool, AT_AveragePool_kernel_shape, (int64_t[]){size, 1}, 2);
    attr_set_ints(m->cx, pool, AT_AveragePool_pads, (int64_t[]){before, 0, size - 1 - before, 0}, 4);
    attr_set_i(pool, AT_AveragePool_count_include_pad, 1);
    Value *mean = g_reshape_like(&g, g_done(&g, pool), x);
    Value *base = g_plus(&g, g_times(&g, mean, attr_f(n, AT_LRN_alpha)), attr_f(n, AT_LRN_bias));
    out[0] = g_div(&g, x, g_2(&g, OP_Pow, base, g_num(&g, x, attr_f(n, AT_LRN_beta))));
    return true;
}

/* (sum |x|^p over the window)^(1/p): the sum is a convolution of every plane with ones. */
bool grad_expand_lp_pool(Module *m, Node *n, Value **out) {
    Grad g = {.m = m, .n = n, .at = n};
    Context *cx = m->cx;
    Window w;
    Value *x = n->in[0];
    double p = (double)attr_i(n, AT_LpPool_p);
    if (!window_of_pool(m, n, &w)) return false;
    int64_t pads[2 * RANK_MAX], kernel[RANK_MAX], dim[RANK_MAX] = {1, 1}, total = 1;
    Value *shape[RANK_MAX];
    shape[0] = value_const_i64(m, 2, (int64_t[]){-1, 1});
    for (uint32_t a = 0; a < w.n; a++) {
        if (!dim_is_const(cx, w.in[a]) || !dim_is_const(cx, w.out[a]) || !dim_is_const(cx, w.before[a])) return false;
        kernel[a] = dim[2 + a] = dim_value(cx, w.kernel[a]);
        total *= kernel[a];
        pads[a] = dim_value(cx, w.before[a]);
        int64_t reach = (dim_value(cx, w.out[a]) - 1) * w.stride[a] + (kernel[a] - 1) * w.dilation[a] + 1;
        pads[w.n + a] = reach - dim_value(cx, w.in[a]) - pads[a];
        if (pads[w.n + a] < 0) pads[w.n + a] = 0;
        shape[1 + a] = g_size(&g, x, 2 + a);
    }
    double *ones = ARENA_ARRAY(&cx->arena, double, (size_t)total);
    for (int64_t i = 0; i < total; i++) ones[i] = 1;
    Value *size = g_1(&g, OP_Abs, x), *power = p == 1 ? size : p == 2 ? g_mul(&g, x, x) : g_2(&g, OP_Pow, size, g_num(&g, x, p));
    Value *planes = g_2(&g, OP_Reshape, power, expand_concat(m, n, w.n + 1, shape, 0));
    Value *filter = g_cast(&g, expand_floats(m, w.n + 2, dim, ones, DT_F64), x->type->dtype);
    Node *conv = g_node(&g, OP_Conv, 2, (Value *[]){planes, filter}, 1);
    attr_set_ints(cx, conv, AT_Conv_pads, pads, 2 * w.n);
    attr_set_ints(cx, conv, AT_Conv_strides, w.stride, w.n);
    attr_set_ints(cx, conv, AT_Conv_dilations, w.dilation, w.n);
    attr_set_ints(cx, conv, AT_Conv_kernel_shape, kernel, w.n);
    Value *sum = g_reshape_like(&g, g_done(&g, conv), n->out[0]), *zero = g_num(&g, x, 0);
    if (p != 1) { /* the root has no slope at 0: nothing flows there */
        Value *empty = g_2(&g, OP_Equal, sum, zero), *safe = g_where(&g, empty, g_num(&g, x, 1), sum);
        sum = g_where(&g, empty, zero, p == 2 ? g_1(&g, OP_Sqrt, safe) : g_2(&g, OP_Pow, safe, g_num(&g, x, 1 / p)));
    }
    out[0] = sum;
    return true;
}

/* Where position i of a padded axis reads: mode 'r' reflect, 'e' edge, 'w' wrap. */
static int64_t source(int64_t i, int64_t size, char mode) {
    if (mode == 'e') return i < 0 ? 0 : i >= size ? size - 1 : i;
    if (mode == 'w') return ((i % size) + size) % size;
    if (size == 1) return 0;
    int64_t period = 2 * (size - 1), k = ((i % period) + period) % period;
    return k < size ? k : period - k;
}

/* Pad with elements of x: a Gather along each padded axis. */
bool grad_expand_pad(Module *m, Node *n, Value **out) {
    Context *cx = m->cx;
    Value *v = n->in[0];
    uint32_t count, n_axes, rank = v->type->rank;
    const Dim *pads = value_dims(m, n->in[1], &count), *axes = expand_input(n, 3) != NULL ? value_dims(m, n->in[3], &n_axes) : NULL;
    char mode = str_text(cx, attr_s(n, AT_Pad_mode))[0];
    if (pads == NULL || (expand_input(n, 3) != NULL && axes == NULL)) return false;
    for (uint32_t k = 0; k < count / 2; k++) {
        int64_t axis = axes != NULL ? dim_value(cx, axes[k]) : k;
        if (axis < 0) axis += rank;
        if (!dim_is_const(cx, pads[k]) || !dim_is_const(cx, pads[k + count / 2])) return false;
        int64_t before = dim_value(cx, pads[k]), after = dim_value(cx, pads[k + count / 2]);
        if (before == 0 && after == 0) continue;
        if (!dim_is_const(cx, v->type->dim[axis])) return false;
        int64_t size = dim_value(cx, v->type->dim[axis]), total = before + size + after;
        if (size == 0 || total < 0) return false;
        int64_t *index = ARENA_ARRAY(&cx->arena, int64_t, (size_t)total + 1);
        for (int64_t i = 0; i < total; i++) index[i] = source(i - before, size, mode);
        v = expand_gather(m, n, v, value_const_i64(m, (uint32_t)total, index), axis);
    }
    out[0] = v;
    return true;
}

static int64_t item(const Node *n, AttrSlot slot, uint32_t i, int64_t otherwise) {
    const Attr *a = attr_at(n, slot);
    return a->present && i < a->ints.n ? a->ints.v[i] : otherwise;
}

/* The image with a border, to which every element of a block is added where it belongs (GatherGrad); then the border is cut off. */
bool grad_expand_col2im(Module *m, Node *n, Value **out) {
    Grad g = {.m = m, .n = n, .at = n};
    Context *cx = m->cx;
    Value *x = n->in[0], *y = n->out[0];
    uint32_t k = y->type->rank - 2u, count;
    const Dim *block = value_dims(m, n->in[2], &count);
    int64_t blocks[RANK_MAX], kernel[RANK_MAX], size[RANK_MAX], cut[2 * RANK_MAX] = {0}, taps = 1, places = 1, total = 1;
    for (uint32_t a = 0; a < k; a++) {
        if (block == NULL || !dim_is_const(cx, block[a]) || !dim_is_const(cx, y->type->dim[2 + a])) return false;
        int64_t before = item(n, AT_Col2Im_pads, a, 0), after = item(n, AT_Col2Im_pads, k + a, 0);
        kernel[a] = dim_value(cx, block[a]);
        size[a] = dim_value(cx, y->type->dim[2 + a]) + before + after;
        blocks[a] = (size[a] - (kernel[a] - 1) * item(n, AT_Col2Im_dilations, a, 1) - 1) / item(n, AT_Col2Im_strides, a, 1) + 1;
        cut[2 + a] = -before;
        cut[k + 2 + 2 + a] = -after;
        taps *= kernel[a];
        places *= blocks[a];
        total *= size[a];
    }
    int64_t *index = ARENA_ARRAY(&cx->arena, int64_t, (size_t)(taps * places) + 1);
    for (int64_t t = 0; t < taps; t++)
        for (int64_t p = 0; p < places; p++) {
            int64_t tr = t, pr = p, at = 0, step = 1;
            for (uint32_t a = k; a-- > 0; tr /= kernel[a], pr /= blocks[a], step *= size[a])
                at += step * (pr % blocks[a] * item(n, AT_Col2Im_strides, a, 1) + tr % kernel[a] * item(n, AT_Col2Im_dilations, a, 1));
            index[t * places + p] = at;
        }
    Dim dim[RANK_MAX] = {y->type->dim[0], y->type->dim[1], dim_const(cx, total)};
    if (!dim_is_const(cx, dim[1])) return false;
    Value *rows = g_2(&g, OP_Reshape, x, value_const_i64(m, 3, (int64_t[]){0, dim_value(cx, dim[1]), taps * places}));
    Node *add = g_node(&g, OP_GatherGrad, 2, (Value *[]){rows, value_const_i64(m, (uint32_t)(taps * places), index)}, 1);
    attr_set_i(add, AT_GatherGrad_axis, 2);
    *attr_at(add, AT_GatherGrad_type) = (Attr){.present = true, .type = type_tensor(cx, x->type->dtype, 3, dim)};
    int64_t shape[RANK_MAX] = {0, 0};
    for (uint32_t a = 0; a < k; a++) shape[2 + a] = size[a];
    Value *image = g_2(&g, OP_Reshape, g_done(&g, add), value_const_i64(m, k + 2, shape));
    out[0] = g_reshape_like(&g, g_2(&g, OP_Pad, image, value_const_i64(m, 2 * (k + 2), cut)), y);
    return true;
}

/* The past (zeros without one) in front of x, a convolution of each channel, the activation; the end is the next state. */
bool grad_expand_causal_conv(Module *m, Node *n, Value **out) {
    Grad g = {.m = m, .n = n, .at = n};
    Context *cx = m->cx;
    Value *x = n->in[0], *w = n->in[1], *past = expand_input(n, 3);
    if (!dim_is_const(cx, w->type->dim[2]) || !dim_is_const(cx, x->type->dim[1])) return false;
    int64_t back = dim_value(cx, w->type->dim[2]) - 1;
    if (past != NULL && past->type->dim[2] != dim_const(cx, back)) past = expand_slice(m, n, past, -back, INT64_MAX, 2);
    Value *all = past != NULL ? expand_concat(m, n, 2, (Value *[]){past, x}, 2) : g_2(&g, OP_Pad, x, value_const_i64(m, 6, (int64_t[]){0, 0, back, 0, 0, 0}));
    Node *conv = g_node(&g, OP_Conv, 3, (Value *[]){all, w, expand_input(n, 2)}, 1);
    attr_set_i(conv, AT_Conv_group, dim_value(cx, x->type->dim[1]));
    Value *y = g_done(&g, conv);
    if (y == NULL) return false;
    bool silu = attr_s_is(cx, n, AT_CausalConvWithState_activation, "silu") || attr_s_is(cx, n, AT_CausalConvWithState_activation, "swish");
    out[0] = silu ? g_1(&g, OP_Swish, y) : g_1(&g, OP_Identity, y);
    if (n->n_out > 1 && n->out[1] != NULL) out[1] = g_reshape_like(&g, expand_slice(m, n, all, -back, INT64_MAX, 2), n->out[1]);
    return true;
}

bool grad_expand_bias_split_gelu(Module *m, Node *n, Value **out) {
    Grad g = {.m = m, .n = n, .at = n};
    Value *h = g_add(&g, n->in[0], n->in[1]);
    Node *split = g_node(&g, OP_Split, 1, &h, 2);
    attr_set_i(split, AT_Split_axis, -1);
    attr_set_i(split, AT_Split_num_outputs, 2);
    if (!node_infer(m, split)) return false;
    out[0] = g_mul(&g, split->out[0], g_1(&g, OP_Gelu, split->out[1]));
    return true;
}

/* Coordinates (what the operator makes of unit matrices) times theta. */
bool grad_expand_affine_grid(Module *m, Node *n, Value **out) {
    Grad g = {.m = m, .n = n, .at = n};
    Value *theta = n->in[0], *y = n->out[0];
    int64_t k = y->type->rank - 2, places = 1;
    for (uint32_t a = 1; a + 1 < y->type->rank; a++) {
        if (!dim_is_const(m->cx, y->type->dim[a])) return false;
        places *= dim_value(m->cx, y->type->dim[a]);
    }
    double unit[12] = {0};
    for (int64_t i = 0; i < k; i++) unit[i * (k + 1) + i] = 1;
    Value *matrix = g_cast(&g, expand_floats(m, 3, (int64_t[]){1, k, k + 1}, unit, DT_F64), theta->type->dtype);
    Value *size = expand_concat(m, n, 2, (Value *[]){value_const_i64(m, 1, (int64_t[]){1}), expand_slice(m, n, n->in[1], 1, INT64_MAX, 0)}, 0);
    Node *again = g_node(&g, OP_AffineGrid, 2, (Value *[]){matrix, size}, 1);
    attr_set_i(again, AT_AffineGrid_align_corners, attr_i(n, AT_AffineGrid_align_corners));
    Value *places_at = g_2(&g, OP_Reshape, g_done(&g, again), value_const_i64(m, 2, (int64_t[]){places, k})); /* [P, k] */
    Value *ones = g_2(&g, OP_Expand, g_num(&g, theta, 1), value_const_i64(m, 2, (int64_t[]){places, 1}));
    Value *full = expand_concat(m, n, 2, (Value *[]){places_at, ones}, 1);
    Value *product = g_matmul(&g, full, false, theta, true, 1); /* [P, k+1] x [N, k, k+1]' */
    out[0] = g_reshape_like(&g, product, y);
    return true;
}
