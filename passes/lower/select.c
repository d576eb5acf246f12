/* Operators that find elements: how many there are is known when they have run.
 *
 *     NonZeroIndex(x): the positions of the elements of x that are not 0, as one number each */
#include "passes/lower/operand.h"

#include "passes/rules.h"

bool lower_non_zero_index(Lower *lo, const Node *n) {
    const Type *t = n->in[0]->type;
    uint32_t out = lower_buf(lo, n->out[0]);
    Expr *found = lower_local(lo, DT_I64, lx_i(lo, 0)), *idx[RANK_MAX], *flat = lx_i(lo, 0);
    lower_for_type(lo, t, idx);
    for (uint32_t i = 0; i < t->rank; i++) flat = lx_add(lo, lx_mul(lo, flat, lx_dim(lo, t->dim[i])), idx[i]);
    Expr *x = lower_load(lo, n->in[0], idx);
    lower_if(lo, x->dtype == DT_BOOL ? x : lx_2(lo, FN_NE, x, lx_const(lo, (DType)x->dtype, 0)));
    lower_store_buf(lo, out, &found, FN_NONE, flat);
    lower_accumulate(lo, found, FN_ADD, lx_i(lo, 1));
    lower_end(lo);
    lower_end_n(lo, t->rank);
    lower_set_dim(lo, n->out[0]->type->dim[0], found);
    return true;
}

static Expr *scalar_or(Lower *lo, const Node *n, uint32_t i, DType d, double otherwise) {
    return has_in(n, i) ? lx_cast(lo, d, lower_load_scalar(lo, n->in[i])) : lx_const(lo, d, otherwise);
}

bool lower_non_max_suppression(Lower *lo, const Node *n) {
    const Type *scores = n->in[1]->type;
    const Type *row = type_tensor(lo->cx, DT_I64, 1, &scores->dim[2]);
    Value *key = lower_scratch(lo, row), *order = lower_scratch(lo, row), *count = lower_dim_cell(lo, n->out[0]->type->dim[0]);
    CallArg arg[] = {arg_buf(lower_buf(lo, n->in[0])), arg_buf(lower_buf(lo, n->in[1])), arg_expr(lx_dim(lo, scores->dim[0])),
                     arg_expr(lx_dim(lo, scores->dim[1])), arg_expr(lx_dim(lo, scores->dim[2])), arg_expr(scalar_or(lo, n, 2, DT_I64, 0)),
                     arg_expr(scalar_or(lo, n, 3, DT_F32, 0)), arg_expr(scalar_or(lo, n, 4, DT_F32, 0)), arg_expr(lx_i(lo, has_in(n, 4))),
                     arg_expr(lx_i(lo, attr_i(n, AT_NonMaxSuppression_center_point_box))), arg_buf(lower_buf(lo, key)), arg_buf(lower_buf(lo, order)),
                     arg_buf(lower_buf(lo, n->out[0])), arg_buf(lower_buf(lo, count))};
    lower_call(lo, "lathe_nms", sizeof arg / sizeof *arg, arg);
    return true;
}
