/* Nodes, constants and states of a training step: what passes/train.c, schedule.c and optimizer.c build with. */
#include "passes/train/train.h"

Value *train_f32(TrainBuilder *b, double x) { return value_const_scalar(b->m, DT_F32, x); }
Value *train_f64(TrainBuilder *b, double x) { return value_const_scalar(b->m, DT_F64, x); }

Value *train_cast(TrainBuilder *b, Value *x, DType to) {
    if (x->type->dtype == to) return x;
    Node *n = node_new(b->m, b->m->main, b->at, OP_Cast, 1, &x, 1);
    n->loc = b->at->loc;
    attr_set_i(n, AT_Cast_to, dtype_to_onnx(to));
    node_infer(b->m, n);
    return n->out[0];
}

void train_set_state(TrainBuilder *b, uint32_t state, Value *v) {
    Module *m = b->m;
    m->state_out = vec_grow(&m->cx->arena, m->state_out, m->n_state_out, &m->cap_state_out, sizeof *m->state_out);
    m->state_out[m->n_state_out++] = state;
    vec_push(&m->cx->scratch, &b->outputs, TRAIN_STATE + b->contents->n);
    vec_push(&m->cx->scratch, b->contents, v);
}

uint32_t train_new_state(TrainBuilder *b, const char *kind, const char *of, StateRole role, const Type *type, double first) {
    Str name = str_format(b->m->cx, "%soptimizer/%s%s%s", b->prefix, kind, of[0] != 0 ? "/" : "", of);
    return state_add(b->m, name, role, type, (LatheInit){LATHE_INIT_CONSTANT, first, 0}, NULL);
}
