/* Parts of the command that command lines do not reach easily: elements of all types, comparisons, suggestions. */
#include <check.h>
#include <math.h>

#include "driver/args.h"
#include "driver/compare.h"
#include "driver/text.h"
#include "driver/tune_file.h"
#include "ir/small_float.h"

/* ---- elements --------------------------------------------------------------------------------------------------- */
/* The command decodes small floats from a description of their format; the compiler has its own conversions. */
START_TEST(small_floats_agree_with_the_compiler) {
    static const int numbers[] = {10, 16, 17, 18, 19, 20, 23, 24};
    for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++) {
        int number = numbers[k];
        unsigned bits = element_bits(number);
        for (uint32_t pattern = 0; pattern < 1u << bits; pattern++) {
            uint16_t storage = (uint16_t)pattern;
            double mine = element_f64(number, &storage, 0), theirs = (double)small_float_decode(dtype_from_onnx(number), pattern);
            ck_assert_msg(isnan(mine) ? isnan(theirs) : mine == theirs, "%s 0x%x: %g, compiler %g", element_name(number), pattern, mine, theirs);
        }
    }
}
END_TEST

START_TEST(storing_what_was_loaded_gives_the_same_element) {
    for (int number = 1; number <= 26; number++) {
        ElementClass class = element_class(number);
        unsigned bits = element_bits(number);
        if (bits > 16 || class == ELEMENT_COMPLEX || class == ELEMENT_STRING || class == ELEMENT_BOOL) continue;
        for (uint32_t pattern = 0; pattern < 1u << bits; pattern++) {
            uint16_t from = (uint16_t)pattern, to = 0;
            double x = element_f64(number, &from, 0);
            if (!isfinite(x)) continue;
            element_store(number, &to, 0, x);
            ck_assert_msg(element_f64(number, &to, 0) == x, "%s 0x%x: stored %g, loaded %g", element_name(number), pattern, x, element_f64(number, &to, 0));
        }
    }
}
END_TEST

START_TEST(ranks_count_the_values_between) {
    float a = 1, b = nextafterf(nextafterf(1, 2), 2), zero = 0, minus_zero = -0.0f, tiny = nextafterf(0, -1), nan = NAN;
    ck_assert_int_eq(element_rank(1, &b, 0) - element_rank(1, &a, 0), 2);
    ck_assert_int_eq(element_rank(1, &zero, 0), element_rank(1, &minus_zero, 0));
    ck_assert_int_eq(element_rank(1, &zero, 0) - element_rank(1, &tiny, 0), 1);
    ck_assert_int_eq(element_rank(1, &nan, 0), INT64_MAX);
    int64_t least = INT64_MIN, most = INT64_MAX;
    ck_assert(element_rank(7, &least, 0) < element_rank(7, &most, 0));
    uint64_t unsigned_most = UINT64_MAX, unsigned_zero = 0;
    ck_assert(element_rank(13, &unsigned_zero, 0) < element_rank(13, &unsigned_most, 0));
}
END_TEST

START_TEST(packed_types_share_bytes) {
    unsigned char bytes[2] = {0x21, 0xF3}; /* low bits first: 1, 2, 3, 15 */
    ck_assert_int_eq((int)element_f64(21, bytes, 1), 2);
    ck_assert_int_eq((int)element_f64(21, bytes, 3), 15);
    ck_assert_int_eq((int)element_f64(22, bytes, 3), -1);
    element_store(22, bytes, 2, -8);
    ck_assert_int_eq(bytes[1], 0xF8);
    ck_assert_uint_eq(element_bytes(21, 3), 2);
    ck_assert_uint_eq(element_bytes(25, 5), 2);
}
END_TEST

/* ---- comparisons ------------------------------------------------------------------------------------------------ */
static const Tolerance by_default = {.range_tol = -1};

START_TEST(equal_tensors_pass) {
    float a[] = {1, -2, INFINITY, NAN, 0}, b[] = {1, -2, INFINITY, NAN, -0.0f};
    Comparison c = compare_elements(1, 5, a, b, &by_default);
    ck_assert(c.pass);
    ck_assert(c.max_abs == 0 && c.max_ulp == 0 && c.n_bad == 0);
}
END_TEST

START_TEST(differences_are_measured) {
    float want[] = {-50, 50, 4}, got[] = {-50, 50, 4.02f};
    Comparison c = compare_elements(1, 3, got, want, &by_default);
    ck_assert(fabs(c.max_abs - 0.02) < 1e-6 && fabs(c.max_rel - 0.005) < 1e-6);
    ck_assert(fabs(c.range_rel - 0.0004) < 1e-6); /* the range counts as 50: the smaller of max - min and max |reference| */
    ck_assert_int_eq(c.worst, 2);
    ck_assert(!c.pass);
    Tolerance loose = {.range_tol = 1e-3};
    ck_assert(compare_elements(1, 3, got, want, &loose).pass);
    Tolerance elements = {.rtol = 0.004, .atol = 0.001, .range_tol = -1, .by_element = true};
    Comparison e = compare_elements(1, 3, got, want, &elements);
    ck_assert_int_eq(e.n_bad, 1);
    elements.atol = 0.005;
    ck_assert(compare_elements(1, 3, got, want, &elements).pass);
}
END_TEST

START_TEST(nan_and_infinity_must_match) {
    float want[] = {1, 2}, nan[] = {1, NAN}, infinite[] = {INFINITY, 2}, minus[] = {-INFINITY, 2};
    Tolerance huge = {.rtol = 1e9, .atol = 1e9, .by_element = true};
    ck_assert(!compare_elements(1, 2, nan, want, &huge).pass);
    ck_assert(!compare_elements(1, 2, want, nan, &huge).pass);
    ck_assert(!compare_elements(1, 2, infinite, want, &huge).pass);
    ck_assert(!compare_elements(1, 2, infinite, minus, &huge).pass);
    ck_assert_int_eq(compare_elements(1, 2, nan, want, &huge).worst, 1);
}
END_TEST

START_TEST(integers_must_be_equal) {
    int64_t a[] = {INT64_MAX, 5}, b[] = {INT64_MAX - 1, 5}; /* equal as doubles */
    ck_assert(!compare_elements(7, 2, a, b, &by_default).pass);
    ck_assert(compare_elements(7, 2, a, a, &by_default).pass);
    uint8_t p[] = {100}, q[] = {101};
    ck_assert(!compare_elements(2, 1, p, q, &by_default).pass);
    Tolerance one_step = {.atol = 1, .range_tol = -1, .by_element = true};
    ck_assert(compare_elements(2, 1, p, q, &one_step).pass);
}
END_TEST

START_TEST(complex_numbers_are_two_floats) {
    float a[] = {1, 2, 3, 4}, b[] = {1, 2, 3, 5};
    Comparison c = compare_elements(14, 2, a, b, &by_default);
    ck_assert_int_eq(c.n, 4);
    ck_assert(!c.pass && c.max_abs == 1);
}
END_TEST

/* ---- texts ------------------------------------------------------------------------------------------------------ */
START_TEST(suggestions_are_near) {
    const char *const words[] = {"compile", "verify", "bench", NULL};
    ck_assert_str_eq(args_nearest("complie", words), "compile");
    ck_assert_str_eq(args_nearest("verfy", words), "verify");
    ck_assert_ptr_null(args_nearest("quantize", words));
    ck_assert_ptr_null(args_nearest("", words));
}
END_TEST

START_TEST(sizes_are_readable) {
    char text[32];
    ck_assert_str_eq(size_text(text, sizeof text, 0), "0 B");
    ck_assert_str_eq(size_text(text, sizeof text, 1536), "1.50 KiB");
    ck_assert_str_eq(count_text(text, sizeof text, 25557032), "25.6 M");
}
END_TEST

START_TEST(json_text_is_escaped) {
    Driver d;
    driver_init(&d);
    Writer w = {.arena = &d.arena};
    json_string(&w, "a\"b\\c\n\x01");
    ck_assert_str_eq(w.text, "\"a\\\"b\\\\c\\u000a\\u0001\"");
    driver_free(&d);
}
END_TEST

/* ---- what -O3 found --------------------------------------------------------------------------------------------- */
static const char *tuning_text(Driver *d, TuneFile *f) {
    f->head = "lathe tuning 1\ncpu A\ncompiler B\ntarget native\nflags \n";
    tune_file_set(d, f, "conv-1x8", "direct", 1.25);
    tune_file_set(d, f, "product-4x4x4", "auto", 1);
    tune_file_set(d, f, "conv-1x8", "winograd2", 1.5);
    return tune_text(d, f);
}

START_TEST(tunings_come_back_as_they_were) {
    Driver d;
    driver_init(&d);
    TuneFile f = {0}, read = {0};
    const char *text = tuning_text(&d, &f);
    read.head = f.head;
    ck_assert(tune_parse(&d, &read, text, strlen(text)));
    ck_assert_uint_eq(read.entry.n, 2);
    ck_assert_str_eq(tune_file_find(&read, "conv-1x8")->choice, "winograd2");
    ck_assert_double_eq(tune_file_find(&read, "conv-1x8")->gain, 1.5);
    ck_assert_str_eq(tune_file_find(&read, "product-4x4x4")->choice, "auto");
    ck_assert_ptr_null(tune_file_find(&read, "conv-1x"));
    ck_assert_str_eq(tune_text(&d, &read), text);
    driver_free(&d);
}
END_TEST

START_TEST(damaged_and_foreign_tunings_are_refused) {
    Driver d;
    driver_init(&d);
    TuneFile f = {0}, read = {0};
    const char *text = tuning_text(&d, &f);
    size_t n = strlen(text);
    char *copy = arena_strdup(&d.arena, text, n);
    read.head = f.head;
    for (size_t i = 0; i < n; i++) {
        copy[i] ^= 1;
        ck_assert_msg(!tune_parse(&d, &read, copy, n) && read.entry.n == 0, "byte %zu changed", i);
        ck_assert_msg(!tune_parse(&d, &read, text, i) && read.entry.n == 0, "cut after %zu bytes", i);
        copy[i] ^= 1;
    }
    read.head = "lathe tuning 1\ncpu C\ncompiler B\ntarget native\nflags \n";
    ck_assert(!tune_parse(&d, &read, text, n));
    driver_free(&d);
}
END_TEST

START_TEST(choices_of_another_version_are_left_out) {
    Driver d;
    driver_init(&d);
    TuneFile f = {0}, read = {0};
    tuning_text(&d, &f);
    tune_file_set(&d, &f, "conv-2x2", "by-magic", 9);
    const char *text = tune_text(&d, &f);
    read.head = f.head;
    ck_assert(tune_parse(&d, &read, text, strlen(text)));
    ck_assert_ptr_null(tune_file_find(&read, "conv-2x2"));
    ck_assert_uint_eq(read.entry.n, 2);
    driver_free(&d);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("driver");
    TCase *all = tcase_create("all");
    tcase_add_test(all, small_floats_agree_with_the_compiler);
    tcase_add_test(all, storing_what_was_loaded_gives_the_same_element);
    tcase_add_test(all, ranks_count_the_values_between);
    tcase_add_test(all, packed_types_share_bytes);
    tcase_add_test(all, equal_tensors_pass);
    tcase_add_test(all, differences_are_measured);
    tcase_add_test(all, nan_and_infinity_must_match);
    tcase_add_test(all, integers_must_be_equal);
    tcase_add_test(all, complex_numbers_are_two_floats);
    tcase_add_test(all, suggestions_are_near);
    tcase_add_test(all, sizes_are_readable);
    tcase_add_test(all, json_text_is_escaped);
    tcase_add_test(all, tunings_come_back_as_they_were);
    tcase_add_test(all, damaged_and_foreign_tunings_are_refused);
    tcase_add_test(all, choices_of_another_version_are_left_out);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
