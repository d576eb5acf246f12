/* MaxPool and AveragePool, channels last: a pixel's channels are one vector, taps are tested once per pixel.
 *
 *     for n, oy, ox, block of channels
 *       acc[c] = -inf
 *       for ky, kx inside the input:   acc[c] = max(acc[c], x[n, oy*s + ky - p, ox*s + kx - p, c])
 *       y[n, oy, ox, c] = acc[c] */
#include <math.h>

#include "ir/shape/shape.h"
#include "ir/shape/window.h"
#include "passes/lower/operand.h"
#include "passes/rules.h"

enum { BLOCK = 256 };

static bool window_of(Module *m, Node *n, Window *w) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    const Attr *a = attr_at(n, attr_named(n, "kernel_shape"));
    if (t->rank < 3 || a->ints.n != t->rank - 2u) {
        diag(m->cx, SEV_ERROR, n->loc, "kernel_shape has %u entries for an input of rank %u", a->ints.n, t->rank);
        return false;
    }
    Dim kernel[WINDOW_AXES_MAX];
    for (uint32_t i = 0; i < a->ints.n; i++) kernel[i] = dim_const(m->cx, a->ints.v[i]);
    return window_resolve(m, n, a->ints.n, t->dim + 1, kernel, w);
}

bool shape_pool_channels_last(Module *m, Node *n) {
    Window w;
    if (!window_of(m, n, &w)) return false;
    const Type *t = n->in[0]->type;
    Dim dim[RANK_MAX];
    dim[0] = t->dim[0];
    for (uint32_t i = 0; i < w.n; i++) dim[1 + i] = w.out[i];
    dim[w.n + 1] = t->dim[w.n + 1];
    shape_out(m, n, 0, t->dtype, t->rank, dim);
    return true;
}

/* Taps that count for an average at output o of axis i: within the input, or within the padded input. */
static Expr *axis_count(Lower *lo, const Window *w, uint32_t i, Expr *o, bool with_padding) {
    int64_t d = w->dilation[i];
    Expr *start = lx_sub(lo, lx_mul(lo, o, lx_i(lo, w->stride[i])), lx_dim(lo, w->before[i])), *zero = lx_i(lo, 0), *up = lx_i(lo, d - 1), *by = lx_i(lo, d);
    Expr *limit = lx_dim(lo, with_padding ? dim_add(lo->cx, w->in[i], w->after[i]) : w->in[i]);
    Expr *to = lx_2(lo, FN_MIN, lx_2(lo, FN_FLOORDIV, lx_add(lo, lx_sub(lo, limit, start), up), by), lx_dim(lo, w->kernel[i]));
    if (with_padding) return lx_2(lo, FN_MAX, to, zero);
    Expr *from = lx_2(lo, FN_MAX, lx_2(lo, FN_FLOORDIV, lx_add(lo, lx_sub(lo, zero, start), up), by), zero);
    return lx_2(lo, FN_MAX, lx_sub(lo, to, from), zero);
}

bool lower_pool_channels_last(Lower *lo, const Node *n) {
    Window w;
    if (!window_of(lo->m, (Node *)(uintptr_t)n, &w)) return false;
    Context *cx = lo->cx;
    bool max = n->op == OP_MaxPoolChannelsLast;
    const Type *t = n->in[0]->type;
    DType type = dtype_compute(t->dtype);
    Dim channels = t->dim[w.n + 1], block = dim_min(cx, channels, dim_const(cx, BLOCK));
    Expr *idx[RANK_MAX], *from[RANK_MAX];
    uint32_t depth = lo->open.n;
    idx[0] = from[0] = lower_for_dim(lo, t->dim[0]);
    for (uint32_t i = 0; i < w.n; i++) idx[1 + i] = lower_for_dim(lo, w.out[i]);
    Expr *b = lower_for_dim(lo, dim_ceildiv(cx, channels, block));
    lo->open.v[depth]->parallel = (uint16_t)(lo->open.n - depth);
    Expr *first = lx_mul(lo, b, lx_dim(lo, block)), *size = lx_2(lo, FN_MIN, lx_dim(lo, block), lx_sub(lo, lx_dim(lo, channels), first));
    Dim most = dim_const(cx, dim_hi(cx, block));
    uint32_t acc = lower_array(lo, type, 1, &most);
    double low = -INFINITY, high;
    if (max && dtype_is_int(type)) quantize_range(type, &low, &high);
    Expr *lowest = lx_const(lo, type, max ? low : 0);
    Expr *c = lower_for(lo, size);
    lower_store_buf(lo, acc, &c, FN_NONE, lowest);
    lower_end(lo);
    uint32_t inner = lo->open.n;
    for (uint32_t i = 0; i < w.n; i++) {
        Expr *k = lower_for_dim(lo, w.kernel[i]);
        Expr *at = lx_add(lo, lx_mul(lo, idx[1 + i], lx_i(lo, w.stride[i])), lx_mul(lo, k, lx_i(lo, w.dilation[i])));
        from[1 + i] = at = lx_sub(lo, at, lx_dim(lo, w.before[i]));
        lower_if(lo, lx_2(lo, FN_AND, lx_2(lo, FN_GE, at, lx_i(lo, 0)), lx_2(lo, FN_LT, at, lx_dim(lo, w.in[i]))));
    }
    c = lower_for(lo, size);
    from[w.n + 1] = lx_add(lo, first, c);
    lower_store_buf(lo, acc, &c, max ? FN_MAX : FN_ADD, lx_cast(lo, type, lower_load(lo, n->in[0], from)));
    lower_end_n(lo, lo->open.n - inner);
    Expr *count = lx_i(lo, 1);
    bool padding = !max && attr_i(n, AT_AveragePoolChannelsLast_count_include_pad) != 0;
    for (uint32_t i = 0; i < w.n && !max; i++) count = lx_mul(lo, count, axis_count(lo, &w, i, idx[1 + i], padding));
    c = lower_for(lo, size);
    idx[w.n + 1] = lx_add(lo, first, c);
    Expr *result = lower_load_buf(lo, acc, &c);
    lower_store(lo, n->out[0], idx, max ? result : lx_div(lo, result, lx_cast(lo, type, count)));
    lower_end_n(lo, lo->open.n - depth);
    return true;
}
