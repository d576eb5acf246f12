/* Models whose training steps are timed: models NAME FOLDER writes FOLDER/net.c, net.h and main.c, a program that times steps
 * on fixed data. The same definitions for PyTorch are in peers.py; batches and sizes are constants in both. */
#include "lathe.h"

#include <stdlib.h>
#include <string.h>

#include "../../models/blocks/blocks.h"

typedef struct Bench { const char *name; void (*build)(LatheModel *m); } Bench;

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

static void gpt(LatheModel *m) {
    LatheDim shape[] = {size(BATCH), size(LENGTH)};
    LatheValue tokens = lathe_input(m, "classes_5000", LATHE_I64, 2, shape), next = lathe_input(m, "next_classes_5000", LATHE_I64, 2, shape);
    LatheValue x = lathe_embedding(tokens, WORDS, WIDTH, "tokens", lathe_normal(0, 0.02));
    x = lathe_add(x, lathe_param(m, "positions", LATHE_F32, 2, (int64_t[]){LENGTH, WIDTH}, lathe_normal(0, 0.02)));
    for (int i = 0; i < LAYERS; i++) {
        char name[32];
        snprintf(name, sizeof name, "layer%d", i);
        x = transformer_block(x, name, &(TransformerBlock){.heads = HEADS, .causal = true});
    }
    x = lathe_reshape(lathe_layernorm(x, "norm", NULL), 2, (int64_t[]){BATCH * LENGTH, WIDTH});
    LatheValue logits = lathe_matmul(x, lathe_transpose(lathe_find(m, "tokens/weight"), NULL));
    lathe_train(m, lathe_cross_entropy(logits, lathe_reshape(next, 1, (int64_t[]){BATCH * LENGTH})), &adamw);
}

static void ppo(LatheModel *m) {
    LatheDim n = size(64);
    LatheValue s = lathe_input(m, "x", LATHE_F32, 2, (LatheDim[]){n, size(4)}), action = lathe_input(m, "classes_2", LATHE_I64, 1, &n);
    LatheValue old = lathe_input(m, "old", LATHE_F32, 1, &n), advantage = lathe_input(m, "advantage", LATHE_F32, 1, &n), back = lathe_input(m, "returns", LATHE_F32, 1, &n);
    LatheValue h = lathe_tanh(lathe_dense(lathe_tanh(lathe_dense(s, 128, "a")), 128, "b")), logits = lathe_dense(h, 2, "policy"), value = lathe_squeeze(lathe_dense(h, 1, "value"), 1);
    LatheValue loss = lathe_ppo_clip(lathe_log_prob_of(logits, action), old, advantage, 0.2);
    loss = lathe_add(loss, lathe_mul(lathe_mse(value, back), lathe_scalar(m, LATHE_F32, 0.5)));
    lathe_train(m, lathe_sub(loss, lathe_mul(lathe_entropy(logits), lathe_scalar(m, LATHE_F32, 0.01))), &adam);
}

static const Bench benches[] = {{"mlp", mlp}, {"lenet", lenet}, {"resnet20", resnet20}, {"vae", vae}, {"gpt", gpt}, {"ppo", ppo}};

/* ---- the program around it ---- */
static int64_t elements(const LatheTensorInfo *t) {
    int64_t n = 1;
    for (uint32_t i = 0; i < t->rank; i++) n *= t->hi[i];
    return n;
}

/* Integers are class numbers: their input's name ends with how many there are. */
static void write_main(FILE *f, LatheModel *m, uint32_t n_in) {
    fprintf(f, "#include \"net.h\"\n#include <stdio.h>\n#include <stdlib.h>\n#include <time.h>\n");
    fprintf(f, "static unsigned char arena[NET_ARENA_BYTES] __attribute__((aligned(64))), state[NET_STATE_BYTES] __attribute__((aligned(64)));\n");
    fprintf(f, "static double now(void) { struct timespec t; timespec_get(&t, TIME_UTC); return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec; }\n");
    for (uint32_t i = 0; i < n_in; i++) {
        LatheTensorInfo t = lathe_input_info(m, i);
        fprintf(f, "static %s in%u[%lld];\n", t.dtype == LATHE_I64 ? "int64_t" : "float", i, (long long)elements(&t));
    }
    fprintf(f, "int main(int argc, char **argv)\n{\n    const double seconds = argc > 1 ? atof(argv[1]) : 2;\n    net_ctx c;\n    float loss = 0;\n    net_inputs in;\n    net_outputs out = {.loss = &loss};\n");
    for (uint32_t i = 0; i < n_in; i++) {
        LatheTensorInfo t = lathe_input_info(m, i);
        const char *classes = strrchr(t.name, '_');
        if (t.dtype == LATHE_I64) fprintf(f, "    for (int i = 0; i < %lld; i++) in%u[i] = (int64_t)i * 7919 %% %s;\n", (long long)elements(&t), i, classes + 1);
        else fprintf(f, "    for (int i = 0; i < %lld; i++) in%u[i] = (float)(i * 7919L %% 1009) / 1009.0f;\n", (long long)elements(&t), i);
        fprintf(f, "    in.%s = in%u;\n", t.name, i);
    }
    fprintf(f, "    int code = net_init(&c, arena, sizeof arena, state, sizeof state, NULL, 0, 1);\n    double best = 1e9, end = 0;\n    int n = 0;\n"
               "    c.threads = argc > 2 ? atoi(argv[2]) : 1;\n"
               "    for (int i = 0; i < 3 && code == 0; i++) code = net_train_step(&c, &in, &out);\n    end = now() + seconds;\n"
               "    for (double t = now(), u; code == 0 && (t < end || n < 5); t = u, n++) {\n        code = net_train_step(&c, &in, &out);\n        u = now();\n        if (u - t < best) best = u - t;\n    }\n"
               "    printf(\"%%.4f ms, loss %%g, arena %%.1f MB, state %%.1f MB, %%s\\n\", best * 1e3, (double)loss, NET_ARENA_BYTES / 1e6, NET_STATE_BYTES / 1e6, net_error(code));\n    return code != 0;\n}\n");
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
        options.dump = argc > 3 ? argv[3] : NULL;
        options.dump_to = stdout;
        options.recompute = argc > 4 ? (uint32_t)atoi(argv[4]) : 0;
        LatheStatus status = lathe_compile(m, &options);
        lathe_print_diagnostics(m, stderr);
        snprintf(path, sizeof path, "%s/main.c", argv[2]);
        FILE *f = status == LATHE_OK ? fopen(path, "w") : NULL;
        if (f != NULL) write_main(f, m, n_in), fclose(f);
        lathe_model_free(m);
        return (int)status;
    }
    return argc < 3 ? 0 : 2;
}
