/* The cost model of register tiles. With NV vectors of B per row of C, a step of k takes the longest of
 *
 *     rows * NV / 2           multiply-adds, two per cycle
 *     (rows + NV) / 2         loads of B and broadcasts of A, two per cycle
 *     2 * NV                  B from the second-level cache at about half a vector per cycle, if a panel does not fit the first
 *     4                       the latency of a multiply-add: each accumulator waits for its last one
 *
 * cycles; rows * NV accumulators, NV vectors of B and a broadcast must fit the register file. */
#include "passes/tile.h"

enum { L1_BYTES = 32768, MAX_ROWS = 14, FEW_ROWS = 3 };

static int64_t max_rows(const Target *t, int64_t nv) {
    int64_t r = (t->registers - 1 - nv) / nv;
    if (t->registers >= 32 && nv == 4) r = 6; /* 7x4 leaves no register for addresses' broadcasts: compilers spill */
    return r < MAX_ROWS ? r : MAX_ROWS;
}

static double step_cycles(int64_t rows, int64_t nv, bool from_l2) {
    double fma = (double)(rows * nv) / 2, load = (double)(rows + nv) / 2, l2 = from_l2 ? 2.0 * (double)nv : 0;
    double longest = fma > load ? fma : load;
    if (longest < 4) longest = 4;
    return longest > l2 ? longest : l2;
}

static double tile_cost(int64_t rows, int64_t nv, int64_t vector, int64_t m, int64_t n, int64_t k) {
    int64_t panels = (n + nv * vector - 1) / (nv * vector), full = m / rows, rest = m % rows;
    bool l2 = nv * vector * k * 4 > L1_BYTES;
    double steps = (double)full * step_cycles(rows, nv, l2) + (rest != 0 ? step_cycles(rest, nv, l2) : 0);
    double start = 20.0 * (double)(full + (rest != 0)); /* call, addresses, first loads */
    return (double)panels * (steps * (double)k + start + 1.5 * (double)(m * nv));
}

static Tile choose(const Target *t, Dim m, int64_t n, int64_t k, Context *cx, bool dividing) {
    int64_t vector = t->vector_bits / 32, rows_of = dim_is_const(cx, m) ? dim_value(cx, m) : 64 * 60;
    if (rows_of < 1) rows_of = 1;
    Tile best = {0};
    double best_cost = 0;
    for (int64_t nv = rows_of <= FEW_ROWS ? 8 : 4; nv >= 1; nv--) { /* with few rows, wide tiles give enough accumulators */
        if (dividing && n % (nv * vector) != 0) continue;
        int64_t most = max_rows(t, nv);
        for (int64_t rows = most; rows >= 1; rows--) {
            double cost = tile_cost(rows, nv, vector, rows_of, n, k);
            if (best.cols != 0 && cost >= best_cost * 0.995) continue;
            best = (Tile){rows, nv * vector, vector};
            best_cost = cost;
        }
    }
    return best;
}

Tile tile_choose(const Target *t, Dim m, int64_t n, int64_t k, Context *cx) { return choose(t, m, n, k, cx, false); }
Tile tile_choose_dividing(const Target *t, Dim m, int64_t n, int64_t k, Context *cx) { return choose(t, m, n, k, cx, true); }

Tile tile_of_columns(const Target *t, int64_t cols, int64_t m, int64_t k) {
    int64_t vector = t->vector_bits / 32, nv = cols / vector, most = max_rows(t, nv);
    Tile best = {1, cols, vector};
    for (int64_t rows = most; rows > 1; rows--)
        if (best.rows == 1 || tile_cost(rows, nv, vector, m, cols, k) < tile_cost(best.rows, nv, vector, m, cols, k)) best.rows = rows;
    return best;
}

double tile_time(const Tile *tile, int64_t m, int64_t n, int64_t k) { return tile_cost(tile->rows, tile->cols / tile->vector, tile->vector, m, n, k); }

enum { PIECE_CYCLES = 3000, PIECE_ROWS = 96 };

int64_t tile_block(const Tile *tile, int64_t k) {
    double cycles = step_cycles(tile->rows, tile->cols / tile->vector, false) * (double)k;
    int64_t enough = 1 + (int64_t)((double)PIECE_CYCLES / cycles), most = PIECE_ROWS / tile->rows;
    return enough < most ? enough : most > 1 ? most : 1;
}

void *tile_storage(Context *cx, int64_t bytes) {
    char *p = arena_alloc(&cx->arena, (size_t)bytes + 64);
    return (void *)(((uintptr_t)p + 63) & ~(uintptr_t)63);
}

void tile_pack(float *to, const float *from, int64_t k, int64_t n, int64_t row, int64_t col, int64_t nr) {
    for (int64_t p = 0; p * nr < n; p++) {
        int64_t have = n - p * nr < nr ? n - p * nr : nr;
        for (int64_t i = 0; i < k; i++, to += nr) {
            const float *line = from + i * row + p * nr * col;
            for (int64_t j = 0; j < have; j++) to[j] = line[j * col];
            for (int64_t j = have; j < nr; j++) to[j] = 0;
        }
    }
}

void tile_pack_line(Lower *lo, uint32_t to, Expr **idx, uint32_t at, Expr *panel, int64_t n, int64_t nr, TileElement *element, void *user) {
    int64_t full = n / nr, rest = n % nr;
    bool both = rest != 0 && full != 0;
    if (both) lower_if(lo, lx_2(lo, FN_LT, panel, lx_i(lo, full)));
    for (int tail = full == 0; tail <= (rest != 0); tail++) {
        if (tail && both) lower_else(lo);
        int64_t have = tail ? rest : nr;
        Expr *j = idx[at] = lower_for(lo, lx_i(lo, have));
        lower_store_buf(lo, to, idx, FN_NONE, element(lo, user, lx_add(lo, lx_mul(lo, panel, lx_i(lo, nr)), j)));
        lower_end(lo);
        if (have == nr) continue;
        idx[at] = lx_add(lo, lower_for(lo, lx_i(lo, nr - have)), lx_i(lo, have));
        lower_store_buf(lo, to, idx, FN_NONE, lx_const(lo, DT_F32, 0));
        lower_end(lo);
    }
    if (both) lower_end(lo);
}

Expr *tile_rows(Lower *lo, Dim m, int64_t rows, Expr *m0) {
    Context *cx = lo->cx;
    if (dim_mod(cx, m, dim_const(cx, rows)) == dim_const(cx, 0)) return lx_i(lo, rows);
    return lx_2(lo, FN_MIN, lx_i(lo, rows), lx_sub(lo, lx_dim(lo, m), m0));
}

enum { KEPT_BYTES = 1 << 17, PANEL_MOST_BYTES = 1 << 20, LINE = 16 /* floats of a cache line */, STREAM_COLUMNS = 64 };

void tile_fetch_ahead(Lower *lo, const Tile *tile, Expr *panel, int64_t n_panel, int64_t k, int64_t call_k, Expr *t, Dim tiles, TileCall *call) {
    int64_t per_panel = k * tile->cols;
    if (call_k == k && tiles == dim_const(lo->cx, 1) && n_panel * per_panel * 4 >= KEPT_BYTES && tile->cols >= STREAM_COLUMNS) {
        call->stream = true;
        return;
    }
    if (n_panel < 2 || n_panel * per_panel * 4 < KEPT_BYTES || per_panel * 4 > PANEL_MOST_BYTES || tile->cols % LINE != 0) return;
    Expr *next = lx_2(lo, FN_MIN, lx_add(lo, panel, lx_i(lo, 1)), lx_i(lo, n_panel - 1)), *from;
    call->pace = LINE;
    if (dim_is_const(lo->cx, tiles)) {
        int64_t n = dim_value(lo->cx, tiles), share = n > 0 ? (per_panel / LINE + n - 1) / n * LINE : per_panel;
        while (call->pace > 2 && call_k * (call->pace / 2) >= share) call->pace /= 2;
        from = lx_2(lo, FN_MIN, lx_mul(lo, t, lx_i(lo, share)), lx_i(lo, per_panel - call_k * call->pace));
    } else {
        from = lx_mul(lo, lx_2(lo, FN_MOD, t, lx_i(lo, tile->cols / LINE)), lx_i(lo, call_k * LINE));
    }
    call->ahead = lx_add(lo, lx_mul(lo, next, lx_i(lo, per_panel)), from);
}

TileColumns tile_columns(Lower *lo, Expr *panel, int64_t columns, int64_t width) {
    TileColumns c = {.rest = columns % width};
    c.two = c.rest != 0 && columns > width;
    c.count = c.rest == 0 || c.two ? width : c.rest;
    if (c.two) lower_if(lo, lx_2(lo, FN_LT, panel, lx_i(lo, columns / width)));
    return c;
}

void tile_columns_next(Lower *lo, TileColumns *c) {
    bool last = !c->two || c->count == c->rest;
    if (c->two && !last) lower_else(lo);
    else if (c->two) lower_end(lo);
    c->count = last ? 0 : c->rest;
}

void tile_emit(Lower *lo, const Tile *t, const TileCall *c) {
    Contract *k = ARENA_NEW(&lo->cx->arena, Contract);
    *k = (Contract){.kind = c->i8 ? CONTRACT_TILE_I8 : c->bf16 ? CONTRACT_TILE_BF16 : CONTRACT_TILE, .rows = (uint8_t)t->rows, .cols = (uint8_t)t->cols, .vector = (uint8_t)t->vector, .add = c->add, .ahead = c->ahead != NULL ? (uint8_t)c->pace : 0, .stream = c->stream};
    CallArg *arg = ARENA_ARRAY(&lo->cx->arena, CallArg, TILE_FINISH_ARGS);
    Expr *one = lx_i(lo, 1), *zero = lx_i(lo, 0);
    arg[TILE_OUT] = arg_buf(c->out);
    arg[TILE_OUT_AT] = arg_expr(c->out_at != NULL ? c->out_at : zero);
    arg[TILE_ROWS] = arg_expr(c->rows);
    arg[TILE_A] = arg_buf(c->a);
    arg[TILE_A_AT] = arg_expr(c->a_at);
    arg[TILE_A_ROW] = arg_expr(c->a_row);
    arg[TILE_A_K] = arg_expr(c->a_k);
    arg[TILE_N1] = arg_expr(c->n1 != NULL ? c->n1 : one);
    arg[TILE_A_1] = arg_expr(c->n1 != NULL ? c->a_1 : zero);
    arg[TILE_N2] = arg_expr(c->n2 != NULL ? c->n2 : one);
    arg[TILE_A_2] = arg_expr(c->n2 != NULL ? c->a_2 : zero);
    arg[TILE_K] = arg_expr(c->k);
    arg[TILE_B] = arg_buf(c->b);
    arg[TILE_B_AT] = arg_expr(c->b_at);
    Expr *line = lx_mul(lo, c->k, c->b_k);
    arg[TILE_B_1] = arg_expr(c->n1 == NULL ? zero : c->b_1 != NULL ? c->b_1 : lx_mul(lo, line, c->n2 != NULL ? c->n2 : one));
    arg[TILE_B_2] = arg_expr(c->n2 == NULL ? zero : c->b_2 != NULL ? c->b_2 : line);
    arg[TILE_B_K] = arg_expr(c->b_k);
    arg[TILE_AHEAD] = arg_expr(c->ahead != NULL ? c->ahead : zero);
    arg[TILE_A_END] = arg_expr(c->a_end != NULL ? c->a_end : zero);
    const TileFinish *f = c->finish;
    if (f != NULL) {
        k->finish = true;
        k->low = f->low != NULL;
        k->high = f->high != NULL;
        arg[TILE_OUT_ROW] = arg_expr(f->row);
        arg[TILE_BIAS] = arg_buf(f->bias);
        arg[TILE_BIAS_AT] = arg_expr(f->at);
        arg[TILE_LOW] = arg_expr(f->low != NULL ? f->low : lx_const(lo, DT_F32, 0));
        arg[TILE_HIGH] = arg_expr(f->high != NULL ? f->high : lx_const(lo, DT_F32, 0));
    }
    lower_emit(lo, (Stmt){.kind = S_CONTRACT, .contract = k, .arg = arg, .n_arg = f != NULL ? TILE_FINISH_ARGS : TILE_ARGS});
}

/* ---- tiles of many rows ---------------------------------------------------------------------------------------------- */
enum { STAYING_BYTES = 1 << 19 };

/* What n rows cost: sets of 32, and a call, a little. */
static int64_t rows_cost(int64_t n, int64_t lone) {
    int64_t rest = n % 32;
    return n / 32 * 8 + (rest > 16 ? 8 : rest > 0 ? lone : 0) + 1;
}

int64_t tile_height(const Context *cx, Dim m, int64_t most, int64_t lone) {
    if (!dim_is_const(cx, m)) return 64;
    int64_t n = dim_value(cx, m), best = most, best_cost = INT64_MAX;
    if (n <= most) return n > 0 ? n : 1;
    for (int64_t r = most; r >= 32; r--) {
        int64_t cost = n / r * rows_cost(r, lone) + (n % r != 0 ? rows_cost(n % r, lone) : 0);
        if (cost >= best_cost) continue;
        best = r;
        best_cost = cost;
    }
    return best;
}

TileRows tile_rows_open(Lower *lo, Dim m, int64_t most, int64_t panels, int64_t panel_bytes, int64_t cols, DType sum, uint32_t first_loop) {
    Context *cx = lo->cx;
    Dim rows = dim_const(cx, most), tiles = dim_ceildiv(cx, m, rows);
    bool weights_stay = panels * panel_bytes < STAYING_BYTES;
    Expr *tile = NULL, *panel;
    if (weights_stay) tile = lower_for_dim(lo, tiles);
    panel = lower_for(lo, lx_i(lo, panels));
    if (!weights_stay) tile = lower_for_dim(lo, tiles);
    lo->open.v[first_loop]->parallel = (uint16_t)(lo->open.n - first_loop);
    TileRows r = {.panel = panel, .first = lx_mul(lo, tile, lx_i(lo, most)), .most = most, .cols = cols};
    r.count = tile_rows(lo, m, most, r.first);
    r.tile = lower_array(lo, sum, 2, (Dim[]){rows, dim_const(cx, cols)});
    return r;
}

void tile_rows_call(Lower *lo, const TileRows *r, TileCall *c) {
    const Tile tile = {.rows = r->most, .cols = r->cols, .vector = 16};
    c->out = r->tile;
    c->rows = r->count;
    c->a_k = c->b_k = lx_i(lo, 1);
    tile_emit(lo, &tile, c);
}
