/* frontend/onnx_*.c: what files mean, and what is said about wrong ones. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "onnx_bytes.h"

/* A graph of one node reading x: f32[2,3] and writing y. */
static Bytes one(Bytes n) {
    Bytes g = graph("x:f2,3", "y");
    add_node(&g, n);
    return model(18, g);
}

/* ---- graphs ----------------------------------------------------------------------------------------------------- */
START_TEST(optional_inputs_and_outputs) {
    Bytes g = graph("x:f2,3 k:i1", "i");
    add_node(&g, node("Clip", "x -  -", "c"));
    add_node(&g, node("TopK", "c k", "- i"));
    expect_ir(model(18, g), "graph @g(%x: f32[2,3], %k: i64[1]) -> (%i) {\n    %c = Clip(%x)\n    _, %i = TopK(%c, %k)\n}\n");
}
END_TEST

START_TEST(dims_become_symbols) {
    Bytes g = graph("x:fN,?,a-b,a_b,int,2x a:fN,-1", "y");
    add_node(&g, node("Relu", "x", "y"));
    ck_assert_ptr_nonnull(strstr(import_text(model(18, g)), "(%x: f32[N,x_d1,a_b,a_b_2,int_,2], %a: f32[N,d1])"));
}
END_TEST

/* Initializers that are inputs too are constants, as files of IR version 3 have them. */
START_TEST(initializers_as_inputs) {
    Bytes g = graph("x:f2 w:f2", "y"), t = tensor("w", 1, "2");
    put_data(&t, 9, (float[]){1, 2}, 8);
    add_initializer(&g, t);
    add_node(&g, node("Add", "x w", "y"));
    expect_ir(model(18, g), "graph @g(%x: f32[2]) -> (%y) {\n    %w = const f32[2] [1, 2]\n    %y = Add(%x, %w)\n}\n");
}
END_TEST

START_TEST(regions_capture_values) {
    Bytes g = graph("c:b x:f2", "y"), then_g = graph("", "t"), else_g = graph("", "t");
    add_node(&then_g, node("Neg", "x", "t"));
    add_node(&else_g, node("Abs", "r", "t"));
    Bytes n = node("If", "c", "y");
    attr_graph(&n, "then_branch", then_g);
    attr_graph(&n, "else_branch", else_g);
    add_node(&g, node("Relu", "x", "r"));
    add_node(&g, n);
    const char *text = import_text(model(18, g));
    ck_assert_ptr_nonnull(strstr(text, "%t = Neg(%x)"));
    ck_assert_ptr_nonnull(strstr(text, "%t_2 = Abs(%r)")); /* names are unique in the module */
}
END_TEST

START_TEST(nodes_are_sorted) {
    Bytes g = graph("x:f2", "y");
    add_node(&g, node("Neg", "b", "y"));
    add_node(&g, node("Abs", "a", "b"));
    add_node(&g, node("Relu", "x", "a"));
    expect_ir(model(18, g), "graph @g(%x: f32[2]) -> (%y) {\n    %a = Relu(%x)\n    %b = Abs(%a)\n    %y = Neg(%b)\n}\n");
}
END_TEST

START_TEST(constants_of_every_form) {
    Bytes g = graph("", "a b c d"), n = node("Constant", "", "a");
    attr_float(&n, "value_float", 1.5f);
    add_node(&g, n);
    n = node("Constant", "", "b");
    attr_ints(&n, "value_ints", "3 4");
    add_node(&g, n);
    n = node("Constant", "", "c");
    attr_text(&n, "value_string", "hi");
    add_node(&g, n);
    n = node("Constant", "", "d");
    Bytes t = tensor("", 10, "2");
    put_int(&t, 5, 0x3C00);
    put_int(&t, 5, 0xC000);
    attr_tensor(&n, "value", t);
    add_node(&g, n);
    const char *text = import_text(model(18, g));
    ck_assert_ptr_nonnull(strstr(text, "%a = const f32[] [1.5]"));
    ck_assert_ptr_nonnull(strstr(text, "%b = const i64[2] [3, 4]"));
    ck_assert_ptr_nonnull(strstr(text, "%c = const str[] [\"hi\"]"));
    ck_assert_ptr_nonnull(strstr(text, "%d = const f16[2] [1, -2]"));
}
END_TEST

START_TEST(sparse_tensors_become_dense) {
    Bytes g = graph("", "s"), s = {0}, values = tensor("s", 1, "2"), indices = tensor("", 7, "2 2");
    put_data(&values, 9, (float[]){5, 7}, 8);
    put_data(&indices, 9, (int64_t[]){0, 2, 1, 0}, 32);
    put_message(&s, 1, values);
    put_message(&s, 2, indices);
    put_int(&s, 3, 2);
    put_int(&s, 3, 3);
    put_message(&g, 15, s);
    ck_assert_ptr_nonnull(strstr(import_text(model(18, g)), "const f32[2,3] [0, 0, 5, 7, 0, 0]"));
    Bytes bad = graph("", "s"), b = {0}, far = tensor("", 7, "2");
    put_data(&far, 9, (int64_t[]){0, 6}, 16);
    put_message(&b, 1, values);
    put_message(&b, 2, far);
    put_int(&b, 3, 2);
    put_int(&b, 3, 3);
    put_message(&bad, 15, b);
    expect_error(model(18, bad), "index 1 of a sparse tensor is outside it");
}
END_TEST

/* ---- functions -------------------------------------------------------------------------------------------------- */
static Bytes leaky(void) { /* leaky(a) {slope} = LeakyRelu(a) {alpha = slope}, then Neg */
    Bytes f = function("my", "leaky", "a", "b"), n = node("LeakyRelu", "a", "t"), def = {0};
    attr_ref(&n, "alpha", "slope", 1);
    add_function_node(&f, n);
    add_function_node(&f, node("Neg", "t", "b"));
    put_text(&def, 1, "slope");
    put_int(&def, 20, 1);
    put_float(&def, 2, 0.5f);
    put_message(&f, 11, def);
    return f;
}

static Bytes call(const char *name, const char *in, const char *out) {
    Bytes n = node(name, in, out);
    put_text(&n, 7, "my");
    put_text(&n, 3, name);
    return n;
}

START_TEST(functions_are_inlined) {
    Bytes g = graph("x:f2", "z"), n = call("leaky", "x", "y");
    attr_float(&n, "slope", 0.25f);
    add_node(&g, n);
    add_node(&g, call("leaky", "y", "z"));
    Bytes m = model(18, g);
    add_opset(&m, "my", 1);
    add_function(&m, leaky());
    const char *text = import_text(m);
    ck_assert_ptr_nonnull(strstr(text, "%t = LeakyRelu(%x) {alpha = 0.25}"));
    ck_assert_ptr_nonnull(strstr(text, "%t_2 = LeakyRelu(%y) {alpha = 0.5}"));
    ck_assert_ptr_nonnull(strstr(text, "%z = Neg(%t_2)"));
}
END_TEST

START_TEST(functions_call_functions) {
    Bytes f = function("my", "twice", "a b", "c d"), opset = {0};
    put_text(&opset, 1, "my");
    put_int(&opset, 2, 1);
    put_message(&f, 9, opset);
    Bytes inner = call("leaky", "a", "c");
    attr_ref(&inner, "slope", "s", 1);
    add_function_node(&f, inner);
    add_function_node(&f, node("Clip", "a - b", "d"));
    Bytes g = graph("x:f2", "y z"), n = call("twice", "x", "y z");
    attr_float(&n, "s", 0.125f);
    add_node(&g, n);
    Bytes m = model(18, g);
    add_function(&m, f);
    add_function(&m, leaky());
    const char *text = import_text(m);
    ck_assert_ptr_nonnull(strstr(text, "LeakyRelu(%x) {alpha = 0.125}"));
    ck_assert_ptr_nonnull(strstr(text, "%z = Clip(%x)\n")); /* b was left out by the call */
}
END_TEST

START_TEST(recursive_functions_are_refused) {
    Bytes f = function("my", "loop", "a", "b");
    add_function_node(&f, call("loop", "a", "b"));
    Bytes m = one(call("loop", "x", "y"));
    add_function(&m, f);
    expect_error(m, "function loop calls itself");
}
END_TEST

/* 2^40 nodes from forty functions of two calls each. */
START_TEST(function_bombs_are_refused) {
    Bytes g = graph("x:f2", "y");
    add_node(&g, call("f0", "x", "y"));
    Bytes m = model(18, g);
    for (int i = 0; i < 40; i++) {
        char name[8], next[8];
        snprintf(name, sizeof name, "f%d", i);
        snprintf(next, sizeof next, "f%d", i + 1);
        Bytes f = function("my", name, "a", "b");
        add_function_node(&f, i < 39 ? call(next, "a", "t") : node("Neg", "a", "t"));
        add_function_node(&f, i < 39 ? call(next, "t", "b") : node("Neg", "t", "b"));
        add_function(&m, f);
    }
    expect_error(m, "expand to more than");
}
END_TEST

/* ---- wrong files ------------------------------------------------------------------------------------------------ */
static Bytes bytes_of(const char *text) {
    return (Bytes){(uint8_t *)arena_strdup(test_arena(), text, strlen(text)), strlen(text), 0};
}

START_TEST(foreign_files) {
    expect_error((Bytes){0}, "the file is empty");
    expect_error(bytes_of("Hello, this is a text file.\n"), "not an ONNX model");
    expect_error(bytes_of("\x89PNG\r\n\x1a\n"), "not an ONNX model");
    expect_error(bytes_of("{\"graph\": 1}"), "not an ONNX model");
    Bytes no_graph = {0};
    put_int(&no_graph, 1, 8);
    expect_error(no_graph, "it has no graph");
}
END_TEST

START_TEST(truncated_files) {
    Bytes g = graph("x:f2", "y"), t = tensor("w", 1, "2");
    put_data(&t, 9, (float[]){1, 2}, 8);
    add_initializer(&g, t);
    add_node(&g, node("Add", "x w", "y"));
    Bytes m = model(18, g);
    for (size_t n = 0; n < m.n; n++) { /* where a message ends by chance, the file is whole but has no graph or opset */
        Bytes part = {m.v, n, 0};
        const char *text = import_text(part);
        bool said = strstr(text, "truncated") != NULL || strstr(text, "no graph") != NULL || strstr(text, "empty") != NULL || strncmp(text, "graph @", 7) == 0 ||
                    strstr(text, "not an ONNX model") != NULL;
        ck_assert_msg(said, "%zu bytes: %s", n, text);
        if (n > 4 && n < m.n - 10) ck_assert_msg(strstr(text, "truncated") != NULL, "%zu bytes: %s", n, text);
    }
}
END_TEST

START_TEST(deep_nesting_is_refused) {
    Bytes g = graph("c:b", "y");
    for (int i = 0; i < 60; i++) {
        Bytes outer = graph(i < 59 ? "" : "c:b", "y"), n = node("If", "c", "y");
        attr_graph(&n, "then_branch", g);
        attr_graph(&n, "else_branch", graph("", "y"));
        add_node(&outer, n);
        g = outer;
    }
    expect_error(model(18, g), "nested more than 100 deep");
}
END_TEST

START_TEST(all_unsupported_operators_are_listed) {
    Bytes g = graph("x:f2", "y"), foreign = node("Thing", "b", "c");
    put_text(&foreign, 7, "org.example");
    put_text(&foreign, 3, "the thing");
    add_node(&g, node("Frobnicate", "x", "a"));
    add_node(&g, node("Relu", "a", "b"));
    add_node(&g, foreign);
    add_node(&g, node("Frobnicate", "c", "y"));
    const char *text = import_text(model(18, g));
    int errors = 0;
    for (const char *p = text; (p = strstr(p, "error: ")) != NULL; p++) errors++;
    ck_assert_int_eq(errors, 3);
    ck_assert_ptr_nonnull(strstr(text, "Frobnicate (node 0): operator Frobnicate of domain ai.onnx, version 18, is not supported"));
    ck_assert_ptr_nonnull(strstr(text, "Frobnicate (node 3)"));
    ck_assert_ptr_nonnull(strstr(text, "Thing \"the thing\": operator Thing of domain org.example is not supported"));
}
END_TEST

START_TEST(wrong_nodes) {
    Bytes n = node("Relu", "x x", "y");
    expect_error(one(n), "2 inputs, it takes 1");
    expect_error(one(node("Add", "x", "y")), "1 inputs, it takes 2");
    expect_error(one(node("Add", "x -", "y")), "input 1 is missing");
    expect_error(one(node("Add", "- x", "y")), "input 0 is missing");
    expect_error(one(node("Relu", "nowhere", "y")), "value \"nowhere\" is not defined before its use");
    n = node("Softmax", "x", "y");
    attr_float(&n, "axis", 1);
    expect_error(one(n), "attribute axis is a float, it must be an int");
    expect_error(one(node("Concat", "x x", "y")), "attribute axis is missing");
    n = node("Softmax", "x", "y");
    attr_int(&n, "axis", 1);
    attr_int(&n, "axis", 0);
    expect_error(one(n), "attribute axis is given twice");
    Bytes g = graph("x:f2", "y");
    add_node(&g, node("Relu", "x", "y"));
    add_node(&g, node("Neg", "x", "y"));
    expect_error(model(18, g), "value \"y\" is defined twice");
    expect_error(one(node("Relu", "x", "z")), "output \"y\" is not computed");
}
END_TEST

START_TEST(unknown_attributes_are_warned_of) {
    Bytes n = node("Relu", "x", "y");
    attr_int(&n, "fast", 1);
    Context cx;
    context_init(&cx);
    Bytes m = one(n);
    write_file(temp_path("warn.onnx"), m.v, m.n);
    ck_assert(onnx_import(module_new(&cx, "m"), temp_path("warn.onnx")));
    ck_assert_uint_eq(cx.diags.n, 1);
    ck_assert_int_eq(cx.diags.v[0].severity, SEV_WARNING);
    ck_assert_str_eq(cx.diags.v[0].message, "attribute fast is not known and ignored");
    context_free(&cx);
    unlink(temp_path("warn.onnx"));
}
END_TEST

/* ---- tensors ---------------------------------------------------------------------------------------------------- */
static void expect_tensor_error(Bytes t, const char *text) {
    Bytes g = graph("", "w");
    add_initializer(&g, t);
    expect_error(model(18, g), text);
}

START_TEST(wrong_tensors) {
    Bytes t = tensor("w", 1, "3");
    put_data(&t, 9, "abcd", 4);
    expect_tensor_error(t, "raw_data has 4 bytes, its type and shape need 12");
    t = tensor("w", 1, "4611686018427387904 4");
    expect_tensor_error(t, "overflows");
    t = tensor("w", 1, "-1");
    put_data(&t, 9, "abcd", 4);
    expect_tensor_error(tensor("w", 99, "1"), "element type 99 is not known");
    t = tensor("w", 7, "2");
    put_int(&t, 7, 5);
    expect_tensor_error(t, "int64_data has 1 entries, its shape needs 2");
    expect_tensor_error(tensor("w", 1, "1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"), "rank 17");
}
END_TEST

static Bytes external(const char *location, const char *offset, const char *length) {
    const char *entries[][2] = {{"location", location}, {"offset", offset}, {"length", length}};
    Bytes g = graph("", "w"), t = tensor("w", 1, "2");
    for (int i = 0; i < 3; i++) {
        Bytes e = {0};
        if (entries[i][1] == NULL) continue;
        put_text(&e, 1, entries[i][0]);
        put_text(&e, 2, entries[i][1]);
        put_message(&t, 13, e);
    }
    put_int(&t, 14, 1);
    add_initializer(&g, t);
    return model(18, g);
}

START_TEST(external_data) {
    write_file(temp_path("w.bin"), (float[]){9, 1, 2}, 12);
    ck_assert_ptr_nonnull(strstr(import_text(external("w.bin", "4", "8")), "const f32[2] [1, 2]"));
    ck_assert_ptr_nonnull(strstr(import_text(external("w.bin", NULL, NULL)), "const f32[2] [9, 1]"));
    expect_error(external("w.bin", "8", "8"), "past the end");
    expect_error(external("w.bin", "18446744073709551610", "8"), "past the end");
    expect_error(external("w.bin", "-4", "8"), "not a number");
    expect_error(external("w.bin", "0", "4"), "external data has 4 bytes");
    expect_error(external(NULL, NULL, NULL), "without a location");
    expect_error(external("missing.bin", NULL, NULL), "cannot open");
    expect_error(external("/etc/passwd", NULL, NULL), "not inside the model's folder");
    expect_error(external("../w.bin", NULL, NULL), "not inside the model's folder");
    expect_error(external("a/../../w.bin", NULL, NULL), "not inside the model's folder");
    ck_assert_int_eq(symlink("/etc/passwd", temp_path("out.bin")), 0);
    expect_error(external("out.bin", NULL, NULL), "a link out of the model's folder");
    unlink(temp_path("out.bin"));
    ck_assert_int_eq(symlink("w.bin", temp_path("in.bin")), 0);
    ck_assert_ptr_nonnull(strstr(import_text(external("in.bin", NULL, NULL)), "const f32[2] [9, 1]"));
    unlink(temp_path("in.bin"));
    unlink(temp_path("w.bin"));
}
END_TEST

/* The allocator fails at its n-th call, for all n: the import leaves through the escape, and nothing leaks (the sanitizer
 * build sees it). */
START_TEST(memory_runs_out) {
    Bytes g = graph("x:f2", "z"), t = tensor("w", 1, "100000");
    put_data(&t, 9, arena_alloc(test_arena(), 400000), 400000);
    add_initializer(&g, t);
    add_node(&g, call("leaky", "x", "y"));
    add_node(&g, node("Softmax", "y", "z"));
    Bytes m = model(11, g);
    add_function(&m, leaky());
    write_file(temp_path("oom.onnx"), m.v, m.n);
    uint64_t n = 0;
    for (volatile bool done = false; !done;) {
        Context cx;
        jmp_buf escape;
        context_init(&cx);
        cx.escape = &escape;
        arena_fail_after = ++n;
        if (setjmp(escape) == 0) {
            ck_assert(onnx_import(module_new(&cx, "m"), temp_path("oom.onnx")));
            done = true;
        } else {
            ck_assert_str_eq(cx.internal_error, "out of memory");
        }
        arena_fail_after = 0;
        context_free(&cx);
    }
    ck_assert_uint_gt(n, 3);
    unlink(temp_path("oom.onnx"));
}
END_TEST

START_TEST(bools_are_zero_or_one) {
    Bytes g = graph("", "y"), t = tensor("w", 9, "3");
    put_data(&t, 9, "\x00\x07\xFF", 3);
    add_initializer(&g, t);
    add_node(&g, node("Not", "w", "y"));
    ck_assert_ptr_nonnull(strstr(import_text(model(18, g)), "const bool[3] [0, 1, 1]"));
}
END_TEST

Suite *suite_onnx_import(void) {
    Suite *s = suite_create("onnx_import");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, optional_inputs_and_outputs);
    tcase_add_test(t, dims_become_symbols);
    tcase_add_test(t, initializers_as_inputs);
    tcase_add_test(t, regions_capture_values);
    tcase_add_test(t, nodes_are_sorted);
    tcase_add_test(t, constants_of_every_form);
    tcase_add_test(t, sparse_tensors_become_dense);
    tcase_add_test(t, functions_are_inlined);
    tcase_add_test(t, functions_call_functions);
    tcase_add_test(t, recursive_functions_are_refused);
    tcase_add_test(t, function_bombs_are_refused);
    tcase_add_test(t, foreign_files);
    tcase_add_test(t, truncated_files);
    tcase_add_test(t, deep_nesting_is_refused);
    tcase_add_test(t, all_unsupported_operators_are_listed);
    tcase_add_test(t, wrong_nodes);
    tcase_add_test(t, unknown_attributes_are_warned_of);
    tcase_add_test(t, wrong_tensors);
    tcase_add_test(t, external_data);
    tcase_add_test(t, memory_runs_out);
    tcase_add_test(t, bools_are_zero_or_one);
    suite_add_tcase(s, t);
    return s;
}
