/* Attention of one or a few queries, as in the step of a decoder that makes one token: keys and values are read once, in the
 * order of memory, and nothing but the result, and the cache for the next step, is written.
 *
 *     for batch, head, query                              shared by the threads
 *       Q = scale * query
 *       for block of keys
 *         S[key] = pointwise(sum over d of Q[d] * K[key][d])      four keys at a time: Q is loaded once for them
 *         S = exp(S - top)
 *         O[d] = O[d] * exp(old top - top) + sum over keys of S[key] * V[key][d]
 *       result[query][d] = O[d] / sum
 *
 * Where the keys or values are a cache and what is appended to it (a Concat in the body), each head of them is written first,
 * by the thread that then reads it.
 *
 * Here a vector holds columns of one key, where attention_tiles.c has a vector of queries: with one query its other lanes
 * would be idle. One thread computes a query's result from all keys in their order, so the bits do not depend on how many
 * threads there are. */
#include "passes/lower/attention_parts.h"
#include "passes/lower/rows.h"
#include "passes/tile.h"

enum { TOGETHER = 4, BLOCK = 2048, WHOLE = 8192 };

typedef struct Few {
    Lower *lo;
    AttentionParts *p;
    uint32_t keys, values, Q, S, O; /* keys, values: as one row */
    int64_t block;
    bool whole;                   /* all keys are one block */
    Expr *query, *first, *count;  /* of the open block */
    Expr *top, *sum, *shift;      /* locals */
} Few;

static bool rows_are_lines(Context *cx, const OperandView *v) { return v->step[v->rank - 1] == dim_const(cx, 1); }

bool attention_is_few(const Context *cx, const AttentionParts *p) {
    return dim_hi(cx, p->m) <= ATTENTION_MOST_FEW && rows_are_lines((Context *)cx, &p->k) && rows_are_lines((Context *)cx, &p->v);
}

static uint32_t flat(Lower *lo, const Value *v) {
    Dim numel = type_numel(lo->cx, v->type);
    return lower_view(lo, v, 1, &numel);
}

/* Writes the matrix of the open head that `concat` makes, rows of its inputs one after the other; at: where it begins. */
static void append_rows(Few *f, const Node *concat, uint32_t to, Expr *const *head, Expr *at, Expr *step) {
    Lower *lo = f->lo;
    const uint32_t lead = f->p->lead;
    Expr *before = lx_i(lo, 0), *idx[RANK_MAX];
    for (uint32_t i = 0; i < lead; i++) idx[i] = head[i];
    for (uint32_t i = 0; i < concat->n_in; i++) {
        const Type *t = concat->in[i]->type;
        Expr *j = idx[lead] = lower_for_dim(lo, t->dim[lead]), *d = idx[lead + 1] = lower_for_dim(lo, t->dim[lead + 1]);
        Expr *place = lx_add(lo, lx_add(lo, at, lx_mul(lo, lx_add(lo, before, j), step)), d);
        lower_store_buf(lo, to, &place, FN_NONE, lower_load(lo, concat->in[i], idx));
        lower_end_n(lo, 2);
        before = lx_add(lo, before, lx_dim(lo, t->dim[lead]));
    }
}

static Expr *in_array(const Few *f, uint32_t array, Expr *i) { return lower_load_buf(f->lo, array, &i); }
static void put(const Few *f, uint32_t array, Expr *i, Expr *e) { lower_store_buf(f->lo, array, &i, FN_NONE, e); }

static void load_query(Few *f) {
    Lower *lo = f->lo;
    const OperandView *q = &f->p->q;
    const double scale = attr_f(f->p->scores, AT_AttentionScores_scale);
    uint32_t from = flat(lo, f->p->scores->in[0]);
    Expr *row = lx_add(lo, attention_matrix_at(lo, f->p, q, 1), lx_mul(lo, f->query, lx_dim(lo, q->step[q->rank - 2])));
    Expr *d = lower_for(lo, lx_i(lo, f->p->size));
    Expr *e = in_array(f, from, lx_add(lo, row, lx_mul(lo, d, lx_dim(lo, q->step[q->rank - 1]))));
    put(f, f->Q, d, scale == 1 ? e : lx_mul(lo, e, lx_const(lo, DT_F32, scale)));
    lower_end(lo);
}

/* The scores of `together` keys at a time, `times` times from key `from` of the block on. */
static void some_scores(Few *f, Expr *from, Expr *times, uint32_t together) {
    Lower *lo = f->lo;
    AttentionParts *p = f->p;
    Expr *i = lower_for(lo, times), *key[TOGETHER], *at[TOGETHER], *sum[TOGETHER];
    for (uint32_t u = 0; u < together; u++) {
        key[u] = lx_add(lo, lx_add(lo, from, lx_mul(lo, i, lx_i(lo, together))), lx_i(lo, u));
        Expr *row = lx_mul(lo, lx_add(lo, f->first, key[u]), lx_dim(lo, p->k.step[p->k.rank - 2]));
        at[u] = lx_add(lo, attention_matrix_at(lo, p, &p->k, attr_i(p->scores, AT_AttentionScores_group)), row);
        sum[u] = lower_local(lo, DT_F32, lx_const(lo, DT_F32, 0));
    }
    Expr *d = lower_for(lo, lx_i(lo, p->size));
    for (uint32_t u = 0; u < together; u++) lower_accumulate(lo, sum[u], FN_ADD, lx_mul(lo, in_array(f, f->Q, d), in_array(f, f->keys, lx_add(lo, at[u], d))));
    lower_end(lo);
    for (uint32_t u = 0; u < together; u++) put(f, f->S, key[u], sum[u]);
    lower_end(lo);
}

static void scores(Few *f) {
    Lower *lo = f->lo;
    Expr *times = lx_div(lo, f->count, lx_i(lo, TOGETHER)), *done = lx_mul(lo, times, lx_i(lo, TOGETHER)), *rest = lx_sub(lo, f->count, done);
    some_scores(f, lx_i(lo, 0), times, TOGETHER);
    if (!ex_is_const(rest, 0)) some_scores(f, done, rest, 1);
    if (f->p->plain) return;
    Expr *j = lower_for(lo, f->count);
    f->p->idx[f->p->lead] = f->query;
    f->p->idx[f->p->lead + 1] = lx_add(lo, f->first, j);
    put(f, f->S, j, attention_finished_score(lo, f->p, in_array(f, f->S, j)));
    lower_end(lo);
}

/* shift is what is subtracted: top, or 0 as long as every score was -inf. What it was before corrects the sums so far. */
static void move_shift(Few *f) {
    Lower *lo = f->lo;
    Expr *now = lx_select(lo, lx_2(lo, FN_EQ, f->top, lower_lowest(lo, DT_F32)), lx_const(lo, DT_F32, 0), f->top);
    if (f->whole) {
        lower_set(lo, f->shift, now);
        return;
    }
    now = lower_local(lo, DT_F32, now);
    Expr *correct = lower_local(lo, DT_F32, lx_1(lo, FN_EXP_BELOW, lx_sub(lo, f->shift, now)));
    lower_set(lo, f->sum, lx_mul(lo, f->sum, correct));
    lower_set(lo, f->shift, now);
    Expr *d = lower_for(lo, lx_i(lo, f->p->width));
    put(f, f->O, d, lx_mul(lo, in_array(f, f->O, d), correct));
    lower_end(lo);
}

/* O += S V. */
static void mix(Few *f) {
    Lower *lo = f->lo;
    const AttentionParts *p = f->p;
    Expr *step = lx_dim(lo, p->v.step[p->v.rank - 2]);
    Expr *at = lx_add(lo, attention_matrix_at(lo, p, &p->v, attr_i(p->mix, AT_AttentionMix_group)), lx_mul(lo, f->first, step));
    const Tile tile = tile_choose_dividing(module_target(lo->m), dim_const(lo->cx, 1), p->width, f->block, lo->cx);
    if (tile.cols != 0) {
        Expr *panel = lower_for(lo, lx_i(lo, p->width / tile.cols)), *column = lx_mul(lo, panel, lx_i(lo, tile.cols));
        TileCall call = {.out = f->O, .out_at = column, .rows = lx_i(lo, 1), .a = f->S, .a_at = lx_i(lo, 0), .a_row = lx_i(lo, 0), .a_k = lx_i(lo, 1), .k = f->count,
                         .b = f->values, .b_at = lx_add(lo, at, column), .b_k = step, .add = !f->whole};
        tile_emit(lo, &tile, &call);
        lower_end(lo);
        return;
    }
    Expr *d;
    if (f->whole) {
        d = lower_for(lo, lx_i(lo, p->width));
        put(f, f->O, d, lx_const(lo, DT_F32, 0));
        lower_end(lo);
    }
    Expr *j = lower_for(lo, f->count), *weight = lower_local(lo, DT_F32, in_array(f, f->S, j));
    d = lower_for(lo, lx_i(lo, p->width));
    lower_store_buf(lo, f->O, &d, FN_ADD, lx_mul(lo, weight, in_array(f, f->values, lx_add(lo, lx_add(lo, at, lx_mul(lo, j, step)), d))));
    lower_end_n(lo, 2);
}

static void one_block(Few *f) {
    Lower *lo = f->lo;
    scores(f);
    Expr *j = lower_for(lo, f->count);
    lower_accumulate(lo, f->top, FN_MAX, in_array(f, f->S, j));
    lower_end(lo);
    move_shift(f);
    j = lower_for(lo, f->count);
    put(f, f->S, j, lx_1(lo, FN_EXP_BELOW, lx_sub(lo, in_array(f, f->S, j), f->shift)));
    lower_accumulate(lo, f->sum, FN_ADD, in_array(f, f->S, j));
    lower_end(lo);
    mix(f);
}

static void all_blocks(Few *f) {
    Lower *lo = f->lo;
    if (f->whole) {
        f->first = lx_i(lo, 0);
        f->count = lx_dim(lo, f->p->n);
        one_block(f);
        return;
    }
    Expr *d = lower_for(lo, lx_i(lo, f->p->width));
    put(f, f->O, d, lx_const(lo, DT_F32, 0));
    lower_end(lo);
    Expr *i = lower_for_dim(lo, dim_ceildiv(lo->cx, f->p->n, dim_const(lo->cx, f->block)));
    f->first = lx_mul(lo, i, lx_i(lo, f->block));
    f->count = tile_rows(lo, f->p->n, f->block, f->first);
    one_block(f);
    lower_end(lo);
}

static uint32_t array(Lower *lo, int64_t n) {
    Dim size = dim_const(lo->cx, n);
    return lower_array(lo, DT_F32, 1, &size);
}

/* Loops over heads of keys and values, which are made there, and inside over what reads them: the heads of a group, queries. */
static void open_heads(Few *f) {
    Lower *lo = f->lo;
    AttentionParts *p = f->p;
    const uint32_t depth = lo->open.n, rows = p->lead;
    const int64_t group = attr_i(p->scores, AT_AttentionScores_group);
    Expr *head[RANK_MAX], *keys = lx_i(lo, p->k.offset), *values = lx_i(lo, p->v.offset);
    for (uint32_t i = 0; i < p->lead; i++) {
        p->idx[i] = head[i] = lower_for_dim(lo, p->k.size[i]);
        keys = lx_add(lo, keys, lx_mul(lo, head[i], lx_dim(lo, p->k.step[i])));
        values = lx_add(lo, values, lx_mul(lo, head[i], lx_dim(lo, p->v.step[i])));
    }
    if (p->lead == 0) lower_for(lo, lx_i(lo, 1));
    lo->open.v[depth]->parallel = (uint16_t)(lo->open.n - depth);
    if (p->keys != NULL) append_rows(f, p->keys, f->keys, head, keys, lx_dim(lo, p->k.step[rows]));
    if (p->values != NULL && p->values != p->keys) append_rows(f, p->values, f->values, head, values, lx_dim(lo, p->v.step[rows]));
    if (group > 1) p->idx[p->lead - 1] = lx_add(lo, lx_mul(lo, head[p->lead - 1], lx_i(lo, group)), lower_for(lo, lx_i(lo, group)));
    f->query = lower_for_dim(lo, p->m);
}

void lower_attention_few(Lower *lo, AttentionParts *p) {
    Context *cx = lo->cx;
    Few f = {.lo = lo, .p = p};
    f.whole = dim_hi(cx, p->n) <= WHOLE;
    f.block = f.whole ? dim_hi(cx, p->n) : BLOCK;
    f.keys = flat(lo, p->scores->in[1]);
    f.values = p->mix->in[1] == p->scores->in[1] ? f.keys : flat(lo, p->mix->in[1]);
    uint32_t depth = lo->open.n;
    if (p->keys != NULL || p->values != NULL) {
        open_heads(&f);
    } else {
        for (uint32_t i = 0; i < p->lead; i++) p->idx[i] = lower_for_dim(lo, p->q.size[i]);
        f.query = lower_for_dim(lo, p->m);
        lo->open.v[depth]->parallel = (uint16_t)(lo->open.n - depth);
    }
    f.Q = array(lo, p->size);
    f.S = array(lo, f.block);
    f.O = array(lo, p->width);
    f.top = lower_local(lo, DT_F32, lower_lowest(lo, DT_F32));
    f.sum = lower_local(lo, DT_F32, lx_const(lo, DT_F32, 0));
    f.shift = lower_local(lo, DT_F32, lower_lowest(lo, DT_F32));
    load_query(&f);
    all_blocks(&f);
    Expr *inverse = lower_local(lo, DT_F32, attention_inverse(lo, p, f.sum));
    Expr *d = lower_for(lo, lx_i(lo, p->width));
    attention_store(lo, p, f.query, d, lx_mul(lo, in_array(&f, f.O, d), inverse));
    lower_end_n(lo, lo->open.n - depth);
}
