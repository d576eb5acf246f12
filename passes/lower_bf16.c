/* Contractions of bfloat16 on tiles of 32 columns (runtime/tile_bf16.h): matrix products with a constant matrix, and
 * channels-last convolutions.
 *
 * Weights are packed at compile time as [group][panel][tap][block of 32 k][half][pair][16][2], so that a half block is one
 * tile register. A tile is up to ROWS_MAX rows of one panel; its results go through the fused epilogue like those of every
 * micro-kernel. Which pixels of a
 * convolution are rows of one tile: passes/lower_window.c. */
#include "ir/small_float.h"
#include "passes/lower/contraction.h"
#include "passes/lower_window.h"
#include "passes/rules.h"

enum { ROWS_MAX = 128, COLUMNS = 32, BLOCK = 32, CACHED_BYTES = 1 << 19 };

/* ---- weights ------------------------------------------------------------------------------------------------------------ */
typedef struct Packing { /* element (group, tap, k, column) of the source: group * by_group + tap * by_tap + k * by_k + column * by_column */
    int64_t groups, taps, k, columns, by_group, by_tap, by_k, by_column;
} Packing;

static int64_t panels_of(const Packing *p) { return (p->columns + COLUMNS - 1) / COLUMNS; }
static int64_t blocks_of(const Packing *p) { return (p->k + BLOCK - 1) / BLOCK; }
static int64_t panel_elements(const Packing *p) { return p->taps * blocks_of(p) * BLOCK * COLUMNS; }

static void pack_block(uint16_t *to, const float *from, const Packing *p, int64_t k0, int64_t column0) {
    for (int64_t k = k0; k < p->k && k < k0 + BLOCK; k++)
        for (int64_t j = 0; j < COLUMNS && column0 + j < p->columns; j++) {
            int64_t at = j / 16 * (BLOCK * 16) + (k - k0) / 2 * 32 + j % 16 * 2 + (k - k0) % 2;
            to[at] = (uint16_t)small_float_encode(DT_BF16, from[k * p->by_k + (column0 + j) * p->by_column], false);
        }
}

static uint32_t pack(Lower *lo, const float *from, const Packing *p) {
    Context *cx = lo->cx;
    int64_t panels = panels_of(p), total = p->groups * panels * panel_elements(p);
    uint16_t *packed = ARENA_ARRAY(&cx->arena, uint16_t, total + 32), *to;
    packed = to = (uint16_t *)(((uintptr_t)packed + 63) & ~(uintptr_t)63);
    for (int64_t g = 0; g < p->groups; g++)
        for (int64_t panel = 0; panel < panels; panel++)
            for (int64_t tap = 0; tap < p->taps; tap++)
                for (int64_t k = 0; k < p->k; k += BLOCK, to += BLOCK * COLUMNS)
                    pack_block(to, from + g * p->by_group + tap * p->by_tap, p, k, panel * COLUMNS);
    Dim dim[3] = {dim_const(cx, p->groups * panels), dim_const(cx, panel_elements(p) / COLUMNS), dim_const(cx, COLUMNS)};
    return lower_weight(lo, type_tensor(cx, DT_BF16, 3, dim), packed);
}

/* ---- tiles ------------------------------------------------------------------------------------------------------------------ */
typedef struct Rows { /* the rows of one tile, inside the loops */
    Expr *panel, *first, *count;
    uint32_t tile;
    int64_t most;
} Rows;

/* What n rows cost: pairs of 16 share their loads of weights, a single 16 or fewer waits for its own; a call, a little. */
static int64_t rows_cost(int64_t n) {
    int64_t rest = n % 32;
    return n / 32 * 8 + (rest > 16 ? 8 : rest > 0 ? 5 : 0) + 1;
}

/* The tile height that splits m rows best. */
static int64_t choose_rows(const Context *cx, Dim m) {
    if (!dim_is_const(cx, m)) return 64;
    int64_t n = dim_value(cx, m), best = ROWS_MAX, best_cost = INT64_MAX;
    for (int64_t r = ROWS_MAX; r >= 32; r--) {
        int64_t cost = n / r * rows_cost(r) + (n % r != 0 ? rows_cost(n % r) : 0);
        if (cost >= best_cost) continue;
        best = r;
        best_cost = cost;
    }
    return best;
}

/* Opens the loops over tiles of m rows and the panels, the larger operand outermost; both are shared by the threads
 * together with the `before` loops that are open already. */
static Rows open_tiles(Lower *lo, Dim m, int64_t panels, int64_t panel_bytes, uint32_t first_loop) {
    Context *cx = lo->cx;
    int64_t most = choose_rows(cx, m);
    Dim rows = dim_const(cx, most), tiles = dim_ceildiv(cx, m, rows);
    bool weights_stay = panels * panel_bytes < CACHED_BYTES;
    Expr *tile = NULL, *panel;
    if (weights_stay) tile = lower_for_dim(lo, tiles);
    panel = lower_for(lo, lx_i(lo, panels));
    if (!weights_stay) tile = lower_for_dim(lo, tiles);
    lo->open.v[first_loop]->parallel = (uint16_t)(lo->open.n - first_loop);
    Rows r = {.panel = panel, .first = lx_mul(lo, tile, lx_i(lo, most)), .most = most};
    r.count = tile_rows(lo, m, most, r.first);
    r.tile = lower_array(lo, DT_F32, 2, (Dim[]){rows, dim_const(cx, COLUMNS)});
    return r;
}

static void call_tile(Lower *lo, const Rows *r, TileCall *c) {
    const Tile tile = {.rows = r->most, .cols = COLUMNS, .vector = 16};
    c->out = r->tile;
    c->rows = r->count;
    c->a_k = c->b_k = lx_i(lo, 1);
    c->bf16 = true;
    tile_emit(lo, &tile, c);
}

/* Stores `count` results of a row of the tile. */
typedef void StoreResult(Lower *lo, const void *user, const Rows *r, Expr *row, int64_t count);

static void store_columns(Lower *lo, const Rows *r, int64_t columns, StoreResult *store, const void *user) {
    int64_t rest = columns % COLUMNS;
    bool both = rest != 0 && columns > COLUMNS;
    if (both) lower_if(lo, lx_2(lo, FN_LT, r->panel, lx_i(lo, columns / COLUMNS)));
    for (int part = rest == 0 || both ? 0 : 1; part < (rest != 0 ? 2 : 1); part++) {
        if (part == 1 && both) lower_else(lo);
        Expr *row = lower_for(lo, r->count);
        store(lo, user, r, row, part == 1 ? rest : COLUMNS);
        lower_end(lo);
    }
    if (both) lower_end(lo);
}

/* ---- matrix products ---------------------------------------------------------------------------------------------------------- */
static void store_product(Lower *lo, const void *user, const Rows *r, Expr *row, int64_t count) {
    const Node *n = user;
    const Type *y = n->out[0]->type;
    Expr *j = lower_for(lo, lx_i(lo, count)), *idx[RANK_MAX], *rest = lx_add(lo, r->first, row);
    for (uint32_t i = y->rank - 1u; i-- > 0;) {
        Expr *size = lx_dim(lo, y->dim[i]), *up = i != 0 ? lx_div(lo, rest, size) : rest;
        idx[i] = i != 0 ? lx_sub(lo, rest, lx_mul(lo, up, size)) : rest;
        rest = up;
    }
    idx[y->rank - 1] = lx_add(lo, lx_mul(lo, r->panel, lx_i(lo, COLUMNS)), j);
    lower_store(lo, n->out[0], idx, lower_load_buf(lo, r->tile, (Expr *[]){row, j}));
    lower_end(lo);
}

static void plain_product(Lower *lo, const Node *n) {
    const Type *y = n->out[0]->type, *x = n->in[0]->type;
    Expr *idx[RANK_MAX], *at[RANK_MAX];
    lower_for_type(lo, y, idx);
    Expr *sum = lower_local(lo, DT_F32, lx_const(lo, DT_F32, 0)), *k = lower_for_dim(lo, x->dim[x->rank - 1]);
    for (uint32_t i = 0; i + 1 < x->rank; i++) at[i] = idx[i];
    at[x->rank - 1] = k;
    lower_accumulate(lo, sum, FN_ADD, lx_mul(lo, lower_load(lo, n->in[0], at), lower_load(lo, n->in[1], (Expr *[]){k, idx[y->rank - 1]})));
    lower_end(lo);
    lower_store(lo, n->out[0], idx, sum);
    lower_end_n(lo, y->rank);
}

bool lower_mixed_matmul(Lower *lo, const Node *n) {
    Context *cx = lo->cx;
    const Type *x = n->in[0]->type, *w = n->in[1]->type;
    if (!contract_wanted(lo, n) || n->in[1]->data == NULL) {
        plain_product(lo, n);
        return true;
    }
    Dim m = dim_const(cx, 1);
    for (uint32_t i = 0; i + 1 < x->rank; i++) m = dim_mul(cx, m, x->dim[i]);
    Packing p = {.groups = 1, .taps = 1, .k = dim_value(cx, w->dim[0]), .columns = dim_value(cx, w->dim[1]), .by_k = dim_value(cx, w->dim[1]), .by_column = 1};
    uint32_t weights = pack(lo, n->in[1]->data->data, &p), depth = lo->open.n, a = lower_buf(lo, n->in[0]);
    Rows r = open_tiles(lo, m, panels_of(&p), panel_elements(&p) * 2, depth);
    TileCall c = {.a = a, .a_at = lx_mul(lo, r.first, lx_i(lo, p.k)), .a_row = lx_i(lo, p.k), .k = lx_i(lo, p.k), .b = weights};
    c.b_at = lx_mul(lo, r.panel, lx_i(lo, panel_elements(&p)));
    call_tile(lo, &r, &c);
    store_columns(lo, &r, p.columns, store_product, n);
    lower_end_n(lo, lo->open.n - depth);
    return true;
}

/* ---- convolutions ---------------------------------------------------------------------------------------------------------------- */
typedef struct Conv {
    const Node *n;
    Packing packing;
    WindowRows rows;
    uint32_t x, bias, weights;
} Conv;

static bool describe(Lower *lo, const Node *n, const ConvGeometry *g, Conv *c) {
    Context *cx = lo->cx;
    uint32_t w;
    *c = (Conv){.n = n};
    conv_operands(n, &c->x, &w, &c->bias);
    if (n->in[c->x]->type->dtype != DT_BF16 || n->in[w]->data == NULL) return false;
    if (!window_rows(lo, g, n->in[c->x], BLOCK, BLOCK / 2, false, &c->rows)) return false;
    int64_t cin = dim_value(cx, g->in_group), cout = dim_value(cx, g->out_group), taps = c->rows.taps * c->rows.k / cin;
    c->packing = (Packing){.groups = g->group, .taps = c->rows.taps, .k = c->rows.k, .columns = cout, .by_group = cout * cin * taps, .by_column = cin * taps};
    return cout >= 8;
}

/* W is [out, in, taps...]. A run's k counts the taps of a line and the channels of each, so it is reordered first. */
static uint32_t pack_weights(Lower *lo, Conv *c) {
    uint32_t x, w, bias;
    conv_operands(c->n, &x, &w, &bias);
    Packing *p = &c->packing;
    int64_t cin = dim_value(lo->cx, c->rows.g->in_group), taps = p->taps * p->k / cin, outs = p->groups * p->columns;
    const float *from = c->n->in[w]->data->data;
    float *ordered = ARENA_ARRAY(&lo->cx->scratch, float, outs * taps * cin);
    for (int64_t o = 0; o < outs; o++)
        for (int64_t i = 0; i < cin; i++)
            for (int64_t t = 0; t < taps; t++) ordered[(o * taps + t) * cin + i] = from[(o * cin + i) * taps + t];
    p->by_tap = p->k;
    p->by_k = 1;
    return pack(lo, ordered, p);
}

static void store_pixel(Lower *lo, const void *user, const Rows *r, Expr *row, int64_t count) {
    const Conv *c = user;
    const ConvGeometry *g = c->rows.g;
    Expr *idx[RANK_MAX];
    bool open = window_index(lo, &c->rows, lx_add(lo, r->first, row), idx);
    Expr *j = lower_for(lo, lx_i(lo, count)), *oc = lx_add(lo, lx_mul(lo, r->panel, lx_i(lo, COLUMNS)), j);
    if (g->group > 1) oc = lx_add(lo, lx_mul(lo, c->rows.group, lx_dim(lo, g->out_group)), oc);
    idx[g->spatial + 1] = oc;
    Expr *sum = lower_load_buf(lo, r->tile, (Expr *[]){row, j});
    if (c->bias < c->n->n_in) sum = lx_add(lo, sum, lower_load(lo, c->n->in[c->bias], &oc));
    lower_store(lo, c->n->out[0], idx, sum);
    lower_end(lo);
    if (open) lower_end(lo);
}

bool lower_conv_bf16(Lower *lo, const Node *n, const ConvGeometry *g) {
    Conv c;
    if (!describe(lo, n, g, &c)) return false;
    c.weights = pack_weights(lo, &c);
    window_image(lo, &c.rows, NULL);
    uint32_t depth = lo->open.n;
    window_open(lo, &c.rows);
    int64_t panels = panels_of(&c.packing), elements = panel_elements(&c.packing);
    Rows r = open_tiles(lo, window_count(lo, &c.rows), panels, elements * 2, depth);
    TileCall call = {.b = c.weights};
    window_operand(lo, &c.rows, r.first, &call);
    call.b_at = lx_mul(lo, lx_add(lo, lx_mul(lo, c.rows.group, lx_i(lo, panels)), r.panel), lx_i(lo, elements));
    call_tile(lo, &r, &call);
    store_columns(lo, &r, c.packing.columns, store_pixel, &c);
    lower_end_n(lo, lo->open.n - depth);
    return true;
}
