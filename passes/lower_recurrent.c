/* Recurrent cells on micro-kernels: at each step one small matrix product gives all gates of some units, and the cell's
 * pointwise part follows at once.
 *
 *     for step < T phases
 *       for d, block of units parallel(2)
 *         for tile of sequences
 *           tile(gates[sequence][gate, unit] = h[step % 2, d, sequence, :] . R[d, block][:, gate, unit])
 *           for sequence, unit:  c, h[(step + 1) % 2], Y from the gates
 *
 * R is packed as [d][block][k][gate][unit], so a block's columns are all gates of its units. The threads share the blocks of
 * a step and meet once per step; the states alternate between two buffers, so that nobody overwrites what others still
 * read. A GRU that resets before its product needs two phases: the second multiplies what the first has reset. */
#include "passes/lower/contraction.h"
#include "passes/lower/recurrent.h"
#include "passes/lower/rows.h"
#include "passes/tile.h"

enum { COLUMNS = 128, MIN_WORK = 2048, SHARED_WORK = 1 << 15 };

typedef struct Cells {
    Steps *s;
    int64_t hidden, units, blocks, rows, directions; /* units: of a block; rows: sequences of a tile */
    uint32_t h, tile;         /* h: [2, D, B, H] */
    Expr *now, *next, *block; /* halves of h; the block */
    bool shared;
} Cells;

static bool fits(const Steps *s) {
    const Lower *lo = s->lo;
    const Value *r = s->n->in[2];
    if (!contract_wanted(lo, s->n) || r->data == NULL || r->type->dtype != DT_F32 || s->t != DT_F32 || s->level != NULL) return false;
    if (recurrent_operand(s, 4) != NULL || recurrent_operand(s, 8) != NULL || !type_is_static(lo->cx, r->type)) return false; /* sequences of different lengths, integers */
    int64_t h = dim_value(lo->cx, s->hidden);
    return h > 0 && h < INT32_MAX && h * h * s->n_gate >= MIN_WORK;
}

typedef struct GatePacking { int64_t directions, blocks, units, hidden, n_gate, first, gates; } GatePacking; /* first: of the packed gates */

static void pack_gates(void *to, const ConstRecipe *recipe) {
    const GatePacking *p = recipe->parameters;
    const float *r = recipe->source[0]->data->data; /* [d][gate * H + unit][k] */
    float *packed = to;
    int64_t h = p->hidden, cols = p->gates * p->units;
    for (int64_t d = 0; d < p->directions; d++)
        for (int64_t g = 0; g < p->gates; g++)
            for (int64_t u = 0; u < h; u++)
                for (int64_t k = 0; k < h; k++)
                    packed[((d * p->blocks + u / p->units) * h + k) * cols + g * p->units + u % p->units] = r[((d * p->n_gate + p->first + g) * h + u) * h + k];
}

static uint32_t pack(const Cells *c, uint32_t from, uint32_t to) {
    Steps *s = c->s;
    Context *cx = s->lo->cx;
    GatePacking packing = {.directions = c->directions, .blocks = c->blocks, .units = c->units, .hidden = c->hidden, .n_gate = s->n_gate, .first = from, .gates = to - from};
    ConstRecipe recipe = {.make = pack_gates, .parameters = &packing, .parameter_bytes = sizeof packing, .source = {s->n->in[2]}};
    Dim dim[4] = {dim_const(cx, c->directions), dim_const(cx, c->blocks), dim_const(cx, c->hidden), dim_const(cx, packing.gates * c->units)};
    return lower_made_weight(s->lo, type_tensor(cx, DT_F32, 4, dim), &recipe);
}

static Expr *load_h(Cells *c, Expr *half, Expr *j) { return lower_load_buf(c->s->lo, c->h, (Expr *[]){half, c->s->d, c->s->b, j}); }
static void store_h(Cells *c, Expr *half, Expr *j, Expr *e) { lower_store_buf(c->s->lo, c->h, (Expr *[]){half, c->s->d, c->s->b, j}, FN_NONE, e); }
static Expr *scratch(Cells *c, const Value *v, Expr *j) { return lower_load(c->s->lo, v, (Expr *[]){c->s->d, c->s->b, j}); }
static void set_scratch(Cells *c, const Value *v, Expr *j, Expr *e) { lower_store(c->s->lo, v, (Expr *[]){c->s->d, c->s->b, j}, e); }

/* ---- cells: from the products of the open sequence (row of the tile) and unit ------------------------------------------ */
typedef struct Unit { Expr *row, *in_block, *j; uint32_t first; } Unit; /* first: gate of the tile's first columns */

static Expr *product(Cells *c, const Unit *u, uint32_t gate) {
    Lower *lo = c->s->lo;
    return lower_load_buf(lo, c->tile, (Expr *[]){u->row, lx_add(lo, lx_i(lo, (gate - u->first) * c->units), u->in_block)});
}

/* product + bias + the input's share */
static Expr *whole_gate(Cells *c, const Unit *u, uint32_t gate) {
    Steps *s = c->s;
    Lower *lo = s->lo;
    Expr *g = recurrent_gate(s, gate, u->j);
    Expr *start = lx_add(lo, lx_add(lo, recurrent_projected(s, g), recurrent_bias(s, g, false)), recurrent_bias(s, g, true));
    return lx_add(lo, product(c, u, gate), start);
}

static void finish(Cells *c, const Unit *u, Expr *h) {
    Expr *kept = lower_local(c->s->lo, c->s->t, h);
    store_h(c, c->next, u->j, kept);
    recurrent_store(c->s, u->j, c->s->at, kept);
}

static void cell_rnn(Cells *c, const Unit *u) { finish(c, u, recurrent_activate(c->s, 0, recurrent_clipped(c->s, whole_gate(c, u, 0)))); }

static void cell_lstm(Cells *c, const Unit *u) {
    Steps *s = c->s;
    Lower *lo = s->lo;
    Expr *old = scratch(c, s->c, u->j), *gate[4];
    for (uint32_t i = 0; i < 4; i++) gate[i] = whole_gate(c, u, i);
    Expr *input = recurrent_activate(s, 0, recurrent_clipped(s, recurrent_peephole(s, gate[0], 0, u->j, old)));
    Expr *forget = recurrent_activate(s, 0, recurrent_clipped(s, recurrent_peephole(s, gate[2], 2, u->j, old)));
    if (attr_i(s->n, AT_RecurrentSteps_input_forget) != 0) forget = lx_sub(lo, lx_const(lo, s->t, 1), input);
    Expr *fresh = recurrent_activate(s, 1, recurrent_clipped(s, gate[3]));
    Expr *cell = lower_local(lo, s->t, lx_add(lo, lx_mul(lo, forget, old), lx_mul(lo, input, fresh)));
    set_scratch(c, s->c, u->j, cell);
    Expr *output = recurrent_activate(s, 0, recurrent_clipped(s, recurrent_peephole(s, gate[1], 1, u->j, cell)));
    finish(c, u, lx_mul(lo, output, recurrent_activate(s, 2, cell)));
}

static void gru_state(Cells *c, const Unit *u, Expr *z, Expr *hidden) {
    Lower *lo = c->s->lo;
    Expr *rest = lx_sub(lo, lx_const(lo, c->s->t, 1), z);
    finish(c, u, lx_add(lo, lx_mul(lo, rest, hidden), lx_mul(lo, z, load_h(c, c->now, u->j))));
}

static Expr *sigmoid_gate(Cells *c, const Unit *u, uint32_t gate) { return recurrent_activate(c->s, 0, recurrent_clipped(c->s, whole_gate(c, u, gate))); }

/* Reset after the product: all gates at once. */
static void cell_gru_linear(Cells *c, const Unit *u) {
    Steps *s = c->s;
    Lower *lo = s->lo;
    Expr *g = recurrent_gate(s, 2, u->j), *after = lx_add(lo, product(c, u, 2), recurrent_bias(s, g, true));
    Expr *hidden = lx_add(lo, lx_add(lo, recurrent_projected(s, g), recurrent_bias(s, g, false)), lx_mul(lo, sigmoid_gate(c, u, 1), after));
    gru_state(c, u, sigmoid_gate(c, u, 0), recurrent_activate(s, 1, recurrent_clipped(s, hidden)));
}

/* Reset before it: the first phase leaves z in `gate` and r * h in `reset`. */
static void cell_gru_gates(Cells *c, const Unit *u) {
    set_scratch(c, c->s->gate, u->j, sigmoid_gate(c, u, 0));
    set_scratch(c, c->s->reset, u->j, lx_mul(c->s->lo, sigmoid_gate(c, u, 1), load_h(c, c->now, u->j)));
}

static void cell_gru_hidden(Cells *c, const Unit *u) {
    Expr *hidden = recurrent_activate(c->s, 1, recurrent_clipped(c->s, whole_gate(c, u, 2)));
    gru_state(c, u, scratch(c, c->s->gate, u->j), hidden);
}

/* ---- the loops ------------------------------------------------------------------------------------------------------------ */
typedef void CellFn(Cells *c, const Unit *u);

static void units_of_block(Cells *c, Expr *b0, Expr *rows, uint32_t from, CellFn *cell) {
    Steps *s = c->s;
    Lower *lo = s->lo;
    Unit u = {.first = from};
    u.row = lower_for(lo, rows);
    s->b = lx_add(lo, b0, u.row);
    Expr *first = lx_mul(lo, c->block, lx_i(lo, c->units));
    u.in_block = lower_for(lo, tile_rows(lo, s->hidden, c->units, first));
    u.j = lx_add(lo, first, u.in_block);
    cell(c, &u);
    lower_end_n(lo, 2);
}

/* Gates from .. to - 1 of every unit, from the states at `state` (offset `at` of direction 0), and their part of the cell. */
static void phase(Cells *c, uint32_t from, uint32_t to, uint32_t weights, uint32_t state, Expr *at, CellFn *cell) {
    Steps *s = c->s;
    Lower *lo = s->lo;
    Context *cx = lo->cx;
    int64_t cols = (to - from) * c->units;
    uint32_t depth = lo->open.n;
    Tile tile = {.rows = c->rows, .cols = cols, .vector = module_target(lo->m)->vector_bits / 32};
    s->d = lower_for(lo, lx_i(lo, c->directions));
    c->block = lower_for(lo, lx_i(lo, c->blocks));
    if (c->shared) lo->open.v[depth]->parallel = 2;
    Expr *b0 = lx_mul(lo, lower_for_dim(lo, dim_ceildiv(cx, s->batch, dim_const(cx, c->rows))), lx_i(lo, c->rows)), *rows = tile_rows(lo, s->batch, c->rows, b0);
    Dim size[2] = {dim_const(cx, c->rows), dim_const(cx, cols)};
    c->tile = lower_array(lo, DT_F32, 2, size);
    Expr *h = lx_i(lo, c->hidden), *sequence = lx_add(lo, lx_mul(lo, s->d, lx_dim(lo, s->batch)), b0);
    Expr *panel = lx_add(lo, lx_mul(lo, s->d, lx_i(lo, c->blocks)), c->block);
    tile_emit(lo, &tile, &(TileCall){.out = c->tile, .rows = rows, .a = state, .a_at = lx_add(lo, at, lx_mul(lo, sequence, h)), .a_row = h, .a_k = lx_i(lo, 1), .k = h,
                                     .b = weights, .b_at = lx_mul(lo, panel, lx_i(lo, c->hidden * cols)), .b_k = lx_i(lo, cols)});
    Expr *steps = lx_dim(lo, s->time), *backward = lx_add(lo, lx_sub(lo, steps, s->at), lx_i(lo, -1)), *step = s->at;
    if (s->bidirectional) s->at = lx_select(lo, lx_2(lo, FN_EQ, s->d, lx_i(lo, 0)), step, backward);
    else if (s->reverse) s->at = backward;
    units_of_block(c, b0, rows, from, cell);
    s->at = step;
    lower_end_n(lo, lo->open.n - depth);
}

static void initial_states(Cells *c) {
    Steps *s = c->s;
    Lower *lo = s->lo;
    Expr *zero = lx_const(lo, s->t, 0);
    s->d = lower_for(lo, lx_i(lo, c->directions));
    s->b = lower_for_dim(lo, s->batch);
    Expr *j = lower_for(lo, lx_i(lo, c->hidden));
    store_h(c, lx_i(lo, 0), j, recurrent_operand(s, 5) != NULL ? recurrent_initial(s, 5, &j) : zero);
    if (s->c != NULL) set_scratch(c, s->c, j, recurrent_operand(s, 6) != NULL ? recurrent_initial(s, 6, &j) : zero);
    lower_end_n(lo, 3);
}

static void final_states(Cells *c) {
    Steps *s = c->s;
    Lower *lo = s->lo;
    for (uint32_t i = 1; i < s->n->n_out; i++) {
        if (!lower_is_wanted(lo, s->n->out[i])) continue;
        s->d = lower_for(lo, lx_i(lo, c->directions));
        s->b = lower_for_dim(lo, s->batch);
        Expr *j = lower_for(lo, lx_i(lo, c->hidden)), *last = lx_2(lo, FN_MOD, lx_dim(lo, s->time), lx_i(lo, 2));
        Expr *idx[3] = {s->batch_first ? s->b : s->d, s->batch_first ? s->d : s->b, j};
        lower_store(lo, s->n->out[i], idx, i == 1 ? load_h(c, last, j) : scratch(c, s->c, j));
        lower_end_n(lo, 3);
    }
}

static Value *new_scratch(Steps *s) {
    Context *cx = s->lo->cx;
    return lower_scratch(s->lo, type_tensor(cx, DT_F32, 3, (Dim[]){s->n->in[2]->type->dim[0], s->batch, s->hidden}));
}

bool lower_recurrent_tiles(Steps *s) {
    if (!fits(s)) return false;
    Lower *lo = s->lo;
    Context *cx = lo->cx;
    const Target *target = module_target(lo->m);
    int64_t vector = target->vector_bits / 32;
    Cells c = {.s = s, .hidden = dim_value(cx, s->hidden), .directions = dim_value(cx, s->n->in[2]->type->dim[0])};
    bool two = s->n_gate == 3 && attr_i(s->n, AT_RecurrentSteps_linear_before_reset) == 0;
    int64_t most = COLUMNS / s->n_gate / vector, registers = (target->registers - 2) / (s->n_gate + 1) / 2;
    if (most > registers) most = registers;
    c.units = (most > 1 ? most : 1) * vector;
    while (c.units > vector && (c.hidden + c.units - 1) / c.units * c.directions < 4) c.units -= vector;
    int64_t vectors = c.units / vector * s->n_gate;
    c.blocks = (c.hidden + c.units - 1) / c.units;
    c.rows = (target->registers - 1 - vectors) / vectors;
    if (c.rows < 1) c.rows = 1;
    if (dim_is_const(cx, s->batch) && c.rows > dim_value(cx, s->batch)) c.rows = dim_value(cx, s->batch) > 0 ? dim_value(cx, s->batch) : 1;
    c.shared = c.hidden * c.hidden * s->n_gate * c.directions * (dim_hi(cx, s->batch) > 64 ? 64 : dim_hi(cx, s->batch)) >= SHARED_WORK;
    Dim dim[4] = {dim_const(cx, 2), s->n->in[2]->type->dim[0], s->batch, s->hidden};
    c.h = lower_buf(lo, lower_scratch(lo, type_tensor(cx, DT_F32, 4, dim)));
    if (s->n_gate == 4) s->c = new_scratch(s);
    if (two) s->gate = new_scratch(s), s->reset = new_scratch(s);
    uint32_t first = pack(&c, 0, two ? 2 : s->n_gate), second = two ? pack(&c, 2, 3) : 0;
    initial_states(&c);
    uint32_t depth = lo->open.n;
    Expr *step = s->at = lower_for_dim(lo, s->time);
    lo->open.v[depth]->phases = c.shared;
    c.now = lx_2(lo, FN_MOD, step, lx_i(lo, 2));
    c.next = lx_sub(lo, lx_i(lo, 1), c.now);
    Expr *half = lx_dim(lo, dim_mul(cx, dim_mul(cx, dim[1], dim[2]), dim[3])), *at = lx_mul(lo, c.now, half);
    phase(&c, 0, two ? 2 : s->n_gate, first, c.h, at, s->n_gate == 4 ? cell_lstm : s->n_gate == 1 ? cell_rnn : two ? cell_gru_gates : cell_gru_linear);
    if (two) phase(&c, 2, 3, second, lower_buf(lo, s->reset), lx_i(lo, 0), cell_gru_hidden);
    lower_end(lo);
    final_states(&c);
    return true;
}
