/* CumSum and CumProd: running sums and products along one axis.
 *
 *     CumSum [1,2,3] = [1,3,6]      exclusive: [0,1,3]      reverse: [6,5,3] */
#include "passes/lower/operand.h"

#include "passes/rules.h"

static void scan_axis(Lower *lo, const Node *n, uint32_t axis) {
    bool sum = n->op == OP_CumSum;
    bool exclusive = attr_i(n, sum ? AT_CumSum_exclusive : AT_CumProd_exclusive) != 0;
    bool reverse = attr_i(n, sum ? AT_CumSum_reverse : AT_CumProd_reverse) != 0;
    const Type *t = n->in[0]->type;
    DType compute = dtype_compute(t->dtype);
    Expr *idx[RANK_MAX], *size = lx_dim(lo, t->dim[axis]);
    for (uint32_t i = 0; i < t->rank; i++)
        if (i != axis) idx[i] = lower_for_dim(lo, t->dim[i]);
    Expr *total = lower_local(lo, compute, lx_const(lo, compute, sum ? 0 : 1));
    Expr *step = lower_for(lo, size);
    idx[axis] = reverse ? lx_sub(lo, lx_sub(lo, size, lx_i(lo, 1)), step) : step;
    if (exclusive) lower_store(lo, n->out[0], idx, total);
    lower_accumulate(lo, total, sum ? FN_ADD : FN_MUL, lower_load(lo, n->in[0], idx));
    if (!exclusive) lower_store(lo, n->out[0], idx, total);
    lower_end_n(lo, t->rank);
}

/* An axis that only the run knows: one nest for each, the others skipped. */
bool lower_cumulative(Lower *lo, const Node *n) {
    uint32_t rank = n->in[0]->type->rank;
    Expr *axis = lower_load_element(lo, n->in[1], 0);
    axis = wrapped_index(lo, axis, lx_i(lo, rank));
    for (uint32_t i = 0; i < rank; i++) {
        Expr *hit = lx_2(lo, FN_EQ, axis, lx_i(lo, i));
        if (ex_is_const(hit, 0)) continue;
        bool always = ex_is_const(hit, 1);
        if (!always) lower_if(lo, hit);
        scan_axis(lo, n, i);
        if (!always) lower_end(lo);
    }
    return true;
}
