/* RNN, GRU, LSTM: the input projection of all time steps is one matrix product, the rest goes step by step.
 *
 *     %y, %h, %c = LSTM(%x, %w, %r, %b)      ->      %p = MatMul(Reshape(%x, [1,-1,0]), Transpose(%w, [0,2,1]))
 *                                                    %y, %h, %c = RecurrentSteps(%p, %x, %r, %b)
 *
 * p is [D, T*B, gates*H] (layout 1: B*T). The transposed weights fold into a constant.
 *
 * DynamicQuantizeLSTM quantizes X over the range of all steps, and h over its range at each step:
 *
 *     %q, %s, %z = DynamicQuantizeLinear(%x)             %p = MatMul(DequantizeLinear(%q, %s, %z), (%w - %wz) * %ws)
 *     %y, %h, %c = RecurrentSteps(%p, %x, Transpose(%r, [0,2,1]), ..., %rs, %rz)
 *
 * so p is the integer product times the scales up to a rounding of float, and R stays 8 bits wide. */
#include "passes/expand/build.h"
#include "passes/rules.h"

bool expand_recurrent(Module *m, Node *n, Value **out) {
    Value *rows = build2(m, n, OP_Reshape, n->in[0], value_const_i64(m, 3, (const int64_t[]){1, -1, 0}));
    Node *t = node_new(m, n->graph, n, OP_Transpose, 1, &n->in[1], 1);
    t->loc = n->loc;
    attr_set_ints(m->cx, t, AT_Transpose_perm, (const int64_t[]){0, 2, 1}, 3);
    if (!node_infer(m, t)) return false;
    Value *in[8] = {build2(m, n, OP_MatMul, rows, t->out[0]), n->in[0]};
    for (uint32_t i = 2; i < 8; i++) in[i] = i < n->n_in ? n->in[i] : NULL;
    Node *steps = node_new(m, n->graph, n, OP_RecurrentSteps, 8, in, n->n_out);
    steps->loc = n->loc;
    attr_share(steps, n);
    attr_set_i(steps, AT_RecurrentSteps_gates, n->op == OP_LSTM ? 4 : n->op == OP_GRU ? 3 : 1);
    for (uint32_t i = 0; i < n->n_out; i++) out[i] = n->out[i] != NULL ? steps->out[i] : NULL;
    return node_infer(m, steps);
}

/* A scale or zero point [D] or [D,4*H] as one that broadcasts over W [D,I,4*H]. */
static Value *over_rows(Module *m, Node *n, Value *v) {
    bool each = v->type->rank == 1;
    return build2(m, n, OP_Unsqueeze, v, value_const_i64(m, each ? 2 : 1, (const int64_t[]){1, 2}));
}

bool expand_dynamic_quantize_lstm(Module *m, Node *n, Value **out) {
    Node *q = expand_node(m, n, OP_DynamicQuantizeLinear, 1, &n->in[0], 3);
    if (!node_infer(m, q)) return false;
    Value *x = build3(m, n, OP_DequantizeLinear, q->out[0], q->out[1], q->out[2]);
    Value *w_zero = expand_cast(m, n, over_rows(m, n, n->in[9]), DT_F32);
    Value *w = build2(m, n, OP_Mul, build2(m, n, OP_Sub, expand_cast(m, n, n->in[1], DT_F32), w_zero), over_rows(m, n, n->in[8]));
    Value *rows = build2(m, n, OP_Reshape, x, value_const_i64(m, 3, (const int64_t[]){1, -1, 0}));
    Value *in[10] = {build2(m, n, OP_MatMul, rows, w), n->in[0], expand_transpose(m, n, n->in[2], 3, (const int64_t[]){0, 2, 1})};
    for (uint32_t i = 3; i < 8; i++) in[i] = n->in[i];
    in[8] = n->in[10];
    in[9] = n->in[11];
    if (in[0] == NULL || in[2] == NULL) return false;
    Node *steps = expand_node(m, n, OP_RecurrentSteps, 10, in, n->n_out);
    attr_share(steps, n);
    attr_set_i(steps, AT_RecurrentSteps_gates, 4);
    for (uint32_t i = 0; i < n->n_out; i++) out[i] = n->out[i] != NULL ? steps->out[i] : NULL;
    return node_infer(m, steps);
}
