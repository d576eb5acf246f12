/* Dropout and Bernoulli in terms of uniform random numbers.
 *
 *     Dropout, inference: y = x, mask all true          training: keep = u >= ratio, y = keep ? x / (1 - ratio) : 0 */
#include "passes/rules.h"

/* Uniform numbers of x's shape; those of a seeded stream have 53 bits. */
static Value *uniform_like(Module *m, Node *at, Value *x, bool has_seed, double seed) {
    Node *u = node_new(m, at->graph, at, OP_RandomUniformLike, 1, &x, 1);
    u->loc = at->loc;
    attr_set_i(u, AT_RandomUniformLike_dtype, dtype_to_onnx(has_seed || x->type->dtype == DT_F64 ? DT_F64 : DT_F32));
    if (has_seed) attr_set_f(u, AT_RandomUniformLike_seed, seed);
    return node_infer(m, u) ? u->out[0] : NULL;
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
    bool seeded = attr_has(n, AT_Dropout_seed);
    Value *u = uniform_like(m, n, x, seeded, seeded ? (double)attr_i(n, AT_Dropout_seed) : 0);
    if (u == NULL) return false;
    DType t = u->type->dtype, d = x->type->dtype == DT_F64 ? DT_F64 : DT_F32;
    Value *one = value_const_scalar(m, d, 1);
    if (ratio == NULL) ratio = value_const_scalar(m, d, 0.5);
    Value *keep = build2(m, n, OP_GreaterOrEqual, u, cast(m, n, ratio, t));
    Value *rest = build2(m, n, OP_Sub, one, cast(m, n, ratio, d));
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

/* 1 where u > 1 - p, or from p = 1/2 on where u <= p: how numpy's binomial draws one trial. */
bool expand_bernoulli(Module *m, Node *n, Value **out) {
    bool seeded = attr_has(n, AT_Bernoulli_seed);
    Value *u = uniform_like(m, n, n->in[0], seeded, seeded ? attr_f(n, AT_Bernoulli_seed) : 0);
    if (u == NULL) return false;
    DType t = u->type->dtype;
    Value *p = cast(m, n, n->in[0], t), *rare = build2(m, n, OP_LessOrEqual, p, value_const_scalar(m, t, 0.5));
    Value *hit = build2(m, n, OP_Greater, u, build2(m, n, OP_Sub, value_const_scalar(m, t, 1), p));
    out[0] = cast(m, n, build3(m, n, OP_Where, rare, hit, build2(m, n, OP_LessOrEqual, u, p)), n->out[0]->type->dtype);
    return true;
}
