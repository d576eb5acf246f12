/* Arena, strings, vectors, map, writer, diagnostics. */
#include <stdio.h>

#include "base/map.h"
#include "unit.h"

START_TEST(arena_is_zeroed_and_aligned) {
    for (size_t n = 0; n < 300; n += 7) {
        unsigned char *p = arena_alloc(&cx.arena, n);
        ck_assert_uint_eq((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < n; i++) ck_assert_uint_eq(p[i], 0);
        if (n != 0) memset(p, 0xff, n);
    }
    arena_reset(&cx.arena);
    const unsigned char *again = arena_alloc(&cx.arena, 64); /* memory used before is zeroed again */
    for (size_t i = 0; i < 64; i++) ck_assert_uint_eq(again[i], 0);
}
END_TEST

static void leave(void *user) { longjmp(*(jmp_buf *)user, 1); }

START_TEST(arena_reports_overflow) {
    jmp_buf here;
    Arena a = {.fail = leave, .user = &here};
    volatile int left = 0;
    if (setjmp(here) == 0) arena_array(&a, SIZE_MAX / 2, 8);
    else left = 1;
    ck_assert_int_eq(left, 1);
    arena_free(&a);
}
END_TEST

START_TEST(strings_are_interned) {
    Str a = str_intern(&cx, "conv1"), b = str_intern(&cx, "conv2");
    ck_assert_uint_ne(a, b);
    ck_assert_uint_ne(a, 0);
    ck_assert_uint_eq(a, str_intern_n(&cx, "conv1/weight", 5));
    Str zero = str_intern_n(&cx, "a\0b", 3);
    ck_assert_uint_ne(zero, str_intern(&cx, "a"));
    ck_assert_uint_eq(str_size(&cx, zero), 3);
    ck_assert_str_eq(str_text(&cx, 0), "");
    for (int i = 0; i < 5000; i++) ck_assert_uint_ne(str_format(&cx, "name%d", i), 0);
    for (int i = 0; i < 5000; i++) { /* growing keeps every id */
        char name[16];
        snprintf(name, sizeof name, "name%d", i);
        ck_assert_str_eq(str_text(&cx, str_intern(&cx, name)), name);
    }
    ck_assert_uint_eq(a, str_intern(&cx, "conv1"));
}
END_TEST

START_TEST(vectors_grow) {
    VEC(uint32_t) v = {0};
    for (uint32_t i = 0; i < 1000; i++) vec_push(&cx.arena, &v, i * i);
    ck_assert_uint_eq(v.n, 1000);
    for (uint32_t i = 0; i < 1000; i++) ck_assert_uint_eq(v.v[i], i * i);
}
END_TEST

START_TEST(map_finds_what_was_put_in) {
    Map m = {0};
    ck_assert_uint_eq(map_get(&m, 7), 0);
    for (uint64_t k = 0; k < 3000; k++) *map_at(&cx.arena, &m, k << 40 | k * 3) = (uint32_t)k + 1;
    for (uint64_t k = 0; k < 3000; k++) ck_assert_uint_eq(map_get(&m, k << 40 | k * 3), k + 1);
    ck_assert_uint_eq(map_get(&m, 1), 0);
    ck_assert_uint_eq(m.n, 3000);
}
END_TEST

START_TEST(writer_indents) {
    Writer w = {.arena = &cx.arena};
    cw_open(&w, "for (;;) {");
    cw_line(&w, "x = %d;", 42);
    cw_line(&w, "");
    cw_close(&w, "}");
    ck_assert_str_eq(cw_cstr(&w), "for (;;) {\n    x = 42;\n\n}\n");
}
END_TEST

START_TEST(writer_keeps_long_lines) {
    Writer w = {.arena = &cx.arena};
    char text[5001];
    memset(text, 'x', 5000);
    text[5000] = 0;
    cw_printf(&w, "%s|", text);
    ck_assert_uint_eq(w.n, 5001);
    ck_assert_int_eq(w.text[5000], '|');
}
END_TEST

static void check_comment(const char *untrusted, const char *expected) {
    Writer w = {.arena = &cx.arena};
    cw_comment(&w, untrusted);
    ck_assert_str_eq(cw_cstr(&w), expected);
}

START_TEST(comments_cannot_end_early) {
    check_comment("conv1 relu", "/* conv1 relu */");
    check_comment("*/ int x;", "/* _/ int x; */");
    check_comment("/* nested", "/* _* nested */");
    check_comment("line\nbreak\\", "/* line_break_ */");
    check_comment("what?" "?/", "/* what_?/ */");
    check_comment("\xc3\xa9\x7f\x01", "/* ____ */");
}
END_TEST

/* No way of writing a comment gives text that ends it before its end. */
START_TEST(comments_of_all_pairs) {
    for (int a = 1; a < 256; a++) {
        for (int b = 1; b < 256; b++) {
            char text[] = {'*', (char)a, (char)b, '/', 0};
            Writer w = {.arena = &cx.arena};
            cw_comment(&w, text);
            ck_assert_ptr_eq(strstr(w.text, "*/"), w.text + w.n - 2);
            ck_assert_ptr_null(strchr(w.text, '\\'));
        }
    }
}
END_TEST

START_TEST(strings_are_escaped) {
    Writer w = {.arena = &cx.arena};
    cw_string(&w, "a\"b\\c?\n\0\xff 1", 11);
    ck_assert_str_eq(cw_cstr(&w), "\"a\\\"b\\\\c\\077\\012\\000\\377 1\"");
}
END_TEST

START_TEST(diagnostics_count_errors) {
    Loc loc = {.file = str_intern(&cx, "m.onnx"), .node = str_intern(&cx, "c\"1"), .op = str_intern(&cx, "Conv")};
    diag(&cx, SEV_WARNING, loc, "%d is odd", 3);
    ck_assert_uint_eq(cx.n_error, 0);
    diag(&cx, SEV_ERROR, (Loc){.op = str_intern(&cx, "Relu"), .index = 7}, "no");
    ck_assert_uint_eq(cx.n_error, 1);
    Writer w = {.arena = &cx.arena};
    diag_print(&cx, &w);
    ck_assert_str_eq(cw_cstr(&w), "m.onnx: warning: Conv \"c\\\"1\": 3 is odd\nerror: Relu (node 7): no\n");
}
END_TEST

Suite *suite_base(void) {
    Suite *s = suite_create("base");
    TCase *t = unit_case(s, "base");
    tcase_add_test(t, arena_is_zeroed_and_aligned);
    tcase_add_test(t, arena_reports_overflow);
    tcase_add_test(t, strings_are_interned);
    tcase_add_test(t, vectors_grow);
    tcase_add_test(t, map_finds_what_was_put_in);
    tcase_add_test(t, writer_indents);
    tcase_add_test(t, writer_keeps_long_lines);
    tcase_add_test(t, comments_cannot_end_early);
    tcase_add_test(t, comments_of_all_pairs);
    tcase_add_test(t, strings_are_escaped);
    tcase_add_test(t, diagnostics_count_errors);
    return s;
}
