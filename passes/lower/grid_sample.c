/* GridSample: each output position reads the input at a computed place, and AffineGrid, which computes such places.
 *
 *     for n, oh, ow
 *       per axis: x = denormalised coordinate, K taps around it: position at[axis][k], weight[axis][k]
 *       for c:  y[n,c,oh,ow] = sum over ky, kx of wy[ky] * wx[kx] * x[n, c, aty[ky], atx[kx]]
 *
 * K is 1 (nearest), 2 (linear) or 4 (cubic). Taps outside the image weigh nothing (zeros), read the border (border) or
 * are mirrored (reflection). Cubic with border clamps the taps, not the place, as PyTorch and ONNX Runtime do. */
#include "passes/lower/rows.h"
#include "passes/rules.h"

enum { UNROLL_MAX = 16 };

typedef struct Grid {
    Lower *lo;
    const Node *n;
    const Type *x;
    uint32_t axes;         /* spatial dimensions */
    int64_t taps, start;
    bool align, border, reflection;
    DType t;
    uint32_t at, weight;   /* arrays [axes, taps] */
    Expr *out[RANK_MAX], *in[RANK_MAX];
} Grid;

static Expr *num(Grid *g, double v) { return lx_const(g->lo, g->t, v); }

/* x mirrored at both ends of [from, to], as often as needed. */
static Expr *reflect(Grid *g, Expr *x, Expr *from, Expr *to) {
    Lower *lo = g->lo;
    Expr *range = lx_sub(lo, to, from), *two = lx_mul(lo, range, num(g, 2));
    Expr *d = lx_1(lo, FN_ABS, lx_sub(lo, x, from));
    Expr *r = lx_sub(lo, d, lx_mul(lo, lx_1(lo, FN_FLOOR, lx_div(lo, d, two)), two));
    r = lx_2(lo, FN_MIN, r, lx_sub(lo, two, r));
    return lx_select(lo, lx_2(lo, FN_GT, range, num(g, 0)), lx_add(lo, from, r), from);
}

static void bounds(Grid *g, uint32_t a, Expr **from, Expr **to) { /* the image in coordinates of axis a */
    Expr *last = lx_cast(g->lo, g->t, lx_add(g->lo, lx_dim(g->lo, g->x->dim[2 + a]), lx_i(g->lo, -1)));
    *from = num(g, g->align ? 0 : -0.5);
    *to = g->align ? last : lx_add(g->lo, last, num(g, 0.5));
}

static Expr *coordinate(Grid *g, uint32_t a) {
    Lower *lo = g->lo;
    Expr *idx[RANK_MAX], *from, *to, *half = num(g, 0.5), *one = num(g, 1);
    idx[0] = g->out[0];
    for (uint32_t i = 0; i < g->axes; i++) idx[1 + i] = g->out[2 + i];
    idx[1 + g->axes] = lx_i(lo, g->axes - 1 - a); /* the grid lists x first, which is the last axis */
    Expr *u = lx_cast(lo, g->t, lower_load(lo, g->n->in[1], idx)), *length = lx_cast(lo, g->t, lx_dim(lo, g->x->dim[2 + a]));
    Expr *x = lx_mul(lo, lx_add(lo, u, one), half);
    x = g->align ? lx_mul(lo, x, lx_sub(lo, length, one)) : lx_sub(lo, lx_mul(lo, x, length), half);
    x = lower_local(lo, g->t, x);
    if (g->taps == 1) lower_set(lo, x, lx_1(lo, FN_RINT, x));
    bounds(g, a, &from, &to);
    Expr *out = lx_2(lo, FN_OR, lx_2(lo, FN_LT, x, from), lx_2(lo, FN_GT, x, to));
    if (g->border && g->taps != 4) lower_set(lo, x, lx_2(lo, FN_MIN, lx_2(lo, FN_MAX, x, num(g, 0)), lx_sub(lo, length, one)));
    if (g->reflection) lower_set(lo, x, lx_select(lo, out, reflect(g, x, from, to), x));
    return x;
}

static Expr *cubic(Grid *g, Expr *d) {
    Lower *lo = g->lo;
    const double a = -0.75;
    Expr *x = lx_1(lo, FN_ABS, d), *x2 = lx_mul(lo, x, x), *x3 = lx_mul(lo, x2, x);
    Expr *near = lx_add(lo, lx_sub(lo, lx_mul(lo, num(g, a + 2), x3), lx_mul(lo, num(g, a + 3), x2)), num(g, 1));
    Expr *far = lx_add(lo, lx_sub(lo, lx_mul(lo, num(g, a), x3), lx_mul(lo, num(g, 5 * a), x2)), lx_mul(lo, num(g, 8 * a), x));
    return lx_select(lo, lx_2(lo, FN_LE, x, num(g, 1)), near, lx_sub(lo, far, num(g, 4 * a)));
}

static void axis_taps(Grid *g, uint32_t a) {
    Lower *lo = g->lo;
    Expr *x = coordinate(g, a), *base = lx_1(lo, FN_FLOOR, x), *from, *to, *zero = lx_i(lo, 0);
    Expr *length = lx_dim(lo, g->x->dim[2 + a]), *last = lx_add(lo, length, lx_i(lo, -1));
    bounds(g, a, &from, &to);
    for (int64_t k = 0; k < g->taps; k++) {
        Expr *idx[2] = {lx_i(lo, a), lx_i(lo, k)}, *place = lx_add(lo, base, num(g, (double)(g->start + k)));
        Expr *d = lx_sub(lo, x, place);
        Expr *w = g->taps == 1 ? num(g, 1) : g->taps == 2 ? lx_sub(lo, num(g, 1), lx_1(lo, FN_ABS, d)) : cubic(g, d);
        if (g->reflection) {
            Expr *out = lx_2(lo, FN_OR, lx_2(lo, FN_LT, place, from), lx_2(lo, FN_GT, place, to));
            place = lx_select(lo, out, reflect(g, place, from, to), place);
        }
        Expr *i = lx_cast(lo, DT_I64, place);
        Expr *inside = lx_2(lo, FN_AND, lx_2(lo, FN_GE, i, zero), lx_2(lo, FN_LT, i, length));
        if (!g->border && !g->reflection) w = lx_select(lo, inside, w, num(g, 0));
        lower_store_buf(lo, g->at, idx, FN_NONE, lx_2(lo, FN_MAX, lx_2(lo, FN_MIN, i, last), zero));
        lower_store_buf(lo, g->weight, idx, FN_NONE, w);
    }
}

static Expr *unrolled(Grid *g, uint32_t a) {
    Lower *lo = g->lo;
    if (a == g->axes) return lx_cast(lo, g->t, lower_load(lo, g->n->in[0], g->in));
    Expr *sum = NULL;
    for (int64_t k = 0; k < g->taps; k++) {
        Expr *idx[2] = {lx_i(lo, a), lx_i(lo, k)};
        g->in[2 + a] = lower_load_buf(lo, g->at, idx);
        Expr *e = lx_mul(lo, lower_load_buf(lo, g->weight, idx), unrolled(g, a + 1));
        sum = sum == NULL ? e : lx_add(lo, sum, e);
    }
    return sum;
}

static Expr *looped(Grid *g) {
    Lower *lo = g->lo;
    Expr *sum = lower_local(lo, g->t, num(g, 0)), *weight = num(g, 1);
    for (uint32_t a = 0; a < g->axes; a++) {
        Expr *idx[2] = {lx_i(lo, a), lower_for(lo, lx_i(lo, g->taps))};
        g->in[2 + a] = lower_load_buf(lo, g->at, idx);
        weight = lx_mul(lo, weight, lower_load_buf(lo, g->weight, idx));
    }
    lower_accumulate(lo, sum, FN_ADD, lx_mul(lo, weight, lx_cast(lo, g->t, lower_load(lo, g->n->in[0], g->in))));
    lower_end_n(lo, g->axes);
    return sum;
}

static bool read_modes(Grid *g) {
    Context *cx = g->lo->cx;
    const Node *n = g->n;
    bool nearest = attr_s_is(cx, n, AT_GridSample_mode, "nearest"), linear = attr_s_is(cx, n, AT_GridSample_mode, "linear");
    if (!nearest && !linear && !attr_s_is(cx, n, AT_GridSample_mode, "cubic")) {
        diag(cx, SEV_ERROR, n->loc, "mode \"%s\" is unknown; nearest, linear and cubic are", str_text(cx, attr_s(n, AT_GridSample_mode)));
        return false;
    }
    g->taps = nearest ? 1 : linear ? 2 : 4;
    g->start = g->taps == 4 ? -1 : 0;
    g->align = attr_i(n, AT_GridSample_align_corners) != 0;
    g->border = attr_s_is(cx, n, AT_GridSample_padding_mode, "border");
    g->reflection = attr_s_is(cx, n, AT_GridSample_padding_mode, "reflection");
    return true;
}

bool lower_grid_sample(Lower *lo, const Node *n) {
    const Type *y = n->out[0]->type;
    Grid g = {.lo = lo, .n = n, .x = n->in[0]->type, .axes = y->rank - 2};
    if (!read_modes(&g)) return false;
    g.t = lower_float_type(g.x->dtype);
    g.out[0] = lower_for_dim(lo, y->dim[0]);
    for (uint32_t a = 0; a < g.axes; a++) g.out[2 + a] = lower_for_dim(lo, y->dim[2 + a]);
    Dim size[2] = {dim_const(lo->cx, g.axes), dim_const(lo->cx, g.taps)};
    g.at = lower_array(lo, DT_I64, 2, size);
    g.weight = lower_array(lo, g.t, 2, size);
    for (uint32_t a = 0; a < g.axes; a++) axis_taps(&g, a);
    g.out[1] = lower_for_dim(lo, y->dim[1]);
    g.in[0] = g.out[0];
    g.in[1] = g.out[1];
    int64_t total = 1;
    for (uint32_t a = 0; a < g.axes && total <= UNROLL_MAX; a++) total *= g.taps;
    lower_store(lo, n->out[0], g.out, total <= UNROLL_MAX ? unrolled(&g, 0) : looped(&g));
    lower_end_n(lo, g.axes + 2);
    return true;
}

/* grid[n, (d,) h, w, row] = theta[n, row, :] . (x, y, (z,) 1), coordinates from -1 to 1. */
Expr *define_affine_grid(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    const Type *grid = n->out[out]->type;
    uint32_t k = grid->rank - 2;
    bool align = attr_i(n, AT_AffineGrid_align_corners) != 0;
    DType t = lower_float_type(n->in[0]->type->dtype);
    Expr *row = idx[grid->rank - 1], *one = lx_const(lo, t, 1), *two = lx_const(lo, t, 2);
    Expr *sum = lx_cast(lo, t, lower_load(lo, n->in[0], (Expr *[]){idx[0], row, lx_i(lo, k)}));
    for (uint32_t a = 0; a < k; a++) {
        Expr *i = lx_cast(lo, t, idx[k - a]), *length = lx_cast(lo, t, lx_dim(lo, grid->dim[k - a]));
        Expr *last = lx_sub(lo, length, one), *x;
        if (align) x = lx_select(lo, lx_2(lo, FN_GT, last, lx_const(lo, t, 0)), lx_sub(lo, lx_div(lo, lx_mul(lo, i, two), last), one), lx_const(lo, t, -1));
        else x = lx_sub(lo, lx_div(lo, lx_add(lo, lx_mul(lo, i, two), one), length), one);
        Expr *theta = lx_cast(lo, t, lower_load(lo, n->in[0], (Expr *[]){idx[0], row, lx_i(lo, a)}));
        sum = lx_add(lo, sum, lx_mul(lo, theta, x));
    }
    return sum;
}
