/* 3x3 convolutions by minimal filtering F(m x m, 3 x 3) (Winograd 1980; Lavin and Gray 2016): m*m results of a tile need
 * (m+2)^2 products per channel instead of 9*m*m, a saving of 2.25 for m = 2 and 4 for m = 4.
 *
 *     V[k, t, c] = (B' d B)[k]      of the (m+2)^2 input patch d of tile t, channel c         k < (m+2)^2
 *     M[k, t, o] = sum over c of V[k, t, c] * U[k, c, o]     with U = G w G'   plain matrix products
 *     y[tile t, o] = A' M[., t, o] A                         through the fused epilogue
 *
 * U is made at compile time, or by a phase of its own when w is of the run. Three phases with V and M in scratch memory; a large image goes
 * through them in blocks of tiles, so that V and M stay in the second-level cache and take little of the arena. The transforms are written out
 * as expressions over one channel, so their loops run along channels and vectorise.
 *
 * Rounding: against direct summation the largest error is about 5e-7 of the output's range for m = 2 and 1e-5 for m = 4;
 * both stay far below the 1e-4 that full optimisation allows. Whether it pays is estimated from operations and from the
 * bytes of U, which has (m+2)^2/9 times the size of w and is read once per run. */
#include "passes/lower_conv.h"

#include "lathe.h"
#include "passes/lower/contraction.h"
#include "passes/tile.h"

enum { MOST = 6, ROWS_IN_PIECE = 48 };
/* V and M of a block take so many bytes; where U is too long to stay in the cache from block to block, a block is
 * LEAST_TILES tiles, or as many as do not enlarge the arena, but SOME_TILES. */
enum { BLOCK_BYTES = 384 << 10, CACHED_WEIGHTS = 1 << 20, LEAST_TILES = 96, SOME_TILES = 20 };

typedef struct Filter { /* the matrices of F(m, 3): B' is a x a, G a x 3, A' m x a; a = m + 2 */
    int m, a;
    double bt[MOST][MOST], g[MOST][3], at[4][MOST];
} Filter;

static const Filter filters[] = {
    {2, 4,
     {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}},
     {{1, 0, 0}, {.5, .5, .5}, {.5, -.5, .5}, {0, 0, 1}},
     {{1, 1, 1, 0}, {0, 1, -1, -1}}},
    {4, 6,
     {{4, 0, -5, 0, 1, 0}, {0, -4, -4, 1, 1, 0}, {0, 4, -4, -1, 1, 0}, {0, -2, -1, 2, 1, 0}, {0, 2, -1, -2, 1, 0}, {0, 4, 0, -5, 0, 1}},
     {{.25, 0, 0}, {-1. / 6, -1. / 6, -1. / 6}, {-1. / 6, 1. / 6, -1. / 6}, {1. / 24, 1. / 12, 1. / 6}, {1. / 24, -1. / 12, 1. / 6}, {0, 0, 1}},
     {{1, 1, 1, 1, 1, 0}, {0, 1, -1, 2, -2, 0}, {0, 1, 1, 4, 4, 0}, {0, 1, -1, 8, -8, 1}}},
};

typedef struct Winograd {
    const Node *n;
    const ConvGeometry *g;
    const Filter *f;
    Tile tile;
    uint32_t x, w, bias, weights, v, m;
    int64_t cin, cout, panels, taps;
    Dim ty, tx, tiles;      /* tiles of an image in y and x; of the batch */
    Dim block;              /* tiles of a block; `tiles` when one block is all */
    Expr *first, *count;    /* in the loop over blocks: its first tile, and how many it has */
    bool turned;            /* w of a transposed convolution: [c][o], from its last tap to its first */
} Winograd;

/* ---- cost ------------------------------------------------------------------------------------------------------------ */
/* Estimated time in units of one vector multiply-add, weights read from memory at 3 bytes per unit. */
static double direct_cost(const Lower *lo, double pixels, double cin, double cout, bool constant) {
    double lanes = module_target(lo->m)->vector_bits / 32;
    return pixels * cin * cout * 9 / lanes + cin * cout * 9 * (constant ? 4.0 / 3 : 1.25);
}

static double filter_cost(const Lower *lo, const Filter *f, double tiles, double cin, double cout, bool constant) {
    double lanes = module_target(lo->m)->vector_bits / 32, a2 = f->a * f->a;
    double products = tiles * cin * cout * a2 / lanes;
    double transforms = tiles * (cin + cout) * a2 * 8 / lanes;
    double weights = constant ? cin * cout * a2 * 4 / 3 : cin * cout * (a2 * 4 / 16 + 9 + a2 * 3 / lanes); /* they are in the cache then */
    return products + transforms + weights + a2 * 200;
}

static int64_t size_of(const Context *cx, Dim d) { return dim_is_const(cx, d) ? dim_value(cx, d) : dim_lo(cx, d) > 16 ? dim_lo(cx, d) : 16; }

static const Filter *best_filter(const Lower *lo, const ConvGeometry *g, int64_t cin, int64_t cout, bool constant) {
    const Context *cx = lo->cx;
    int64_t n = size_of(cx, g->batch), h = size_of(cx, g->out[0]), w = size_of(cx, g->out[1]);
    double best = 0.9 * direct_cost(lo, (double)(n * h * w), (double)cin, (double)cout, constant);
    const Filter *found = NULL;
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        int64_t m = filters[i].m, tiles = n * ((h + m - 1) / m) * ((w + m - 1) / m);
        double cost = filter_cost(lo, &filters[i], (double)tiles, (double)cin, (double)cout, constant);
        if (cost >= best) continue;
        best = cost * 0.95; /* the larger tile must earn its rounding error */
        found = &filters[i];
    }
    return found;
}

/* ---- transforms as expressions ------------------------------------------------------------------------------------------ */
static Expr *weighted_sum(Lower *lo, const double *factor, Expr *const *x, int n, int step) {
    Expr *sum = NULL;
    for (int i = 0; i < n; i++) {
        double c = factor[i];
        if (c == 0) continue;
        Expr *e = x[i * step];
        if (sum == NULL) sum = c == 1 ? e : c == -1 ? lx_1(lo, FN_NEG, e) : lx_mul(lo, e, lx_const(lo, DT_F32, c));
        else if (c == 1) sum = lx_add(lo, sum, e);
        else if (c == -1) sum = lx_sub(lo, sum, e);
        else sum = lx_add(lo, sum, lx_mul(lo, e, lx_const(lo, DT_F32, c)));
    }
    return sum;
}

/* out (rows x rows) = matrix in matrix', in: n x n; the matrix's rows are `width` entries apart. */
static void transform(Lower *lo, const double *matrix, int width, int rows, int n, Expr *const *in, Expr **out) {
    Expr *half[MOST * MOST];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < n; j++) half[i * n + j] = weighted_sum(lo, matrix + i * width, in + j, n, n);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < rows; j++) out[i * rows + j] = weighted_sum(lo, matrix + j * width, half + i * n, n, 1);
}

/* ---- weights ----------------------------------------------------------------------------------------------------------- */
/* Weights of the run: a phase transforms them. */
static void transform_line(Lower *lo, const Winograd *w, uint32_t to, Expr *panel, Expr *c, int64_t cols) {
    const Filter *f = w->f;
    Expr *j = lower_for(lo, lx_i(lo, cols)), *k[9], *u[MOST * MOST];
    Expr *o = lx_add(lo, lx_mul(lo, panel, lx_i(lo, w->tile.cols)), j);
    for (int t = 0; t < 9; t++) {
        int from = w->turned ? 8 - t : t;
        k[t] = lower_load(lo, w->n->in[w->w], (Expr *[]){w->turned ? c : o, w->turned ? o : c, lx_i(lo, from / 3), lx_i(lo, from % 3)});
    }
    transform(lo, f->g[0], 3, f->a, 3, k, u);
    for (int i = 0; i < f->a * f->a; i++) lower_store_buf(lo, to, (Expr *[]){lx_i(lo, i), panel, c, j}, FN_NONE, u[i]);
    lower_end(lo);
    if (cols == w->tile.cols) return;
    j = lx_add(lo, lower_for(lo, lx_i(lo, w->tile.cols - cols)), lx_i(lo, cols));
    for (int i = 0; i < f->a * f->a; i++) lower_store_buf(lo, to, (Expr *[]){lx_i(lo, i), panel, c, j}, FN_NONE, lx_const(lo, DT_F32, 0));
    lower_end(lo);
}

static uint32_t transform_at_run_time(Lower *lo, const Winograd *w) {
    Context *cx = lo->cx;
    int64_t nr = w->tile.cols;
    Dim dim[4] = {dim_const(cx, w->taps), dim_const(cx, w->panels), dim_const(cx, w->cin), dim_const(cx, nr)};
    uint32_t to = lower_buf(lo, lower_scratch(lo, type_tensor(cx, DT_F32, 4, dim))), depth = lo->open.n;
    Expr *p = lower_for(lo, lx_i(lo, w->panels)), *c = lower_for(lo, lx_i(lo, w->cin));
    lo->open.v[depth]->parallel = 2;
    for (TileColumns t = tile_columns(lo, p, w->cout, nr); t.count != 0; tile_columns_next(lo, &t)) transform_line(lo, w, to, p, c, t.count);
    lower_end_n(lo, lo->open.n - depth);
    return to;
}

typedef struct FilterPacking { int64_t filter, cin, cout, panels, nr, turned; } FilterPacking; /* filter: index in filters */

static void transform_filters(void *to, const ConstRecipe *r) {
    const FilterPacking *w = r->parameters;
    const Filter *f = &filters[w->filter];
    int64_t nr = w->nr, plane = w->panels * w->cin * nr;
    const float *from = r->source[0]->data->data;
    for (int64_t o = 0; o < w->cout; o++) {
        for (int64_t c = 0; c < w->cin; c++) {
            const float *k = from + (w->turned ? c * w->cout + o : o * w->cin + c) * 9;
            double half[MOST][3] = {{0}};
            for (int i = 0; i < f->a; i++)
                for (int j = 0; j < 3; j++)
                    for (int t = 0; t < 3; t++) half[i][j] += f->g[i][t] * (double)k[w->turned ? 8 - 3 * t - j : 3 * t + j];
            float *u = (float *)to + ((o / nr) * w->cin + c) * nr + o % nr;
            for (int i = 0; i < f->a; i++)
                for (int j = 0; j < f->a; j++) u[(i * f->a + j) * plane] = (float)(half[i][0] * f->g[j][0] + half[i][1] * f->g[j][1] + half[i][2] * f->g[j][2]);
        }
    }
}

static uint32_t transform_weights(Lower *lo, const Winograd *w) {
    Context *cx = lo->cx;
    if (w->n->in[w->w]->data == NULL) return transform_at_run_time(lo, w);
    FilterPacking packing = {.filter = w->f - filters, .cin = w->cin, .cout = w->cout, .panels = w->panels, .nr = w->tile.cols, .turned = w->turned};
    ConstRecipe recipe = {.make = transform_filters, .parameters = &packing, .parameter_bytes = sizeof packing, .source = {w->n->in[w->w]}};
    Dim dim[4] = {dim_const(cx, w->taps), dim_const(cx, w->panels), dim_const(cx, w->cin), dim_const(cx, w->tile.cols)};
    return lower_made_weight(lo, type_tensor(cx, DT_F32, 4, dim), &recipe);
}

/* ---- the phases ----------------------------------------------------------------------------------------------------------- */
typedef struct Spot { Expr *n, *y, *x, *t; uint32_t loops; } Spot; /* a tile: image, position, number in its block */

static bool in_blocks(const Winograd *w) { return w->block != w->tiles; }

static Spot open_tiles(Lower *lo, const Winograd *w) {
    Spot s = {.loops = 3};
    if (in_blocks(w)) {
        Expr *idx[3];
        s.t = lower_for(lo, w->count);
        lower_split_index(lo, lx_add(lo, w->first, s.t), 3, (Dim[]){w->g->batch, w->ty, w->tx}, idx);
        return (Spot){.n = idx[0], .y = idx[1], .x = idx[2], .t = s.t, .loops = 1};
    }
    s.n = lower_for_dim(lo, w->g->batch);
    s.y = lower_for_dim(lo, w->ty);
    s.x = lower_for_dim(lo, w->tx);
    s.t = lx_add(lo, lx_mul(lo, lx_add(lo, lx_mul(lo, s.n, lx_dim(lo, w->ty)), s.y), lx_dim(lo, w->tx)), s.x);
    return s;
}

static void input_channels(Lower *lo, const Winograd *w, const Spot *s, Expr *y0, Expr *x0, bool border) {
    const ConvGeometry *g = w->g;
    int a = w->f->a;
    Expr *c = lower_for(lo, lx_i(lo, w->cin)), *d[MOST * MOST] = {0}, *v[MOST * MOST], *zero = lx_const(lo, DT_F32, 0);
    for (int i = 0; i < a; i++) {
        for (int j = 0; j < a; j++) {
            Expr *y = lx_add(lo, y0, lx_i(lo, i)), *x = lx_add(lo, x0, lx_i(lo, j));
            Expr *h = lx_dim(lo, g->in[0]), *wide = lx_dim(lo, g->in[1]), *none = lx_i(lo, 0), *one = lx_i(lo, 1);
            if (!border) {
                d[i * a + j] = lower_load(lo, w->n->in[w->x], (Expr *[]){s->n, y, x, c});
                continue;
            }
            Expr *inside = lx_2(lo, FN_AND, lx_2(lo, FN_AND, lx_2(lo, FN_GE, y, none), lx_2(lo, FN_LT, y, h)), lx_2(lo, FN_AND, lx_2(lo, FN_GE, x, none), lx_2(lo, FN_LT, x, wide)));
            Expr *cy = lx_2(lo, FN_MAX, lx_2(lo, FN_MIN, y, lx_sub(lo, h, one)), none), *cx_ = lx_2(lo, FN_MAX, lx_2(lo, FN_MIN, x, lx_sub(lo, wide, one)), none);
            d[i * a + j] = lx_select(lo, inside, lower_load(lo, w->n->in[w->x], (Expr *[]){s->n, cy, cx_, c}), zero);
        }
    }
    transform(lo, w->f->bt[0], MOST, a, a, d, v);
    for (int k = 0; k < a * a; k++) lower_store_buf(lo, w->v, (Expr *[]){lx_i(lo, k), s->t, c}, FN_NONE, v[k]);
    lower_end(lo);
}

static void input_phase(Lower *lo, const Winograd *w) {
    const ConvGeometry *g = w->g;
    uint32_t depth = lo->open.n;
    Spot s = open_tiles(lo, w);
    lo->open.v[depth]->parallel = (uint16_t)s.loops;
    Expr *m = lx_i(lo, w->f->m), *a = lx_i(lo, w->f->a), *none = lx_i(lo, 0);
    Expr *y0 = lx_sub(lo, lx_mul(lo, s.y, m), lx_dim(lo, g->begin[0])), *x0 = lx_sub(lo, lx_mul(lo, s.x, m), lx_dim(lo, g->begin[1]));
    Expr *inner_y = lx_2(lo, FN_AND, lx_2(lo, FN_GE, y0, none), lx_2(lo, FN_LE, lx_add(lo, y0, a), lx_dim(lo, g->in[0])));
    Expr *inner_x = lx_2(lo, FN_AND, lx_2(lo, FN_GE, x0, none), lx_2(lo, FN_LE, lx_add(lo, x0, a), lx_dim(lo, g->in[1])));
    lower_if(lo, lx_2(lo, FN_AND, inner_y, inner_x));
    input_channels(lo, w, &s, y0, x0, false);
    lower_else(lo);
    input_channels(lo, w, &s, y0, x0, true);
    lower_end(lo);
    lower_end_n(lo, lo->open.n - depth);
}

static void product_phase(Lower *lo, const Winograd *w) {
    Context *cx = lo->cx;
    uint32_t depth = lo->open.n;
    int64_t per_piece = ROWS_IN_PIECE / w->tile.rows, nr = w->tile.cols;
    Dim steps = dim_ceildiv(cx, w->block, dim_const(cx, w->tile.rows)), pieces = dim_ceildiv(cx, steps, dim_const(cx, per_piece));
    Expr *k = lower_for(lo, lx_i(lo, w->taps)), *p = lower_for(lo, lx_i(lo, w->panels)), *piece = lower_for_dim(lo, pieces);
    lo->open.v[depth]->parallel = 3;
    Expr *first = lx_mul(lo, piece, lx_i(lo, per_piece));
    Expr *i = lower_for(lo, lx_2(lo, FN_MIN, lx_i(lo, per_piece), lx_sub(lo, lx_dim(lo, steps), first)));
    Expr *t0 = lx_mul(lo, lx_add(lo, first, i), lx_i(lo, w->tile.rows)), *tiles = lx_dim(lo, w->block);
    Expr *rows = tile_rows(lo, w->block, w->tile.rows, t0);
    if (in_blocks(w)) rows = lx_2(lo, FN_MAX, lx_2(lo, FN_MIN, rows, lx_sub(lo, w->count, t0)), lx_i(lo, 0)); /* the last block is shorter */
    Expr *kp = lx_add(lo, lx_mul(lo, k, lx_i(lo, w->panels)), p);
    TileCall call = {
        .out = w->m, .out_at = lx_mul(lo, lx_add(lo, lx_mul(lo, kp, tiles), t0), lx_i(lo, nr)), .rows = rows,
        .a = w->v, .a_at = lx_mul(lo, lx_add(lo, lx_mul(lo, k, tiles), t0), lx_i(lo, w->cin)), .a_row = lx_i(lo, w->cin), .a_k = lx_i(lo, 1),
        .k = lx_i(lo, w->cin), .b = w->weights, .b_at = lx_mul(lo, kp, lx_i(lo, w->cin * nr)), .b_k = lx_i(lo, nr)};
    tile_fetch_ahead(lo, &w->tile, kp, w->taps * w->panels, w->cin, w->cin, lx_add(lo, first, i), steps, &call);
    tile_emit(lo, &w->tile, &call);
    lower_end_n(lo, lo->open.n - depth);
}

/* Results of a tile for `cols` channels; only pixel (only_i, only_j) unless that is negative. */
static void output_channels(Lower *lo, const Winograd *w, const Spot *s, Expr *p, int64_t cols, int only_i, int only_j) {
    const Filter *f = w->f;
    int a = f->a;
    Expr *j = lower_for(lo, lx_i(lo, cols)), *in[MOST * MOST], *out[16];
    for (int k = 0; k < a * a; k++) in[k] = lower_load_buf(lo, w->m, (Expr *[]){lx_i(lo, k), p, s->t, j});
    Expr *oc = lx_add(lo, lx_mul(lo, p, lx_i(lo, w->tile.cols)), j);
    Expr *bias = w->bias < w->n->n_in ? lower_load(lo, w->n->in[w->bias], &oc) : NULL;
    transform(lo, f->at[0], MOST, f->m, a, in, out);
    for (int y = 0; y < f->m; y++) {
        for (int x = 0; x < f->m; x++) {
            if (only_i >= 0 && (y != only_i || x != only_j)) continue;
            Expr *idx[4] = {s->n, lx_add(lo, lx_mul(lo, s->y, lx_i(lo, f->m)), lx_i(lo, y)), lx_add(lo, lx_mul(lo, s->x, lx_i(lo, f->m)), lx_i(lo, x)), oc};
            Expr *e = out[y * f->m + x];
            lower_store(lo, w->n->out[0], idx, bias != NULL ? lx_add(lo, e, bias) : e);
        }
    }
    lower_end(lo);
}

static void output_tile(Lower *lo, const Winograd *w, const Spot *s, Expr *p, int64_t cols) {
    Context *cx = lo->cx;
    const ConvGeometry *g = w->g;
    int m = w->f->m;
    Dim size = dim_const(cx, m);
    bool whole = dim_mod(cx, g->out[0], size) == dim_const(cx, 0) && dim_mod(cx, g->out[1], size) == dim_const(cx, 0);
    Expr *y0 = lx_mul(lo, s->y, lx_i(lo, m)), *x0 = lx_mul(lo, s->x, lx_i(lo, m)), *h = lx_dim(lo, g->out[0]), *wide = lx_dim(lo, g->out[1]);
    if (!whole) lower_if(lo, lx_2(lo, FN_AND, lx_2(lo, FN_LE, lx_add(lo, y0, lx_i(lo, m)), h), lx_2(lo, FN_LE, lx_add(lo, x0, lx_i(lo, m)), wide)));
    output_channels(lo, w, s, p, cols, -1, -1);
    if (whole) return;
    lower_else(lo);
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < m; j++) {
            lower_if(lo, lx_2(lo, FN_AND, lx_2(lo, FN_LT, lx_add(lo, y0, lx_i(lo, i)), h), lx_2(lo, FN_LT, lx_add(lo, x0, lx_i(lo, j)), wide)));
            output_channels(lo, w, s, p, cols, i, j);
            lower_end(lo);
        }
    }
    lower_end(lo);
}

static void output_phase(Lower *lo, const Winograd *w) {
    uint32_t depth = lo->open.n;
    Spot s = open_tiles(lo, w);
    Expr *p = lower_for(lo, lx_i(lo, w->panels));
    lo->open.v[depth]->parallel = (uint16_t)(s.loops + 1);
    for (TileColumns c = tile_columns(lo, p, w->cout, w->tile.cols); c.count != 0; tile_columns_next(lo, &c)) output_tile(lo, w, &s, p, c.count);
    lower_end_n(lo, lo->open.n - depth);
}

/* Sets w->tile, panels and block: as many tiles as BLOCK_BYTES, or an eighth of a limit of memory, hold, blocks of about equal size. */
static void choose_block(Lower *lo, Winograd *w) {
    Context *cx = lo->cx;
    w->block = w->tiles;
    w->tile = tile_choose(module_target(lo->m), w->tiles, w->cout, w->cin, cx);
    w->panels = (w->cout + w->tile.cols - 1) / w->tile.cols;
    uint64_t limit = lo->m->options->memory / 8;
    int64_t budget = limit == 0 || limit > BLOCK_BYTES ? BLOCK_BYTES : (int64_t)limit;
    int64_t columns = w->panels * w->tile.cols, rows = w->tile.rows, most = budget / (w->taps * (w->cin + columns) * 4), all = dim_hi(cx, w->tiles);
    if (limit == 0 && w->taps * w->cin * columns * 4 > CACHED_WEIGHTS && most < LEAST_TILES) {
        uint64_t fits = lo->m->scratch_room / (uint64_t)(w->taps * (w->cin + columns) * 4);
        most = fits >= LEAST_TILES ? LEAST_TILES : fits > SOME_TILES ? (int64_t)fits : SOME_TILES;
    }
    most = most > rows ? most / rows * rows : rows;
    if (all <= most) return;
    int64_t blocks = all / most + (all % most != 0), even = all / blocks + (all % blocks != 0);
    w->block = dim_const(cx, (even + rows - 1) / rows * rows);
}

bool winograd_fits(const Lower *lo, const ConvGeometry *g) {
    const Context *cx = lo->cx;
    if (g->spatial != 2 || g->group != 1 || lo->m->options->opt_level < 2) return false;
    for (uint32_t i = 0; i < 2; i++)
        if (g->stride[i] != 1 || g->dilation[i] != 1 || dim_value(cx, g->kernel[i]) != 3 || dim_lo(cx, g->in[i]) < 1) return false;
    return dim_value(cx, g->in_channels) >= 8 && dim_value(cx, g->out_channels) >= 8;
}

bool lower_winograd(Lower *lo, const Node *n, const ConvGeometry *g, bool turned, Choice choice) {
    Context *cx = lo->cx;
    if (!winograd_fits(lo, g) || choice == CHOICE_DIRECT) return false;
    Winograd w = {.n = n, .g = g, .cin = dim_value(cx, g->in_channels), .cout = dim_value(cx, g->out_channels), .turned = turned};
    conv_operands(n, &w.x, &w.w, &w.bias);
    if (choice == CHOICE_WINOGRAD_2) w.f = &filters[0];
    else if (choice == CHOICE_WINOGRAD_4) w.f = &filters[1];
    else w.f = best_filter(lo, g, w.cin, w.cout, n->in[w.w]->data != NULL);
    if (w.f == NULL) return false;
    Dim m = dim_const(cx, w.f->m);
    w.ty = dim_ceildiv(cx, g->out[0], m);
    w.tx = dim_ceildiv(cx, g->out[1], m);
    w.tiles = dim_mul(cx, g->batch, dim_mul(cx, w.ty, w.tx));
    w.taps = w.f->a * w.f->a;
    choose_block(lo, &w);
    w.weights = transform_weights(lo, &w);
    Dim v[3] = {dim_const(cx, w.taps), w.block, dim_const(cx, w.cin)};
    Dim p[4] = {dim_const(cx, w.taps), dim_const(cx, w.panels), w.block, dim_const(cx, w.tile.cols)};
    w.v = lower_buf(lo, lower_scratch(lo, type_tensor(cx, DT_F32, 3, v)));
    w.m = lower_buf(lo, lower_scratch(lo, type_tensor(cx, DT_F32, 4, p)));
    uint32_t depth = lo->open.n;
    if (in_blocks(&w)) {
        w.first = lx_mul(lo, lower_for_dim(lo, dim_ceildiv(cx, w.tiles, w.block)), lx_dim(lo, w.block));
        lo->open.v[depth]->phases = true;
        w.count = lx_2(lo, FN_MIN, lx_dim(lo, w.block), lx_sub(lo, lx_dim(lo, w.tiles), w.first));
    }
    input_phase(lo, &w);
    product_phase(lo, &w);
    output_phase(lo, &w);
    lower_end_n(lo, lo->open.n - depth);
    return true;
}
