/* Dropout and Bernoulli in terms of uniform random numbers.
 *
 *     Dropout, inference: y = x, mask all true          training: keep = u >= ratio, y = keep ? x / (1 - ratio) : 0 */
#include "passes/rules.h"

static Node *uniform_like(Module *m, Node *at, Value *x) {
    Node *u = node_new(m, at->graph, at, OP_RandomUniformLike, 1, &x, 1);
    u->loc = at->loc;
    attr_set_i(u, AT_RandomUniformLike_dtype, dtype_to_onnx(x->type->dtype == DT_F64 ? DT_F64 : DT_F32));
    return u;
}

static Value *cast(Module *m, Node *at, Value *x, DType d) {
    Node *c = node_new(m, at->graph, at, OP_Cast, 1, &x, 1);
    c->loc = at->loc;
    attr_set_i(c, AT_Cast_to, dtype_to_onnx(d));
    node_infer(m, c);
    return c->out[0];
}

/* All true, of x's shape. */
static Value *all_true(Module *m, Node *at, Value *x) {
    return build2(m, at, OP_Expand, value_const_scalar(m, DT_BOOL, 1), build1(m, at, OP_Shape, x));
}

static bool is_constant(const Value *v, double x) { return v != NULL && v->data != NULL && const_f64(v, 0) == x; }

bool expand_dropout(Module *m, Node *n, Value **out) {
    Value *x = n->in[0], *ratio = n->n_in > 1 ? n->in[1] : NULL, *training = n->n_in > 2 ? n->in[2] : NULL;
    bool mask_wanted = n->n_out > 1 && n->out[1] != NULL;
    if (training == NULL || is_constant(training, 0) || is_constant(ratio, 0)) {
        out[0] = build1(m, n, OP_Identity, x);
        if (mask_wanted) out[1] = all_true(m, n, x);
        return true;
    }
    Node *u = uniform_like(m, n, x);
    if (attr_has(n, AT_Dropout_seed)) attr_set_f(u, AT_RandomUniformLike_seed, (double)attr_i(n, AT_Dropout_seed));
    if (!node_infer(m, u)) return false;
    DType d = u->out[0]->type->dtype;
    Value *one = value_const_scalar(m, d, 1);
    ratio = ratio != NULL ? cast(m, n, ratio, d) : value_const_scalar(m, d, 0.5);
    Value *keep = build2(m, n, OP_GreaterOrEqual, u->out[0], ratio);
    Value *rest = build2(m, n, OP_Sub, one, ratio);
    if (!is_constant(training, 1)) {
        Value *off = build1(m, n, OP_Not, training);
        keep = build2(m, n, OP_Or, keep, off);
        rest = build3(m, n, OP_Where, training, rest, one);
    }
    Value *scaled = build2(m, n, OP_Div, cast(m, n, x, d), rest);
    out[0] = cast(m, n, build3(m, n, OP_Where, keep, scaled, value_const_scalar(m, d, 0)), x->type->dtype);
    if (mask_wanted) out[1] = keep;
    return true;
}

bool expand_bernoulli(Module *m, Node *n, Value **out) {
    Node *u = uniform_like(m, n, n->in[0]);
    if (attr_has(n, AT_Bernoulli_seed)) attr_set_f(u, AT_RandomUniformLike_seed, attr_f(n, AT_Bernoulli_seed));
    if (!node_infer(m, u)) return false;
    Value *p = cast(m, n, n->in[0], u->out[0]->type->dtype);
    out[0] = cast(m, n, build2(m, n, OP_Less, u->out[0], p), n->out[0]->type->dtype);
    return true;
}
