/* Models of the training tests: model CASE FILE.c compiles one of them.
 *
 * `cases` is the list; fixture.py has the same settings for torch, whose losses are in fixtures/. */
#include "lathe.h"

#include <string.h>

enum { FEATURES = 20, CLASSES = 5, BATCH = 64 };

typedef struct Case { const char *name; LatheOptimizer o; } Case;
static const char *const frozen[] = {"fc1/*", NULL};
static const LatheParamGroup groups[] = {{"*/bias", 2, true}, {"fc3/*", 0.5, false}};
static const Case cases[] = {
    {"sgd", {.kind = LATHE_SGD, .lr = 0.1}},
    {"momentum", {.kind = LATHE_MOMENTUM, .lr = 0.05}},
    {"nesterov", {.kind = LATHE_NESTEROV, .lr = 0.05, .momentum = 0.8}},
    {"adagrad", {.kind = LATHE_ADAGRAD, .lr = 0.05}},
    {"rmsprop", {.kind = LATHE_RMSPROP, .lr = 0.005, .beta2 = 0.9, .epsilon = 1e-5}},
    {"adam", {.kind = LATHE_ADAM, .lr = 0.01}},
    {"adamw", {.kind = LATHE_ADAMW, .lr = 0.01, .weight_decay = 0.1}},
    {"decay", {.kind = LATHE_SGD, .lr = 0.1, .weight_decay = 0.05}},
    {"clip", {.kind = LATHE_SGD, .lr = 0.5, .clip = 0.1}},
    {"cosine", {.kind = LATHE_ADAM, .lr = 0.02, .schedule = {.kind = LATHE_COSINE, .warmup = 3, .steps = 9, .floor = 0.1}}},
    {"linear", {.kind = LATHE_SGD, .lr = 0.2, .schedule = {.kind = LATHE_LINEAR, .steps = 8}}},
    {"step", {.kind = LATHE_SGD, .lr = 0.2, .schedule = {.kind = LATHE_STEP, .every = 3, .factor = 0.3}}},
    {"groups", {.kind = LATHE_ADAMW, .lr = 0.01, .weight_decay = 0.1, .groups = groups, .n_groups = 2}},
    {"frozen", {.kind = LATHE_MOMENTUM, .lr = 0.05, .freeze = frozen}},
    {"average", {.kind = LATHE_SGD, .lr = 0.1, .ema = 0.9}},
    {"scaled", {.kind = LATHE_SGD, .lr = 0.1, .loss_scale = 1024}},
    {"separate", {.kind = LATHE_ADAM, .lr = 0.01, .separate = true}},
    {"accumulate", {.kind = LATHE_MOMENTUM, .lr = 0.05, .accumulate = 2, .clip = 0.5}},
};

static LatheModel *build(const LatheOptimizer *o) {
    LatheModel *m = lathe_model_new("mlp");
    lathe_seed(m, 7); /* of parameters that are frozen: constants of the emitted code */
    LatheDim n = lathe_dim(m, "N", 1, BATCH);
    LatheValue x = lathe_input(m, "x", LATHE_F32, 2, (LatheDim[]){n, lathe_const_dim(FEATURES)});
    LatheValue labels = lathe_input(m, "labels", LATHE_I64, 1, &n);
    LatheValue h = lathe_relu(lathe_dense(x, 32, "fc1"));
    h = lathe_tanh(lathe_dense(h, 16, "fc2"));
    LatheValue logits = lathe_output("logits", lathe_dense(h, CLASSES, "fc3"));
    lathe_train(m, lathe_cross_entropy(logits, labels), o);
    return m;
}

int main(int argc, char **argv) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases && argc == 3; i++) {
        if (strcmp(cases[i].name, argv[1]) != 0) continue;
        LatheModel *m = build(&cases[i].o);
        LatheOptions options = lathe_options();
        options.output = argv[2];
        options.name = "mlp";
        options.verify_ir = true;
        LatheStatus status = lathe_compile(m, &options);
        lathe_print_diagnostics(m, stderr);
        lathe_model_free(m);
        return (int)status;
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases && argc == 1; i++) printf("%s\n", cases[i].name);
    return argc == 1 ? 0 : 2;
}
