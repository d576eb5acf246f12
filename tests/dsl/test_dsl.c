/* What the layers of the C DSL infer: shapes and types of results, names and shapes of parameters. */
#include "test_dsl.h"

#include <stdlib.h>
#include <string.h>

void check_shape(LatheValue v, const char *text) {
    char found[256] = "";
    ck_assert_msg(!lathe_is_null(v), "a null value instead of [%s]", text);
    for (uint32_t i = 0; i < lathe_rank(v); i++) {
        char part[32];
        int64_t n = lathe_size_of(v, i);
        if (n >= 0) snprintf(part, sizeof part, "%s%lld", i != 0 ? "," : "", (long long)n);
        else snprintf(part, sizeof part, "%s*", i != 0 ? "," : "");
        strcat(found, part);
    }
    ck_assert_str_eq(found, text);
}

uint32_t diagnostics_of(const LatheModel *m) {
    LatheDiagnostic d;
    uint32_t n = 0;
    for (uint32_t i = 0; lathe_diagnostic(m, i, &d); i++) n += d.severity != LATHE_NOTE;
    return n;
}

void check_diagnostic(const LatheModel *m, uint32_t k, LatheSeverity severity, const char *layer, const char *part) {
    LatheDiagnostic d;
    for (uint32_t i = 0; lathe_diagnostic(m, i, &d); i++) {
        if (d.severity == LATHE_NOTE || k-- != 0) continue;
        ck_assert_msg(d.severity == severity, "severity %d of \"%s\"", (int)d.severity, d.message);
        ck_assert_str_eq(d.layer, layer);
        ck_assert_msg(strstr(d.message, part) != NULL, "\"%s\" does not hold \"%s\"", d.message, part);
        return;
    }
    ck_abort_msg("no such diagnostic");
}

LatheValue image_input(LatheModel *m, int64_t channels, int64_t height, int64_t width) {
    LatheDim dims[] = {lathe_dim(m, "N", 1, 64), lathe_const_dim(channels), lathe_const_dim(height), lathe_const_dim(width)};
    return lathe_input(m, "x", LATHE_F32, 4, dims);
}

LatheValue vector_input(LatheModel *m, int64_t features) {
    return lathe_input(m, "x", LATHE_F32, 2, (LatheDim[]){lathe_dim(m, "N", 1, 64), lathe_const_dim(features)});
}

LatheValue sequence_input(LatheModel *m, int64_t features) {
    LatheDim dims[] = {lathe_dim(m, "N", 1, 8), lathe_dim(m, "T", 1, 32), lathe_const_dim(features)};
    return lathe_input(m, "x", LATHE_F32, 3, dims);
}

static LatheModel *m;

static void setup(void) {
    m = lathe_model_new("test");
    ck_assert_ptr_nonnull(m);
}

static void teardown(void) {
    if (diagnostics_of(m) != 0) lathe_print_diagnostics(m, stderr);
    ck_assert_uint_eq(diagnostics_of(m), 0);
    lathe_model_free(m);
}

static void check_param(uint32_t i, const char *name, const char *shape) {
    LatheParam p;
    ck_assert(lathe_param_at(m, i, &p));
    ck_assert_str_eq(p.info.name, name);
    check_shape(p.value, shape);
}

START_TEST(dense_makes_weight_and_bias) {
    LatheValue y = lathe_dense(vector_input(m, 784), 10, "fc1");
    check_shape(y, "*,10");
    ck_assert_int_eq(lathe_dtype(y), LATHE_F32);
    check_param(0, "fc1/weight", "784,10");
    check_param(1, "fc1/bias", "10");
}
END_TEST

START_TEST(dense_acts_on_the_last_dim) {
    check_shape(lathe_dense(sequence_input(m, 16), 4, "fc"), "*,*,4");
    LatheParam p;
    check_shape(lathe_dense_with(lathe_find(m, "x"), 3, "free", &(LatheDense){.no_bias = true}), "*,*,3");
    check_param(2, "free/weight", "16,3");
    ck_assert(!lathe_param_at(m, 3, &p));
}
END_TEST

START_TEST(convolutions) {
    LatheValue x = image_input(m, 3, 32, 32);
    check_shape(lathe_conv2d(x, 10, 3, "a", NULL), "*,10,30,30");
    check_shape(lathe_conv2d(x, 10, 3, "b", &(LatheConv){.pad = 1, .stride = 2}), "*,10,16,16");
    check_shape(lathe_conv2d(x, 6, 5, "c", &(LatheConv){.groups = 3, .kernel_w = 1, .dilation = 2}), "*,6,24,32");
    check_shape(lathe_conv2d(x, 4, 3, "d", &(LatheConv){.same = true, .stride = 2, .no_bias = true}), "*,4,16,16");
    check_shape(lathe_conv2d(x, 4, 3, "e", &(LatheConv){.pads = {1, 0, 0, 0}}), "*,4,31,30");
    check_shape(lathe_conv_transpose2d(x, 8, 4, "t", &(LatheConv){.stride = 2, .pad = 1}), "*,8,64,64");
    check_shape(lathe_conv_transpose2d(x, 8, 3, "u", &(LatheConv){.stride = 2, .pad = 1, .output_pad = 1}), "*,8,64,64");
    check_param(4, "c/weight", "6,1,5,1");
    check_param(6, "d/weight", "4,3,3,3");
    check_param(9, "t/weight", "3,8,4,4");
}
END_TEST

START_TEST(convolution_in_one_dim) {
    LatheValue x = lathe_transpose(sequence_input(m, 16), (int64_t[]){0, 2, 1});
    check_shape(lathe_conv1d(x, 8, 3, "c", &(LatheConv){.pad = 1}), "*,8,*");
    check_param(0, "c/weight", "8,16,3");
}
END_TEST

START_TEST(pools) {
    LatheValue x = image_input(m, 3, 32, 30);
    check_shape(lathe_max_pool2d(x, 2, NULL), "*,3,16,15");
    check_shape(lathe_max_pool2d(x, 3, &(LathePool){.stride = 2, .pad = 1}), "*,3,16,15");
    check_shape(lathe_avg_pool2d(x, 4, &(LathePool){.kernel_w = 3}), "*,3,8,10");
    check_shape(lathe_global_avg_pool(x), "*,3");
    check_shape(lathe_global_max_pool(x), "*,3");
}
END_TEST

START_TEST(normalisations) {
    LatheValue x = image_input(m, 6, 8, 8);
    check_shape(lathe_batchnorm(x, "bn", NULL), "*,6,8,8");
    check_shape(lathe_groupnorm(x, 3, "gn", NULL), "*,6,8,8");
    check_shape(lathe_instancenorm(x, "in", NULL), "*,6,8,8");
    check_shape(lathe_layernorm(x, "ln", &(LatheNorm){.epsilon = 1e-6}), "*,6,8,8");
    check_shape(lathe_rmsnorm(x, "rms", NULL), "*,6,8,8");
    check_param(2, "bn/mean", "6");
    check_param(8, "ln/scale", "8");
}
END_TEST

START_TEST(elementwise_and_broadcast) {
    LatheValue x = image_input(m, 3, 4, 5), row = lathe_param(m, "row", LATHE_F32, 1, (int64_t[]){5}, lathe_ones());
    check_shape(lathe_add(x, row), "*,3,4,5");
    LatheValue same[] = {
        lathe_relu(x), lathe_relu6(x), lathe_leaky_relu(x, 0.1), lathe_elu(x, 1), lathe_selu(x), lathe_gelu(x), lathe_gelu_tanh(x), lathe_silu(x),
        lathe_mish(x), lathe_sigmoid(x), lathe_hard_sigmoid(x), lathe_hard_swish(x), lathe_softplus(x), lathe_softsign(x), lathe_tanh(x), lathe_erf(x),
        lathe_exp(x), lathe_expm1(x), lathe_log(x), lathe_log1p(x), lathe_sqrt(x), lathe_rsqrt(x), lathe_reciprocal(x), lathe_square(x), lathe_abs(x),
        lathe_neg(x), lathe_sign(x), lathe_sin(x), lathe_cos(x), lathe_tan(x), lathe_floor(x), lathe_ceil(x), lathe_round(x), lathe_clip(x, -1, 1),
        lathe_sub(x, x), lathe_mul(x, row), lathe_div(x, row), lathe_pow(x, row), lathe_mod(x, row), lathe_min(x, row), lathe_max(x, row),
        lathe_softmax(x, 1), lathe_log_softmax(x, -1), lathe_dropout(x, 0.5), lathe_where(lathe_less(x, row), x, row), lathe_cumsum(x, 2),
        lathe_triangle(x, true, 1),
    };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        check_shape(same[i], "*,3,4,5");
        ck_assert_int_eq(lathe_dtype(same[i]), LATHE_F32);
    }
    LatheValue truth[] = {lathe_equal(x, row), lathe_not_equal(x, row), lathe_less(x, row), lathe_less_equal(x, row), lathe_greater(x, row), lathe_greater_equal(x, row)};
    for (size_t i = 0; i < sizeof truth / sizeof *truth; i++) ck_assert_int_eq(lathe_dtype(truth[i]), LATHE_BOOL);
    ck_assert_int_eq(lathe_dtype(lathe_and(truth[0], lathe_xor(truth[1], lathe_or(truth[2], lathe_not(truth[3]))))), LATHE_BOOL);
    ck_assert_int_eq(lathe_dtype(lathe_cast(x, LATHE_I32)), LATHE_I32);
}
END_TEST

START_TEST(reductions) {
    LatheValue x = image_input(m, 3, 4, 5), indices;
    check_shape(lathe_sum(x, 1, false), "*,4,5");
    check_shape(lathe_mean(x, -1, true), "*,3,4,1");
    check_shape(lathe_variance(x, 2, false), "*,3,5");
    check_shape(lathe_reduce(LATHE_REDUCE_MAX, x, 2, (int64_t[]){2, 3}, false), "*,3");
    check_shape(lathe_reduce(LATHE_REDUCE_LOG_SUM_EXP, x, 0, NULL, false), "");
    ck_assert_int_eq(lathe_dtype(lathe_argmax(x, 1, false)), LATHE_I64);
    check_shape(lathe_argmin(x, 3, true), "*,3,4,1");
    check_shape(lathe_topk(x, 2, -1, &indices), "*,3,4,2");
    check_shape(indices, "*,3,4,2");
    ck_assert_int_eq(lathe_dtype(indices), LATHE_I64);
}
END_TEST

START_TEST(shapes_and_movement) {
    LatheValue x = image_input(m, 4, 6, 8), parts[3];
    check_shape(lathe_reshape(x, 3, (int64_t[]){0, -1, 8}), "*,24,8");
    check_shape(lathe_flatten(x, 1), "*,192");
    check_shape(lathe_transpose(x, (int64_t[]){0, 2, 3, 1}), "*,6,8,4");
    check_shape(lathe_unsqueeze(x, 0), "1,*,4,6,8");
    check_shape(lathe_squeeze(lathe_unsqueeze(x, 2), 2), "*,4,6,8");
    check_shape(lathe_concat(2, (LatheValue[]){x, x}, 1), "*,8,6,8");
    check_shape(lathe_stack(2, (LatheValue[]){x, x}, 1), "*,2,4,6,8");
    check_shape(lathe_slice(x, 3, 1, -1, 2), "*,4,6,3");
    check_shape(lathe_pad(x, (int64_t[]){0, 0, 1, 2, 0, 0, 3, 4}, LATHE_PAD_REFLECT, 0), "*,4,10,14");
    check_shape(lathe_tile(x, (int64_t[]){1, 2, 1, 3}), "*,8,6,24");
    check_shape(lathe_upsample2d(x, 2, false), "*,4,12,16");
    check_shape(lathe_upsample2d(x, 3, true), "*,4,18,24");
    check_shape(lathe_matmul(x, lathe_transpose(x, (int64_t[]){0, 1, 3, 2})), "*,4,6,6");
    lathe_split(x, 2, 3, parts);
    check_shape(parts[2], "*,4,2,8");
    lathe_split_sizes(x, 3, 2, (int64_t[]){3, 5}, parts);
    check_shape(parts[1], "*,4,6,5");
    int64_t id = 2;
    LatheValue ids = lathe_const(m, LATHE_I64, 1, (int64_t[]){1}, &id);
    check_shape(lathe_gather(x, ids, 2), "*,4,1,8");
    check_shape(lathe_positions(x, -2), "6");
    check_shape(lathe_positions(x, 0), "*");
    check_shape(lathe_one_hot(ids, 7, LATHE_F32), "1,7");
    check_shape(lathe_expand(ids, 2, (int64_t[]){5, 1}), "5,1");
}
END_TEST

START_TEST(sequences) {
    LatheValue x = sequence_input(m, 16);
    LatheSequence s = lathe_lstm(x, 32, "lstm", &(LatheRecurrence){.bidirectional = true});
    check_shape(s.sequence, "*,*,64");
    check_shape(s.h, "*,64");
    check_shape(s.c, "*,64");
    check_param(0, "lstm/weight", "2,128,16");
    check_param(2, "lstm/bias", "2,256");
    s = lathe_gru(x, 8, "gru", NULL);
    check_shape(s.sequence, "*,*,8");
    ck_assert(lathe_is_null(s.c));
    check_shape(lathe_rnn(x, 8, "rnn", NULL).h, "*,8");
    LatheValue ids = lathe_input(m, "ids", LATHE_I64, 2, (LatheDim[]){lathe_dim(m, "N", 1, 8), lathe_dim(m, "T", 1, 32)});
    check_shape(lathe_embedding(ids, 100, 16, "words", (LatheInit){0}), "*,*,16");
}
END_TEST

START_TEST(attention) {
    LatheValue x = sequence_input(m, 64), none = {0};
    check_shape(lathe_attention(x, x, x, none, &(LatheAttention){.heads = 4, .causal = true}), "*,*,64");
    LatheValue heads = lathe_transpose(lathe_reshape(x, 4, (int64_t[]){0, 0, 4, 16}), (int64_t[]){0, 2, 1, 3});
    check_shape(lathe_attention(heads, heads, heads, none, NULL), "*,4,*,16");
}
END_TEST

START_TEST(scopes_name_parameters_and_layers) {
    LatheValue x = image_input(m, 3, 8, 8);
    for (int i = 0; i < 2; i++) {
        lathe_scope(m, "block%d", i);
        lathe_scope(m, "inner");
        x = lathe_name(lathe_conv2d(x, 3, 3, "conv", &(LatheConv){.pad = 1}), "features");
        lathe_end_scope(m);
        lathe_end_scope(m);
    }
    check_param(0, "block0/inner/conv/weight", "3,3,3,3");
    check_param(3, "block1/inner/conv/bias", "3");
    check_shape(lathe_find(m, "block1/inner/features"), "*,3,8,8");
}
END_TEST

START_TEST(outputs_may_repeat_a_value) {
    LatheValue x = vector_input(m, 4), y = lathe_relu(x);
    lathe_output("a", y);
    lathe_output("b", y);
    lathe_output("same", x);
    ck_assert_uint_eq(lathe_output_count(m), 3);
    ck_assert_str_eq(lathe_output_info(m, 0).name, "a");
    ck_assert_str_eq(lathe_output_info(m, 1).name, "b");
    ck_assert_str_eq(lathe_output_info(m, 2).name, "same");
    ck_assert_str_eq(lathe_input_info(m, 0).name, "x");
}
END_TEST

TCase *dsl_layers_case(void) {
    TCase *c = tcase_create("layers");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, dense_makes_weight_and_bias);
    tcase_add_test(c, dense_acts_on_the_last_dim);
    tcase_add_test(c, convolutions);
    tcase_add_test(c, convolution_in_one_dim);
    tcase_add_test(c, pools);
    tcase_add_test(c, normalisations);
    tcase_add_test(c, elementwise_and_broadcast);
    tcase_add_test(c, reductions);
    tcase_add_test(c, shapes_and_movement);
    tcase_add_test(c, sequences);
    tcase_add_test(c, attention);
    tcase_add_test(c, scopes_name_parameters_and_layers);
    tcase_add_test(c, outputs_may_repeat_a_value);
    return c;
}

int main(void) {
    Suite *s = suite_create("dsl");
    suite_add_tcase(s, dsl_layers_case());
    suite_add_tcase(s, dsl_init_case());
    suite_add_tcase(s, dsl_mistakes_case());
    suite_add_tcase(s, dsl_weights_case());
    suite_add_tcase(s, dsl_memory_case());
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
