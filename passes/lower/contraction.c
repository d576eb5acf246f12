/* Helpers of the contraction rules. */
#include "passes/lower/contraction.h"

#include "lathe.h"

bool contract_wanted(const Lower *lo, const Node *n) {
    if (lo->m->options == NULL || lo->m->options->opt_level == 0) return false;
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i] != NULL && n->in[i]->data == NULL) return true;
    return false;
}

DType contract_sum_type(DType operand) { return dtype_compute(operand); }

Expr *contract_parameter(Lower *lo, const Value *v, Expr *i, Expr *otherwise) {
    if (v == NULL) return otherwise;
    Expr *idx[RANK_MAX];
    for (uint32_t d = 0; d < v->type->rank; d++) {
        bool one = dim_is_const(lo->cx, v->type->dim[d]) && dim_value(lo->cx, v->type->dim[d]) == 1;
        idx[d] = one ? lx_i(lo, 0) : i;
    }
    return lower_load(lo, v, idx);
}

Expr *contract_requantize(Lower *lo, const Value *y, Expr *sum, Expr *scale, const Value *zero) {
    DType t = y->type->dtype;
    Expr *scaled = lx_mul(lo, lx_cast(lo, DT_F32, sum), scale);
    if (dtype_is_float(t)) return scaled;
    Expr *shift = lx_cast(lo, DT_F32, lower_load_scalar(lo, zero));
    return lx_cast(lo, dtype_compute(t), lx_add(lo, lx_1(lo, FN_RINT, scaled), shift));
}
