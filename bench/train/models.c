/* Models whose training steps are timed: models NAME FOLDER [SEGMENTS [PRECISION [PASS]]] writes FOLDER/net.c, net.h and main.c, a program that
 * times steps on fixed data; SEGMENTS is LatheOptions.recompute, PRECISION f32 or bf16, PASS one whose result is printed. The same definitions for PyTorch and JAX
 * are in torch_nets.py and jax_nets.py; batches and sizes are constants in all. */
#include "lathe.h"

#include <stdlib.h>
#include <string.h>

#include "../../models/blocks/blocks.h"

typedef struct Bench { const char *name; void (*build)(LatheModel *m); bool acts; } Bench; /* acts: timed is one action, not a step */

static LatheDim size(int64_t n) { return lathe_const_dim(n); }
static const LatheOptimizer momentum = {.kind = LATHE_MOMENTUM, .lr = 1e-3, .momentum = 0.9}, adam = {.kind = LATHE_ADAM, .lr = 1e-4}, adamw = {.kind = LATHE_ADAMW, .lr = 1e-4};

static LatheValue labels(LatheModel *m, int64_t n) { return lathe_input(m, "classes_10", LATHE_I64, 1, (LatheDim[]){size(n)}); }

static void mlp(LatheModel *m) {
    LatheValue x = lathe_input(m, "x", LATHE_F32, 2, (LatheDim[]){size(64), size(784)});
    x = lathe_relu(lathe_dense(lathe_relu(lathe_dense(x, 512, "a")), 512, "b"));
    lathe_train(m, lathe_cross_entropy(lathe_dense(x, 10, "c"), labels(m, 64)), &momentum);
}

static void lenet(LatheModel *m) {
    LatheValue x = lathe_input(m, "x", LATHE_F32, 4, (LatheDim[]){size(64), size(1), size(28), size(28)});
    x = lathe_max_pool2d(lathe_relu(lathe_conv2d(x, 6, 5, "conv1", &(LatheConv){.pad = 2})), 2, NULL);
    x = lathe_flatten(lathe_max_pool2d(lathe_relu(lathe_conv2d(x, 16, 5, "conv2", NULL)), 2, NULL), 1);
    x = lathe_relu(lathe_dense(lathe_relu(lathe_dense(x, 120, "a")), 84, "b"));
    lathe_train(m, lathe_cross_entropy(lathe_dense(x, 10, "c"), labels(m, 64)), &momentum);
}

static void resnet20(LatheModel *m) {
    LatheValue x = lathe_input(m, "x", LATHE_F32, 4, (LatheDim[]){size(32), size(3), size(32), size(32)});
    x = conv_bn_relu(x, 16, 3, 1, "stem");
    for (int i = 0; i < 9; i++) {
        char name[32];
        snprintf(name, sizeof name, "block%d", i);
        x = residual_block(x, 16 << i / 3, i != 0 && i % 3 == 0 ? 2 : 1, name);
    }
    lathe_train(m, lathe_cross_entropy(lathe_dense(lathe_global_avg_pool(x), 10, "classes"), labels(m, 32)), &momentum);
}

static void vae(LatheModel *m) {
    LatheValue x = lathe_input(m, "x", LATHE_F32, 2, (LatheDim[]){size(64), size(784)}), noise = lathe_input(m, "noise", LATHE_F32, 2, (LatheDim[]){size(64), size(20)});
    LatheValue h = lathe_relu(lathe_dense(x, 400, "e")), mean = lathe_dense(h, 20, "m"), half = lathe_mul(lathe_dense(h, 20, "v"), lathe_scalar(m, LATHE_F32, 0.5));
    LatheValue z = lathe_add(mean, lathe_mul(noise, lathe_exp(half)));
    LatheValue r = lathe_dense(lathe_relu(lathe_dense(z, 400, "d1")), 784, "d2");
    LatheValue fit = lathe_mul(lathe_bce_logits(r, x), lathe_scalar(m, LATHE_F32, 64 * 784)), kl = lathe_mul(lathe_kl_standard_normal(mean, half), lathe_scalar(m, LATHE_F32, 64));
    lathe_train(m, lathe_add(fit, kl), &adam);
}

enum { LAYERS = 6, WIDTH = 192, HEADS = 6, LENGTH = 128, BATCH = 8, WORDS = 5000 };

static LatheValue next_token_loss(LatheValue logits, LatheValue next, int64_t n, int64_t words) {
    return lathe_cross_entropy(lathe_reshape(logits, 2, (int64_t[]){n, words}), lathe_reshape(next, 1, &n));
}

/* x W + b + 2 (x A) B with A of 8 columns (Hu et al. 2021): only A and B are trained. */
static LatheValue adapted(LatheValue x, int64_t units, const char *name) {
    LatheModel *m = x.model;
    lathe_scope(m, "%s", name);
    LatheValue low = lathe_matmul(x, lathe_param(m, "adapter_a", LATHE_F32, 2, (int64_t[]){lathe_size_of(x, -1), 8}, lathe_normal(0, 0.01)));
    low = lathe_matmul(low, lathe_param(m, "adapter_b", LATHE_F32, 2, (int64_t[]){8, units}, lathe_zeros()));
    LatheValue y = lathe_add(lathe_dense(x, units, "frozen"), lathe_mul(low, lathe_scalar(m, LATHE_F32, 2)));
    lathe_end_scope(m);
    return y;
}

static LatheValue adapted_block(LatheValue x, const char *name) {
    LatheModel *m = x.model;
    LatheValue qkv[3], no_mask = {0};
    lathe_scope(m, "%s", name);
    lathe_split(adapted(lathe_layernorm(x, "norm1", NULL), 3 * WIDTH, "qkv"), -1, 3, qkv);
    LatheValue y = lathe_attention(qkv[0], qkv[1], qkv[2], no_mask, &(LatheAttention){.heads = HEADS, .causal = true});
    x = lathe_add(x, adapted(y, WIDTH, "projection"));
    y = lathe_gelu_tanh(adapted(lathe_layernorm(x, "norm2", NULL), 4 * WIDTH, "up"));
    x = lathe_add(x, adapted(y, WIDTH, "down"));
    lathe_end_scope(m);
    return x;
}

static void language_model(LatheModel *m, bool adapters, const LatheOptimizer *o) {
    LatheDim shape[] = {size(BATCH), size(LENGTH)};
    LatheValue tokens = lathe_input(m, "classes_5000", LATHE_I64, 2, shape), next = lathe_input(m, "next_classes_5000", LATHE_I64, 2, shape);
    LatheValue x = lathe_embedding(tokens, WORDS, WIDTH, "tokens", lathe_normal(0, 0.02));
    x = lathe_add(x, lathe_param(m, "positions", LATHE_F32, 2, (int64_t[]){LENGTH, WIDTH}, lathe_normal(0, 0.02)));
    for (int i = 0; i < LAYERS; i++) {
        char name[32];
        snprintf(name, sizeof name, "layer%d", i);
        x = adapters ? adapted_block(x, name) : transformer_block(x, name, &(TransformerBlock){.heads = HEADS, .causal = true});
    }
    LatheValue logits = gpt_logits(lathe_layernorm(x, "norm", NULL));
    lathe_train(m, next_token_loss(logits, next, BATCH * LENGTH, WORDS), o);
}

static void gpt(LatheModel *m) { language_model(m, false, &adamw); }

static void lora(LatheModel *m) {
    LatheOptimizer o = adamw;
    o.params = (const char *[]){"*adapter_*", NULL};
    language_model(m, true, &o);
}

enum { LSTM_WORDS = 10000, LSTM_WIDTH = 256, LSTM_LENGTH = 35, LSTM_BATCH = 20 };

static void lstm(LatheModel *m) {
    LatheDim shape[] = {size(LSTM_BATCH), size(LSTM_LENGTH)};
    LatheValue tokens = lathe_input(m, "classes_10000", LATHE_I64, 2, shape), next = lathe_input(m, "next_classes_10000", LATHE_I64, 2, shape);
    LatheValue x = lathe_embedding(tokens, LSTM_WORDS, LSTM_WIDTH, "tokens", lathe_normal(0, 1));
    x = lathe_lstm(lathe_lstm(x, LSTM_WIDTH, "first", NULL).sequence, LSTM_WIDTH, "second", NULL).sequence;
    lathe_train(m, next_token_loss(lathe_dense(x, LSTM_WORDS, "words"), next, LSTM_BATCH * LSTM_LENGTH, LSTM_WORDS), &(LatheOptimizer){.kind = LATHE_SGD, .lr = 1e-3});
}

/* ---- U-Net of a diffusion model: two levels and an attention in the middle ---- */
static LatheValue conv3(LatheValue x, int64_t channels, int64_t stride, const char *name) {
    return lathe_conv2d(x, channels, 3, name, &(LatheConv){.pad = 1, .stride = stride});
}

static LatheValue normed(LatheValue x, const char *name) { return lathe_silu(lathe_groupnorm(x, 8, name, NULL)); }

static LatheValue time_block(LatheValue x, LatheValue t, int64_t channels, const char *name) {
    LatheModel *m = x.model;
    lathe_scope(m, "%s", name);
    LatheValue shift = lathe_reshape(lathe_dense(lathe_silu(t), channels, "time"), 4, (int64_t[]){8, channels, 1, 1}), skip = x;
    LatheValue y = lathe_add(conv3(normed(x, "norm1"), channels, 1, "conv1"), shift);
    y = conv3(normed(y, "norm2"), channels, 1, "conv2");
    if (lathe_size_of(x, 1) != channels) skip = lathe_conv2d(x, channels, 1, "skip", NULL);
    lathe_end_scope(m);
    return lathe_add(y, skip);
}

/* x [8,128,8,8]: 64 places of 128 channels in 4 heads */
static LatheValue places_attention(LatheValue x, const char *name) {
    LatheModel *m = x.model;
    LatheValue qkv[3], no_mask = {0};
    lathe_scope(m, "%s", name);
    LatheValue y = lathe_conv2d(lathe_groupnorm(x, 8, "norm", NULL), 3 * 128, 1, "qkv", NULL);
    lathe_split(lathe_reshape(y, 3, (int64_t[]){8, 3 * 128, 64}), 1, 3, qkv);
    for (int i = 0; i < 3; i++) qkv[i] = lathe_transpose(qkv[i], (int64_t[]){0, 2, 1});
    y = lathe_transpose(lathe_attention(qkv[0], qkv[1], qkv[2], no_mask, &(LatheAttention){.heads = 4}), (int64_t[]){0, 2, 1});
    y = lathe_add(x, lathe_conv2d(lathe_reshape(y, 4, (int64_t[]){8, 128, 8, 8}), 128, 1, "projection", NULL));
    lathe_end_scope(m);
    return y;
}

static void unet(LatheModel *m) {
    LatheDim image[] = {size(8), size(3), size(32), size(32)}, times[] = {size(8), size(32)};
    LatheValue x = lathe_input(m, "x", LATHE_F32, 4, image), te = lathe_input(m, "moments", LATHE_F32, 2, times), noise = lathe_input(m, "noise", LATHE_F32, 4, image);
    LatheValue t = lathe_dense(lathe_silu(lathe_dense(te, 128, "time1")), 128, "time2");
    LatheValue a = time_block(conv3(x, 32, 1, "in"), t, 32, "down1");
    LatheValue b = time_block(conv3(a, 32, 2, "half1"), t, 64, "down2");
    LatheValue h = time_block(conv3(b, 64, 2, "half2"), t, 128, "middle1");
    h = time_block(places_attention(h, "attention"), t, 128, "middle2");
    h = conv3(lathe_upsample2d(h, 2, false), 64, 1, "double2");
    h = time_block(lathe_concat(2, (LatheValue[]){h, b}, 1), t, 64, "up2");
    h = conv3(lathe_upsample2d(h, 2, false), 32, 1, "double1");
    h = time_block(lathe_concat(2, (LatheValue[]){h, a}, 1), t, 32, "up1");
    lathe_train(m, lathe_mse(conv3(normed(h, "norm"), 3, 1, "out"), noise), &adamw);
}

static void actor_critic(LatheModel *m, LatheDim n, bool act) {
    LatheValue s = lathe_input(m, "x", LATHE_F32, 2, (LatheDim[]){n, size(4)}), action = lathe_input(m, "classes_2", LATHE_I64, 1, &n);
    LatheValue old = lathe_input(m, "old", LATHE_F32, 1, &n), advantage = lathe_input(m, "advantage", LATHE_F32, 1, &n), back = lathe_input(m, "returns", LATHE_F32, 1, &n);
    LatheValue h = lathe_tanh(lathe_dense(lathe_tanh(lathe_dense(s, 128, "a")), 128, "b")), logits = lathe_dense(h, 2, "policy"), value = lathe_squeeze(lathe_dense(h, 1, "value"), 1);
    LatheValue loss = lathe_ppo_clip(lathe_log_prob_of(logits, action), old, advantage, 0.2);
    loss = lathe_add(loss, lathe_mul(lathe_mse(value, back), lathe_scalar(m, LATHE_F32, 0.5)));
    if (act) lathe_output("action", lathe_categorical(logits, 1));
    lathe_train(m, lathe_sub(loss, lathe_mul(lathe_entropy(logits), lathe_scalar(m, LATHE_F32, 0.01))), &adam);
}

static void ppo(LatheModel *m) { actor_critic(m, size(64), false); }

/* The module that learns from up to 64 observations also acts on one. */
static void ppo_act(LatheModel *m) { actor_critic(m, lathe_dim(m, "N", 1, 64), true); }

static const Bench benches[] = {{"mlp", mlp, false}, {"lenet", lenet, false}, {"resnet20", resnet20, false}, {"lstm", lstm, false}, {"gpt", gpt, false}, {"lora", lora, false},
                                {"vae", vae, false}, {"unet", unet, false},   {"ppo", ppo, false},           {"ppo_act", ppo_act, true}};

/* ---- the program around it ---- */
static int64_t elements(const LatheTensorInfo *t) {
    int64_t n = 1;
    for (uint32_t i = 0; i < t->rank; i++) n *= t->hi[i];
    return n;
}

/* Integers are class numbers: their input's name ends with how many there are. */
static void write_inputs(FILE *f, LatheModel *m, uint32_t n_in) {
    for (uint32_t i = 0; i < n_in; i++) {
        LatheTensorInfo t = lathe_input_info(m, i);
        const char *classes = strrchr(t.name, '_');
        if (t.dtype == LATHE_I64) fprintf(f, "    for (int i = 0; i < %lld; i++) in%u[i] = (int64_t)i * 7919 %% %s;\n", (long long)elements(&t), i, classes + 1);
        else fprintf(f, "    for (int i = 0; i < %lld; i++) in%u[i] = (float)(i * 7919L %% 1009) / 1009.0f;\n", (long long)elements(&t), i);
        fprintf(f, "    in.%s = in%u;\n", t.name, i);
    }
}

/* The program: seconds and threads as arguments; the time of the shortest of many rounds of at least 1 ms. */
static void write_main(FILE *f, LatheModel *m, uint32_t n_in, bool acts) {
    fprintf(f, "#include \"net.h\"\n#include <stdio.h>\n#include <stdlib.h>\n#include <time.h>\n");
    fprintf(f, "static unsigned char arena[NET_ARENA_BYTES] __attribute__((aligned(64))), state[NET_STATE_BYTES] __attribute__((aligned(64)));\n");
    fprintf(f, "static double now(void) { struct timespec t; timespec_get(&t, TIME_UTC); return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec; }\n");
    for (uint32_t i = 0; i < n_in; i++) {
        LatheTensorInfo t = lathe_input_info(m, i);
        fprintf(f, "static %s in%u[%lld];\n", t.dtype == LATHE_I64 ? "int64_t" : "float", i, (long long)elements(&t));
    }
    fprintf(f, "int main(int argc, char **argv)\n{\n    const double seconds = argc > 1 ? atof(argv[1]) : 2;\n    net_ctx c;\n    net_inputs in;\n");
    if (acts) fprintf(f, "    float loss = 0;\n    int64_t action[64];\n    net_outputs out = {.action = action};\n    in.N = 1;\n");
    else fprintf(f, "    float loss = 0;\n    net_outputs out = {.loss = &loss};\n");
    write_inputs(f, m, n_in);
    fprintf(f, "    int code = net_init(&c, arena, sizeof arena, state, sizeof state, NULL, 0, 1), inner = 1;\n    double best = 1e9, end = now() + seconds;\n"
               "    c.threads = argc > 2 ? atoi(argv[2]) : 1;\n"
               "    for (int n = 0; code == 0 && (n < 8 || now() < end); n++) {\n        const double t = now();\n"
               "        for (int i = 0; i < inner && code == 0; i++) code = net_%s(&c, &in, &out);\n        const double u = (now() - t) / inner;\n"
               "        if (n > 1 && u < best) best = u;\n        if (n < 3) inner = u < 1e-3 ? 1 + (int)(1e-3 / u) : 1;\n    }\n"
               "    printf(\"%%.5f ms, loss %%g, arena %%.1f MB, state %%.1f MB, %%s\\n\", best * 1e3, (double)loss, NET_ARENA_BYTES / 1e6, NET_STATE_BYTES / 1e6, net_error(code));\n    return code != 0;\n}\n",
            acts ? "predict" : "train_step");
}

int main(int argc, char **argv) {
    for (size_t i = 0; i < sizeof benches / sizeof *benches; i++) {
        if (argc < 3) {
            printf("%s\n", benches[i].name);
            continue;
        }
        if (strcmp(benches[i].name, argv[1]) != 0) continue;
        LatheModel *m = lathe_model_new("net");
        char path[1024];
        benches[i].build(m);
        uint32_t n_in = lathe_input_count(m);
        LatheOptions options = lathe_options();
        snprintf(path, sizeof path, "%s/net.c", argv[2]);
        options.output = path;
        options.recompute = argc > 3 ? (uint32_t)atoi(argv[3]) : 0;
        options.precision = argc > 4 && strcmp(argv[4], "bf16") == 0 ? LATHE_PRECISION_BF16 : LATHE_PRECISION_F32;
        options.dump = argc > 5 ? argv[5] : NULL;
        options.dump_to = stdout;
        LatheStatus status = lathe_compile(m, &options);
        lathe_print_diagnostics(m, stderr);
        snprintf(path, sizeof path, "%s/main.c", argv[2]);
        FILE *f = status == LATHE_OK ? fopen(path, "w") : NULL;
        if (f != NULL) write_main(f, m, n_in, benches[i].acts), fclose(f);
        lathe_model_free(m);
        return (int)status;
    }
    return argc < 3 ? 0 : 2;
}
