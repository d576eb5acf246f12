/* Contractions of bfloat16 on tiles of 32 columns (runtime/tile_bf16.h): matrix products with a constant matrix, and
 * channels-last convolutions.
 *
 * Weights are packed at compile time as [group][panel][tap][block of 32 k][half][pair][16][2], so that a half block is one
 * tile register. A tile is up to ROWS_MAX rows of one panel; its results go through the fused epilogue like those of every
 * micro-kernel. Which pixels of a convolution are rows of one tile: passes/lower_window.c. */
#include "ir/small_float.h"
#include "passes/lower/contraction.h"
#include "passes/lower_window.h"
#include "passes/rules.h"

enum { ROWS_MAX = 128, COLUMNS = 32, BLOCK = 32, LONE_ROWS = 5, LONG_LINE = 24 }; /* pixels that fill a tile well enough */

/* ---- weights ------------------------------------------------------------------------------------------------------------ */
typedef struct Packing { /* k counts the taps of a run and the channels of each: element (group, run, tap, channel, column) of the source is
                            group * by_group + (run * (taps of a run) + tap) * by_tap + channel * by_channel + column * by_column */
    int64_t groups, taps, k, columns, channels, by_group, by_tap, by_channel, by_column;
} Packing;

static int64_t panels_of(const Packing *p) { return (p->columns + COLUMNS - 1) / COLUMNS; }
static int64_t blocks_of(const Packing *p) { return (p->k + BLOCK - 1) / BLOCK; }
static int64_t panel_elements(const Packing *p) { return p->taps * blocks_of(p) * BLOCK * COLUMNS; }

static void pack_block(uint16_t *to, const float *from, const Packing *p, int64_t run, int64_t k0, int64_t column0) {
    for (int64_t k = k0; k < p->k && k < k0 + BLOCK; k++) {
        const float *line = from + (run * (p->k / p->channels) + k / p->channels) * p->by_tap + k % p->channels * p->by_channel + column0 * p->by_column;
        for (int64_t j = 0; j < COLUMNS && column0 + j < p->columns; j++) {
            int64_t at = j / 16 * (BLOCK * 16) + (k - k0) / 2 * 32 + j % 16 * 2 + (k - k0) % 2;
            to[at] = (uint16_t)small_float_encode(DT_BF16, line[j * p->by_column], false);
        }
    }
}

static void pack_blocks(void *packed, const ConstRecipe *r) {
    const Packing *p = r->parameters;
    const float *from = r->source[0]->data->data;
    uint16_t *to = packed;
    for (int64_t g = 0; g < p->groups; g++)
        for (int64_t panel = 0; panel < panels_of(p); panel++)
            for (int64_t tap = 0; tap < p->taps; tap++)
                for (int64_t k = 0; k < p->k; k += BLOCK, to += BLOCK * COLUMNS) pack_block(to, from + g * p->by_group, p, tap, k, panel * COLUMNS);
}

static uint32_t pack(Lower *lo, const Value *from, const Packing *p) {
    Context *cx = lo->cx;
    ConstRecipe recipe = {.make = pack_blocks, .parameters = p, .parameter_bytes = sizeof *p, .source = {from}};
    Dim dim[3] = {dim_const(cx, p->groups * panels_of(p)), dim_const(cx, panel_elements(p) / COLUMNS), dim_const(cx, COLUMNS)};
    return lower_made_weight(lo, type_tensor(cx, DT_BF16, 3, dim), &recipe);
}

static TileRows open_tiles(Lower *lo, Dim m, const Packing *p, uint32_t first_loop) {
    return tile_rows_open(lo, m, tile_height(lo->cx, m, ROWS_MAX, LONE_ROWS), panels_of(p), panel_elements(p) * 2, COLUMNS, DT_F32, first_loop);
}

/* ---- matrix products ---------------------------------------------------------------------------------------------------------- */
static void store_product(Lower *lo, const Node *n, const TileRows *r, int64_t count) {
    const Type *y = n->out[0]->type;
    Expr *row = lower_for(lo, r->count), *j = lower_for(lo, lx_i(lo, count)), *idx[RANK_MAX];
    lower_split_index(lo, lx_add(lo, r->first, row), y->rank - 1u, y->dim, idx);
    idx[y->rank - 1] = lx_add(lo, lx_mul(lo, r->panel, lx_i(lo, COLUMNS)), j);
    lower_store(lo, n->out[0], idx, lower_load_buf(lo, r->tile, (Expr *[]){row, j}));
    lower_end_n(lo, 2);
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
    int64_t rows = dim_value(cx, w->dim[0]), columns = dim_value(cx, w->dim[1]);
    Packing p = {.groups = 1, .taps = 1, .k = rows, .columns = columns, .channels = rows > 0 ? rows : 1, .by_channel = columns, .by_column = 1};
    uint32_t weights = pack(lo, n->in[1], &p), depth = lo->open.n, a = lower_buf(lo, n->in[0]);
    TileRows r = open_tiles(lo, type_rows(cx, x), &p, depth);
    TileCall c = {.bf16 = true, .a = a, .a_at = lx_mul(lo, r.first, lx_i(lo, p.k)), .a_row = lx_i(lo, p.k), .k = lx_i(lo, p.k), .b = weights};
    c.b_at = lx_mul(lo, r.panel, lx_i(lo, panel_elements(&p)));
    tile_rows_call(lo, &r, &c);
    for (TileColumns t = tile_columns(lo, r.panel, p.columns, COLUMNS); t.count != 0; tile_columns_next(lo, &t)) store_product(lo, n, &r, t.count);
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
    if (!window_rows(lo, g, n->in[c->x], BLOCK, 1, false, LONG_LINE, &c->rows) && /* a kernel of three dimensions with dilation: written out */
        !window_rows(lo, g, n->in[c->x], BLOCK, BLOCK / 2, false, INT64_MAX, &c->rows))
        return false;
    int64_t cin = dim_value(cx, g->in_group), cout = dim_value(cx, g->out_group), taps = c->rows.taps * c->rows.k / cin;
    c->packing = (Packing){.groups = g->group, .taps = c->rows.taps, .k = c->rows.k, .columns = cout, .channels = cin,
                            .by_group = cout * cin * taps, .by_tap = 1, .by_channel = taps, .by_column = cin * taps};
    return cout >= 8;
}

static uint32_t pack_weights(Lower *lo, const Conv *c) { /* W is [out, in, taps...] */
    uint32_t x, w, bias;
    conv_operands(c->n, &x, &w, &bias);
    return pack(lo, c->n->in[w], &c->packing);
}

static void store_pixels(Lower *lo, const Conv *c, const TileRows *r, int64_t count) {
    const ConvGeometry *g = c->rows.g;
    Expr *row = lower_for(lo, r->count), *idx[RANK_MAX];
    bool open = window_index(lo, &c->rows, lx_add(lo, r->first, row), idx);
    Expr *j = lower_for(lo, lx_i(lo, count)), *oc = lx_add(lo, lx_mul(lo, r->panel, lx_i(lo, COLUMNS)), j);
    if (g->group > 1) oc = lx_add(lo, lx_mul(lo, c->rows.group, lx_dim(lo, g->out_group)), oc);
    idx[g->spatial + 1] = oc;
    Expr *sum = lower_load_buf(lo, r->tile, (Expr *[]){row, j});
    if (c->bias < c->n->n_in) sum = lx_add(lo, sum, lower_load(lo, c->n->in[c->bias], &oc));
    lower_store(lo, c->n->out[0], idx, sum);
    lower_end_n(lo, open ? 3 : 2);
}

bool lower_conv_bf16(Lower *lo, const Node *n, const ConvGeometry *g) {
    Conv c;
    if (!describe(lo, n, g, &c)) return false;
    c.weights = pack_weights(lo, &c);
    window_image(lo, &c.rows, NULL);
    uint32_t depth = lo->open.n;
    window_open(lo, &c.rows);
    TileRows r = open_tiles(lo, window_count(lo, &c.rows), &c.packing, depth);
    TileCall call = {.bf16 = true, .b = c.weights};
    window_operand(lo, &c.rows, r.first, &call);
    Expr *panel = lx_add(lo, lx_mul(lo, c.rows.group, lx_i(lo, panels_of(&c.packing))), r.panel);
    call.b_at = lx_mul(lo, panel, lx_i(lo, panel_elements(&c.packing)));
    tile_rows_call(lo, &r, &call);
    for (TileColumns t = tile_columns(lo, r.panel, c.packing.columns, COLUMNS); t.count != 0; tile_columns_next(lo, &t)) store_pixels(lo, &c, &r, t.count);
    lower_end_n(lo, lo->open.n - depth);
    return true;
}
