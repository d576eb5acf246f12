/* Einsum as plain loops: the result's labels outside, the summed labels inside. Diagonals ("ii") and broadcast come for
 * free: an operand is read at the labels of its dimensions. */
#include "ir/shape/contraction.h"
#include "passes/lower/contraction.h"
#include "passes/rules.h"

bool lower_einsum(Lower *lo, const Node *n) {
    EinsumGeometry g;
    if (!einsum_geometry(lo->m, n, &g)) return false;
    DType t = dtype_compute(n->out[0]->type->dtype);
    Expr *at[4 * RANK_MAX];
    for (uint32_t l = 0; l < g.n_result; l++) at[l] = lower_for_dim(lo, g.size[l]);
    Expr *sum = lower_local(lo, t, lx_const(lo, t, 0));
    for (uint32_t l = g.n_result; l < g.n_label; l++) at[l] = lower_for_dim(lo, g.size[l]);
    Expr *product = NULL;
    for (uint32_t i = 0; i < n->n_in; i++) {
        const Type *type = n->in[i]->type;
        Expr *idx[RANK_MAX];
        for (uint32_t d = 0; d < type->rank; d++)
            idx[d] = dim_is_const(lo->cx, type->dim[d]) && dim_value(lo->cx, type->dim[d]) == 1 ? lx_i(lo, 0) : at[g.label[i][d]];
        Expr *x = lower_load(lo, n->in[i], idx);
        product = product == NULL ? x : lx_mul(lo, product, x);
    }
    lower_accumulate(lo, sum, FN_ADD, product);
    lower_end_n(lo, g.n_label - g.n_result);
    lower_store(lo, n->out[0], at, sum);
    lower_end_n(lo, g.n_result);
    return true;
}
