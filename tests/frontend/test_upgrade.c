/* frontend/upgrade.c: what old nodes become, one row of upgrade.def after the other (tests/onnx/old_opsets.py has the numbers). */
#include <stdlib.h>
#include <string.h>

#include "onnx_bytes.h"

/* The nodes that one node of an old opset becomes; inputs as for graph(). */
static const char *upgraded(int64_t opset, const char *inputs, Bytes n, const char *outputs) {
    Bytes g = graph(inputs, outputs);
    add_node(&g, n);
    const char *text = import_text(model(opset, g));
    const char *body = strchr(text, '\n');
    return body != NULL && strncmp(text, "graph", 5) == 0 ? body + 1 : text;
}

#define expect(opset, inputs, n, outputs, text) ck_assert_str_eq(upgraded(opset, inputs, n, outputs), text "}\n")

START_TEST(attributes_to_inputs) {
    Bytes n = node("Clip", "x", "y");
    attr_float(&n, "min", 0);
    attr_float(&n, "max", 6);
    expect(6, "x:f2,3", n, "y", "    %0 = const f32[] [0]\n    %1 = const f32[] [6]\n    %y = Clip(%x, %0, %1)\n");
    n = node("ReduceSum", "x", "y");
    attr_ints(&n, "axes", "1");
    expect(11, "x:f2,3", n, "y", "    %0 = const i64[1] [1]\n    %y = ReduceSum(%x, %0)\n");
    n = node("Unsqueeze", "x", "y");
    expect_error(model(11, ({ Bytes g = graph("x:f2", "y"); add_node(&g, n); g; })), "attribute axes is missing");
    n = node("Pad", "x", "y");
    attr_ints(&n, "paddings", "0 1 0 1");
    attr_float(&n, "value", 2);
    expect(1, "x:f2,3", n, "y", "    %0 = const i64[4] [0, 1, 0, 1]\n    %1 = const f32[] [2]\n    %y = Pad(%x, %0, %1)\n");
    n = node("Split", "x", "y z");
    expect(2, "x:f2,3", n, "y z", "    %y, %z = Split(%x) {num_outputs = 2}\n");
    n = node("Slice", "x", "y");
    attr_ints(&n, "starts", "1");
    attr_ints(&n, "ends", "2");
    expect(1, "x:f2,3", n, "y", "    %0 = const i64[1] [1]\n    %1 = const i64[1] [2]\n    %y = Slice(%x, %0, %1)\n");
}
END_TEST

START_TEST(broadcast_along_an_axis) {
    Bytes n = node("Add", "x b", "y");
    attr_int(&n, "broadcast", 1);
    attr_int(&n, "axis", 1);
    const char *text = upgraded(6, "x:f2,3,4 b:f3", n, "y");
    ck_assert_ptr_nonnull(strstr(text, "const i64[1] [1]")); /* one dim behind b's */
    ck_assert_ptr_nonnull(strstr(text, "Reshape(%b, "));
    n = node("Add", "x b", "y");
    attr_int(&n, "broadcast", 1);
    expect(6, "x:f2,3 b:f3", n, "y", "    %y = Add(%x, %b)\n");
    n = node("Add", "x b", "y");
    attr_int(&n, "broadcast", 1);
    expect_error(model(7, ({ Bytes g = graph("q:f2", "y"); add_node(&g, n); g; })), "not defined");
}
END_TEST

START_TEST(softmax_as_matrix) {
    expect(12, "x:f2,3,4", node("Softmax", "x", "y"), "y",
           "    %0 = Flatten(%x)   @\"\" from \"Softmax\"\n    %1 = Softmax(%0)\n    %2 = Shape(%x)   @\"\" from \"Softmax\"\n"
           "    %y = Reshape(%1, %2)   @\"\" from \"Softmax\"\n");
    expect(12, "x:f2,3", node("Softmax", "x", "y"), "y", "    %y = Softmax(%x)\n"); /* the last axis anyway */
    expect(13, "x:f2,3,4", node("Softmax", "x", "y"), "y", "    %y = Softmax(%x)\n");
}
END_TEST

START_TEST(renamed_operators) {
    Bytes n = node("Upsample", "x", "y");
    attr_text(&n, "mode", "nearest");
    put_message(&n, 5, ({
                    Bytes a = {0};
                    put_text(&a, 1, "scales");
                    put_int(&a, 20, 6);
                    for (int i = 0; i < 4; i++) put_float(&a, 7, i < 2 ? 1 : 2);
                    a;
                }));
    const char *text = upgraded(7, "x:f1,1,2,2", n, "y");
    ck_assert_ptr_nonnull(strstr(text, "Resize(%x, _, %0)"));
    ck_assert_ptr_nonnull(strstr(text, "coordinate_transformation_mode = \"asymmetric\""));
    ck_assert_ptr_nonnull(strstr(text, "nearest_mode = \"floor\""));
    n = node("Scatter", "x i u", "y");
    attr_int(&n, "axis", 1);
    expect(9, "x:f2,2 i:i1,1 u:f1,1", n, "y", "    %y = ScatterElements(%x, %i, %u) {axis = 1}   @\"\" from \"Scatter\"\n");
}
END_TEST

START_TEST(changed_attributes) {
    Bytes n = node("Cast", "x", "y");
    attr_text(&n, "to", "INT64");
    expect(5, "x:f2", n, "y", "    %y = Cast(%x) {to = 7}\n");
    n = node("Concat", "x x", "y");
    expect(3, "x:f2,2", n, "y", "    %y = Concat(%x, %x) {axis = 1}\n");
    n = node("GlobalLpPool", "x", "y");
    attr_float(&n, "p", 3);
    expect(1, "x:f1,1,2,2", n, "y", "    %y = GlobalLpPool(%x) {p = 3}\n");
    n = node("GlobalLpPool", "x", "y");
    attr_float(&n, "p", 2.5f);
    expect_error(model(1, ({ Bytes g = graph("x:f1,1,2,2", "y"); add_node(&g, n); g; })), "attribute p is 2.5");
    n = node("Relu", "x", "y");
    attr_ints(&n, "consumed_inputs", "0");
    expect(5, "x:f2", n, "y", "    %y = Relu(%x)\n");
}
END_TEST

/* Values the newest form does not compute are an error only where somebody reads them. */
START_TEST(statistics_of_training) {
    Bytes g = graph("x:f2,3 s:f3 b:f3 m:f3 v:f3", "y"), n = node("BatchNormalization", "x s b m v", "y m2 v2 sm sv");
    add_node(&g, n);
    ck_assert_ptr_nonnull(strstr(import_text(model(9, g)), "%y, %m2, %v2 = BatchNormalization(%x, %s, %b, %m, %v) {training_mode = 1}"));
    g = graph("x:f2,3 s:f3 b:f3 m:f3 v:f3", "z");
    add_node(&g, n);
    add_node(&g, node("Relu", "sm", "z"));
    expect_error(model(9, g), "value \"sm\" is not defined");
}
END_TEST

Suite *suite_upgrade(void) {
    Suite *s = suite_create("upgrade");
    TCase *t = tcase_create("all");
    tcase_add_test(t, attributes_to_inputs);
    tcase_add_test(t, broadcast_along_an_axis);
    tcase_add_test(t, softmax_as_matrix);
    tcase_add_test(t, renamed_operators);
    tcase_add_test(t, changed_attributes);
    tcase_add_test(t, statistics_of_training);
    suite_add_tcase(s, t);
    return s;
}
