/* TopK and the groups of Unique: elements become 64-bit keys of the same order, runtime/sort.h orders positions. */
#include "passes/lower/operand.h"

#include "passes/rules.h"

/* An i64 expression that is ordered as x is: floats by their bits, unsigned 64-bit numbers with the top bit flipped. */
static Expr *key_of(Lower *lo, Expr *x) {
    DType d = (DType)x->dtype;
    if (d == DT_U64) return ex_fn(lo->k, lo->cx, FN_BITCAST, DT_I64, 1, (Expr *[]){lx_2(lo, FN_XOR, x, ex_i(lo->cx, DT_U64, INT64_MIN))});
    if (!dtype_is_float(d)) return lx_cast(lo, DT_I64, x);
    bool wide = d == DT_F64;
    DType whole = wide ? DT_I64 : DT_I32;
    Expr *zero = lx_const(lo, d, 0), *plus = lx_select(lo, lx_2(lo, FN_EQ, x, zero), zero, x); /* one key for both zeros */
    Expr *bits = lx_cast(lo, DT_I64, ex_fn(lo->k, lo->cx, FN_BITCAST, whole, 1, &plus));
    Expr *magnitude = lx_2(lo, FN_AND, bits, lx_i(lo, wide ? INT64_MAX : INT32_MAX));
    Expr *key = lx_select(lo, lx_2(lo, FN_LT, bits, lx_i(lo, 0)), lx_1(lo, FN_NEG, magnitude), bits);
    return lx_select(lo, lx_1(lo, FN_ISNAN, x), lx_i(lo, INT64_MAX), key);
}

static Value *scratch_i64(Lower *lo, uint32_t rank, const Dim *dim) { return lower_scratch(lo, type_tensor(lo->cx, DT_I64, rank, dim)); }

bool lower_top_k(Lower *lo, const Node *n) {
    const Type *t = n->in[0]->type, *result = n->out[0] != NULL ? n->out[0]->type : n->out[1]->type;
    int64_t axis = attr_i(n, AT_TopK_axis);
    axis = axis < 0 ? axis + t->rank : axis;
    Value *keys = scratch_i64(lo, 1, &t->dim[axis]), *order = scratch_i64(lo, 1, &t->dim[axis]);
    uint32_t key_buf = lower_buf(lo, keys), order_buf = lower_buf(lo, order);
    Expr *idx[RANK_MAX], *size = lx_dim(lo, t->dim[axis]), *k = lx_dim(lo, result->dim[axis]);
    for (uint32_t i = 0; i < t->rank; i++)
        if (i != axis) idx[i] = lower_for_dim(lo, t->dim[i]);
    Expr *j = idx[axis] = lower_for(lo, size);
    lower_store_buf(lo, key_buf, &j, FN_NONE, key_of(lo, lower_load(lo, n->in[0], idx)));
    lower_end(lo);
    CallArg arg[] = {arg_buf(key_buf), arg_buf(order_buf), arg_expr(size), arg_expr(k), arg_expr(lx_i(lo, attr_i(n, AT_TopK_largest)))};
    lower_call(lo, "lathe_top_k", 5, arg);
    Expr *place = lower_for(lo, k), *from = lower_load_buf(lo, order_buf, &place);
    idx[axis] = lx_2(lo, FN_INDEX, from, size);
    Expr *value = lower_load(lo, n->in[0], idx);
    idx[axis] = place;
    lower_store(lo, n->out[0], idx, value);
    if (n->n_out > 1) lower_store(lo, n->out[1], idx, from);
    lower_end_n(lo, t->rank);
    return true;
}

/* An output that nobody wants still needs memory while the groups are found. */
static uint32_t output_or_scratch(Lower *lo, const Node *n, uint32_t i, Dim size) {
    if (i < n->n_out && n->out[i] != NULL) return lower_buf(lo, n->out[i]);
    return lower_buf(lo, scratch_i64(lo, 1, &size));
}

bool lower_unique_rows(Lower *lo, const Node *n) {
    const Type *t = n->in[0]->type;
    Dim rows = t->dim[0];
    Value *keys = scratch_i64(lo, 2, t->dim), *order = scratch_i64(lo, 1, &rows);
    Expr *idx[RANK_MAX];
    lower_for_type(lo, t, idx);
    lower_store_buf(lo, lower_buf(lo, keys), idx, FN_NONE, key_of(lo, lower_load(lo, n->in[0], idx)));
    lower_end_n(lo, 2);
    Dim found = n->out[0] != NULL ? n->out[0]->type->dim[0] : n->out[2] != NULL ? n->out[2]->type->dim[0] : 0;
    Value *count = found != 0 ? lower_dim_cell(lo, found) : scratch_i64(lo, 0, NULL);
    CallArg arg[] = {arg_buf(lower_buf(lo, keys)), arg_expr(lx_dim(lo, rows)), arg_expr(lx_dim(lo, t->dim[1])),
                     arg_expr(lx_i(lo, attr_i(n, AT_UniqueRows_sorted))), arg_buf(lower_buf(lo, order)), arg_buf(output_or_scratch(lo, n, 0, rows)),
                     arg_buf(output_or_scratch(lo, n, 1, rows)), arg_buf(output_or_scratch(lo, n, 2, rows)), arg_buf(lower_buf(lo, count))};
    lower_call(lo, "lathe_unique_rows", sizeof arg / sizeof *arg, arg);
    return true;
}
