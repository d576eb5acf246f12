/* Quantization: numbers as small integers (or floats) times a scale.
 *
 *     QuantizeLinear    y = saturate(round(x / scale) + zero)       round half to even
 *     DequantizeLinear  y = (x - zero) * scale
 *
 * scale and zero hold one element, one per index of an axis, or one per block of an axis. The com.microsoft QLinear
 * operators dequantize their operands, compute in f32, and quantize the result. */
#include "passes/lower/operand.h"

#include "passes/rules.h"

typedef struct Granularity { int64_t axis, block; } Granularity;

static Granularity granularity(const Node *n) {
    switch ((Op)n->op) {
    case OP_QuantizeLinear: return (Granularity){attr_i(n, AT_QuantizeLinear_axis), attr_i(n, AT_QuantizeLinear_block_size)};
    case OP_DequantizeLinear: return (Granularity){attr_i(n, AT_DequantizeLinear_axis), attr_i(n, AT_DequantizeLinear_block_size)};
    case OP_Ms_QuantizeLinear: return (Granularity){attr_has(n, AT_Ms_QuantizeLinear_axis) ? attr_i(n, AT_Ms_QuantizeLinear_axis) : 1, 0};
    default: return (Granularity){attr_has(n, AT_Ms_DequantizeLinear_axis) ? attr_i(n, AT_Ms_DequantizeLinear_axis) : 1, 0};
    }
}

/* The element of a scale or zero point that belongs to idx of the data. */
static Expr *parameter(Lower *lo, const Node *n, const Value *v, Expr *const *idx) {
    const Type *data = n->in[0]->type, *t = v->type;
    Granularity g = granularity(n);
    int64_t axis = g.axis < 0 ? g.axis + data->rank : g.axis;
    if (axis < 0 || axis >= data->rank) axis = 0;
    Dim numel = type_numel(lo->cx, t);
    if (data->rank == 0 || (dim_is_const(lo->cx, numel) && dim_value(lo->cx, numel) == 1)) return lower_load_scalar(lo, v);
    if (t->rank == 1 && g.block <= 0) return lower_load(lo, v, &idx[axis]);
    Expr *at[RANK_MAX];
    for (uint32_t i = 0; i < t->rank && i < data->rank; i++) at[i] = idx[i];
    Expr *block = g.block > 0 ? lx_i(lo, g.block) : lx_dim(lo, dim_ceildiv(lo->cx, data->dim[axis], t->dim[axis]));
    at[axis] = lx_2(lo, FN_FLOORDIV, idx[axis], block);
    return lower_load(lo, v, at);
}

void quantize_range(DType d, double *low, double *high) {
    uint32_t bits = dtype_bits(d);
    bool is_unsigned = dtype_class(d) == 'U';
    *low = is_unsigned ? 0 : -(double)(INT64_C(1) << (bits - 1));
    *high = (double)((INT64_C(1) << (is_unsigned ? bits : bits - 1)) - 1);
}

/* x is an integer-valued float; NaN becomes the lowest value. The form is one that codegen knows to be within bounds. */
static Expr *clamp(Lower *lo, Expr *x, double low, double high) {
    Expr *least = lx_const(lo, (DType)x->dtype, low), *most = lx_const(lo, (DType)x->dtype, high);
    x = lx_select(lo, lx_2(lo, FN_GT, x, least), x, least);
    return lx_select(lo, lx_2(lo, FN_LT, x, most), x, most);
}

static Expr *saturate(Lower *lo, Expr *x, DType d) {
    double low, high;
    quantize_range(d, &low, &high);
    return lx_cast(lo, dtype_compute(d), clamp(lo, x, low, high));
}

/* saturate(round(x) + zero) for bytes. Clamping to whole numbers may come first; then adding 1.5 * 2^23 rounds half to even and
 * leaves the whole number in the low byte, which is one instruction where rounding and converting are four. */
static Expr *saturate_byte(Lower *lo, Expr *x, DType d, int32_t zero) {
    double low, high;
    quantize_range(d, &low, &high);
    x = lx_add(lo, clamp(lo, x, low - zero, high - zero), lx_const(lo, DT_F32, 12582912));
    Expr *bits = ex_fn(lo->k, lo->cx, FN_BITCAST, DT_I32, 1, &x);
    return lx_cast(lo, dtype_compute(d), zero != 0 ? lx_add(lo, bits, lx_const(lo, DT_I32, zero)) : bits);
}

/* saturate(round(x) + zero); zero may be NULL. */
static Expr *round_and_saturate(Lower *lo, Expr *x, Expr *zero, DType d) {
    bool shifted = zero != NULL && !(zero->kind == E_CONST && zero->c.f == 0);
    if ((d == DT_U8 || d == DT_I8) && x->dtype == DT_F32 && (!shifted || zero->kind == E_CONST)) return saturate_byte(lo, x, d, shifted ? (int32_t)zero->c.f : 0);
    x = lx_1(lo, FN_RINT, x);
    return saturate(lo, shifted ? lx_add(lo, x, zero) : x, d);
}

Expr *quantize_saturate(Lower *lo, Expr *x, DType d) { return round_and_saturate(lo, x, NULL, d); }

Expr *define_quantize(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    DType d = n->out[out]->type->dtype, scale_type = n->in[1]->type->dtype;
    bool plain = n->op == OP_QuantizeLinear;
    if (plain && attr_i(n, AT_QuantizeLinear_precision) != 0) scale_type = dtype_from_onnx((int32_t)attr_i(n, AT_QuantizeLinear_precision));
    DType f = dtype_compute(scale_type) == DT_F64 ? DT_F64 : DT_F32;
    Expr *x = lx_cast(lo, f, lower_load(lo, n->in[0], idx)), *scale = lx_cast(lo, f, parameter(lo, n, n->in[1], idx));
    if (scale->kind != E_CONST || scale->c.f != 1) x = lx_div(lo, x, scale);
    if (scale_type == DT_F16 || scale_type == DT_BF16) x = ex_round_to(lo->k, lo->cx, scale_type, x);
    Expr *zero = has_in(n, 2) ? lx_cast(lo, f, parameter(lo, n, n->in[2], idx)) : NULL;
    if (dtype_is_int(d)) return round_and_saturate(lo, x, zero, d);
    if (zero != NULL) x = lx_add(lo, x, zero);
    double max = small_float_max(d);
    if (max == 0 || (plain && attr_i(n, AT_QuantizeLinear_saturate) == 0)) return x;
    return lx_2(lo, FN_MIN, lx_2(lo, FN_MAX, x, lx_const(lo, f, -max)), lx_const(lo, f, max));
}

Expr *define_dequantize(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    DType f = dtype_compute(n->out[out]->type->dtype) == DT_F64 ? DT_F64 : DT_F32;
    Expr *x = lx_cast(lo, f, lower_load(lo, n->in[0], idx)), *scale = lx_cast(lo, f, parameter(lo, n, n->in[1], idx));
    if (has_in(n, 2)) x = lx_sub(lo, x, lx_cast(lo, f, parameter(lo, n, n->in[2], idx)));
    return lx_mul(lo, x, scale);
}

/* ---- com.microsoft ----------------------------------------------------------------------------------------------- */
/* The real number that quantized input i stands for; scale and zero point follow it. */
static Expr *real_at(Lower *lo, const Node *n, uint32_t i, const Type *t, Expr *const *idx) {
    Expr *x = lx_cast(lo, DT_F32, operand_load(lo, n->in[i], t, idx));
    if (has_in(n, i + 2)) x = lx_sub(lo, x, lx_cast(lo, DT_F32, lower_load_scalar(lo, n->in[i + 2])));
    return lx_mul(lo, x, lower_load_scalar(lo, n->in[i + 1]));
}

/* The inverse, with scale in input i and zero point in i + 1. */
static Expr *requantize(Lower *lo, const Node *n, uint32_t i, Expr *x, DType d) {
    Expr *zero = has_in(n, i + 1) ? lx_cast(lo, DT_F32, lower_load_scalar(lo, n->in[i + 1])) : NULL;
    return round_and_saturate(lo, lx_div(lo, x, lower_load_scalar(lo, n->in[i])), zero, d);
}

Expr *define_qlinear_binary(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    const Type *t = n->out[out]->type;
    Expr *a = real_at(lo, n, 0, t, idx), *b = real_at(lo, n, 3, t, idx);
    return requantize(lo, n, 6, lx_2(lo, n->op == OP_QLinearAdd ? FN_ADD : FN_MUL, a, b), t->dtype);
}

Expr *define_qlinear_unary(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    const Type *t = n->out[out]->type;
    Expr *x = real_at(lo, n, 0, t, idx), *y;
    if (n->op == OP_QLinearSigmoid) {
        y = lx_1(lo, FN_SIGMOID, x);
    } else {
        Expr *zero = lx_const(lo, DT_F32, 0), *slope = lx_const(lo, DT_F32, attr_f(n, AT_QLinearLeakyRelu_alpha));
        y = lx_select(lo, lx_2(lo, FN_LT, x, zero), lx_mul(lo, x, slope), x);
    }
    return requantize(lo, n, 3, y, t->dtype);
}

Expr *define_qlinear_where(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    const Type *t = n->out[out]->type;
    Expr *x = real_at(lo, n, 1, t, idx), *y = real_at(lo, n, 4, t, idx);
    return requantize(lo, n, 7, lx_select(lo, operand_load(lo, n->in[0], t, idx), x, y), t->dtype);
}
