/* Elementary functions of float without branches, so that loops over them vectorise. Errors, measured against long
 * double over all exponents (tests/emit/test_math.c): exp, log, erf, sin, cos, expm1, log1p, tanh, sigmoid within 2 ULP.
 *
 * Conditions select between values that were both computed. Infinities, NaN, zeros and subnormals give what libm gives.
 * sin and cos are exact to 2 ULP up to 2^30; a larger float is more than a full turn from its neighbours, and the
 * result is only some value in [-1, 1]. Polynomials: minimax fits of the named remainder. */
#ifndef LATHE_RUNTIME_MATH_F32_H
#define LATHE_RUNTIME_MATH_F32_H
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "small_float.h"


/* Without errno the square root is one instruction. */
static inline float lathe_sqrt_f32(float x) {
#if defined(__clang__) && defined(__has_builtin)
#if __has_builtin(__builtin_elementwise_sqrt)
    return __builtin_elementwise_sqrt(x);
#else
    return sqrtf(x);
#endif
#else
    return sqrtf(x);
#endif
}

/* x = n ln 2 + r, e^x = 2^n e^r. 2^n is applied in two halves: the last one overflows or rounds to a subnormal.
 * Masked attention scores end below -104: they get their zero without arithmetic that underflows, which is slow. */
static inline float lathe_exp_f32(float x) {
    const int zero = x < -104.0f;
    const float y = x > 89.0f ? 89.0f : zero ? 0.0f : x;
    const float z = y * 1.44269504f + 12582912.0f, n = z - 12582912.0f;
    const float r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.991992176e-04f;
    p = p * r + 1.394721214e-03f;
    p = p * r + 8.333261125e-03f;
    p = p * r + 4.166625440e-02f;
    p = p * r + 1.666666716e-01f;
    p = p * r + 0.5f;
    p = p * (r * r) + r + 1.0f;
    const int32_t k = (int32_t)(lathe_float_bits(z) - 0x4B400000u), half = k >> 1;
    const float e = p * lathe_bits_float((uint32_t)(half + 127) << 23) * lathe_bits_float((uint32_t)(k - half + 127) << 23);
    return zero ? 0.0f : e;
}

/* e^x - 1 = 2^n (e^r - 1) + (2^n - 1), at half size because 2^128 is no float. */
static inline float lathe_expm1_f32(float x) {
    const float y = x > 89.0f ? 89.0f : x < -20.0f ? -20.0f : x;
    const float z = y * 1.44269504f + 12582912.0f, n = z - 12582912.0f;
    const float r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.984595729e-04f;
    p = p * r + 1.394165214e-03f;
    p = p * r + 8.333391510e-03f;
    p = p * r + 4.166634753e-02f;
    p = p * r + 1.666666567e-01f;
    p = p * r + 0.5f;
    p = p * (r * r) + r;
    const float s = lathe_bits_float((lathe_float_bits(z) - 0x4B400000u + 126) << 23); /* 2^(n - 1) */
    const float e = (s * p + (s - 0.5f)) * 2.0f;
    return x == 0 || fabsf(x) < 1e-10f ? x : e;
}

/* x = 2^e (1 + f), f in [sqrt(1/2) - 1, sqrt(2) - 1]. */
static inline float lathe_log_f32(float x) {
    const int tiny = x < 1.17549435e-38f;
    const float y = tiny ? x * 8388608.0f : x;
    const uint32_t u = lathe_float_bits(y);
    const int32_t e = (int32_t)(u - 0x3F3504F3u) >> 23;
    const float f = lathe_bits_float(u - ((uint32_t)e << 23)) - 1.0f, n = (float)(e - (tiny ? 23 : 0));
    float p = 6.746635586e-02f;
    p = p * f - 1.167564988e-01f;
    p = p * f + 1.188816354e-01f;
    p = p * f - 1.240558922e-01f;
    p = p * f + 1.421955228e-01f;
    p = p * f - 1.666799635e-01f;
    p = p * f + 2.000211924e-01f;
    p = p * f - 2.500000894e-01f;
    p = p * f + 3.333331347e-01f;
    const float s = f * f, t = p * (s * f) - n * 2.12194440e-4f - 0.5f * s;
    const float r = (f + t) + n * 0.693359375f;
    return x > 3.40282347e+38f ? x : x > 0 ? r : x == 0 ? -INFINITY : x < 0 ? NAN : x;
}

/* log(u) with u = 1 + x rounded, plus what the rounding lost. */
static inline float lathe_log1p_f32(float x) {
    const float u = 1.0f + x, lost = x - (u - 1.0f), big = lathe_log_f32(u);
    const float r = big + lost / u;
    return u > 3.40282347e+38f || !(u > 0) ? big : fabsf(x) < 1e-8f ? x : r;
}

/* x + x^3 P(x^2) up to 0.55, then 1 - 2 / (e^(2|x|) + 1). */
static inline float lathe_tanh_f32(float x) {
    const float a = fabsf(x), s = x * x, large = 1.0f - 2.0f / (lathe_exp_f32(2.0f * (a > 10.0f ? 10.0f : a)) + 1.0f);
    float p = -6.198724732e-03f;
    p = p * s + 2.102055587e-02f;
    p = p * s - 5.384051800e-02f;
    p = p * s + 1.333248019e-01f;
    p = p * s - 3.333331347e-01f;
    return copysignf(a < 0.55f || x != x ? p * (s * a) + a : large, x);
}

/* 1 / (1 + e^-x), from e^-|x|, which never overflows; here e^r = (1 + r) + rest keeps the rounding error of 1 + r. */
static inline float lathe_sigmoid_f32(float x) {
    const int zero = fabsf(x) > 104.0f; /* e^-|x| is, without arithmetic that underflows */
    const float y = zero ? 0.0f : -fabsf(x);
    const float z = y * 1.44269504f + 12582912.0f, n = z - 12582912.0f;
    const float r = (y - n * 0.693359375f) + n * 2.12194440e-4f, one = 1.0f + r, lost = r - (one - 1.0f);
    float p = 1.991992176e-04f;
    p = p * r + 1.394721214e-03f;
    p = p * r + 8.333261125e-03f;
    p = p * r + 4.166625440e-02f;
    p = p * r + 1.666666716e-01f;
    p = p * r + 0.5f;
    const int32_t k = (int32_t)(lathe_float_bits(z) - 0x4B400000u), half = k >> 1;
    const float power = (one + (p * (r * r) + lost)) * lathe_bits_float((uint32_t)(half + 127) << 23) * lathe_bits_float((uint32_t)(k - half + 127) << 23);
    const float e = zero ? 0.0f : power, d = 1.0f + e, missing = e - (d - 1.0f), q = (x < 0 ? e : 1.0f) / d;
    return q - q * missing * (1.0f - 0.5f * e); /* 1 - e / 2 is near enough to 1 / d */
}

/* x + x P(x^2) up to 0.92, then 1 - exp(-Q(x)) with Q = -log(erfc). */
static inline float lathe_erf_f32(float x) {
    const float a = fabsf(x), s = x * x, b = a > 4.0f ? 4.0f : a;
    float p = 8.316775347e-05f, q = 2.096536628e-05f;
    p = p * s - 8.130012429e-04f;
    p = p * s + 5.199906882e-03f;
    p = p * s - 2.685894072e-02f;
    p = p * s + 1.128368750e-01f;
    p = p * s - 3.761263192e-01f;
    p = p * s + 1.283791661e-01f;
    q = q * b - 4.329663061e-04f;
    q = q * b + 4.163829610e-03f;
    q = q * b - 2.510042861e-02f;
    q = q * b + 1.082507968e-01f;
    q = q * b + 6.333734393e-01f;
    q = q * b + 1.129501820e+00f;
    q = q * b - 1.719733555e-04f;
    const float large = copysignf(1.0f - lathe_exp_f32(-q), x), small = x + x * p;
    return a < 0.92f || x != x ? small : large;
}

/* The angle modulo a quarter turn in double; *quarter is the number of quarter turns modulo 4. */
static inline float lathe_reduce_angle(float x, int32_t *quarter) {
    const double y = (double)x, n = rint(y * 0.63661977236758134), turns = n - 4.0 * floor(n * 0.25);
    const double r = ((y - n * 1.570796012878418) - n * 3.139164164167596e-07) - n * 6.223372171896613e-14;
    *quarter = (int32_t)(turns >= 0 && turns < 4 ? turns : 0.0);
    return (float)(r > 0.8 ? 0.8 : r < -0.8 ? -0.8 : r);
}

static inline float lathe_sin_f32(float x) {
    int32_t quarter;
    const float r = lathe_reduce_angle(x, &quarter), s = r * r;
    const float sine = ((2.717939878e-06f * s - 1.983929542e-04f) * s + 8.333329111e-03f) * s - 1.666666716e-01f;
    const float cosine = ((-2.720678935e-07f * s + 2.479947943e-05f) * s - 1.388888340e-03f) * s + 4.166666791e-02f;
    const float y = quarter & 1 ? cosine * (s * s) - 0.5f * s + 1.0f : sine * (s * r) + r;
    return x == 0 ? x : quarter & 2 ? -y : y;
}

static inline float lathe_cos_f32(float x) {
    int32_t quarter;
    const float r = lathe_reduce_angle(x, &quarter), s = r * r;
    const float sine = ((2.717939878e-06f * s - 1.983929542e-04f) * s + 8.333329111e-03f) * s - 1.666666716e-01f;
    const float cosine = ((-2.720678935e-07f * s + 2.479947943e-05f) * s - 1.388888340e-03f) * s + 4.166666791e-02f;
    const float y = quarter & 1 ? sine * (s * r) + r : cosine * (s * s) - 0.5f * s + 1.0f;
    return (quarter + 1) & 2 ? -y : y;
}

#endif
