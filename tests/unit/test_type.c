/* Value types: interning, text, sizes. */
#include "unit.h"

static const char *text(const Type *t) {
    Writer w = {.arena = &cx.arena};
    type_print(&cx, &w, t);
    return cw_cstr(&w);
}

START_TEST(equal_types_are_one) {
    Dim d[2] = {dim_symbol(&cx, str_intern(&cx, "N"), 1, 64), dim_const(&cx, 64)};
    const Type *t = type_tensor(&cx, DT_F32, 2, d);
    ck_assert_ptr_eq(t, type_tensor(&cx, DT_F32, 2, (Dim[]){d[0], d[1]}));
    ck_assert_ptr_ne(t, type_tensor(&cx, DT_F64, 2, d));
    ck_assert_ptr_ne(t, type_tensor(&cx, DT_F32, 1, d));
    ck_assert_ptr_eq(type_sequence(&cx, t, 0), type_sequence(&cx, t, 0));
    ck_assert_ptr_ne(type_sequence(&cx, t, 0), type_optional(&cx, t));
    ck_assert_str_eq(text(type_sequence(&cx, t, d[0])), "seq<f32[N,64]; N>");
    ck_assert_str_eq(text(type_optional(&cx, type_tensor(&cx, DT_STRING, RANK_UNKNOWN, NULL))), "optional<str[*]>");
    ck_assert_str_eq(text(type_map(&cx, DT_I64, DT_F32, 0)), "map<i64,f32>");
    ck_assert_str_eq(text(NULL), "?");
}
END_TEST

START_TEST(sizes_of_packed_types_round_up) {
    ck_assert_uint_eq(dtype_bytes(&cx, DT_U4, 3), 2);
    ck_assert_uint_eq(dtype_bytes(&cx, DT_I2, 5), 2);
    ck_assert_uint_eq(dtype_bytes(&cx, DT_C128, 2), 32);
    ck_assert_uint_eq(dtype_bytes(&cx, DT_F32, 0), 0);
}
END_TEST

START_TEST(element_types_have_names_and_numbers) {
    for (int d = 1; d < DT_COUNT; d++) {
        ck_assert_int_eq(dtype_from_text(dtype_text((DType)d)), d);
        ck_assert_int_eq(dtype_from_onnx(dtype_to_onnx((DType)d)), d);
        ck_assert_int_eq(dtype_compute(dtype_compute((DType)d)), dtype_compute((DType)d));
    }
    ck_assert_int_eq(dtype_from_text("float"), DT_NONE);
    ck_assert_int_eq(dtype_from_onnx(99), DT_NONE);
}
END_TEST

START_TEST(agreement) {
    Dim n = dim_symbol(&cx, str_intern(&cx, "N"), 1, 64), four = dim_const(&cx, 4), five = dim_const(&cx, 5);
    const Type *a = type_tensor(&cx, DT_F32, 2, (Dim[]){n, four}), *b = type_tensor(&cx, DT_F32, 2, (Dim[]){five, four}), *c = type_tensor(&cx, DT_F32, 2, (Dim[]){n, five});
    ck_assert(type_agrees(&cx, a, b));
    ck_assert(!type_agrees(&cx, a, c));
    ck_assert(type_agrees(&cx, a, type_tensor(&cx, DT_F32, RANK_UNKNOWN, NULL)));
    ck_assert(!type_agrees(&cx, a, type_tensor(&cx, DT_F32, 1, &n)));
    ck_assert(!type_agrees(&cx, type_sequence(&cx, a, 0), type_sequence(&cx, c, 0)));
    ck_assert(type_agrees(&cx, NULL, a));
    ck_assert(!type_is_static(&cx, a) && type_is_static(&cx, b));
    ck_assert_int_eq(dim_value(&cx, type_numel(&cx, b)), 20);
}
END_TEST

Suite *suite_type(void) {
    Suite *s = suite_create("type");
    TCase *t = unit_case(s, "type");
    tcase_add_test(t, equal_types_are_one);
    tcase_add_test(t, sizes_of_packed_types_round_up);
    tcase_add_test(t, element_types_have_names_and_numbers);
    tcase_add_test(t, agreement);
    return s;
}
