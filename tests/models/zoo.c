/* Every function of the C DSL in a few models, written as ONNX: zoo --out FOLDER. check.py compares what lathe compiles them to
 * with ONNX Runtime. */
#include <stdio.h>
#include <string.h>

#include "lathe.h"

static const char *folder = ".";
static int failures;

static void finish(LatheModel *m, const char *name) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s.onnx", folder, name);
    if (lathe_export_onnx(m, path) != LATHE_OK) failures++;
    lathe_print_diagnostics(m, stderr);
    lathe_model_free(m);
}

static void out(const char *prefix, int i, LatheValue v) {
    char name[64];
    snprintf(name, sizeof name, "%s%d", prefix, i);
    lathe_output(name, v);
}

static void outputs(const char *prefix, const LatheValue *v, size_t n) {
    for (size_t i = 0; i < n; i++) out(prefix, (int)i, v[i]);
}

#define OUTPUTS(prefix, ...) outputs(prefix, (LatheValue[]){__VA_ARGS__}, sizeof((LatheValue[]){__VA_ARGS__}) / sizeof(LatheValue))

static LatheValue image(LatheModel *m, const char *name, int64_t c, int64_t h, int64_t w) {
    return lathe_input(m, name, LATHE_F32, 4, (LatheDim[]){lathe_dim(m, "N", 1, 8), lathe_const_dim(c), lathe_const_dim(h), lathe_const_dim(w)});
}

static void elementwise(void) {
    LatheModel *m = lathe_model_new("elementwise");
    LatheValue x = image(m, "x", 3, 4, 5), y = image(m, "y", 1, 4, 1);
    LatheValue p = lathe_add(lathe_abs(x), lathe_scalar_like(x, 0.125)), q = lathe_add(lathe_abs(y), lathe_scalar_like(y, 0.5));
    OUTPUTS("activation", lathe_relu(x), lathe_relu6(x), lathe_leaky_relu(x, 0.1), lathe_elu(x, 1.5), lathe_selu(x), lathe_gelu(x), lathe_gelu_tanh(x),
            lathe_silu(x), lathe_mish(x), lathe_sigmoid(x), lathe_hard_sigmoid(x), lathe_hard_swish(x), lathe_softplus(x), lathe_softsign(x));
    OUTPUTS("function", lathe_tanh(x), lathe_erf(x), lathe_exp(x), lathe_expm1(x), lathe_log(p), lathe_log1p(p), lathe_sqrt(p), lathe_rsqrt(p),
            lathe_reciprocal(p), lathe_square(x), lathe_abs(x), lathe_neg(x), lathe_sign(x), lathe_sin(x), lathe_cos(x), lathe_tan(lathe_clip(x, -1, 1)),
            lathe_floor(x), lathe_ceil(x), lathe_round(x), lathe_dropout(x, 0.5));
    OUTPUTS("binary", lathe_add(x, y), lathe_sub(x, y), lathe_mul(x, y), lathe_div(x, q), lathe_pow(p, y), lathe_mod(x, q), lathe_min(x, y), lathe_max(y, x));
    LatheValue less = lathe_less(x, y), more = lathe_greater(x, lathe_neg(y));
    OUTPUTS("truth", lathe_equal(lathe_floor(x), lathe_floor(y)), lathe_not_equal(lathe_round(x), lathe_round(y)), less, lathe_less_equal(x, y), more,
            lathe_greater_equal(x, y), lathe_and(less, more), lathe_or(less, more), lathe_xor(less, more), lathe_not(less));
    OUTPUTS("choice", lathe_where(less, x, y), lathe_cast(lathe_mul(x, lathe_scalar_like(x, 10)), LATHE_I32), lathe_cast(less, LATHE_F32));
    finish(m, "elementwise");
}

static void layers(void) {
    LatheModel *m = lathe_model_new("layers");
    LatheValue x = image(m, "x", 6, 12, 10);
    OUTPUTS("conv", lathe_conv2d(x, 8, 3, "a", NULL), lathe_conv2d(x, 8, 3, "b", &(LatheConv){.pad = 1, .stride = 2}),
            lathe_conv2d(x, 6, 5, "c", &(LatheConv){.groups = 6, .same = true}), lathe_conv2d(x, 4, 3, "d", &(LatheConv){.kernel_w = 1, .dilation = 2, .no_bias = true}),
            lathe_conv2d(x, 4, 2, "e", &(LatheConv){.pads = {1, 0, 0, 2}, .groups = 2, .bias = {LATHE_INIT_NORMAL, 0, 1}}),
            lathe_conv_transpose2d(x, 3, 4, "f", &(LatheConv){.stride = 2, .pad = 1}), lathe_conv_transpose2d(x, 4, 3, "g", &(LatheConv){.stride = 2, .output_pad = 1, .groups = 2}));
    LatheValue rows = lathe_reshape(x, 3, (int64_t[]){0, 6, -1});
    OUTPUTS("line", lathe_conv1d(rows, 5, 7, "h", &(LatheConv){.stride = 3}), lathe_max_pool1d(rows, 4, NULL), lathe_avg_pool1d(rows, 5, &(LathePool){.stride = 2, .pad = 2}));
    OUTPUTS("pool", lathe_max_pool2d(x, 2, NULL), lathe_max_pool2d(x, 3, &(LathePool){.stride = 2, .pad = 1}), lathe_avg_pool2d(x, 3, &(LathePool){.pad = 1}),
            lathe_avg_pool2d(x, 3, &(LathePool){.pad = 1, .count_pad = true, .ceil_mode = true}), lathe_global_avg_pool(x), lathe_global_max_pool(x),
            lathe_upsample2d(x, 2, false), lathe_upsample2d(x, 3, true));
    OUTPUTS("norm", lathe_batchnorm(x, "bn", NULL), lathe_layernorm(x, "ln", &(LatheNorm){.epsilon = 1e-3}), lathe_rmsnorm(x, "rms", NULL), lathe_groupnorm(x, 3, "gn", NULL),
            lathe_instancenorm(x, "in", NULL), lathe_softmax(x, 1), lathe_log_softmax(x, -1));
    OUTPUTS("dense", lathe_dense(lathe_flatten(x, 1), 7, "fc"), lathe_dense_with(x, 4, "last", &(LatheDense){.bias = {LATHE_INIT_NORMAL, 0, 1}}));
    finish(m, "layers");
}

static void reductions(void) {
    LatheModel *m = lathe_model_new("reductions");
    LatheValue x = image(m, "x", 3, 6, 5), indices, top = lathe_topk(x, 3, 2, &indices);
    for (int kind = LATHE_REDUCE_SUM; kind <= LATHE_REDUCE_LOG_SUM_EXP; kind++) {
        out("two_axes", kind, lathe_reduce((LatheReduce)kind, x, 2, (int64_t[]){1, 3}, false));
        out("all_axes", kind, lathe_reduce((LatheReduce)kind, lathe_tanh(x), 0, NULL, true));
    }
    OUTPUTS("other", lathe_sum(x, 0, true), lathe_mean(x, -1, false), lathe_variance(x, 2, true), lathe_argmax(x, 1, false), lathe_argmin(x, 3, true),
            lathe_cumsum(x, 2), top, indices, lathe_matmul(x, lathe_transpose(x, (int64_t[]){0, 1, 3, 2})));
    finish(m, "reductions");
}

static void movement(void) {
    LatheModel *m = lathe_model_new("movement");
    LatheValue x = image(m, "x", 4, 6, 6), parts[3], sizes[2];
    LatheValue ids = lathe_const(m, LATHE_I64, 2, (int64_t[]){2, 2}, (int64_t[]){3, 0, -1, 2});
    LatheValue some = lathe_argmax(x, 1, true);
    lathe_split(x, 2, 3, parts);
    lathe_split_sizes(x, 3, 2, (int64_t[]){1, 5}, sizes);
    OUTPUTS("shape", lathe_reshape(x, 3, (int64_t[]){0, -1, 12}), lathe_flatten(x, 2), lathe_transpose(x, NULL), lathe_unsqueeze(x, 1),
            lathe_squeeze(lathe_sum(x, 2, true), 2), lathe_expand(lathe_sum(x, 1, true), 4, (int64_t[]){1, 3, 6, 6}), lathe_tile(x, (int64_t[]){1, 2, 1, 1}));
    OUTPUTS("parts", lathe_concat(2, (LatheValue[]){x, x}, 1), lathe_stack(2, (LatheValue[]){x, lathe_neg(x)}, 4), parts[0], parts[2], sizes[0], sizes[1],
            lathe_slice(x, 3, 1, -1, 2), lathe_slice(x, 2, -1, -100, -1));
    const int64_t pads[8] = {0, 0, 1, 2, 0, 0, 3, 1};
    OUTPUTS("pad", lathe_pad(x, pads, LATHE_PAD_CONSTANT, 0.5), lathe_pad(x, pads, LATHE_PAD_REFLECT, 0), lathe_pad(x, pads, LATHE_PAD_EDGE, 0),
            lathe_pad(x, pads, LATHE_PAD_WRAP, 0), lathe_triangle(x, true, 1), lathe_triangle(x, false, 0));
    OUTPUTS("index", lathe_gather(x, ids, 1), lathe_gather_elements(x, some, 1), lathe_scatter_elements(x, some, lathe_max(lathe_sum(x, 1, true), lathe_scalar_like(x, 0)), 1, true),
            lathe_scatter_elements(x, some, lathe_sum(x, 1, true), 1, false), lathe_one_hot(some, 5, LATHE_F32), lathe_positions(x, 0), lathe_positions(x, -1));
    finish(m, "movement");
}

static void sequences(void) {
    LatheModel *m = lathe_model_new("sequences");
    LatheDim dims[] = {lathe_dim(m, "N", 1, 8), lathe_dim(m, "T", 1, 32), lathe_const_dim(8)};
    LatheValue x = lathe_input(m, "x", LATHE_F32, 3, dims), ids = lathe_input(m, "ids", LATHE_I64, 2, dims);
    LatheSequence lstm = lathe_lstm(x, 6, "lstm", &(LatheRecurrence){.bidirectional = true});
    LatheSequence gru = lathe_gru(x, 6, "gru", NULL), first = lathe_gru(x, 5, "first", &(LatheRecurrence){.reset_first = true});
    LatheSequence rnn = lathe_rnn(x, 4, "rnn", &(LatheRecurrence){.reverse = true});
    OUTPUTS("recurrent", lstm.sequence, lstm.h, lstm.c, gru.sequence, gru.h, first.h, rnn.sequence, lathe_embedding(ids, 16, 3, "words", (LatheInit){0}));
    finish(m, "sequences");
}

static void attention(void) {
    LatheModel *m = lathe_model_new("attention");
    LatheDim dims[] = {lathe_dim(m, "N", 1, 8), lathe_dim(m, "T", 1, 32), lathe_const_dim(8)};
    LatheValue x = lathe_input(m, "x", LATHE_F32, 3, dims), none = {0};
    LatheValue heads = lathe_transpose(lathe_reshape(x, 4, (int64_t[]){0, 0, 2, 4}), (int64_t[]){0, 2, 1, 3});
    LatheValue one = lathe_slice(heads, 1, 0, 1, 1), place = lathe_positions(x, 1), two = lathe_scalar(m, LATHE_I64, 2);
    OUTPUTS("attention", lathe_attention(x, x, x, none, &(LatheAttention){.heads = 2}), lathe_attention(heads, heads, heads, none, &(LatheAttention){.causal = true, .scale = 0.7}),
            lathe_attention(heads, one, one, none, &(LatheAttention){.softcap = 3}),
            lathe_attention(heads, heads, heads, lathe_greater_equal(lathe_add(lathe_unsqueeze(place, 1), two), place), NULL));
    finish(m, "attention");
}

static void rotary(void) {
    LatheModel *m = lathe_model_new("rotary");
    LatheDim dims[] = {lathe_dim(m, "N", 1, 8), lathe_const_dim(2), lathe_dim(m, "T", 1, 32), lathe_const_dim(8)};
    LatheValue x = lathe_input(m, "x", LATHE_F32, 4, dims), where = lathe_input(m, "where", LATHE_I64, 2, (LatheDim[]){dims[0], dims[2]});
    LatheValue c = lathe_param(m, "cosine", LATHE_F32, 2, (int64_t[]){32, 4}, lathe_uniform(-1, 1)), s = lathe_param(m, "sine", LATHE_F32, 2, (int64_t[]){32, 4}, lathe_uniform(-1, 1));
    OUTPUTS("rope", lathe_rope(x, c, s, where, false), lathe_rope(x, c, s, where, true));
    finish(m, "rotary");
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--out") == 0) folder = argv[2];
    elementwise();
    layers();
    reductions();
    movement();
    sequences();
    attention();
    rotary();
    return failures == 0 ? 0 : 1;
}
