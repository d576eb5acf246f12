/* RNN, GRU, LSTM: the input projection of all time steps is one matrix product, the rest goes step by step.
 *
 *     %y, %h, %c = LSTM(%x, %w, %r, %b)      ->      %p = MatMul(Reshape(%x, [1,-1,0]), Transpose(%w, [0,2,1]))
 *                                                    %y, %h, %c = RecurrentSteps(%p, %x, %r, %b)
 *
 * p is [D, T*B, gates*H] (layout 1: B*T). The transposed weights fold into a constant. */
#include "ir/shape/reduce.h"
#include "passes/rules.h"

static void copy_attributes(Node *to, const Node *from) {
    uint32_t first = op_info(to->op)->attr_first, count = op_attr_count(to->op);
    for (uint32_t i = 0; i < count; i++) {
        AttrSlot slot = (AttrSlot)(first + i), source = attr_named(from, attr_info(slot)->name);
        if (source != AT_COUNT && attr_has(from, source)) *attr_at(to, slot) = *attr_at(from, source);
    }
}

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
    copy_attributes(steps, n);
    attr_set_i(steps, AT_RecurrentSteps_gates, n->op == OP_LSTM ? 4 : n->op == OP_GRU ? 3 : 1);
    for (uint32_t i = 0; i < n->n_out; i++) out[i] = n->out[i] != NULL ? steps->out[i] : NULL;
    return node_infer(m, steps);
}
