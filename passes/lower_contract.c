/* Matrix products on micro-kernels.
 *
 *     C[g,m,n] = sum over k of A[g,m,k] * B[g,k,n]
 *
 * B is packed into panels of NR columns, [N/NR][K][NR], the last one padded with zeros: constants at compile time,
 * others by a phase of their own, unless their rows can be read in place or so few rows of A meet them that each thread better
 * packs what its panel needs next into an array. A is read in place with any strides; a large
 * transposed one, whose columns of a tile lie far apart, is packed into [M/48][K][48] first. Where K is so long that a panel
 * packed at run time would leave the second-level cache between two tiles, K is cut into parts: each is packed and multiplied
 * in turn, in the same room, and added to sums of the size of the result. Tiles of
 * MR x NR results go through a stack array to the loop that stores them with the fused epilogue (ir/contract.h). The
 * iteration space (batch, panel, block of tiles) is one range that the threads share; no result depends on the split. */
#include "passes/lower_contract.h"

#include "passes/choice.h"
#include "passes/lower/contraction.h"
#include "passes/tile.h"

enum { MIN_WORK = 2048 };

typedef struct Product {
    const Node *n;
    const MatMulGeometry *g;
    const Value *a, *b;
    Dim m;                      /* rows, batch included when it is flattened into them */
    bool flat;
    int64_t k, cols;            /* cols: N */
    Expr *from;                 /* the part of K in hand begins here; NULL: at 0 */
    Dim part;                   /* and is this long */
    Tile tile;
    ContractFinish *finish;
    Choice choice;
} Product;

static Dim stride_of(Context *cx, const Type *t, uint32_t d) {
    Dim s = dim_const(cx, 1);
    for (uint32_t i = d + 1; i < t->rank; i++) s = dim_mul(cx, s, t->dim[i]);
    return s;
}

static bool is_one(const Context *cx, Dim d) { return dim_is_const(cx, d) && dim_value(cx, d) == 1; }

/* Element offset of an operand's matrix at result batch index `batch`. */
static Expr *batch_offset(Lower *lo, const Value *v, const MatrixLayout *l, uint32_t n_batch, Expr *const *batch) {
    Expr *at = lx_i(lo, 0);
    uint32_t own = l->rank > 2 ? l->rank - 2 : 0;
    for (uint32_t i = 0; i < own; i++) {
        if (is_one(lo->cx, v->type->dim[l->batch[i]])) continue;
        at = lx_add(lo, at, lx_mul(lo, batch[i + n_batch - own], lx_dim(lo, stride_of(lo->cx, v->type, l->batch[i]))));
    }
    return at;
}

/* Is A one matrix of batch * M rows, and B the same for all of them? Then the batch is just more rows. */
static bool can_flatten(Context *cx, const Product *p) {
    const MatMulGeometry *g = p->g;
    const Type *a = p->a->type, *b = p->b->type;
    for (uint32_t i = 0; i + 2 < b->rank; i++)
        if (!is_one(cx, b->dim[g->b.batch[i]])) return false;
    if (g->n_batch == 0 || !g->has_m || a->rank != g->n_batch + 2 || g->a.row != a->rank - 2u || g->batch_a) return g->n_batch == 0;
    for (uint32_t i = 0; i < g->n_batch; i++)
        if (a->dim[i] != g->batch[i]) return false;
    return true;
}

/* The result's index from the open batch loops, row and column. */
static void result_index(Lower *lo, const Product *p, Expr *const *batch, Expr *m, Expr *n, Expr **idx) {
    const MatMulGeometry *g = p->g;
    uint32_t r = 0;
    if (p->flat && g->n_batch != 0) {
        Expr *rest = lx_div(lo, m, lx_dim(lo, g->m));
        m = lx_sub(lo, m, lx_mul(lo, rest, lx_dim(lo, g->m)));
        lower_split_index(lo, rest, g->n_batch, g->batch, idx);
        r = g->n_batch;
    } else {
        for (; r < g->n_batch; r++) idx[r] = batch[r];
    }
    if (g->has_m) idx[r++] = m;
    if (g->has_n) idx[r++] = n;
}

/* ---- B ------------------------------------------------------------------------------------------------------------ */
typedef struct Panels { /* where panel p of batch b is: buffer, offset = batch * per_batch + p * per_panel, step per k */
    uint32_t buf;
    bool own_batch;             /* packed per batch of B: offset by the flattened batch number, else by batch_offset */
    Dim per_batch;
    Expr *per_panel, *step;
} Panels;

static int64_t panel_count(const Product *p) { return (p->cols + p->tile.cols - 1) / p->tile.cols; }

typedef struct MatrixPacking { int64_t matrices, k, columns, row, col, nr; } MatrixPacking; /* row, col: elements between those of B */

static void pack_matrices(void *to, const ConstRecipe *r) {
    const MatrixPacking *p = r->parameters;
    const float *from = r->source[0]->data->data;
    int64_t panels = (p->columns + p->nr - 1) / p->nr;
    for (int64_t g = 0; g < p->matrices; g++)
        tile_pack((float *)to + g * panels * p->k * p->nr, from + g * p->k * p->columns, p->k, p->columns, p->row, p->col, p->nr);
}

static Panels constant_panels(Lower *lo, const Product *p) {
    Context *cx = lo->cx;
    const Type *t = p->b->type;
    int64_t matrices = 1, np = panel_count(p), nr = p->tile.cols, row = 1, col = 1;
    for (uint32_t d = 0; d < t->rank; d++) {
        if (t->rank < 2 || (d != p->g->b.row && d != p->g->b.col)) matrices *= t->rank < 2 ? 1 : dim_value(cx, t->dim[d]);
    }
    if (t->rank >= 2) {
        row = dim_value(cx, stride_of(cx, t, p->g->b.row));
        col = dim_value(cx, stride_of(cx, t, p->g->b.col));
    }
    MatrixPacking packing = {matrices, p->k, p->cols, row, col, nr};
    ConstRecipe recipe = {.make = pack_matrices, .parameters = &packing, .parameter_bytes = sizeof packing, .source = {p->b}};
    Dim dim[4] = {dim_const(cx, matrices), dim_const(cx, np), dim_const(cx, p->k), dim_const(cx, nr)};
    return (Panels){.buf = lower_made_weight(lo, type_tensor(cx, DT_F32, 4, dim), &recipe), .own_batch = true, .per_batch = dim_const(cx, np * p->k * nr),
                    .per_panel = lx_i(lo, p->k * nr), .step = lx_i(lo, nr)};
}

enum { PACKED_ROWS = 32, NEAR_BYTES = 1 << 15, NEAR_COLUMNS = 96 };

/* A panel of long rows in place is a walk over pages; with enough rows of A the copy costs less. */
static bool pack_columns_pays(const Context *cx, const Product *p) {
    return dim_hi(cx, p->m) >= PACKED_ROWS && p->cols > NEAR_COLUMNS && p->cols * p->k > NEAR_BYTES / 4;
}

static Panels rows_in_place(Lower *lo, const Product *p) {
    Dim row = stride_of(lo->cx, p->b->type, p->g->b.row);
    return (Panels){.buf = lower_buf(lo, p->b), .per_panel = lx_i(lo, p->tile.cols), .step = lx_dim(lo, row)};
}

/* The number of an operand's matrix from the result's batch index. */
static Expr *matrix_number(Lower *lo, const Product *p, const Value *v, const MatrixLayout *l, Expr *const *batch) {
    Expr *at = lx_i(lo, 0);
    for (uint32_t i = 0; i + 2 < l->rank; i++) {
        Dim d = v->type->dim[l->batch[i]];
        Expr *own = is_one(lo->cx, d) ? lx_i(lo, 0) : batch[i + p->g->n_batch - (l->rank - 2)];
        at = lx_add(lo, lx_mul(lo, at, lx_dim(lo, d)), own);
    }
    return at;
}

typedef struct BElement { const Product *p; Expr **idx, *k; } BElement; /* idx: batch positions are set */

static Expr *b_element(Lower *lo, void *user, Expr *col) {
    const BElement *e = user;
    const MatrixLayout *l = &e->p->g->b;
    if (e->p->b->type->rank < 2) e->idx[0] = e->k;
    else e->idx[l->row] = e->k, e->idx[l->col] = col;
    return lower_load(lo, e->p->b, e->idx);
}

/* A phase that packs B's part: one row of one panel at a time. room: where an earlier part was. */
static Panels packed_panels(Lower *lo, const Product *p, const Panels *room) {
    Context *cx = lo->cx;
    const Type *t = p->b->type;
    const MatrixLayout *l = &p->g->b;
    int64_t np = panel_count(p), nr = p->tile.cols;
    uint32_t nb = l->rank > 2 ? l->rank - 2 : 0;
    Dim dim[RANK_MAX + 3], matrices = dim_const(cx, 1);
    for (uint32_t i = 0; i < nb; i++) matrices = dim_mul(cx, matrices, t->dim[l->batch[i]]);
    dim[0] = matrices, dim[1] = dim_const(cx, np), dim[2] = p->part, dim[3] = dim_const(cx, nr);
    uint32_t to = room != NULL ? room->buf : lower_buf(lo, lower_scratch(lo, type_tensor(cx, DT_F32, 4, dim)));
    Expr *idx[RANK_MAX], *number = lx_i(lo, 0), *at[4];
    uint32_t depth = lo->open.n;
    for (uint32_t i = 0; i < nb; i++) {
        idx[l->batch[i]] = lower_for_dim(lo, t->dim[l->batch[i]]);
        number = lx_add(lo, lx_mul(lo, number, lx_dim(lo, t->dim[l->batch[i]])), idx[l->batch[i]]);
    }
    at[0] = number;
    at[1] = lower_for(lo, lx_i(lo, np));
    at[2] = lower_for_dim(lo, p->part);
    lo->open.v[depth]->parallel = (uint16_t)(lo->open.n - depth);
    BElement e = {p, idx, p->from != NULL ? lx_add(lo, at[2], p->from) : at[2]};
    tile_pack_line(lo, to, at, 3, at[1], p->cols, nr, b_element, &e);
    lower_end_n(lo, lo->open.n - depth);
    if (room != NULL) return *room; /* the last part may be shorter: its panels lie as far apart */
    return (Panels){.buf = to, .own_batch = true, .per_batch = dim_mul(cx, p->part, dim_const(cx, np * nr)),
                    .per_panel = lx_dim(lo, dim_mul(cx, p->part, dim_const(cx, nr))), .step = lx_i(lo, nr)};
}

/* ---- A ------------------------------------------------------------------------------------------------------------ */
typedef struct Rows { /* where row m of matrix `batch` begins and the steps between rows and along K */
    uint32_t buf;
    int64_t panel;              /* 0: read in place; else rows in a packed panel, a multiple of the tile's */
    Dim per_batch;
} Rows;

enum { PANEL_ROWS = 48, FAR_BYTES = 1 << 16, FEW_COLUMNS = 48 };

/* A transposed A whose lines are long: every step of K is another page, which prefetching does not follow. */
static bool pack_rows_pays(const Lower *lo, const Product *p) {
    const Context *cx = lo->cx;
    const MatrixLayout *l = &p->g->a;
    if (l->rank < 2 || l->col == (uint32_t)p->a->type->rank - 1 || p->a->data != NULL) return false;
    return p->cols > FEW_COLUMNS && dim_hi(cx, p->g->m) > PANEL_ROWS && dim_hi(cx, p->g->m) < INT32_MAX && dim_hi(cx, p->g->m) * p->k > FAR_BYTES / 4;
}

static Rows packed_rows(Lower *lo, const Product *p) {
    Context *cx = lo->cx;
    const MatrixLayout *l = &p->g->a;
    const Type *t = p->a->type;
    int64_t width = PANEL_ROWS / p->tile.rows * p->tile.rows;
    Dim panel = dim_const(cx, width), panels = dim_ceildiv(cx, p->g->m, panel), matrices = dim_const(cx, 1);
    uint32_t nb = l->rank - 2, depth = lo->open.n;
    for (uint32_t i = 0; i < nb; i++) matrices = dim_mul(cx, matrices, t->dim[l->batch[i]]);
    Dim dim[4] = {matrices, panels, p->g->k, panel};
    uint32_t to = lower_buf(lo, lower_scratch(lo, type_tensor(cx, DT_F32, 4, dim)));
    Expr *idx[RANK_MAX], *at[4], *number = lx_i(lo, 0);
    for (uint32_t i = 0; i < nb; i++) {
        idx[l->batch[i]] = lower_for_dim(lo, t->dim[l->batch[i]]);
        number = lx_add(lo, lx_mul(lo, number, lx_dim(lo, t->dim[l->batch[i]])), idx[l->batch[i]]);
    }
    at[0] = number;
    at[1] = lower_for_dim(lo, panels);
    at[2] = idx[l->col] = lower_for_dim(lo, p->g->k);
    lo->open.v[depth]->parallel = (uint16_t)(lo->open.n - depth);
    Expr *first = lx_mul(lo, at[1], lx_i(lo, width));
    at[3] = lower_for(lo, tile_rows(lo, p->g->m, width, first));
    idx[l->row] = lx_add(lo, first, at[3]);
    lower_store_buf(lo, to, at, FN_NONE, lower_load(lo, p->a, idx));
    lower_end_n(lo, lo->open.n - depth);
    return (Rows){.buf = to, .panel = width, .per_batch = dim_mul(cx, panels, dim_mul(cx, p->g->k, dim_const(cx, width)))};
}

/* The operands of A in a tile's call, for its first row m0. */
static void call_rows(Lower *lo, const Product *p, const Rows *a, Expr *const *batch, Expr *m0, TileCall *call) {
    Context *cx = lo->cx;
    const MatMulGeometry *g = p->g;
    const Type *t = p->a->type;
    call->a = a->buf;
    if (a->panel != 0) {
        Expr *width = lx_i(lo, a->panel), *panel = lx_div(lo, m0, width);
        Expr *in_batch = lx_add(lo, lx_mul(lo, panel, lx_dim(lo, dim_mul(cx, g->k, dim_const(cx, a->panel)))), lx_sub(lo, m0, lx_mul(lo, panel, width)));
        if (p->from != NULL) in_batch = lx_add(lo, in_batch, lx_mul(lo, p->from, width));
        call->a_at = lx_add(lo, lx_mul(lo, matrix_number(lo, p, p->a, &g->a, batch), lx_dim(lo, a->per_batch)), in_batch);
        call->a_row = lx_i(lo, 1);
        call->a_k = width;
        return;
    }
    call->a_row = lx_dim(lo, t->rank < 2 ? dim_const(cx, 0) : stride_of(cx, t, g->a.row));
    call->a_k = lx_dim(lo, t->rank < 2 ? dim_const(cx, 1) : stride_of(cx, t, g->a.col));
    call->a_at = lx_add(lo, p->flat ? lx_i(lo, 0) : batch_offset(lo, p->a, &g->a, g->n_batch, batch), lx_mul(lo, m0, call->a_row));
    if (p->from != NULL) call->a_at = lx_add(lo, call->a_at, lx_mul(lo, p->from, call->a_k));
}

/* ---- the loops ----------------------------------------------------------------------------------------------------- */
typedef struct Sums { /* where a tile's results are until they are stored */
    uint32_t buf;
    bool many, add, store;      /* many: there are those of many tiles, as K is multiplied in parts; add: to what an earlier part left; store: this is the last */
} Sums;

/* Stores the tile of panel `panel` whose first row is m0; at: its number in sums of many. */
static void store_columns(Lower *lo, const Product *p, const Sums *sums, Expr *at, Expr *const *batch, Expr *m0, Expr *panel) {
    Expr *idx[RANK_MAX + 2], *rows = tile_rows(lo, p->m, p->tile.rows, m0), *n0 = lx_mul(lo, panel, lx_i(lo, p->tile.cols));
    for (TileColumns c = tile_columns(lo, panel, p->cols, p->tile.cols); c.count != 0; tile_columns_next(lo, &c)) {
        Expr *r = lower_for(lo, rows), *j = lower_for(lo, lx_i(lo, c.count));
        result_index(lo, p, batch, lx_add(lo, m0, r), lx_add(lo, n0, j), idx);
        Expr *sum = lower_load_buf(lo, sums->buf, sums->many ? (Expr *[]){at, r, j} : (Expr *[]){r, j});
        lower_store(lo, p->n->out[0], idx, p->finish(lo, p->n, p->g, idx, sum));
        lower_end_n(lo, 2);
    }
}

/* sums NULL: one call of the micro-kernel does all of K. */
static void emit_product(Lower *lo, const Product *p, const Rows *a, const Panels *b, const Sums *sums) {
    Context *cx = lo->cx;
    const MatMulGeometry *g = p->g;
    const Tile *tile = &p->tile;
    Dim size[2] = {dim_const(cx, tile->rows), dim_const(cx, tile->cols)};
    int64_t np = panel_count(p), nr = tile->cols, per_block = tile_block(tile, p->k);
    Dim tiles = dim_ceildiv(cx, p->m, size[0]), blocks = dim_ceildiv(cx, tiles, dim_const(cx, per_block));
    bool rows_first = choice_rows_first(p->choice, dim_is_const(cx, p->m) && dim_value(cx, p->m) * p->k > 1 << 18 && np * nr * p->k < 1 << 18);
    uint32_t depth = lo->open.n;
    Expr *batch[RANK_MAX], *block = NULL, *panel;
    for (uint32_t i = 0; i < g->n_batch && !p->flat; i++) batch[i] = lower_for_dim(lo, g->batch[i]);
    if (rows_first) block = lower_for_dim(lo, blocks);
    panel = lower_for(lo, lx_i(lo, np));
    if (!rows_first) block = lower_for_dim(lo, blocks);
    lo->open.v[depth]->parallel = (uint16_t)(lo->open.n - depth);
    Expr *first = lx_mul(lo, block, lx_i(lo, per_block));
    Expr *t = lower_for(lo, lx_2(lo, FN_MIN, lx_i(lo, per_block), lx_sub(lo, lx_dim(lo, tiles), first)));
    Expr *number = lx_add(lo, first, t), *m0 = lx_mul(lo, number, lx_i(lo, tile->rows));
    Expr *rows = tile_rows(lo, p->m, tile->rows, m0);
    Sums own = {.store = true};
    if (sums == NULL) own.buf = lower_array(lo, DT_F32, 2, size), sums = &own;
    Expr *in_sums = lx_add(lo, lx_mul(lo, panel, lx_dim(lo, tiles)), number);
    Expr *b_at = lx_mul(lo, panel, b->per_panel);
    if (!p->flat || g->n_batch == 0)
        b_at = lx_add(lo, b_at, b->own_batch ? lx_mul(lo, matrix_number(lo, p, p->b, &g->b, batch), lx_dim(lo, b->per_batch)) : batch_offset(lo, p->b, &g->b, g->n_batch, batch));
    TileCall call = {.out = sums->buf, .rows = rows, .k = lx_dim(lo, p->part), .b = b->buf, .b_at = b_at, .b_k = b->step, .add = sums->add};
    if (sums->many) call.out_at = lx_mul(lo, in_sums, lx_i(lo, tile->rows * nr));
    call_rows(lo, p, a, batch, m0, &call);
    if (p->b->data != NULL && (p->flat || g->n_batch == 0) && !rows_first) tile_fetch_ahead(lo, tile, panel, np, p->k, p->k, number, tiles, &call);
    tile_emit(lo, tile, &call);
    if (sums->store) store_columns(lo, p, sums, in_sums, batch, m0, panel);
    lower_end_n(lo, lo->open.n - depth);
}

enum { FAR_PANEL_BYTES = 1 << 20, PART_PANEL_BYTES = 3 << 18, PART_STEP = 16, PARTS_MOST = 8 };

/* How much of K is multiplied at a time. Only sums of one matrix are kept, where they take less room than the panels save. */
static int64_t part_length(const Context *cx, const Product *p) {
    int64_t panel = p->k * p->tile.cols * 4, parts = (panel + PART_PANEL_BYTES - 1) / PART_PANEL_BYTES;
    if (panel <= FAR_PANEL_BYTES || parts > PARTS_MOST || !dim_is_const(cx, p->g->k) || !dim_is_const(cx, p->m)) return p->k;
    if ((!p->flat && p->g->n_batch != 0) || dim_value(cx, p->m) >= p->k - p->k / parts || dim_value(cx, p->m) <= PACKED_ROWS) return p->k;
    return (p->k + parts * PART_STEP - 1) / (parts * PART_STEP) * PART_STEP;
}

/* Packs and multiplies one part of K after the other. */
static void emit_parts(Lower *lo, Product *p, const Rows *a, int64_t length) {
    Context *cx = lo->cx;
    Dim tiles = dim_ceildiv(cx, p->m, dim_const(cx, p->tile.rows));
    Dim size[3] = {dim_mul(cx, tiles, dim_const(cx, panel_count(p))), dim_const(cx, p->tile.rows), dim_const(cx, p->tile.cols)};
    Sums sums = {.buf = lower_buf(lo, lower_scratch(lo, type_tensor(cx, DT_F32, 3, size))), .many = true};
    Panels panels = {0};
    for (int64_t from = 0; from < p->k; from += length) {
        int64_t left = p->k - from;
        p->from = lx_i(lo, from);
        p->part = dim_const(cx, left < length ? left : length);
        panels = packed_panels(lo, p, from != 0 ? &panels : NULL);
        sums.add = from != 0;
        sums.store = left <= length;
        emit_product(lo, p, a, &panels, &sums);
    }
}

/* ---- B packed on the way ------------------------------------------------------------------------------------------------- */
enum { NEAR_LINES = 192, PART_LINES = 128, GROUP_ROWS = 126, GROUPS_MOST = 4, PIECES_ENOUGH = 4 };

/* Few rows do not pay for writing the whole of B again: each thread packs what its panel needs next into an array, 128 lines of K at
 * a time, and multiplies a group of rows with them. */
typedef struct OnTheWay {
    int64_t lines;              /* of K packed at a time */
    int64_t tiles;              /* in a group of rows */
    bool parts;                 /* K is longer: sums of the whole group are kept */
} OnTheWay;

static bool pack_on_the_way_pays(const Context *cx, const Product *p, OnTheWay *w) {
    const MatrixLayout *b = &p->g->b;
    int64_t m = dim_hi(cx, p->m), most = GROUP_ROWS / p->tile.rows, tiles = m < INT32_MAX ? (m + p->tile.rows - 1) / p->tile.rows : INT32_MAX;
    if (p->b->type->rank < 2) return false;
    int64_t parts = (p->k + PART_LINES - 1) / PART_LINES, groups = (tiles + most - 1) / most;
    bool along = b->col == p->b->type->rank - 1u;
    if (groups > (along ? GROUPS_MOST : 1)) return false;
    int64_t pieces = panel_count(p) * groups;
    if (pieces < PIECES_ENOUGH && (p->flat || p->g->n_batch == 0)) { /* several threads want some */
        if (!along) return false;
        groups = PIECES_ENOUGH / panel_count(p);
    }
    w->parts = p->k > NEAR_LINES;
    w->lines = w->parts ? (p->k + parts - 1) / parts : p->k;
    w->tiles = (tiles + groups - 1) / groups;
    return true;
}

/* The index of B's matrix for the result's batch index; one matrix when it is flat. */
static void set_b_batch(Lower *lo, const Product *p, Expr *const *batch, Expr **idx) {
    const MatrixLayout *l = &p->g->b;
    for (uint32_t i = 0; i + 2 < l->rank; i++) {
        bool one = p->flat || is_one(lo->cx, p->b->type->dim[l->batch[i]]);
        idx[l->batch[i]] = one ? lx_i(lo, 0) : batch[i + p->g->n_batch - (l->rank - 2)];
    }
}

static void zero_tiles(Lower *lo, uint32_t array, const Dim *size) {
    Expr *at[3];
    for (uint32_t i = 0; i < 3; i++) at[i] = lower_for_dim(lo, size[i]);
    lower_store_buf(lo, array, at, FN_NONE, lx_const(lo, DT_F32, 0));
    lower_end_n(lo, 3);
}

/* Lines p->from … of B's panel, `length` of them. */
static void pack_lines(Lower *lo, const Product *p, uint32_t to, Expr *const *batch, Expr *panel, Expr *length) {
    Expr *idx[RANK_MAX], *at[2] = {lower_for(lo, length), NULL};
    set_b_batch(lo, p, batch, idx);
    BElement e = {p, idx, p->from != NULL ? lx_add(lo, at[0], p->from) : at[0]};
    tile_pack_line(lo, to, at, 1, panel, p->cols, p->tile.cols, b_element, &e);
    lower_end(lo);
}

static void emit_on_the_way(Lower *lo, Product *p, const Rows *a, const OnTheWay *w) {
    Context *cx = lo->cx;
    const MatMulGeometry *g = p->g;
    Dim rows = dim_const(cx, p->tile.rows), nr = dim_const(cx, p->tile.cols), tiles = dim_ceildiv(cx, p->m, rows), lines = dim_const(cx, w->lines);
    Dim size[3] = {dim_const(cx, w->tiles), rows, nr};
    uint32_t depth = lo->open.n;
    Expr *batch[RANK_MAX];
    for (uint32_t i = 0; i < g->n_batch && !p->flat; i++) batch[i] = lower_for_dim(lo, g->batch[i]);
    Expr *panel = lower_for(lo, lx_i(lo, panel_count(p))), *group = lower_for_dim(lo, dim_ceildiv(cx, tiles, size[0]));
    lo->open.v[depth]->parallel = (uint16_t)(lo->open.n - depth);
    Expr *first = lx_mul(lo, group, lx_i(lo, w->tiles)), *count = tile_rows(lo, tiles, w->tiles, first);
    uint32_t packed = lower_array(lo, DT_F32, 2, (Dim[]){lines, nr}), inner = lo->open.n;
    Sums sums = {.many = w->parts, .buf = w->parts ? lower_array(lo, DT_F32, 3, size) : lower_array(lo, DT_F32, 2, size + 1)};
    if (w->parts) {
        zero_tiles(lo, sums.buf, size);
        p->from = lx_mul(lo, lower_for_dim(lo, dim_ceildiv(cx, g->k, lines)), lx_i(lo, w->lines));
    }
    Expr *length = w->parts ? tile_rows(lo, g->k, w->lines, p->from) : lx_dim(lo, g->k);
    pack_lines(lo, p, packed, batch, panel, length);
    Expr *t = lower_for(lo, count), *m0 = lx_mul(lo, lx_add(lo, first, t), lx_i(lo, p->tile.rows));
    TileCall call = {.out = sums.buf, .rows = tile_rows(lo, p->m, p->tile.rows, m0), .k = length, .b = packed, .b_at = lx_i(lo, 0), .b_k = lx_i(lo, p->tile.cols), .add = w->parts};
    if (w->parts) call.out_at = lx_mul(lo, t, lx_i(lo, p->tile.rows * p->tile.cols));
    call_rows(lo, p, a, batch, m0, &call);
    tile_emit(lo, &p->tile, &call);
    if (w->parts) {
        lower_end_n(lo, lo->open.n - inner);
        t = lower_for(lo, count);
        m0 = lx_mul(lo, lx_add(lo, first, t), lx_i(lo, p->tile.rows));
    }
    store_columns(lo, p, &sums, t, batch, m0, panel);
    lower_end_n(lo, lo->open.n - depth);
}

static bool fits(const Lower *lo, const Product *p) {
    const Context *cx = lo->cx;
    const MatMulGeometry *g = p->g;
    if (p->a->type->dtype != DT_F32 || p->b->type->dtype != DT_F32) return false;
    /* a summed dim known at run time only (the batch, in gradients of weights) is fine unless B's panels are made here */
    bool k_known = dim_is_const(cx, g->k) || (p->a->data == NULL && p->b->data == NULL);
    if (!k_known || !dim_is_const(cx, g->n) || dim_lo(cx, g->k) < 1) return false;
    int64_t n = dim_value(cx, g->n), k = dim_hi(cx, g->k), m = dim_hi(cx, g->m) < 4096 ? dim_hi(cx, g->m) : 4096;
    if (n > INT32_MAX || k > INT32_MAX || n < 1) return false;
    return n >= 4 && (double)n * (double)k * (double)(m > 0 ? m : 1) >= (double)MIN_WORK;
}

bool lower_product(Lower *lo, const Node *n, const MatMulGeometry *g, uint32_t a, uint32_t b, ContractFinish *finish) {
    Product p = {.n = n, .g = g, .a = n->in[a], .b = n->in[b], .finish = finish};
    if (!contract_wanted(lo, n) || !fits(lo, &p)) return false;
    Context *cx = lo->cx;
    p.k = dim_hi(cx, g->k);
    p.cols = dim_value(cx, g->n);
    p.flat = can_flatten(cx, &p);
    p.m = g->m;
    for (uint32_t i = 0; i < g->n_batch && p.flat; i++) p.m = dim_mul(cx, p.m, g->batch[i]);
    bool constant = p.b->data != NULL;
    bool in_place = !constant && p.b->type->rank >= 2 && g->b.col == p.b->type->rank - 1u && !pack_columns_pays(cx, &p);
    p.tile = tile_choose(module_target(lo->m), p.m, p.cols, p.k, cx);
    if (in_place) {
        Tile exact = tile_choose_dividing(module_target(lo->m), p.m, p.cols, p.k, cx);
        in_place = exact.cols != 0;
        if (in_place) p.tile = exact;
    }
    if (!constant && !in_place && dim_hi(cx, p.m) < 8) return false; /* packing would cost as much as the product */
    if (constant && dim_is_const(cx, p.m)) {
        Str key = str_format(cx, "product-%lldx%lldx%lld", (long long)dim_value(cx, p.m), (long long)p.k, (long long)p.cols);
        p.choice = choice_take(lo, key, choice_loops(p.tile, panel_count(&p)));
        p.tile = choice_tile(lo, p.choice, p.tile, dim_value(cx, p.m), p.k);
    }
    p.part = g->k;
    OnTheWay way;
    bool on_the_way = !constant && !in_place && pack_on_the_way_pays(cx, &p, &way);
    int64_t length = constant || in_place || on_the_way ? p.k : part_length(cx, &p);
    Panels panels = {0};
    if (length == p.k && !on_the_way) panels = constant ? constant_panels(lo, &p) : in_place ? rows_in_place(lo, &p) : packed_panels(lo, &p, NULL);
    Rows rows = pack_rows_pays(lo, &p) ? packed_rows(lo, &p) : (Rows){.buf = lower_buf(lo, p.a)};
    if (on_the_way) emit_on_the_way(lo, &p, &rows, &way);
    else if (length == p.k) emit_product(lo, &p, &rows, &panels, NULL);
    else emit_parts(lo, &p, &rows, length);
    return true;
}

static Expr *scale(Lower *lo, const Node *n, const MatMulGeometry *g, Expr *const *idx, Expr *sum) {
    (void)n, (void)idx;
    return g->alpha == 1 ? sum : lx_mul(lo, sum, lx_const(lo, (DType)sum->dtype, g->alpha));
}

bool lower_matmul_contract(Lower *lo, const Node *n, const MatMulGeometry *g) { return lower_product(lo, n, g, 0, 1, scale); }

static Expr *finish_gemm(Lower *lo, const Node *n, const MatMulGeometry *g, Expr *const *idx, Expr *sum) {
    (void)g;
    return gemm_finish(lo, n, idx, sum);
}

bool lower_gemm_contract(Lower *lo, const Node *n) {
    const Type *a = n->in[0]->type, *b = n->in[1]->type;
    bool ta = attr_i(n, AT_Gemm_transA) != 0, tb = attr_i(n, AT_Gemm_transB) != 0;
    MatMulGeometry g = {.m = a->dim[ta], .k = a->dim[!ta], .n = b->dim[!tb], .has_m = true, .has_n = true, .trans_a = ta, .trans_b = tb, .alpha = 1};
    g.a = (MatrixLayout){.rank = 2, .row = ta, .col = !ta};
    g.b = (MatrixLayout){.rank = 2, .row = tb, .col = !tb};
    return lower_product(lo, n, &g, 0, 1, finish_gemm);
}
