/* RecurrentSteps: the part of RNN, GRU and LSTM that must go step by step, for every direction and batch element.
 *
 *     for d, b                                             (independent: split over the threads)
 *       h = initial_h; c = initial_c
 *       for step < T
 *         for g < gates*H:  gate[g] = p[d, t, b, g] + bias + sum over k of h[k] * R[d, g, k]
 *         for j < H:        c, h, Y[t, d, b, j] from the gates of j
 *
 * Gate order as in ONNX: RNN one; GRU update z, reset r, hidden h; LSTM input i, output o, forget f, cell c.
 * R of 8 bits (with a scale and a zero point, per direction or per gate row) makes the product one of integers: at each
 * step h of the whole batch is quantized over its range to u8, as DynamicQuantizeLinear does, and the sum is in i32; the
 * loop over b is then inside that over the steps.
 * With constant R of f32 the steps run on micro-kernels: passes/lower_recurrent.c.
 * Beyond sequence_lens[b] the state stays and Y is 0; the reverse direction starts at the sequence's own end. */
#include "passes/lower/recurrent.h"
#include "passes/lower/rows.h"
#include "passes/rules.h"

/* ---- activations ------------------------------------------------------------------------------------------------- */
typedef struct ActivationInfo { const char *name; bool takes_alpha, takes_beta; double alpha, beta; } ActivationInfo;
static const ActivationInfo activations[] = {
    {"Relu", false, false, 0, 0}, {"Tanh", false, false, 0, 0}, {"Sigmoid", false, false, 0, 0}, {"Affine", true, true, 1, 0},
    {"LeakyRelu", true, false, 0.01, 0}, {"ThresholdedRelu", true, false, 1, 0}, {"ScaledTanh", true, true, 1, 1},
    {"HardSigmoid", true, true, 0.2, 0.5}, {"Elu", true, false, 1, 0}, {"Softsign", false, false, 0, 0}, {"Softplus", false, false, 0, 0}};

static const ActivationInfo *activation_find(const char *name) {
    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++) {
        const char *a = activations[i].name, *b = name; /* files differ in case */
        while (*a != 0 && (*a | 32) == (*b | 32)) a++, b++;
        if (*a == 0 && *b == 0) return &activations[i];
    }
    return NULL;
}

Expr *recurrent_activate(Steps *s, uint32_t which, Expr *x) {
    Lower *lo = s->lo;
    DType t = s->t;
    Expr *zero = lx_const(lo, t, 0), *one = lx_const(lo, t, 1), *both[2] = {NULL, NULL};
    for (uint32_t d = 0; d < (s->bidirectional ? 2u : 1u); d++) {
        const Activation *a = &s->act[d][which];
        Expr *alpha = lx_const(lo, t, a->alpha), *beta = lx_const(lo, t, a->beta), *e;
        if (strcmp(a->name, "Tanh") == 0) e = lx_1(lo, FN_TANH, x);
        else if (strcmp(a->name, "Sigmoid") == 0) e = lx_1(lo, FN_SIGMOID, x);
        else if (strcmp(a->name, "Relu") == 0) e = lx_2(lo, FN_MAX, x, zero);
        else if (strcmp(a->name, "Affine") == 0) e = lx_add(lo, lx_mul(lo, alpha, x), beta);
        else if (strcmp(a->name, "LeakyRelu") == 0) e = lx_select(lo, lx_2(lo, FN_GE, x, zero), x, lx_mul(lo, alpha, x));
        else if (strcmp(a->name, "ThresholdedRelu") == 0) e = lx_select(lo, lx_2(lo, FN_GE, x, alpha), x, zero);
        else if (strcmp(a->name, "ScaledTanh") == 0) e = lx_mul(lo, alpha, lx_1(lo, FN_TANH, lx_mul(lo, beta, x)));
        else if (strcmp(a->name, "HardSigmoid") == 0) e = lx_2(lo, FN_MIN, lx_2(lo, FN_MAX, lx_add(lo, lx_mul(lo, alpha, x), beta), zero), one);
        else if (strcmp(a->name, "Elu") == 0) e = lx_select(lo, lx_2(lo, FN_GE, x, zero), x, lx_mul(lo, alpha, lx_1(lo, FN_EXPM1, x)));
        else if (strcmp(a->name, "Softsign") == 0) e = lx_div(lo, x, lx_add(lo, one, lx_1(lo, FN_ABS, x)));
        else { /* Softplus, without overflow */
            Expr *tail = lx_1(lo, FN_LOG1P, lx_1(lo, FN_EXP, lx_1(lo, FN_NEG, lx_1(lo, FN_ABS, x))));
            e = lx_add(lo, lx_2(lo, FN_MAX, x, zero), tail);
        }
        both[d] = e;
    }
    if (both[1] == NULL || both[0] == both[1]) return both[0];
    return lx_select(lo, lx_2(lo, FN_EQ, s->d, lx_i(lo, 0)), both[0], both[1]);
}

/* Names and parameters of each direction's functions: alphas and betas are consumed in order by those that take them. */
static bool read_activations(Steps *s) {
    static const char *const gru[3] = {"Sigmoid", "Tanh", "Tanh"}, *const rnn[3] = {"Tanh", "Tanh", "Tanh"};
    const Node *n = s->n;
    Context *cx = s->lo->cx;
    const Attr *names = attr_at(n, AT_RecurrentSteps_activations), *alpha = attr_at(n, AT_RecurrentSteps_activation_alpha);
    const Attr *beta = attr_at(n, AT_RecurrentSteps_activation_beta);
    uint32_t each = s->n_gate == 4 ? 3 : s->n_gate == 3 ? 2 : 1, next = 0, next_alpha = 0, next_beta = 0;
    for (uint32_t d = 0; d < (s->bidirectional ? 2u : 1u); d++) {
        for (uint32_t i = 0; i < each; i++, next++) {
            bool given = names->present && next < names->strings.n;
            const char *name = given ? str_text(cx, names->strings.v[next]) : s->n_gate == 1 ? rnn[i] : gru[i];
            const ActivationInfo *info = activation_find(name);
            if (info == NULL) {
                diag(cx, SEV_ERROR, n->loc, "unknown activation \"%s\"", name);
                return false;
            }
            Activation *a = &s->act[d][i];
            *a = (Activation){info->name, info->alpha, info->beta};
            if (info->takes_alpha && alpha->present && next_alpha < alpha->floats.n) a->alpha = alpha->floats.v[next_alpha++];
            if (info->takes_beta && beta->present && next_beta < beta->floats.n) a->beta = beta->floats.v[next_beta++];
        }
    }
    return true;
}

/* ---- operands ---------------------------------------------------------------------------------------------------- */
const Value *recurrent_operand(const Steps *s, uint32_t i) { return i < s->n->n_in ? s->n->in[i] : NULL; }

static Expr *scratch(Steps *s, const Value *v, Expr *j) {
    return lower_load(s->lo, v, (Expr *[]){s->d, s->b, j});
}

static void set_scratch(Steps *s, const Value *v, Expr *j, Expr *e) {
    lower_store(s->lo, v, (Expr *[]){s->d, s->b, j}, e);
}

Expr *recurrent_gate(Steps *s, uint32_t gate, Expr *j) {
    return lx_add(s->lo, lx_mul(s->lo, s->size, lx_i(s->lo, gate)), j);
}

Expr *recurrent_projected(Steps *s, Expr *g) {
    Lower *lo = s->lo;
    Expr *row = s->batch_first ? lx_add(lo, lx_mul(lo, s->b, lx_dim(lo, s->time)), s->at) : lx_add(lo, lx_mul(lo, s->at, lx_dim(lo, s->batch)), s->b);
    return lx_cast(lo, s->t, lower_load(lo, s->n->in[0], (Expr *[]){s->d, row, g}));
}

/* Bias of gate row g: of the input (recurrent == false) or of the recurrent product. */
Expr *recurrent_bias(Steps *s, Expr *g, bool recurrent) {
    Lower *lo = s->lo;
    if (recurrent_operand(s, 3) == NULL) return lx_const(lo, s->t, 0);
    if (recurrent) g = lx_add(lo, g, lx_mul(lo, s->size, lx_i(lo, s->n_gate)));
    return lx_cast(lo, s->t, lower_load(lo, recurrent_operand(s, 3), (Expr *[]){s->d, g}));
}

Expr *recurrent_clipped(Steps *s, Expr *x) {
    if (!attr_has(s->n, AT_RecurrentSteps_clip)) return x;
    double c = attr_f(s->n, AT_RecurrentSteps_clip);
    return lx_2(s->lo, FN_MIN, lx_2(s->lo, FN_MAX, x, lx_const(s->lo, s->t, -c)), lx_const(s->lo, s->t, c));
}

Expr *recurrent_initial(Steps *s, uint32_t i, Expr *const *j) { /* loads initial_h or initial_c */
    Expr *idx[3] = {s->batch_first ? s->b : s->d, s->batch_first ? s->d : s->b, *j};
    return lx_cast(s->lo, s->t, lower_load(s->lo, recurrent_operand(s, i), idx));
}

void recurrent_store(Steps *s, Expr *j, Expr *at, Expr *e) {
    if (!lower_is_wanted(s->lo, s->n->n_out > 0 ? s->n->out[0] : NULL)) return;
    if (s->batch_first) lower_store(s->lo, s->n->out[0], (Expr *[]){s->b, at, s->d, j}, e);
    else lower_store(s->lo, s->n->out[0], (Expr *[]){at, s->d, s->b, j}, e);
}

/* The length of sequence b. */
static Expr *length_of(Steps *s) {
    Lower *lo = s->lo;
    Expr *time = lx_dim(lo, s->time);
    if (recurrent_operand(s, 4) == NULL) return time;
    Expr *length = lx_cast(lo, DT_I64, lower_load(lo, recurrent_operand(s, 4), &s->b));
    return lower_local(lo, DT_I64, lx_2(lo, FN_MAX, lx_2(lo, FN_MIN, length, time), lx_i(lo, 0)));
}

/* ---- quantized state --------------------------------------------------------------------------------------------- */
/* h of all b in 255 levels of a range that holds 0; the zero point is taken off at once, as every product needs that.
 * A sequence counts for the range up to the step that follows its last one, where ONNX Runtime still reads its state. */
static void quantize_state(Steps *s, Expr *step) {
    Lower *lo = s->lo;
    DType t = s->t;
    Expr *zero = lx_const(lo, t, 0), *top = lx_const(lo, t, 255);
    Expr *least = lower_local(lo, t, zero), *most = lower_local(lo, t, zero);
    s->b = lower_for_dim(lo, s->batch);
    bool ends = recurrent_operand(s, 4) != NULL;
    if (ends) lower_if(lo, lx_2(lo, FN_LE, step, length_of(s)));
    Expr *k = lower_for_dim(lo, s->hidden);
    lower_accumulate(lo, least, FN_MIN, scratch(s, s->h, k));
    lower_accumulate(lo, most, FN_MAX, scratch(s, s->h, k));
    lower_end_n(lo, ends ? 3 : 2);
    Expr *range = lx_sub(lo, most, least);
    s->level_scale = lower_local(lo, t, lx_select(lo, lx_2(lo, FN_EQ, range, zero), lx_const(lo, t, 1), lx_div(lo, range, top)));
    Expr *offset = lx_2(lo, FN_MIN, lx_2(lo, FN_MAX, lx_div(lo, lx_1(lo, FN_NEG, least), s->level_scale), zero), top);
    offset = lower_local(lo, t, lx_1(lo, FN_RINT, offset));
    s->b = lower_for_dim(lo, s->batch);
    k = lower_for_dim(lo, s->hidden);
    Expr *q = lx_add(lo, lx_1(lo, FN_RINT, lx_div(lo, scratch(s, s->h, k), s->level_scale)), offset);
    q = lx_sub(lo, lx_2(lo, FN_MIN, lx_2(lo, FN_MAX, q, zero), top), offset);
    set_scratch(s, s->level, k, lx_cast(lo, dtype_compute(DT_I16), q));
    lower_end_n(lo, 2);
}

/* The scale or zero point of row g of R: of shape [D] or [D, gates*H]. */
static Expr *row_parameter(Steps *s, uint32_t i, Expr *g, DType t) {
    return lx_cast(s->lo, t, lower_load(s->lo, recurrent_operand(s, i), (Expr *[]){s->d, g}));
}

/* R[d, g, :] . h from the levels of h */
static Expr *quantized_product(Steps *s, Expr *g) {
    Lower *lo = s->lo;
    Expr *zero = lower_local(lo, DT_I32, row_parameter(s, 9, g, DT_I32)), *sum = lower_local(lo, DT_I32, lx_const(lo, DT_I32, 0));
    Expr *k = lower_for_dim(lo, s->hidden);
    Expr *r = lx_cast(lo, DT_I32, lower_load(lo, s->n->in[2], (Expr *[]){s->d, g, k}));
    lower_accumulate(lo, sum, FN_ADD, lx_mul(lo, lx_cast(lo, DT_I32, scratch(s, s->level, k)), lx_sub(lo, r, zero)));
    lower_end(lo);
    return lx_mul(lo, lx_cast(lo, s->t, sum), lx_mul(lo, s->level_scale, row_parameter(s, 8, g, s->t)));
}

/* gate[g] = start(g) + R[d, g, :] . state for the gates from..to */
static void products(Steps *s, uint32_t from, uint32_t to, const Value *state, bool with_input) {
    Lower *lo = s->lo;
    Expr *j = lower_for(lo, lx_mul(lo, s->size, lx_i(lo, to - from)));
    Expr *g = recurrent_gate(s, from, j), *start = recurrent_bias(s, g, true);
    if (with_input) start = lx_add(lo, lx_add(lo, recurrent_projected(s, g), recurrent_bias(s, g, false)), start);
    if (s->level != NULL) {
        set_scratch(s, s->gate, g, lx_add(lo, quantized_product(s, g), start));
        lower_end(lo);
        return;
    }
    Expr *sum = lower_local(lo, s->t, lx_const(lo, s->t, 0));
    Expr *k = lower_for_dim(lo, s->hidden);
    Expr *r = lx_cast(lo, s->t, lower_load(lo, s->n->in[2], (Expr *[]){s->d, g, k}));
    lower_accumulate(lo, sum, FN_ADD, lx_mul(lo, scratch(s, state, k), r));
    lower_end(lo);
    set_scratch(s, s->gate, g, lx_add(lo, sum, start));
    lower_end(lo);
}

/* ---- cells ------------------------------------------------------------------------------------------------------- */
static void cell_rnn(Steps *s) {
    products(s, 0, 1, s->h, true);
    Expr *j = lower_for_dim(s->lo, s->hidden);
    Expr *h = recurrent_activate(s, 0, recurrent_clipped(s, scratch(s, s->gate, j)));
    set_scratch(s, s->h, j, h);
    recurrent_store(s, j, s->at, scratch(s, s->h, j));
    lower_end(s->lo);
}

static void cell_gru(Steps *s) {
    Lower *lo = s->lo;
    bool linear = attr_i(s->n, AT_RecurrentSteps_linear_before_reset) != 0;
    products(s, 0, 2, s->h, true);
    if (linear) {
        products(s, 2, 3, s->h, false);
    } else {
        Expr *k = lower_for_dim(lo, s->hidden);
        Expr *r = recurrent_activate(s, 0, recurrent_clipped(s, scratch(s, s->gate, recurrent_gate(s, 1, k))));
        set_scratch(s, s->reset, k, lx_mul(lo, r, scratch(s, s->h, k)));
        lower_end(lo);
        products(s, 2, 3, s->reset, true);
    }
    Expr *j = lower_for_dim(lo, s->hidden), *g = recurrent_gate(s, 2, j), *hidden = scratch(s, s->gate, g);
    if (linear) {
        Expr *r = recurrent_activate(s, 0, recurrent_clipped(s, scratch(s, s->gate, recurrent_gate(s, 1, j))));
        hidden = lx_add(lo, lx_add(lo, recurrent_projected(s, g), recurrent_bias(s, g, false)), lx_mul(lo, r, hidden));
    }
    hidden = recurrent_activate(s, 1, recurrent_clipped(s, hidden));
    Expr *z = recurrent_activate(s, 0, recurrent_clipped(s, scratch(s, s->gate, recurrent_gate(s, 0, j))));
    Expr *kept = lx_mul(lo, z, scratch(s, s->h, j));
    set_scratch(s, s->h, j, lx_add(lo, lx_mul(lo, lx_sub(lo, lx_const(lo, s->t, 1), z), hidden), kept));
    recurrent_store(s, j, s->at, scratch(s, s->h, j));
    lower_end(lo);
}

Expr *recurrent_peephole(Steps *s, Expr *x, uint32_t which, Expr *j, Expr *c) {
    if (recurrent_operand(s, 7) == NULL) return x;
    Expr *p = lx_cast(s->lo, s->t, lower_load(s->lo, recurrent_operand(s, 7), (Expr *[]){s->d, recurrent_gate(s, which, j)}));
    return lx_add(s->lo, x, lx_mul(s->lo, p, c));
}

static void cell_lstm(Steps *s) {
    Lower *lo = s->lo;
    products(s, 0, 4, s->h, true);
    Expr *j = lower_for_dim(lo, s->hidden), *c = scratch(s, s->c, j), *gate[4];
    for (uint32_t i = 0; i < 4; i++) gate[i] = scratch(s, s->gate, recurrent_gate(s, i, j));
    Expr *input = recurrent_activate(s, 0, recurrent_clipped(s, recurrent_peephole(s, gate[0], 0, j, c)));
    Expr *forget = recurrent_activate(s, 0, recurrent_clipped(s, recurrent_peephole(s, gate[2], 2, j, c)));
    if (attr_i(s->n, AT_RecurrentSteps_input_forget) != 0) forget = lx_sub(lo, lx_const(lo, s->t, 1), input);
    Expr *fresh = recurrent_activate(s, 1, recurrent_clipped(s, gate[3]));
    set_scratch(s, s->c, j, lx_add(lo, lx_mul(lo, forget, c), lx_mul(lo, input, fresh)));
    Expr *output = recurrent_activate(s, 0, recurrent_clipped(s, recurrent_peephole(s, gate[1], 1, j, scratch(s, s->c, j))));
    set_scratch(s, s->h, j, lx_mul(lo, output, recurrent_activate(s, 2, scratch(s, s->c, j))));
    recurrent_store(s, j, s->at, scratch(s, s->h, j));
    lower_end(lo);
}

/* ---- the frame --------------------------------------------------------------------------------------------------- */
static Value *new_scratch(Steps *s, DType t, Dim width) {
    return lower_scratch(s->lo, type_tensor(s->lo->cx, t, 3, (Dim[]){s->n->in[2]->type->dim[0], s->batch, width}));
}

static void initial_state(Steps *s) {
    Lower *lo = s->lo;
    Expr *j = lower_for_dim(lo, s->hidden), *zero = lx_const(lo, s->t, 0);
    set_scratch(s, s->h, j, recurrent_operand(s, 5) != NULL ? recurrent_initial(s, 5, &j) : zero);
    if (s->c != NULL) set_scratch(s, s->c, j, recurrent_operand(s, 6) != NULL ? recurrent_initial(s, 6, &j) : zero);
    lower_end(lo);
}

static void final_state(Steps *s) {
    Lower *lo = s->lo;
    for (uint32_t i = 1; i < s->n->n_out; i++) {
        if (!lower_is_wanted(lo, s->n->out[i])) continue;
        Expr *j = lower_for_dim(lo, s->hidden);
        Expr *idx[3] = {s->batch_first ? s->b : s->d, s->batch_first ? s->d : s->b, j};
        lower_store(lo, s->n->out[i], idx, scratch(s, i == 1 ? s->h : s->c, j));
        lower_end(lo);
    }
}

static void one_step(Steps *s) {
    switch (s->n_gate) {
    case 4: cell_lstm(s); break;
    case 3: cell_gru(s); break;
    default: cell_rnn(s); break;
    }
}

/* What happens to sequence b at one step. */
static void step_of(Steps *s, Expr *step, Expr *length) {
    Lower *lo = s->lo;
    Expr *backward = lx_add(lo, lx_sub(lo, length, step), lx_i(lo, -1));
    bool ends = recurrent_operand(s, 4) != NULL;
    if (ends) lower_if(lo, lx_2(lo, FN_LT, step, length));
    if (s->bidirectional) s->at = lx_select(lo, lx_2(lo, FN_EQ, s->d, lx_i(lo, 0)), step, backward);
    else s->at = s->reverse ? backward : step;
    one_step(s);
    if (!ends) return;
    lower_else(lo);
    Expr *j = lower_for_dim(lo, s->hidden);
    recurrent_store(s, j, step, lx_const(lo, s->t, 0));
    lower_end_n(lo, 2);
}

/* Sequences are independent of each other: each thread takes some through all steps. */
static void by_sequence(Steps *s) {
    Lower *lo = s->lo;
    s->b = lower_for_dim(lo, s->batch);
    initial_state(s);
    Expr *length = length_of(s), *step = lower_for_dim(lo, s->time);
    step_of(s, step, length);
    lower_end(lo);
    final_state(s);
    lower_end(lo);
}

/* All sequences of a step share the scale of their states. */
static void by_step(Steps *s) {
    Lower *lo = s->lo;
    s->b = lower_for_dim(lo, s->batch);
    initial_state(s);
    lower_end(lo);
    Expr *step = lower_for_dim(lo, s->time);
    quantize_state(s, step);
    s->b = lower_for_dim(lo, s->batch);
    step_of(s, step, length_of(s));
    lower_end_n(lo, 2);
    s->b = lower_for_dim(lo, s->batch);
    final_state(s);
    lower_end(lo);
}

bool lower_recurrent_steps(Lower *lo, const Node *n) {
    const Type *x = n->in[1]->type, *r = n->in[2]->type;
    Steps s = {.lo = lo, .n = n, .t = lower_float_type(x->dtype), .hidden = r->dim[2]};
    s.batch_first = attr_i(n, AT_RecurrentSteps_layout) != 0;
    s.bidirectional = attr_s_is(lo->cx, n, AT_RecurrentSteps_direction, "bidirectional");
    s.reverse = attr_s_is(lo->cx, n, AT_RecurrentSteps_direction, "reverse");
    s.n_gate = (uint32_t)attr_i(n, AT_RecurrentSteps_gates);
    s.time = x->dim[s.batch_first ? 1 : 0];
    s.batch = x->dim[s.batch_first ? 0 : 1];
    s.size = lx_dim(lo, s.hidden);
    if (!read_activations(&s)) return false;
    if (lower_recurrent_tiles(&s)) return true;
    s.gate = new_scratch(&s, s.t, dim_mul(lo->cx, s.hidden, dim_const(lo->cx, s.n_gate)));
    s.h = new_scratch(&s, s.t, s.hidden);
    if (s.n_gate == 4) s.c = new_scratch(&s, s.t, s.hidden);
    if (recurrent_operand(&s, 8) != NULL) s.level = new_scratch(&s, DT_I16, s.hidden);
    if (s.n_gate == 3) s.reset = new_scratch(&s, s.t, s.hidden);
    s.d = lower_for_dim(lo, r->dim[0]);
    if (s.level != NULL) by_step(&s);
    else by_sequence(&s);
    lower_end(lo);
    return true;
}
