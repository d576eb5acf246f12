/* Symbolic dimensions: canonical forms, exact division, bounds, substitution. */
#include "unit.h"

static Dim sym(const char *name, int64_t lo, int64_t hi) { return dim_symbol(&cx, str_intern(&cx, name), lo, hi); }
static Dim num(int64_t x) { return dim_const(&cx, x); }
static Dim add(Dim a, Dim b) { return dim_add(&cx, a, b); }
static Dim mul(Dim a, Dim b) { return dim_mul(&cx, a, b); }

static const char *text(Dim d) {
    Writer w = {.arena = &cx.arena};
    dim_print(&cx, &w, d);
    return cw_cstr(&w);
}

START_TEST(equal_expressions_have_one_id) {
    Dim n = sym("N", 1, 64), t = sym("T", 1, 64);
    ck_assert_uint_eq(add(mul(num(2), n), n), mul(num(3), n));
    ck_assert_uint_eq(mul(add(n, num(1)), add(n, num(-1))), add(mul(n, n), num(-1)));
    ck_assert_uint_eq(mul(n, t), mul(t, n));
    ck_assert_uint_eq(dim_sub(&cx, add(n, t), t), n);
    ck_assert_uint_eq(dim_sub(&cx, n, n), num(0));
    ck_assert_uint_eq(dim_max(&cx, n, t), dim_max(&cx, t, n));
    ck_assert_uint_eq(sym("N", 5, 6), n);
    ck_assert_int_eq(dim_lo(&cx, n), 1);
}
END_TEST

START_TEST(unknown_stays_unknown) {
    Dim n = sym("N", 1, 64);
    ck_assert_uint_eq(add(n, 0), 0);
    ck_assert_uint_eq(mul(0, n), 0);
    ck_assert_uint_eq(dim_floordiv(&cx, n, num(0)), 0);
    ck_assert_uint_eq(dim_mod(&cx, num(4), num(0)), 0);
    ck_assert_str_eq(text(0), "?");
}
END_TEST

START_TEST(overflow_is_unknown) {
    Dim n = sym("N", 1, 64), big = num(INT64_MAX);
    ck_assert_uint_eq(add(big, num(1)), 0);
    ck_assert_uint_eq(mul(big, num(2)), 0);
    ck_assert_uint_eq(mul(mul(big, n), num(2)), 0);
    ck_assert_uint_eq(add(mul(big, n), n), 0);
    ck_assert_uint_eq(dim_floordiv(&cx, num(INT64_MIN), num(-1)), 0);
    Dim product = num(1); /* 2^20 terms are not written out */
    for (int i = 0; i < 20; i++) product = mul(product, add(sym((char[]){(char)('a' + i), 0}, 0, 9), num(1)));
    ck_assert_uint_eq(product, 0);
}
END_TEST

START_TEST(division_is_exact_where_it_can_be) {
    Dim n = sym("N", 1, 64), t = sym("T", 1, 64);
    ck_assert_uint_eq(dim_floordiv(&cx, mul(num(6), mul(n, t)), mul(num(2), n)), mul(num(3), t));
    ck_assert_uint_eq(dim_floordiv(&cx, add(mul(n, n), num(-1)), add(n, num(1))), add(n, num(-1)));
    ck_assert_uint_eq(dim_floordiv(&cx, add(mul(num(4), n), num(7)), num(4)), add(n, num(1)));
    ck_assert_uint_eq(dim_mod(&cx, mul(num(6), n), num(3)), num(0));
    ck_assert_uint_eq(dim_ceildiv(&cx, mul(num(6), n), num(3)), mul(num(2), n));
    ck_assert_uint_eq(dim_floordiv(&cx, n, num(65)), num(0)); /* N <= 64 */
    ck_assert_uint_eq(dim_mod(&cx, n, num(65)), n);
    ck_assert_str_eq(text(dim_floordiv(&cx, n, num(2))), "floordiv(N, 2)");
}
END_TEST

START_TEST(constant_division_rounds_down) {
    for (int64_t a = -7; a <= 7; a++) {
        for (int64_t b = -3; b <= 3; b++) {
            if (b == 0) continue;
            int64_t q = dim_value(&cx, dim_floordiv(&cx, num(a), num(b))), r = dim_value(&cx, dim_mod(&cx, num(a), num(b)));
            ck_assert_int_eq(q * b + r, a);
            ck_assert(b > 0 ? r >= 0 && r < b : r <= 0 && r > b);
            ck_assert_int_eq(dim_value(&cx, dim_ceildiv(&cx, num(a), num(b))), -dim_value(&cx, dim_floordiv(&cx, num(-a), num(b))));
        }
    }
}
END_TEST

START_TEST(bounds_follow_the_expression) {
    Dim n = sym("N", 2, 10), e = add(mul(num(-3), n), num(5));
    ck_assert_int_eq(dim_lo(&cx, e), -25);
    ck_assert_int_eq(dim_hi(&cx, e), -1);
    Dim half = dim_floordiv(&cx, n, num(4));
    ck_assert_int_eq(dim_lo(&cx, half), 0);
    ck_assert_int_eq(dim_hi(&cx, half), 2);
    dim_set_bounds(&cx, n, 8, 20); /* what was built before knows */
    ck_assert_int_eq(dim_lo(&cx, half), 2);
    ck_assert_int_eq(dim_hi(&cx, half), 5);
    ck_assert_int_eq(dim_hi(&cx, dim_mod(&cx, n, num(4))), 3);
    ck_assert_int_eq(dim_hi(&cx, mul(sym("U", 0, INT64_MAX), num(2))), INT64_MAX);
    ck_assert_int_eq(dim_lo(&cx, dim_max(&cx, n, sym("V", 0, 9))), 8);
}
END_TEST

START_TEST(min_and_max_use_bounds) {
    Dim n = sym("N", 2, 10);
    ck_assert_uint_eq(dim_max(&cx, n, num(1)), n);
    ck_assert_uint_eq(dim_min(&cx, n, num(20)), n);
    ck_assert_uint_eq(dim_min(&cx, n, add(n, num(3))), n);
    ck_assert_str_eq(text(dim_max(&cx, n, num(5))), "max(5, N)");
}
END_TEST

static int64_t value_of(Dim d, int64_t n, int64_t t) { return dim_eval(&cx, d, (int64_t[]){n, t}); }

/* A random expression and what it must evaluate to, computed directly. */
static Dim random_dim(unsigned *seed, int depth, int64_t n, int64_t t, int64_t *value) {
    *seed = *seed * 1664525u + 1013904223u;
    unsigned pick = *seed >> 24;
    if (depth == 0 || pick < 40) {
        int64_t c = (int64_t)(pick % 7) - 3;
        *value = pick % 3 == 0 ? c : pick % 3 == 1 ? n : t;
        return pick % 3 == 0 ? num(c) : pick % 3 == 1 ? sym("N", 1, 9) : sym("T", 1, 9);
    }
    int64_t x, y;
    Dim a = random_dim(seed, depth - 1, n, t, &x), b = random_dim(seed, depth - 1, n, t, &y);
    int64_t d = y < 0 ? -y + 1 : y + 1; /* positive divisors */
    Dim divisor = num(d);
    switch (pick % 6) {
    case 0: *value = x + y; return dim_add(&cx, a, b);
    case 1: *value = x - y; return dim_sub(&cx, a, b);
    case 2: *value = x * y; return dim_mul(&cx, a, b);
    case 3: *value = x < y ? x : y; return dim_min(&cx, a, b);
    case 4: *value = x >= 0 ? x / d : -((-x + d - 1) / d); return dim_floordiv(&cx, a, divisor);
    default: *value = (x % d + d) % d; return dim_mod(&cx, a, divisor);
    }
}

START_TEST(random_expressions_evaluate_right) {
    unsigned seed = 1;
    sym("N", 1, 9), sym("T", 1, 9);
    for (int i = 0; i < 3000; i++) {
        int64_t n = i % 9 + 1, t = i / 9 % 9 + 1, expected;
        Dim d = random_dim(&seed, 4, n, t, &expected);
        ck_assert_uint_ne(d, 0);
        ck_assert_msg(value_of(d, n, t) == expected, "%s at N=%lld T=%lld is %lld, not %lld", text(d), (long long)n, (long long)t, (long long)value_of(d, n, t), (long long)expected);
        ck_assert(dim_lo(&cx, d) <= expected && expected <= dim_hi(&cx, d));
        Dim pinned = dim_substitute(&cx, d, (Dim[]){num(n), num(t)});
        ck_assert(dim_is_const(&cx, pinned) && dim_value(&cx, pinned) == expected);
    }
}
END_TEST

START_TEST(substitution_rebuilds) {
    Dim n = sym("N", 1, 64), t = sym("T", 1, 64), d = dim_floordiv(&cx, add(n, t), num(2));
    Dim map[2] = {mul(num(2), t), 0};
    ck_assert_str_eq(text(dim_substitute(&cx, d, map)), "floordiv(3*T, 2)");
    ck_assert_uint_eq(dim_substitute(&cx, t, map), t);
}
END_TEST

START_TEST(text_is_readable) {
    Dim n = sym("N", 1, 64), t = sym("T", 1, 64);
    ck_assert_str_eq(text(add(mul(num(2), n), num(1))), "2*N + 1");
    ck_assert_str_eq(text(dim_sub(&cx, mul(n, t), n)), "N*T - N");
    ck_assert_str_eq(text(mul(num(-1), n)), "-N");
    ck_assert_str_eq(text(sym("batch size", 0, 1)), "\"batch size\"");
    ck_assert_str_eq(text(sym("a + b", 0, 1)), "\"a + b\"");
    ck_assert_str_eq(text(sym("3d", 0, 1)), "\"3d\"");
    ck_assert_str_eq(text(mul(num(INT64_MIN), n)), "-9223372036854775808*N");
}
END_TEST

START_TEST(order_does_not_depend_on_time) {
    Dim n = sym("N", 1, 64), t = sym("T", 1, 64);
    Dim late = dim_floordiv(&cx, t, num(2)), early = dim_floordiv(&cx, n, num(2)); /* made in the other order */
    ck_assert_str_eq(text(add(late, early)), "floordiv(N, 2) + floordiv(T, 2)");
    ck_assert_int_lt(dim_order(&cx, early, late), 0);
    ck_assert_int_gt(dim_order(&cx, late, early), 0);
    ck_assert_int_eq(dim_order(&cx, n, n), 0);
}
END_TEST

START_TEST(runtime_symbols_are_new) {
    sym("nz_1", 0, 5);
    Dim a = dim_runtime(&cx, "nz", 0, 10), b = dim_runtime(&cx, "nz", 0, 10);
    ck_assert_uint_ne(a, b);
    ck_assert_str_ne(text(a), "nz_1");
    ck_assert(dim_node(&cx, a)->runtime && !dim_node(&cx, sym("nz_1", 0, 5))->runtime);
}
END_TEST

START_TEST(released_dims_are_gone) {
    Dim n = sym("N", 1, 64);
    DimMark mark = dim_mark(&cx);
    Dim t = sym("T", 1, 8), e = add(n, t);
    ck_assert_uint_ne(e, 0);
    dim_release(&cx, mark);
    ck_assert_uint_eq(dim_symbol_count(&cx), 1);
    ck_assert_uint_eq(sym("N", 1, 64), n);
    ck_assert_int_eq(dim_hi(&cx, sym("T", 1, 5)), 5); /* not the released one */
}
END_TEST

Suite *suite_dim(void) {
    Suite *s = suite_create("dim");
    TCase *t = unit_case(s, "dim");
    tcase_add_test(t, equal_expressions_have_one_id);
    tcase_add_test(t, unknown_stays_unknown);
    tcase_add_test(t, overflow_is_unknown);
    tcase_add_test(t, division_is_exact_where_it_can_be);
    tcase_add_test(t, constant_division_rounds_down);
    tcase_add_test(t, bounds_follow_the_expression);
    tcase_add_test(t, min_and_max_use_bounds);
    tcase_add_test(t, random_expressions_evaluate_right);
    tcase_add_test(t, substitution_rebuilds);
    tcase_add_test(t, text_is_readable);
    tcase_add_test(t, order_does_not_depend_on_time);
    tcase_add_test(t, runtime_symbols_are_new);
    tcase_add_test(t, released_dims_are_gone);
    return s;
}
