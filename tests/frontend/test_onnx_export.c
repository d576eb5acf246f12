/* frontend/onnx_export.c: what is written reads back as the same graph. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frontend/onnx_export.h"
#include "onnx_bytes.h"

static Context cx, other; /* other: what is read back, so that symbols and names start afresh */
static jmp_buf escape;

static void setup(void) {
    context_init(&cx);
    context_init(&other);
    cx.escape = other.escape = &escape;
}

static void teardown(void) {
    context_free(&cx);
    context_free(&other);
}

static const char *graph_text(Module *m) {
    Writer w = {.arena = &m->cx->arena};
    module_print(m, &w);
    return strstr(cw_cstr(&w), "graph @");
}

static Module *imported(Bytes bytes) {
    Module *m = module_new(&cx, "m");
    write_file(temp_path("in.onnx"), bytes.v, bytes.n);
    ck_assert(onnx_import(m, temp_path("in.onnx")));
    unlink(temp_path("in.onnx"));
    for (uint32_t i = 0; i < m->main->n_out; i++)
        if (m->main->out[i]->type == NULL) m->main->out[i]->type = type_tensor(&cx, DT_F32, RANK_UNKNOWN, NULL);
    return m;
}

static Module *exported_and_read(Module *m) {
    Module *again = module_new(&other, "m");
    ck_assert(onnx_export(m, temp_path("out.onnx")));
    ck_assert(onnx_import(again, temp_path("out.onnx")));
    unlink(temp_path("out.onnx"));
    return again;
}

/* Types are written for the inputs and outputs of the model only: they are cut off. */
static void expect_same(Bytes bytes) {
    Module *m = imported(bytes), *again = exported_and_read(m);
    for (uint32_t i = 0; i < m->main->n_out; i++)
        if (m->main->out[i]->data == NULL && m->main->out[i]->def != NULL) m->main->out[i]->type = NULL;
    for (uint32_t i = 0; i < again->main->n_out; i++) again->main->out[i]->declared = NULL;
    ck_assert_str_eq(graph_text(m), graph_text(again));
}

START_TEST(nodes_attributes_constants) {
    Bytes g = graph("x:fN,3,4,4", "y i"), w = tensor("w", 1, "2 3 1 1"), n = node("Conv", "x w", "c");
    put_data(&w, 9, (float[]){1, 2, 3, 4, 5, 6}, 24);
    add_initializer(&g, w);
    attr_ints(&n, "pads", "1 1 1 1");
    attr_text(&n, "auto_pad", "NOTSET");
    add_node(&g, n);
    n = node("LeakyRelu", "c", "y");
    attr_float(&n, "alpha", 0.3f);
    add_node(&g, n);
    n = node("ArgMax", "y", "i");
    attr_int(&n, "axis", 1);
    add_node(&g, n);
    expect_same(model(18, g));
}
END_TEST

START_TEST(regions) {
    Bytes g = graph("c:b x:f2", "y"), then_g = graph("", "t"), else_g = graph("", "e"), n = node("If", "c", "y");
    add_node(&then_g, node("Neg", "x", "t"));
    add_node(&else_g, node("Abs", "r", "e"));
    attr_graph(&n, "then_branch", then_g);
    attr_graph(&n, "else_branch", else_g);
    add_node(&g, node("Relu", "x", "r"));
    add_node(&g, n);
    expect_same(model(18, g));
}
END_TEST

/* An output that is an input, a constant, or another output's value is copied: ONNX wants each computed once. */
START_TEST(outputs_that_nobody_computes) {
    Bytes g = graph("x:f2", "x w a"), w = tensor("w", 1, "2");
    put_data(&w, 9, (float[]){1, 2}, 8);
    add_initializer(&g, w);
    add_node(&g, node("Neg", "x", "a"));
    Module *again = exported_and_read(imported(model(18, g)));
    ck_assert_uint_eq(again->main->n_out, 3);
    ck_assert_str_eq(str_text(&other, again->main->out[1]->name), "w");
    ck_assert_str_eq(str_text(&other, again->main->out[2]->name), "a");
    ck_assert_int_eq(again->main->out[0]->def->op, OP_Identity);
}
END_TEST

/* Two values of one name, as cloned regions give them. */
START_TEST(names_are_unique) {
    Module *m = imported(({
        Bytes g = graph("x:f2", "y");
        add_node(&g, node("Neg", "x", "a"));
        add_node(&g, node("Abs", "a", "b"));
        add_node(&g, node("Relu", "b", "y"));
        model(18, g);
    }));
    Value *a = m->main->first->out[0], *b = m->main->first->next->out[0];
    b->name = a->name;
    a = exported_and_read(m)->main->first->out[0];
    b = a->def->next->out[0];
    ck_assert_uint_ne(a->name, b->name);
}
END_TEST

START_TEST(fused_bodies_are_flattened) {
    Module *m = module_new(&cx, "m");
    Dim two = dim_const(&cx, 2);
    const Type *f = type_tensor(&cx, DT_F32, 1, &two);
    Value *x = graph_add_input(m, m->main, f, str_intern(&cx, "x"));
    Graph *body = graph_new(m, m->main, "body");
    Value *p = graph_add_input(m, body, f, 0);
    Node *neg = node_new(m, body, NULL, OP_Neg, 1, &p, 1);
    Node *abs = node_new(m, body, NULL, OP_Abs, 1, neg->out, 1);
    graph_add_output(m, body, abs->out[0]);
    Node *fused = node_new(m, m->main, NULL, OP_Fused, 1, &x, 1);
    attr_set_graph(fused, AT_Fused_body, body);
    fused->out[0]->type = f;
    fused->out[0]->name = str_intern(&cx, "y");
    graph_add_output(m, m->main, fused->out[0]);
    Module *again = exported_and_read(m);
    Node *first = again->main->first;
    ck_assert(first->op == OP_Neg && first->next->op == OP_Abs && first->next->next == NULL);
    ck_assert_str_eq(str_text(&other, again->main->out[0]->name), "y");
}
END_TEST

/* Large weights stand beside the model, at pages; what is small stays inside. */
START_TEST(weights_in_a_file_of_their_own) {
    Bytes g = graph("x:f300", "y"), w = tensor("w", 1, "300"), u = tensor("u", 1, "300"), b = tensor("b", 1, "1");
    float data[300];
    for (int i = 0; i < 300; i++) data[i] = (float)i;
    put_data(&w, 9, data, sizeof data);
    put_data(&u, 9, data, sizeof data);
    put_data(&b, 9, data, 4);
    add_initializer(&g, w);
    add_initializer(&g, u);
    add_initializer(&g, b);
    add_node(&g, node("Sum", "x w u b", "y"));
    ck_assert(export_model(imported(model(18, g)), temp_path("out.onnx"), 1000));
    struct stat info;
    ck_assert_int_eq(stat(temp_path("out.onnx.data"), &info), 0);
    ck_assert_int_eq(info.st_size, 4096 + 1200);
    Module *again = module_new(&other, "m");
    ck_assert(onnx_import(again, temp_path("out.onnx")));
    Value *const *in = again->main->first->in;
    ck_assert(const_f64(in[1], 299) == 299 && const_f64(in[2], 299) == 299 && const_f64(in[3], 0) == 0);
    unlink(temp_path("out.onnx"));
    unlink(temp_path("out.onnx.data"));
}
END_TEST

START_TEST(failures_leave_no_file) {
    Module *m = imported(({
        Bytes g = graph("x:f2", "y");
        add_node(&g, node("Neg", "x", "y"));
        model(18, g);
    }));
    ck_assert(!onnx_export(m, temp_path("no/such/folder/out.onnx")));
    m->main->out[0]->type = m->main->out[0]->declared = NULL;
    ck_assert(!onnx_export(m, temp_path("out.onnx")));
    ck_assert_int_ne(access(temp_path("out.onnx"), F_OK), 0);
    ck_assert_uint_eq(cx.n_error, 2);
}
END_TEST

Suite *suite_onnx_export(void) {
    Suite *s = suite_create("onnx_export");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, nodes_attributes_constants);
    tcase_add_test(t, regions);
    tcase_add_test(t, outputs_that_nobody_computes);
    tcase_add_test(t, names_are_unique);
    tcase_add_test(t, fused_bodies_are_flattened);
    tcase_add_test(t, weights_in_a_file_of_their_own);
    tcase_add_test(t, failures_leave_no_file);
    suite_add_tcase(s, t);
    return s;
}
