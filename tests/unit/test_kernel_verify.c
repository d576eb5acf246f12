/* The invariants of ir/kernel_verify.c: a sound kernel, and one broken in each way. */
#include <stdio.h>

#include "ir/kernel.h"
#include "unit.h"

static Kernel *k;
static uint32_t i, scalar;
static Stmt *loop, *store, *local;
static Expr *vi;

static Stmt *stmt(Stmt s) {
    Stmt *own = ARENA_NEW(&cx.arena, Stmt);
    *own = s;
    return own;
}

static Expr **list(Expr *e) {
    Expr **own = ARENA_NEW(&cx.arena, Expr *);
    *own = e;
    return own;
}

/* kernel(b0: f32[4] in, b1: f32[4] out) { local v0: f32 = 0; for i0 < 4 parallel(1)  b1[i0] = b0[i0] }, stack array b2 */
static void setup(void) {
    context_setup();
    Dim *four = ARENA_NEW(&cx.arena, Dim);
    *four = dim_const(&cx, 4);
    k = kernel_new(&cx);
    kernel_add_buf(k, &cx, (Buf){.kind = BUF_IN, .dtype = DT_F32, .rank = 1, .dim = four});
    kernel_add_buf(k, &cx, (Buf){.kind = BUF_OUT, .dtype = DT_F32, .rank = 1, .dim = four});
    kernel_add_buf(k, &cx, (Buf){.kind = BUF_LOCAL, .dtype = DT_F32, .rank = 1, .dim = four});
    k->n_arg = 2;
    i = kernel_add_var(k, &cx, (Var){.dtype = DT_I64, .extent = ex_i64(&cx, 4)});
    scalar = kernel_add_var(k, &cx, (Var){.dtype = DT_F32});
    vi = ex_var(k, &cx, i);
    store = stmt((Stmt){.kind = S_STORE, .buf = 1, .idx = list(vi), .val = ex_load(k, &cx, 0, &vi)});
    loop = stmt((Stmt){.kind = S_FOR, .var = i, .extent = ex_i64(&cx, 4), .parallel = 1, .body = store});
    local = stmt((Stmt){.kind = S_LOCAL, .var = scalar, .val = ex_f(&cx, DT_F32, 0), .next = loop});
    k->body = local;
}

static void must_fail(int invariant) {
    char form[32];
    snprintf(form, sizeof form, "invariant %d:", invariant);
    ck_assert(!kernel_verify(&cx, k));
    Writer w = {.arena = &cx.arena};
    diag_print(&cx, &w);
    ck_assert_msg(strstr(cw_cstr(&w), form) != NULL, "%s expected, found:\n%s", form, cw_cstr(&w));
}

START_TEST(sound) { ck_assert(kernel_verify(&cx, k)); }
END_TEST

START_TEST(text) {
    Writer w = {.arena = &cx.arena};
    k->name = str_intern(&cx, "copy");
    kernel_print(&cx, &w, k);
    ck_assert_str_eq(cw_cstr(&w), "kernel copy(b0: f32[4] in, b1: f32[4] out) {\n    array b2: f32[4]\n    local v0: f32 = 0.0\n"
                                  "    for i0 < 4 parallel(1)\n        b1[i0] = b0[i0]\n}\n");
}
END_TEST

/* An expression of 2^40 leaves when written out prints as 40 lines. */
START_TEST(shared_text) {
    Expr *e = ex_load(k, &cx, 0, &vi);
    for (int d = 0; d < 40; d++) e = ex_2(k, &cx, FN_MAX, ex_1(k, &cx, FN_EXP, e), ex_1(k, &cx, FN_SIN, e));
    store->val = e;
    Writer w = {.arena = &cx.arena};
    kernel_print(&cx, &w, k);
    ck_assert_uint_lt(w.n, 8000);
    ck_assert(kernel_verify(&cx, k));
}
END_TEST

START_TEST(argument_order) { k->buf[1].kind = BUF_LOCAL; must_fail(1); }
END_TEST

START_TEST(unknown_buffer) { store->buf = 7; must_fail(1); }
END_TEST

START_TEST(unknown_variable) { loop->var = 9; must_fail(1); }
END_TEST

START_TEST(loop_variable_outside) {
    loop->next = stmt((Stmt){.kind = S_STORE, .buf = 1, .idx = list(vi), .val = ex_f(&cx, DT_F32, 0)});
    must_fail(2);
}
END_TEST

START_TEST(scalar_before_declaration) {
    k->body = stmt((Stmt){.kind = S_SET, .var = scalar, .val = ex_f(&cx, DT_F32, 1), .next = local});
    must_fail(2);
}
END_TEST

START_TEST(index_type) { store->idx = list(ex_i(&cx, DT_I32, 0)); must_fail(3); }
END_TEST

START_TEST(index_count) { k->buf[0].rank = 2; must_fail(3); }
END_TEST

START_TEST(store_into_input) { store->buf = 0; must_fail(3); }
END_TEST

START_TEST(mixed_types) {
    Expr *e = ex_2(k, &cx, FN_ADD, ex_load(k, &cx, 0, &vi), ex_load(k, &cx, 0, &vi));
    e->arg[1] = vi;
    store->val = e;
    must_fail(4);
}
END_TEST

START_TEST(storage_type) { store->val->dtype = DT_F16; must_fail(4); }
END_TEST

START_TEST(comparison_type) {
    Expr *x = ex_load(k, &cx, 0, &vi), *e = ex_2(k, &cx, FN_LT, x, ex_f(&cx, DT_F32, 1));
    e->dtype = DT_F32;
    store->val = e;
    must_fail(4);
}
END_TEST

START_TEST(stored_type) { store->val = vi; must_fail(5); }
END_TEST

START_TEST(scalar_type) { local->val = ex_i64(&cx, 0); must_fail(5); }
END_TEST

START_TEST(condition_type) {
    loop->next = stmt((Stmt){.kind = S_IF, .val = ex_i64(&cx, 1)});
    must_fail(5);
}
END_TEST

START_TEST(extent_type) { loop->extent = ex_f(&cx, DT_F32, 4); must_fail(5); }
END_TEST

START_TEST(reduction) { store->reduce = FN_SUB; must_fail(6); }
END_TEST

START_TEST(parallel_inside) {
    uint32_t j = kernel_add_var(k, &cx, (Var){.dtype = DT_I64, .extent = ex_i64(&cx, 4)});
    k->body = stmt((Stmt){.kind = S_FOR, .var = j, .extent = ex_i64(&cx, 4), .body = loop});
    must_fail(7);
}
END_TEST

START_TEST(parallel_depth) { loop->parallel = 2; must_fail(7); }
END_TEST

START_TEST(serial_scalar_in_parallel_loop) { store->val = ex_var(k, &cx, scalar); must_fail(8); }
END_TEST

START_TEST(array_across_phases) {
    store->buf = 2;
    uint32_t j = kernel_add_var(k, &cx, (Var){.dtype = DT_I64, .extent = ex_i64(&cx, 4)});
    Expr *vj = ex_var(k, &cx, j);
    Stmt *second = stmt((Stmt){.kind = S_STORE, .buf = 1, .idx = list(vj), .val = ex_load(k, &cx, 2, &vj)});
    loop->next = stmt((Stmt){.kind = S_FOR, .var = j, .extent = ex_i64(&cx, 4), .parallel = 1, .body = second});
    must_fail(8);
}
END_TEST

START_TEST(call_without_name) {
    loop->next = stmt((Stmt){.kind = S_CALL});
    must_fail(9);
}
END_TEST

START_TEST(empty_contraction) {
    loop->next = stmt((Stmt){.kind = S_CONTRACT});
    must_fail(9);
}
END_TEST

Suite *suite_kernel_verify(void) {
    Suite *s = suite_create("kernel_verify");
    TCase *t = tcase_create("kernel_verify");
    tcase_add_checked_fixture(t, setup, context_teardown);
    suite_add_tcase(s, t);
    tcase_add_test(t, sound);
    tcase_add_test(t, text);
    tcase_add_test(t, shared_text);
    tcase_add_test(t, argument_order);
    tcase_add_test(t, unknown_buffer);
    tcase_add_test(t, unknown_variable);
    tcase_add_test(t, loop_variable_outside);
    tcase_add_test(t, scalar_before_declaration);
    tcase_add_test(t, index_type);
    tcase_add_test(t, index_count);
    tcase_add_test(t, store_into_input);
    tcase_add_test(t, mixed_types);
    tcase_add_test(t, storage_type);
    tcase_add_test(t, comparison_type);
    tcase_add_test(t, stored_type);
    tcase_add_test(t, scalar_type);
    tcase_add_test(t, condition_type);
    tcase_add_test(t, extent_type);
    tcase_add_test(t, reduction);
    tcase_add_test(t, parallel_inside);
    tcase_add_test(t, parallel_depth);
    tcase_add_test(t, serial_scalar_in_parallel_loop);
    tcase_add_test(t, array_across_phases);
    tcase_add_test(t, call_without_name);
    tcase_add_test(t, empty_contraction);
    return s;
}
