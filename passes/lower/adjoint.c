/* Adjoints of operators that read elements by index: zeros, to which gradients are added where their elements came from.
 *
 *     GatherGrad {axis = 0}:      dx = 0;  for k: dx[index[k], :] += dy[k, :]
 *     MaxPoolGrad:                dx = 0;  for o: dx[position[o]] += dy[o]
 *     AveragePoolGrad:            dx = 0;  for o, taps inside: dx[o * stride - pad + tap] += dy[o] / count
 *
 * Several elements may have come from one place, so additions along the index run in order on one thread; threads share the other axes. */
#include "ir/shape/window.h"
#include "passes/lower/operand.h"
#include "passes/lower/pool.h"
#include "passes/lower/rows.h"
#include "passes/rules.h"

enum { LANES = 64 };

static uint32_t axis_of(int64_t axis, uint32_t rank) { return (uint32_t)(axis < 0 ? axis + rank : axis); }

/* The last axis in pieces, outermost: rows that fall on one place are added by one thread. */
bool lower_gather_adjoint(Lower *lo, const Node *n) {
    const Value *d = n->in[0], *index = n->in[1], *y = n->out[0];
    const Type *t = y->type;
    uint32_t axis = axis_of(attr_i(n, AT_GatherGrad_axis), t->rank), last = t->rank - 1, open = 0;
    Expr *to[RANK_MAX], *from[RANK_MAX], *base = NULL, *width = NULL;
    lower_for_type(lo, t, to);
    lower_store(lo, y, to, lx_const(lo, dtype_compute(t->dtype), 0));
    lower_end_n(lo, t->rank);
    bool lanes = axis != last;
    if (lanes) {
        base = lx_mul(lo, lower_for_dim(lo, dim_ceildiv(lo->cx, t->dim[last], dim_const(lo->cx, LANES))), lx_i(lo, LANES));
        width = lx_2(lo, FN_MIN, lx_sub(lo, lx_dim(lo, t->dim[last]), base), lx_i(lo, LANES));
        open++;
    }
    for (uint32_t a = 0; a < axis; a++, open++) to[a] = from[a] = lower_for_dim(lo, t->dim[a]);
    for (uint32_t i = 0; i < index->type->rank; i++, open++) from[axis + i] = lower_for_dim(lo, index->type->dim[i]);
    to[axis] = wrapped_index(lo, lower_load(lo, index, from + axis), lx_dim(lo, t->dim[axis]));
    for (uint32_t a = axis + 1; a < t->rank; a++, open++) {
        to[a] = a == last ? lx_add(lo, base, lower_for(lo, width)) : lower_for_dim(lo, t->dim[a]);
        from[a + index->type->rank - 1] = to[a];
    }
    lower_store_reduce(lo, y, to, FN_ADD, lower_load(lo, d, from));
    lower_end_n(lo, open);
    return true;
}

bool lower_max_pool_adjoint(Lower *lo, const Node *n) {
    const Value *y = n->out[0];
    const Type *t = y->type, *d = n->in[0]->type;
    Dim plane = dim_const(lo->cx, 1);
    for (uint32_t a = 2; a < t->rank; a++) plane = dim_mul(lo->cx, plane, t->dim[a]);
    uint32_t buf = lower_view(lo, y, 3, (Dim[]){t->dim[0], t->dim[1], plane});
    Expr *at[3], *from[RANK_MAX], *size = lx_dim(lo, plane);
    at[0] = from[0] = lower_for_dim(lo, t->dim[0]);
    at[1] = from[1] = lower_for_dim(lo, t->dim[1]);
    at[2] = lower_for(lo, size);
    lower_store_buf(lo, buf, at, FN_NONE, lx_const(lo, dtype_compute(t->dtype), 0));
    lower_end(lo);
    Expr *start = lx_mul(lo, lx_add(lo, lx_mul(lo, at[0], lx_dim(lo, t->dim[1])), at[1]), size);
    for (uint32_t a = 2; a < d->rank; a++) from[a] = lower_for_dim(lo, d->dim[a]);
    at[2] = lx_2(lo, FN_INDEX, lx_sub(lo, lower_load(lo, n->in[1], from), start), size);
    lower_store_buf(lo, buf, at, FN_ADD, lower_load(lo, n->in[0], from));
    lower_end_n(lo, d->rank);
    return true;
}

bool lower_average_pool_adjoint(Lower *lo, const Node *n) {
    const Value *y = n->out[0];
    const Type *t = y->type, *d = n->in[0]->type;
    const Attr *kernel = attr_at(n, AT_AveragePoolGrad_kernel_shape);
    Window w;
    Dim size[RANK_MAX];
    for (uint32_t a = 0; a < kernel->ints.n; a++) size[a] = dim_const(lo->cx, kernel->ints.v[a]);
    if (!window_resolve(lo->m, (Node *)(uintptr_t)n, t->rank - 2u, t->dim + 2, size, &w)) return false;
    Expr *to[RANK_MAX], *from[RANK_MAX];
    to[0] = from[0] = lower_for_dim(lo, t->dim[0]);
    to[1] = from[1] = lower_for_dim(lo, t->dim[1]);
    for (uint32_t a = 0; a < w.n; a++) to[2 + a] = lower_for_dim(lo, t->dim[2 + a]);
    lower_store(lo, y, to, lx_const(lo, dtype_compute(t->dtype), 0));
    lower_end_n(lo, w.n);
    for (uint32_t a = 0; a < w.n; a++) from[2 + a] = lower_for_dim(lo, d->dim[2 + a]);
    DType type = dtype_compute(t->dtype);
    Expr *share = lower_local(lo, type, lx_const(lo, type, 0));
    Expr *count = pool_tap_count(lo, &w, from, attr_i(n, AT_AveragePoolGrad_count_include_pad) != 0);
    lower_set(lo, share, lx_div(lo, lower_load(lo, n->in[0], from), lx_cast(lo, type, count)));
    for (uint32_t a = 0; a < w.n; a++) {
        Expr *k = lower_for_dim(lo, w.kernel[a]), *zero = lx_i(lo, 0), *in = lx_dim(lo, w.in[a]);
        Expr *p = lx_add(lo, lx_mul(lo, from[2 + a], lx_i(lo, w.stride[a])), lx_mul(lo, k, lx_i(lo, w.dilation[a])));
        p = lx_sub(lo, p, lx_dim(lo, w.before[a]));
        lower_if(lo, lx_2(lo, FN_AND, lx_2(lo, FN_GE, p, zero), lx_2(lo, FN_LT, p, in)));
        to[2 + a] = lx_2(lo, FN_MAX, lx_2(lo, FN_MIN, p, lx_add(lo, in, lx_i(lo, -1))), zero); /* inside, as ranges can see */
    }
    lower_store_reduce(lo, y, to, FN_ADD, share);
    lower_end_n(lo, 2 * w.n + w.n + 2);
    return true;
}
