/* The invariants of ir/verify.c that text cannot break: each test breaks one in memory. The others: tests/ir/verify_*. */
#include <stdio.h>

#include "unit.h"

static Module *m;
static Value *x;
static Node *a, *b;

/* main: a = Relu(x); b = If(x) {then: c = Exp(a), else: a}; output b */
static void setup(void) {
    context_setup();
    m = module_new(&cx, "m");
    x = graph_add_input(m, m->main, NULL, str_intern(&cx, "x"));
    a = node_new(m, m->main, NULL, OP_Relu, 1, &x, 1);
    b = node_new(m, m->main, NULL, OP_If, 1, &x, 1);
    Graph *g = graph_new(m, m->main, "then"), *h = graph_new(m, m->main, "else");
    Node *c = node_new(m, g, NULL, OP_Exp, 1, a->out, 1);
    graph_add_output(m, g, c->out[0]);
    graph_add_output(m, h, a->out[0]);
    attr_set_graph(b, AT_If_then_branch, g);
    attr_set_graph(b, AT_If_else_branch, h);
    graph_add_output(m, m->main, b->out[0]);
}

static void must_fail(int invariant) {
    char form[32];
    snprintf(form, sizeof form, "IR invariant %d:", invariant);
    ck_assert(!module_verify(m));
    Writer w = {.arena = &cx.arena};
    diag_print(&cx, &w);
    ck_assert_msg(strstr(cw_cstr(&w), form) != NULL, "%s expected, found:\n%s", form, cw_cstr(&w));
}

START_TEST(sound) { ck_assert(module_verify(m)); }
END_TEST

START_TEST(link_back) { b->prev = NULL; must_fail(1); }
END_TEST

START_TEST(last_node) { m->main->last = a; must_fail(1); }
END_TEST

START_TEST(graph_of_node) { a->graph = attr_at(b, AT_If_then_branch)->graph; must_fail(1); }
END_TEST

START_TEST(circle) { b->next = a; must_fail(1); }
END_TEST

START_TEST(outer_graph) { attr_at(b, AT_If_then_branch)->graph->outer = NULL; must_fail(2); }
END_TEST

START_TEST(shared_region) { attr_at(b, AT_If_else_branch)->graph = attr_at(b, AT_If_then_branch)->graph; must_fail(2); }
END_TEST

START_TEST(attribute_without_value) { attr_at(b, AT_If_then_branch)->graph = NULL; must_fail(4); }
END_TEST

START_TEST(attribute_slots) { a->n_attr = 1; must_fail(4); }
END_TEST

START_TEST(output_of_another) { a->out[0]->def = b; must_fail(5); }
END_TEST

START_TEST(output_place) { a->out[0]->def_out = 1; must_fail(5); }
END_TEST

START_TEST(output_with_data) {
    static const ConstData data = {.data = "", .bytes = 0};
    a->out[0]->data = &data;
    must_fail(5);
}
END_TEST

START_TEST(two_definitions) { graph_adopt_input(m, attr_at(b, AT_If_then_branch)->graph, a->out[0]); must_fail(7); }
END_TEST

START_TEST(input_twice) { graph_adopt_input(m, m->main, x); must_fail(7); }
END_TEST

START_TEST(output_missing) { m->main->out[0] = NULL; must_fail(8); }
END_TEST

START_TEST(constant_size) {
    Value *c = value_const_i64(m, 2, (int64_t[]){1, 2});
    Dim three = dim_const(&cx, 3);
    c->type = type_tensor(&cx, DT_I64, 1, &three);
    a->in[0] = c;
    must_fail(11);
}
END_TEST

START_TEST(constant_type) {
    Value *c = value_const_i64(m, 2, (int64_t[]){1, 2});
    c->type = NULL;
    a->in[0] = c;
    must_fail(11);
}
END_TEST

START_TEST(value_id) { a->out[0]->id = m->n_value; must_fail(14); }
END_TEST

START_TEST(value_ids_collide) { b->out[0]->id = a->out[0]->id; must_fail(14); }
END_TEST

START_TEST(node_ids_collide) { b->id = a->id; must_fail(14); }
END_TEST

START_TEST(bad_operator) { a->op = OP_COUNT; must_fail(14); }
END_TEST

Suite *suite_verify(void) {
    Suite *s = suite_create("verify");
    TCase *t = tcase_create("verify");
    tcase_add_checked_fixture(t, setup, context_teardown);
    suite_add_tcase(s, t);
    tcase_add_test(t, sound);
    tcase_add_test(t, link_back);
    tcase_add_test(t, last_node);
    tcase_add_test(t, graph_of_node);
    tcase_add_test(t, circle);
    tcase_add_test(t, outer_graph);
    tcase_add_test(t, shared_region);
    tcase_add_test(t, attribute_without_value);
    tcase_add_test(t, attribute_slots);
    tcase_add_test(t, output_of_another);
    tcase_add_test(t, output_place);
    tcase_add_test(t, output_with_data);
    tcase_add_test(t, two_definitions);
    tcase_add_test(t, input_twice);
    tcase_add_test(t, output_missing);
    tcase_add_test(t, constant_size);
    tcase_add_test(t, constant_type);
    tcase_add_test(t, value_id);
    tcase_add_test(t, value_ids_collide);
    tcase_add_test(t, node_ids_collide);
    tcase_add_test(t, bad_operator);
    return s;
}
