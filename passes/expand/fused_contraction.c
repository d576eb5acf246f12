/* Expansion of the fused contractions that ONNX Runtime's optimiser writes into files: FusedConv and FusedGemm become
 * the plain operator, an addition and an activation; lathe's own fusion puts them together again.
 *
 *     FusedConv(x, w, b, z) {activation = "Relu"}  ->  Relu(Add(Conv(x, w, b), z)) */
#include <math.h>

#include "passes/rules.h"

/* The activation `name` of x with parameters p[0..n_p); NULL after a diag(). */
static Value *activate(Module *m, Node *n, Str name, const double *p, uint32_t n_p, Value *x) {
    const char *text = str_text(m->cx, name);
    double alpha = n_p > 0 ? p[0] : NAN, beta = n_p > 1 ? p[1] : NAN;
    if (*text == 0) return x;
    Op op = op_find(DOMAIN_ONNX, text);
    DType t = x->type->dtype;
    switch ((int)op) {
    case OP_Relu: case OP_Sigmoid: case OP_Tanh: case OP_Softplus: case OP_Softsign: return build1(m, n, op, x);
    case OP_LeakyRelu: case OP_Elu: case OP_HardSigmoid: case OP_ThresholdedRelu: {
        Node *a = node_new(m, n->graph, n, op, 1, &x, 1);
        a->loc = n->loc;
        AttrSlot first = op == OP_LeakyRelu ? AT_LeakyRelu_alpha : op == OP_Elu ? AT_Elu_alpha : op == OP_HardSigmoid ? AT_HardSigmoid_alpha : AT_ThresholdedRelu_alpha;
        if (!isnan(alpha)) attr_set_f(a, first, alpha);
        if (op == OP_HardSigmoid && !isnan(beta)) attr_set_f(a, AT_HardSigmoid_beta, beta);
        return node_infer(m, a) ? a->out[0] : NULL;
    }
    case OP_Clip: {
        Value *lo = isnan(alpha) ? NULL : value_const_scalar(m, t, alpha), *hi = isnan(beta) ? NULL : value_const_scalar(m, t, beta);
        return build3(m, n, OP_Clip, x, lo, hi);
    }
    default: diag(m->cx, SEV_ERROR, n->loc, "unknown activation %s", text); return NULL;
    }
}

static Node *plain_conv(Module *m, Node *n) {
    Node *c = node_new(m, n->graph, n, OP_Conv, n->n_in < 3 ? n->n_in : 3, n->in, 1);
    attr_share(c, n);
    return c;
}

static Node *plain_gemm(Module *m, Node *n) {
    Node *c = node_new(m, n->graph, n, OP_Gemm, n->n_in, n->in, 1);
    attr_share(c, n);
    return c;
}

bool expand_fused_activation(Module *m, Node *n, Value **out) {
    bool conv = n->op == OP_FusedConv;
    Node *c = conv ? plain_conv(m, n) : plain_gemm(m, n);
    c->loc = n->loc;
    if (!node_infer(m, c)) return false;
    Value *y = c->out[0];
    if (conv && n->n_in > 3 && n->in[3] != NULL) y = build2(m, n, OP_Add, y, n->in[3]);
    double p[2];
    uint32_t n_p = 0;
    if (conv) {
        const Attr *a = attr_at(n, AT_FusedConv_activation_params);
        for (; a->present && n_p < a->floats.n && n_p < 2; n_p++) p[n_p] = a->floats.v[n_p];
    } else if (attr_has(n, AT_FusedGemm_activation_alpha)) {
        p[n_p++] = attr_f(n, AT_FusedGemm_activation_alpha);
        if (attr_has(n, AT_FusedGemm_activation_beta)) p[n_p++] = attr_f(n, AT_FusedGemm_activation_beta);
    }
    AttrSlot name = conv ? AT_FusedConv_activation : AT_FusedGemm_activation;
    out[0] = activate(m, n, attr_has(n, name) ? attr_s(n, name) : 0, p, n_p, y);
    return out[0] != NULL;
}

bool expand_matmul_activation(Module *m, Node *n, Value **out) {
    Node *c = node_new(m, n->graph, n, OP_FusedMatMul, n->n_in, n->in, 1);
    c->loc = n->loc;
    attr_share(c, n);
    if (!node_infer(m, c)) return false;
    double p[2] = {NAN, NAN};
    if (attr_has(n, AT_FusedMatMulActivation_activation_alpha)) p[0] = attr_f(n, AT_FusedMatMulActivation_activation_alpha);
    if (attr_has(n, AT_FusedMatMulActivation_activation_beta)) p[1] = attr_f(n, AT_FusedMatMulActivation_activation_beta);
    if (attr_s_is(m->cx, n, AT_FusedMatMulActivation_activation, "Softmax")) {
        Node *s = node_new(m, n->graph, n, OP_Softmax, 1, c->out, 1);
        s->loc = n->loc;
        if (attr_has(n, AT_FusedMatMulActivation_activation_axis)) attr_set_i(s, AT_Softmax_axis, attr_i(n, AT_FusedMatMulActivation_activation_axis));
        out[0] = s->out[0];
        return node_infer(m, s);
    }
    out[0] = activate(m, n, attr_s(n, AT_FusedMatMulActivation_activation), p, 2, c->out[0]);
    return out[0] != NULL;
}
