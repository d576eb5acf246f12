/* Elementwise operators, contraction and reductions of the C DSL: thin names for ONNX operators, and the few that ONNX has
 * not, put together from those it has. */
#include "frontend/dsl.h"

#include <math.h>

/* ---- one input -------------------------------------------------------------------------------------------------- */
LatheValue lathe_relu(LatheValue x) { return dsl_unary(OP_Relu, x); }
LatheValue lathe_selu(LatheValue x) { return dsl_unary(OP_Selu, x); }
LatheValue lathe_gelu(LatheValue x) { return dsl_unary(OP_Gelu, x); }
LatheValue lathe_silu(LatheValue x) { return dsl_unary(OP_Swish, x); }
LatheValue lathe_mish(LatheValue x) { return dsl_unary(OP_Mish, x); }
LatheValue lathe_sigmoid(LatheValue x) { return dsl_unary(OP_Sigmoid, x); }
LatheValue lathe_hard_sigmoid(LatheValue x) { return dsl_unary(OP_HardSigmoid, x); }
LatheValue lathe_hard_swish(LatheValue x) { return dsl_unary(OP_HardSwish, x); }
LatheValue lathe_softplus(LatheValue x) { return dsl_unary(OP_Softplus, x); }
LatheValue lathe_softsign(LatheValue x) { return dsl_unary(OP_Softsign, x); }
LatheValue lathe_tanh(LatheValue x) { return dsl_unary(OP_Tanh, x); }
LatheValue lathe_erf(LatheValue x) { return dsl_unary(OP_Erf, x); }
LatheValue lathe_exp(LatheValue x) { return dsl_unary(OP_Exp, x); }
LatheValue lathe_log(LatheValue x) { return dsl_unary(OP_Log, x); }
LatheValue lathe_sqrt(LatheValue x) { return dsl_unary(OP_Sqrt, x); }
LatheValue lathe_reciprocal(LatheValue x) { return dsl_unary(OP_Reciprocal, x); }
LatheValue lathe_abs(LatheValue x) { return dsl_unary(OP_Abs, x); }
LatheValue lathe_neg(LatheValue x) { return dsl_unary(OP_Neg, x); }
LatheValue lathe_sign(LatheValue x) { return dsl_unary(OP_Sign, x); }
LatheValue lathe_sin(LatheValue x) { return dsl_unary(OP_Sin, x); }
LatheValue lathe_cos(LatheValue x) { return dsl_unary(OP_Cos, x); }
LatheValue lathe_tan(LatheValue x) { return dsl_unary(OP_Tan, x); }
LatheValue lathe_floor(LatheValue x) { return dsl_unary(OP_Floor, x); }
LatheValue lathe_ceil(LatheValue x) { return dsl_unary(OP_Ceil, x); }
LatheValue lathe_round(LatheValue x) { return dsl_unary(OP_Round, x); }
LatheValue lathe_not(LatheValue x) { return dsl_unary(OP_Not, x); }
LatheValue lathe_square(LatheValue x) { return lathe_mul(x, x); }
LatheValue lathe_rsqrt(LatheValue x) { return lathe_reciprocal(lathe_sqrt(x)); }
LatheValue lathe_relu6(LatheValue x) { return lathe_clip(x, 0, 6); }

LatheValue lathe_leaky_relu(LatheValue x, double slope) {
    DslNode spec = {.op = OP_LeakyRelu, .n_in = 1, .in = &x, .recover = &x};
    dsl_float(&spec, AT_LeakyRelu_alpha, slope);
    return dsl_node(x.model, &spec);
}

LatheValue lathe_elu(LatheValue x, double alpha) {
    DslNode spec = {.op = OP_Elu, .n_in = 1, .in = &x, .recover = &x};
    dsl_float(&spec, AT_Elu_alpha, alpha);
    return dsl_node(x.model, &spec);
}

LatheValue lathe_gelu_tanh(LatheValue x) {
    DslNode spec = {.op = OP_Gelu, .n_in = 1, .in = &x, .recover = &x};
    dsl_string(&spec, AT_Gelu_approximate, "tanh");
    return dsl_node(x.model, &spec);
}

/* log(1 + x) and exp(x) - 1 without the cancellation near 0: W. Kahan's correction by the rounding error of u = 1 + x. */
LatheValue lathe_log1p(LatheValue x) {
    LatheValue one = lathe_scalar_like(x, 1), u = lathe_add(x, one), d = lathe_sub(u, one);
    LatheValue exact = lathe_equal(d, lathe_scalar_like(x, 0));
    LatheValue safe = lathe_where(exact, one, d);
    return lathe_where(exact, x, lathe_where(lathe_equal(u, lathe_scalar_like(x, (double)INFINITY)), u, lathe_mul(lathe_log(u), lathe_div(x, safe))));
}

LatheValue lathe_expm1(LatheValue x) {
    LatheValue one = lathe_scalar_like(x, 1), u = lathe_exp(x), d = lathe_sub(u, one);
    LatheValue tiny = lathe_equal(u, one), far = lathe_greater(lathe_abs(x), lathe_scalar_like(x, 1));
    LatheValue l = lathe_log(u), safe = lathe_where(lathe_equal(l, lathe_scalar_like(x, 0)), one, l);
    return lathe_where(tiny, x, lathe_where(far, d, lathe_mul(d, lathe_div(x, safe))));
}

LatheValue lathe_clip(LatheValue x, double low, double high) {
    return dsl_node(x.model, &(DslNode){.op = OP_Clip, .n_in = 3, .in = (LatheValue[]){x, lathe_scalar_like(x, low), lathe_scalar_like(x, high)}, .recover = &x});
}

LatheValue lathe_cast(LatheValue x, LatheDType to) {
    DslNode spec = {.op = OP_Cast, .n_in = 1, .in = &x};
    dsl_int(&spec, AT_Cast_to, to);
    return dsl_node(x.model, &spec);
}

/* ---- two inputs ------------------------------------------------------------------------------------------------- */
LatheValue lathe_add(LatheValue a, LatheValue b) { return dsl_binary(OP_Add, a, b); }
LatheValue lathe_sub(LatheValue a, LatheValue b) { return dsl_binary(OP_Sub, a, b); }
LatheValue lathe_mul(LatheValue a, LatheValue b) { return dsl_binary(OP_Mul, a, b); }
LatheValue lathe_div(LatheValue a, LatheValue b) { return dsl_binary(OP_Div, a, b); }
LatheValue lathe_pow(LatheValue a, LatheValue b) { return dsl_binary(OP_Pow, a, b); }
LatheValue lathe_min(LatheValue a, LatheValue b) { return dsl_binary(OP_Min, a, b); }
LatheValue lathe_max(LatheValue a, LatheValue b) { return dsl_binary(OP_Max, a, b); }

/* ONNX's Mod of floats takes C's fmod (sign of a): floats are put together as a - floor(a / b) * b. */
LatheValue lathe_mod(LatheValue a, LatheValue b) {
    const Type *t = dsl_type(a);
    if (t != NULL && dtype_is_float(t->dtype)) return lathe_sub(a, lathe_mul(lathe_floor(lathe_div(a, b)), b));
    return dsl_binary(OP_Mod, a, b);
}

static LatheValue compare(Op op, LatheValue a, LatheValue b) {
    return dsl_node(a.model, &(DslNode){.op = op, .n_in = 2, .in = (LatheValue[]){a, b}});
}

LatheValue lathe_equal(LatheValue a, LatheValue b) { return compare(OP_Equal, a, b); }
LatheValue lathe_not_equal(LatheValue a, LatheValue b) { return lathe_not(lathe_equal(a, b)); }
LatheValue lathe_less(LatheValue a, LatheValue b) { return compare(OP_Less, a, b); }
LatheValue lathe_less_equal(LatheValue a, LatheValue b) { return compare(OP_LessOrEqual, a, b); }
LatheValue lathe_greater(LatheValue a, LatheValue b) { return compare(OP_Greater, a, b); }
LatheValue lathe_greater_equal(LatheValue a, LatheValue b) { return compare(OP_GreaterOrEqual, a, b); }
LatheValue lathe_and(LatheValue a, LatheValue b) { return dsl_binary(OP_And, a, b); }
LatheValue lathe_or(LatheValue a, LatheValue b) { return dsl_binary(OP_Or, a, b); }
LatheValue lathe_xor(LatheValue a, LatheValue b) { return dsl_binary(OP_Xor, a, b); }

LatheValue lathe_where(LatheValue condition, LatheValue a, LatheValue b) {
    return dsl_node(a.model, &(DslNode){.op = OP_Where, .n_in = 3, .in = (LatheValue[]){condition, a, b}, .recover = &a});
}

LatheValue lathe_matmul(LatheValue a, LatheValue b) {
    return compare(OP_MatMul, a, b); /* no way to tell which operand is meant: no recovery */
}

/* ---- along one axis --------------------------------------------------------------------------------------------- */
static LatheValue along(Op op, AttrSlot slot, LatheValue x, int64_t axis) {
    DslNode spec = {.op = op, .n_in = 1, .in = &x, .recover = &x};
    dsl_int(&spec, slot, axis);
    return dsl_node(x.model, &spec);
}

LatheValue lathe_softmax(LatheValue x, int64_t axis) { return along(OP_Softmax, AT_Softmax_axis, x, axis); }
LatheValue lathe_log_softmax(LatheValue x, int64_t axis) { return along(OP_LogSoftmax, AT_LogSoftmax_axis, x, axis); }

LatheValue lathe_argmax(LatheValue x, int64_t axis, bool keep_dims) {
    DslNode spec = {.op = OP_ArgMax, .n_in = 1, .in = &x};
    dsl_int(&spec, AT_ArgMax_axis, axis);
    dsl_int(&spec, AT_ArgMax_keepdims, keep_dims);
    return dsl_node(x.model, &spec);
}

LatheValue lathe_argmin(LatheValue x, int64_t axis, bool keep_dims) {
    DslNode spec = {.op = OP_ArgMin, .n_in = 1, .in = &x};
    dsl_int(&spec, AT_ArgMin_axis, axis);
    dsl_int(&spec, AT_ArgMin_keepdims, keep_dims);
    return dsl_node(x.model, &spec);
}

LatheValue lathe_cumsum(LatheValue x, int64_t axis) {
    if (lathe_is_null(x)) return x;
    return dsl_node(x.model, &(DslNode){.op = OP_CumSum, .n_in = 2, .in = (LatheValue[]){x, dsl_i64_scalar(x.model, axis)}, .recover = &x});
}

LatheValue lathe_topk(LatheValue x, int64_t k, int64_t axis, LatheValue *indices) {
    LatheValue out[2] = {{0}, {0}};
    if (!lathe_is_null(x)) {
        DslNode spec = {.op = OP_TopK, .n_in = 2, .n_out = 2, .in = (LatheValue[]){x, dsl_i64(x.model, 1, &k)}};
        dsl_int(&spec, AT_TopK_axis, axis);
        dsl_node_outputs(x.model, &spec, out);
    }
    if (indices != NULL) *indices = out[1];
    return out[0];
}

/* ---- reductions ------------------------------------------------------------------------------------------------- */
static Op reduce_op(LatheReduce kind, AttrSlot *keep_dims) {
    switch (kind) {
    case LATHE_REDUCE_SUM: *keep_dims = AT_ReduceSum_keepdims; return OP_ReduceSum;
    case LATHE_REDUCE_MEAN: *keep_dims = AT_ReduceMean_keepdims; return OP_ReduceMean;
    case LATHE_REDUCE_MAX: *keep_dims = AT_ReduceMax_keepdims; return OP_ReduceMax;
    case LATHE_REDUCE_MIN: *keep_dims = AT_ReduceMin_keepdims; return OP_ReduceMin;
    case LATHE_REDUCE_PROD: *keep_dims = AT_ReduceProd_keepdims; return OP_ReduceProd;
    case LATHE_REDUCE_L1: *keep_dims = AT_ReduceL1_keepdims; return OP_ReduceL1;
    case LATHE_REDUCE_L2: *keep_dims = AT_ReduceL2_keepdims; return OP_ReduceL2;
    case LATHE_REDUCE_SUM_SQUARE: *keep_dims = AT_ReduceSumSquare_keepdims; return OP_ReduceSumSquare;
    case LATHE_REDUCE_LOG_SUM_EXP: *keep_dims = AT_ReduceLogSumExp_keepdims; return OP_ReduceLogSumExp;
    }
    return OP_NONE;
}

LatheValue lathe_reduce(LatheReduce kind, LatheValue x, uint32_t n, const int64_t *axes, bool keep_dims) {
    if (lathe_is_null(x)) return x;
    AttrSlot slot;
    Op op = reduce_op(kind, &slot);
    if (op == OP_NONE) return (LatheValue){0};
    LatheValue in[2] = {x, {0}};
    if (n != 0) in[1] = dsl_i64(x.model, n, axes);
    DslNode spec = {.op = op, .n_in = n != 0 ? 2 : 1, .in = in};
    dsl_int(&spec, slot, keep_dims);
    return dsl_node(x.model, &spec);
}

LatheValue lathe_sum(LatheValue x, int64_t axis, bool keep_dims) { return lathe_reduce(LATHE_REDUCE_SUM, x, 1, &axis, keep_dims); }
LatheValue lathe_mean(LatheValue x, int64_t axis, bool keep_dims) { return lathe_reduce(LATHE_REDUCE_MEAN, x, 1, &axis, keep_dims); }

LatheValue lathe_variance(LatheValue x, int64_t axis, bool keep_dims) {
    return lathe_mean(lathe_square(lathe_sub(x, lathe_mean(x, axis, true))), axis, keep_dims);
}
