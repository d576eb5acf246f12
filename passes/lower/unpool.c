/* Windows put back: MaxUnpool (maxima to where they came from) and Col2Im (overlapping blocks summed). */
#include "ir/shape/window.h"
#include "passes/lower/rows.h"
#include "passes/rules.h"

/* Output zero, then y[position of I] = x. Positions count in the dims the pool would have had; a larger output_shape
 * keeps them in its corner. */
bool lower_max_unpool(Lower *lo, const Node *n) {
    const Type *x = n->in[0]->type, *y = n->out[0]->type;
    Dim inner[RANK_MAX], numel = dim_const(lo->cx, 1);
    Expr *idx[RANK_MAX], *to[RANK_MAX];
    if (!unpool_inferred(lo->m, (Node *)(uintptr_t)n, inner)) return false;
    lower_for_type(lo, y, idx);
    lower_store(lo, n->out[0], idx, lx_const(lo, dtype_compute(y->dtype), 0));
    lower_end_n(lo, y->rank);
    for (uint32_t a = 0; a < x->rank; a++) numel = dim_mul(lo->cx, numel, inner[a]);
    lower_for_type(lo, x, idx);
    Expr *at = lower_local(lo, DT_I64, lx_2(lo, FN_INDEX, lx_cast(lo, DT_I64, lower_load(lo, n->in[1], idx)), lx_dim(lo, numel)));
    Expr *rest = at;
    for (uint32_t a = x->rank; a-- > 0;) {
        Expr *size = lx_dim(lo, inner[a]);
        to[a] = a == 0 ? rest : lx_2(lo, FN_MOD, rest, size);
        if (inner[a] != y->dim[a]) to[a] = lx_2(lo, FN_INDEX, to[a], lx_dim(lo, y->dim[a]));
        rest = lx_2(lo, FN_FLOORDIV, rest, size);
    }
    lower_store(lo, n->out[0], to, lower_load(lo, n->in[0], idx));
    lower_end_n(lo, x->rank);
    return true;
}

static int64_t item(const Node *n, AttrSlot slot, uint32_t i, int64_t otherwise) {
    const Attr *a = attr_at(n, slot);
    return a->present && i < a->ints.n ? a->ints.v[i] : otherwise;
}

/* y[n, c, p...] = sum over block offsets k with (p + pad - k*dilation) a multiple of stride, at output position q, of
 * x[n, c*block + k, q]. */
bool lower_col2im(Lower *lo, const Node *n) {
    const Type *y = n->out[0]->type;
    uint32_t k = y->rank - 2;
    DType t = dtype_compute(y->dtype);
    Expr *idx[RANK_MAX];
    lower_for_type(lo, y, idx);
    Expr *sum = lower_local(lo, t, lx_const(lo, t, 0)), *valid = ex_i(lo->cx, DT_BOOL, 1), *row = idx[1], *column = lx_i(lo, 0);
    for (uint32_t a = 0; a < k; a++) {
        int64_t stride = item(n, AT_Col2Im_strides, a, 1), dilation = item(n, AT_Col2Im_dilations, a, 1);
        int64_t before = item(n, AT_Col2Im_pads, a, 0), after = item(n, AT_Col2Im_pads, k + a, 0);
        if (stride < 1 || dilation < 1) {
            diag(lo->cx, SEV_ERROR, n->loc, "strides and dilations must be positive");
            return false;
        }
        Expr *block = lx_2(lo, FN_MAX, lower_load_element(lo, n->in[2], a), lx_i(lo, 0));
        Expr *reach = lx_mul(lo, lx_add(lo, block, lx_i(lo, -1)), lx_i(lo, dilation));
        Expr *room = lx_sub(lo, lx_add(lo, lx_dim(lo, y->dim[2 + a]), lx_i(lo, before + after - 1)), reach);
        Expr *blocks = lx_add(lo, lx_2(lo, FN_FLOORDIV, room, lx_i(lo, stride)), lx_i(lo, 1));
        Expr *o = lower_for(lo, block);
        Expr *p = lx_sub(lo, lx_add(lo, idx[2 + a], lx_i(lo, before)), lx_mul(lo, o, lx_i(lo, dilation)));
        Expr *q = lx_2(lo, FN_FLOORDIV, p, lx_i(lo, stride)), *whole = lx_2(lo, FN_EQ, lx_2(lo, FN_MOD, p, lx_i(lo, stride)), lx_i(lo, 0));
        Expr *in = lx_2(lo, FN_AND, lx_2(lo, FN_GE, q, lx_i(lo, 0)), lx_2(lo, FN_LT, q, blocks));
        valid = lx_2(lo, FN_AND, valid, lx_2(lo, FN_AND, whole, in));
        row = lx_add(lo, lx_mul(lo, row, block), o);
        column = lx_add(lo, lx_mul(lo, column, blocks), q);
    }
    row = lx_2(lo, FN_INDEX, row, lx_dim(lo, n->in[0]->type->dim[1]));
    lower_if(lo, valid);
    column = lx_2(lo, FN_INDEX, column, lx_dim(lo, n->in[0]->type->dim[2]));
    lower_accumulate(lo, sum, FN_ADD, lower_load(lo, n->in[0], (Expr *[]){idx[0], row, column}));
    lower_end_n(lo, 1 + k);
    lower_store(lo, n->out[0], idx, sum);
    lower_end_n(lo, y->rank);
    return true;
}
