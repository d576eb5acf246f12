/* Convolutions as plain loops: every rank, type, group, dilation and run-time size. Conv over constant weights goes to
 * the micro-kernels (passes/lower_contract.h) when it profits.
 *
 *     for n, oc, oh, ow:  sum = 0
 *       for kh: ih = oh * stride + kh * dilation - begin;  if 0 <= ih < H
 *         for kw: iw = …;  if 0 <= iw < W
 *           for c: sum += x[n, g*C/G + c, ih, iw] * w[oc, c, kh, kw]
 *       y[n, oc, oh, ow] = sum + bias */
#include "ir/shape/convolution.h"
#include "passes/lower/contraction.h"
#include "passes/lower_conv.h"
#include "passes/lower_integer.h"
#include "passes/rules.h"

typedef struct Position { /* an output element: batch, channel, group, spatial, and the output tensor's index */
    Expr *n, *oc, *group, *at[RANK_MAX], *idx[RANK_MAX];
} Position;

static Expr *clamp_load_index(Lower *lo, const ConvGeometry *g, uint32_t i, const Position *p, Expr *k, Expr **inside) {
    Expr *in = lx_add(lo, lx_mul(lo, p->at[i], lx_i(lo, g->stride[i])), lx_mul(lo, k, lx_i(lo, g->dilation[i])));
    in = lx_sub(lo, in, lx_dim(lo, g->begin[i]));
    *inside = lx_2(lo, FN_AND, lx_2(lo, FN_GE, in, lx_i(lo, 0)), lx_2(lo, FN_LT, in, lx_dim(lo, g->in[i])));
    return in;
}

static Position open_output(Lower *lo, const ConvGeometry *g) {
    Position p = {0};
    uint32_t r = g->spatial;
    p.n = lower_for_dim(lo, g->batch);
    if (!g->channels_last) p.oc = lower_for_dim(lo, g->out_channels);
    for (uint32_t i = 0; i < r; i++) p.at[i] = lower_for_dim(lo, g->out[i]);
    if (g->channels_last) p.oc = lower_for_dim(lo, g->out_channels);
    p.group = g->group == 1 ? lx_i(lo, 0) : lx_div(lo, p.oc, lx_dim(lo, g->out_group));
    p.idx[0] = p.n;
    p.idx[g->channels_last ? r + 1 : 1] = p.oc;
    for (uint32_t i = 0; i < r; i++) p.idx[g->first + i] = p.at[i];
    return p;
}

static void close_output(Lower *lo, const ConvGeometry *g) { lower_end_n(lo, g->spatial + 2); }

static Expr *load_x(Lower *lo, const Value *x, const ConvGeometry *g, Expr *n, Expr *c, Expr *const *at) {
    Expr *idx[RANK_MAX];
    idx[0] = n;
    idx[g->channels_last ? g->spatial + 1 : 1] = c;
    for (uint32_t i = 0; i < g->spatial; i++) idx[g->first + i] = at[i];
    return lower_load(lo, x, idx);
}

typedef Expr *WeightTerm(Lower *lo, const Node *n, Expr *x, Expr *w, const Position *p, DType t);

/* The sum over the window and the group's channels; `term` makes one product from the loaded elements. */
static Expr *window_sum(Lower *lo, const Node *n, const ConvGeometry *g, const Position *p, uint32_t x, uint32_t w, DType t, WeightTerm *term) {
    uint32_t r = g->spatial;
    Expr *sum = lower_local(lo, t, lx_const(lo, t, 0));
    Expr *in[RANK_MAX], *widx[RANK_MAX];
    for (uint32_t i = 0; i < r; i++) {
        Expr *inside;
        widx[2 + i] = lower_for_dim(lo, g->kernel[i]);
        in[i] = clamp_load_index(lo, g, i, p, widx[2 + i], &inside);
        lower_if(lo, inside);
    }
    Expr *c = lower_for_dim(lo, g->in_group);
    widx[0] = p->oc;
    widx[1] = c;
    Expr *from = lx_add(lo, lx_mul(lo, p->group, lx_dim(lo, g->in_group)), c);
    Expr *ex = load_x(lo, n->in[x], g, p->n, from, in), *ew = lower_load(lo, n->in[w], widx);
    lower_accumulate(lo, sum, FN_ADD, term(lo, n, ex, ew, p, t));
    lower_end_n(lo, 2 * r + 1);
    return sum;
}

static Expr *plain_term(Lower *lo, const Node *n, Expr *x, Expr *w, const Position *p, DType t) {
    (void)n, (void)p, (void)t;
    return lx_mul(lo, x, w);
}

bool lower_conv(Lower *lo, const Node *n) {
    ConvGeometry g;
    if (!conv_geometry(lo->m, n, &g)) return false;
    if (lower_conv_contract(lo, n, &g)) return true;
    uint32_t x, w, bias;
    conv_operands(n, &x, &w, &bias);
    Position p = open_output(lo, &g);
    Expr *sum = window_sum(lo, n, &g, &p, x, w, contract_sum_type(n->in[x]->type->dtype), plain_term);
    if (bias < n->n_in) sum = lx_add(lo, sum, lower_load(lo, n->in[bias], &p.oc));
    lower_store(lo, n->out[0], p.idx, sum);
    close_output(lo, &g);
    return true;
}

static Expr *shifted_term(Lower *lo, const Node *n, Expr *x, Expr *w, const Position *p, DType t, uint32_t zx, uint32_t zw) {
    Expr *none = lx_const(lo, t, 0);
    Expr *zero_x = lx_cast(lo, t, contract_parameter(lo, zx < n->n_in ? n->in[zx] : NULL, p->n, none));
    Expr *zero_w = lx_cast(lo, t, contract_parameter(lo, zw < n->n_in ? n->in[zw] : NULL, p->oc, none));
    return lx_mul(lo, lx_sub(lo, lx_cast(lo, t, x), zero_x), lx_sub(lo, lx_cast(lo, t, w), zero_w));
}

static Expr *integer_term(Lower *lo, const Node *n, Expr *x, Expr *w, const Position *p, DType t) {
    return shifted_term(lo, n, x, w, p, t, 2, 3);
}

static Expr *quantized_term(Lower *lo, const Node *n, Expr *x, Expr *w, const Position *p, DType t) {
    return shifted_term(lo, n, x, w, p, t, 2, 5);
}

bool lower_conv_integer(Lower *lo, const Node *n) {
    ConvGeometry g;
    if (!conv_geometry(lo->m, n, &g)) return false;
    Position p = open_output(lo, &g);
    lower_store(lo, n->out[0], p.idx, window_sum(lo, n, &g, &p, 0, 1, DT_I32, integer_term));
    close_output(lo, &g);
    return true;
}

bool lower_integer_conv(Lower *lo, const Node *n) {
    ConvGeometry g;
    if (!conv_geometry(lo->m, n, &g)) return false;
    if (lower_integer_depthwise(lo, n, &g) || lower_integer_conv_contract(lo, n, &g)) return true;
    Position p = open_output(lo, &g);
    Expr *sum = window_sum(lo, n, &g, &p, 0, 1, DT_I32, integer_term);
    if (n->n_in > 4 && n->in[4] != NULL) sum = lx_add(lo, sum, lower_load(lo, n->in[4], &p.oc));
    lower_store(lo, n->out[0], p.idx, lx_cast(lo, n->out[0]->type->dtype, sum));
    close_output(lo, &g);
    return true;
}

bool lower_qlinear_conv(Lower *lo, const Node *n) {
    ConvGeometry g;
    if (!conv_geometry(lo->m, n, &g)) return false;
    Position p = open_output(lo, &g);
    Expr *sum = window_sum(lo, n, &g, &p, 0, 3, DT_I32, quantized_term);
    if (n->n_in > 8 && n->in[8] != NULL) sum = lx_add(lo, sum, lower_load(lo, n->in[8], &p.oc));
    Expr *one = lx_const(lo, DT_F32, 1);
    Expr *scale = lx_mul(lo, lower_load_scalar(lo, n->in[1]), contract_parameter(lo, n->in[4], p.oc, one));
    scale = lx_div(lo, scale, lower_load_scalar(lo, n->in[6]));
    lower_store(lo, n->out[0], p.idx, contract_requantize(lo, n->out[0], sum, scale, n->in[7]));
    close_output(lo, &g);
    return true;
}
