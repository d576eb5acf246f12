/* Products with weights of 4 or 8 bits in groups that share a scale, on the micro-kernel of runtime/tile_block.h.
 *
 *     y[m, n] = sum over k of x[m, k] * (code[n, k] - zero[n, k / group]) * scale[n, k / group]
 *
 * The codes are packed at compile time into panels of 64 columns, and stay codes: a product of few rows takes as long as reading
 * them. With `integers` a first phase rounds each row of x to s8, a scale per group: x = q * s, s = max |x| / 127. */
#include "passes/lower/contraction.h"
#include "passes/lower/operand.h"
#include "passes/quantize/quantize.h"
#include "passes/rules.h"
#include "passes/tile.h"

enum { COLUMNS = 64, ROWS = 24, TAIL = COLUMNS * 5 }; /* behind the codes of a group: scales and zero points */

typedef struct Packing { int64_t k, columns, group, groups, bits, panels, panel_bytes, integers; } Packing; /* integers: a flag */

typedef struct Block {
    const Node *n;
    Packing p;
    Dim m;
    uint32_t weights, a, scale, total; /* scale, total: of the rounded rows */
} Block;

/* Where code (k, j) stands in a group; 4 bits: the byte, *high: its upper half. */
static int64_t code_at(const Packing *p, int64_t k, int64_t j, bool *high) {
    *high = false;
    if (p->bits == 8) return p->integers ? k / 4 * COLUMNS * 4 + j * 4 + k % 4 : k * COLUMNS + j;
    *high = k % 8 >= 4;
    return k / 8 * COLUMNS * 4 + j * 4 + k % 4;
}

static void pack_codes(void *packed, const ConstRecipe *r) {
    const Packing *p = r->parameters;
    const uint8_t *code = r->source[0]->data->data, *zero = r->source[2]->data->data;
    const float *scale = r->source[1]->data->data;
    int64_t codes = p->group * p->bits * 8;
    for (int64_t n = 0; n < p->columns; n++)
        for (int64_t k = 0; k < p->k; k++) {
            uint8_t *group = (uint8_t *)packed + n / COLUMNS * p->panel_bytes + k / p->group * (codes + TAIL);
            int64_t j = n % COLUMNS, g = n * p->groups + k / p->group;
            bool high;
            uint8_t *to = &group[code_at(p, k % p->group, j, &high)];
            *to = (uint8_t)(*to | code[n * p->k + k] << (high ? 4 : 0));
            if (k % p->group != 0) continue;
            memcpy(group + codes + j * 4, &scale[g], 4);
            group[codes + COLUMNS * 4 + j] = zero[g];
        }
}

static uint32_t pack(Lower *lo, const Block *b) {
    ConstRecipe recipe = {.make = pack_codes, .parameters = &b->p, .parameter_bytes = sizeof b->p, .source = {b->n->in[1], b->n->in[2], b->n->in[3]}};
    Dim dim[2] = {dim_const(lo->cx, b->p.panels), dim_const(lo->cx, b->p.panel_bytes)};
    return lower_made_weight(lo, type_tensor(lo->cx, DT_U8, 2, dim), &recipe);
}

static Expr *x_at(Lower *lo, const Block *b, Expr *m, Expr *k) {
    const Type *t = b->n->in[0]->type;
    Expr *idx[RANK_MAX];
    lower_split_index(lo, m, t->rank - 1u, t->dim, idx);
    idx[t->rank - 1] = k;
    return lower_load(lo, b->n->in[0], idx);
}

/* The phase that rounds x. A last group that is cut short is filled with zeros. */
static void round_rows(Lower *lo, Block *b) {
    Context *cx = lo->cx;
    Dim row[2] = {b->m, dim_const(cx, b->p.groups * b->p.group)}, group[2] = {b->m, dim_const(cx, b->p.groups)};
    b->a = lower_buf(lo, lower_scratch(lo, type_tensor(cx, DT_I8, 2, row)));
    b->scale = lower_buf(lo, lower_scratch(lo, type_tensor(cx, DT_F32, 2, group)));
    b->total = lower_buf(lo, lower_scratch(lo, type_tensor(cx, DT_I32, 2, group)));
    uint32_t depth = lo->open.n;
    Expr *m = lower_for_dim(lo, b->m), *g = lower_for(lo, lx_i(lo, b->p.groups)), *first = lx_mul(lo, g, lx_i(lo, b->p.group));
    lo->open.v[depth]->parallel = 2;
    Expr *size = lx_2(lo, FN_MIN, lx_i(lo, b->p.group), lx_sub(lo, lx_i(lo, b->p.k), first)), *zero = lx_const(lo, DT_F32, 0);
    if (b->p.k % b->p.group == 0) size = lx_i(lo, b->p.group);
    Expr *most = lower_local(lo, DT_F32, zero), *k = lower_for(lo, size);
    lower_accumulate(lo, most, FN_MAX, lx_1(lo, FN_ABS, x_at(lo, b, m, lx_add(lo, first, k))));
    lower_end(lo);
    Expr *scale = lower_local(lo, DT_F32, lx_div(lo, most, lx_const(lo, DT_F32, 127)));
    Expr *inverse = lower_local(lo, DT_F32, lx_select(lo, lx_2(lo, FN_GT, scale, zero), lx_div(lo, lx_const(lo, DT_F32, 1), scale), zero));
    Expr *total = lower_local(lo, DT_I32, lx_const(lo, DT_I32, 0));
    k = lower_for(lo, size);
    Expr *q = quantize_saturate(lo, lx_mul(lo, x_at(lo, b, m, lx_add(lo, first, k)), inverse), DT_I8);
    lower_store_buf(lo, b->a, (Expr *[]){m, lx_add(lo, first, k)}, FN_NONE, q);
    lower_accumulate(lo, total, FN_ADD, lx_cast(lo, DT_I32, q));
    lower_end(lo);
    if (b->p.k % b->p.group != 0) {
        k = lower_for(lo, lx_sub(lo, lx_i(lo, b->p.group), size));
        lower_store_buf(lo, b->a, (Expr *[]){m, lx_add(lo, lx_add(lo, first, size), k)}, FN_NONE, lx_const(lo, DT_I8, 0));
        lower_end(lo);
    }
    lower_store_buf(lo, b->scale, (Expr *[]){m, g}, FN_NONE, scale);
    lower_store_buf(lo, b->total, (Expr *[]){m, g}, FN_NONE, total);
    lower_end_n(lo, lo->open.n - depth);
}

static void call(Lower *lo, const Block *b, uint32_t out, Expr *rows, Expr *first, Expr *panel) {
    Contract *c = ARENA_NEW(&lo->cx->arena, Contract);
    *c = (Contract){.kind = CONTRACT_BLOCK, .rows = ROWS, .cols = COLUMNS, .vector = 16, .bits = (uint8_t)b->p.bits};
    CallArg *arg = ARENA_ARRAY(&lo->cx->arena, CallArg, BLOCK_ARGS);
    Expr *row = lx_i(lo, b->p.integers ? b->p.groups * b->p.group : b->p.k);
    arg[BLOCK_OUT] = arg_buf(out);
    arg[BLOCK_ROWS] = arg_expr(rows);
    arg[BLOCK_A] = arg_buf(b->a);
    arg[BLOCK_A_AT] = arg_expr(lx_mul(lo, first, row));
    arg[BLOCK_A_ROW] = arg_expr(row);
    arg[BLOCK_K] = arg_expr(lx_i(lo, b->p.k));
    arg[BLOCK_GROUP] = arg_expr(lx_i(lo, b->p.group));
    arg[BLOCK_B] = arg_buf(b->weights);
    arg[BLOCK_B_AT] = arg_expr(lx_mul(lo, panel, lx_i(lo, b->p.panel_bytes)));
    if (b->p.integers) {
        arg[BLOCK_SCALE] = arg_buf(b->scale);
        arg[BLOCK_TOTAL] = arg_buf(b->total);
        arg[BLOCK_GROUPS_AT] = arg_expr(lx_mul(lo, first, lx_i(lo, b->p.groups)));
        arg[BLOCK_GROUPS] = arg_expr(lx_i(lo, b->p.groups));
    }
    lower_emit(lo, (Stmt){.kind = S_CONTRACT, .contract = c, .arg = arg, .n_arg = b->p.integers ? BLOCK_ARGS : BLOCK_FLOAT_ARGS});
}

static void store(Lower *lo, const Block *b, uint32_t tile, Expr *rows, Expr *first, Expr *panel, int64_t count) {
    const Type *y = b->n->out[0]->type;
    Expr *row = lower_for(lo, rows), *j = lower_for(lo, lx_i(lo, count)), *idx[RANK_MAX];
    lower_split_index(lo, lx_add(lo, first, row), y->rank - 1u, y->dim, idx);
    idx[y->rank - 1] = lx_add(lo, lx_mul(lo, panel, lx_i(lo, COLUMNS)), j);
    lower_store(lo, b->n->out[0], idx, lower_load_buf(lo, tile, (Expr *[]){row, j}));
    lower_end_n(lo, 2);
}

/* Panels outermost: each is read from memory once. */
static void emit(Lower *lo, const Block *b) {
    Context *cx = lo->cx;
    int64_t most = dim_hi(cx, b->m) < ROWS && dim_hi(cx, b->m) > 0 ? dim_hi(cx, b->m) : ROWS;
    uint32_t depth = lo->open.n;
    Expr *panel = lower_for(lo, lx_i(lo, b->p.panels)), *t = lower_for_dim(lo, dim_ceildiv(cx, b->m, dim_const(cx, most)));
    lo->open.v[depth]->parallel = 2;
    uint32_t tile = lower_array(lo, DT_F32, 2, (Dim[]){dim_const(cx, most), dim_const(cx, COLUMNS)});
    Expr *first = lx_mul(lo, t, lx_i(lo, most)), *rows = tile_rows(lo, b->m, most, first);
    call(lo, b, tile, rows, first, panel);
    for (TileColumns c = tile_columns(lo, panel, b->p.columns, COLUMNS); c.count != 0; tile_columns_next(lo, &c)) store(lo, b, tile, rows, first, panel, c.count);
    lower_end_n(lo, lo->open.n - depth);
}

/* Plain loops, for folding. */
static void emit_plain(Lower *lo, const Block *b) {
    const Type *y = b->n->out[0]->type;
    Expr *idx[RANK_MAX], *at[RANK_MAX];
    lower_for_type(lo, y, idx);
    Expr *sum = lower_local(lo, DT_F32, lx_const(lo, DT_F32, 0)), *k = lower_for(lo, lx_i(lo, b->p.k));
    Expr *column = idx[y->rank - 1], *g[2] = {column, lx_div(lo, k, lx_i(lo, b->p.group))};
    for (uint32_t i = 0; i + 1 < y->rank; i++) at[i] = idx[i];
    at[y->rank - 1] = k;
    Expr *w = lx_sub(lo, lx_cast(lo, DT_F32, lower_load(lo, b->n->in[1], (Expr *[]){column, k})), lx_cast(lo, DT_F32, lower_load(lo, b->n->in[3], g)));
    lower_accumulate(lo, sum, FN_ADD, lx_mul(lo, lower_load(lo, b->n->in[0], at), lx_mul(lo, w, lower_load(lo, b->n->in[2], g))));
    lower_end(lo);
    lower_store(lo, b->n->out[0], idx, sum);
    lower_end_n(lo, y->rank);
}

bool lower_block_matmul(Lower *lo, const Node *n) {
    Context *cx = lo->cx;
    const Type *x = n->in[0]->type, *codes = n->in[1]->type;
    Block b = {.n = n};
    b.p.columns = dim_value(cx, codes->dim[0]);
    b.p.k = dim_value(cx, codes->dim[1]);
    const int64_t group = attr_i(n, AT_BlockMatMul_group), row = (b.p.k + 7) / 8 * 8;
    b.p.group = group < row ? group : row; /* a group for whole rows is as long as they are: nothing is stored behind their end */
    b.p.bits = attr_i(n, AT_BlockMatMul_bits);
    b.p.integers = attr_i(n, AT_BlockMatMul_integers) != 0;
    b.p.groups = (b.p.k + b.p.group - 1) / b.p.group;
    b.p.panels = (b.p.columns + COLUMNS - 1) / COLUMNS;
    b.p.panel_bytes = b.p.groups * (b.p.group * b.p.bits * 8 + TAIL);
    b.m = type_rows(cx, x);
    if (!contract_wanted(lo, n)) {
        emit_plain(lo, &b);
        return true;
    }
    b.weights = pack(lo, &b);
    if (b.p.integers) round_rows(lo, &b);
    else b.a = lower_buf(lo, n->in[0]);
    emit(lo, &b);
    return true;
}
