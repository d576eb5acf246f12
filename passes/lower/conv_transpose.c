/* ConvTranspose as a gather: every output element sums the input elements that reach it, so outputs are independent.
 *
 *     o + begin = i * stride + k * dilation      an input i contributes through tap k when (o + begin - k * dilation)
 *                                                is a multiple of the stride and the quotient lies inside the input */
#include "ir/shape/convolution.h"
#include "passes/lower/contraction.h"
#include "passes/lower_contract.h"
#include "passes/rules.h"

/* The input index that reaches output position `at` through tap k of dimension i, and the condition that there is one. */
static Expr *source(Lower *lo, const ConvGeometry *g, uint32_t i, Expr *at, Expr *k, Expr **valid) {
    Expr *shifted = lx_sub(lo, lx_add(lo, at, lx_dim(lo, g->begin[i])), lx_mul(lo, k, lx_i(lo, g->dilation[i])));
    Expr *ok = lx_2(lo, FN_GE, shifted, lx_i(lo, 0));
    Expr *in = shifted;
    if (g->stride[i] != 1) {
        in = lx_div(lo, shifted, lx_i(lo, g->stride[i]));
        ok = lx_2(lo, FN_AND, ok, lx_2(lo, FN_EQ, lx_mul(lo, in, lx_i(lo, g->stride[i])), shifted));
    }
    *valid = lx_2(lo, FN_AND, ok, lx_2(lo, FN_LT, in, lx_dim(lo, g->in[i])));
    return in;
}

bool lower_conv_transpose(Lower *lo, const Node *n) {
    ConvGeometry g;
    if (!conv_geometry(lo->m, n, &g)) return false;
    if (lower_conv_transpose_contract(lo, n, &g)) return true;
    uint32_t x, w, bias, r = g.spatial, channel = g.channels_last ? r + 1 : 1;
    conv_operands(n, &x, &w, &bias);
    DType t = contract_sum_type(n->in[x]->type->dtype);
    Expr *idx[RANK_MAX];
    lower_for_type(lo, n->out[0]->type, idx);
    Expr *oc = idx[channel], *group = g.group == 1 ? lx_i(lo, 0) : lx_div(lo, oc, lx_dim(lo, g.out_group));
    Expr *sum = lower_local(lo, t, lx_const(lo, t, 0));
    Expr *from[RANK_MAX], *widx[RANK_MAX];
    for (uint32_t i = 0; i < r; i++) {
        Expr *valid;
        widx[2 + i] = lower_for_dim(lo, g.kernel[i]);
        from[g.first + i] = source(lo, &g, i, idx[g.first + i], widx[2 + i], &valid);
        lower_if(lo, valid);
    }
    Expr *c = lower_for_dim(lo, g.in_group);
    from[0] = idx[0];
    from[channel] = widx[0] = lx_add(lo, lx_mul(lo, group, lx_dim(lo, g.in_group)), c);
    widx[1] = g.group == 1 ? oc : lx_sub(lo, oc, lx_mul(lo, group, lx_dim(lo, g.out_group)));
    lower_accumulate(lo, sum, FN_ADD, lx_mul(lo, lower_load(lo, n->in[x], from), lower_load(lo, n->in[w], widx)));
    lower_end_n(lo, 2 * r + 1);
    if (bias < n->n_in) sum = lx_add(lo, sum, lower_load(lo, n->in[bias], &oc));
    lower_store(lo, n->out[0], idx, sum);
    lower_end_n(lo, r + 2u);
    return true;
}
