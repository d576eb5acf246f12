/* MaxPool, AveragePool, LpPool in any number of spatial dimensions.
 *
 *     for n, c, oh, tile of ow
 *       acc[ow] = -inf
 *       for kh, kw                                  (only rows kh inside the input)
 *         for ow with the tap inside the input      acc[ow] = max(acc[ow], x[n, c, oh*s - p + kh*d, ow*s - p + kw*d])
 *       y[n, c, oh, ow] = acc[ow]
 *
 * The innermost loop runs along the last axis without any test: which outputs have tap kw inside is computed before it. */
#include "ir/shape/window.h"
#include "passes/lower/pool.h"
#include "passes/lower/rows.h"
#include "passes/rules.h"

enum { TILE = 256 };

typedef struct Pool {
    Lower *lo;
    const Node *n;
    const Type *x;
    Window w;
    uint32_t last;             /* last spatial axis */
    Expr *out[RANK_MAX];       /* index of the output element; [last] = base + lane */
    Expr *tap[WINDOW_AXES_MAX];
    Expr *base, *width, *lane;
    DType t;
    uint32_t acc, at;          /* arrays: value, and position for Indices */
    bool indices;
} Pool;

static Expr *tap_position(Pool *p, uint32_t a, Expr *o, Expr *k) {
    Lower *lo = p->lo;
    Expr *e = lx_add(lo, lx_mul(lo, o, lx_i(lo, p->w.stride[a])), lx_mul(lo, k, lx_i(lo, p->w.dilation[a])));
    return lx_sub(lo, e, lx_dim(lo, p->w.before[a]));
}

static Expr *ceil_div(Lower *lo, Expr *x, int64_t d) { return lx_2(lo, FN_FLOORDIV, lx_add(lo, x, lx_i(lo, d - 1)), lx_i(lo, d)); }

static void open_outputs(Pool *p) {
    Lower *lo = p->lo;
    p->out[0] = lower_for_dim(lo, p->x->dim[0]);
    p->out[1] = lower_for_dim(lo, p->x->dim[1]);
    for (uint32_t a = 0; a < p->last; a++) p->out[2 + a] = lower_for_dim(lo, p->w.out[a]);
    Dim tiles = dim_ceildiv(lo->cx, p->w.out[p->last], dim_const(lo->cx, TILE));
    Expr *t = lower_for_dim(lo, tiles);
    p->base = lx_mul(lo, t, lx_i(lo, TILE));
    p->width = lx_2(lo, FN_MIN, lx_sub(lo, lx_dim(lo, p->w.out[p->last]), p->base), lx_i(lo, TILE));
}

static void close_outputs(Pool *p) { lower_end_n(p->lo, p->last + 3); }

static void open_lanes(Pool *p) {
    p->lane = lower_for(p->lo, p->width);
    p->out[2 + p->last] = lx_add(p->lo, p->base, p->lane);
}

/* Opens the loops over taps that lie inside the input; returns how many blocks were opened. */
static uint32_t open_taps(Pool *p, Expr **idx) {
    Lower *lo = p->lo;
    uint32_t open = 0;
    Expr *inside = ex_i(lo->cx, DT_BOOL, 1);
    idx[0] = p->out[0];
    idx[1] = p->out[1];
    for (uint32_t a = 0; a < p->last; a++) {
        p->tap[a] = lower_for_dim(lo, p->w.kernel[a]);
        open++;
        idx[2 + a] = tap_position(p, a, p->out[2 + a], p->tap[a]);
        Expr *low = lx_2(lo, FN_GE, idx[2 + a], lx_i(lo, 0)), *high = lx_2(lo, FN_LT, idx[2 + a], lx_dim(lo, p->w.in[a]));
        inside = lx_2(lo, FN_AND, inside, lx_2(lo, FN_AND, low, high));
    }
    if (!ex_is_const(inside, 1)) {
        lower_if(lo, inside);
        open++;
    }
    uint32_t a = p->last;
    int64_t stride = p->w.stride[a];
    Expr *k = p->tap[a] = lower_for_dim(lo, p->w.kernel[a]), *zero = lx_i(lo, 0);
    /* first and one past the last output whose tap k is inside, relative to the tile */
    Expr *offset = lx_sub(lo, lx_dim(lo, p->w.before[a]), lx_mul(lo, k, lx_i(lo, p->w.dilation[a])));
    Expr *from = lx_2(lo, FN_MAX, lx_sub(lo, ceil_div(lo, offset, stride), p->base), zero);
    Expr *to = lx_sub(lo, ceil_div(lo, lx_add(lo, offset, lx_dim(lo, p->w.in[a])), stride), p->base);
    to = lx_2(lo, FN_MIN, to, p->width);
    Expr *j = lower_for(lo, lx_2(lo, FN_MAX, lx_sub(lo, to, from), zero));
    p->lane = lx_add(lo, from, j);
    p->out[2 + a] = lx_add(lo, p->base, p->lane);
    idx[2 + a] = tap_position(p, a, p->out[2 + a], k);
    return open + 2;
}

/* Position of an element in the whole tensor, for Indices; storage_order 1 runs the spatial axes the other way round. */
static Expr *flat_position(Pool *p, Expr *const *idx, bool column_major) {
    Lower *lo = p->lo;
    Expr *e = lx_add(lo, lx_mul(lo, idx[0], lx_dim(lo, p->x->dim[1])), idx[1]), *space = lx_i(lo, 0);
    Dim size = dim_const(lo->cx, 1);
    for (uint32_t i = 0; i < p->w.n; i++) {
        uint32_t a = column_major ? i : p->w.n - 1 - i;
        space = lx_add(lo, space, lx_mul(lo, idx[2 + a], lx_dim(lo, size)));
        size = dim_mul(lo->cx, size, p->w.in[a]);
    }
    return lx_add(lo, lx_mul(lo, e, lx_dim(lo, size)), space);
}

static int64_t norm_p(const Node *n) { return attr_i(n, AT_LpPool_p); }

static void take_tap(Pool *p, Expr *const *idx) {
    Lower *lo = p->lo;
    Expr *e = lx_cast(lo, p->t, lower_load(lo, p->n->in[0], idx));
    if (p->n->op == OP_LpPool) {
        Expr *size = lx_1(lo, FN_ABS, e);
        e = norm_p(p->n) == 1 ? size : norm_p(p->n) == 2 ? lx_mul(lo, e, e) : lx_2(lo, FN_POW, size, lx_const(lo, p->t, (double)norm_p(p->n)));
    }
    if (p->indices) { /* the first of equal elements counts */
        Expr *best = lower_load_buf(lo, p->acc, &p->lane), *at = lower_load_buf(lo, p->at, &p->lane);
        Expr *better = lx_2(lo, FN_OR, lx_2(lo, FN_GT, e, best), lx_2(lo, FN_LT, at, lx_i(lo, 0)));
        bool column_major = attr_i(p->n, AT_MaxPool_storage_order) != 0;
        lower_store_buf(lo, p->at, &p->lane, FN_NONE, lx_select(lo, better, flat_position(p, idx, column_major), at));
    }
    lower_store_buf(lo, p->acc, &p->lane, p->n->op == OP_MaxPool ? FN_MAX : FN_ADD, e);
}

Expr *pool_tap_count(Lower *lo, const Window *w, Expr *const *out, bool with_padding) {
    Expr *count = lx_i(lo, 1), *zero = lx_i(lo, 0);
    for (uint32_t a = 0; a < w->n; a++) {
        int64_t d = w->dilation[a];
        Expr *start = lx_sub(lo, lx_mul(lo, out[2 + a], lx_i(lo, w->stride[a])), lx_dim(lo, w->before[a]));
        Expr *limit = lx_dim(lo, with_padding ? dim_add(lo->cx, w->in[a], w->after[a]) : w->in[a]);
        Expr *to = lx_2(lo, FN_MIN, ceil_div(lo, lx_sub(lo, limit, start), d), lx_dim(lo, w->kernel[a]));
        Expr *from = with_padding ? zero : lx_2(lo, FN_MAX, ceil_div(lo, lx_sub(lo, zero, start), d), zero);
        count = lx_mul(lo, count, lx_2(lo, FN_MAX, lx_sub(lo, to, from), zero));
    }
    return count;
}

static Expr *result(Pool *p) {
    Lower *lo = p->lo;
    Expr *e = lower_load_buf(lo, p->acc, &p->lane);
    if (p->n->op == OP_AveragePool) return lx_div(lo, e, lx_cast(lo, p->t, pool_tap_count(lo, &p->w, p->out, attr_i(p->n, AT_AveragePool_count_include_pad) != 0)));
    if (p->n->op == OP_LpPool && norm_p(p->n) == 2) return lx_1(lo, FN_SQRT, e);
    if (p->n->op == OP_LpPool && norm_p(p->n) != 1) return lx_2(lo, FN_POW, e, lx_const(lo, p->t, 1.0 / (double)norm_p(p->n)));
    return e;
}

bool lower_pool(Lower *lo, const Node *n) {
    Pool p = {.lo = lo, .n = n, .x = n->in[0]->type};
    if (!window_of_pool(lo->m, (Node *)(uintptr_t)n, &p.w)) return false;
    p.last = p.w.n - 1;
    p.t = dtype_compute(p.x->dtype);
    p.indices = n->op == OP_MaxPool && n->n_out > 1 && lower_is_wanted(lo, n->out[1]);
    open_outputs(&p);
    int64_t out_hi = dim_hi(lo->cx, p.w.out[p.last]);
    Dim width = dim_const(lo->cx, out_hi < TILE ? (out_hi > 0 ? out_hi : 1) : TILE);
    p.acc = lower_array(lo, p.t, 1, &width);
    if (p.indices) p.at = lower_array(lo, DT_I64, 1, &width);
    open_lanes(&p);
    lower_store_buf(lo, p.acc, &p.lane, FN_NONE, n->op == OP_MaxPool ? lower_lowest(lo, p.t) : lx_const(lo, p.t, 0));
    if (p.indices) lower_store_buf(lo, p.at, &p.lane, FN_NONE, lx_i(lo, -1));
    lower_end(lo);
    Expr *idx[RANK_MAX];
    uint32_t open = open_taps(&p, idx);
    take_tap(&p, idx);
    lower_end_n(lo, open);
    open_lanes(&p);
    if (n->out[0] != NULL) lower_store(lo, n->out[0], p.out, result(&p));
    if (p.indices) lower_store(lo, n->out[1], p.out, lower_load_buf(lo, p.at, &p.lane));
    lower_end(lo);
    close_outputs(&p);
    return true;
}
