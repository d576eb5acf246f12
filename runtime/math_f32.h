/* Elementary functions of float without branches, so that loops over them vectorise. Errors over all floats
 * (tests/emit/test_math.c), with fused multiply-add or without: pow, exp, log, erf, sin, cos, expm1, log1p, tanh and
 * sigmoid within 2 ULP.
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

/* a b + c, rounded once where that is one instruction, whatever the compiler may contract. */
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define LATHE_FMA_F32(a, b, c) __builtin_fmaf(a, b, c)
#else
#define LATHE_FMA_F32(a, b, c) ((a) * (b) + (c))
#endif

/* 1 / d within 2e-3 for normal d up to 2^125. Where vectors are 512 bits wide a division takes as long as 20 other
 * instructions: there a first guess from the exponent's bits and one step of Newton's, with constants for the least
 * error near powers of two. */
static inline float lathe_reciprocal_guess_f32(float d) {
#if defined(__AVX512F__)
    const float q = lathe_bits_float(0x7EF38000u - lathe_float_bits(d));
    return q * LATHE_FMA_F32(-d, q, 2.0021f);
#else
    return 1.0f / d;
#endif
}

/* 1 / d within 4e-6. */
static inline float lathe_reciprocal_near_f32(float d) {
    const float guess = lathe_reciprocal_guess_f32(d);
#if defined(__AVX512F__)
    return LATHE_FMA_F32(guess, LATHE_FMA_F32(-d, guess, 1.0f), guess);
#else
    return guess;
#endif
}

/* scale / d, for a scale that is a power of two. */
static inline float lathe_reciprocal_scaled_f32(float d, float scale) {
    const float guess = lathe_reciprocal_guess_f32(d), q = guess * scale;
#if defined(__AVX512F__)
    const float rest = LATHE_FMA_F32(-d, guess, 1.0f);
    return LATHE_FMA_F32(q, LATHE_FMA_F32(rest, rest, rest), q);
#else
    return q;
#endif
}

/* x = n ln 2 + r: r, and in *z a float whose low bits are n. */
static inline float lathe_exp_rest(float x, float *z) {
    *z = x * 1.44269504f + 12582912.0f;
    const float n = *z - 12582912.0f;
    return (x - n * 0.693359375f) + n * 2.12194440e-4f;
}

/* e^r for |r| <= ln 2 / 2. */
static inline float lathe_exp_series(float r) {
    float p = 1.395053854e-03f;
    p = p * r + 8.368918062e-03f;
    p = p * r + 4.166620509e-02f;
    p = p * r + 1.666651860e-01f;
    p = p * r + 5.000000095e-01f;
    p = p * r + 1.0f;
    return p * r + 1.0f;
}

/* 2^n p for x = n ln 2 + r, 0 below the smallest normal number. */
static inline float lathe_exp_power(float x, float z, float p) {
    const float e = lathe_bits_float(lathe_float_bits(p) + (lathe_float_bits(z) << 23));
    return x < -87.336544f ? 0.0f : x <= 88.7228317f ? e : x * 3.0e38f;
}

/* e^x = 2^n e^r, 2^n in two factors because neither 2^128 nor 2^-150 is a normal number. Masked attention scores end
 * below -104: they get their zero without an intermediate result that underflows, which is slow. */
static inline float lathe_exp_f32(float x) {
    const float least = x < -104.0f ? -104.0f : x, y = least > 89.0f ? 89.0f : least;
    float z;
    const float p = lathe_exp_series(lathe_exp_rest(y, &z));
    const uint32_t n = lathe_float_bits(z) - 0x4B400000u + 254u, half = n >> 1;
    return p * lathe_bits_float(half << 23) * lathe_bits_float((n - half) << 23);
}

/* The same where a result below the smallest normal number may be 0, and none exceeds 2^127: softmax. 127, the exponent's bias,
 * is in the constant whose low bits become n. */
static inline float lathe_exp_below_f32(float x) {
    const float y = x < -88.0f ? -88.0f : x;
    const float z = y * 1.44269504f + 12583039.0f, n = z - 12583039.0f;
    const float r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
    return lathe_exp_series(r) * lathe_bits_float(lathe_float_bits(z) << 23);
}

/* e^x - 1 = 2^n (e^r - 1) + (2^n - 1), at half size because 2^128 is no float. */
static inline float lathe_expm1_f32(float x) {
    const float y = x > 89.0f ? 89.0f : x < -20.0f ? -20.0f : x;
    float z;
    const float r = lathe_exp_rest(y, &z);
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

/* (e^2x - 1) / 2 for 0 <= x <= 10, exact for small x: 2^n (e^2h - 1) / 2 + (2^n - 1) / 2. */
static inline float lathe_tanh_power(float x) {
    const float z = x * 2.88539008f + 12583039.0f, n = z - 12583039.0f;
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    const float h = LATHE_FMA_F32(n, -0.34657359f, x);
#else
    const float h = (x - n * 0.3466796875f) + n * 1.06097220e-4f;
#endif
    float p = 4.464172333e-02f;
    p = p * h + 1.339026890e-01f;
    p = p * h + 3.333296407e-01f;
    p = p * h + 6.666607440e-01f;
    p = p * h + 1.000000019e+00f;
    const float s = lathe_bits_float(lathe_float_bits(z) << 23);
    return s * (p * (h * h) + h) + (s * 0.5f - 0.5f);
}

/* u / (u + 1) with u = (e^2|x| - 1) / 2. What u + 1 and the quotient lost is put back: rest = u - q (u + 1), written for
 * each size of u so that it cancels exactly. */
static inline float lathe_tanh_f32(float x) {
    const float a = fabsf(x), u = lathe_tanh_power(a > 10.0f ? 10.0f : a), d = u + 1.0f;
    const float inverse = lathe_reciprocal_near_f32(d), q = u * inverse;
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    const float rest = LATHE_FMA_F32(-q, u, u - q);
#else
    const float rest = u < 1.0f ? (u - q) - q * u : (1.0f - q) * u - q;
#endif
    return copysignf(q + rest * inverse, x);
}

/* 1 / (1 + e^-x), with 1 + e^-x = 2^n (e^r - 1) + 1 + 2^n. All of it is 2^32 times smaller, so that the sum does not
 * overflow where the result is a subnormal number; 95, the exponent's bias less 32, is in the constant whose low bits become n. */
static inline float lathe_sigmoid_f32(float x) {
    const float least = x < -108.0f ? -108.0f : x, y = least > 20.0f ? 20.0f : least;
    const float z = y * -1.44269504f + 12583007.0f, n = z - 12583007.0f;
    const float r = n * 2.12194440e-4f - (n * 0.693359375f + y);
    float p = 1.395420538e-03f;
    p = p * r + 8.375077505e-03f;
    p = p * r + 4.166612973e-02f;
    p = p * r + 1.666641656e-01f;
    p = p * r + 5.000000133e-01f;
    p = p * r + 1.0f;
    const float s = lathe_bits_float(lathe_float_bits(z) << 23);
    return lathe_reciprocal_scaled_f32((s * (p * r) + 2.32830644e-10f) + s, 2.32830644e-10f);
}

/* x + x P(x^2) up to 1.2, then a polynomial of |x| - 2.5625 up to where only 1 is left. */
static inline float lathe_erf_f32(float x) {
    const float s = x * x, a = fabsf(x), t = (a > 3.93f ? 3.93f : a) - 2.5625f;
    float p = 6.503115583e-05f, q = -8.751275345e-06f;
    p = p * s - 7.551610470e-04f;
    p = p * s + 5.129555240e-03f;
    p = p * s - 2.681890503e-02f;
    p = p * s + 1.128264517e-01f;
    p = p * s - 3.761253357e-01f;
    p = p * s + 1.283791512e-01f;
    q = q * t + 1.374607655e-05f;
    q = q * t + 7.208342140e-05f;
    q = q * t - 2.339906787e-04f;
    q = q * t + 1.449130941e-04f;
    q = q * t + 6.724328268e-04f;
    q = q * t - 2.545929747e-03f;
    q = q * t + 5.099613219e-03f;
    q = q * t - 6.866831798e-03f;
    q = q * t + 6.423413754e-03f;
    q = q * t - 4.068256821e-03f;
    q = q * t + 1.587266917e-03f;
    q = q * t + 9.997098446e-01f;
    const float small = x + x * p, large = copysignf(q, x);
    return a >= 1.2f ? large : small;
}

/* The angle modulo a quarter turn in double; *quarter is the number of quarter turns modulo 4. */
static inline float lathe_reduce_angle(float x, int32_t *quarter) {
    const double y = (double)x, n = rint(y * 0.63661977236758134), turns = n - 4.0 * floor(n * 0.25);
    const double r = ((y - n * 1.570796012878418) - n * 3.139164164167596e-07) - n * 6.223372171896613e-14;
    *quarter = (int32_t)(turns >= 0 && turns < 4 ? turns : 0.0);
    return (float)(r > 0.8 ? 0.8 : r < -0.8 ? -0.8 : r);
}

/* Sine or cosine of an angle of at most an eighth of a turn. */
static inline float lathe_quarter_wave(float r, int cosine) {
    const float s = r * r;
    const float odd = ((2.717939878e-06f * s - 1.983929542e-04f) * s + 8.333329111e-03f) * s - 1.666666716e-01f;
    const float even = ((-2.720678935e-07f * s + 2.479947943e-05f) * s - 1.388888340e-03f) * s + 4.166666791e-02f;
    return cosine ? even * (s * s) - 0.5f * s + 1.0f : odd * (s * r) + r;
}

static inline float lathe_sin_f32(float x) {
    int32_t quarter;
    const float r = lathe_reduce_angle(x, &quarter);
    const float y = lathe_quarter_wave(r, quarter & 1);
    return x == 0 ? x : quarter & 2 ? -y : y;
}

static inline float lathe_cos_f32(float x) {
    int32_t quarter;
    const float r = lathe_reduce_angle(x, &quarter);
    const float y = lathe_quarter_wave(r, !(quarter & 1));
    return (quarter + 1) & 2 ? -y : y;
}

/* x^y = 2^(y log2 x) in double: log2 x = e + log2 m with m in [sqrt(1/2), sqrt(2)], from (m - 1) / (m + 1). */
static inline float lathe_pow_f32(float x, float y) {
    const float a = fabsf(x);
    const int tiny = a < 1.17549435e-38f;
    const uint32_t u = lathe_float_bits(tiny ? a * 8388608.0f : a);
    const int32_t e = (int32_t)(u - 0x3F3504F3u) >> 23;
    const double m = (double)lathe_bits_float(u - ((uint32_t)e << 23)), s = (m - 1.0) / (m + 1.0), s2 = s * s;
    double p = 3.4074742437214367e-01;
    p = p * s2 + 4.1167174996349154e-01;
    p = p * s2 + 5.7708360186584873e-01;
    p = p * s2 + 9.6179667324773366e-01;
    p = p * s2 + 2.8853900817901681e+00;
    const double whole = (double)(e - (tiny ? 23 : 0)), log2 = a == 0 ? -(double)INFINITY : a > 3.40282347e+38f ? (double)a : p * s + whole;
    const double t = (double)y * log2, b = t > 160.0 ? 160.0 : t < -160.0 ? -160.0 : t;
    const double z = b + 6755399441055744.0, r = b - (z - 6755399441055744.0);
    double q = 1.5475984572612674e-04;
    q = q * r + 1.3400363308797316e-03;
    q = q * r + 9.6180051146153404e-03;
    q = q * r + 5.5503275428742616e-02;
    q = q * r + 2.4022651334724776e-01;
    q = q * r + 6.9314720638101379e-01;
    q = q * r + 1.0;
    uint64_t bits, power;
    memcpy(&bits, &z, sizeof bits);
    power = (bits << 52) + ((uint64_t)1023 << 52);
    double scale;
    memcpy(&scale, &power, sizeof scale);
    const float magnitude = (float)(q * scale), n = rintf(y), half = y * 0.5f;
    const int whole_y = n == y, odd = whole_y & (rintf(half) != half);
    const float value = x < 0 && !whole_y && a <= 3.40282347e+38f && a > 0 ? NAN : odd ? copysignf(magnitude, x) : magnitude;
    const int one = (y == 0) | (x == 1.0f) | ((a == 1.0f) & (fabsf(y) > 3.40282347e+38f));
    return one ? 1.0f : x != x || y != y ? NAN : value;
}

/* ---- faster, for --fast-math: within 4 ULP, sin and cos within 2^-23 up to 8192; results below the smallest normal number are 0 */

static inline float lathe_exp_fast_f32(float x) {
    float z;
    const float r = lathe_exp_rest(x, &z);
    float p = 8.379439577e-03f;
    p = p * r + 4.189973384e-02f;
    p = p * r + 1.666635828e-01f;
    p = p * r + 4.999913225e-01f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return lathe_exp_power(x, z, p);
}

static inline float lathe_tanh_fast_f32(float x) {
    const float a = fabsf(x), u = lathe_tanh_power(a > 10.0f ? 10.0f : a);
    return copysignf(u * lathe_reciprocal_scaled_f32(u + 1.0f, 1.0f), x);
}

static inline float lathe_sigmoid_fast_f32(float x) {
    const float least = x < -108.0f ? -108.0f : x, y = least > 20.0f ? 20.0f : least;
    const float z = y * -1.44269504f + 12583007.0f, n = z - 12583007.0f;
    const float r = n * 2.12194440e-4f - (n * 0.693359375f + y);
    float p = 8.379439577e-03f;
    p = p * r + 4.189973384e-02f;
    p = p * r + 1.666635828e-01f;
    p = p * r + 4.999913225e-01f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return lathe_reciprocal_scaled_f32(lathe_bits_float(lathe_float_bits(z) << 23) * p + 2.32830644e-10f, 2.32830644e-10f);
}

/* The angle modulo a quarter turn; the low bit of *quarter says which of sine and cosine, the next one the sign. */
static inline float lathe_reduce_angle_fast(float x, uint32_t *quarter) {
    const float z = x * 0.636619772f + 12582912.0f, n = z - 12582912.0f;
    *quarter = lathe_float_bits(z);
    return ((x - n * 1.5703125f) - n * 4.837512969970703e-4f) - n * 7.549789948768648e-8f;
}

static inline float lathe_sin_fast_f32(float x) {
    uint32_t quarter;
    const float r = lathe_reduce_angle_fast(x, &quarter);
    const float y = lathe_quarter_wave(r, quarter & 1);
    return quarter & 2 ? -y : x == 0 ? x : y; /* odd * 0 + -0 is 0 */
}

static inline float lathe_cos_fast_f32(float x) {
    uint32_t quarter;
    const float r = lathe_reduce_angle_fast(x, &quarter);
    const float y = lathe_quarter_wave(r, !(quarter & 1));
    return (quarter + 1) & 2 ? -y : y;
}

#endif
