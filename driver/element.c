#include "driver/element.h"

#include <math.h>
#include <string.h>

/* Floats: sign (or none), exponent and mantissa bits, bias. special says what the top of the range means. */
typedef enum Special { IEEE, NAN_ONLY_ALL_ONES, NAN_IS_MINUS_ZERO, NO_SPECIAL, EXPONENT_ONLY } Special;
typedef struct ElementInfo {
    const char *name;
    ElementClass class;
    unsigned char bits, exponent, mantissa;
    short bias;
    Special special;
} ElementInfo;

static const ElementInfo infos[] = {
    [1] = {"float32", ELEMENT_FLOAT, 32, 8, 23, 127, IEEE},
    [2] = {"uint8", ELEMENT_UNSIGNED, 8, 0, 0, 0, IEEE},
    [3] = {"int8", ELEMENT_SIGNED, 8, 0, 0, 0, IEEE},
    [4] = {"uint16", ELEMENT_UNSIGNED, 16, 0, 0, 0, IEEE},
    [5] = {"int16", ELEMENT_SIGNED, 16, 0, 0, 0, IEEE},
    [6] = {"int32", ELEMENT_SIGNED, 32, 0, 0, 0, IEEE},
    [7] = {"int64", ELEMENT_SIGNED, 64, 0, 0, 0, IEEE},
    [8] = {"string", ELEMENT_STRING, 8 * sizeof(char *), 0, 0, 0, IEEE}, /* pointers to text */
    [9] = {"bool", ELEMENT_BOOL, 8, 0, 0, 0, IEEE},
    [10] = {"float16", ELEMENT_FLOAT, 16, 5, 10, 15, IEEE},
    [11] = {"float64", ELEMENT_FLOAT, 64, 11, 52, 1023, IEEE},
    [12] = {"uint32", ELEMENT_UNSIGNED, 32, 0, 0, 0, IEEE},
    [13] = {"uint64", ELEMENT_UNSIGNED, 64, 0, 0, 0, IEEE},
    [14] = {"complex64", ELEMENT_COMPLEX, 64, 0, 0, 0, IEEE},
    [15] = {"complex128", ELEMENT_COMPLEX, 128, 0, 0, 0, IEEE},
    [16] = {"bfloat16", ELEMENT_FLOAT, 16, 8, 7, 127, IEEE},
    [17] = {"float8e4m3fn", ELEMENT_FLOAT, 8, 4, 3, 7, NAN_ONLY_ALL_ONES},
    [18] = {"float8e4m3fnuz", ELEMENT_FLOAT, 8, 4, 3, 8, NAN_IS_MINUS_ZERO},
    [19] = {"float8e5m2", ELEMENT_FLOAT, 8, 5, 2, 15, IEEE},
    [20] = {"float8e5m2fnuz", ELEMENT_FLOAT, 8, 5, 2, 16, NAN_IS_MINUS_ZERO},
    [21] = {"uint4", ELEMENT_UNSIGNED, 4, 0, 0, 0, IEEE},
    [22] = {"int4", ELEMENT_SIGNED, 4, 0, 0, 0, IEEE},
    [23] = {"float4e2m1", ELEMENT_FLOAT, 4, 2, 1, 1, NO_SPECIAL},
    [24] = {"float8e8m0", ELEMENT_FLOAT, 8, 8, 0, 127, EXPONENT_ONLY},
    [25] = {"uint2", ELEMENT_UNSIGNED, 2, 0, 0, 0, IEEE},
    [26] = {"int2", ELEMENT_SIGNED, 2, 0, 0, 0, IEEE},
};

static const ElementInfo *info(int number) {
    static const ElementInfo none = {.name = "unknown"};
    return number >= 1 && number < (int)(sizeof infos / sizeof *infos) ? &infos[number] : &none;
}

ElementClass element_class(int number) { return info(number)->class; }
const char *element_name(int number) { return info(number)->name; }
unsigned element_bits(int number) { return info(number)->bits; }
size_t element_bytes(int number, int64_t n) { return ((size_t)n * info(number)->bits + 7) / 8; }
double element_epsilon(int number) { return element_class(number) == ELEMENT_FLOAT ? ldexp(1, -info(number)->mantissa) : 0; }

static uint64_t load_bits(const ElementInfo *e, const void *data, int64_t i) {
    const unsigned char *p = data;
    if (e->bits < 8) {
        unsigned per_byte = 8u / e->bits, shift = (unsigned)(i % per_byte) * e->bits;
        return (uint64_t)(p[i / per_byte] >> shift) & ((1u << e->bits) - 1);
    }
    uint64_t bits = 0;
    memcpy(&bits, p + (size_t)i * (e->bits / 8), e->bits / 8);
    return bits;
}

static void store_bits(const ElementInfo *e, void *data, int64_t i, uint64_t bits) {
    unsigned char *p = data;
    if (e->bits < 8) {
        unsigned per_byte = 8u / e->bits, shift = (unsigned)(i % per_byte) * e->bits, mask = ((1u << e->bits) - 1) << shift;
        p[i / per_byte] = (unsigned char)((p[i / per_byte] & ~mask) | ((bits << shift) & mask));
        return;
    }
    memcpy(p + (size_t)i * (e->bits / 8), &bits, e->bits / 8);
}

static int64_t sign_extend(uint64_t bits, unsigned width) {
    return (int64_t)(bits << (64 - width)) >> (64 - width);
}

static bool is_nan(const ElementInfo *e, uint64_t bits) {
    uint64_t sign = 1ull << (e->bits - 1), magnitude = bits & ~sign, top = ((1ull << e->exponent) - 1) << e->mantissa;
    switch (e->special) {
    case IEEE: return magnitude > top;
    case NAN_ONLY_ALL_ONES: return magnitude == sign - 1;
    case NAN_IS_MINUS_ZERO: return bits == sign;
    case NO_SPECIAL: return false;
    case EXPONENT_ONLY: return bits == 255;
    }
    return false;
}

static double decode(const ElementInfo *e, uint64_t bits) {
    if (is_nan(e, bits)) return NAN;
    if (e->special == EXPONENT_ONLY) return ldexp(1, (int)bits - e->bias);
    uint64_t sign = 1ull << (e->bits - 1), mantissa = bits & ((1ull << e->mantissa) - 1);
    int exponent = (int)((bits & ~sign) >> e->mantissa), top = (1 << e->exponent) - 1;
    double x;
    if (e->special == IEEE && exponent == top) x = INFINITY;
    else if (exponent == 0) x = ldexp((double)mantissa, 1 - e->bias - e->mantissa);
    else x = ldexp((double)(mantissa | 1ull << e->mantissa), exponent - e->bias - e->mantissa);
    return bits & sign ? -x : x;
}

double element_f64(int number, const void *data, int64_t i) {
    if (number == LATHE_F32) return (double)((const float *)data)[i]; /* the common ones, for speed */
    if (number == LATHE_F64) return ((const double *)data)[i];
    const ElementInfo *e = info(number);
    uint64_t bits = load_bits(e, data, i);
    switch (e->class) {
    case ELEMENT_BOOL: case ELEMENT_UNSIGNED: return (double)bits;
    case ELEMENT_SIGNED: return (double)sign_extend(bits, e->bits);
    case ELEMENT_FLOAT: return decode(e, bits);
    case ELEMENT_NONE: case ELEMENT_COMPLEX: case ELEMENT_STRING: return NAN;
    }
    return NAN;
}

int64_t element_rank(int number, const void *data, int64_t i) {
    const ElementInfo *e = info(number);
    uint64_t bits = load_bits(e, data, i);
    switch (e->class) {
    case ELEMENT_BOOL: return (int64_t)bits;
    case ELEMENT_UNSIGNED: return e->bits == 64 ? (int64_t)(bits ^ 1ull << 63) : (int64_t)bits;
    case ELEMENT_SIGNED: return sign_extend(bits, e->bits);
    case ELEMENT_FLOAT: {
        if (is_nan(e, bits)) return INT64_MAX;
        if (e->special == EXPONENT_ONLY) return (int64_t)bits;
        uint64_t sign = 1ull << (e->bits - 1);
        int64_t magnitude = (int64_t)(bits & ~sign);
        return bits & sign ? -magnitude : magnitude;
    }
    case ELEMENT_NONE: case ELEMENT_COMPLEX: case ELEMENT_STRING: return 0;
    }
    return 0;
}

static uint64_t largest_finite(const ElementInfo *e) {
    uint64_t positive = (1ull << (e->bits - 1)) - 1;
    switch (e->special) {
    case IEEE: return (((1ull << e->exponent) - 1) << e->mantissa) - 1;
    case NAN_ONLY_ALL_ONES: return positive - 1;
    case NAN_IS_MINUS_ZERO: case NO_SPECIAL: return positive;
    case EXPONENT_ONLY: return 254;
    }
    return positive;
}

/* The nearest finite value. Positive values are ordered like their bits, so a search over bits finds it. */
static uint64_t encode(const ElementInfo *e, double x) {
    uint64_t lo = 0, hi = largest_finite(e);
    double magnitude = fabs(x);
    if (magnitude >= decode(e, hi)) lo = hi;
    while (lo + 1 < hi) { /* decode(lo) <= magnitude < decode(hi) */
        uint64_t middle = lo + (hi - lo) / 2;
        if (decode(e, middle) <= magnitude) lo = middle;
        else hi = middle;
    }
    if (lo != hi && decode(e, hi) - magnitude < magnitude - decode(e, lo)) lo = hi;
    bool has_sign = e->special != EXPONENT_ONLY && (lo != 0 || e->special != NAN_IS_MINUS_ZERO);
    return x < 0 && has_sign ? lo | 1ull << (e->bits - 1) : lo;
}

void element_store(int number, void *data, int64_t i, double x) {
    const ElementInfo *e = info(number);
    switch (e->class) {
    case ELEMENT_BOOL: store_bits(e, data, i, x != 0); return;
    case ELEMENT_UNSIGNED: store_bits(e, data, i, (uint64_t)(x < 0 ? 0 : x)); return;
    case ELEMENT_SIGNED: store_bits(e, data, i, (uint64_t)(int64_t)x); return;
    case ELEMENT_FLOAT: store_bits(e, data, i, encode(e, x)); return;
    case ELEMENT_NONE: case ELEMENT_COMPLEX: case ELEMENT_STRING: return;
    }
}
