/* ConvGradWeight as plain loops: every rank, type, group, dilation and run-time size.
 *
 *     dW[m, c, k] = sum over n, o of dY[n, m, o] * X[n, g*C/G + c, o*stride + k*dilation - begin]     g: the group of m
 *
 * Channels last it goes to the micro-kernels (passes/lower_contract.h) when it profits. */
#include "ir/shape/convolution.h"
#include "passes/lower/contraction.h"
#include "passes/lower_contract.h"
#include "passes/rules.h"

bool lower_conv_grad_weight(Lower *lo, const Node *n) {
    ConvGeometry g;
    if (!conv_grad_geometry(lo->m, n, &g)) return false;
    if (lower_conv_grad_contract(lo, n, &g)) return true;
    uint32_t r = g.spatial, channel = g.channels_last ? r + 1 : 1;
    DType t = contract_sum_type(n->in[0]->type->dtype);
    Expr *w[RANK_MAX], *x[RANK_MAX], *dy[RANK_MAX];
    lower_for_type(lo, n->out[0]->type, w);
    Expr *group = g.group == 1 ? lx_i(lo, 0) : lx_div(lo, w[0], lx_dim(lo, g.out_group));
    dy[channel] = w[0];
    x[channel] = lx_add(lo, lx_mul(lo, group, lx_dim(lo, g.in_group)), w[1]);
    Expr *sum = lower_local(lo, t, lx_const(lo, t, 0));
    x[0] = dy[0] = lower_for_dim(lo, g.batch);
    for (uint32_t i = 0; i < r; i++) {
        Expr *o = dy[g.first + i] = lower_for_dim(lo, g.out[i]);
        Expr *at = lx_add(lo, lx_mul(lo, o, lx_i(lo, g.stride[i])), lx_mul(lo, w[2 + i], lx_i(lo, g.dilation[i])));
        at = x[g.first + i] = lx_sub(lo, at, lx_dim(lo, g.begin[i]));
        lower_if(lo, lx_2(lo, FN_AND, lx_2(lo, FN_GE, at, lx_i(lo, 0)), lx_2(lo, FN_LT, at, lx_dim(lo, g.in[i]))));
    }
    lower_accumulate(lo, sum, FN_ADD, lx_mul(lo, lower_load(lo, n->in[0], x), lower_load(lo, n->in[1], dy)));
    lower_end_n(lo, 2 * r + 1);
    lower_store(lo, n->out[0], w, sum);
    lower_end_n(lo, r + 2u);
    return true;
}
