/* RNN, GRU and LSTM for training: the input projection of all steps as one product, then a Scan per direction, whose gradient is known.
 *
 *     LSTM(x, w, r, b)    ->    p = x w' + wb + rb
 *                               y, h, c = Scan(h0, c0; p_t) { g = p_t + h r';  i, o, f, z = Split(g);  c' = f * c + i * z;  h' = o * tanh(c') }
 *
 * One step needs no Scan. RecurrentSteps of one step, out of which other operators make their own loops, has the share of x in the gates as an input.
 * Gate order as in ONNX: GRU update, reset, hidden; LSTM input, output, forget, cell. Sequences of other lengths: the state stays and the
 * result is 0 behind the end; backwards they are reversed within their length first. */
#include <math.h>

#include "passes/grad/grad.h"
#include "passes/rules.h"

typedef struct Recurrent {
    Module *m;
    Node *n;                   /* the operator; new nodes outside the body stand before it */
    Node *end;                 /* the end of the body: new nodes stand before it */
    uint32_t gates, direction; /* 4, 3, 1 */
    int64_t hidden;
    bool backward;
    uint32_t next_name, next_alpha, next_beta; /* activations are consumed in order */
    Str act[3];
    double alpha[3], beta[3];
} Recurrent;

static Value *in_body1(Recurrent *r, Op op, Value *a) { return build1(r->m, r->end, op, a); }
static Value *in_body(Recurrent *r, Op op, Value *a, Value *b) { return build2(r->m, r->end, op, a, b); }
static Value *number(const Value *like, Module *m, double v) { return value_const_scalar(m, like->type->dtype, v); }

/* ---- activations ----------------------------------------------------------------------------------------------------------------- */
static bool same_name(const char *a, const char *b) { /* files differ in case */
    while (*a != 0 && (*a | 32) == (*b | 32)) a++, b++;
    return *a == 0 && *b == 0;
}

/* The activations of the next direction; parameters left out are those of the operators of that name. */
static void read_activations(Recurrent *r) {
    static const struct { const char *name; bool alpha, beta; double a, b; } info[] = {
        {"Affine", true, true, 1, 0}, {"LeakyRelu", true, false, 0.01, 0}, {"ThresholdedRelu", true, false, 1, 0}, {"ScaledTanh", true, true, 1, 1},
        {"HardSigmoid", true, true, 0.2, 0.5}, {"Elu", true, false, 1, 0}};
    const Attr *names = attr_at(r->n, attr_named(r->n, "activations")), *alpha = attr_at(r->n, attr_named(r->n, "activation_alpha"));
    const Attr *beta = attr_at(r->n, attr_named(r->n, "activation_beta"));
    uint32_t each = r->gates == 4 ? 3 : r->gates == 3 ? 2 : 1;
    for (uint32_t i = 0; i < each; i++, r->next_name++) {
        bool given = names->present && r->next_name < names->strings.n;
        r->act[i] = given ? names->strings.v[r->next_name] : str_intern(r->m->cx, r->gates == 1 || i != 0 ? "Tanh" : "Sigmoid");
        for (size_t k = 0; k < sizeof info / sizeof *info; k++) {
            if (!same_name(info[k].name, str_text(r->m->cx, r->act[i]))) continue;
            r->alpha[i] = info[k].a;
            r->beta[i] = info[k].b;
            if (info[k].alpha && alpha->present && r->next_alpha < alpha->floats.n) r->alpha[i] = alpha->floats.v[r->next_alpha++];
            if (info[k].beta && beta->present && r->next_beta < beta->floats.n) r->beta[i] = beta->floats.v[r->next_beta++];
        }
    }
}

static Value *with_parameters(Recurrent *r, Op op, Value *x, double alpha, double beta) {
    Node *n = node_new(r->m, r->end->graph, r->end, op, 1, &x, 1);
    n->loc = r->n->loc;
    attr_set_f(n, attr_named(n, "alpha"), alpha);
    if (attr_named(n, "beta") != AT_COUNT) attr_set_f(n, attr_named(n, "beta"), beta);
    return expand_result(r->m, n);
}

static Value *activate(Recurrent *r, uint32_t which, Value *x) {
    const char *name = str_text(r->m->cx, r->act[which]);
    double a = r->alpha[which], b = r->beta[which];
    static const struct { const char *name; Op op; bool parameters; } plain[] = {
        {"Tanh", OP_Tanh, false}, {"Sigmoid", OP_Sigmoid, false}, {"Relu", OP_Relu, false}, {"Softsign", OP_Softsign, false}, {"Softplus", OP_Softplus, false},
        {"LeakyRelu", OP_LeakyRelu, true}, {"ThresholdedRelu", OP_ThresholdedRelu, true}, {"HardSigmoid", OP_HardSigmoid, true}, {"Elu", OP_Elu, true}};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        if (!same_name(plain[i].name, name)) continue;
        return plain[i].parameters ? with_parameters(r, plain[i].op, x, a, b) : in_body1(r, plain[i].op, x);
    }
    if (same_name("Affine", name)) return in_body(r, OP_Add, in_body(r, OP_Mul, x, number(x, r->m, a)), number(x, r->m, b));
    if (same_name("ScaledTanh", name)) return in_body(r, OP_Mul, in_body1(r, OP_Tanh, in_body(r, OP_Mul, x, number(x, r->m, b))), number(x, r->m, a));
    diag(r->m->cx, SEV_ERROR, r->n->loc, "unknown activation \"%s\"", name);
    return NULL;
}

/* ---- one step -------------------------------------------------------------------------------------------------------------------- */
static Value *clipped(Recurrent *r, Value *x) {
    AttrSlot clip = attr_named(r->n, "clip");
    if (!attr_has(r->n, clip)) return x;
    double c = attr_f(r->n, clip);
    return build3(r->m, r->end, OP_Clip, x, number(x, r->m, -c), number(x, r->m, c));
}

static Value *gate(Recurrent *r, Value *all, uint32_t k) { /* columns of gate k */
    return r->gates == 1 ? all : expand_slice(r->m, r->end, all, k * r->hidden, (k + 1) * r->hidden, 1);
}

/* h R': transposed once in front of the loop, so that no step has to. */
static Value *recur(Recurrent *r, Value *h, Value *weights) {
    return in_body(r, OP_MatMul, h, expand_transpose(r->m, r->n, weights, 2, (int64_t[]){1, 0}));
}

static Value *peep(Recurrent *r, Value *x, Value *p, uint32_t k, Value *c) { /* x + p[k] * c */
    if (p == NULL) return x;
    return in_body(r, OP_Add, x, in_body(r, OP_Mul, expand_slice(r->m, r->end, p, k * r->hidden, (k + 1) * r->hidden, 0), c));
}

static Value *step_lstm(Recurrent *r, Value *p, Value *weights, Value *peephole, Value *h, Value *c, Value **c_next) {
    Value *all = in_body(r, OP_Add, p, recur(r, h, weights)), *one = number(all, r->m, 1);
    Value *i = activate(r, 0, clipped(r, peep(r, gate(r, all, 0), peephole, 0, c)));
    if (i == NULL) return NULL;
    bool coupled = attr_i(r->n, attr_named(r->n, "input_forget")) != 0;
    Value *f = coupled ? in_body(r, OP_Sub, one, i) : activate(r, 0, clipped(r, peep(r, gate(r, all, 2), peephole, 2, c)));
    Value *z = activate(r, 1, clipped(r, gate(r, all, 3)));
    if (f == NULL || z == NULL) return NULL;
    *c_next = in_body(r, OP_Add, in_body(r, OP_Mul, f, c), in_body(r, OP_Mul, i, z));
    Value *o = activate(r, 0, clipped(r, peep(r, gate(r, all, 1), peephole, 1, *c_next))), *y = activate(r, 2, *c_next);
    return o != NULL && y != NULL ? in_body(r, OP_Mul, o, y) : NULL;
}

/* p: gates of x with both biases, except that the hidden gate has its recurrent bias in rb when the reset gate acts behind the product. */
static Value *step_gru(Recurrent *r, Value *p, Value *weights, Value *rb, Value *h) {
    bool behind = attr_i(r->n, attr_named(r->n, "linear_before_reset")) != 0;
    int64_t split = 2 * r->hidden;
    Value *product = recur(r, h, behind ? weights : expand_slice(r->m, r->n, weights, 0, split, 0)), *z[2];
    for (uint32_t k = 0; k < 2; k++) {
        z[k] = activate(r, 0, clipped(r, in_body(r, OP_Add, gate(r, p, k), gate(r, product, k))));
        if (z[k] == NULL) return NULL;
    }
    Value *inner;
    if (behind) {
        inner = gate(r, product, 2);
        if (rb != NULL) inner = in_body(r, OP_Add, inner, rb);
        inner = in_body(r, OP_Mul, z[1], inner);
    } else {
        inner = recur(r, in_body(r, OP_Mul, z[1], h), expand_slice(r->m, r->n, weights, split, 3 * r->hidden, 0));
    }
    Value *candidate = activate(r, 1, clipped(r, in_body(r, OP_Add, gate(r, p, 2), inner)));
    if (candidate == NULL) return NULL;
    Value *keep = in_body(r, OP_Mul, z[0], h), *one = number(h, r->m, 1);
    return in_body(r, OP_Add, in_body(r, OP_Mul, in_body(r, OP_Sub, one, z[0]), candidate), keep);
}

/* ---- one direction --------------------------------------------------------------------------------------------------------------- */
static Value *pick(Recurrent *r, Value *v) { /* row `direction` of an operand with a leading axis of directions */
    if (v == NULL) return NULL;
    if (v->type->dim[0] == dim_const(r->m->cx, 1)) return build2(r->m, r->n, OP_Squeeze, v, value_const_i64(r->m, 1, (int64_t[]){0}));
    return expand_gather(r->m, r->n, v, value_const_scalar(r->m, DT_I64, r->direction), 0);
}

static Value *bias_part(Recurrent *r, Value *b, int64_t from, int64_t to) { return expand_slice(r->m, r->n, b, from, to, 0); }

/* Both biases of every gate, and what must wait for the reset gate. */
static Value *bias(Recurrent *r, Value *b, Value **late) {
    int64_t all = (int64_t)r->gates * r->hidden;
    *late = NULL;
    if (b == NULL) return NULL;
    Value *w = bias_part(r, b, 0, all), *rb = bias_part(r, b, all, 2 * all);
    if (r->gates == 3 && attr_i(r->n, attr_named(r->n, "linear_before_reset")) != 0) {
        *late = bias_part(r, rb, 2 * r->hidden, all);
        Value *early = expand_slice(r->m, r->n, rb, 0, 2 * r->hidden, 0);
        Value *zeros = build2(r->m, r->n, OP_Mul, *late, number(*late, r->m, 0));
        rb = expand_concat(r->m, r->n, 2, (Value *[]){early, zeros}, 0);
    }
    return build2(r->m, r->n, OP_Add, w, rb);
}

static Value *reverse(Recurrent *r, Value *v, Value *lengths) { /* [T, B, …], each sequence within its length */
    Node *n = expand_node(r->m, r->n, OP_ReverseSequence, 2, (Value *[]){v, lengths}, 1);
    return expand_result(r->m, n); /* time axis 0, batch axis 1 */
}

static Value *project(Recurrent *r, Value *x, Value *w, Value *b) { /* x W' + b, [T, B, gates*H] */
    Node *n = expand_node(r->m, r->n, OP_FusedMatMul, 2, (Value *[]){x, w}, 1);
    attr_set_i(n, AT_FusedMatMul_transB, 1);
    Value *p = expand_result(r->m, n);
    return b != NULL ? build2(r->m, r->n, OP_Add, p, b) : p;
}

typedef struct Results { Value *y, *h, *c; } Results;

/* The share of x in the gates, [T, B, gates*H], with both biases. */
static Value *share_of_input(Recurrent *r, Value *x, Value *b) {
    if (r->n->op != OP_RecurrentSteps) return project(r, x, pick(r, r->n->in[1]), b);
    Value *p = build2(r->m, r->n, OP_Unsqueeze, pick(r, r->n->in[0]), value_const_i64(r->m, 1, (int64_t[]){0}));
    return b != NULL ? build2(r->m, r->n, OP_Add, p, b) : p;
}

/* The states after one step, at r->end. */
static Value *step(Recurrent *r, Value *pt, Value *weights, Value *peephole, Value *late, Value *h, Value *c, Value **c_next) {
    if (r->gates == 4) return step_lstm(r, pt, weights, peephole, h, c, c_next);
    if (r->gates == 3) return step_gru(r, pt, weights, late, h);
    return activate(r, 0, clipped(r, in_body(r, OP_Add, pt, recur(r, h, weights))));
}

static bool one_step(Recurrent *r, Value *p, Value *weights, Value *peephole, Value *late, Value *h0, Value *c0, Results *out) {
    Value *first = value_const_i64(r->m, 1, (int64_t[]){0});
    r->end = r->n;
    out->h = step(r, build2(r->m, r->n, OP_Squeeze, p, first), weights, peephole, late, h0, c0, &out->c);
    out->y = out->h != NULL ? build2(r->m, r->n, OP_Unsqueeze, out->h, first) : NULL;
    return out->y != NULL;
}

static bool run_direction(Recurrent *r, Value *x, Value *lengths, Value *h0, Value *c0, Results *out) {
    Module *m = r->m;
    Node *n = r->n;
    bool lstm = r->gates == 4;
    Value *weights = pick(r, n->in[2]), *late, *b = bias(r, pick(r, expand_input(n, 3)), &late);
    Value *peephole = lstm ? pick(r, expand_input(n, 7)) : NULL;
    if (r->backward && lengths != NULL) x = reverse(r, x, lengths);
    Value *p = share_of_input(r, x, b);
    if (p == NULL || weights == NULL) return false;
    read_activations(r);
    if (lengths == NULL && p->type->dim[0] == dim_const(m->cx, 1)) return one_step(r, p, weights, peephole, late, h0, c0, out);
    Graph *body = graph_new(m, n->graph, "step");
    Dim dim[2] = {p->type->dim[1], p->type->dim[2]};
    Value *h = graph_add_input(m, body, h0->type, 0), *c = lstm ? graph_add_input(m, body, c0->type, 0) : NULL;
    Value *time = lengths != NULL ? graph_add_input(m, body, type_tensor(m->cx, DT_I64, 0, NULL), 0) : NULL;
    Value *pt = graph_add_input(m, body, type_tensor(m->cx, p->type->dtype, 2, dim), 0), *c_next = NULL, *h_next;
    r->end = node_new(m, body, NULL, OP_Identity, 1, &pt, 1);
    r->end->loc = n->loc;
    h_next = step(r, pt, weights, peephole, late, h, c, &c_next);
    if (h_next == NULL) return false;
    Value *y = h_next;
    if (lengths != NULL) {
        Value *going = in_body(r, OP_Less, time, build2(m, r->end, OP_Unsqueeze, lengths, value_const_i64(m, 1, (int64_t[]){1})));
        y = build3(m, r->end, OP_Where, going, h_next, number(h, m, 0));
        h_next = build3(m, r->end, OP_Where, going, h_next, h);
        if (lstm) c_next = build3(m, r->end, OP_Where, going, c_next, c);
        time = in_body(r, OP_Add, time, value_const_scalar(m, DT_I64, 1));
    }
    graph_add_output(m, body, h_next);
    if (lstm) graph_add_output(m, body, c_next);
    if (lengths != NULL) graph_add_output(m, body, time);
    graph_add_output(m, body, in_body1(r, OP_Identity, y));
    node_remove(r->end);
    Value *in[4];
    uint32_t n_in = 0, states;
    in[n_in++] = h0;
    if (lstm) in[n_in++] = c0;
    if (lengths != NULL) in[n_in++] = value_const_scalar(m, DT_I64, 0);
    states = n_in;
    in[n_in++] = p;
    Node *scan = expand_node(m, n, OP_Scan, n_in, in, states + 1);
    attr_set_graph(scan, AT_Scan_body, body);
    attr_set_i(scan, AT_Scan_num_scan_inputs, 1);
    int64_t back = r->backward && lengths == NULL;
    attr_set_ints(m->cx, scan, AT_Scan_scan_input_directions, &back, 1);
    attr_set_ints(m->cx, scan, AT_Scan_scan_output_directions, &back, 1);
    if (!node_infer(m, scan)) return false;
    *out = (Results){.y = scan->out[states], .h = scan->out[0], .c = lstm ? scan->out[1] : NULL};
    if (r->backward && lengths != NULL) out->y = reverse(r, out->y, lengths);
    return out->y != NULL;
}

/* An initial state of one direction [B, H]; zeros where it is left out. */
static Value *initial(Recurrent *r, uint32_t input, Value *x) {
    Value *v = expand_input(r->n, input);
    bool batch_first = attr_i(r->n, attr_named(r->n, "layout")) != 0;
    if (v != NULL) return expand_gather(r->m, r->n, v, value_const_scalar(r->m, DT_I64, r->direction), batch_first ? 1 : 0);
    Value *batch = expand_slice(r->m, r->n, build1(r->m, r->n, OP_Shape, x), 1, 2, 0);
    Value *shape = expand_concat(r->m, r->n, 2, (Value *[]){batch, value_const_i64(r->m, 1, &r->hidden)}, 0);
    return build2(r->m, r->n, OP_Expand, number(x, r->m, 0), shape);
}

static Value *stacked(Recurrent *r, uint32_t count, Value *const *v, int64_t axis) {
    Value *part[2];
    for (uint32_t i = 0; i < count; i++) part[i] = build2(r->m, r->n, OP_Unsqueeze, v[i], value_const_i64(r->m, 1, &axis));
    return count == 1 ? part[0] : expand_concat(r->m, r->n, count, part, axis);
}

bool grad_expand_recurrent(Module *m, Node *n, Value **out) {
    Context *cx = m->cx;
    Dim hidden = n->in[2]->type->dim[2];
    if (!dim_is_const(cx, hidden)) {
        diag(cx, SEV_ERROR, n->loc, "its gradient needs a hidden size that is known at compile time");
        return false;
    }
    Recurrent r = {.m = m, .n = n, .hidden = dim_value(cx, hidden), .gates = n->op == OP_LSTM ? 4 : n->op == OP_GRU ? 3 : 1};
    bool ready = n->op == OP_RecurrentSteps;
    if (ready) r.gates = (uint32_t)attr_i(n, AT_RecurrentSteps_gates);
    if (ready && (attr_i(n, AT_RecurrentSteps_layout) != 0 || n->in[1]->type->dim[0] != dim_const(cx, 1) || expand_input(n, 4) != NULL || expand_input(n, 8) != NULL))
        return expand_fail(m, n, "internal: only one step of RecurrentSteps has a gradient");
    AttrSlot direction = attr_named(n, "direction");
    bool batch_first = attr_i(n, attr_named(n, "layout")) != 0, both = attr_s_is(cx, n, direction, "bidirectional");
    bool only_backward = attr_s_is(cx, n, direction, "reverse");
    Value *x = n->in[ready ? 1 : 0], *lengths = expand_input(n, 4);
    if (batch_first) x = expand_transpose(m, n, x, 3, (int64_t[]){1, 0, 2});
    if (lengths != NULL) lengths = expand_cast(m, n, lengths, DT_I64);
    Value *y[2], *h[2], *c[2];
    uint32_t count = both ? 2 : 1;
    for (uint32_t d = 0; d < count; d++) {
        Results result;
        r.direction = d;
        r.backward = only_backward || d == 1;
        if (!run_direction(&r, x, lengths, initial(&r, 5, x), r.gates == 4 ? initial(&r, 6, x) : NULL, &result)) return false;
        y[d] = batch_first ? expand_transpose(m, n, result.y, 3, (int64_t[]){1, 0, 2}) : result.y;
        h[d] = result.h;
        c[d] = result.c;
    }
    if (n->n_out > 0 && n->out[0] != NULL) out[0] = stacked(&r, count, y, batch_first ? 2 : 1);
    if (n->n_out > 1 && n->out[1] != NULL) out[1] = stacked(&r, count, h, batch_first ? 1 : 0);
    if (n->n_out > 2 && n->out[2] != NULL) out[2] = stacked(&r, count, c, batch_first ? 1 : 0);
    return true;
}
