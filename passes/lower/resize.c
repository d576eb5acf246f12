/* Resize: every mode is a sparse separable matrix. Along each resized axis an output position reads K input positions:
 * nearest 1, linear 2, cubic 4, antialiased as many as its wider filter covers.
 *
 *     phase 1, per axis:   for o < OUT, k < K:   at[o,k] = clamp(floor(x) + start + k),  weight[o,k] = f((start + k - frac x) * s)
 *     phase 2:             y[n,c,oh,ow] = sum over ky, kx of wy[oh,ky] * wx[ow,kx] * x[n, c, aty[oh,ky], atx[ow,kx]]
 *
 * x is the coordinate of o in the input (coordinate_transformation_mode), s = min(scale, 1) with antialias, else 1.
 * Nearest by a whole factor needs no table: the position is o / factor. Where antialiasing has a scale of the run, K is the run's
 * too: phase 1 stores where the taps of o begin and the sum of their weights, and phase 2 computes each weight as it goes. */
#include <math.h>

#include "ir/shape/resize.h"
#include "passes/lower/rows.h"
#include "passes/rules.h"

enum { UNROLL_MAX = 16, TAPS_MAX = 4096 };
typedef enum Mode { NEAREST, LINEAR, CUBIC } Mode;

typedef struct Axis {
    Value *at, *weight, *outside;  /* [OUT,K] i64, [OUT,K] float, [OUT] bool; NULL when not needed */
    int64_t factor;                /* nearest by a whole factor; 0: use the table */
    int64_t taps, start;
    Value *fraction, *sum;         /* [OUT] f32: K is the run's, at is [OUT] then; else NULL */
} Axis;

typedef struct Resize {
    Lower *lo;
    const Node *n;
    const Type *x;
    ResizePlan plan;
    Mode mode;
    DType t;
    bool antialias, exclude, crop;
    Axis axis[RANK_MAX];
    Expr *out[RANK_MAX], *in[RANK_MAX];
} Resize;

static bool mode_is(const Resize *r, const char *text) { return attr_s_is(r->lo->cx, r->n, AT_Resize_coordinate_transformation_mode, text); }
static bool nearest_is(const Resize *r, const char *text) { return attr_s_is(r->lo->cx, r->n, AT_Resize_nearest_mode, text); }
static Expr *f32(Resize *r, double v) { return lx_const(r->lo, DT_F32, v); }
static Expr *f32_dim(Resize *r, Dim d) { return lx_cast(r->lo, DT_F32, lx_dim(r->lo, d)); }

static Expr *operand_of(Resize *r, uint32_t input, uint32_t i) {
    Expr *at = lx_i(r->lo, i);
    return lx_cast(r->lo, DT_F32, lower_load(r->lo, r->n->in[input], &at));
}

static uint32_t position_in_axes(const Resize *r, uint32_t a) {
    uint32_t i = 0;
    while (r->plan.axis[i] != a) i++;
    return i;
}

static Expr *scale_of(Resize *r, uint32_t a) {
    if (r->plan.scale[a] > 0) return f32(r, (double)r->plan.scale[a]);
    if (r->plan.runtime_scales) return operand_of(r, 2, position_in_axes(r, a));
    if (r->plan.runtime_ratio) {
        Expr *best = NULL;
        for (uint32_t i = 0; i < r->plan.n_axis; i++) {
            Expr *s = lx_div(r->lo, operand_of(r, 3, i), f32_dim(r, r->x->dim[r->plan.axis[i]]));
            best = best == NULL ? s : lx_2(r->lo, r->plan.larger ? FN_MAX : FN_MIN, best, s);
        }
        return best;
    }
    return lx_div(r->lo, f32_dim(r, r->plan.out[a]), f32_dim(r, r->x->dim[a]));
}

/* Element of roi: which == 0 start, 1 end of axis a. */
static Expr *roi(Resize *r, uint32_t a, uint32_t which) {
    if (r->n->n_in < 2 || r->n->in[1] == NULL) return f32(r, which);
    return operand_of(r, 1, position_in_axes(r, a) + which * r->plan.n_axis);
}

/* Where output position o lies in the input, f32. */
static Expr *coordinate(Resize *r, uint32_t a, Expr *o) {
    Lower *lo = r->lo;
    Expr *scale = scale_of(r, a), *x = lx_cast(lo, DT_F32, o), *half = f32(r, 0.5), *one = f32(r, 1), *zero = f32(r, 0);
    Expr *in = f32_dim(r, r->x->dim[a]), *out = f32_dim(r, r->plan.out[a]), *single = lx_2(lo, FN_LE, out, one);
    Expr *centers = lx_sub(lo, lx_div(lo, lx_add(lo, x, half), scale), half);
    if (mode_is(r, "asymmetric")) return lx_div(lo, x, scale);
    if (mode_is(r, "align_corners")) { /* the size before rounding down, as in the reference implementation */
        Expr *exact = r->plan.scale[a] > 0 || r->plan.runtime_scales ? lx_mul(lo, in, scale) : out;
        return lx_select(lo, single, zero, lx_div(lo, lx_mul(lo, x, lx_sub(lo, in, one)), lx_sub(lo, exact, one)));
    }
    if (mode_is(r, "pytorch_half_pixel")) return lx_select(lo, single, zero, centers);
    if (mode_is(r, "tf_half_pixel_for_nn")) return lx_div(lo, lx_add(lo, x, half), scale);
    if (mode_is(r, "half_pixel_symmetric")) { /* the exact size may be a fraction: keep the middle in place */
        Expr *adjust = lx_div(lo, out, lx_mul(lo, scale, in));
        return lx_add(lo, lx_mul(lo, lx_mul(lo, in, half), lx_sub(lo, one, adjust)), centers);
    }
    if (r->crop) {
        Expr *first = roi(r, a, 0), *last = roi(r, a, 1), *span = lx_sub(lo, in, one);
        Expr *step = lx_div(lo, lx_mul(lo, lx_mul(lo, x, lx_sub(lo, last, first)), span), lx_sub(lo, out, one));
        Expr *middle = lx_mul(lo, lx_mul(lo, half, lx_add(lo, first, last)), span);
        return lx_select(lo, single, middle, lx_add(lo, lx_mul(lo, first, span), step));
    }
    return centers;
}

static Expr *nearest_position(Resize *r, Expr *x) {
    Lower *lo = r->lo;
    Expr *half = f32(r, 0.5);
    if (nearest_is(r, "floor")) x = lx_1(lo, FN_FLOOR, x);
    else if (nearest_is(r, "ceil")) x = lx_1(lo, FN_CEIL, x);
    else if (nearest_is(r, "round_prefer_ceil")) x = lx_1(lo, FN_FLOOR, lx_add(lo, x, half));
    else x = lx_1(lo, FN_CEIL, lx_sub(lo, x, half));
    return lx_cast(lo, DT_I64, x);
}

static Expr *filter(Resize *r, Expr *d) { /* weight at distance d */
    Lower *lo = r->lo;
    Expr *x = lx_1(lo, FN_ABS, d), *one = f32(r, 1), *zero = f32(r, 0);
    if (r->mode == LINEAR) return lx_2(lo, FN_MAX, lx_sub(lo, one, x), zero);
    double a = attr_f(r->n, AT_Resize_cubic_coeff_a);
    Expr *x2 = lx_mul(lo, x, x), *x3 = lx_mul(lo, x2, x);
    Expr *near = lx_add(lo, lx_sub(lo, lx_mul(lo, f32(r, a + 2), x3), lx_mul(lo, f32(r, a + 3), x2)), one);
    Expr *far = lx_sub(lo, lx_mul(lo, f32(r, a), x3), lx_mul(lo, f32(r, 5 * a), x2));
    far = lx_sub(lo, lx_add(lo, far, lx_mul(lo, f32(r, 8 * a), x)), f32(r, 4 * a));
    return lx_select(lo, lx_2(lo, FN_LE, x, one), near, lx_select(lo, lx_2(lo, FN_LT, x, f32(r, 2)), far, zero));
}

/* How many taps axis a needs, and the offset of the first from floor(x). */
static bool choose_taps(Resize *r, uint32_t a) {
    Axis *ax = &r->axis[a];
    double support = r->mode == CUBIC ? 2 : 1, scale = (double)r->plan.scale[a];
    ax->start = 0;
    ax->taps = 1;
    if (r->mode == NEAREST) return true;
    if (r->antialias && scale == 0) {
        if (!dim_is_const(r->lo->cx, r->x->dim[a]) || !dim_is_const(r->lo->cx, r->plan.out[a])) {
            ax->taps = 0;
            return true;
        }
        scale = (double)dim_value(r->lo->cx, r->plan.out[a]) / (double)dim_value(r->lo->cx, r->x->dim[a]);
    }
    double width = r->antialias && scale < 1 ? support / scale : support;
    if (!(width < (double)TAPS_MAX)) {
        diag(r->lo->cx, SEV_ERROR, r->n->loc, "axis %u shrinks by more than %d", a, TAPS_MAX / 2);
        return false;
    }
    ax->start = (int64_t)floor(-width) + 1;
    ax->taps = 2 - 2 * ax->start;
    return true;
}

/* The whole factor of a nearest enlargement whose position is o / factor. */
static int64_t whole_factor(const Resize *r, uint32_t a) {
    float s = r->plan.scale[a];
    if (r->mode != NEAREST || r->crop || s < 1 || s > 1024 || s != floorf(s)) return 0;
    if (r->plan.out[a] != dim_mul(r->lo->cx, r->x->dim[a], dim_const(r->lo->cx, (int64_t)s))) return 0;
    bool centers = mode_is(r, "half_pixel") && (nearest_is(r, "round_prefer_floor") || nearest_is(r, "round_prefer_ceil"));
    bool corners = mode_is(r, "asymmetric") && nearest_is(r, "floor");
    return centers || corners ? (int64_t)s : 0;
}

static Expr *clamp_position(Resize *r, uint32_t a, Expr *at) {
    Lower *lo = r->lo;
    Expr *last = lx_add(lo, lx_dim(lo, r->x->dim[a]), lx_i(lo, -1));
    return lx_2(lo, FN_MAX, lx_2(lo, FN_MIN, at, last), lx_i(lo, 0));
}

/* Phase 1 for one axis. */
static void build_table(Resize *r, uint32_t a) {
    Lower *lo = r->lo;
    Axis *ax = &r->axis[a];
    Dim shape[2] = {r->plan.out[a], dim_const(lo->cx, ax->taps)};
    ax->at = lower_scratch(lo, type_tensor(lo->cx, DT_I64, 2, shape));
    if (r->mode != NEAREST) ax->weight = lower_scratch(lo, type_tensor(lo->cx, r->t, 2, shape));
    if (r->crop) ax->outside = lower_scratch(lo, type_tensor(lo->cx, DT_BOOL, 1, shape));
    Expr *o = lower_for_dim(lo, r->plan.out[a]);
    Expr *x = lower_local(lo, DT_F32, coordinate(r, a, o));
    if (r->crop) {
        Expr *low = lx_2(lo, FN_LT, x, f32(r, 0)), *high = lx_2(lo, FN_GT, x, lx_sub(lo, f32_dim(r, r->x->dim[a]), f32(r, 1)));
        lower_store(lo, ax->outside, &o, lx_2(lo, FN_OR, low, high));
    }
    if (r->mode == NEAREST) {
        lower_store(lo, ax->at, (Expr *[]){o, lx_i(lo, 0)}, clamp_position(r, a, nearest_position(r, x)));
        lower_end(lo);
        return;
    }
    Expr *floor_x = lx_1(lo, FN_FLOOR, x), *s = f32(r, 1), *length = lx_dim(lo, r->x->dim[a]);
    if (r->antialias) s = lx_2(lo, FN_MIN, scale_of(r, a), s);
    Expr *sum = lower_local(lo, DT_F32, f32(r, 0));
    Expr *k = lower_for(lo, lx_i(lo, ax->taps)), *offset = lx_add(lo, k, lx_i(lo, ax->start));
    Expr *at = lx_add(lo, lx_cast(lo, DT_I64, floor_x), offset);
    Expr *w = filter(r, lx_mul(lo, lx_sub(lo, lx_cast(lo, DT_F32, offset), lx_sub(lo, x, floor_x)), s));
    if (r->exclude) {
        Expr *in = lx_2(lo, FN_AND, lx_2(lo, FN_GE, at, lx_i(lo, 0)), lx_2(lo, FN_LT, at, length));
        w = lx_select(lo, in, w, f32(r, 0));
    }
    w = lower_local(lo, DT_F32, w);
    lower_accumulate(lo, sum, FN_ADD, w);
    lower_store(lo, ax->at, (Expr *[]){o, k}, clamp_position(r, a, at));
    lower_store(lo, ax->weight, (Expr *[]){o, k}, w);
    lower_end(lo);
    if (r->antialias || r->exclude) {
        k = lower_for(lo, lx_i(lo, ax->taps));
        Expr *idx[2] = {o, k};
        lower_store(lo, ax->weight, idx, lx_div(lo, lower_load(lo, ax->weight, idx), lx_cast(lo, r->t, sum)));
        lower_end(lo);
    }
    lower_end(lo);
}

static Expr *position(Resize *r, uint32_t a, Expr *k) {
    const Axis *ax = &r->axis[a];
    if (ax->factor != 0) return lx_2(r->lo, FN_FLOORDIV, r->out[a], lx_i(r->lo, ax->factor));
    return lower_load(r->lo, ax->at, (Expr *[]){r->out[a], k});
}

/* Taps known at run time: the first from floor(x) on. One more on each side than needed weighs nothing; a scale that fits no size
 * does not make them more than the input allows. */
static Expr *open_start(Resize *r, uint32_t a) {
    Lower *lo = r->lo;
    Expr *support = f32(r, r->mode == CUBIC ? 2 : 1), *s = lx_2(lo, FN_MIN, scale_of(r, a), f32(r, 1));
    Expr *most = lx_mul(lo, support, lx_add(lo, lx_mul(lo, f32(r, 2), f32_dim(r, r->x->dim[a])), f32(r, 2)));
    Expr *width = lx_1(lo, FN_CEIL, lx_2(lo, FN_MIN, lx_div(lo, support, s), most));
    return lx_sub(lo, lx_i(lo, 0), lx_cast(lo, DT_I64, width));
}

static Expr *open_count(Resize *r, Expr *start) { return lx_sub(r->lo, lx_i(r->lo, 2), lx_mul(r->lo, lx_i(r->lo, 2), start)); }

static Expr *open_weight(Resize *r, uint32_t a, Expr *at, Expr *offset, Expr *fraction) {
    Lower *lo = r->lo;
    Expr *s = lx_2(lo, FN_MIN, scale_of(r, a), f32(r, 1)), *w = filter(r, lx_mul(lo, lx_sub(lo, lx_cast(lo, DT_F32, offset), fraction), s));
    if (!r->exclude) return w;
    Expr *in = lx_2(lo, FN_AND, lx_2(lo, FN_GE, at, lx_i(lo, 0)), lx_2(lo, FN_LT, at, lx_dim(lo, r->x->dim[a])));
    return lx_select(lo, in, w, f32(r, 0));
}

/* Phase 1 for an axis whose taps are known at run time. */
static void build_open(Resize *r, uint32_t a) {
    Lower *lo = r->lo;
    Axis *ax = &r->axis[a];
    ax->at = lower_scratch(lo, type_tensor(lo->cx, DT_I64, 1, &r->plan.out[a]));
    ax->fraction = lower_scratch(lo, type_tensor(lo->cx, DT_F32, 1, &r->plan.out[a]));
    ax->sum = lower_scratch(lo, type_tensor(lo->cx, DT_F32, 1, &r->plan.out[a]));
    if (r->crop) ax->outside = lower_scratch(lo, type_tensor(lo->cx, DT_BOOL, 1, &r->plan.out[a]));
    Expr *o = lower_for_dim(lo, r->plan.out[a]);
    Expr *x = lower_local(lo, DT_F32, coordinate(r, a, o)), *whole = lower_local(lo, DT_F32, lx_1(lo, FN_FLOOR, x)), *fraction = lx_sub(lo, x, whole);
    if (r->crop) {
        Expr *low = lx_2(lo, FN_LT, x, f32(r, 0)), *high = lx_2(lo, FN_GT, x, lx_sub(lo, f32_dim(r, r->x->dim[a]), f32(r, 1)));
        lower_store(lo, ax->outside, &o, lx_2(lo, FN_OR, low, high));
    }
    Expr *start = lower_local(lo, DT_I64, open_start(r, a)), *first = lx_cast(lo, DT_I64, whole), *sum = lower_local(lo, DT_F32, f32(r, 0));
    Expr *k = lower_for(lo, open_count(r, start)), *offset = lx_add(lo, k, start);
    lower_accumulate(lo, sum, FN_ADD, open_weight(r, a, lx_add(lo, first, offset), offset, fraction));
    lower_end(lo);
    lower_store(lo, ax->at, &o, first);
    lower_store(lo, ax->fraction, &o, fraction);
    lower_store(lo, ax->sum, &o, sum);
    lower_end(lo);
}

/* Opens the loop over the taps of axis a: sets the position that is read, and returns the weight. */
static Expr *open_taps(Resize *r, uint32_t a) {
    Lower *lo = r->lo;
    const Axis *ax = &r->axis[a];
    if (ax->fraction == NULL) {
        Expr *k = lower_for(lo, lx_i(lo, ax->taps));
        r->in[a] = position(r, a, k);
        return lower_load(lo, ax->weight, (Expr *[]){r->out[a], k});
    }
    Expr *start = lower_local(lo, DT_I64, open_start(r, a)), *k = lower_for(lo, open_count(r, start)), *offset = lx_add(lo, k, start);
    Expr *at = lx_add(lo, lower_load(lo, ax->at, &r->out[a]), offset);
    r->in[a] = clamp_position(r, a, at);
    Expr *w = open_weight(r, a, at, offset, lower_load(lo, ax->fraction, &r->out[a]));
    return lx_div(lo, lx_cast(lo, r->t, w), lx_cast(lo, r->t, lower_load(lo, ax->sum, &r->out[a])));
}

/* Sum over the taps of axes a.. as one expression. */
static Expr *unrolled(Resize *r, uint32_t a) {
    Lower *lo = r->lo;
    while (a < r->plan.rank && !r->plan.resized[a]) a++;
    if (a == r->plan.rank) {
        Expr *e = lower_load(lo, r->n->in[0], r->in);
        return r->mode == NEAREST ? e : lx_cast(lo, r->t, e);
    }
    Expr *sum = NULL;
    for (int64_t k = 0; k < r->axis[a].taps; k++) {
        r->in[a] = position(r, a, lx_i(lo, k));
        Expr *e = unrolled(r, a + 1);
        if (r->mode == NEAREST) return e;
        e = lx_mul(lo, lower_load(lo, r->axis[a].weight, (Expr *[]){r->out[a], lx_i(lo, k)}), e);
        sum = sum == NULL ? e : lx_add(lo, sum, e);
    }
    return sum;
}

static Expr *looped(Resize *r) {
    Lower *lo = r->lo;
    Expr *sum = lower_local(lo, r->t, lx_const(lo, r->t, 0)), *weight = lx_const(lo, r->t, 1);
    uint32_t loops = 0;
    for (uint32_t a = 0; a < r->plan.rank; a++) {
        if (!r->plan.resized[a]) continue;
        weight = lx_mul(lo, weight, open_taps(r, a));
        loops++;
    }
    lower_accumulate(lo, sum, FN_ADD, lx_mul(lo, weight, lx_cast(lo, r->t, lower_load(lo, r->n->in[0], r->in))));
    lower_end_n(lo, loops);
    return sum;
}

static bool read_mode(Resize *r) {
    if (attr_s_is(r->lo->cx, r->n, AT_Resize_mode, "nearest")) r->mode = NEAREST;
    else if (attr_s_is(r->lo->cx, r->n, AT_Resize_mode, "linear")) r->mode = LINEAR;
    else if (attr_s_is(r->lo->cx, r->n, AT_Resize_mode, "cubic")) r->mode = CUBIC;
    else {
        diag(r->lo->cx, SEV_ERROR, r->n->loc, "mode \"%s\" is unknown; nearest, linear and cubic are", str_text(r->lo->cx, attr_s(r->n, AT_Resize_mode)));
        return false;
    }
    return true;
}

bool lower_resize(Lower *lo, const Node *n) {
    Resize r = {.lo = lo, .n = n, .x = n->in[0]->type};
    if (!resize_resolve(lo->m, (Node *)(uintptr_t)n, &r.plan) || !read_mode(&r)) return false;
    r.t = lower_float_type(r.x->dtype);
    r.antialias = attr_i(n, AT_Resize_antialias) != 0;
    r.exclude = attr_i(n, AT_Resize_exclude_outside) != 0;
    r.crop = mode_is(&r, "tf_crop_and_resize");
    int64_t taps = 1;
    for (uint32_t a = 0; a < r.plan.rank; a++) {
        if (!r.plan.resized[a]) continue;
        if (!choose_taps(&r, a)) return false;
        bool open = r.axis[a].taps == 0;
        taps = open ? UNROLL_MAX + 1 : taps * r.axis[a].taps;
        r.axis[a].factor = whole_factor(&r, a);
        if (open) build_open(&r, a);
        else if (r.axis[a].factor == 0) build_table(&r, a);
    }
    lower_for_type(lo, n->out[0]->type, r.out);
    Expr *outside = ex_i(lo->cx, DT_BOOL, 0);
    for (uint32_t a = 0; a < r.plan.rank; a++) {
        r.in[a] = r.out[a];
        if (r.axis[a].outside != NULL) outside = lx_2(lo, FN_OR, outside, lower_load(lo, r.axis[a].outside, &r.out[a]));
    }
    Expr *y = taps <= UNROLL_MAX ? unrolled(&r, 0) : looped(&r);
    if (r.crop) y = lx_select(lo, outside, lx_const(lo, (DType)y->dtype, attr_f(n, AT_Resize_extrapolation_value)), y);
    lower_store(lo, n->out[0], r.out, y);
    lower_end_n(lo, r.plan.rank);
    return true;
}
