/* Attention in tiles: no matrix of scores in memory, no copies of keys and values.
 *
 *     for batch, head, tile of NR queries                 shared by the threads
 *       Q[d][NR] = scale * queries, transposed
 *       for block of keys
 *         S[key][NR] = K Q                                keys are rows of the product, read where they are
 *         S = exp(pointwise(S) - top)                     each query is a lane: no sum across a vector
 *         O[d][NR] = O * exp(old top - top) + V^T S       values are read where they are, too
 *       result[query][d] = O[d][query] / sum
 *
 * With one block there is nothing to correct. A block that is all -inf for a query adds 0. Every tile is computed by one
 * thread in the order of the keys, so the bits do not depend on the number of threads.
 * Online softmax: Milakov and Gimelshein, 2018; tiles: Dao et al., 2022. */
#include "passes/lower/attention_parts.h"
#include "passes/lower/rows.h"
#include "passes/tile.h"

enum { TOGETHER = 4, BLOCK_FLOATS = 8192, WHOLE_FLOATS = 16384, OPEN_QUERIES = 256 };

typedef struct Tiles {
    Lower *lo;
    AttentionParts p;
    int64_t block;                /* keys in a block */
    Tile score_tile, mix_tile;
    bool whole;                   /* all keys are one block */
    uint32_t Q, S, O, top, sum, shift, correct;
    Expr *first, *count, *block_first, *block_count;
} Tiles;

static Expr *columns(const Tiles *t) { return lx_i(t->lo, t->score_tile.cols); }

static Expr *array_at(const Tiles *t, uint32_t array, Expr *row, Expr *lane) { return lower_load_buf(t->lo, array, (Expr *[]){row, lane}); }

/* Runs body for every lane. */
typedef void LaneBody(Tiles *t, Expr *lane);
static void lanes(Tiles *t, LaneBody *body) {
    body(t, lower_for(t->lo, columns(t)));
    lower_end(t->lo);
}

/* Run body for every row of `rows` and lane; all_rows some at a time, where results that go to one place per lane meet in registers first. */
typedef void RowsBody(Tiles *t, Expr *const *row, uint32_t n, Expr *lane);
static void some_rows(Tiles *t, Expr *from, Expr *times, uint32_t together, RowsBody *body) {
    Lower *lo = t->lo;
    Expr *i = lower_for(lo, times), *lane = lower_for(lo, columns(t)), *row[TOGETHER];
    for (uint32_t u = 0; u < together; u++) row[u] = lx_add(lo, lx_add(lo, from, lx_mul(lo, i, lx_i(lo, together))), lx_i(lo, u));
    body(t, row, together, lane);
    lower_end_n(lo, 2);
}

static void each_row(Tiles *t, Expr *rows, RowsBody *body) { some_rows(t, lx_i(t->lo, 0), rows, 1, body); }

static void all_rows(Tiles *t, Expr *rows, RowsBody *body) {
    Lower *lo = t->lo;
    Expr *times = lx_div(lo, rows, lx_i(lo, TOGETHER)), *done = lx_mul(lo, times, lx_i(lo, TOGETHER));
    some_rows(t, lx_i(lo, 0), times, TOGETHER, body);
    if (!ex_is_const(lx_sub(lo, rows, done), 0)) some_rows(t, done, lx_sub(lo, rows, done), 1, body);
}

/* e[0..n) to one, in pairs. */
static Expr *in_pairs(Lower *lo, Fn fn, Expr **e, uint32_t n) {
    for (; n > 1; n = (n + 1) / 2)
        for (uint32_t i = 0; 2 * i < n; i++) e[i] = 2 * i + 1 < n ? lx_2(lo, fn, e[2 * i], e[2 * i + 1]) : e[2 * i];
    return e[0];
}

/* ---- the steps --------------------------------------------------------------------------------------------------- */
static void pack_queries(Tiles *t) {
    Lower *lo = t->lo;
    const uint32_t r = t->p.q.rank;
    double scale = attr_f(t->p.scores, AT_AttentionScores_scale);
    Dim numel = type_numel(lo->cx, t->p.scores->in[0]->type);
    uint32_t from = lower_view(lo, t->p.scores->in[0], 1, &numel);
    Expr *at = attention_matrix_at(lo, &t->p, &t->p.q, 1);
    Expr *j = lower_for(lo, t->count), *d = lower_for(lo, lx_i(lo, t->p.size));
    Expr *row = lx_add(lo, at, lx_mul(lo, lx_add(lo, t->first, j), lx_dim(lo, t->p.q.step[r - 2])));
    Expr *e = lower_load_buf(lo, from, (Expr *[]){lx_add(lo, row, lx_mul(lo, d, lx_dim(lo, t->p.q.step[r - 1])))});
    if (scale != 1) e = lx_mul(lo, e, lx_const(lo, DT_F32, scale));
    lower_store_buf(lo, t->Q, (Expr *[]){d, j}, FN_NONE, e);
    lower_end_n(lo, 2);
    if (ex_is_const(t->count, t->score_tile.cols)) return;
    d = lower_for(lo, lx_i(lo, t->p.size));
    j = lower_for(lo, lx_sub(lo, columns(t), t->count));
    lower_store_buf(lo, t->Q, (Expr *[]){d, lx_add(lo, t->count, j)}, FN_NONE, lx_const(lo, DT_F32, 0));
    lower_end_n(lo, 2);
}

static Expr *tile_part(const Tiles *t, int64_t rows, Expr *total, Expr *from) {
    Lower *lo = t->lo;
    if (total->kind == E_CONST && total->c.i % rows == 0) return lx_i(lo, rows);
    return lx_2(lo, FN_MIN, lx_i(lo, rows), lx_sub(lo, total, from));
}

static Expr *tile_count(const Tiles *t, int64_t rows, Expr *total) { return lx_div(t->lo, lx_add(t->lo, total, lx_i(t->lo, rows - 1)), lx_i(t->lo, rows)); }

static void score_block(Tiles *t) {
    Lower *lo = t->lo;
    const uint32_t r = t->p.k.rank;
    const int64_t rows = t->score_tile.rows;
    Expr *i = lower_for(lo, tile_count(t, rows, t->block_count)), *row = lx_mul(lo, i, lx_i(lo, rows)), *step = lx_dim(lo, t->p.k.step[r - 2]);
    Expr *at = lx_add(lo, attention_matrix_at(lo, &t->p, &t->p.k, attr_i(t->p.scores, AT_AttentionScores_group)), lx_mul(lo, lx_add(lo, t->block_first, row), step));
    TileCall call = {.out = t->S, .out_at = lx_mul(lo, row, columns(t)), .rows = tile_part(t, rows, t->block_count, row), .a = lower_buf(lo, t->p.scores->in[1]),
                     .a_at = at, .a_row = step, .a_k = lx_dim(lo, t->p.k.step[r - 1]), .k = lx_i(lo, t->p.size), .b = t->Q, .b_at = lx_i(lo, 0), .b_k = columns(t)};
    tile_emit(lo, &t->score_tile, &call);
    lower_end(lo);
}

/* Lanes past the last query read that one's masks. */
static Expr *finished_score(Tiles *t, Expr *row, Expr *lane) {
    Lower *lo = t->lo;
    Expr *score = array_at(t, t->S, row, lane), *query = lx_add(lo, t->first, lane);
    if (!ex_is_const(t->count, t->score_tile.cols)) query = lx_2(lo, FN_MIN, query, lx_sub(lo, lx_dim(lo, t->p.m), lx_i(lo, 1)));
    t->p.idx[t->p.lead] = query;
    t->p.idx[t->p.lead + 1] = lx_add(lo, t->block_first, row);
    return attention_finished_score(lo, &t->p, score);
}

static void finish_scores(Tiles *t, Expr *const *row, uint32_t n, Expr *lane) {
    for (uint32_t u = 0; u < n; u++) lower_store_buf(t->lo, t->S, (Expr *[]){row[u], lane}, FN_NONE, finished_score(t, row[u], lane));
}

static void find_top(Tiles *t, Expr *const *row, uint32_t n, Expr *lane) {
    Expr *e[TOGETHER];
    for (uint32_t u = 0; u < n; u++) e[u] = array_at(t, t->S, row[u], lane);
    lower_store_buf(t->lo, t->top, &lane, FN_MAX, in_pairs(t->lo, FN_MAX, e, n));
}

static void exponentials(Tiles *t, Expr *const *row, uint32_t n, Expr *lane) {
    Lower *lo = t->lo;
    for (uint32_t u = 0; u < n; u++) {
        Expr *below = lx_sub(lo, array_at(t, t->S, row[u], lane), lower_load_buf(lo, t->shift, &lane));
        lower_store_buf(lo, t->S, (Expr *[]){row[u], lane}, FN_NONE, lx_1(lo, FN_EXP_BELOW, below));
    }
}

static void add_up(Tiles *t, Expr *const *row, uint32_t n, Expr *lane) {
    Expr *e[TOGETHER];
    for (uint32_t u = 0; u < n; u++) e[u] = array_at(t, t->S, row[u], lane);
    lower_store_buf(t->lo, t->sum, &lane, FN_ADD, in_pairs(t->lo, FN_ADD, e, n));
}

static void correct_rows(Tiles *t, Expr *const *row, uint32_t n, Expr *lane) {
    for (uint32_t u = 0; u < n; u++)
        lower_store_buf(t->lo, t->O, (Expr *[]){row[u], lane}, FN_NONE, lx_mul(t->lo, array_at(t, t->O, row[u], lane), lower_load_buf(t->lo, t->correct, &lane)));
}

static void start_lane(Tiles *t, Expr *lane) {
    lower_store_buf(t->lo, t->top, &lane, FN_NONE, lower_lowest(t->lo, DT_F32));
    lower_store_buf(t->lo, t->sum, &lane, FN_NONE, lx_const(t->lo, DT_F32, 0));
    if (!t->whole) lower_store_buf(t->lo, t->shift, &lane, FN_NONE, lower_lowest(t->lo, DT_F32));
}

/* shift is what is subtracted: top, or 0 as long as every score was -inf. Its old value gives the correction. */
static void shift_lane(Tiles *t, Expr *lane) {
    Lower *lo = t->lo;
    Expr *top = lower_load_buf(lo, t->top, &lane), *lowest = lower_lowest(lo, DT_F32);
    Expr *shift = lower_local(lo, DT_F32, lx_select(lo, lx_2(lo, FN_EQ, top, lowest), lx_const(lo, DT_F32, 0), top));
    if (!t->whole) {
        Expr *correct = lower_local(lo, DT_F32, lx_1(lo, FN_EXP_BELOW, lx_sub(lo, lower_load_buf(lo, t->shift, &lane), shift)));
        lower_store_buf(lo, t->correct, &lane, FN_NONE, correct);
        lower_store_buf(lo, t->sum, &lane, FN_NONE, lx_mul(lo, lower_load_buf(lo, t->sum, &lane), correct));
    }
    lower_store_buf(lo, t->shift, &lane, FN_NONE, shift);
}

static void mix_block(Tiles *t) {
    Lower *lo = t->lo;
    const uint32_t r = t->p.v.rank;
    const int64_t rows = t->mix_tile.rows;
    Expr *width = lx_i(lo, t->p.width), *i = lower_for(lo, tile_count(t, rows, width)), *row = lx_mul(lo, i, lx_i(lo, rows));
    Expr *step = lx_dim(lo, t->p.v.step[r - 2]), *along = lx_dim(lo, t->p.v.step[r - 1]);
    Expr *at = lx_add(lo, lx_add(lo, attention_matrix_at(lo, &t->p, &t->p.v, attr_i(t->p.mix, AT_AttentionMix_group)), lx_mul(lo, t->block_first, step)), lx_mul(lo, row, along));
    TileCall call = {.out = t->O, .out_at = lx_mul(lo, row, columns(t)), .rows = tile_part(t, rows, width, row), .a = lower_buf(lo, t->p.mix->in[1]), .a_at = at,
                     .a_row = along, .a_k = step, .k = t->block_count, .b = t->S, .b_at = lx_i(lo, 0), .b_k = columns(t), .add = !t->whole};
    tile_emit(lo, &t->mix_tile, &call);
    lower_end(lo);
}

static void invert_lane(Tiles *t, Expr *lane) { lower_store_buf(t->lo, t->sum, &lane, FN_NONE, attention_inverse(t->lo, &t->p, lower_load_buf(t->lo, t->sum, &lane))); }

static void store_result(Tiles *t) {
    Lower *lo = t->lo;
    Expr *j = lower_for(lo, t->count), *d = lower_for(lo, lx_i(lo, t->p.width));
    attention_store(lo, &t->p, lx_add(lo, t->first, j), d, lx_mul(lo, array_at(t, t->O, d, j), lower_load_buf(lo, t->sum, &j)));
    lower_end_n(lo, 2);
}

static void clear_rows(Tiles *t, Expr *const *row, uint32_t n, Expr *lane) {
    for (uint32_t u = 0; u < n; u++) lower_store_buf(t->lo, t->O, (Expr *[]){row[u], lane}, FN_NONE, lx_const(t->lo, DT_F32, 0));
}

static void one_block(Tiles *t) {
    score_block(t);
    if (!t->p.plain) each_row(t, t->block_count, finish_scores);
    all_rows(t, t->block_count, find_top);
    lanes(t, shift_lane);
    each_row(t, t->block_count, exponentials);
    all_rows(t, t->block_count, add_up);
    if (!t->whole) each_row(t, lx_i(t->lo, t->p.width), correct_rows);
    mix_block(t);
}

static void one_tile(Tiles *t) {
    Lower *lo = t->lo;
    pack_queries(t);
    lanes(t, start_lane);
    Expr *keys = lx_dim(lo, t->p.n);
    if (t->whole) {
        t->block_first = lx_i(lo, 0);
        t->block_count = keys;
        one_block(t);
    } else {
        each_row(t, lx_i(lo, t->p.width), clear_rows);
        Expr *size = lx_i(lo, t->block), *i = lower_for_dim(lo, dim_ceildiv(lo->cx, t->p.n, dim_const(lo->cx, t->block)));
        t->block_first = lx_mul(lo, i, size);
        t->block_count = tile_rows(lo, t->p.n, t->block, t->block_first);
        one_block(t);
        lower_end(lo);
    }
    lanes(t, invert_lane);
    store_result(t);
}

static void choose_tiles(Tiles *t) {
    Context *cx = t->lo->cx;
    const Target *target = module_target(t->lo->m);
    int64_t queries = dim_is_const(cx, t->p.m) ? dim_value(cx, t->p.m) : OPEN_QUERIES;
    t->score_tile = tile_choose(target, t->p.n, queries, t->p.size, cx);
    int64_t cols = t->score_tile.cols, keys = dim_is_const(cx, t->p.n) ? dim_value(cx, t->p.n) : INT32_MAX;
    t->whole = keys <= WHOLE_FLOATS / cols;
    t->block = t->whole ? keys : BLOCK_FLOATS / cols / t->score_tile.rows * t->score_tile.rows;
    t->mix_tile = tile_of_columns(target, cols, t->p.width, t->block);
}

static uint32_t array(Tiles *t, int64_t rows) {
    Context *cx = t->lo->cx;
    Dim dim[2] = {dim_const(cx, rows), dim_const(cx, t->score_tile.cols)};
    return rows != 0 ? lower_array(t->lo, DT_F32, 2, dim) : lower_array(t->lo, DT_F32, 1, dim + 1);
}

void lower_attention_tiles(Lower *lo, const AttentionParts *p) {
    Context *cx = lo->cx;
    Tiles t = {.lo = lo, .p = *p};
    choose_tiles(&t);
    uint32_t depth = lo->open.n;
    for (uint32_t i = 0; i < t.p.lead; i++) t.p.idx[i] = lower_for_dim(lo, t.p.q.size[i]);
    Expr *tile = lower_for_dim(lo, dim_ceildiv(cx, t.p.m, dim_const(cx, t.score_tile.cols)));
    lo->open.v[depth]->parallel = (uint16_t)(lo->open.n - depth);
    t.first = lx_mul(lo, tile, columns(&t));
    t.count = tile_rows(lo, t.p.m, t.score_tile.cols, t.first);
    t.Q = array(&t, t.p.size);
    t.S = array(&t, t.block);
    t.O = array(&t, t.p.width);
    t.top = array(&t, 0);
    t.sum = array(&t, 0);
    t.shift = array(&t, 0);
    t.correct = t.whole ? 0 : array(&t, 0);
    one_tile(&t);
    lower_end_n(lo, lo->open.n - depth);
}
