/* One table of formats, one decoder, one encoder. A number is (-1)^s * 2^(e - bias) * 1.m; e = 0 is subnormal.
 * The encoder rounds the 24-bit significand of the float to the quantum of the target's exponent, then adds it to the
 * exponent field, so that a carry out of the mantissa becomes the next exponent by itself. */
#include "ir/small_float.h"

#include <math.h>

typedef enum Specials { IEEE, NAN_ONLY, NAN_IS_MINUS_ZERO, FINITE } Specials;
typedef struct Format {
    uint8_t exponent_bits, mantissa_bits;
    int16_t bias;
    Specials specials;
    bool saturates; /* ONNX's saturate attribute applies */
    uint16_t max;   /* code of the largest finite value */
} Format;

static const Format formats[DT_COUNT] = {
    [DT_F16] = {5, 10, 15, IEEE, false, 0x7BFF},
    [DT_BF16] = {8, 7, 127, IEEE, false, 0x7F7F},
    [DT_F8E4M3FN] = {4, 3, 7, NAN_ONLY, true, 0x7E},
    [DT_F8E4M3FNUZ] = {4, 3, 8, NAN_IS_MINUS_ZERO, true, 0x7F},
    [DT_F8E5M2] = {5, 2, 15, IEEE, true, 0x7B},
    [DT_F8E5M2FNUZ] = {5, 2, 16, NAN_IS_MINUS_ZERO, true, 0x7F},
    [DT_F4E2M1] = {2, 1, 1, FINITE, true, 0x7},
};

static uint32_t float_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float bits_float(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* Magnitudes past the largest finite value that are not finite, NaN among them. */
static float decode_special(const Format *f, uint32_t magnitude) {
    bool infinite = f->specials == IEEE && magnitude == (uint32_t)f->max + 1;
    return infinite ? INFINITY : NAN;
}

float small_float_decode(DType d, uint32_t bits) {
    if (d == DT_F8E8M0) {
        bits &= 0xFF;
        return bits == 0xFF ? NAN : bits == 0 ? bits_float(0x00400000) : bits_float(bits << 23);
    }
    const Format *f = &formats[d];
    uint32_t width = (uint32_t)f->exponent_bits + f->mantissa_bits, magnitude = bits & ((1u << width) - 1);
    bool negative = bits >> width & 1;
    if (f->specials == NAN_IS_MINUS_ZERO && negative && magnitude == 0) return NAN;
    float x;
    if (magnitude > f->max) {
        x = decode_special(f, magnitude);
    } else {
        int exponent = (int)(magnitude >> f->mantissa_bits);
        uint32_t mantissa = magnitude & ((1u << f->mantissa_bits) - 1);
        if (exponent == 0) exponent = 1;
        else mantissa |= 1u << f->mantissa_bits;
        x = ldexpf((float)mantissa, exponent - f->bias - f->mantissa_bits);
    }
    return negative ? -x : x;
}

static uint32_t nan_code(const Format *f, uint32_t sign) {
    uint32_t width = (uint32_t)f->exponent_bits + f->mantissa_bits;
    switch (f->specials) {
    case IEEE: return sign | (((1u << f->exponent_bits) - 1) << f->mantissa_bits) | 1u << (f->mantissa_bits - 1);
    case NAN_ONLY: return sign | ((1u << width) - 1);
    case NAN_IS_MINUS_ZERO: case FINITE: return 1u << width;
    }
    return 0;
}

static uint32_t overflow_code(const Format *f, uint32_t sign, bool saturate) {
    if (f->specials == FINITE || (saturate && f->saturates)) return sign | f->max;
    return f->specials == IEEE ? sign | (uint32_t)(f->max + 1) : nan_code(f, sign);
}

static uint64_t shift_right_even(uint64_t x, uint32_t shift) {
    if (shift == 0) return x;
    if (shift > 40) return 0; /* far below half a quantum of a 24-bit significand */
    uint64_t low = x & ((UINT64_C(1) << shift) - 1), half = UINT64_C(1) << (shift - 1), q = x >> shift;
    return q + (low > half || (low == half && (q & 1)));
}

uint32_t small_float_encode(DType d, float x, bool saturate) {
    if (d == DT_F8E8M0) return f8e8m0_encode(x, saturate, E8M0_UP);
    const Format *f = &formats[d];
    uint32_t u = float_bits(x), sign = (u >> 31) << (f->exponent_bits + f->mantissa_bits);
    uint32_t exponent_field = u >> 23 & 0xFF, significand = u & 0x7FFFFF;
    if (exponent_field == 0xFF) return significand != 0 ? nan_code(f, sign) : overflow_code(f, sign, saturate);
    if (exponent_field != 0) significand |= 0x800000;
    else exponent_field = 1;
    int exponent = (int)exponent_field - 127; /* the value is significand * 2^(exponent - 23) */
    int lowest = 1 - f->bias, quantum = (exponent > lowest ? exponent : lowest) - f->mantissa_bits;
    uint64_t rounded = shift_right_even(significand, (uint32_t)(quantum - (exponent - 23)));
    /* rounded < 2^mantissa_bits only in the lowest exponent: a subnormal, whose exponent field is 0 = 1 - 1. */
    uint32_t code = (uint32_t)rounded + ((uint32_t)(quantum + f->mantissa_bits + f->bias - 1) << f->mantissa_bits);
    if (code > f->max) return overflow_code(f, sign, saturate);
    return f->specials == NAN_IS_MINUS_ZERO && code == 0 ? 0 : sign | code;
}

uint32_t small_float_encode_f64(DType d, double x, bool saturate) {
    float near = (float)x;
    if (isfinite(near) && (double)near != x) { /* round to odd: the second rounding then sees which side x was on */
        float toward_zero = fabs((double)near) > fabs(x) ? nextafterf(near, 0.0f) : near;
        near = bits_float(float_bits(toward_zero) | 1);
    }
    return small_float_encode(d, near, saturate);
}

uint32_t f8e8m0_encode(float x, bool saturate, E8m0Round round) {
    enum { NOT_A_NUMBER = 0xFF, LARGEST = 0xFE };
    uint32_t u = float_bits(x) & 0x7FFFFFFF;
    if (u > 0x7F800000) return NOT_A_NUMBER;
    if (u == 0x7F800000) return saturate ? LARGEST : NOT_A_NUMBER;
    if (u < 0x00400000) return saturate ? 0 : NOT_A_NUMBER; /* below 2^-127, zero included */
    uint32_t code = u >> 23;
    /* Between 2^-127 and 2^-126 the float is subnormal: its leading one is bit 22, the fraction below it. */
    uint32_t fraction = code == 0 ? (u & 0x3FFFFF) << 1 : u & 0x7FFFFF;
    bool up = false;
    switch (round) {
    case E8M0_UP: up = fraction != 0; break;
    case E8M0_DOWN: up = false; break;
    case E8M0_NEAREST: up = fraction >= 0x400000; break;
    }
    code += up;
    return code > LARGEST ? (saturate ? LARGEST : NOT_A_NUMBER) : code;
}
