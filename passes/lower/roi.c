/* Pooling inside regions of interest: RoiAlign (bilinear samples), MaxRoiPool (whole pixels) and CropAndResize (one sample each).
 *
 *     RoiAlign:       for roi, oh, ow, c:  average (or maximum) over a grid of samples inside bin (oh, ow) of the region
 *     CropAndResize:  for roi, oh, ow, c:  the image at point (oh, ow) of a grid from corner to corner of the region */
#include "passes/lower/rows.h"
#include "passes/rules.h"

typedef struct Roi {
    Lower *lo;
    const Node *n;
    const Type *x;
    DType t;
    Expr *r, *batch;
} Roi;

static Expr *num(Roi *s, double v) { return lx_const(s->lo, s->t, v); }

/* Column of the region's row, scaled and shifted to pixels of x. */
static Expr *corner(Roi *s, int64_t column, double scale, double shift) {
    Expr *v = lx_cast(s->lo, s->t, lower_load(s->lo, s->n->in[1], (Expr *[]){s->r, lx_i(s->lo, column)}));
    return lx_sub(s->lo, lx_mul(s->lo, v, num(s, scale)), num(s, shift));
}

enum { GRID_MAX = 4096 };

typedef struct Bin { Expr *start, *size, *grid; } Bin; /* of one axis: f32, f32, i64 */

static Bin bin_of(Roi *s, int64_t first, int64_t output) {
    Lower *lo = s->lo;
    bool half = attr_s_is(lo->cx, s->n, AT_RoiAlign_coordinate_transformation_mode, "half_pixel");
    double scale = attr_f(s->n, AT_RoiAlign_spatial_scale), shift = half ? 0.5 : 0;
    int64_t ratio = attr_i(s->n, AT_RoiAlign_sampling_ratio);
    Bin b = {.start = lower_local(lo, s->t, corner(s, first, scale, shift))};
    Expr *length = lx_sub(lo, corner(s, first + 2, scale, shift), b.start);
    if (!half) length = lx_2(lo, FN_MAX, length, num(s, 1));
    b.size = lower_local(lo, s->t, lx_div(lo, length, num(s, (double)output)));
    b.grid = lx_i(lo, ratio);
    if (ratio > 0) return b;
    /* One sample per pixel; a bin of more is a coordinate gone wrong, and would take for ever. */
    Expr *pixels = lx_2(lo, FN_MAX, lx_cast(lo, DT_I64, lx_1(lo, FN_CEIL, b.size)), lx_i(lo, 0)), *sane = lx_2(lo, FN_LE, pixels, lx_i(lo, GRID_MAX));
    b.grid = lower_local(lo, DT_I64, ex_require(lo->cx, sane, lx_select(lo, sane, pixels, lx_i(lo, 0)), LATHE_RT_VALUE));
    return b;
}

typedef struct Sample { Expr *low, *high, *fraction, *outside; } Sample;

/* The two pixels around sample i of bin o along one axis of the given length. */
static Sample sample_at(Roi *s, const Bin *b, Expr *o, Expr *i, Dim length) {
    Lower *lo = s->lo;
    Expr *step = lx_div(lo, lx_mul(lo, lx_add(lo, lx_cast(lo, s->t, i), num(s, 0.5)), b->size), lx_cast(lo, s->t, b->grid));
    Expr *x = lx_add(lo, lx_add(lo, b->start, lx_mul(lo, lx_cast(lo, s->t, o), b->size)), step);
    x = lower_local(lo, s->t, x);
    Expr *size = lx_cast(lo, s->t, lx_dim(lo, length)), *last = lx_add(lo, lx_dim(lo, length), lx_i(lo, -1));
    Sample p = {.outside = lx_2(lo, FN_OR, lx_2(lo, FN_LT, x, num(s, -1)), lx_2(lo, FN_GT, x, size))};
    Expr *clamped = lx_2(lo, FN_MIN, lx_2(lo, FN_MAX, x, num(s, 0)), lx_cast(lo, s->t, last));
    p.low = lx_2(lo, FN_MAX, lx_2(lo, FN_MIN, lx_cast(lo, DT_I64, clamped), last), lx_i(lo, 0));
    p.high = lx_2(lo, FN_MIN, lx_add(lo, p.low, lx_i(lo, 1)), last);
    p.fraction = lx_sub(lo, clamped, lx_cast(lo, s->t, p.low));
    return p;
}

static Expr *pixel(Roi *s, Expr *c, Expr *y, Expr *x) {
    return lx_cast(s->lo, s->t, lower_load(s->lo, s->n->in[0], (Expr *[]){s->batch, c, y, x}));
}

static Expr *batch_index(Roi *s, Expr *b) {
    return lower_local(s->lo, DT_I64, lx_2(s->lo, FN_INDEX, lx_cast(s->lo, DT_I64, b), lx_dim(s->lo, s->x->dim[0])));
}

bool lower_roi_align(Lower *lo, const Node *n) {
    const Type *y = n->out[0]->type;
    Roi s = {.lo = lo, .n = n, .x = n->in[0]->type, .t = lower_float_type(n->in[0]->type->dtype)};
    bool maximum = attr_s_is(lo->cx, n, AT_RoiAlign_mode, "max");
    Expr *zero = num(&s, 0), *one = num(&s, 1);
    s.r = lower_for_dim(lo, y->dim[0]);
    s.batch = batch_index(&s, lower_load(lo, n->in[2], &s.r));
    Bin h = bin_of(&s, 1, attr_i(n, AT_RoiAlign_output_height)), w = bin_of(&s, 0, attr_i(n, AT_RoiAlign_output_width));
    Expr *c = lower_for_dim(lo, y->dim[1]), *oh = lower_for_dim(lo, y->dim[2]), *ow = lower_for_dim(lo, y->dim[3]);
    Expr *value = lower_local(lo, s.t, maximum ? lower_lowest(lo, s.t) : zero);
    Expr *iy = lower_for(lo, h.grid);
    Sample v = sample_at(&s, &h, oh, iy, s.x->dim[2]);
    Expr *ix = lower_for(lo, w.grid);
    Sample u = sample_at(&s, &w, ow, ix, s.x->dim[3]);
    Expr *outside = lx_2(lo, FN_OR, v.outside, u.outside), *hy = lx_sub(lo, one, v.fraction), *hx = lx_sub(lo, one, u.fraction);
    Expr *part[4] = {lx_mul(lo, lx_mul(lo, hy, hx), pixel(&s, c, v.low, u.low)), lx_mul(lo, lx_mul(lo, hy, u.fraction), pixel(&s, c, v.low, u.high)),
                     lx_mul(lo, lx_mul(lo, v.fraction, hx), pixel(&s, c, v.high, u.low)),
                     lx_mul(lo, lx_mul(lo, v.fraction, u.fraction), pixel(&s, c, v.high, u.high))};
    Fn join = maximum ? FN_MAX : FN_ADD; /* the maximum is over the weighted corners, as ONNX defines it */
    Expr *e = lx_2(lo, join, lx_2(lo, join, part[0], part[1]), lx_2(lo, join, part[2], part[3]));
    lower_accumulate(lo, value, join, lx_select(lo, outside, zero, e));
    lower_end_n(lo, 2);
    Expr *count = lx_mul(lo, h.grid, w.grid), *idx[4] = {s.r, c, oh, ow};
    if (maximum) e = lx_select(lo, lx_2(lo, FN_GT, count, lx_i(lo, 0)), value, zero);
    else e = lx_div(lo, value, lx_cast(lo, s.t, lx_2(lo, FN_MAX, count, lx_i(lo, 1))));
    lower_store(lo, n->out[0], idx, e);
    lower_end_n(lo, 4);
    return true;
}

/* First and one past the last pixel of bin o: [floor(o * size), ceil((o + 1) * size)) + start, cut to the image. */
static void pixel_bin(Roi *s, int64_t first, Expr *o, int64_t output, Dim length, Expr **from, Expr **count) {
    Lower *lo = s->lo;
    double scale = attr_f(s->n, attr_named(s->n, "spatial_scale"));
    Expr *half = num(s, 0.5), *edge = lx_dim(lo, length), *zero = lx_i(lo, 0), *one = lx_i(lo, 1), *bound[2];
    for (int64_t i = 0; i < 2; i++) { /* half away from zero, as in the original implementation */
        Expr *at = corner(s, first + 2 * i, scale, 0), *up = lx_1(lo, FN_FLOOR, lx_add(lo, at, half)), *down = lx_1(lo, FN_CEIL, lx_sub(lo, at, half));
        bound[i] = lx_cast(lo, DT_I64, lx_select(lo, lx_2(lo, FN_LT, at, num(s, 0)), down, up));
    }
    Expr *span = lx_2(lo, FN_MAX, lx_add(lo, lx_sub(lo, bound[1], bound[0]), one), one);
    Expr *size = lx_div(lo, lx_cast(lo, s->t, span), num(s, (double)output));
    Expr *low = lx_cast(lo, DT_I64, lx_1(lo, FN_FLOOR, lx_mul(lo, lx_cast(lo, s->t, o), size)));
    Expr *high = lx_cast(lo, DT_I64, lx_1(lo, FN_CEIL, lx_mul(lo, lx_cast(lo, s->t, lx_add(lo, o, one)), size)));
    low = lx_2(lo, FN_MAX, lx_2(lo, FN_MIN, lx_add(lo, low, bound[0]), edge), zero);
    high = lx_2(lo, FN_MAX, lx_2(lo, FN_MIN, lx_add(lo, high, bound[0]), edge), zero);
    *from = lower_local(lo, DT_I64, low);
    *count = lower_local(lo, DT_I64, lx_2(lo, FN_MAX, lx_sub(lo, high, low), zero));
}

/* MaxRoiPoolPosition as well: where in x the maximum is, -1 for an empty bin. */
bool lower_max_roi_pool(Lower *lo, const Node *n) {
    const Type *y = n->out[0]->type;
    bool position = n->op == OP_MaxRoiPoolPosition;
    Roi s = {.lo = lo, .n = n, .x = n->in[0]->type, .t = lower_float_type(n->in[0]->type->dtype)};
    const Attr *size = attr_at(n, attr_named(n, "pooled_shape"));
    Expr *y0, *ny, *x0, *nx;
    s.r = lower_for_dim(lo, y->dim[0]);
    s.batch = batch_index(&s, lower_load(lo, n->in[1], (Expr *[]){s.r, lx_i(lo, 0)}));
    Expr *oh = lower_for_dim(lo, y->dim[2]);
    pixel_bin(&s, 2, oh, size->ints.v[0], s.x->dim[2], &y0, &ny);
    Expr *ow = lower_for_dim(lo, y->dim[3]);
    pixel_bin(&s, 1, ow, size->ints.v[1], s.x->dim[3], &x0, &nx);
    Expr *c = lower_for_dim(lo, y->dim[1]);
    Expr *best = lower_local(lo, s.t, lower_lowest(lo, s.t)), *where = position ? lower_local(lo, DT_I64, lx_i(lo, -1)) : NULL;
    Expr *i = lower_for(lo, ny), *j = lower_for(lo, nx), *py = lx_add(lo, y0, i), *px = lx_add(lo, x0, j), *value = pixel(&s, c, py, px);
    if (position) { /* the first of equal ones */
        Expr *plane = lx_add(lo, lx_mul(lo, s.batch, lx_dim(lo, s.x->dim[1])), c);
        Expr *row = lx_add(lo, lx_mul(lo, plane, lx_dim(lo, s.x->dim[2])), py);
        lower_if(lo, lx_2(lo, FN_OR, lx_2(lo, FN_GT, value, best), lx_2(lo, FN_LT, where, lx_i(lo, 0))));
        lower_set(lo, where, lx_add(lo, lx_mul(lo, row, lx_dim(lo, s.x->dim[3])), px));
        lower_end(lo);
    }
    lower_accumulate(lo, best, FN_MAX, value);
    lower_end_n(lo, 2);
    if (position) {
        lower_store(lo, n->out[0], (Expr *[]){s.r, c, oh, ow}, where);
        lower_end_n(lo, 4);
        return true;
    }
    Expr *empty = lx_2(lo, FN_EQ, lx_mul(lo, ny, nx), lx_i(lo, 0)), *idx[4] = {s.r, c, oh, ow};
    lower_store(lo, n->out[0], idx, lx_select(lo, empty, num(&s, 0), best));
    lower_end_n(lo, 4);
    return true;
}

/* Place of point o of the crop along one axis; outside: beyond the first or last pixel, or no number. */
static Expr *crop_place(Roi *s, int64_t first, Expr *o, Dim crop, Dim length, Expr **outside) {
    Lower *lo = s->lo;
    Expr *last = lx_cast(lo, s->t, lx_add(lo, lx_dim(lo, length), lx_i(lo, -1))), *zero = num(s, 0), *points = lx_dim(lo, crop);
    Expr *from = corner(s, first, 1, 0), *to = corner(s, first + 2, 1, 0), *steps = lx_2(lo, FN_MAX, lx_add(lo, points, lx_i(lo, -1)), lx_i(lo, 1));
    Expr *step = lx_div(lo, lx_mul(lo, lx_sub(lo, to, from), last), lx_cast(lo, s->t, steps));
    Expr *grid = lx_add(lo, lx_mul(lo, from, last), lx_mul(lo, lx_cast(lo, s->t, o), step)), *middle = lx_mul(lo, lx_mul(lo, num(s, 0.5), lx_add(lo, from, to)), last);
    Expr *x = lower_local(lo, s->t, lx_select(lo, lx_2(lo, FN_GT, points, lx_i(lo, 1)), grid, middle));
    Expr *inside = lx_2(lo, FN_AND, lx_2(lo, FN_GE, x, zero), lx_2(lo, FN_LE, x, last));
    *outside = lx_select(lo, inside, ex_i(lo->cx, DT_BOOL, 0), ex_i(lo->cx, DT_BOOL, 1));
    return x;
}

bool lower_crop_and_resize(Lower *lo, const Node *n) {
    const Type *y = n->out[0]->type;
    Roi s = {.lo = lo, .n = n, .x = n->in[0]->type, .t = lower_float_type(n->in[0]->type->dtype)};
    bool nearest = attr_s_is(lo->cx, n, AT_CropAndResize_mode, "nearest");
    s.r = lower_for_dim(lo, y->dim[0]);
    s.batch = batch_index(&s, lower_load(lo, n->in[2], &s.r));
    Expr *c = lower_for_dim(lo, y->dim[1]), *o[2] = {lower_for_dim(lo, y->dim[2]), lower_for_dim(lo, y->dim[3])}, *low[2], *high[2], *part[2], *out[2];
    for (int64_t a = 0; a < 2; a++) {
        Dim length = s.x->dim[2 + a];
        Expr *x = crop_place(&s, a, o[a], y->dim[2 + a], length, &out[a]), *last = lx_add(lo, lx_dim(lo, length), lx_i(lo, -1));
        Expr *base = lx_1(lo, FN_FLOOR, nearest ? lx_add(lo, x, num(&s, 0.5)) : x);
        low[a] = lx_2(lo, FN_MAX, lx_2(lo, FN_MIN, lx_cast(lo, DT_I64, base), last), lx_i(lo, 0));
        high[a] = lx_2(lo, FN_MIN, lx_add(lo, low[a], lx_i(lo, 1)), last);
        part[a] = lx_sub(lo, x, base);
    }
    Expr *value = pixel(&s, c, low[0], low[1]), *idx[4] = {s.r, c, o[0], o[1]};
    if (!nearest) {
        Expr *row[2], *at[2] = {low[0], high[0]};
        for (uint32_t i = 0; i < 2; i++) {
            Expr *left = pixel(&s, c, at[i], low[1]);
            row[i] = lx_add(lo, left, lx_mul(lo, lx_sub(lo, pixel(&s, c, at[i], high[1]), left), part[1]));
        }
        value = lx_add(lo, row[0], lx_mul(lo, lx_sub(lo, row[1], row[0]), part[0]));
    }
    lower_store(lo, n->out[0], idx, lx_select(lo, lx_2(lo, FN_OR, out[0], out[1]), num(&s, attr_f(n, AT_CropAndResize_extrapolation_value)), value));
    lower_end_n(lo, 4);
    return true;
}

/* ---- gradients by x ---------------------------------------------------------------------------------------------- */
/* The forward node a gradient belongs to: the attributes stand in the same order, the operands elsewhere. */
static Node forward_of(const Node *n, Op op, Value **in) {
    Node f = *n;
    f.op = (uint16_t)op;
    f.in = in;
    return f;
}

static void zero_all(Lower *lo, const Value *v) {
    Expr *idx[RANK_MAX];
    lower_for_type(lo, v->type, idx);
    lower_store(lo, v, idx, lx_const(lo, dtype_compute(v->type->dtype), 0));
    lower_end_n(lo, v->type->rank);
}

typedef struct Corner { Expr *weight, *y, *x; } Corner;

static void corners(Roi *s, const Sample *v, const Sample *u, Corner *c) {
    Lower *lo = s->lo;
    Expr *one = num(s, 1), *hy = lx_sub(lo, one, v->fraction), *hx = lx_sub(lo, one, u->fraction);
    c[0] = (Corner){lx_mul(lo, hy, hx), v->low, u->low};
    c[1] = (Corner){lx_mul(lo, hy, u->fraction), v->low, u->high};
    c[2] = (Corner){lx_mul(lo, v->fraction, hx), v->high, u->low};
    c[3] = (Corner){lx_mul(lo, v->fraction, u->fraction), v->high, u->high};
}

/* Opens the loops over the samples of a bin that lie inside; 3 blocks. */
static void open_samples(Roi *s, const Bin *h, const Bin *w, Expr *oh, Expr *ow, Corner *c) {
    Lower *lo = s->lo;
    Expr *iy = lower_for(lo, h->grid);
    Sample v = sample_at(s, h, oh, iy, s->x->dim[2]);
    Expr *ix = lower_for(lo, w->grid);
    Sample u = sample_at(s, w, ow, ix, s->x->dim[3]);
    lower_if(lo, lx_1(lo, FN_NOT, lx_2(lo, FN_OR, v.outside, u.outside)));
    corners(s, &v, &u, c);
}

static Expr *weighed(Roi *s, Expr *channel, const Corner *c) { return lx_mul(s->lo, c->weight, pixel(s, channel, c->y, c->x)); }

/* Every sample's corners get their share; for maxima the first corner that has the maximum. Channels are independent. */
bool lower_roi_align_adjoint(Lower *lo, const Node *n) {
    const Value *dx = n->out[0], *dy = n->in[0];
    bool maximum = n->n_in > 3 && n->in[3] != NULL;
    Node f = forward_of(n, OP_RoiAlign, (Value *[]){maximum ? n->in[3] : NULL, n->in[1], n->in[2]});
    Roi s = {.lo = lo, .n = &f, .x = dx->type, .t = lower_float_type(dx->type->dtype)};
    zero_all(lo, dx);
    Expr *c = lower_for_dim(lo, dx->type->dim[1]), *zero = num(&s, 0);
    s.r = lower_for_dim(lo, dy->type->dim[0]);
    s.batch = batch_index(&s, lower_load(lo, n->in[2], &s.r));
    Bin h = bin_of(&s, 1, attr_i(&f, AT_RoiAlign_output_height)), w = bin_of(&s, 0, attr_i(&f, AT_RoiAlign_output_width));
    Expr *oh = lower_for_dim(lo, dy->type->dim[2]), *ow = lower_for_dim(lo, dy->type->dim[3]);
    Expr *count = lx_cast(lo, s.t, lx_2(lo, FN_MAX, lx_mul(lo, h.grid, w.grid), lx_i(lo, 1)));
    Expr *d = lx_cast(lo, s.t, lower_load(lo, dy, (Expr *[]){s.r, c, oh, ow}));
    Expr *share = lower_local(lo, s.t, maximum ? d : lx_div(lo, d, count)), *best = NULL;
    Corner corner[4];
    if (maximum) {
        best = lower_local(lo, s.t, lower_lowest(lo, s.t));
        open_samples(&s, &h, &w, oh, ow, corner);
        for (uint32_t i = 0; i < 4; i++) lower_accumulate(lo, best, FN_MAX, weighed(&s, c, &corner[i]));
        lower_end_n(lo, 3);
    }
    open_samples(&s, &h, &w, oh, ow, corner);
    for (uint32_t i = 0; i < 4; i++) {
        Expr *at[4] = {s.batch, c, corner[i].y, corner[i].x};
        if (maximum) lower_if(lo, lx_2(lo, FN_EQ, weighed(&s, c, &corner[i]), best));
        lower_store_reduce(lo, dx, at, FN_ADD, lx_mul(lo, corner[i].weight, share));
        if (!maximum) continue;
        lower_set(lo, share, zero); /* taken */
        lower_end(lo);
    }
    lower_end_n(lo, 3 + 4);
    return true;
}

bool lower_max_roi_pool_adjoint(Lower *lo, const Node *n) {
    const Value *dx = n->out[0], *dy = n->in[0];
    Node f = forward_of(n, OP_MaxRoiPool, (Value *[]){n->in[2], n->in[1]});
    Roi s = {.lo = lo, .n = &f, .x = dx->type, .t = lower_float_type(dx->type->dtype)};
    const Attr *size = attr_at(&f, AT_MaxRoiPool_pooled_shape);
    Expr *y0, *ny, *x0, *nx, *zero = num(&s, 0);
    zero_all(lo, dx);
    Expr *c = lower_for_dim(lo, dx->type->dim[1]);
    s.r = lower_for_dim(lo, dy->type->dim[0]);
    s.batch = batch_index(&s, lower_load(lo, n->in[1], (Expr *[]){s.r, lx_i(lo, 0)}));
    Expr *oh = lower_for_dim(lo, dy->type->dim[2]);
    pixel_bin(&s, 2, oh, size->ints.v[0], s.x->dim[2], &y0, &ny);
    Expr *ow = lower_for_dim(lo, dy->type->dim[3]);
    pixel_bin(&s, 1, ow, size->ints.v[1], s.x->dim[3], &x0, &nx);
    Expr *best = lower_local(lo, s.t, lower_lowest(lo, s.t));
    Expr *share = lower_local(lo, s.t, lx_cast(lo, s.t, lower_load(lo, dy, (Expr *[]){s.r, c, oh, ow})));
    for (int pass = 0; pass < 2; pass++) {
        Expr *i = lower_for(lo, ny), *j = lower_for(lo, nx), *y = lx_add(lo, y0, i), *x = lx_add(lo, x0, j), *e = pixel(&s, c, y, x);
        if (pass == 0) {
            lower_accumulate(lo, best, FN_MAX, e);
        } else {
            lower_if(lo, lx_2(lo, FN_EQ, e, best));
            lower_store_reduce(lo, dx, (Expr *[]){s.batch, c, y, x}, FN_ADD, share);
            lower_set(lo, share, zero); /* the first of equal ones takes it */
            lower_end(lo);
        }
        lower_end_n(lo, 2);
    }
    lower_end_n(lo, 4);
    return true;
}
