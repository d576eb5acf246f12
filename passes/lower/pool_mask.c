/* MaxpoolWithMask of com.microsoft: a row of a window ends at its first element whose mask is 0.
 *
 *     for every output, for kh                        alive = true
 *       for kw with the element (ih, iw) inside       alive &= ih * W + iw == 0 or mask[ih, iw] != 0
 *                                                     if alive: best = max(best, x[ih, iw])
 *
 * As ONNX Runtime's kernel does it, whose source is all there is of a definition: the first element of a plane always counts; in planes that share a mask
 * of P planes, plane c reads it from element c * H * W mod P on. */
#include "ir/shape/window.h"
#include "passes/lower/rows.h"
#include "passes/rules.h"

/* MaxpoolWithMaskPosition as well: where in x the maximum is, -1 when no element was alive. */
bool lower_max_pool_mask(Lower *lo, const Node *n) {
    const Type *x = n->in[0]->type, *m = n->in[1]->type;
    DType t = lower_float_type(x->dtype);
    bool position = n->op == OP_MaxpoolWithMaskPosition;
    Window w;
    if (!window_of_pool(lo->m, (Node *)(uintptr_t)n, &w)) return false;
    Dim plane = dim_const(lo->cx, 1), planes = dim_mul(lo->cx, m->dim[0], m->dim[1]), all = type_numel(lo->cx, m);
    for (uint32_t a = 0; a < w.n; a++) plane = dim_mul(lo->cx, plane, w.in[a]);
    uint32_t mask = lower_flat(lo, n->in[1]), last = w.n - 1;
    Expr *out[RANK_MAX], *idx[RANK_MAX], *zero = lx_i(lo, 0), *inside = ex_i(lo->cx, DT_BOOL, 1), *at = zero;
    lower_for_type(lo, n->out[0]->type, out);
    Expr *best = lower_local(lo, t, lx_const(lo, t, -3.4028234663852886e38)), *where = position ? lower_local(lo, DT_I64, lx_i(lo, -1)) : NULL;
    Expr *channel = lx_add(lo, lx_mul(lo, out[0], lx_dim(lo, x->dim[1])), out[1]);
    Expr *first = lx_2(lo, FN_MOD, lx_mul(lo, channel, lx_dim(lo, plane)), lx_dim(lo, planes));
    idx[0] = out[0];
    idx[1] = out[1];
    Expr *alive = NULL;
    for (uint32_t a = 0; a < w.n; a++) {
        if (a == last) alive = lower_local(lo, DT_BOOL, ex_i(lo->cx, DT_BOOL, 1));
        Expr *k = lower_for_dim(lo, w.kernel[a]);
        idx[2 + a] = lx_sub(lo, lx_add(lo, lx_mul(lo, out[2 + a], lx_i(lo, w.stride[a])), k), lx_dim(lo, w.before[a]));
        inside = lx_2(lo, FN_AND, inside, lx_2(lo, FN_AND, lx_2(lo, FN_GE, idx[2 + a], zero), lx_2(lo, FN_LT, idx[2 + a], lx_dim(lo, w.in[a]))));
        at = lx_add(lo, lx_mul(lo, at, lx_dim(lo, w.in[a])), idx[2 + a]);
    }
    lower_if(lo, inside);
    Expr *place = lx_2(lo, FN_INDEX, lx_add(lo, first, at), lx_dim(lo, all)), *set = lx_2(lo, FN_NE, lower_load_buf(lo, mask, &place), ex_i(lo->cx, DT_I32, 0));
    lower_set(lo, alive, lx_2(lo, FN_AND, alive, lx_2(lo, FN_OR, lx_2(lo, FN_EQ, at, zero), set)));
    lower_if(lo, alive);
    Expr *value = lower_load(lo, n->in[0], idx);
    if (position) { /* the first of equal ones */
        lower_if(lo, lx_2(lo, FN_GT, value, best));
        lower_set(lo, where, lx_add(lo, lx_mul(lo, channel, lx_dim(lo, plane)), at));
    }
    lower_accumulate(lo, best, FN_MAX, value);
    lower_end_n(lo, 2 + w.n + position);
    lower_store(lo, n->out[0], out, position ? where : best);
    lower_end_n(lo, x->rank);
    return true;
}
