/* Editing graphs: building, moving, cloning, replacing, counting uses. */
#include "unit.h"

static Module *m;
static Value *x;

static Node *node(Graph *g, Node *at, Op op, Value *in) { return node_new(m, g, at, op, 1, &in, 1); }

static void setup(void) {
    context_setup();
    m = module_new(&cx, "m");
    Dim d = dim_const(&cx, 4);
    x = graph_add_input(m, m->main, type_tensor(&cx, DT_F32, 1, &d), str_intern(&cx, "x"));
}

/* Operators of the main graph in order, as text. */
static const char *order(void) {
    Writer w = {.arena = &cx.scratch};
    const Node *prev = NULL;
    for (const Node *n = m->main->first; n != NULL; prev = n, n = n->next) {
        ck_assert_ptr_eq(n->prev, prev);
        ck_assert_ptr_eq(n->graph, m->main);
        cw_printf(&w, "%s%s", prev != NULL ? " " : "", op_name(n->op));
    }
    ck_assert_ptr_eq(m->main->last, prev);
    return cw_cstr(&w);
}

START_TEST(nodes_keep_their_order) {
    Node *a = node(m->main, NULL, OP_Relu, x), *b = node(m->main, NULL, OP_Abs, a->out[0]);
    ck_assert_str_eq(order(), "Relu Abs");
    node(m->main, a, OP_Neg, x);
    node(m->main, b, OP_Exp, x);
    ck_assert_str_eq(order(), "Neg Relu Exp Abs");
    node_move_before(b, m->main->first);
    ck_assert_str_eq(order(), "Abs Neg Relu Exp");
    node_move_before(m->main->first, a); /* over a neighbour */
    ck_assert_str_eq(order(), "Neg Abs Relu Exp");
    node_remove(m->main->last);
    node_remove(m->main->first);
    ck_assert_str_eq(order(), "Abs Relu");
    node_remove(a);
    node_remove(b);
    ck_assert_str_eq(order(), "");
    ck_assert_ptr_null(m->main->first);
}
END_TEST

START_TEST(defaults_are_set) {
    Node *n = node(m->main, NULL, OP_Softmax, x);
    ck_assert(attr_has(n, AT_Softmax_axis));
    ck_assert_int_eq(attr_i(n, AT_Softmax_axis), -1);
    Node *r = node(m->main, NULL, OP_RNN, x);
    ck_assert_uint_eq(attr_at(r, AT_RNN_activations)->strings.n, 2);
    ck_assert_str_eq(str_text(&cx, attr_at(r, AT_RNN_activations)->strings.v[1]), "Tanh");
    ck_assert(!attr_has(r, AT_RNN_clip));
    Node *v = node(m->main, NULL, OP_MeanVarianceNormalization, x);
    ck_assert_uint_eq(attr_at(v, AT_MeanVarianceNormalization_axes)->ints.n, 3);
    ck_assert_int_eq(attr_at(v, AT_MeanVarianceNormalization_axes)->ints.v[2], 3);
}
END_TEST

START_TEST(attributes_compare_by_contents) {
    Node *a = node(m->main, NULL, OP_Transpose, x), *b = node(m->main, NULL, OP_Transpose, x);
    ck_assert(attr_equal(&a->attr[0], &b->attr[0], ATTR_INTS));
    attr_set_ints(&cx, a, AT_Transpose_perm, (int64_t[]){1, 0}, 2);
    ck_assert(!attr_equal(&a->attr[0], &b->attr[0], ATTR_INTS));
    attr_set_ints(&cx, b, AT_Transpose_perm, (int64_t[]){1, 0}, 2);
    ck_assert(attr_equal(&a->attr[0], &b->attr[0], ATTR_INTS));
    Attr zero = {.present = true, .f = 0.0}, minus = {.present = true, .f = -0.0};
    ck_assert(!attr_equal(&zero, &minus, ATTR_FLOAT));
}
END_TEST

START_TEST(uses_are_counted_in_regions_too) {
    Node *a = node(m->main, NULL, OP_Relu, x), *branch = node(m->main, NULL, OP_If, x);
    Graph *g = graph_new(m, m->main, "then");
    Node *inner = node(g, NULL, OP_Exp, a->out[0]);
    graph_add_output(m, g, inner->out[0]);
    graph_add_output(m, g, a->out[0]);
    attr_set_graph(branch, AT_If_then_branch, g);
    graph_add_output(m, m->main, a->out[0]);
    const uint32_t *count = module_use_counts(m);
    ck_assert_uint_eq(count[a->out[0]->id], 3);
    ck_assert_uint_eq(count[x->id], 2);
    ck_assert_uint_eq(count[inner->out[0]->id], 1);
    Uses uses = module_uses(m);
    uint32_t first = uses.first[a->out[0]->id], nodes = 0, outputs = 0;
    ck_assert_uint_eq(uses.first[a->out[0]->id + 1] - first, 3);
    for (uint32_t i = 0; i < 3; i++) {
        nodes += uses.use[first + i].node == inner;
        outputs += uses.use[first + i].node == NULL;
    }
    ck_assert_uint_eq(nodes, 1);
    ck_assert_uint_eq(outputs, 2);
}
END_TEST

START_TEST(replacing_reaches_every_reader) {
    Node *a = node(m->main, NULL, OP_Relu, x), *b = node(m->main, NULL, OP_Abs, x), *c = node(m->main, NULL, OP_Exp, a->out[0]);
    graph_add_output(m, m->main, a->out[0]);
    a->out[0]->name = str_intern(&cx, "y");
    value_replace(m, a->out[0], b->out[0]);
    ck_assert_ptr_eq(c->in[0], b->out[0]);
    ck_assert_ptr_eq(m->main->out[0], b->out[0]);
    ck_assert_str_eq(str_text(&cx, b->out[0]->name), "y");
    Value **map = ARENA_ARRAY(&cx.scratch, Value *, m->n_value);
    map[b->out[0]->id] = x;
    values_replace(m, map);
    ck_assert_ptr_eq(c->in[0], x);
    ck_assert_ptr_eq(m->main->out[0], x);
}
END_TEST

START_TEST(clones_share_nothing_but_what_they_capture) {
    Node *a = node(m->main, NULL, OP_Relu, x);
    Graph *g = graph_new(m, m->main, "body");
    Value *in = graph_add_input(m, g, x->type, str_intern(&cx, "i"));
    Node *sum = node_new(m, g, NULL, OP_Add, 2, (Value *[]){in, a->out[0]}, 1);
    graph_add_output(m, g, sum->out[0]);
    Graph *copy = graph_clone(m, g, m->main, NULL);
    ck_assert_ptr_ne(copy->first, sum);
    ck_assert_ptr_eq(copy->first->in[0], copy->in[0]);
    ck_assert_ptr_ne(copy->in[0], in);
    ck_assert_ptr_eq(copy->first->in[1], a->out[0]);
    ck_assert_ptr_eq(copy->out[0], copy->first->out[0]);
    ck_assert_ptr_eq(copy->out[0]->def, copy->first);
    Graph *inlined = graph_clone(m, g, m->main, &x); /* x in place of the input */
    ck_assert_ptr_eq(inlined->first->in[0], x);
    ck_assert_uint_eq(inlined->n_in, 0);
}
END_TEST

START_TEST(constants_hold_their_elements) {
    Value *v = value_const_i64(m, 3, (int64_t[]){1, -2, 3});
    ck_assert_int_eq(const_i64(v, 1), -2);
    uint32_t n;
    const Dim *d = value_dims(m, v, &n);
    ck_assert_uint_eq(n, 3);
    ck_assert_int_eq(dim_value(&cx, d[2]), 3);
    ck_assert_double_eq(const_f64(value_const_scalar(m, DT_F16, 0.1), 0), 0.0999755859375);
    ck_assert_double_eq(const_f64(value_const_scalar(m, DT_I4, -8), 0), -8);
    ck_assert_int_eq(const_i64(value_const_scalar(m, DT_U8, 300), 0), 255);
    ck_assert_ptr_null(value_dims(m, x, &n));
}
END_TEST

START_TEST(operators_are_found_by_domain) {
    ck_assert_int_eq(op_find(DOMAIN_ONNX, "Gelu"), OP_Gelu);
    ck_assert_int_eq(op_find(DOMAIN_MICROSOFT, "Gelu"), OP_Ms_Gelu);
    ck_assert_int_eq(op_find(DOMAIN_ONNX, "Fused"), OP_NONE);
    ck_assert_str_eq(op_name(OP_Ms_Gelu), "Gelu");
    for (int op = 1; op < OP_COUNT; op++) {
        const OpInfo *o = op_info((Op)op);
        ck_assert_int_eq(op_find(o->domain, op_name((Op)op)), op);
        ck_assert_msg(o->in_min <= o->in_max && o->out_min <= o->out_max, "%s: limits", o->name);
        for (uint32_t i = 0; i < op_attr_count((Op)op); i++) { /* defaults parse */
            Attr a = attr_default(&cx, (AttrSlot)(o->attr_first + i));
            const AttrInfo *info = attr_info((AttrSlot)(o->attr_first + i));
            ck_assert_int_eq(a.present, info->def[0] != 0 && info->def[0] != '!');
        }
    }
}
END_TEST

Suite *suite_graph(void) {
    Suite *s = suite_create("graph");
    TCase *t = tcase_create("graph");
    tcase_add_checked_fixture(t, setup, context_teardown);
    suite_add_tcase(s, t);
    tcase_add_test(t, nodes_keep_their_order);
    tcase_add_test(t, defaults_are_set);
    tcase_add_test(t, attributes_compare_by_contents);
    tcase_add_test(t, uses_are_counted_in_regions_too);
    tcase_add_test(t, replacing_reaches_every_reader);
    tcase_add_test(t, clones_share_nothing_but_what_they_capture);
    tcase_add_test(t, constants_hold_their_elements);
    tcase_add_test(t, operators_are_found_by_domain);
    return s;
}
