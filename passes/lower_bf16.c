/* Contractions of bfloat16 on tiles of 32 columns (runtime/tile_bf16.h): matrix products with a constant matrix, and
 * channels-last convolutions.
 *
 * Weights are packed at compile time as [group][panel][tap][block of 32 k][half][pair][16][2], so that a half block is one
 * tile register. A tile is up to ROWS_MAX rows of one panel; its results go through the fused epilogue like those of every
 * micro-kernel. The rows of a convolution of stride 1 are the pixels of the whole padded image, line after line: those in
 * the border between two lines are computed and thrown away, which costs less than short tiles at the end of each line.
 * With a stride, or with few channels, the windows are written out first, one row of K values padded to whole blocks
 * per result pixel; then every pixel of the batch is a row. */
#include "ir/small_float.h"
#include "passes/lower/contraction.h"
#include "passes/lower_conv.h"
#include "passes/rules.h"
#include "passes/tile.h"

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
    const ConvGeometry *g;
    Packing packing;
    Image image;
    uint32_t x, bias, weights;
    bool flat, merged;     /* rows are: every pixel of the batch; every pixel of the padded plane; else the pixels of a line */
    bool windows;          /* flat, over windows that are written out */
    uint32_t lines;        /* spatial dimensions with a loop of their own */
    Expr *n_at, *group, *at[RANK_MAX];
} Conv;

static bool is_zero(const Context *cx, Dim d) { return dim_is_const(cx, d) && dim_value(cx, d) == 0; }

static bool describe(Lower *lo, const Node *n, const ConvGeometry *g, Conv *c) {
    Context *cx = lo->cx;
    uint32_t w, r = g->spatial;
    *c = (Conv){.n = n, .g = g};
    conv_operands(n, &c->x, &w, &c->bias);
    if (!g->channels_last || g->transposed || n->in[c->x]->type->dtype != DT_BF16 || n->in[w]->data == NULL || r > 3) return false;
    if (!dim_is_const(cx, g->in_channels)) return false;
    int64_t cin = dim_value(cx, g->in_group), cout = dim_value(cx, g->out_group), taps = 1, kx = dim_value(cx, g->kernel[r - 1]);
    if (cin == 0 || cout < 8) return false;
    bool stride_one = true;
    c->flat = g->group == 1;
    for (uint32_t i = 0; i < r; i++) {
        int64_t k = dim_value(cx, g->kernel[i]);
        taps *= k;
        stride_one &= g->stride[i] == 1;
        c->flat &= k == 1 && g->stride[i] == 1 && is_zero(cx, g->begin[i]) && is_zero(cx, g->end[i]);
    }
    c->windows = !c->flat && g->group == 1 && (!stride_one || cin < BLOCK / 2);
    if (c->windows) c->flat = true;
    bool run = g->group == 1 && (g->dilation[r - 1] == 1 || kx == 1); /* a line of the window is contiguous */
    int64_t taps_of_run = kx;
    uint32_t loops = 0;
    for (uint32_t i = 0; i < r && !c->windows; i++) loops += dim_value(cx, g->kernel[i]) > 1 && !(run && i + 1 == r);
    if (loops > 2) return false;
    c->merged = !c->flat && stride_one && r >= 2;
    c->lines = c->flat ? 0 : c->merged ? r - 2 : r - 1;
    if (c->windows) run = true, taps_of_run = taps;
    c->packing = (Packing){.groups = g->group, .taps = run ? taps / taps_of_run : taps, .k = run ? taps_of_run * cin : cin, .columns = cout, .by_group = cout * cin * taps, .by_column = cin * taps};
    return taps > 0;
}

/* Is position `at` of spatial dimension i inside the image? NULL: always. */
static Expr *is_inside(Lower *lo, const ConvGeometry *g, uint32_t i, Expr *at, Dim size) {
    if (is_zero(lo->cx, g->begin[i]) && is_zero(lo->cx, g->end[i])) return NULL;
    return lx_2(lo, FN_AND, lx_2(lo, FN_GE, at, lx_i(lo, 0)), lx_2(lo, FN_LT, at, lx_dim(lo, size)));
}

static Expr *both(Lower *lo, Expr *a, Expr *b) { return a == NULL ? b : b == NULL ? a : lx_2(lo, FN_AND, a, b); }

/* Stores `from`, or zero when not `inside`. */
static void store_window(Lower *lo, uint32_t buf, Expr **to, Expr *inside, Expr *from) {
    if (inside != NULL) lower_if(lo, inside);
    lower_store_buf(lo, buf, to, FN_NONE, from);
    if (inside == NULL) return;
    lower_else(lo);
    lower_store_buf(lo, buf, to, FN_NONE, lx_const(lo, DT_F32, 0));
    lower_end(lo);
}

/* One window: for each tap of all dimensions but the last, the line of the window as one run. */
static void write_window(Lower *lo, const Conv *c, const Value *x, uint32_t buf, Expr *const *pixel, Expr **to, uint32_t k_at) {
    Context *cx = lo->cx;
    const ConvGeometry *g = c->g;
    uint32_t r = g->spatial, depth = lo->open.n;
    bool run = g->dilation[r - 1] == 1;
    Expr *from[RANK_MAX], *inside = NULL, *at = lx_i(lo, 0);
    from[0] = pixel[0];
    for (uint32_t i = 0; i < (run ? r - 1 : r); i++) {
        Expr *tap = lower_for_dim(lo, g->kernel[i]);
        at = lx_add(lo, lx_mul(lo, at, lx_dim(lo, g->kernel[i])), tap);
        from[1 + i] = lx_sub(lo, lx_add(lo, lx_mul(lo, pixel[1 + i], lx_i(lo, g->stride[i])), lx_mul(lo, tap, lx_i(lo, g->dilation[i]))), lx_dim(lo, g->begin[i]));
        inside = both(lo, inside, is_inside(lo, g, i, from[1 + i], g->in[i]));
    }
    if (run) { /* the last dimension and the channels as one */
        Dim dim[RANK_MAX], width = dim_mul(cx, g->in[r - 1], g->in_channels);
        for (uint32_t i = 0; i < r; i++) dim[i] = x->type->dim[i];
        dim[r] = width;
        uint32_t lines = lower_view(lo, x, r + 1, dim);
        Dim length = dim_mul(cx, g->kernel[r - 1], g->in_channels);
        Expr *start = lx_mul(lo, lx_sub(lo, lx_mul(lo, pixel[r], lx_i(lo, g->stride[r - 1])), lx_dim(lo, g->begin[r - 1])), lx_dim(lo, g->in_channels));
        Expr *e = lower_for_dim(lo, length);
        from[r] = lx_add(lo, start, e);
        to[k_at] = lx_add(lo, lx_mul(lo, at, lx_dim(lo, length)), e);
        store_window(lo, buf, to, both(lo, inside, is_inside(lo, g, r - 1, from[r], width)), lower_load_buf(lo, lines, from));
    } else {
        from[r + 1] = lower_for_dim(lo, g->in_channels);
        to[k_at] = lx_add(lo, lx_mul(lo, at, lx_dim(lo, g->in_channels)), from[r + 1]);
        store_window(lo, buf, to, inside, lower_load(lo, x, from));
    }
    lower_end_n(lo, lo->open.n - depth);
}

/* A phase that writes the windows: a row of taps times channels for every result pixel, zeros outside of the image. */
static Image written_windows(Lower *lo, const Conv *c, const Value *x) {
    Context *cx = lo->cx;
    const ConvGeometry *g = c->g;
    uint32_t r = g->spatial, depth = lo->open.n;
    int64_t k = c->packing.k, padded = blocks_of(&c->packing) * BLOCK;
    Image im = {.channels = dim_const(cx, padded)};
    Dim dim[RANK_MAX] = {g->batch};
    for (uint32_t i = 0; i < r; i++) im.size[i] = dim[1 + i] = g->out[i];
    dim[r + 1] = im.channels;
    im.buf = lower_buf(lo, lower_scratch(lo, type_tensor(cx, DT_BF16, r + 2, dim)));
    Expr *to[RANK_MAX];
    for (uint32_t i = 0; i <= r; i++) to[i] = lower_for_dim(lo, dim[i]);
    lo->open.v[depth]->parallel = (uint16_t)(lo->open.n - depth);
    write_window(lo, c, x, im.buf, to, to, r + 1);
    if (padded != k) {
        to[r + 1] = lx_add(lo, lower_for(lo, lx_i(lo, padded - k)), lx_i(lo, k));
        lower_store_buf(lo, im.buf, to, FN_NONE, lx_const(lo, DT_F32, 0));
        lower_end(lo);
    }
    lower_end_n(lo, lo->open.n - depth);
    return im;
}

/* W is [out, in, taps...]. A run's k counts the taps of a line and the channels of each, so it is reordered first. */
static uint32_t pack_weights(Lower *lo, Conv *c) {
    uint32_t x, w, bias;
    conv_operands(c->n, &x, &w, &bias);
    Packing *p = &c->packing;
    int64_t cin = dim_value(lo->cx, c->g->in_group), taps = p->taps * p->k / cin, outs = p->groups * p->columns;
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
    const ConvGeometry *g = c->g;
    uint32_t rank = g->spatial;
    Expr *idx[RANK_MAX], *pixel = lx_add(lo, r->first, row);
    idx[0] = c->n_at;
    for (uint32_t i = 0; i < c->lines; i++) idx[1 + i] = c->at[i];
    if (c->flat) {
        for (uint32_t i = rank; i >= 1; i--) {
            Expr *size = lx_dim(lo, g->out[i - 1]), *up = lx_div(lo, pixel, size);
            idx[i] = lx_sub(lo, pixel, lx_mul(lo, up, size));
            pixel = up;
        }
        idx[0] = pixel;
    } else if (c->merged) {
        Expr *width = lx_dim(lo, c->image.size[rank - 1]);
        idx[rank - 1] = lx_div(lo, pixel, width);
        idx[rank] = lx_sub(lo, pixel, lx_mul(lo, idx[rank - 1], width));
        lower_if(lo, lx_2(lo, FN_LT, idx[rank], lx_dim(lo, g->out[rank - 1])));
    } else {
        idx[rank] = pixel;
    }
    Expr *j = lower_for(lo, lx_i(lo, count)), *oc = lx_add(lo, lx_mul(lo, r->panel, lx_i(lo, COLUMNS)), j);
    if (g->group > 1) oc = lx_add(lo, lx_mul(lo, c->group, lx_dim(lo, g->out_group)), oc);
    idx[rank + 1] = oc;
    Expr *sum = lower_load_buf(lo, r->tile, (Expr *[]){row, j});
    if (c->bias < c->n->n_in) sum = lx_add(lo, sum, lower_load(lo, c->n->in[c->bias], &oc));
    lower_store(lo, c->n->out[0], idx, sum);
    lower_end(lo);
    if (c->merged) lower_end(lo);
}

/* How many rows there are inside the open loops. */
static Dim row_count(Lower *lo, const Conv *c) {
    Context *cx = lo->cx;
    const ConvGeometry *g = c->g;
    uint32_t r = g->spatial;
    if (c->flat) {
        Dim m = g->batch;
        for (uint32_t i = 0; i < r; i++) m = dim_mul(cx, m, g->out[i]);
        return m;
    }
    if (!c->merged) return g->out[r - 1];
    return dim_add(cx, dim_mul(cx, dim_sub(cx, g->out[r - 2], dim_const(cx, 1)), c->image.size[r - 1]), g->out[r - 1]);
}

/* Elements from one row to the next. */
static Expr *row_step(Lower *lo, const Conv *c) {
    return lx_dim(lo, dim_mul(lo->cx, c->image.channels, dim_const(lo->cx, c->flat ? 1 : c->g->stride[c->g->spatial - 1])));
}

/* Where the window of the tile's first row begins. */
static Expr *window_start(Lower *lo, const Conv *c, const Rows *r) {
    Context *cx = lo->cx;
    const ConvGeometry *g = c->g;
    Expr *at = lx_mul(lo, r->first, row_step(lo, c));
    if (c->flat) return at;
    Dim plane = dim_mul(cx, image_step(cx, g, &c->image, 0), c->image.size[0]);
    at = lx_add(lo, at, lx_mul(lo, c->n_at, lx_dim(lo, plane)));
    for (uint32_t i = 0; i < c->lines; i++)
        at = lx_add(lo, at, lx_mul(lo, c->at[i], lx_dim(lo, dim_mul(cx, image_step(cx, g, &c->image, i), dim_const(cx, g->stride[i])))));
    if (g->group > 1) at = lx_add(lo, at, lx_mul(lo, c->group, lx_dim(lo, g->in_group)));
    return at;
}

/* The two outer loops of the micro-kernel: dimensions of the window that are not part of its run. */
static void window_loops(Lower *lo, const Conv *c, TileCall *call) {
    Context *cx = lo->cx;
    const ConvGeometry *g = c->g;
    Expr *count[3], *step[3];
    uint32_t n = 0, rank = g->spatial;
    bool run = c->packing.taps == 1 || c->packing.k != dim_value(cx, g->in_group) || dim_value(cx, g->kernel[rank - 1]) == 1;
    for (uint32_t i = 0; i < rank; i++) {
        if (dim_value(cx, g->kernel[i]) == 1 || (run && i + 1 == rank)) continue;
        CHECK(cx, n < 2);
        count[n] = lx_dim(lo, g->kernel[i]);
        step[n++] = lx_dim(lo, dim_mul(cx, image_step(cx, g, &c->image, i), dim_const(cx, g->dilation[i])));
    }
    if (n > 0) call->n2 = count[n - 1], call->a_2 = step[n - 1];
    if (n > 1) call->n1 = count[0], call->a_1 = step[0];
}

bool lower_conv_bf16(Lower *lo, const Node *n, const ConvGeometry *g) {
    Conv c;
    if (!describe(lo, n, g, &c)) return false;
    c.weights = pack_weights(lo, &c);
    c.image = c.windows ? written_windows(lo, &c, n->in[c.x]) : conv_image(lo, n->in[c.x], g, g->in_channels, false);
    uint32_t depth = lo->open.n;
    if (c.flat) {
        c.n_at = c.group = lx_i(lo, 0);
    } else {
        c.n_at = lower_for_dim(lo, g->batch);
        c.group = lower_for(lo, lx_i(lo, g->group));
        for (uint32_t i = 0; i < c.lines; i++) c.at[i] = lower_for_dim(lo, g->out[i]);
    }
    int64_t panels = panels_of(&c.packing), elements = panel_elements(&c.packing);
    Rows r = open_tiles(lo, row_count(lo, &c), panels, elements * 2, depth);
    TileCall call = {.a = c.image.buf, .a_at = window_start(lo, &c, &r), .k = c.windows ? lx_dim(lo, c.image.channels) : lx_i(lo, c.packing.k), .b = c.weights};
    call.a_row = row_step(lo, &c);
    call.b_at = lx_mul(lo, lx_add(lo, lx_mul(lo, c.group, lx_i(lo, panels)), r.panel), lx_i(lo, elements));
    if (!c.windows) window_loops(lo, &c, &call);
    call_tile(lo, &r, &call);
    store_columns(lo, &r, c.packing.columns, store_pixel, &c);
    lower_end_n(lo, lo->open.n - depth);
    return true;
}
