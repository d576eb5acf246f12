/* Mistakes: every one is reported in one run, with the layer's name, what was found and what is accepted; what follows from
 * a mistake is not. */
#include "test_dsl.h"

#include <string.h>

static LatheModel *m;
static void setup(void) { m = lathe_model_new("test"); }
static void teardown(void) { lathe_model_free(m); }

/* A classifier for 3x100x100 images in which eight things are wrong. */
START_TEST(eight_mistakes_give_eight_diagnostics) {
    LatheValue x = image_input(m, 3, 100, 100);
    lathe_scope(m, "net");
    LatheValue h = lathe_relu(lathe_conv2d(x, 16, 3, "conv1", &(LatheConv){.in = 1}));             /* 1: images have 3 channels */
    h = lathe_max_pool2d(h, 120, NULL);                                                            /* 2: window over 120 of 98 pixels */
    h = lathe_conv2d(h, 32, 20, "conv2", &(LatheConv){.in = 16, .kernel_w = 1});                   /* 3: 20 rows of 1 */
    h = lathe_relu(lathe_conv2d(h, 32, 3, "conv3", &(LatheConv){.in = 16, .pad = 1}));             /* 4: conv2 gives 32 channels */
    h = lathe_dense_with(lathe_flatten(h, 1), 100, "hidden", &(LatheDense){.in = 3200});           /* 5: flattened, it has 32 */
    h = lathe_dense(lathe_softmax(h, -1), 10, "logits");                                           /* 6: softmax before a layer */
    h = lathe_dropout(h, 1.5);                                                                     /* 7: no such rate */
    lathe_end_scope(m);
    lathe_output("p", lathe_dropout(lathe_softmax(h, -1), 0.5));                                   /* 8: drops probabilities */
    if (diagnostics_of(m) != 8) lathe_print_diagnostics(m, stderr);
    ck_assert_uint_eq(diagnostics_of(m), 8);
    check_diagnostic(m, 0, LATHE_ERROR, "net/conv1", "in = 1, but dim 1 of its input f32[N,3,100,100] is 3");
    check_diagnostic(m, 1, LATHE_ERROR, "net/max_pool_1", "reaches over 120 elements");
    check_diagnostic(m, 2, LATHE_ERROR, "net/conv2", "reaches over 20 elements, dim 2 of its input f32[N,16,1,1] has 1");
    check_diagnostic(m, 3, LATHE_ERROR, "net/conv3", "in = 16, but dim 1 of its input f32[N,32,1,1] is 32");
    check_diagnostic(m, 4, LATHE_ERROR, "net/hidden", "in = 3200, but dim 1 of its input f32[N,32] is 32");
    check_diagnostic(m, 5, LATHE_WARNING, "net/logits", "softmax");
    check_diagnostic(m, 6, LATHE_ERROR, "net/dropout_1", "the rate is 1.5");
    check_diagnostic(m, 7, LATHE_WARNING, "", "dropout of a softmax");
    ck_assert_uint_eq(lathe_error_count(m), 6);
}
END_TEST

START_TEST(a_wrong_model_is_not_compiled) {
    lathe_output("y", lathe_dense_with(vector_input(m, 8), 4, "fc", &(LatheDense){.in = 9}));
    ck_assert_int_eq(lathe_compile(m, &(LatheOptions){.output = "wrong.c"}), LATHE_ERROR_MODEL);
    FILE *f = fopen("wrong.c", "rb");
    ck_assert_ptr_null(f);
}
END_TEST

START_TEST(shapes_that_do_not_broadcast) {
    LatheValue a = image_input(m, 3, 8, 8), b = lathe_param(m, "b", LATHE_F32, 1, (int64_t[]){5}, lathe_zeros());
    LatheValue y = lathe_relu(lathe_add(a, b));
    check_shape(y, "*,3,8,8");
    ck_assert_uint_eq(diagnostics_of(m), 1);
    check_diagnostic(m, 0, LATHE_ERROR, "add_1", "8 and 5");
}
END_TEST

START_TEST(null_values_are_silent) {
    LatheValue none = {0}, parts[2];
    LatheValue y = lathe_relu(lathe_dense(lathe_conv2d(none, 3, 3, "c", NULL), 10, "fc"));
    y = lathe_add(y, lathe_softmax(lathe_batchnorm(y, "bn", NULL), 1));
    lathe_split(y, 0, 2, parts);
    y = lathe_lstm(lathe_concat(2, parts, 0), 4, "l", NULL).sequence;
    y = lathe_attention(y, y, y, none, NULL);
    y = lathe_where(lathe_less(y, y), lathe_reduce(LATHE_REDUCE_SUM, y, 0, NULL, false), lathe_slice(y, 0, 0, 1, 1));
    lathe_output("y", lathe_one_hot(lathe_topk(y, 1, 0, NULL), 3, LATHE_F32));
    ck_assert(lathe_is_null(y));
    ck_assert_uint_eq(diagnostics_of(m), 0);
    ck_assert_uint_eq(lathe_output_count(m), 0);
}
END_TEST

START_TEST(ranks_are_told) {
    LatheValue x = vector_input(m, 8);
    ck_assert(lathe_is_null(lathe_conv2d(x, 3, 3, "conv", NULL)));
    ck_assert(lathe_is_null(lathe_max_pool2d(x, 2, NULL)));
    ck_assert(lathe_is_null(lathe_lstm(x, 4, "lstm", NULL).sequence));
    check_diagnostic(m, 0, LATHE_ERROR, "conv", "takes [N,C,H,W], its input is f32[N,8]");
    check_diagnostic(m, 1, LATHE_ERROR, "max_pool_1", "takes [N,C,H,W]");
    check_diagnostic(m, 2, LATHE_ERROR, "lstm", "takes [N,T,features]");
}
END_TEST

START_TEST(sizes_must_make_sense) {
    LatheValue x = image_input(m, 6, 8, 8);
    lathe_conv2d(x, 0, 3, "a", NULL);
    lathe_conv2d(x, 4, -1, "b", NULL);
    lathe_conv2d(x, 4, 3, "c", &(LatheConv){.groups = 4});
    lathe_conv2d(x, 4, 3, "d", &(LatheConv){.pad = -1});
    lathe_groupnorm(x, 4, "e", NULL);
    lathe_dense(x, -5, "f");
    lathe_embedding(x, 10, 10, "g", (LatheInit){0});
    lathe_dim(m, "M", 5, 2);
    ck_assert_uint_eq(diagnostics_of(m), 8);
    check_diagnostic(m, 0, LATHE_ERROR, "a", "the number of channels is 0");
    check_diagnostic(m, 2, LATHE_ERROR, "c", "groups = 4 must divide the 6 channels");
    check_diagnostic(m, 6, LATHE_ERROR, "g", "takes ids");
}
END_TEST

START_TEST(parameters_need_fixed_sizes) {
    LatheValue x = lathe_input(m, "x", LATHE_F32, 2, (LatheDim[]){lathe_const_dim(4), lathe_dim(m, "F", 1, 9)});
    ck_assert(lathe_is_null(lathe_dense(x, 3, "fc")));
    check_diagnostic(m, 0, LATHE_ERROR, "fc", "dim 1 of its input f32[4,F] must be a fixed size");
}
END_TEST

START_TEST(names_are_unique) {
    LatheValue x = vector_input(m, 8);
    lathe_dense(lathe_dense(x, 8, "fc"), 8, "fc");
    vector_input(m, 8);
    lathe_output("y", lathe_relu(x));
    lathe_output("y", lathe_tanh(x));
    ck_assert_uint_eq(diagnostics_of(m), 4);
    check_diagnostic(m, 0, LATHE_ERROR, "fc/weight", "a second parameter of this name");
    check_diagnostic(m, 2, LATHE_ERROR, "x", "a second input of this name");
    check_diagnostic(m, 3, LATHE_ERROR, "y", "a second output of this name");
}
END_TEST

START_TEST(models_do_not_mix) {
    LatheModel *other = lathe_model_new("other");
    LatheValue x = vector_input(m, 8), y = vector_input(other, 8);
    ck_assert(lathe_is_null(lathe_add(x, y)));
    check_diagnostic(m, 0, LATHE_ERROR, "add_1", "value of another model");
    lathe_model_free(other);
}
END_TEST

START_TEST(softmax_inside_attention_is_fine) {
    LatheValue x = image_input(m, 3, 8, 8);
    lathe_output("y", lathe_matmul(lathe_dropout(lathe_softmax(lathe_matmul(x, x), -1), 0.1), x));
    lathe_output("p", lathe_softmax(lathe_dense(x, 10, "fc"), -1));
    ck_assert_uint_eq(diagnostics_of(m), 0);
}
END_TEST

START_TEST(unknown_names_and_unpaired_scopes) {
    vector_input(m, 8);
    ck_assert(lathe_is_null(lathe_find(m, "nobody")));
    lathe_end_scope(m);
    ck_assert_uint_eq(diagnostics_of(m), 2);
}
END_TEST

TCase *dsl_mistakes_case(void) {
    TCase *c = tcase_create("mistakes");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, eight_mistakes_give_eight_diagnostics);
    tcase_add_test(c, a_wrong_model_is_not_compiled);
    tcase_add_test(c, shapes_that_do_not_broadcast);
    tcase_add_test(c, null_values_are_silent);
    tcase_add_test(c, ranks_are_told);
    tcase_add_test(c, sizes_must_make_sense);
    tcase_add_test(c, parameters_need_fixed_sizes);
    tcase_add_test(c, names_are_unique);
    tcase_add_test(c, models_do_not_mix);
    tcase_add_test(c, softmax_inside_attention_is_fine);
    tcase_add_test(c, unknown_names_and_unpaired_scopes);
    return c;
}
