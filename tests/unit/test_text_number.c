/* Numbers of the IR text: every bit pattern of the small types, and hard ones of the large, read back as themselves. */
#include "ir/text_number.h"

#include "unit.h"

static void check_bits(DType d, uint64_t bits) {
    Writer w = {.arena = &cx.scratch};
    uint64_t back = 0;
    number_print(&w, d, bits);
    ck_assert_msg(number_read(d, cw_cstr(&w), &back) && back == bits, "%s %llx is written %s, read as %llx", dtype_text(d), (unsigned long long)bits,
                  cw_cstr(&w), (unsigned long long)back);
}

START_TEST(small_types_read_back) {
    for (int d = 1; d < DT_COUNT; d++) {
        uint32_t bits = dtype_bits((DType)d);
        if (bits > 16 || dtype_class((DType)d) == 'S') continue;
        for (uint64_t x = 0; x < UINT64_C(1) << bits; x++) {
            check_bits((DType)d, x);
            if (x % 4096 == 0) arena_reset(&cx.scratch);
        }
    }
}
END_TEST

START_TEST(large_types_read_back) {
    uint64_t x = 1;
    for (int i = 0; i < 20000; i++) {
        x = x * UINT64_C(6364136223846793005) + 1442695040888963407u;
        check_bits(DT_F64, x);
        check_bits(DT_I64, x);
        check_bits(DT_U64, x);
        check_bits(DT_F32, x >> 32);
        check_bits(DT_I32, x >> 32);
        if (i % 1000 == 0) arena_reset(&cx.scratch);
    }
    check_bits(DT_F32, 1); /* the smallest subnormal */
    check_bits(DT_F32, 0x80000000);
    check_bits(DT_F64, UINT64_C(0x7ff0000000000000));
    check_bits(DT_F64, UINT64_C(0xfff8000000000123));
    check_bits(DT_I64, UINT64_C(1) << 63);
}
END_TEST

START_TEST(what_does_not_fit_is_refused) {
    uint64_t bits;
    ck_assert(!number_read(DT_I8, "128", &bits));
    ck_assert(number_read(DT_I8, "-128", &bits) && bits == 0x80);
    ck_assert(!number_read(DT_U4, "16", &bits));
    ck_assert(!number_read(DT_U8, "-1", &bits));
    ck_assert(!number_read(DT_I64, "9223372036854775808", &bits));
    ck_assert(!number_read(DT_U64, "18446744073709551616", &bits));
    ck_assert(!number_read(DT_F32, "1.0x", &bits));
    ck_assert(!number_read(DT_F16, "0x10000", &bits));
    ck_assert(!number_read(DT_I32, "", &bits));
}
END_TEST

START_TEST(attributes_are_floats_unless_marked) {
    double v;
    Writer w = {.arena = &cx.scratch};
    number_print_attr(&w, (double)0.1f);
    cw_printf(&w, " ");
    number_print_attr(&w, 0.1);
    ck_assert_str_eq(cw_cstr(&w), "0.1 0.1d");
    ck_assert(number_read_attr("0.1", &v) && v == (double)0.1f);
    ck_assert(number_read_attr("0.1d", &v) && v == 0.1);
    ck_assert(!number_read_attr("0.1dd", &v));
    ck_assert(!number_read_attr("0x1p3", &v));
}
END_TEST

START_TEST(base64_reads_back) {
    unsigned char data[40], back[40];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)(i * 37);
    for (size_t n = 0; n <= sizeof data; n++) {
        Writer w = {.arena = &cx.scratch};
        base64_print(&w, data, n);
        ck_assert(base64_read(cw_cstr(&w), w.n, back, n));
        ck_assert(n == 0 || memcmp(data, back, n) == 0);
        ck_assert(n == 0 || !base64_read(w.text, w.n - 1, back, n));
    }
    ck_assert(!base64_read("A=AA", 4, back, 3));
    ck_assert(!base64_read("AAA=", 4, back, 3));
    ck_assert(!base64_read("AAAA", 4, back, 2));
}
END_TEST

Suite *suite_text_number(void) {
    Suite *s = suite_create("text_number");
    TCase *t = unit_case(s, "text_number");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, small_types_read_back);
    tcase_add_test(t, large_types_read_back);
    tcase_add_test(t, what_does_not_fit_is_refused);
    tcase_add_test(t, attributes_are_floats_unless_marked);
    tcase_add_test(t, base64_reads_back);
    return s;
}
