/* AttnLSTM of com.microsoft: an LSTM whose input at each step is x_t beside an attention over a memory, asked for with the step before.
 *
 *     keys = M MW                                     [D,B,S,K]      once, like the share of X in the gates:
 *     p = X W[:, :I]'                                 [T,D,B,4*H]
 *     y, h, c = Scan(h0, c0, a = 0; p_t) {
 *         h, c = RecurrentSteps(p_t + a W[:, I:]')                     one step, all directions
 *         s = sum of V * tanh(keys + h QW)            [D,B,S]          -inf behind memory_seq_lens
 *         a = softmax(s) M                            [D,B,depth]      with AW: concat(h, softmax(s) M) AW
 *     }
 *
 * The backward direction reads X reversed within the lengths of its sequences, and its result is reversed again. Behind the end of a sequence
 * the state stays and Y is 0. */
#include <math.h>

#include "passes/expand/build.h"
#include "passes/expand/chain.h"
#include "passes/rules.h"

typedef struct AttentionLstm {
    Chain at; /* nodes before the operator */
    Value *x, *w, *r, *memory;
    Value *lengths; /* i64 [B]; NULL: all steps */
    uint32_t directions;
    bool backward[2];
    int64_t input; /* I */
} AttentionLstm;

/* ---- before the loop ------------------------------------------------------------------------------------------------------ */
/* v [T,B,..], each sequence backwards within its length. */
static Value *reversed(const AttentionLstm *a, Value *v) {
    const Chain *c = &a->at;
    Value *lengths = a->lengths;
    if (lengths == NULL) lengths = chain_2(c, OP_Expand, chain_size(c, a->x, 0), chain_slice(c, chain_1(c, OP_Shape, a->x), 1, 2, 0));
    return chain_2(c, OP_ReverseSequence, v, lengths); /* time axis 0, batch axis 1 */
}

static Value *stacked(const AttentionLstm *a, Value *const *v, int64_t axis) {
    Value *first = chain_unsqueeze(&a->at, v[0], axis);
    return a->directions == 1 ? first : chain_concat(&a->at, first, chain_unsqueeze(&a->at, v[1], axis), axis);
}

static Value *of_direction(const AttentionLstm *a, Value *v, uint32_t d) { return chain_gather(&a->at, v, chain_int(&a->at, d), 0); }

/* W[:, :, from:to]', [D, to - from, 4*H] */
static Value *columns(const AttentionLstm *a, int64_t from, int64_t to) {
    return chain_transpose(&a->at, chain_slice(&a->at, a->w, from, to, 2), 3, (int64_t[]){0, 2, 1});
}

static Value *projected(const AttentionLstm *a) {
    Value *weights = columns(a, 0, a->input), *p[2];
    for (uint32_t d = 0; d < a->directions; d++)
        p[d] = chain_2(&a->at, OP_MatMul, a->backward[d] ? reversed(a, a->x) : a->x, of_direction(a, weights, d));
    return stacked(a, p, 1);
}

static Value *keys(const AttentionLstm *a) {
    Value *k[2];
    for (uint32_t d = 0; d < a->directions; d++) k[d] = chain_2(&a->at, OP_MatMul, a->memory, of_direction(a, a->at.n->in[9], d));
    return stacked(a, k, 0);
}

/* Zeros [D, B, width], or the operator's input i. */
static Value *initial(const AttentionLstm *a, Value *given, Value *width) {
    const Chain *c = &a->at;
    if (given != NULL) return given;
    Value *batch = chain_slice(c, chain_1(c, OP_Shape, a->x), 1, 2, 0), *directions = value_const_i64(c->m, 1, (int64_t[]){a->directions});
    Value *shape = chain_concat(c, chain_concat(c, directions, batch, 0), chain_unsqueeze(c, width, 0), 0);
    return chain_2(c, OP_Expand, chain_like(c, a->x, 0), shape);
}

/* bool [B,S]: the rows of the memory that a sequence has; NULL: all. At least one, so that there is something to attend to. */
static Value *remembered(const AttentionLstm *a) {
    const Chain *c = &a->at;
    Value *lengths = expand_input(c->n, 12);
    if (lengths == NULL) return NULL;
    lengths = chain_2(c, OP_Max, chain_cast(c, lengths, DT_I64), chain_int(c, 1));
    return chain_2(c, OP_Less, chain_count(c, chain_size(c, a->memory, 1), 2, 1), chain_unsqueeze(c, lengths, 1));
}

/* bool [T,1,B,1]: has the sequence this step? NULL: always. */
static Value *going(const AttentionLstm *a) {
    const Chain *c = &a->at;
    if (a->lengths == NULL) return NULL;
    return chain_2(c, OP_Less, chain_count(c, chain_size(c, a->x, 0), 4, 0), chain_2(c, OP_Unsqueeze, a->lengths, value_const_i64(c->m, 2, (int64_t[]){0, 2})));
}

/* ---- one step ------------------------------------------------------------------------------------------------------------- */
typedef struct Memory { Value *values, *keys, *v, *rows; } Memory; /* v: [D,1,1,K] */

/* What the states h [D,B,H] attend to: [D,B,depth], with AW [D,B,its columns]. */
static Value *attention(const AttentionLstm *a, const Chain *c, const Memory *memory, Value *h) {
    Value *query = chain_unsqueeze(c, chain_2(c, OP_MatMul, h, a->at.n->in[8]), 2), *layer = expand_input(a->at.n, 13);
    Value *score = chain_mul(c, memory->v, chain_1(c, OP_Tanh, chain_add(c, memory->keys, query)));
    score = chain_reduce(c, OP_ReduceSum, score, 3, false);
    if (memory->rows != NULL) score = chain_3(c, OP_Where, memory->rows, score, chain_like(c, score, -(double)INFINITY));
    Value *share = chain_unsqueeze(c, chain_softmax(c, score, 2), 2), *context = chain_squeeze(c, chain_2(c, OP_MatMul, share, memory->values), 2);
    return layer == NULL ? context : chain_2(c, OP_MatMul, chain_concat(c, h, context, 2), layer);
}

/* h and c after the gates' products p [D,B,4*H] of everything but h. */
static bool step(const AttentionLstm *a, const Chain *c, Value *p, Value **h, Value **cell) {
    const Node *n = a->at.n;
    Value *one = a->directions == 1 ? *h : chain_slice(c, *h, 0, 1, 0); /* read for its dims only: [1 step, B, ..] */
    if (p == NULL || one == NULL) return false;
    Value *in[8] = {p, one, a->r, n->in[3], NULL, *h, *cell, n->in[7]};
    Node *steps = expand_node(c->m, c->n, OP_RecurrentSteps, 8, in, 3);
    attr_share(steps, n);
    attr_set_i(steps, AT_RecurrentSteps_gates, 4);
    if (!node_infer(c->m, steps)) return false;
    *h = steps->out[1];
    *cell = steps->out[2];
    return true;
}

/* The loop, with its results y [T,D,B,H], h and c. */
static Node *loop(const AttentionLstm *a, Value *const state[3], Value *p, const Memory *memory, Value *from_attention) {
    Module *m = a->at.m;
    Node *n = a->at.n;
    Graph *body = graph_new(m, n->graph, "step");
    Value *inner[3], *has = going(a), *in[5];
    for (uint32_t i = 0; i < 3; i++) {
        inner[i] = graph_add_input(m, body, state[i]->type, 0);
        in[i] = state[i];
    }
    in[3] = p;
    in[4] = has;
    Value *p_t = graph_add_input(m, body, type_tensor(m->cx, p->type->dtype, 3, p->type->dim + 1), 0);
    Value *now = has != NULL ? graph_add_input(m, body, type_tensor(m->cx, DT_BOOL, 3, has->type->dim + 1), 0) : NULL;
    Chain c = {m, node_new(m, body, NULL, OP_Identity, 1, &p_t, 1)};
    c.n->loc = n->loc;
    Value *h = inner[0], *cell = inner[1];
    if (!step(a, &c, chain_add(&c, p_t, chain_2(&c, OP_MatMul, inner[2], from_attention)), &h, &cell)) return NULL;
    Value *y = h;
    if (now != NULL) {
        y = chain_3(&c, OP_Where, now, h, chain_like(&c, h, 0));
        h = chain_3(&c, OP_Where, now, h, inner[0]);
        cell = chain_3(&c, OP_Where, now, cell, inner[1]);
    }
    Value *attended = attention(a, &c, memory, h);
    if (y == NULL || h == NULL || cell == NULL || attended == NULL) return NULL;
    graph_add_output(m, body, h);
    graph_add_output(m, body, cell);
    graph_add_output(m, body, attended);
    graph_add_output(m, body, chain_1(&c, OP_Identity, y));
    node_remove(c.n);
    Node *scan = expand_node(m, n, OP_Scan, has != NULL ? 5 : 4, in, 4);
    attr_set_graph(scan, AT_Scan_body, body);
    attr_set_i(scan, AT_Scan_num_scan_inputs, has != NULL ? 2 : 1);
    return node_infer(m, scan) ? scan : NULL;
}

/* Y as the caller sees it: steps of the backward direction in their own places. */
static Value *in_place(const AttentionLstm *a, Value *y) {
    Value *part[2];
    if (!a->backward[0] && !a->backward[1]) return y;
    for (uint32_t d = 0; d < a->directions; d++) {
        part[d] = chain_gather(&a->at, y, chain_int(&a->at, d), 1);
        if (a->backward[d]) part[d] = reversed(a, part[d]);
    }
    return stacked(a, part, 1);
}

bool expand_attention_lstm(Module *m, Node *n, Value **out) {
    AttentionLstm a = {.at = {m, n}, .x = n->in[0], .w = n->in[1], .r = n->in[2], .memory = n->in[11], .directions = 1};
    const Chain *c = &a.at;
    Dim input = a.x->type->dim[2];
    if (!dim_is_const(m->cx, input)) return expand_fail(m, n, "the last size of X must be known at compile time");
    a.input = dim_value(m->cx, input);
    if (attr_s_is(m->cx, n, AT_AttnLSTM_direction, "bidirectional")) a.directions = 2;
    a.backward[0] = attr_s_is(m->cx, n, AT_AttnLSTM_direction, "reverse");
    a.backward[1] = a.directions == 2;
    if (n->in[4] != NULL) a.lengths = chain_2(c, OP_Min, chain_cast(c, n->in[4], DT_I64), chain_size(c, a.x, 0));
    Value *from_attention = columns(&a, a.input, INT64_MAX), *p = projected(&a);
    Memory memory = {a.memory, keys(&a), chain_2(c, OP_Unsqueeze, n->in[10], value_const_i64(m, 2, (int64_t[]){1, 2})), remembered(&a)};
    Value *state[3] = {initial(&a, n->in[5], chain_size(c, a.r, 2)), initial(&a, n->in[6], chain_size(c, a.r, 2)), initial(&a, NULL, chain_size(c, from_attention, 1))};
    if (from_attention == NULL || p == NULL || memory.keys == NULL || memory.v == NULL || state[0] == NULL || state[1] == NULL || state[2] == NULL) return false;
    Node *scan = loop(&a, state, p, &memory, from_attention);
    if (scan == NULL) return false;
    for (uint32_t i = 0; i < n->n_out; i++)
        if (n->out[i] != NULL) out[i] = i == 0 ? in_place(&a, scan->out[3]) : scan->out[i - 1];
    return n->n_out == 0 || n->out[0] == NULL || out[0] != NULL;
}
