/* ir/small_float.c and ir/const.c: every code of every format, ties, overflow, and the elements of all 26 types. */
#include <math.h>
#include <stdlib.h>

#include "ir/small_float.h"
#include "unit.h"

static const DType floats[] = {DT_F16, DT_BF16, DT_F8E4M3FN, DT_F8E4M3FNUZ, DT_F8E5M2, DT_F8E5M2FNUZ, DT_F4E2M1, DT_F8E8M0};
enum { N_FLOATS = sizeof floats / sizeof *floats };

START_TEST(codes_round_trip) {
    for (int f = 0; f < N_FLOATS; f++) {
        for (uint32_t code = 0; code < 1u << dtype_bits(floats[f]); code++) {
            float x = small_float_decode(floats[f], code);
            uint32_t back = small_float_encode(floats[f], x, false);
            if (isnan(x)) ck_assert(isnan(small_float_decode(floats[f], back)));
            else ck_assert_msg(back == code || floats[f] == DT_F8E8M0, "%s: %#x -> %g -> %#x", dtype_text(floats[f]), code, (double)x, back);
        }
    }
}
END_TEST

/* Between two neighbours: below the middle the lower, above it the upper, in the middle the even one. */
START_TEST(rounds_to_nearest_even) {
    for (int f = 0; f < N_FLOATS - 1; f++) {
        DType d = floats[f];
        uint32_t sign = 1u << (dtype_bits(d) - 1);
        for (uint32_t code = 0; code + 1 < sign; code++) {
            float lo = small_float_decode(d, code), hi = small_float_decode(d, code + 1), middle = lo + (hi - lo) / 2;
            if (!isfinite(lo) || !isfinite(hi)) continue;
            ck_assert_uint_eq(small_float_encode(d, nextafterf(middle, lo), false), code);
            ck_assert_uint_eq(small_float_encode(d, nextafterf(middle, hi), false), code + 1);
            ck_assert_uint_eq(small_float_encode(d, middle, false), code + (code & 1));
            uint32_t even = code + (code & 1), minus_zero = d == DT_F8E4M3FNUZ || d == DT_F8E5M2FNUZ ? 0 : sign;
            ck_assert_uint_eq(small_float_encode(d, -middle, false), even == 0 ? minus_zero : sign | even);
            if (code > 0) ck_assert_uint_eq(small_float_encode(d, -hi, false), sign | (code + 1));
        }
    }
}
END_TEST

/* ONNX's Cast table: what infinity, overflow and NaN become. */
START_TEST(special_values) {
    static const struct { DType d; float x; uint32_t saturated, plain; } rows[] = {
        {DT_F8E4M3FN, INFINITY, 0x7E, 0x7F}, {DT_F8E4M3FN, -INFINITY, 0xFE, 0xFF}, {DT_F8E4M3FN, 1e9f, 0x7E, 0x7F}, {DT_F8E4M3FN, 464, 0x7E, 0x7E},
        {DT_F8E4M3FN, 465, 0x7E, 0x7F}, {DT_F8E4M3FNUZ, INFINITY, 0x7F, 0x80}, {DT_F8E4M3FNUZ, -1e9f, 0xFF, 0x80}, {DT_F8E4M3FNUZ, -0.0f, 0, 0},
        {DT_F8E5M2, INFINITY, 0x7B, 0x7C}, {DT_F8E5M2, -1e9f, 0xFB, 0xFC}, {DT_F8E5M2FNUZ, INFINITY, 0x7F, 0x80}, {DT_F8E5M2FNUZ, NAN, 0x80, 0x80},
        {DT_F8E4M3FN, NAN, 0x7F, 0x7F}, {DT_F4E2M1, INFINITY, 7, 7}, {DT_F4E2M1, -100, 15, 15}, {DT_F16, INFINITY, 0x7C00, 0x7C00},
        {DT_F16, 65519, 0x7BFF, 0x7BFF}, {DT_F16, 65520, 0x7C00, 0x7C00}, {DT_BF16, 3.4e38f, 0x7F80, 0x7F80}, {DT_F16, 0x1p-25f, 0, 0},
        {DT_F16, 0x1.8p-25f, 1, 1}, {DT_F8E8M0, INFINITY, 0xFE, 0xFF}, {DT_F8E8M0, 0, 0, 0xFF}, {DT_F8E8M0, 1, 127, 127}, {DT_F8E8M0, 1.1f, 128, 128},
        {DT_F8E8M0, 3e38f, 0xFE, 0xFF}, {DT_F8E8M0, NAN, 0xFF, 0xFF},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert_msg(small_float_encode(rows[i].d, rows[i].x, true) == rows[i].saturated, "row %zu saturated: %#x", i,
                      small_float_encode(rows[i].d, rows[i].x, true));
        ck_assert_msg(small_float_encode(rows[i].d, rows[i].x, false) == rows[i].plain, "row %zu: %#x", i, small_float_encode(rows[i].d, rows[i].x, false));
    }
    ck_assert_uint_eq(f8e8m0_encode(1.5f, true, E8M0_NEAREST), 128);
    ck_assert_uint_eq(f8e8m0_encode(1.49f, true, E8M0_NEAREST), 127);
    ck_assert_uint_eq(f8e8m0_encode(1.99f, true, E8M0_DOWN), 127);
}
END_TEST

/* Rounding f64 -> f32 -> f16 would give the tie to the wrong side. */
START_TEST(doubles_round_once) {
    double x = 1.0 + 0x1p-11 + 0x1p-40;
    ck_assert_uint_eq(small_float_encode(DT_F16, (float)x, false), 0x3C00);
    ck_assert_uint_eq(small_float_encode_f64(DT_F16, x, false), 0x3C01);
    ck_assert_uint_eq(small_float_encode_f64(DT_F16, -x, false), 0xBC01);
    ck_assert_uint_eq(small_float_encode_f64(DT_F16, 1.0 + 0x1p-11 - 0x1p-40, false), 0x3C00);
}
END_TEST

static Module *m;

static Value *constant(DType d, int64_t n, const void *data) {
    Dim dim = dim_const(&cx, n);
    return value_const(m, type_tensor(&cx, d, 1, &dim), data, false);
}

START_TEST(elements_of_constants) {
    m = module_new(&cx, "m");
    uint8_t packed[] = {0x21, 0xF8, 0x07};
    Value *u4 = constant(DT_U4, 5, packed), *i4 = constant(DT_I4, 5, packed), *f4 = constant(DT_F4E2M1, 5, packed);
    int64_t want_u4[] = {1, 2, 8, 15, 7}, want_i4[] = {1, 2, -8, -1, 7};
    double want_f4[] = {0.5, 1, -0.0, -6, 6};
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(const_i64(u4, i), want_u4[i]);
        ck_assert_int_eq(const_i64(i4, i), want_i4[i]);
        ck_assert_double_eq(const_f64(f4, i), want_f4[i]);
    }
    Value *u2 = constant(DT_U2, 6, packed), *i2 = constant(DT_I2, 6, packed);
    int64_t want_u2[] = {1, 0, 2, 0, 0, 2}, want_i2[] = {1, 0, -2, 0, 0, -2};
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(const_i64(u2, i), want_u2[i]);
        ck_assert_int_eq(const_i64(i2, i), want_i2[i]);
    }
    ck_assert_int_eq(const_i64(constant(DT_F32, 3, (float[]){NAN, 1e30f, -1e30f}), 1), INT64_MAX);
    ck_assert_int_eq(const_i64(constant(DT_U64, 1, (uint64_t[]){UINT64_MAX}), 0), INT64_MAX);
    ck_assert_double_eq(const_f64(constant(DT_U64, 1, (uint64_t[]){UINT64_MAX}), 0), 0x1p64);
    ck_assert_double_eq(const_f64(constant(DT_C64, 2, (float[]){1, 2, 3, 4}), 1), 3);
}
END_TEST

/* A scalar of each type reads back as the nearest value the type has. */
START_TEST(scalars_of_every_type) {
    m = module_new(&cx, "m");
    for (int d = DT_NONE + 1; d < DT_COUNT; d++) {
        if (d == DT_STRING) continue;
        double one = const_f64(value_const_scalar(m, (DType)d, 1), 0);
        ck_assert_double_eq(one, 1);
        double low = const_f64(value_const_scalar(m, (DType)d, -1e300), 0), high = const_f64(value_const_scalar(m, (DType)d, 1e300), 0);
        uint32_t bits = dtype_bits((DType)d);
        if (dtype_class((DType)d) == 'I') ck_assert(low == -ldexp(1, (int)bits - 1));
        if (dtype_class((DType)d) == 'U') ck_assert(low == 0 && high == (bits == 64 ? 0x1p64 : ldexp(1, (int)bits) - 1));
    }
}
END_TEST

Suite *suite_small_float(void) {
    Suite *s = suite_create("small_float");
    TCase *t = unit_case(s, "all");
    tcase_add_test(t, codes_round_trip);
    tcase_add_test(t, rounds_to_nearest_even);
    tcase_add_test(t, special_values);
    tcase_add_test(t, doubles_round_once);
    tcase_add_test(t, elements_of_constants);
    tcase_add_test(t, scalars_of_every_type);
    return s;
}
