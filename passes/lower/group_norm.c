/* GroupNormalization channels last, x: [N, pixels, C]: a pixel's channels are one vector, so statistics are kept by channel and
 * joined by group at the end. Memory is read once for them and once to store the result.
 *
 *     for n, piece of pixels that stays in the first-level cache
 *       mean[n, piece, c] = average over the piece's pixels of x          m2[n, piece, c] = sum of (x - mean)^2
 *     for n, group
 *       m = average of mean    v = (sum over pieces and channels of m2 + pixels * (mean - m)^2) / (pixels and channels of the group)
 *       shift[n, c] = m        factor[n, c] = scale[c] / sqrt(v + epsilon)
 *     for n, pixel, c
 *       y = (x - shift[n, c]) * factor[n, c] + bias[c]
 *
 * Differences from a piece's own mean, joined exactly: as accurate as two passes over everything. */
#include "passes/lower/operand.h"
#include "passes/rules.h"

enum { PIECE_FLOATS = 6144, FEWEST_PIXELS = 8 };

typedef struct GroupNorm {
    Lower *lo;
    const Node *n;
    const Type *t;
    Dim batch, pixels, channels, groups, members, piece, pieces; /* members: channels of a group */
    uint32_t x, mean, m2, shift, factor;                         /* buffers */
} GroupNorm;

static Expr *zero(Lower *lo) { return lx_const(lo, DT_F32, 0); }

static uint32_t room(const GroupNorm *s, uint32_t rank, const Dim *dim) {
    return lower_buf(s->lo, lower_scratch(s->lo, type_tensor(s->lo->cx, DT_F32, rank, dim)));
}

static void describe(GroupNorm *s, Lower *lo, const Node *n) {
    Context *cx = lo->cx;
    const Type *t = n->in[0]->type;
    uint32_t r = t->rank;
    *s = (GroupNorm){.lo = lo, .n = n, .t = t, .batch = t->dim[0], .channels = t->dim[r - 1], .pixels = dim_const(cx, 1)};
    for (uint32_t i = 1; i + 1 < r; i++) s->pixels = dim_mul(cx, s->pixels, t->dim[i]);
    s->groups = dim_const(cx, attr_i(n, AT_GroupNormalizationChannelsLast_num_groups));
    s->members = dim_floordiv(cx, s->channels, s->groups);
    int64_t piece = PIECE_FLOATS / (dim_value(cx, s->channels) + 1);
    s->piece = dim_const(cx, piece < FEWEST_PIXELS ? FEWEST_PIXELS : piece);
    s->pieces = dim_ceildiv(cx, s->pixels, s->piece);
    s->x = lower_view(lo, n->in[0], 3, (Dim[]){s->batch, s->pixels, s->channels});
    s->mean = room(s, 3, (Dim[]){s->batch, s->pieces, s->channels});
    s->m2 = room(s, 3, (Dim[]){s->batch, s->pieces, s->channels});
    s->shift = room(s, 2, (Dim[]){s->batch, s->channels});
    s->factor = room(s, 2, (Dim[]){s->batch, s->channels});
}

/* Pixels of piece q. */
static Expr *pixels_of(const GroupNorm *s, Expr *q) {
    Lower *lo = s->lo;
    return lx_2(lo, FN_MIN, lx_dim(lo, s->piece), lx_sub(lo, lx_dim(lo, s->pixels), lx_mul(lo, q, lx_dim(lo, s->piece))));
}

static void clear(const GroupNorm *s, uint32_t array) {
    Expr *c = lower_for_dim(s->lo, s->channels);
    lower_store_buf(s->lo, array, &c, FN_NONE, zero(s->lo));
    lower_end(s->lo);
}

static void statistics_of_pieces(const GroupNorm *s) {
    Lower *lo = s->lo;
    uint32_t depth = lo->open.n;
    Expr *at[3];
    at[0] = lower_for_dim(lo, s->batch);
    Expr *q = lower_for_dim(lo, s->pieces), *first = lx_mul(lo, q, lx_dim(lo, s->piece)), *count = pixels_of(s, q);
    lo->open.v[depth]->parallel = 2;
    uint32_t sum = lower_array(lo, DT_F32, 1, &s->channels), squares = lower_array(lo, DT_F32, 1, &s->channels);
    clear(s, sum);
    clear(s, squares);
    at[1] = lx_add(lo, first, lower_for(lo, count));
    at[2] = lower_for_dim(lo, s->channels);
    lower_store_buf(lo, sum, &at[2], FN_ADD, lower_load_buf(lo, s->x, at));
    lower_end_n(lo, 2);
    Expr *c = lower_for_dim(lo, s->channels);
    lower_store_buf(lo, sum, &c, FN_NONE, lx_div(lo, lower_load_buf(lo, sum, &c), lx_cast(lo, DT_F32, count)));
    lower_end(lo);
    at[1] = lx_add(lo, first, lower_for(lo, count));
    at[2] = lower_for_dim(lo, s->channels);
    Expr *d = lx_sub(lo, lower_load_buf(lo, s->x, at), lower_load_buf(lo, sum, &at[2]));
    lower_store_buf(lo, squares, &at[2], FN_ADD, lx_mul(lo, d, d));
    lower_end_n(lo, 2);
    at[1] = q;
    at[2] = lower_for_dim(lo, s->channels);
    lower_store_buf(lo, s->mean, at, FN_NONE, lower_load_buf(lo, sum, &at[2]));
    lower_store_buf(lo, s->m2, at, FN_NONE, lower_load_buf(lo, squares, &at[2]));
    lower_end_n(lo, 3);
}

/* Opens the loops over the pieces and channels of a group. */
static void each_member(const GroupNorm *s, Expr *group, Expr **at) {
    Lower *lo = s->lo;
    at[1] = lower_for_dim(lo, s->pieces);
    at[2] = lx_add(lo, lx_mul(lo, group, lx_dim(lo, s->members)), lower_for_dim(lo, s->members));
}

static void statistics_of_groups(const GroupNorm *s) {
    Lower *lo = s->lo;
    uint32_t depth = lo->open.n;
    Expr *at[3], *all = lx_cast(lo, DT_F32, lx_dim(lo, dim_mul(lo->cx, s->pixels, s->members)));
    at[0] = lower_for_dim(lo, s->batch);
    Expr *group = lower_for_dim(lo, s->groups);
    lo->open.v[depth]->parallel = 2;
    Expr *sum = lower_local(lo, DT_F32, zero(lo));
    each_member(s, group, at);
    lower_accumulate(lo, sum, FN_ADD, lx_mul(lo, lower_load_buf(lo, s->mean, at), lx_cast(lo, DT_F32, pixels_of(s, at[1]))));
    lower_end_n(lo, 2);
    Expr *mean = lower_local(lo, DT_F32, lx_div(lo, sum, all)), *variance = lower_local(lo, DT_F32, zero(lo));
    each_member(s, group, at);
    Expr *d = lx_sub(lo, lower_load_buf(lo, s->mean, at), mean);
    Expr *apart = lx_mul(lo, lx_mul(lo, d, d), lx_cast(lo, DT_F32, pixels_of(s, at[1])));
    lower_accumulate(lo, variance, FN_ADD, lx_add(lo, lower_load_buf(lo, s->m2, at), apart));
    lower_end_n(lo, 2);
    Expr *epsilon = lx_const(lo, DT_F32, attr_f(s->n, AT_GroupNormalizationChannelsLast_epsilon));
    Expr *inverse = lx_div(lo, lx_const(lo, DT_F32, 1), lx_1(lo, FN_SQRT, lx_add(lo, lx_div(lo, variance, all), epsilon)));
    Expr *factor = lower_local(lo, DT_F32, inverse);
    at[1] = lx_add(lo, lx_mul(lo, group, lx_dim(lo, s->members)), lower_for_dim(lo, s->members));
    lower_store_buf(lo, s->shift, at, FN_NONE, mean);
    lower_store_buf(lo, s->factor, at, FN_NONE, lx_mul(lo, factor, lower_load(lo, s->n->in[1], &at[1])));
    lower_end_n(lo, 3);
}

static void store_all(const GroupNorm *s) {
    Lower *lo = s->lo;
    uint32_t depth = lo->open.n, r = s->t->rank;
    Expr *idx[RANK_MAX];
    for (uint32_t i = 0; i + 1 < r; i++) idx[i] = lower_for_dim(lo, s->t->dim[i]);
    lo->open.v[depth]->parallel = (uint16_t)(r - 1);
    Expr *c = idx[r - 1] = lower_for_dim(lo, s->channels), *at[2] = {idx[0], c};
    Expr *x = lx_sub(lo, lower_load(lo, s->n->in[0], idx), lower_load_buf(lo, s->shift, at));
    Expr *y = lx_mul(lo, x, lower_load_buf(lo, s->factor, at));
    lower_store(lo, s->n->out[0], idx, lx_add(lo, y, lower_load(lo, s->n->in[2], &c)));
    lower_end_n(lo, r);
}

bool lower_group_norm_channels_last(Lower *lo, const Node *n) {
    GroupNorm s;
    describe(&s, lo, n);
    statistics_of_pieces(&s);
    statistics_of_groups(&s);
    store_all(&s);
    return true;
}
