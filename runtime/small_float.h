/* float16, bfloat16, float8 and float4 to and from float, by bit operations; from float rounds to nearest even.
 *
 * One encoder and one decoder for all formats with an exponent of E bits and a mantissa of M bits; the arguments are
 * constants, so the compiler makes a specialised function of each. The decoder moves the bits to float's places and
 * multiplies by a power of two, which is exact and handles subnormals; the encoder rounds at the target's last bit. */
#ifndef LATHE_RUNTIME_SMALL_FLOAT_H
#define LATHE_RUNTIME_SMALL_FLOAT_H
#include <math.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t lathe_float_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float lathe_bits_float(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* Specials: 0 infinity and NaN as IEEE 754; 1 one NaN of all ones; 2 NaN is minus zero; 3 finite numbers only. */
static inline float lathe_decode_small(uint32_t bits, int exponent_bits, int mantissa_bits, int bias, uint32_t max, int specials) {
    const int width = exponent_bits + mantissa_bits;
    const uint32_t magnitude = bits & ((1u << width) - 1), sign = (bits >> width & 1) << 31;
    const float scale = lathe_bits_float((uint32_t)(254 - bias) << 23); /* 2^(127 - bias) */
    float x = lathe_bits_float(magnitude << (23 - mantissa_bits)) * scale;
    if (magnitude > max) x = specials == 0 && magnitude == max + 1 ? INFINITY : NAN;
    if (specials == 2 && sign != 0 && magnitude == 0) x = NAN;
    return lathe_bits_float(lathe_float_bits(x) | sign);
}

static inline uint32_t lathe_encode_small(float x, int exponent_bits, int mantissa_bits, int bias, uint32_t max, int specials, int saturate) {
    const int width = exponent_bits + mantissa_bits;
    const uint32_t u = lathe_float_bits(x), sign = (u >> 31) << width, magnitude = u & 0x7FFFFFFFu;
    const int exponent = (int)(magnitude >> 23) - 127, lowest = 1 - bias;
    const uint32_t significand = magnitude >> 23 != 0 ? (magnitude & 0x7FFFFFu) | 0x800000u : (magnitude & 0x7FFFFFu) << 1;
    /* Below the normal range the target's quantum stays the same, so more bits of the significand go. */
    const int below = exponent < lowest ? lowest - exponent : 0, wanted = 23 - mantissa_bits + below, shift = wanted < 26 ? wanted : 26;
    const uint32_t quotient = significand >> shift, low = significand & ((1u << shift) - 1), half = 1u << (shift - 1);
    const uint32_t rounded = quotient + ((low > half) | ((low == half) & (quotient & 1)));
    const uint32_t code = rounded + ((uint32_t)((exponent < lowest ? lowest : exponent) + bias - 1) << mantissa_bits);
    const uint32_t nan = specials == 0 ? sign | (((1u << exponent_bits) - 1) << mantissa_bits) | 1u << (mantissa_bits - 1)
                         : specials == 1 ? sign | ((1u << width) - 1) : 1u << width;
    const uint32_t over = specials == 3 || saturate ? sign | max : specials == 0 ? sign | (max + 1) : nan;
    if (magnitude > 0x7F800000u) return nan;
    if (magnitude == 0x7F800000u || code > max) return over;
    return specials == 2 && code == 0 ? 0 : sign | code;
}

static inline float lathe_f32_from_f16(uint16_t b) {
    return lathe_decode_small(b, 5, 10, 15, 0x7BFF, 0);
}

static inline uint16_t lathe_f16_from_f32(float x) {
    return (uint16_t)lathe_encode_small(x, 5, 10, 15, 0x7BFF, 0, 0);
}

static inline float lathe_f32_from_bf16(uint16_t b) {
    return lathe_bits_float((uint32_t)b << 16);
}

/* With LATHE_BF16_FLUSH, where the machine has an instruction for it; that one makes zeros of subnormal numbers. */
static inline uint16_t lathe_bf16_from_f32(float x) {
#if defined(LATHE_BF16_FLUSH) && defined(__AVX512BF16__) && defined(__clang__) && __clang_major__ >= 18
    (void)lathe_float_bits; /* which the other form uses */
    const __bf16 rounded = (__bf16)x;
    uint16_t bits;
    memcpy(&bits, &rounded, sizeof bits);
    return bits;
#else
    const uint32_t u = lathe_float_bits(x), rounded = (u + 0x7FFFu + (u >> 16 & 1)) >> 16;
    return (uint16_t)((u & 0x7FFFFFFFu) > 0x7F800000u ? (u >> 16 & 0x8000u) | 0x7FC0u : rounded);
#endif
}

static inline float lathe_f32_from_f8e4m3fn(uint8_t b) {
    return lathe_decode_small(b, 4, 3, 7, 0x7E, 1);
}

static inline uint8_t lathe_f8e4m3fn_from_f32(float x) {
    return (uint8_t)lathe_encode_small(x, 4, 3, 7, 0x7E, 1, 0);
}

static inline float lathe_f32_from_f8e4m3fnuz(uint8_t b) {
    return lathe_decode_small(b, 4, 3, 8, 0x7F, 2);
}

static inline uint8_t lathe_f8e4m3fnuz_from_f32(float x) {
    return (uint8_t)lathe_encode_small(x, 4, 3, 8, 0x7F, 2, 0);
}

static inline float lathe_f32_from_f8e5m2(uint8_t b) {
    return lathe_decode_small(b, 5, 2, 15, 0x7B, 0);
}

static inline uint8_t lathe_f8e5m2_from_f32(float x) {
    return (uint8_t)lathe_encode_small(x, 5, 2, 15, 0x7B, 0, 0);
}

static inline float lathe_f32_from_f8e5m2fnuz(uint8_t b) {
    return lathe_decode_small(b, 5, 2, 16, 0x7F, 2);
}

static inline uint8_t lathe_f8e5m2fnuz_from_f32(float x) {
    return (uint8_t)lathe_encode_small(x, 5, 2, 16, 0x7F, 2, 0);
}

static inline float lathe_f32_from_f4e2m1(uint8_t b) {
    return lathe_decode_small(b, 2, 1, 1, 0x7, 3);
}

static inline uint8_t lathe_f4e2m1_from_f32(float x) {
    return (uint8_t)lathe_encode_small(x, 2, 1, 1, 0x7, 3, 1);
}

/* Powers of two without sign; rounds up. */
static inline float lathe_f32_from_f8e8m0(uint8_t b) {
    return b == 0xFF ? NAN : b == 0 ? lathe_bits_float(0x00400000u) : lathe_bits_float((uint32_t)b << 23);
}

static inline uint8_t lathe_f8e8m0_from_f32(float x) {
    const uint32_t u = lathe_float_bits(x) & 0x7FFFFFFFu, fraction = u >> 23 == 0 ? u & 0x3FFFFFu : u & 0x7FFFFFu;
    const uint32_t code = (u >> 23) + (fraction != 0);
    return (uint8_t)(u < 0x00400000u || code > 0xFE ? 0xFF : code); /* zero and what is too large have no code: NaN */
}

#endif
