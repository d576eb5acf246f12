/* Conversions between element types: Cast, CastLike, BitCast.
 *
 * lower_store rounds to the storage type as IEEE arithmetic would: a float8 overflow becomes infinity or NaN. What Cast
 * says beyond that (saturation, the rounding direction of powers of two) is written out here as arithmetic on f32:
 *
 *     f32 -> f8e4m3fn, saturate = 1:   y = min(max(x, -448), 448)      (NaN stays NaN) */
#include "passes/lower/operand.h"

#include <math.h>

#include "passes/rules.h"

double small_float_max(DType d) {
    switch (d) {
    case DT_F8E4M3FN: return 448;
    case DT_F8E4M3FNUZ: return 240;
    case DT_F8E5M2: case DT_F8E5M2FNUZ: return 57344;
    case DT_F4E2M1: return 6;
    case DT_F8E8M0: return 0x1p127;
    case DT_NONE: case DT_F32: case DT_U8: case DT_I8: case DT_U16: case DT_I16: case DT_I32: case DT_I64: case DT_STRING: case DT_BOOL: case DT_F16:
    case DT_F64: case DT_U32: case DT_U64: case DT_C64: case DT_C128: case DT_BF16: case DT_U4: case DT_I4: case DT_U2: case DT_I2: case DT_COUNT:
        return 0;
    }
    return 0;
}

static Expr *clamp(Lower *lo, Expr *x, double low, double high) {
    return lx_2(lo, FN_MIN, lx_2(lo, FN_MAX, x, lx_const(lo, DT_F32, low)), lx_const(lo, DT_F32, high));
}

static Expr *bits(Lower *lo, uint32_t u) { return ex_i(lo->cx, DT_U32, u); }

static Expr *bitcast(Lower *lo, DType to, Expr *x) { return ex_fn(lo->k, lo->cx, FN_BITCAST, to, 1, &x); }

/* Magnitudes in [2^-127, 2^127] to a power of two, as bits of a float; 2^-127 itself is a subnormal float. */
static Expr *power_of_two(Lower *lo, Expr *x, bool nearest) {
    Expr *u = bitcast(lo, DT_U32, x), *half = bits(lo, 0x400000), *smallest = bits(lo, 0x400000);
    Expr *normal = lx_2(lo, FN_AND, nearest ? lx_add(lo, u, half) : u, bits(lo, 0x7F800000));
    Expr *low = nearest ? lx_select(lo, lx_2(lo, FN_GE, u, bits(lo, 0x600000)), bits(lo, 0x800000), smallest) : smallest;
    Expr *rounded = bitcast(lo, DT_F32, lx_select(lo, lx_2(lo, FN_LT, u, bits(lo, 0x800000)), low, normal));
    return lx_select(lo, lx_1(lo, FN_ISNAN, x), x, rounded);
}

static Expr *to_e8m0(Lower *lo, Expr *x, bool saturate, const char *mode) {
    x = lx_1(lo, FN_ABS, x);
    Expr *tiny = lx_2(lo, FN_LT, x, lx_const(lo, DT_F32, 0x1p-127));
    x = saturate ? clamp(lo, x, 0x1p-127, 0x1p127) : lx_select(lo, tiny, lx_const(lo, DT_F32, (double)NAN), x);
    if (strcmp(mode, "up") == 0) return x; /* what a store does */
    Expr *y = power_of_two(lo, x, strcmp(mode, "nearest") == 0);
    return saturate ? clamp(lo, y, 0x1p-127, 0x1p127) : y;
}

static Expr *convert(Lower *lo, Expr *x, DType to, bool saturate, const char *mode) {
    DType compute = dtype_compute(to);
    if (dtype_is_int(to) && dtype_bits(to) < 8) x = lx_cast(lo, DT_I32, x); /* out of range: the low bits, also of negative numbers */
    x = lx_cast(lo, compute, x);
    if (to == DT_F8E8M0) return to_e8m0(lo, x, saturate, mode);
    double max = small_float_max(to);
    return max != 0 && saturate ? clamp(lo, x, -max, max) : x;
}

Expr *define_cast(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    bool like = n->op == OP_CastLike;
    const char *mode = str_text(lo->cx, attr_s(n, like ? AT_CastLike_round_mode : AT_Cast_round_mode));
    bool saturate = attr_i(n, like ? AT_CastLike_saturate : AT_Cast_saturate) != 0;
    return convert(lo, lower_load(lo, n->in[0], idx), n->out[out]->type->dtype, saturate, mode);
}

static DType same_width_unsigned(DType d) {
    switch (dtype_bits(d)) {
    case 16: return DT_U16;
    case 8: return DT_U8;
    case 4: return DT_U4;
    default: return DT_U2;
    }
}

/* Up to 16 bits every type is stored as an integer: both sides are read and written as the unsigned one. */
static void copy_raw(Lower *lo, const Node *n, Expr *const *idx) {
    DType raw = same_width_unsigned(n->in[0]->type->dtype);
    uint32_t in = lower_buf(lo, n->in[0]), out = lower_buf(lo, n->out[0]);
    lo->k->buf[in].dtype = lo->k->buf[out].dtype = raw;
    lower_store_buf(lo, out, idx, FN_NONE, lower_load_buf(lo, in, idx));
}

bool lower_bit_cast(Lower *lo, const Node *n) {
    const Type *t = n->in[0]->type;
    Expr *idx[RANK_MAX];
    lower_for_type(lo, t, idx);
    if (dtype_bits(t->dtype) >= 32) lower_store(lo, n->out[0], idx, bitcast(lo, n->out[0]->type->dtype, lower_load(lo, n->in[0], idx)));
    else copy_raw(lo, n, idx);
    lower_end_n(lo, t->rank);
    return true;
}
