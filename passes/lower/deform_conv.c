/* DeformConv: a convolution whose taps are moved by learned offsets and read by bilinear interpolation; points outside
 * the input count as zero.
 *
 *     y[n,oc,o] = bias[oc] + sum over c, tap: w[oc,c,tap] * mask[n,tap,o] * x(n, c, o*stride + tap*dilation - pad + offset[n,tap,o])
 *
 * offset has, per offset group and tap, one plane per spatial dimension; mask one plane per offset group and tap. */
#include "ir/shape/convolution.h"
#include "passes/lower/contraction.h"
#include "passes/rules.h"

typedef struct Sample { /* a point of the input: corner below and weight of the corner above, by dimension */
    Expr *low[RANK_MAX], *fraction[RANK_MAX];
} Sample;

/* x at the point, interpolated over its 2^r corners. */
static Expr *interpolate(Lower *lo, const Value *x, const ConvGeometry *g, Expr *n, Expr *c, const Sample *s) {
    DType t = dtype_compute(x->type->dtype);
    Expr *sum = lx_const(lo, t, 0), *one = lx_const(lo, t, 1), *zero = lx_const(lo, t, 0);
    for (uint32_t corner = 0; corner < 1u << g->spatial; corner++) {
        Expr *weight = one, *inside = NULL, *idx[RANK_MAX];
        idx[0] = n;
        idx[1] = c;
        for (uint32_t i = 0; i < g->spatial; i++) {
            bool up = corner >> i & 1;
            Expr *at = up ? lx_add(lo, s->low[i], lx_i(lo, 1)) : s->low[i];
            weight = lx_mul(lo, weight, up ? s->fraction[i] : lx_sub(lo, one, s->fraction[i]));
            Expr *ok = lx_2(lo, FN_AND, lx_2(lo, FN_GE, at, lx_i(lo, 0)), lx_2(lo, FN_LT, at, lx_dim(lo, g->in[i])));
            inside = inside == NULL ? ok : lx_2(lo, FN_AND, inside, ok);
            Expr *last = lx_sub(lo, lx_dim(lo, g->in[i]), lx_i(lo, 1));
            idx[2 + i] = lx_2(lo, FN_MAX, lx_2(lo, FN_MIN, at, last), lx_i(lo, 0));
        }
        Expr *value = lx_select(lo, inside, lower_load(lo, x, idx), zero);
        sum = lx_add(lo, sum, lx_mul(lo, weight, value));
    }
    return sum;
}

bool lower_deform_conv(Lower *lo, const Node *n) {
    ConvGeometry g;
    if (!conv_geometry(lo->m, n, &g)) return false;
    Context *cx = lo->cx;
    uint32_t r = g.spatial;
    int64_t offset_groups = attr_i(n, AT_DeformConv_offset_group);
    if (offset_groups < 1) {
        diag(cx, SEV_ERROR, n->loc, "offset_group is %lld, at least 1 is needed", (long long)offset_groups);
        return false;
    }
    DType t = contract_sum_type(n->in[0]->type->dtype);
    Expr *idx[RANK_MAX];
    lower_for_type(lo, n->out[0]->type, idx);
    Expr *oc = idx[1], *group = lx_div(lo, oc, lx_dim(lo, g.out_group));
    Expr *sum = lower_local(lo, t, n->n_in > 3 && n->in[3] != NULL ? lower_load(lo, n->in[3], &oc) : lx_const(lo, t, 0));
    Expr *cg = lower_for_dim(lo, g.in_group);
    Expr *c = lx_add(lo, lx_mul(lo, group, lx_dim(lo, g.in_group)), cg);
    Expr *og = lx_div(lo, lx_mul(lo, c, lx_i(lo, offset_groups)), lx_dim(lo, g.in_channels));
    Expr *widx[RANK_MAX], *tap = lx_i(lo, 0), *taps = lx_i(lo, 1);
    widx[0] = oc;
    widx[1] = cg;
    for (uint32_t i = 0; i < r; i++) {
        widx[2 + i] = lower_for_dim(lo, g.kernel[i]);
        tap = lx_add(lo, lx_mul(lo, tap, lx_dim(lo, g.kernel[i])), widx[2 + i]);
        taps = lx_mul(lo, taps, lx_dim(lo, g.kernel[i]));
    }
    Expr *plane = lx_add(lo, lx_mul(lo, og, taps), tap), *at[RANK_MAX];
    at[0] = idx[0];
    for (uint32_t i = 0; i < r; i++) at[2 + i] = idx[2 + i];
    Sample s;
    for (uint32_t i = 0; i < r; i++) {
        Expr *base = lx_add(lo, lx_mul(lo, idx[2 + i], lx_i(lo, g.stride[i])), lx_mul(lo, widx[2 + i], lx_i(lo, g.dilation[i])));
        base = lx_sub(lo, base, lx_dim(lo, g.begin[i]));
        at[1] = lx_add(lo, lx_mul(lo, plane, lx_i(lo, r)), lx_i(lo, i));
        Expr *point = lx_add(lo, lx_cast(lo, t, base), lower_load(lo, n->in[2], at));
        Expr *floor = lx_1(lo, FN_FLOOR, point);
        s.low[i] = lx_cast(lo, DT_I64, floor);
        s.fraction[i] = lx_sub(lo, point, floor);
    }
    Expr *value = lx_mul(lo, lower_load(lo, n->in[1], widx), interpolate(lo, n->in[0], &g, idx[0], c, &s));
    at[1] = plane;
    if (n->n_in > 4 && n->in[4] != NULL) value = lx_mul(lo, value, lower_load(lo, n->in[4], at));
    lower_accumulate(lo, sum, FN_ADD, value);
    lower_end_n(lo, r + 1);
    lower_store(lo, n->out[0], idx, sum);
    lower_end_n(lo, r + 2u);
    return true;
}
