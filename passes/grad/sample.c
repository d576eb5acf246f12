/* GridSample, CropAndResize and DeformConv as what they are made of: computed places, the elements around them by GatherElements, and weights.
 *
 *     y[n, c, p] = sum over taps: w[n, p] * x[n, c, at[n, p]]
 *
 * The gradient by x is then the scatter of GatherElements, and that by the places comes through the weights. */
#include "ir/shape/convolution.h"
#include "passes/grad/grad.h"
#include "passes/rules.h"

enum { TAPS_MAX = 4 };

typedef struct Axis { Value *at[TAPS_MAX], *weight[TAPS_MAX]; } Axis; /* [N, P] each: i64 inside the image, float */

typedef struct Sampler {
    Grad *g;
    uint32_t axes, taps;
    int64_t size[RANK_MAX];
    bool align, border, reflection;
} Sampler;

static Value *num(Sampler *s, const Value *like, double v) { return g_num(s->g, like, v); }

static Value *between(Sampler *s, Value *x, double low, double high) {
    return g_2(s->g, OP_Max, g_2(s->g, OP_Min, x, num(s, x, high)), num(s, x, low));
}

static Value *outside(Sampler *s, Value *x, double low, double high) {
    return g_2(s->g, OP_Or, g_2(s->g, OP_Less, x, num(s, x, low)), g_2(s->g, OP_Greater, x, num(s, x, high)));
}

/* x mirrored at both ends of [low, high], as often as needed, where it is outside. */
static Value *reflected(Sampler *s, Value *x, double low, double high) {
    Grad *g = s->g;
    double two = 2 * (high - low);
    if (!(two > 0)) return g_where(g, outside(s, x, low, high), num(s, x, low), x);
    Value *d = g_1(g, OP_Abs, g_plus(g, x, -low));
    Value *r = g_sub(g, d, g_times(g, g_1(g, OP_Floor, g_times(g, d, 1 / two)), two));
    r = g_2(g, OP_Min, r, g_sub(g, num(s, x, two), r));
    return g_where(g, outside(s, x, low, high), g_plus(g, r, low), x);
}

static Value *cubic(Sampler *s, Value *d) { /* the kernel with a = -0.75 */
    Grad *g = s->g;
    const double a = -0.75;
    Value *x = g_1(g, OP_Abs, d), *x2 = g_mul(g, x, x), *x3 = g_mul(g, x2, x);
    Value *near = g_plus(g, g_sub(g, g_times(g, x3, a + 2), g_times(g, x2, a + 3)), 1);
    Value *far = g_plus(g, g_add(g, g_sub(g, g_times(g, x3, a), g_times(g, x2, 5 * a)), g_times(g, x, 8 * a)), -4 * a);
    return g_where(g, g_2(g, OP_LessOrEqual, x, num(s, x, 1)), near, far);
}

/* The taps around coordinate x of axis a. */
static Axis taps_at(Sampler *s, uint32_t a, Value *x) {
    Grad *g = s->g;
    Axis t;
    double last = (double)(s->size[a] - 1), low = s->align ? 0 : -0.5, high = s->align ? last : last + 0.5;
    Value *base = g_1(g, OP_Floor, x);
    for (uint32_t k = 0; k < s->taps; k++) {
        Value *place = g_plus(g, base, (s->taps == 4 ? -1.0 : 0.0) + k), *d = g_sub(g, x, place);
        Value *w = s->taps == 1 ? g_filled_like(g, x, 1) : s->taps == 4 ? cubic(s, d) : g_sub(g, num(s, x, 1), g_1(g, OP_Abs, d));
        if (s->reflection) place = reflected(s, place, low, high);
        if (!s->border && !s->reflection) w = g_where(g, outside(s, place, 0, last), num(s, x, 0), w);
        t.at[k] = g_cast(g, between(s, place, 0, last), DT_I64);
        t.weight[k] = w;
    }
    return t;
}

/* x [N, C, spatial…] at the places: [N, C, P]. */
static Value *sampled(Sampler *s, Value *x, const Axis *axis) {
    Grad *g = s->g;
    Value *flat = g_2(g, OP_Reshape, x, value_const_i64(g->m, 3, (int64_t[]){0, 0, -1})), *sum = NULL, *shape = NULL;
    Value *one = value_const_i64(g->m, 1, (int64_t[]){1});
    uint32_t total = 1;
    for (uint32_t a = 0; a < s->axes; a++) total *= s->taps;
    for (uint32_t tap = 0; tap < total; tap++) {
        Value *at = NULL, *w = NULL;
        for (uint32_t a = 0, rest = tap; a < s->axes; a++, rest /= s->taps) {
            Value *i = axis[a].at[rest % s->taps], *u = axis[a].weight[rest % s->taps];
            at = at == NULL ? i : g_add(g, g_mul(g, at, value_const_scalar(g->m, DT_I64, (double)s->size[a])), i);
            w = w == NULL ? u : g_mul(g, w, u);
        }
        if (shape == NULL) {
            Value *part[2] = {expand_slice(g->m, g->at, g_shape(g, flat), 0, 2, 0), expand_slice(g->m, g->at, g_shape(g, at), 1, 2, 0)};
            shape = expand_concat(g->m, g->at, 2, part, 0);
        }
        Node *n = g_node(g, OP_GatherElements, 2, (Value *[]){flat, g_2(g, OP_Expand, g_2(g, OP_Unsqueeze, at, one), shape)}, 1);
        attr_set_i(n, AT_GatherElements_axis, 2);
        Value *e = g_mul(g, g_done(g, n), g_2(g, OP_Unsqueeze, w, one));
        sum = sum == NULL ? e : g_add(g, sum, e);
    }
    return sum;
}

static bool known_sizes(Sampler *s, const Value *x) {
    for (uint32_t a = 0; a < s->axes; a++) {
        Dim d = x->type->dim[2 + a];
        if (!dim_is_const(s->g->m->cx, d)) {
            diag(s->g->m->cx, SEV_ERROR, s->g->n->loc, "its gradient needs an image size that is known at compile time");
            return false;
        }
        s->size[a] = dim_value(s->g->m->cx, d);
    }
    return true;
}

static Value *grid_coordinate(Sampler *s, Value *grid, uint32_t a) { /* [N, P, axes], x first */
    Grad *g = s->g;
    Value *u = expand_gather(g->m, g->at, grid, value_const_scalar(g->m, DT_I64, s->axes - 1 - a), 2), *x;
    double size = (double)s->size[a];
    if (s->align) x = g_times(g, g_times(g, g_plus(g, u, 1), 0.5), size - 1);
    else x = g_plus(g, g_times(g, g_times(g, g_plus(g, u, 1), 0.5), size), -0.5);
    if (s->taps == 1) x = g_1(g, OP_Round, x);
    if (s->border && s->taps != 4) x = between(s, x, 0, size - 1);
    if (s->reflection) x = reflected(s, x, s->align ? 0 : -0.5, s->align ? size - 1 : size - 0.5);
    return x;
}

bool grad_expand_grid_sample(Module *m, Node *n, Value **out) {
    Grad g = {.m = m, .n = n, .at = n};
    Context *cx = m->cx;
    Value *x = n->in[0], *grid = n->in[1];
    Sampler s = {.g = &g, .axes = x->type->rank - 2u, .align = attr_i(n, AT_GridSample_align_corners) != 0};
    s.taps = attr_s_is(cx, n, AT_GridSample_mode, "nearest") ? 1 : attr_s_is(cx, n, AT_GridSample_mode, "linear") ? 2 : 4;
    s.border = attr_s_is(cx, n, AT_GridSample_padding_mode, "border");
    s.reflection = attr_s_is(cx, n, AT_GridSample_padding_mode, "reflection");
    if (!known_sizes(&s, x)) return false;
    Axis axis[RANK_MAX];
    Value *places = g_2(&g, OP_Reshape, g_cast(&g, grid, x->type->dtype), value_const_i64(m, 3, (int64_t[]){0, -1, s.axes}));
    for (uint32_t a = 0; a < s.axes; a++) axis[a] = taps_at(&s, a, grid_coordinate(&s, places, a));
    out[0] = g_reshape_like(&g, sampled(&s, x, axis), n->out[0]);
    return true;
}

/* Places of the crop's points along one axis, [R, points]: from the region's first corner to its second, or the middle. */
static Value *crop_places(Sampler *s, Value *regions, uint32_t a, int64_t points) {
    Grad *g = s->g;
    double last = (double)(s->size[a] - 1);
    Value *from = expand_slice(g->m, g->at, regions, a, a + 1, 1), *to = expand_slice(g->m, g->at, regions, a + 2, a + 3, 1); /* [R, 1] */
    if (points == 1) return g_times(g, g_add(g, from, to), 0.5 * last);
    double *step = ARENA_ARRAY(&g->m->cx->scratch, double, points);
    for (int64_t i = 0; i < points; i++) step[i] = (double)i * last / (double)(points - 1);
    Value *steps = expand_floats(g->m, 2, (int64_t[]){1, points}, step, regions->type->dtype);
    return g_add(g, g_times(g, from, last), g_mul(g, g_sub(g, to, from), steps));
}

/* [R, points of one axis] for each point of the crop: [R, P]. */
static Value *for_points(Grad *g, Value *v, uint32_t axis, const int64_t *points) {
    Value *wide = g_2(g, OP_Unsqueeze, v, value_const_i64(g->m, 1, (int64_t[]){axis == 0 ? 2 : 1}));
    Value *shape = expand_concat(g->m, g->at, 2, (Value *[]){expand_slice(g->m, g->at, g_shape(g, v), 0, 1, 0), value_const_i64(g->m, 2, points)}, 0);
    return g_2(g, OP_Reshape, g_2(g, OP_Expand, wide, shape), value_const_i64(g->m, 2, (int64_t[]){0, points[0] * points[1]}));
}

bool grad_expand_crop_and_resize(Module *m, Node *n, Value **out) {
    Grad g = {.m = m, .n = n, .at = n};
    Value *x = n->in[0], *regions = g_cast(&g, n->in[1], x->type->dtype), *off = NULL;
    Sampler s = {.g = &g, .axes = 2, .taps = attr_s_is(m->cx, n, AT_CropAndResize_mode, "nearest") ? 1 : 2};
    const Type *y = n->out[0]->type;
    if (!known_sizes(&s, x) || !dim_is_const(m->cx, y->dim[2]) || !dim_is_const(m->cx, y->dim[3])) return false;
    int64_t points[2] = {dim_value(m->cx, y->dim[2]), dim_value(m->cx, y->dim[3])};
    Axis axis[2];
    for (uint32_t a = 0; a < 2; a++) {
        double last = (double)(s.size[a] - 1);
        Value *place = crop_places(&s, regions, a, points[a]), *base = g_1(&g, OP_Floor, s.taps == 1 ? g_plus(&g, place, 0.5) : place), *part = g_sub(&g, place, base);
        Value *inside = g_2(&g, OP_And, g_2(&g, OP_GreaterOrEqual, place, num(&s, place, 0)), g_2(&g, OP_LessOrEqual, place, num(&s, place, last)));
        Value *beyond = for_points(&g, g_1(&g, OP_Not, inside), a, points);
        off = off == NULL ? beyond : g_2(&g, OP_Or, off, beyond);
        for (uint32_t k = 0; k < s.taps; k++) {
            axis[a].at[k] = for_points(&g, g_cast(&g, between(&s, g_plus(&g, base, k), 0, last), DT_I64), a, points);
            axis[a].weight[k] = for_points(&g, s.taps == 1 ? g_filled_like(&g, place, 1) : k == 0 ? g_sub(&g, num(&s, place, 1), part) : part, a, points);
        }
    }
    Value *images = expand_gather(m, n, x, n->in[2], 0), *one = value_const_i64(m, 1, (int64_t[]){1});
    Value *value = g_where(&g, g_2(&g, OP_Unsqueeze, off, one), g_num(&g, x, attr_f(n, AT_CropAndResize_extrapolation_value)), sampled(&s, images, axis));
    out[0] = g_reshape_like(&g, value, n->out[0]);
    return true;
}

/* Where tap k of output p reads along axis i without an offset: [taps, outputs]. */
static Value *regular_places(Grad *g, const ConvGeometry *c, uint32_t axis, int64_t taps, int64_t outputs, DType t) {
    Context *cx = g->m->cx;
    double *v = ARENA_ARRAY(&cx->arena, double, (size_t)(taps * outputs));
    for (int64_t k = 0; k < taps; k++)
        for (int64_t p = 0; p < outputs; p++) {
            int64_t kr = k, pr = p, ki = 0, pi = 0;
            for (uint32_t a = c->spatial; a-- > axis;) {
                int64_t ks = dim_value(cx, c->kernel[a]), os = dim_value(cx, c->out[a]);
                ki = kr % ks;
                pi = pr % os;
                kr /= ks;
                pr /= os;
            }
            v[k * outputs + p] = (double)(pi * c->stride[axis] + ki * c->dilation[axis] - dim_value(cx, c->begin[axis]));
        }
    return g_cast(g, expand_floats(g->m, 2, (int64_t[]){taps, outputs}, v, DT_F64), t);
}

static Value *pick(Grad *g, Value *v, int64_t i, int64_t axis) { return expand_gather(g->m, g->at, v, value_const_scalar(g->m, DT_I64, (double)i), axis); }

bool grad_expand_deform_conv(Module *m, Node *n, Value **out) {
    Grad g = {.m = m, .n = n, .at = n};
    Context *cx = m->cx;
    ConvGeometry c;
    if (!conv_geometry(m, n, &c)) return false;
    Value *x = n->in[0], *w = n->in[1], *bias = expand_input(n, 3), *mask = expand_input(n, 4);
    Sampler s = {.g = &g, .axes = c.spatial, .taps = 2};
    int64_t taps = 1, outputs = 1, groups = attr_i(n, AT_DeformConv_offset_group), r = c.spatial;
    bool known = known_sizes(&s, x) && dim_is_const(cx, c.in_channels) && dim_is_const(cx, c.out_channels);
    for (uint32_t a = 0; known && a < c.spatial; a++) {
        known = dim_is_const(cx, c.kernel[a]) && dim_is_const(cx, c.out[a]) && dim_is_const(cx, c.begin[a]);
        if (!known) break;
        taps *= dim_value(cx, c.kernel[a]);
        outputs *= dim_value(cx, c.out[a]);
    }
    if (!known || groups < 1) return false;
    int64_t channels = dim_value(cx, c.in_channels), each = channels / groups;
    Value *offset = g_2(&g, OP_Reshape, n->in[2], value_const_i64(m, 5, (int64_t[]){0, groups, taps, r, outputs})), *column[64];
    if (groups > 64) return false;
    if (mask != NULL) mask = g_2(&g, OP_Reshape, mask, value_const_i64(m, 4, (int64_t[]){0, groups, taps, outputs}));
    for (int64_t o = 0; o < groups; o++) {
        Axis axis[RANK_MAX];
        for (uint32_t a = 0; a < c.spatial; a++) {
            Value *moved = pick(&g, pick(&g, offset, o, 1), a, 2); /* [N, taps, outputs] */
            Value *place = g_add(&g, moved, regular_places(&g, &c, a, taps, outputs, x->type->dtype));
            axis[a] = taps_at(&s, a, g_2(&g, OP_Reshape, place, value_const_i64(m, 2, (int64_t[]){0, -1})));
        }
        Value *part = groups == 1 ? x : expand_slice(m, n, x, o * each, (o + 1) * each, 1);
        Value *v = g_2(&g, OP_Reshape, sampled(&s, part, axis), value_const_i64(m, 4, (int64_t[]){0, each, taps, outputs}));
        if (mask != NULL) v = g_mul(&g, v, g_2(&g, OP_Unsqueeze, pick(&g, mask, o, 1), value_const_i64(m, 1, (int64_t[]){1})));
        column[o] = v;
    }
    Value *all = groups == 1 ? column[0] : expand_concat(m, n, (uint32_t)groups, column, 1);
    int64_t out_each = dim_value(cx, c.out_channels) / c.group, rows = channels / c.group * taps;
    all = g_2(&g, OP_Reshape, all, value_const_i64(m, 4, (int64_t[]){0, c.group, rows, outputs}));
    Value *y = g_2(&g, OP_MatMul, g_2(&g, OP_Reshape, w, value_const_i64(m, 3, (int64_t[]){c.group, out_each, rows})), all);
    y = g_reshape_like(&g, y, n->out[0]);
    int64_t axes[RANK_MAX];
    for (uint32_t a = 0; a < c.spatial; a++) axes[a] = a + 1;
    out[0] = bias != NULL ? g_add(&g, y, g_2(&g, OP_Unsqueeze, bias, value_const_i64(m, c.spatial, axes))) : y;
    return true;
}
