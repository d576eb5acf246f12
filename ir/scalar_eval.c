/* Scalar functions on constants: the meaning of ir/scalars.def, spelled in C. Emitted code must give the same results
 * (bit for bit for integers, comparisons and selections; within the stated ULPs for transcendental functions). */
#include <math.h>

#include "ir/kernel.h"
#include "ir/small_float.h"

/* Wraps an integer result to the width of its type, in two's complement. */
static int64_t wrap(DType d, uint64_t x) {
    switch (dtype_bits(d) * 2 + (dtype_class(d) == 'U')) {
    case 8 * 2: return (int8_t)x;
    case 8 * 2 + 1: return (uint8_t)x;
    case 16 * 2: return (int16_t)x;
    case 16 * 2 + 1: return (uint16_t)x;
    case 32 * 2: return (int32_t)x;
    case 32 * 2 + 1: return (uint32_t)x;
    default: return (int64_t)x;
    }
}

static uint32_t width(DType d) { return d == DT_BOOL ? 1 : dtype_bits(d); }

static uint64_t int_pow(DType d, int64_t base, int64_t e, bool is_unsigned) {
    if (!is_unsigned && e < 0) return base == 1 ? 1 : base == -1 ? (e % 2 != 0 ? (uint64_t)-1 : 1) : 0;
    uint64_t r = 1, b = (uint64_t)base;
    for (uint64_t k = (uint64_t)e; k != 0; k >>= 1) {
        if (k & 1) r *= b;
        b *= b;
    }
    return (uint64_t)wrap(d, r);
}

static uint64_t int_divide(Fn fn, bool is_unsigned, int64_t a, int64_t b) {
    if (b == 0) return 0;
    if (is_unsigned) {
        uint64_t ua = (uint64_t)a, ub = (uint64_t)b;
        return fn == FN_DIV || fn == FN_FLOORDIV ? ua / ub : ua % ub;
    }
    if (b == -1) return fn == FN_DIV || fn == FN_FLOORDIV ? 0 - (uint64_t)a : 0;
    int64_t q = a / b, r = a % b;
    bool adjust = r != 0 && (r < 0) != (b < 0);
    switch (fn) {
    case FN_DIV: return (uint64_t)q;
    case FN_FLOORDIV: return (uint64_t)(q - adjust);
    case FN_FMOD: return (uint64_t)r;
    default: return (uint64_t)(adjust ? r + b : r);
    }
}

static Scalar eval_int(Fn fn, DType d, DType from, const Scalar *x, int *error) {
    bool u = dtype_class(from) == 'U';
    int64_t a = x[0].i, b = x[1].i;
    uint64_t ua = (uint64_t)a, ub = (uint64_t)b, r = 0;
    bool less = u ? ua < ub : a < b;
    switch (fn) {
    case FN_ADD: r = ua + ub; break;
    case FN_SUB: r = ua - ub; break;
    case FN_MUL: r = ua * ub; break;
    case FN_DIV: case FN_FLOORDIV: case FN_FMOD: case FN_MOD: r = int_divide(fn, u, a, b); break;
    case FN_POW: r = int_pow(d, a, b, u); break;
    case FN_MIN: r = less ? ua : ub; break;
    case FN_MAX: r = less ? ub : ua; break;
    case FN_NEG: r = 0 - ua; break;
    case FN_ABS: r = !u && a < 0 ? 0 - ua : ua; break;
    case FN_SIGN: r = u ? ua != 0 : (uint64_t)((a > 0) - (a < 0)); break;
    case FN_AND: r = ua & ub; break;
    case FN_OR: r = ua | ub; break;
    case FN_XOR: r = ua ^ ub; break;
    case FN_NOT: r = d == DT_BOOL ? ua == 0 : ~ua; break;
    case FN_SHL: r = ub < width(from) ? ua << ub : 0; break;
    case FN_SHR: r = ub < width(from) ? (u || d == DT_BOOL ? ua >> ub : (uint64_t)(a >> b)) : !u && a < 0 ? ~(uint64_t)0 : 0; break;
    case FN_EQ: r = a == b; break;
    case FN_NE: r = a != b; break;
    case FN_LT: r = less; break;
    case FN_LE: r = less || a == b; break;
    case FN_GT: r = !less && a != b; break;
    case FN_GE: r = !less; break;
    default: *error = LATHE_RT_VALUE; break; /* a float function of an integer */
    }
    return (Scalar){.i = wrap(d, r)};
}

static double min_nan(double a, double b) { return isnan(a) || isnan(b) ? (double)NAN : a < b || (a == b && signbit(a)) ? a : b; }
static double max_nan(double a, double b) { return isnan(a) || isnan(b) ? (double)NAN : a > b || (a == b && !signbit(a)) ? a : b; }

static double python_mod(double a, double b) {
    double r = fmod(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

/* f32 functions are evaluated in double and rounded once: at least as good as what emitted code promises. */
static double eval_float(Fn fn, DType d, const double *x, int *error) {
    double a = x[0], b = x[1];
    bool single = d == DT_F32;
    switch (fn) {
    case FN_ADD: return a + b;
    case FN_SUB: return a - b;
    case FN_MUL: return a * b;
    case FN_DIV: return a / b;
    case FN_FLOORDIV: return floor(a / b);
    case FN_FMOD: return fmod(a, b);
    case FN_MOD: return python_mod(a, b);
    case FN_POW: return pow(a, b);
    case FN_MIN: return min_nan(a, b);
    case FN_MAX: return max_nan(a, b);
    case FN_NEG: return -a;
    case FN_ABS: return fabs(a);
    case FN_SIGN: return isnan(a) ? a : (double)((a > 0) - (a < 0));
    case FN_FMA: return single ? a * b + x[2] : fma(a, b, x[2]);
    case FN_FLOOR: return floor(a);
    case FN_CEIL: return ceil(a);
    case FN_RINT: return nearbyint(a);
    case FN_TRUNC: return trunc(a);
    case FN_SQRT: return sqrt(a);
    case FN_RECIP: return 1 / a;
    case FN_EXP: case FN_EXP_BELOW: return exp(a);
    case FN_EXPM1: return expm1(a);
    case FN_LOG: return log(a);
    case FN_LOG1P: return log1p(a);
    case FN_SIN: return sin(a);
    case FN_COS: return cos(a);
    case FN_TAN: return tan(a);
    case FN_ASIN: return asin(a);
    case FN_ACOS: return acos(a);
    case FN_ATAN: return atan(a);
    case FN_SINH: return sinh(a);
    case FN_COSH: return cosh(a);
    case FN_TANH: return tanh(a);
    case FN_ASINH: return asinh(a);
    case FN_ACOSH: return acosh(a);
    case FN_ATANH: return atanh(a);
    case FN_ERF: return erf(a);
    case FN_SIGMOID: return 1 / (1 + exp(-a));
    default: *error = LATHE_RT_VALUE; return 0; /* not a float function */
    }
}

static Scalar compare_float(Fn fn, double a, double b, int *error) {
    bool r = false;
    switch (fn) {
    case FN_EQ: r = a == b; break;
    case FN_NE: r = a != b; break;
    case FN_LT: r = a < b; break;
    case FN_LE: r = a <= b; break;
    case FN_GT: r = a > b; break;
    case FN_GE: r = a >= b; break;
    case FN_ISNAN: r = isnan(a); break;
    case FN_ISINF: r = isinf(a); break;
    default: *error = LATHE_RT_VALUE; break;
    }
    return (Scalar){.i = r};
}

static Scalar float_to_int(DType d, double v) {
    if (d == DT_BOOL) return (Scalar){.i = v != 0};
    if (isnan(v)) return (Scalar){.i = 0};
    v = trunc(v);
    uint32_t bits = dtype_bits(d);
    bool u = dtype_class(d) == 'U';
    double lo = u ? 0 : -ldexp(1, (int)bits - 1), hi = ldexp(1, (int)bits - !u); /* hi is one too many */
    if (v < lo) v = lo;
    if (v >= hi) return (Scalar){.u = u ? (bits == 64 ? UINT64_MAX : ((uint64_t)1 << bits) - 1) : ((uint64_t)1 << (bits - 1)) - 1};
    return u ? (Scalar){.u = (uint64_t)v} : (Scalar){.i = (int64_t)v};
}

static double as_double(DType d, Scalar s) {
    if (d == DT_F32) return (double)s.f32;
    if (d == DT_F64) return s.f64;
    return dtype_class(d) == 'U' ? (double)s.u : (double)s.i;
}

static Scalar cast(DType d, DType from, Scalar s) {
    if (d == DT_F32) return (Scalar){.f32 = dtype_is_float(from) ? (float)as_double(from, s) : dtype_class(from) == 'U' ? (float)s.u : (float)s.i};
    if (d == DT_F64) return (Scalar){.f64 = as_double(from, s)};
    if (dtype_is_float(from)) return float_to_int(d, as_double(from, s));
    return (Scalar){.i = d == DT_BOOL ? s.i != 0 : wrap(d, s.u)};
}

static Scalar bitcast(DType d, DType from, Scalar s) {
    union { float f; uint32_t u; } one;
    if (from == DT_F32) one.f = s.f32, s.u = one.u;
    if (d == DT_F32) return one.u = (uint32_t)s.u, (Scalar){.f32 = one.f};
    if (d == DT_F64 || from == DT_F64) return s;
    return (Scalar){.i = wrap(d, s.u)};
}

/* As a store and a load: small floats overflow to infinity or NaN, packed integers keep their low bits. */
static Scalar round_to(DType storage, Scalar s) {
    if (dtype_is_float(storage)) return (Scalar){.f32 = small_float_decode(storage, small_float_encode(storage, s.f32, false))};
    uint64_t mask = (UINT64_C(1) << dtype_bits(storage)) - 1, sign = (mask >> 1) + 1, low = s.u & mask;
    return (Scalar){.i = dtype_class(storage) == 'I' ? (int64_t)(low ^ sign) - (int64_t)sign : (int64_t)low};
}

Scalar scalar_eval(Fn fn, DType dtype, DType from, const Scalar *x, int64_t extra, int *error) {
    Scalar none = {0};
    switch (fn) {
    case FN_SELECT: return x[0].i != 0 ? x[1] : x[2];
    case FN_CAST: return cast(dtype, from, x[0]);
    case FN_BITCAST: return bitcast(dtype, from, x[0]);
    case FN_ROUND_TO: return round_to((DType)extra, x[0]);
    case FN_INDEX:
        if (x[0].i >= 0 && x[0].i < x[1].i) return x[0];
        *error = LATHE_RT_INDEX;
        return none;
    case FN_REQUIRE:
        if (x[0].i == 0) *error = (int)extra;
        return x[1];
    default: break; /* the others are plain functions of one type */
    }
    if (!dtype_is_float(from)) return eval_int(fn, dtype, from, x, error);
    double a[3] = {0};
    for (uint32_t i = 0; i < fn_arity(fn); i++) a[i] = as_double(from, x[i]);
    if (fn_class(fn) == FC_COMPARE || fn_class(fn) == FC_TEST) return compare_float(fn, a[0], a[1], error);
    double r = eval_float(fn, dtype, a, error);
    return dtype == DT_F32 ? (Scalar){.f32 = (float)r} : (Scalar){.f64 = r};
}
