/* recognize: compositions that exporters write out become the one operator they are, which has a better kernel.
 *
 *     before:  %m = ReduceMean(%x)   %d = Sub(%x, %m)                    after:  %y = LayerNormalization(%x, %g, %b)
 *              %v = ReduceMean(%d * %d)   %s = Sqrt(%v + %eps)
 *              %n = Div(%d, %s)   %y = Add(%n * %g, %b)
 *
 * Rules look backward from the last operator; what only it read goes with it. Products are compared as sets of factors
 * with one coefficient, since exporters associate them in every order:
 *
 *     QuantizeLinear(Gelu(x) * c, 1)  ->  QuantizeLinear(RoughGelu(x) * c, 1) when c is small: rounding to bytes hides the difference
 *     0.5 * x * (1 + erf(x / sqrt(2)))  ->  Gelu(x)         x * sigmoid(a*x)  ->  Swish(x)
 *
 * Constants must be the formula's up to the rounding of their type. */
#include <math.h>

#include "passes/pass.h"
#include "passes/simplify/simplify.h"

/* ---- products --------------------------------------------------------------------------------------------------- */
/* v as coef * x^n_x * special^n_special; false if it has other factors. */
typedef struct Product { double coef; uint32_t n_x, n_special; } Product;

static bool product_of(Rewriter *r, Value *v, const Value *x, const Value *special, Product *p, int depth) {
    double c;
    Node *n;
    if (v == x) p->n_x++;
    else if (v == special) p->n_special++;
    else if (rw_splat(r->cx, v, &c)) p->coef *= c;
    else if (depth < 6 && (n = rw_def(r, v, OP_Mul)) != NULL)
        return product_of(r, n->in[0], x, special, p, depth + 1) && product_of(r, n->in[1], x, special, p, depth + 1);
    else if (depth < 6 && (n = rw_def(r, v, OP_Div)) != NULL && rw_splat(r->cx, n->in[1], &c)) {
        p->coef /= c;
        return product_of(r, n->in[0], x, special, p, depth + 1);
    } else return false;
    return true;
}

static double tolerance(const Value *v) {
    return v->type->dtype == DT_F16 ? 1e-3 : v->type->dtype == DT_BF16 ? 8e-3 : 2e-6;
}

static bool near(const Value *v, double x, double y) {
    return fabs(x - y) <= tolerance(v) * fabs(y);
}

static bool is_product(Rewriter *r, Value *v, const Value *x, uint32_t n_x, const Value *special, double coef) {
    Product p = {.coef = 1};
    return product_of(r, v, x, special, &p, 0) && p.n_x == n_x && p.n_special == (special != NULL) && near(v, p.coef, coef);
}

/* v = x + c or c + x with a constant c: x, or NULL. */
static Value *plus_constant(Rewriter *r, const Value *v, double c) {
    Node *n = rw_def(r, v, OP_Add);
    double found;
    for (uint32_t i = 0; n != NULL && i < 2; i++)
        if (rw_splat(r->cx, n->in[i], &found) && near(v, found, c)) return n->in[1 - i];
    return NULL;
}

/* A factor of v, found through Mul and division by constants, that `test` accepts. */
typedef Value *FactorFn(Rewriter *r, Value *v); /* what the factor was made from, or NULL */

static Value *find_factor(Rewriter *r, Value *v, FactorFn *test, Value **factor, int depth) {
    Value *found = test(r, v);
    if (found != NULL) {
        *factor = v;
        return found;
    }
    Node *n = rw_def(r, v, OP_Mul);
    if (depth > 3) return NULL;
    if (n == NULL) {
        n = rw_def(r, v, OP_Div);
        return n != NULL && n->in[1]->data != NULL ? find_factor(r, n->in[0], test, factor, depth + 1) : NULL;
    }
    found = find_factor(r, n->in[0], test, factor, depth + 1);
    return found != NULL ? found : find_factor(r, n->in[1], test, factor, depth + 1);
}

/* The one thing that is no constant in a product of constants and itself: the x of x / sqrt(2). */
static Value *scaled(Rewriter *r, Value *v, double coef) {
    double c;
    Node *n = rw_def(r, v, OP_Mul);
    for (uint32_t i = 0; n != NULL && i < 2; i++)
        if (rw_splat(r->cx, n->in[i], &c) && near(v, c, coef)) return n->in[1 - i];
    n = rw_def(r, v, OP_Div);
    return n != NULL && rw_splat(r->cx, n->in[1], &c) && near(v, 1 / c, coef) ? n->in[0] : NULL;
}

/* ---- activations ------------------------------------------------------------------------------------------------ */
/* 1 + erf(x / sqrt(2)): x */
static Value *erf_factor(Rewriter *r, Value *v) {
    Value *e = plus_constant(r, v, 1);
    Node *erf = rw_def(r, e, OP_Erf);
    return erf != NULL ? scaled(r, erf->in[0], 0.70710678118654752) : NULL;
}

/* x + 0.044715 x^3: x */
static Value *cubic(Rewriter *r, Value *v) {
    Node *n = rw_def(r, v, OP_Add);
    for (uint32_t i = 0; n != NULL && i < 2; i++) {
        Node *pow = rw_def(r, n->in[1 - i], OP_Pow);
        if (pow != NULL && pow->in[0] == n->in[i]) return NULL;
        if (is_product(r, n->in[1 - i], n->in[i], 3, NULL, 0.044715)) return n->in[i];
    }
    return NULL;
}

/* 1 + 0.044715 x^2 as a factor beside x: x */
static Value *quadratic(Rewriter *r, Value *v) {
    Value *p = plus_constant(r, v, 1);
    Node *n = rw_def(r, p, OP_Mul);
    for (int depth = 0; n != NULL && depth < 3; depth++) { /* down to x * x, through constants */
        double c;
        if (n->in[0] == n->in[1]) return is_product(r, p, n->in[0], 2, NULL, 0.044715) ? n->in[0] : NULL;
        for (uint32_t i = 0; i < 2; i++)
            if (!rw_splat(r->cx, n->in[i], &c) && is_product(r, p, n->in[i], 2, NULL, 0.044715)) return n->in[i];
        n = rw_def(r, rw_splat(r->cx, n->in[0], &c) ? n->in[1] : n->in[0], OP_Mul);
    }
    return NULL;
}

/* 1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)): x */
static Value *tanh_factor(Rewriter *r, Value *v) {
    const double k = 0.79788456080286536;
    Value *t = plus_constant(r, v, 1), *factor;
    Node *tanh = rw_def(r, t, OP_Tanh);
    if (tanh == NULL) return NULL;
    Value *sum = scaled(r, tanh->in[0], k), *x = sum != NULL ? cubic(r, sum) : NULL;
    if (x != NULL) return x;
    x = find_factor(r, tanh->in[0], quadratic, &factor, 0);
    return x != NULL && is_product(r, tanh->in[0], x, 1, factor, k) ? x : NULL;
}

/* Gelu, in both forms: half of x times the factor. */
static bool recognize_gelu(Rewriter *r, Node *n) {
    static FactorFn *const forms[] = {erf_factor, tanh_factor};
    if (!rw_float(n->out[0])) return false;
    for (size_t i = 0; i < 2; i++) {
        Value *factor, *x = find_factor(r, n->out[0], forms[i], &factor, 0);
        if (x == NULL || !rw_same_type(x, n->out[0]) || !is_product(r, n->out[0], x, 1, factor, 0.5)) continue;
        Node *gelu = rw_node(r, n, OP_Gelu, 1, &x);
        if (i == 1) attr_set_s(gelu, AT_Gelu_approximate, str_intern(r->cx, "tanh"));
        return rw_replace(r, n, rw_value(r, gelu));
    }
    return false;
}

/* A Gelu that only becomes bytes, in steps of at least 1/512: 5e-5 is a fortieth of that. */
static bool recognize_byte_gelu(Rewriter *r, Node *n) {
    DType t = n->out[0]->type->dtype;
    Node *scaled = rw_def(r, n->in[0], OP_Mul);
    if ((t != DT_U8 && t != DT_I8) || scaled == NULL || !rw_single(r, n->in[0]) || !rw_is(r->cx, n->in[1], 1)) return false;
    for (uint32_t i = 0; i < 2; i++) {
        Node *gelu = rw_def(r, scaled->in[i], OP_Gelu);
        double c;
        if (gelu == NULL || !rw_single(r, scaled->in[i]) || gelu->out[0]->type->dtype != DT_F32 || !attr_s_is(r->cx, gelu, AT_Gelu_approximate, "none")) continue;
        if (!rw_splat(r->cx, scaled->in[1 - i], &c) || !(fabs(c) <= 512)) continue;
        Value *x = rw_build2(r, n, OP_Mul, rw_build1(r, n, OP_RoughGelu, gelu->in[0]), scaled->in[1 - i]);
        return rw_replace(r, n, rw_value(r, rw_copy(r, n, n, 3, (Value *[]){x, n->in[1], n->n_in > 2 ? n->in[2] : NULL})));
    }
    return false;
}

/* x * Sigmoid(a*x) -> Swish; x * HardSigmoid(x) -> HardSwish; x * Tanh(Softplus(x)) -> Mish */
static bool recognize_gated(Rewriter *r, Node *n) {
    for (uint32_t i = 0; i < 2; i++) {
        Value *x = n->in[i], *gate = n->in[1 - i];
        if (!rw_same_type(x, n->out[0]) || !rw_same_type(gate, n->out[0])) continue;
        Node *g = rw_def(r, gate, OP_Sigmoid);
        Product p = {.coef = 1};
        if (g != NULL && product_of(r, g->in[0], x, NULL, &p, 0) && p.n_x == 1) {
            Node *swish = rw_node(r, n, OP_Swish, 1, &x);
            attr_set_f(swish, AT_Swish_alpha, (double)(float)p.coef);
            return rw_replace(r, n, rw_value(r, swish));
        }
        g = rw_def(r, gate, OP_HardSigmoid);
        if (g != NULL && g->in[0] == x && near(x, attr_f(g, AT_HardSigmoid_alpha), 1.0 / 6) && attr_f(g, AT_HardSigmoid_beta) == 0.5)
            return rw_replace(r, n, rw_build1(r, n, OP_HardSwish, x));
        g = rw_def(r, gate, OP_Tanh);
        g = g != NULL ? rw_def(r, g->in[0], OP_Softplus) : NULL;
        if (g != NULL && g->in[0] == x) return rw_replace(r, n, rw_build1(r, n, OP_Mish, x));
    }
    return false;
}

/* x * Clip(x + 3, 0, 6) / 6 -> HardSwish */
static Value *relu6_factor(Rewriter *r, Value *v) {
    Node *clip = rw_def(r, v, OP_Clip);
    if (clip == NULL || clip->n_in != 3 || !rw_is(r->cx, clip->in[1], 0) || !rw_is(r->cx, clip->in[2], 6)) return NULL;
    return plus_constant(r, clip->in[0], 3);
}

static bool recognize_hard_swish(Rewriter *r, Node *n) {
    Value *factor, *x = rw_float(n->out[0]) ? find_factor(r, n->out[0], relu6_factor, &factor, 0) : NULL;
    if (x == NULL || !rw_same_type(x, n->out[0])) return false;
    if (is_product(r, n->out[0], x, 1, factor, 1.0 / 6)) return rw_replace(r, n, rw_build1(r, n, OP_HardSwish, x));
    if (!is_product(r, n->out[0], x, 0, factor, 1.0 / 6)) return false;
    Node *sigmoid = rw_node(r, n, OP_HardSigmoid, 1, &x);
    attr_set_f(sigmoid, AT_HardSigmoid_alpha, (double)(float)(1.0 / 6));
    attr_set_f(sigmoid, AT_HardSigmoid_beta, 0.5);
    return rw_replace(r, n, rw_value(r, sigmoid));
}

/* Log(1 + Exp(x)) -> Softplus, which does not overflow; Log(Softmax(x)) -> LogSoftmax, which does not underflow. */
static bool recognize_log(Rewriter *r, Node *n) {
    Node *e = rw_def(r, plus_constant(r, n->in[0], 1), OP_Exp);
    if (e != NULL && rw_same_type(e->in[0], n->out[0])) return rw_replace(r, n, rw_build1(r, n, OP_Softplus, e->in[0]));
    Node *s = rw_def(r, n->in[0], OP_Softmax);
    if (s == NULL) return false;
    Node *log = rw_node(r, n, OP_LogSoftmax, 1, s->in);
    attr_set_i(log, AT_LogSoftmax_axis, attr_i(s, AT_Softmax_axis));
    return rw_replace(r, n, rw_value(r, log));
}

/* ---- normalisation ---------------------------------------------------------------------------------------------- */
/* v reduces x by this operator over all axes from *axis on, which stay as sizes of 1. */
static bool reduces_tail(Rewriter *r, const Value *v, Op op, const Value *x, uint32_t *axis) {
    Node *n = rw_def(r, v, op);
    int64_t axes[RANK_MAX];
    uint32_t count = 0, rank = v->type->rank;
    bool in[RANK_MAX] = {false};
    if (n == NULL || n->in[0] != x || v->type->rank != x->type->rank || rank == 0) return false; /* same rank: keepdims */
    if (n->n_in < 2 || !rw_ints(r->m, n->in[1], axes, RANK_MAX, &count) || count == 0) return false;
    for (uint32_t i = 0; i < count; i++) in[axes[i] < 0 ? axes[i] + rank : axes[i]] = true;
    *axis = rank;
    while (*axis > 0 && in[*axis - 1]) --*axis;
    return rank - *axis == count;
}

static Value *square_of(Rewriter *r, Value *v) {
    Node *n = rw_def(r, v, OP_Mul);
    if (n != NULL) return n->in[0] == n->in[1] ? n->in[0] : NULL;
    n = rw_def(r, v, OP_Pow);
    return n != NULL && rw_is(r->cx, n->in[1], 2) ? n->in[0] : NULL;
}

/* v = sqrt(mean(d*d) + eps) over the tail: d. */
static Value *deviation(Rewriter *r, Value *v, uint32_t *axis, double *eps) {
    Node *n = rw_def(r, v, OP_Sqrt), *add;
    if (n == NULL) n = rw_def(r, v, OP_Pow);
    if (n == NULL || (n->op == OP_Pow && !rw_is(r->cx, n->in[1], 0.5)) || (add = rw_def(r, n->in[0], OP_Add)) == NULL) return NULL;
    for (uint32_t i = 0; i < 2; i++) {
        Node *mean = rw_def(r, add->in[i], OP_ReduceMean);
        if (mean == NULL || !rw_splat(r->cx, add->in[1 - i], eps)) continue;
        Value *d = square_of(r, mean->in[0]);
        return d != NULL && reduces_tail(r, add->in[i], OP_ReduceMean, mean->in[0], axis) ? d : NULL;
    }
    return NULL;
}

/* A constant of ones with the sizes of x from axis on; NULL if they are not constant. */
static Value *ones(Rewriter *r, Node *at, const Value *x, uint32_t axis) {
    uint32_t rank = x->type->rank - axis;
    int64_t shape[RANK_MAX];
    for (uint32_t i = 0; i < rank; i++) {
        if (!dim_is_const(r->cx, x->type->dim[axis + i])) return NULL;
        shape[i] = dim_value(r->cx, x->type->dim[axis + i]);
    }
    return rw_build2(r, at, OP_Expand, value_const_scalar(r->m, x->type->dtype, 1), value_const_i64(r->m, rank, shape));
}

static bool normalize(Rewriter *r, Node *n, Value *d, uint32_t axis, double eps) {
    uint32_t mean_axis;
    Node *sub = rw_def(r, d, OP_Sub);
    bool centered = sub != NULL && reduces_tail(r, sub->in[1], OP_ReduceMean, sub->in[0], &mean_axis) && mean_axis == axis;
    Value *x = centered ? sub->in[0] : d, *scale = rw_float(x) && rw_same_type(x, n->out[0]) ? ones(r, n, x, axis) : NULL;
    if (scale == NULL) return false;
    Node *norm = rw_node(r, n, centered ? OP_LayerNormalization : OP_RMSNormalization, 2, (Value *[]){x, scale});
    attr_set_i(norm, centered ? AT_LayerNormalization_axis : AT_RMSNormalization_axis, (int64_t)axis - x->type->rank);
    attr_set_f(norm, centered ? AT_LayerNormalization_epsilon : AT_RMSNormalization_epsilon, (double)(float)eps);
    return rw_replace(r, n, rw_value(r, norm));
}

/* d / deviation(d) */
static bool recognize_norm_div(Rewriter *r, Node *n) {
    uint32_t axis;
    double eps;
    return deviation(r, n->in[1], &axis, &eps) == n->in[0] && normalize(r, n, n->in[0], axis, eps);
}

/* d * (1 / deviation(d)) */
static bool recognize_norm_mul(Rewriter *r, Node *n) {
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t axis;
        double eps;
        Node *inverse = rw_def(r, n->in[1 - i], OP_Reciprocal);
        Value *root = inverse != NULL ? inverse->in[0] : NULL;
        if (inverse == NULL && (inverse = rw_def(r, n->in[1 - i], OP_Div)) != NULL && rw_is(r->cx, inverse->in[0], 1)) root = inverse->in[1];
        if (root != NULL && deviation(r, root, &axis, &eps) == n->in[i]) return normalize(r, n, n->in[i], axis, eps);
    }
    return false;
}

/* Does v have exactly the sizes of x from axis on? */
static bool has_tail(const Value *v, const Value *x, uint32_t axis) {
    if (v->type->kind != TYPE_TENSOR || v->type->dtype != x->type->dtype || v->type->rank != x->type->rank - axis) return false;
    for (uint32_t i = 0; i < v->type->rank; i++)
        if (v->type->dim[i] != x->type->dim[axis + i]) return false;
    return true;
}

static uint32_t norm_axis(const Node *norm) {
    int64_t axis = attr_i(norm, norm->op == OP_LayerNormalization ? AT_LayerNormalization_axis : AT_RMSNormalization_axis);
    return (uint32_t)(axis < 0 ? axis + norm->in[0]->type->rank : axis);
}

static Node *norm_of(Rewriter *r, const Value *v) {
    Node *norm = rw_def(r, v, OP_LayerNormalization);
    if (norm == NULL) norm = rw_def(r, v, OP_RMSNormalization);
    if (norm == NULL || !rw_single(r, v)) return NULL;
    for (uint32_t i = 1; i < norm->n_out; i++)
        if (norm->out[i] != NULL) return NULL;
    return norm;
}

/* Norm(x, ones) * g -> Norm(x, g) */
static bool recognize_norm_scale(Rewriter *r, Node *n) {
    for (uint32_t i = 0; i < 2; i++) {
        Node *norm = norm_of(r, n->in[i]);
        if (norm == NULL || norm->n_in > 2 || !rw_is(r->cx, norm->in[1], 1) || !has_tail(n->in[1 - i], norm->in[0], norm_axis(norm))) continue;
        return rw_replace(r, n, rw_value(r, rw_copy(r, n, norm, 2, (Value *[]){norm->in[0], n->in[1 - i]})));
    }
    return false;
}

/* LayerNormalization(x, g) + b -> LayerNormalization(x, g, b) */
static bool recognize_norm_shift(Rewriter *r, Node *n) {
    for (uint32_t i = 0; i < 2; i++) {
        Node *norm = norm_of(r, n->in[i]);
        if (norm == NULL || norm->op != OP_LayerNormalization || norm->n_in > 2 || !has_tail(n->in[1 - i], norm->in[0], norm_axis(norm))) continue;
        return rw_replace(r, n, rw_value(r, rw_copy(r, n, norm, 3, (Value *[]){norm->in[0], norm->in[1], n->in[1 - i]})));
    }
    return false;
}

/* The elements of a constant by group, one for each of its `members` channels. */
static Value *by_channel(Rewriter *r, const Value *v, int64_t groups, int64_t members) {
    float *data = ARENA_ARRAY(&r->cx->arena, float, groups * members);
    for (int64_t i = 0; i < groups * members; i++) data[i] = (float)const_f64(v, i / members);
    Dim dim = dim_const(r->cx, groups * members);
    return value_const(r->m, type_tensor(r->cx, DT_F32, 1, &dim), data, true);
}

/* InstanceNormalization over groups of channels that a Reshape made, and reshaped back -> GroupNormalization */
static bool recognize_group_norm(Rewriter *r, Node *n) {
    Node *norm = rw_def(r, n->in[0], OP_InstanceNormalization), *split = norm != NULL ? rw_def(r, norm->in[0], OP_Reshape) : NULL;
    if (split == NULL || !rw_single(r, n->in[0]) || !rw_same_type(split->in[0], n->out[0])) return false;
    Value *x = split->in[0], *scale = norm->in[1], *bias = norm->in[2];
    const Type *t = x->type, *parts = norm->in[0]->type;
    if (t->dtype != DT_F32 || t->rank < 3 || parts->rank < 3 || parts->dim[0] != t->dim[0] || scale->data == NULL || bias->data == NULL) return false;
    if (!dim_is_const(r->cx, t->dim[1]) || !dim_is_const(r->cx, parts->dim[1])) return false;
    int64_t channels = dim_value(r->cx, t->dim[1]), groups = dim_value(r->cx, parts->dim[1]);
    if (groups < 1 || channels < 1 || channels % groups != 0) return false;
    Value *in[3] = {x, by_channel(r, scale, groups, channels / groups), by_channel(r, bias, groups, channels / groups)};
    Node *made = rw_node(r, n, OP_GroupNormalization, 3, in);
    attr_set_i(made, AT_GroupNormalization_num_groups, groups);
    attr_set_f(made, AT_GroupNormalization_epsilon, attr_f(norm, AT_InstanceNormalization_epsilon));
    return rw_replace(r, n, rw_value(r, made));
}

/* e / sum(e) with e = exp(x - max(x)), along one axis -> Softmax */
static bool recognize_softmax(Rewriter *r, Node *n) {
    Node *e = rw_def(r, n->in[0], OP_Exp), *sum = rw_def(r, n->in[1], OP_ReduceSum);
    Node *sub = e != NULL ? rw_def(r, e->in[0], OP_Sub) : NULL, *max = sub != NULL ? rw_def(r, sub->in[1], OP_ReduceMax) : NULL;
    int64_t a, b;
    uint32_t n_a, n_b;
    if (sum == NULL || max == NULL || sum->in[0] != n->in[0] || max->in[0] != sub->in[0] || sum->n_in < 2 || max->n_in < 2) return false;
    if (!rw_ints(r->m, sum->in[1], &a, 1, &n_a) || !rw_ints(r->m, max->in[1], &b, 1, &n_b) || n_a != 1 || n_b != 1) return false;
    int64_t rank = n->out[0]->type->rank;
    if (a < 0) a += rank;
    if (b < 0) b += rank;
    if (a != b || sum->out[0]->type->rank != rank || max->out[0]->type->rank != rank || !rw_same_type(sub->in[0], n->out[0])) return false;
    Node *softmax = rw_node(r, n, OP_Softmax, 1, sub->in);
    attr_set_i(softmax, AT_Softmax_axis, a - rank);
    return rw_replace(r, n, rw_value(r, softmax));
}

#define RULE(op, rewrite) {OP_##op, recognize_##rewrite}
static const Rule rules[] = {
    RULE(Mul, gelu),
    RULE(QuantizeLinear, byte_gelu),
    RULE(Mul, hard_swish),
    RULE(Mul, gated),
    RULE(Mul, norm_mul),
    RULE(Mul, norm_scale),
    RULE(Div, gelu),
    RULE(Div, hard_swish),
    RULE(Div, norm_div),
    RULE(Div, softmax),
    RULE(Add, norm_shift),
    RULE(Log, log),
    RULE(Reshape, group_norm),
};

bool pass_recognize(Context *cx, Module *m) {
    (void)cx;
    return rewrite_module(m, rules, sizeof rules / sizeof *rules);
}
