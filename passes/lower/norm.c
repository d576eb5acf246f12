/* Normalisations as one kernel: y = (x - mean) / sqrt(variance + epsilon) * scale + bias.
 *
 *     LayerNormalization  over the trailing axes         InstanceNormalization  over the spatial axes
 *     RMSNormalization    without mean                   GroupNormalization     over a group of channels and space
 *     MeanVarianceNorm.   divides by std + 1e-9          BatchNormTrain         over everything but the channel
 *
 * Mean first, then the variance of the differences (two passes: accurate). A computed input is kept in a stack row.
 * The loops run over "virtual" axes: those of x, except that GroupNormalization splits its channels in (group, member). */
#include "passes/lower/rows.h"
#include "passes/rules.h"

typedef struct Norm {
    Rows r;
    Lower *lo;
    const Node *n;
    const Value *x;
    uint32_t rank;
    Dim dim[RANK_MAX + 1];
    uint32_t mask;
    bool split, center;      /* split: virtual axes 1, 2 are the channel axis */
    DType t;
    RowStage stage;
    RowAcc mean, inverse, variance;
} Norm;

static void real_index(Norm *s, Expr **idx) {
    if (!s->split) {
        for (uint32_t a = 0; a < s->rank; a++) idx[a] = s->r.idx[a];
        return;
    }
    idx[0] = s->r.idx[0];
    idx[1] = lx_add(s->lo, lx_mul(s->lo, s->r.idx[1], lx_dim(s->lo, s->dim[2])), s->r.idx[2]);
    for (uint32_t a = 3; a < s->rank; a++) idx[a - 1] = s->r.idx[a];
}

static Expr *load_x(Norm *s) {
    Expr *idx[RANK_MAX];
    real_index(s, idx);
    return lx_cast(s->lo, s->t, lower_load(s->lo, s->x, idx));
}

static Expr *again_x(Norm *s) { return s->stage.on ? rows_take(&s->r, s->stage) : load_x(s); }

static void average(Norm *s, RowAcc acc) {
    Lower *lo = s->lo;
    rows_lane(&s->r);
    rows_add(&s->r, acc, FN_NONE, lx_div(lo, rows_get(&s->r, acc), lx_cast(lo, s->t, rows_count(&s->r))));
    rows_lane_end(&s->r);
}

/* Opens the rows and computes mean and variance of each. */
static void statistics(Norm *s) {
    Lower *lo = s->lo;
    Rows *r = &s->r;
    rows_open(r, lo, s->rank, s->dim, s->mask);
    if (lower_is_computed(lo, s->x)) s->stage = rows_stage(r, s->t);
    if (s->center) {
        s->mean = rows_acc(r, s->t, lx_const(lo, s->t, 0));
        rows_each(r);
        Expr *x = load_x(s);
        rows_put(r, s->stage, x);
        rows_add(r, s->mean, FN_ADD, x);
        rows_each_end(r);
        average(s, s->mean);
    }
    s->variance = rows_acc(r, s->t, lx_const(lo, s->t, 0));
    rows_each(r);
    Expr *x = s->center ? again_x(s) : load_x(s);
    if (s->center) x = lx_sub(lo, x, rows_get(r, s->mean));
    else rows_put(r, s->stage, x);
    rows_add(r, s->variance, FN_ADD, lx_mul(lo, x, x));
    rows_each_end(r);
    average(s, s->variance);
}

static void invert(Norm *s, double epsilon, bool outside) {
    Lower *lo = s->lo;
    s->inverse = rows_acc(&s->r, s->t, lx_const(lo, s->t, 0));
    rows_lane(&s->r);
    Expr *v = rows_get(&s->r, s->variance), *e = lx_const(lo, s->t, epsilon), *one = lx_const(lo, s->t, 1);
    v = outside ? lx_add(lo, lx_1(lo, FN_SQRT, v), e) : lx_1(lo, FN_SQRT, lx_add(lo, v, e));
    rows_add(&s->r, s->inverse, FN_NONE, lx_div(lo, one, v));
    rows_lane_end(&s->r);
}

static Expr *normalized(Norm *s) {
    Expr *x = again_x(s);
    if (s->center) x = lx_sub(s->lo, x, rows_get(&s->r, s->mean));
    return lx_mul(s->lo, x, rows_get(&s->r, s->inverse));
}

/* One element per channel, or per element of the row (trailing broadcast). */
static Expr *parameter(Norm *s, const Value *p, bool per_channel) {
    Expr *idx[RANK_MAX];
    real_index(s, idx);
    Expr *e = per_channel ? lower_load(s->lo, p, &idx[1]) : lower_load_broadcast(s->lo, p, s->x->type->rank, idx);
    return lx_cast(s->lo, s->t, e);
}

static void store_all(Norm *s, const Value *scale, const Value *bias, bool per_channel) {
    Lower *lo = s->lo;
    rows_each(&s->r);
    Expr *y = normalized(s), *idx[RANK_MAX];
    if (scale != NULL) y = lx_mul(lo, y, parameter(s, scale, per_channel));
    if (bias != NULL) y = lx_add(lo, y, parameter(s, bias, per_channel));
    real_index(s, idx);
    lower_store(lo, s->n->out[0], idx, y);
    rows_each_end(&s->r);
}

static Norm norm_new(Lower *lo, const Node *n, uint32_t mask, bool center) {
    const Type *t = n->in[0]->type;
    Norm s = {.lo = lo, .n = n, .x = n->in[0], .rank = t->rank, .mask = mask, .center = center};
    s.t = lower_float_type(t->dtype);
    for (uint32_t a = 0; a < t->rank; a++) s.dim[a] = t->dim[a];
    return s;
}

static const Value *input(const Node *n, uint32_t i) { return i < n->n_in ? n->in[i] : NULL; }

static uint32_t trailing(const Node *n, AttrSlot axis) {
    uint32_t rank = n->in[0]->type->rank;
    int64_t a = attr_i(n, axis);
    uint32_t from = (uint32_t)(a < 0 ? a + rank : a);
    return ((1u << rank) - 1) & ~((1u << from) - 1);
}

static void store_statistic(Norm *s, uint32_t out, RowAcc acc) {
    if (out >= s->n->n_out || !lower_is_wanted(s->lo, s->n->out[out])) return;
    Expr *idx[RANK_MAX];
    rows_lane(&s->r);
    for (uint32_t a = 0; a < s->rank; a++) idx[a] = (s->mask >> a & 1) != 0 ? lx_i(s->lo, 0) : s->r.idx[a];
    lower_store(s->lo, s->n->out[out], idx, rows_get(&s->r, acc));
    rows_lane_end(&s->r);
}

bool lower_layer_norm(Lower *lo, const Node *n) {
    Norm s = norm_new(lo, n, trailing(n, attr_named(n, "axis")), n->op == OP_LayerNormalization);
    statistics(&s);
    invert(&s, attr_f(n, attr_named(n, "epsilon")), false);
    if (s.center) store_statistic(&s, 1, s.mean);
    if (s.center) store_statistic(&s, 2, s.inverse);
    store_all(&s, input(n, 1), input(n, 2), false);
    rows_close(&s.r);
    return true;
}

bool lower_instance_norm(Lower *lo, const Node *n) {
    uint32_t rank = n->in[0]->type->rank;
    Norm s = norm_new(lo, n, ((1u << rank) - 1) & ~3u, true);
    statistics(&s);
    invert(&s, attr_f(n, AT_InstanceNormalization_epsilon), false);
    store_all(&s, n->in[1], n->in[2], true);
    rows_close(&s.r);
    return true;
}

bool lower_group_norm(Lower *lo, const Node *n) {
    const Type *t = n->in[0]->type;
    Context *cx = lo->cx;
    Norm s = norm_new(lo, n, 0, true);
    Dim groups = dim_const(cx, attr_i(n, AT_GroupNormalization_num_groups));
    s.split = true;
    s.rank = t->rank + 1;
    s.dim[1] = groups;
    s.dim[2] = dim_floordiv(cx, t->dim[1], groups);
    for (uint32_t a = 2; a < t->rank; a++) s.dim[a + 1] = t->dim[a];
    s.mask = ((1u << s.rank) - 1) & ~3u;
    statistics(&s);
    invert(&s, attr_f(n, AT_GroupNormalization_epsilon), false);
    store_all(&s, n->in[1], n->in[2], true);
    rows_close(&s.r);
    return true;
}

bool lower_mean_variance_norm(Lower *lo, const Node *n) {
    const Attr *axes = attr_at(n, AT_MeanVarianceNormalization_axes);
    uint32_t mask = 0, rank = n->in[0]->type->rank;
    for (uint32_t i = 0; i < axes->ints.n; i++) {
        int64_t a = axes->ints.v[i] < 0 ? axes->ints.v[i] + rank : axes->ints.v[i];
        if (a < 0 || a >= (int64_t)rank) {
            diag(lo->cx, SEV_ERROR, n->loc, "axis %lld is outside [-%u, %u)", (long long)axes->ints.v[i], rank, rank);
            return false;
        }
        mask |= 1u << a;
    }
    Norm s = norm_new(lo, n, mask, true);
    statistics(&s);
    invert(&s, 1e-9, true);
    store_all(&s, NULL, NULL, false);
    rows_close(&s.r);
    return true;
}

/* Training form of BatchNormalization; see expand_batch_norm. Running values: old * momentum + batch * (1 - momentum). */
bool lower_batch_norm_train(Lower *lo, const Node *n) {
    uint32_t rank = n->in[0]->type->rank;
    Norm s = norm_new(lo, n, ((1u << rank) - 1) & ~2u, true);
    double momentum = attr_f(n, AT_BatchNormTrain_momentum);
    statistics(&s);
    invert(&s, attr_f(n, AT_BatchNormTrain_epsilon), false);
    for (uint32_t i = 3; i < 5; i++) {
        if (i >= n->n_out || !lower_is_wanted(lo, n->out[i])) continue;
        rows_lane(&s.r);
        Expr *c = s.r.idx[1];
        lower_store(lo, n->out[i], &c, rows_get(&s.r, i == 3 ? s.mean : s.inverse));
        rows_lane_end(&s.r);
    }
    for (uint32_t i = 1; i < 3; i++) {
        if (i >= n->n_out || !lower_is_wanted(lo, n->out[i])) continue;
        rows_lane(&s.r);
        Expr *c = s.r.idx[1], *now = rows_get(&s.r, i == 1 ? s.mean : s.variance);
        Expr *old = lx_cast(lo, s.t, lower_load(lo, n->in[2 + i], &c));
        Expr *y = lx_add(lo, lx_mul(lo, old, lx_const(lo, s.t, momentum)), lx_mul(lo, now, lx_const(lo, s.t, 1 - momentum)));
        lower_store(lo, n->out[i], &c, y);
        rows_lane_end(&s.r);
    }
    store_all(&s, n->in[1], n->in[2], true);
    rows_close(&s.r);
    return true;
}

/* Inference form: one multiply and add per element; the factors depend on the channel only and leave the inner loop. */
Expr *define_batch_norm(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    (void)out;
    DType t = lower_float_type(n->in[0]->type->dtype);
    Expr *c = n->in[0]->type->rank > 1 ? idx[1] : lx_i(lo, 0), *p[5];
    p[0] = lx_cast(lo, t, lower_load(lo, n->in[0], idx));
    for (uint32_t i = 1; i < 5; i++) p[i] = lx_cast(lo, t, lower_load(lo, n->in[i], &c));
    Expr *variance = lx_add(lo, p[4], lx_const(lo, t, attr_f(n, AT_BatchNormalization_epsilon)));
    Expr *factor = lx_div(lo, p[1], lx_1(lo, FN_SQRT, variance));
    return lx_add(lo, lx_mul(lo, lx_sub(lo, p[0], p[3]), factor), p[2]);
}

/* ---- norms without statistics of their own ----------------------------------------------------------------------- */
/* LpNormalization: x / |x|_p along an axis; 0 where the norm is 0. */
bool lower_lp_norm(Lower *lo, const Node *n) {
    const Value *x = n->in[0];
    int64_t a = attr_i(n, AT_LpNormalization_axis);
    bool one = attr_i(n, AT_LpNormalization_p) == 1;
    DType t = lower_float_type(x->type->dtype);
    Rows r;
    rows_open(&r, lo, x->type->rank, x->type->dim, 1u << (uint32_t)(a < 0 ? a + x->type->rank : a));
    RowAcc sum = rows_acc(&r, t, lx_const(lo, t, 0));
    rows_each(&r);
    Expr *e = lower_load(lo, x, r.idx);
    rows_add(&r, sum, FN_ADD, one ? lx_1(lo, FN_ABS, e) : lx_mul(lo, e, e));
    rows_each_end(&r);
    rows_each(&r);
    Expr *norm = rows_get(&r, sum), *zero = lx_const(lo, t, 0);
    if (!one) norm = lx_1(lo, FN_SQRT, norm);
    Expr *y = lx_div(lo, lower_load(lo, x, r.idx), norm);
    lower_store(lo, n->out[0], r.idx, lx_select(lo, lx_2(lo, FN_EQ, norm, zero), zero, y));
    rows_each_end(&r);
    rows_close(&r);
    return true;
}

/* LRN: x / (bias + alpha/size * sum of squares over `size` neighbouring channels)^beta. */
bool lower_lrn(Lower *lo, const Node *n) {
    const Type *x = n->in[0]->type;
    DType t = lower_float_type(x->dtype);
    int64_t size = attr_i(n, AT_LRN_size);
    if (size < 1) {
        diag(lo->cx, SEV_ERROR, n->loc, "size is %lld, at least 1 is needed", (long long)size);
        return false;
    }
    Dim dim[RANK_MAX + 1]; /* N, C, window, spatial */
    for (uint32_t a = 0; a < x->rank; a++) dim[a < 2 ? a : a + 1] = x->dim[a];
    dim[2] = dim_const(lo->cx, size);
    Rows r;
    rows_open(&r, lo, x->rank + 1, dim, 4);
    RowAcc sum = rows_acc(&r, t, lx_const(lo, t, 0));
    Expr *idx[RANK_MAX], *channels = lx_dim(lo, x->dim[1]);
    rows_each(&r);
    Expr *c = lx_add(lo, lx_add(lo, r.idx[1], r.idx[2]), lx_i(lo, -((size - 1) / 2)));
    for (uint32_t a = 0; a < x->rank; a++) idx[a] = r.idx[a < 2 ? a : a + 1];
    Expr *in = lx_2(lo, FN_AND, lx_2(lo, FN_GE, c, lx_i(lo, 0)), lx_2(lo, FN_LT, c, channels));
    idx[1] = lx_2(lo, FN_MAX, lx_2(lo, FN_MIN, c, lx_add(lo, channels, lx_i(lo, -1))), lx_i(lo, 0));
    Expr *e = lower_load(lo, n->in[0], idx);
    rows_add(&r, sum, FN_ADD, lx_select(lo, in, lx_mul(lo, e, e), lx_const(lo, t, 0)));
    rows_each_end(&r);
    rows_lane(&r);
    for (uint32_t a = 0; a < x->rank; a++) idx[a] = r.idx[a < 2 ? a : a + 1];
    Expr *base = lx_mul(lo, rows_get(&r, sum), lx_const(lo, t, attr_f(n, AT_LRN_alpha) / (double)size));
    base = lx_add(lo, base, lx_const(lo, t, attr_f(n, AT_LRN_bias)));
    base = lx_2(lo, FN_POW, base, lx_const(lo, t, attr_f(n, AT_LRN_beta)));
    lower_store(lo, n->out[0], idx, lx_div(lo, lower_load(lo, n->in[0], idx), base));
    rows_lane_end(&r);
    rows_close(&r);
    return true;
}
