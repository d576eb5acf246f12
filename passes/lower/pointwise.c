/* Definitions of pointwise operators: the result's element from the operands' elements, broadcast as numpy does.
 *
 *     Elu: y[i] = x[i] < 0 ? alpha * (exp(x[i]) - 1) : x[i]
 *
 * Operators that are one scalar function stand in a table; the others are a case of activation(). */
#include "passes/lower/operand.h"

#include <math.h>

#include "passes/rules.h"

Expr *operand_load(Lower *lo, const Value *v, const Type *t, Expr *const *idx) {
    Expr *own[RANK_MAX];
    uint32_t r = v->type->rank;
    for (uint32_t i = 0; i < r; i++) {
        Dim d = v->type->dim[i], target = t->dim[i + t->rank - r];
        Expr *at = idx[i + t->rank - r], *zero = lx_i(lo, 0);
        if (dim_is_const(lo->cx, d) && dim_value(lo->cx, d) == 1) own[i] = zero;
        else if (d == target) own[i] = at;
        else {
            Expr *size = lx_dim(lo, d);
            Expr *where = lx_select(lo, lx_2(lo, FN_EQ, size, lx_i(lo, 1)), zero, at);
            own[i] = lx_2(lo, FN_INDEX, where, size);
        }
    }
    return lower_load(lo, v, own);
}

Expr *operand_as(Lower *lo, DType as, const Value *v, const Type *t, Expr *const *idx) {
    return lx_cast(lo, as, operand_load(lo, v, t, idx));
}

/* ---- one scalar function ----------------------------------------------------------------------------------------- */
Fn operand_unary_fn(Op op) {
    switch (op) {
    case OP_Abs: return FN_ABS;
    case OP_Acos: return FN_ACOS;
    case OP_Acosh: return FN_ACOSH;
    case OP_Asin: return FN_ASIN;
    case OP_Asinh: return FN_ASINH;
    case OP_Atan: return FN_ATAN;
    case OP_Atanh: return FN_ATANH;
    case OP_BitwiseNot: return FN_NOT;
    case OP_Ceil: return FN_CEIL;
    case OP_Cos: return FN_COS;
    case OP_Cosh: return FN_COSH;
    case OP_Erf: return FN_ERF;
    case OP_Exp: return FN_EXP;
    case OP_Floor: return FN_FLOOR;
    case OP_IsNaN: return FN_ISNAN;
    case OP_Log: return FN_LOG;
    case OP_Neg: return FN_NEG;
    case OP_Not: return FN_NOT;
    case OP_Reciprocal: return FN_RECIP;
    case OP_Round: return FN_RINT;
    case OP_Sigmoid: return FN_SIGMOID;
    case OP_Sign: return FN_SIGN;
    case OP_Sin: return FN_SIN;
    case OP_Sinh: return FN_SINH;
    case OP_Sqrt: return FN_SQRT;
    case OP_Tan: return FN_TAN;
    case OP_Tanh: return FN_TANH;
    default: return FN_NONE;
    }
}

Expr *define_unary(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    (void)out;
    return lx_1(lo, operand_unary_fn(n->op), lower_load(lo, n->in[0], idx));
}

Expr *define_identity(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    (void)out;
    return lower_load(lo, n->in[0], idx);
}

static Fn binary_fn(const Lower *lo, const Node *n) {
    switch ((Op)n->op) {
    case OP_Add: case OP_Sum: case OP_Mean: return FN_ADD;
    case OP_Sub: return FN_SUB;
    case OP_Mul: return FN_MUL;
    case OP_Div: return FN_DIV;
    case OP_Max: return FN_MAX;
    case OP_Min: return FN_MIN;
    case OP_Mod: return attr_i(n, AT_Mod_fmod) != 0 ? FN_FMOD : FN_MOD;
    case OP_And: case OP_BitwiseAnd: return FN_AND;
    case OP_Or: case OP_BitwiseOr: return FN_OR;
    case OP_Xor: case OP_BitwiseXor: return FN_XOR;
    case OP_BitShift: return attr_s_is(lo->cx, n, AT_BitShift_direction, "LEFT") ? FN_SHL : FN_SHR;
    case OP_Equal: return FN_EQ;
    case OP_Less: return FN_LT;
    case OP_LessOrEqual: return FN_LE;
    case OP_Greater: return FN_GT;
    case OP_GreaterOrEqual: return FN_GE;
    default: return FN_NONE;
    }
}

/* Two or more operands, joined from the left. */
Expr *define_binary(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    const Type *t = n->out[out]->type;
    Fn fn = binary_fn(lo, n);
    Expr *e = operand_load(lo, n->in[0], t, idx);
    for (uint32_t i = 1; i < n->n_in; i++) e = lx_2(lo, fn, e, operand_load(lo, n->in[i], t, idx));
    if (n->op == OP_Mean) e = lx_div(lo, e, lx_const(lo, (DType)e->dtype, n->n_in));
    return e;
}

/* The base decides the type; an integer to a fractional power is computed in double. */
Expr *define_pow(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    const Type *t = n->out[out]->type;
    Expr *x = operand_load(lo, n->in[0], t, idx), *y = operand_load(lo, n->in[1], t, idx);
    DType base = (DType)x->dtype, power = (DType)y->dtype;
    if (dtype_is_float(base)) {
        if (ex_is_const(y, 2)) return lx_mul(lo, x, x);
        if (ex_is_const(y, 3)) return lx_mul(lo, lx_mul(lo, x, x), x);
        DType wide = power == DT_F64 && y->kind != E_CONST ? DT_F64 : base;
        return lx_cast(lo, base, lx_2(lo, FN_POW, lx_cast(lo, wide, x), lx_cast(lo, wide, y)));
    }
    DType wide = dtype_is_float(power) ? DT_F64 : base == DT_U64 ? DT_U64 : DT_I64;
    return lx_cast(lo, base, lx_2(lo, FN_POW, lx_cast(lo, wide, x), lx_cast(lo, wide, y)));
}

Expr *define_where(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    const Type *t = n->out[out]->type;
    return lx_select(lo, operand_load(lo, n->in[0], t, idx), operand_load(lo, n->in[1], t, idx), operand_load(lo, n->in[2], t, idx));
}

Expr *define_clip(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    (void)out;
    Expr *x = lower_load(lo, n->in[0], idx);
    if (has_in(n, 1)) x = lx_2(lo, FN_MAX, x, lower_load_scalar(lo, n->in[1]));
    if (has_in(n, 2)) x = lx_2(lo, FN_MIN, x, lower_load_scalar(lo, n->in[2]));
    return x;
}

Expr *define_is_inf(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    (void)out;
    Expr *x = lower_load(lo, n->in[0], idx), *zero = lx_const(lo, (DType)x->dtype, 0);
    bool negative = attr_i(n, AT_IsInf_detect_negative) != 0, positive = attr_i(n, AT_IsInf_detect_positive) != 0;
    if (!negative && !positive) return ex_i(lo->cx, DT_BOOL, 0);
    Expr *inf = lx_1(lo, FN_ISINF, x);
    if (negative && positive) return inf;
    return lx_2(lo, FN_AND, inf, lx_2(lo, positive ? FN_GT : FN_LT, x, zero));
}

/* ---- activations ------------------------------------------------------------------------------------------------- */
typedef struct Activation { /* shorthand: everything in the type of x */
    Lower *lo;
    Expr *x;
} Activation;

static Expr *num(const Activation *a, double v) { return lx_const(a->lo, (DType)a->x->dtype, v); }

static Expr *clamp01(const Activation *a, Expr *x) {
    return lx_2(a->lo, FN_MAX, lx_2(a->lo, FN_MIN, x, num(a, 1)), num(a, 0));
}

static Expr *if_negative(const Activation *a, Expr *yes, Expr *no) {
    return lx_select(a->lo, lx_2(a->lo, FN_LT, a->x, num(a, 0)), yes, no);
}

/* log(1 + exp(x)) without overflow for large x. */
static Expr *softplus(const Activation *a) {
    Lower *lo = a->lo;
    Expr *tail = lx_1(lo, FN_LOG1P, lx_1(lo, FN_EXP_BELOW, lx_1(lo, FN_NEG, lx_1(lo, FN_ABS, a->x))));
    return lx_add(lo, lx_2(lo, FN_MAX, a->x, num(a, 0)), tail);
}

static Expr *gelu_erf(const Activation *a) {
    Lower *lo = a->lo;
    Expr *e = lx_1(lo, FN_ERF, lx_mul(lo, a->x, num(a, M_SQRT1_2)));
    return lx_mul(lo, lx_mul(lo, a->x, num(a, 0.5)), lx_add(lo, e, num(a, 1)));
}

/* x (1/2 + b p(b^2)) within 5e-5, where b is x, at most 4.25 from 0; beyond that the second factor is as good as 0 or 1. */
static Expr *gelu_rough(const Activation *a) {
    static const double p[] = {4.547069665239434e-11, -4.5153010219678436e-09, 1.9861579403368523e-07, -5.147511728864629e-06, 8.848911966197193e-05, -0.0010790778324007988, 0.009718778543174267,
                               -0.06619028002023697, 0.3988192081451416};
    Lower *lo = a->lo;
    Expr *low = num(a, -4.25), *high = num(a, 4.25), *x = lx_select(lo, lx_2(lo, FN_GT, low, a->x), low, a->x), *b = lx_select(lo, lx_2(lo, FN_LT, high, x), high, x);
    Expr *square = lx_mul(lo, b, b), *y = num(a, p[0]);
    for (size_t i = 1; i < sizeof p / sizeof *p; i++) y = lx_mul_add(lo, y, square, num(a, p[i]));
    return lx_mul(lo, x, lx_mul_add(lo, b, y, num(a, 0.5)));
}

/* x (1 + tanh u) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3), which is x sigmoid(2 u). */
static Expr *gelu_tanh(const Activation *a) {
    Lower *lo = a->lo;
    Expr *x = a->x, *slope = lx_mul_add(lo, lx_mul(lo, x, x), num(a, 2 * M_2_SQRTPI * M_SQRT1_2 * 0.044715), num(a, 2 * M_2_SQRTPI * M_SQRT1_2));
    return lx_mul(lo, x, lx_1(lo, FN_SIGMOID, lx_mul(lo, x, slope)));
}

/* x tanh(log(1 + e^x)) = x p / (p + 2) with p = e^2x + 2 e^x; above 20 that is x. */
static Expr *mish(const Activation *a) {
    Lower *lo = a->lo;
    Expr *e = lx_1(lo, FN_EXP, lx_2(lo, FN_MIN, a->x, num(a, 20))), *p = lx_mul(lo, e, lx_add(lo, e, num(a, 2)));
    return lx_mul(lo, a->x, lx_div(lo, p, lx_add(lo, p, num(a, 2))));
}

static Expr *swish(const Activation *a, double alpha) {
    Lower *lo = a->lo;
    return lx_mul(lo, a->x, lx_1(lo, FN_SIGMOID, lx_mul(lo, a->x, num(a, alpha))));
}

static Expr *shrink(const Activation *a, double bias, double lambda) {
    Lower *lo = a->lo;
    Expr *high = lx_select(lo, lx_2(lo, FN_GT, a->x, num(a, lambda)), lx_sub(lo, a->x, num(a, bias)), num(a, 0));
    return lx_select(lo, lx_2(lo, FN_LT, a->x, num(a, -lambda)), lx_add(lo, a->x, num(a, bias)), high);
}

static Expr *expm1_scaled(const Activation *a, double alpha, double width) { /* alpha * (exp(x / width) - 1) */
    Lower *lo = a->lo;
    Expr *x = width == 1 ? a->x : lx_div(lo, a->x, num(a, width));
    return lx_mul(lo, lx_1(lo, FN_EXPM1, x), num(a, alpha));
}

static Expr *activation(Lower *lo, const Node *n, Expr *x) {
    Activation a = {lo, x};
    switch ((Op)n->op) {
    case OP_Celu: return if_negative(&a, expm1_scaled(&a, attr_f(n, AT_Celu_alpha), attr_f(n, AT_Celu_alpha)), x);
    case OP_Elu: return if_negative(&a, expm1_scaled(&a, attr_f(n, AT_Elu_alpha), 1), x);
    case OP_Selu: {
        double gamma = attr_f(n, AT_Selu_gamma);
        return if_negative(&a, expm1_scaled(&a, attr_f(n, AT_Selu_alpha) * gamma, 1), lx_mul(lo, x, num(&a, gamma)));
    }
    case OP_Gelu: return attr_s_is(lo->cx, n, AT_Gelu_approximate, "tanh") ? gelu_tanh(&a) : gelu_erf(&a);
    case OP_BiasGelu: case OP_Ms_Gelu: return gelu_erf(&a);
    case OP_RoughGelu: return gelu_rough(&a);
    case OP_FastGelu: return gelu_tanh(&a);
    case OP_QuickGelu: return swish(&a, attr_f(n, AT_QuickGelu_alpha));
    case OP_Swish: return swish(&a, attr_f(n, AT_Swish_alpha));
    case OP_HardSigmoid: return clamp01(&a, lx_mul_add(lo, x, num(&a, attr_f(n, AT_HardSigmoid_alpha)), num(&a, attr_f(n, AT_HardSigmoid_beta))));
    case OP_HardSwish: return lx_mul(lo, x, clamp01(&a, lx_mul_add(lo, x, num(&a, 1.0 / 6), num(&a, 0.5))));
    case OP_LeakyRelu: return if_negative(&a, lx_mul(lo, x, num(&a, attr_f(n, AT_LeakyRelu_alpha))), x);
    case OP_Mish: return mish(&a);
    case OP_Relu: return lx_2(lo, FN_MAX, x, num(&a, 0));
    case OP_Shrink: return shrink(&a, attr_f(n, AT_Shrink_bias), attr_f(n, AT_Shrink_lambd));
    case OP_Softplus: return softplus(&a);
    case OP_Softsign: return lx_div(lo, x, lx_add(lo, lx_1(lo, FN_ABS, x), num(&a, 1)));
    case OP_ThresholdedRelu: return lx_select(lo, lx_2(lo, FN_GT, x, num(&a, attr_f(n, AT_ThresholdedRelu_alpha))), x, num(&a, 0));
    default: context_escape(lo->cx, "define_activation: not an activation");
    }
}

/* Input 1, where there is one, is a bias that is added first. */
Expr *define_activation(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    const Type *t = n->out[out]->type;
    Expr *x = lower_load(lo, n->in[0], idx);
    if (has_in(n, 1)) x = lx_add(lo, x, operand_load(lo, n->in[1], t, idx));
    return activation(lo, n, x);
}

Expr *define_prelu(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    Expr *x = lower_load(lo, n->in[0], idx), *slope = operand_load(lo, n->in[1], n->out[out]->type, idx);
    return lx_select(lo, lx_2(lo, FN_LT, x, lx_const(lo, (DType)x->dtype, 0)), lx_mul(lo, x, slope), x);
}

/* Swish(a) * b */
Expr *define_swiglu(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    const Type *t = n->out[out]->type;
    Activation a = {lo, operand_load(lo, n->in[0], t, idx)};
    return lx_mul(lo, swish(&a, attr_f(n, AT_SwiGLU_alpha)), operand_load(lo, n->in[1], t, idx));
}

/* With h = x + bias, halves along the last axis: left * gelu(right). */
Expr *define_bias_split_gelu(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    const Type *t = n->out[out]->type;
    Expr *at[RANK_MAX], *half[2];
    for (uint32_t i = 0; i < t->rank; i++) at[i] = idx[i];
    for (int side = 0; side < 2; side++) {
        if (side == 1) at[t->rank - 1] = lx_add(lo, idx[t->rank - 1], lx_dim(lo, t->dim[t->rank - 1]));
        half[side] = lx_add(lo, lower_load(lo, n->in[0], at), lower_load(lo, n->in[1], &at[t->rank - 1]));
    }
    Activation a = {lo, half[1]};
    return lx_mul(lo, half[0], gelu_erf(&a));
}
