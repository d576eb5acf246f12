/* Integer contractions on the micro-kernel of runtime/tile_i8.h: matrix products with a constant matrix, and channels-last
 * convolutions.
 *
 *     sum over k of (x - zx) * (w - zw)  =  sum x*w  -  zx * sum w  -  zw * sum (x - zx)
 *
 * The micro-kernel sums x*w. Weights are s8: u8 ones are moved by 128 together with their zero point. What depends on
 * constants only, the bias and zx * sum w, is where the sums start, packed behind each panel. A zero point zx of the run
 * is multiplied with the sums of the columns as results are stored. Where zw is not zero, a phase of its own
 * sums the rows, as a product with a panel of ones. All of it is exact in 32 bits, which wrap around as they do in ONNX. */
#include "passes/lower_integer.h"

#include "passes/lower/contraction.h"
#include "passes/lower_window.h"
#include "passes/rules.h"

enum { ROWS_MAX = 64, LONE_ROWS = 6, BLOCK = 64, QUARTER = 16, FEW_CHANNELS = 8, LONG_LINE = 24 };

typedef struct Packing { /* element (group, column, tap, channel) of w: group * by_group + column * by_column + tap * by_tap + channel * by_channel */
    int64_t is_unsigned, groups, columns, channels, by_group, by_column, by_tap, by_channel;
    int64_t taps, k;          /* runs of the micro-kernel, and their length */
    int64_t quarters, panels; /* a panel: 16 * quarters columns */
    int64_t zero_x;           /* as it is folded into the bias; 0: it is not */
} Packing;

typedef struct Integers {
    const Node *n;
    const Value *zero_x, *zero_w, *bias;
    Packing packing;
    int64_t window;           /* elements of a whole row: taps * k, without padding */
    bool zero_folded, bias_folded, row_sums;
    uint32_t weights, sums, zeros, rows; /* buffers: packed; per output channel; per row */
    WindowRows *conv;         /* NULL: a matrix product */
} Integers;

int64_t integer_zero(const Value *zero, int64_t j) {
    if (zero == NULL) return 0;
    bool one = zero->data->bytes == 1;
    return const_i64(zero, one ? 0 : j);
}

static bool is_byte(DType t) { return t == DT_U8 || t == DT_I8; }
static const Value *input(const Node *n, uint32_t i) { return i < n->n_in ? n->in[i] : NULL; }

static bool is_scalar(Lower *lo, const Value *v) {
    Dim n = type_numel(lo->cx, v->type);
    return dim_is_const(lo->cx, n) && dim_value(lo->cx, n) == 1;
}

/* Zero points and bias: which of them the compiler knows. */
static bool describe(Lower *lo, const Node *n, Integers *p) {
    const Value *x = n->in[0], *w = n->in[1];
    *p = (Integers){.n = n, .zero_x = input(n, 2), .zero_w = input(n, 3), .bias = input(n, 4)};
    if (!is_byte(x->type->dtype) || !is_byte(w->type->dtype) || w->data == NULL) return false;
    if (p->zero_x != NULL && !is_scalar(lo, p->zero_x)) return false;
    if (p->zero_w != NULL && (p->zero_w->data == NULL || p->zero_w->type->rank > 1)) return false;
    p->zero_folded = p->zero_x == NULL || p->zero_x->data != NULL;
    p->bias_folded = p->bias == NULL || p->bias->data != NULL;
    p->packing.is_unsigned = w->type->dtype == DT_U8;
    return true;
}

/* The zero point of an output channel's weights, as they are packed. */
static int64_t packed_zero(const Integers *p, int64_t channel) {
    int64_t zero = integer_zero(p->zero_w, channel);
    return p->packing.is_unsigned ? zero - 128 : zero;
}

/* Are zero points and bias of the size of the channels, or the zero point one for all? */
static bool sizes_fit(const Integers *p) {
    size_t channels = (size_t)(p->packing.groups * p->packing.columns);
    if (p->zero_w != NULL && p->zero_w->data->bytes != 1 && p->zero_w->data->bytes != channels) return false;
    return p->bias == NULL || p->bias->data == NULL || p->bias->data->bytes == channels * 4;
}

static bool has_row_sums(const Integers *p) {
    for (int64_t j = 0; j < p->packing.groups * p->packing.columns; j++)
        if (packed_zero(p, j) != 0) return true;
    return false;
}

/* ---- weights ------------------------------------------------------------------------------------------------------------ */
/* Panels of 64 columns feed the micro-kernels best, unless too many of them would be padding. */
static int64_t choose_quarters(int64_t columns) {
    static const double cost[5] = {0, 1.5, 1.1, 1.1, 1};
    int64_t best = 4;
    double least = 1e30;
    for (int64_t q = 4; q >= 1; q--) {
        double c = (double)((columns + QUARTER * q - 1) / (QUARTER * q) * q) * cost[q];
        if (c >= least) continue;
        least = c;
        best = q;
    }
    return best;
}

static int64_t panel_bytes(const Packing *p, int64_t quarters) { return (p->taps * ((p->k + BLOCK - 1) / BLOCK) * 1024 + 128) * quarters; }

/* Where element k of tap t and column j of a panel stands. */
static int64_t packed_at(const Packing *p, int64_t quarters, int64_t t, int64_t k, int64_t j) {
    int64_t block = t * ((p->k + BLOCK - 1) / BLOCK) + k / BLOCK;
    return (block * quarters + j / QUARTER) * 1024 + k % BLOCK / 4 * 64 + j % QUARTER * 4 + k % 4;
}

/* The weights of a channel, as they are packed: puts column j of a panel there unless it is NULL, and returns their sum. */
static int32_t pack_column(const Packing *p, const Value *w, int64_t channel, int8_t *panel, int64_t j) {
    const uint8_t *from = (const uint8_t *)w->data->data + channel / p->columns * p->by_group + channel % p->columns * p->by_column;
    int64_t per_tap = p->k / p->channels, sum = 0;
    for (int64_t t = 0; t < p->taps; t++)
        for (int64_t k = 0; k < p->k; k++) {
            uint8_t byte = from[(t * per_tap + k / p->channels) * p->by_tap + k % p->channels * p->by_channel];
            int8_t x = p->is_unsigned ? (int8_t)(byte - 128) : (int8_t)byte;
            sum += x;
            if (panel != NULL) panel[packed_at(p, p->quarters, t, k, j)] = x;
        }
    return (int32_t)sum;
}

/* source: w; the bias, if it is folded */
static void pack_panels(void *to, const ConstRecipe *r) {
    const Packing *p = r->parameters;
    const Value *bias = r->source[1];
    int64_t bytes = panel_bytes(p, p->quarters), cols = p->quarters * QUARTER;
    for (int64_t c = 0; c < p->groups * p->columns; c++) {
        int64_t g = c / p->columns, j = c % p->columns;
        int8_t *panel = (int8_t *)to + (g * p->panels + j / cols) * bytes;
        int32_t sum = pack_column(p, r->source[0], c, panel, j % cols);
        uint32_t start = (bias != NULL ? (uint32_t)const_i64(bias, c) : 0) - (uint32_t)(int32_t)p->zero_x * (uint32_t)sum;
        memcpy(panel + bytes - 2 * cols * 4 + j % cols * 4, &start, 4);
        memcpy(panel + bytes - cols * 4 + j % cols * 4, &sum, 4);
    }
}

static uint32_t vector_i32(Lower *lo, int64_t n, const int32_t *data) {
    Dim dim = dim_const(lo->cx, n);
    return lower_weight(lo, type_tensor(lo->cx, DT_I32, 1, &dim), data);
}

static void pack(Lower *lo, Integers *p) {
    Context *cx = lo->cx;
    Packing *w = &p->packing;
    int64_t channels = w->groups * w->columns;
    w->zero_x = p->zero_folded ? integer_zero(p->zero_x, 0) : 0;
    ConstRecipe recipe = {.make = pack_panels, .parameters = w, .parameter_bytes = sizeof *w, .source = {p->n->in[1], p->bias_folded ? p->bias : NULL}};
    Dim dim[2] = {dim_const(cx, w->groups * w->panels), dim_const(cx, panel_bytes(w, w->quarters))};
    p->weights = lower_made_weight(lo, type_tensor(cx, DT_I8, 2, dim), &recipe);
    if (!p->zero_folded) {
        int32_t *sums = ARENA_ARRAY(&cx->arena, int32_t, channels);
        for (int64_t c = 0; c < channels; c++) sums[c] = pack_column(w, p->n->in[1], c, NULL, 0);
        p->sums = vector_i32(lo, channels, sums);
    }
    if (p->row_sums) {
        int32_t *zeros = ARENA_ARRAY(&cx->arena, int32_t, channels);
        for (int64_t c = 0; c < channels; c++) zeros[c] = (int32_t)packed_zero(p, c);
        p->zeros = vector_i32(lo, channels, zeros);
    }
}

/* ---- tiles ------------------------------------------------------------------------------------------------------------------ */
static TileRows open_tiles(Lower *lo, Dim m, int64_t panels, int64_t bytes, int64_t cols, uint32_t first_loop) {
    return tile_rows_open(lo, m, tile_height(lo->cx, m, ROWS_MAX, LONE_ROWS), panels, bytes, cols, DT_I32, first_loop);
}

/* Operand A of the tile at row `first`: a plain matrix, or the windows of a convolution. */
static void operand(Lower *lo, const Integers *p, Expr *first, TileCall *c) {
    if (p->conv != NULL) {
        window_operand(lo, p->conv, first, c);
        Dim n = dim_mul(lo->cx, p->conv->g->batch, p->conv->image.channels);
        for (uint32_t i = 0; i < p->conv->g->spatial; i++) n = dim_mul(lo->cx, n, p->conv->image.size[i]);
        c->a_end = lx_dim(lo, n);
    } else {
        c->a = lower_buf(lo, p->n->in[0]);
        c->a_row = c->k = lx_i(lo, p->packing.k);
        c->a_at = lx_mul(lo, first, c->a_row);
        c->a_end = lx_dim(lo, type_numel(lo->cx, p->n->in[0]->type));
    }
}

/* ---- sums of rows ------------------------------------------------------------------------------------------------------------ */
/* A phase that stores the sum of (x - zx) of every row: a product with one column of ones. */
static void sum_rows(Lower *lo, Integers *p, Dim m) {
    Context *cx = lo->cx;
    int64_t bytes = panel_bytes(&p->packing, 1);
    int8_t *ones = tile_storage(cx, bytes);
    for (int64_t t = 0; t < p->packing.taps; t++)
        for (int64_t k = 0; k < p->packing.k; k++) ones[packed_at(&p->packing, 1, t, k, 0)] = 1;
    int32_t sum = (int32_t)(p->packing.taps * p->packing.k), start = p->zero_folded ? (int32_t)-(integer_zero(p->zero_x, 0) * sum) : 0;
    memcpy(ones + bytes - 2 * QUARTER * 4, &start, 4);
    memcpy(ones + bytes - QUARTER * 4, &sum, 4);
    p->rows = lower_buf(lo, lower_scratch(lo, type_tensor(cx, DT_I32, 1, &m)));
    Dim dim[2] = {dim_const(cx, 1), dim_const(cx, bytes)};
    uint32_t weights = lower_weight(lo, type_tensor(cx, DT_I8, 2, dim), ones), depth = lo->open.n;
    TileRows r = open_tiles(lo, m, 1, bytes, QUARTER, depth);
    TileCall c = {.i8 = true, .b = weights, .b_at = lx_i(lo, 0)};
    operand(lo, p, r.first, &c);
    tile_rows_call(lo, &r, &c);
    Expr *row = lower_for(lo, r.count), *at = lx_add(lo, r.first, row);
    Expr *total = lower_load_buf(lo, r.tile, (Expr *[]){row, lx_i(lo, 0)});
    if (!p->zero_folded) total = lx_sub(lo, total, lx_mul(lo, lx_cast(lo, DT_I32, lower_load_scalar(lo, p->zero_x)), lx_const(lo, DT_I32, sum)));
    lower_store_buf(lo, p->rows, &at, FN_NONE, total);
    lower_end_n(lo, lo->open.n - depth);
}

/* ---- results ------------------------------------------------------------------------------------------------------------------- */
/* The exact sum of a result from the micro-kernel's; row: its absolute number. */
static Expr *finish(Lower *lo, const Integers *p, Expr *sum, Expr *row, Expr *channel) {
    if (!p->zero_folded)
        sum = lx_sub(lo, sum, lx_mul(lo, lx_cast(lo, DT_I32, lower_load_scalar(lo, p->zero_x)), lower_load_buf(lo, p->sums, &channel)));
    if (p->row_sums) sum = lx_sub(lo, sum, lx_mul(lo, lower_load_buf(lo, p->zeros, &channel), lower_load_buf(lo, p->rows, &row)));
    if (!p->bias_folded) sum = lx_add(lo, sum, lower_load(lo, p->bias, &channel));
    return lx_cast(lo, p->n->out[0]->type->dtype, sum);
}

static void store_rows(Lower *lo, const Integers *p, const TileRows *r, int64_t count) {
    const Type *y = p->n->out[0]->type;
    Expr *row = lower_for(lo, r->count), *idx[RANK_MAX], *at = lx_add(lo, r->first, row);
    bool open = false;
    if (p->conv != NULL) open = window_index(lo, p->conv, at, idx);
    else lower_split_index(lo, at, y->rank - 1u, y->dim, idx);
    Expr *j = lower_for(lo, lx_i(lo, count)), *channel = lx_add(lo, lx_mul(lo, r->panel, lx_i(lo, r->cols)), j);
    if (p->conv != NULL && p->packing.groups > 1) channel = lx_add(lo, lx_mul(lo, p->conv->group, lx_i(lo, p->packing.columns)), channel);
    idx[y->rank - 1] = channel;
    lower_store(lo, p->n->out[0], idx, finish(lo, p, lower_load_buf(lo, r->tile, (Expr *[]){row, j}), at, channel));
    lower_end_n(lo, open ? 3 : 2);
}

/* The phases: sums of rows if they are needed, then the product. Loops over batch, groups and lines are the convolution's. */
static void emit(Lower *lo, Integers *p, Dim m) {
    p->packing.quarters = choose_quarters(p->packing.columns);
    p->packing.panels = (p->packing.columns + p->packing.quarters * QUARTER - 1) / (p->packing.quarters * QUARTER);
    p->row_sums = has_row_sums(p);
    pack(lo, p);
    if (p->row_sums) sum_rows(lo, p, m);
    uint32_t depth = lo->open.n;
    if (p->conv != NULL) window_open(lo, p->conv);
    int64_t bytes = panel_bytes(&p->packing, p->packing.quarters);
    TileRows r = open_tiles(lo, m, p->packing.panels, bytes, p->packing.quarters * QUARTER, depth);
    Expr *panel = p->conv != NULL ? lx_add(lo, lx_mul(lo, p->conv->group, lx_i(lo, p->packing.panels)), r.panel) : r.panel;
    TileCall c = {.i8 = true, .b = p->weights, .b_at = lx_mul(lo, panel, lx_i(lo, bytes))};
    operand(lo, p, r.first, &c);
    tile_rows_call(lo, &r, &c);
    for (TileColumns t = tile_columns(lo, r.panel, p->packing.columns, r.cols); t.count != 0; tile_columns_next(lo, &t)) store_rows(lo, p, &r, t.count);
    lower_end_n(lo, lo->open.n - depth);
}

bool lower_integer_conv_contract(Lower *lo, const Node *n, const ConvGeometry *g) {
    Integers p;
    WindowRows rows;
    Context *cx = lo->cx;
    if (!contract_wanted(lo, n) || !describe(lo, n, &p)) return false;
    int64_t cin = dim_value(cx, g->in_group), cout = dim_value(cx, g->out_group), taps = 1;
    for (uint32_t i = 0; i < g->spatial; i++) taps *= dim_value(cx, g->kernel[i]);
    p.packing.groups = g->group;
    p.packing.columns = cout;
    p.packing.channels = cin;
    p.packing.by_group = cout * cin * taps;
    p.packing.by_column = cin * taps;
    p.packing.by_tap = 1;
    p.packing.by_channel = taps;
    if (cin < 1 || cout < 1 || (g->group > 1 && cout < 4)) return false;
    if (!sizes_fit(&p)) return false;
    bool flat_needed = has_row_sums(&p); /* row sums are kept for rows that are all the pixels */
    if (!window_rows(lo, g, n->in[0], 4, FEW_CHANNELS, flat_needed, LONG_LINE, &rows)) return false;
    p.conv = &rows;
    p.packing.taps = rows.taps;
    p.packing.k = rows.k;
    window_image(lo, &rows, p.zero_x != NULL ? lower_load_scalar(lo, p.zero_x) : NULL);
    emit(lo, &p, window_count(lo, &rows));
    return true;
}

bool lower_integer_matmul_contract(Lower *lo, const Node *n, const MatMulGeometry *g) {
    Integers p;
    Context *cx = lo->cx;
    const Type *x = n->in[0]->type, *w = n->in[1]->type;
    if (!contract_wanted(lo, n) || !describe(lo, n, &p) || w->rank != 2 || x->rank < 1 || !g->has_n) return false;
    p.packing.taps = 1;
    p.packing.k = p.packing.channels = dim_value(cx, w->dim[0]);
    p.packing.groups = 1;
    p.packing.columns = dim_value(cx, w->dim[1]);
    p.packing.by_column = 1;
    p.packing.by_channel = p.packing.columns;
    if (p.packing.k < 1 || p.packing.columns < 1 || !sizes_fit(&p)) return false;
    emit(lo, &p, type_rows(cx, x));
    return true;
}
