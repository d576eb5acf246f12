/* Models of the training tests: model CASE FILE.c [mpi [PROCESSES]] compiles one of them; PROCESSES: that the optimizer's state is divided among.
 *
 * `cases` is the list; fixture.py has the same settings for torch, whose losses are in fixtures/. */
#include "lathe.h"

#include <stdlib.h>
#include <string.h>

enum { FEATURES = 20, CLASSES = 5, BATCH = 64 };

typedef struct Case { const char *name; LatheOptimizer o; bool norm; double dropout; bool shifted; LathePrecision precision; } Case;
static const char *const frozen[] = {"fc1/*", NULL};
static const LatheParamGroup groups[] = {{"*/bias", 2, true}, {"fc3/*", 0.5, false}};
static const Case cases[] = {
    {.name = "sgd", .o = {.kind = LATHE_SGD, .lr = 0.1}},
    {.name = "momentum", .o = {.kind = LATHE_MOMENTUM, .lr = 0.05}},
    {.name = "nesterov", .o = {.kind = LATHE_NESTEROV, .lr = 0.05, .momentum = 0.8}},
    {.name = "adagrad", .o = {.kind = LATHE_ADAGRAD, .lr = 0.05}},
    {.name = "rmsprop", .o = {.kind = LATHE_RMSPROP, .lr = 0.005, .beta2 = 0.9, .epsilon = 1e-5}},
    {.name = "adam", .o = {.kind = LATHE_ADAM, .lr = 0.01}},
    {.name = "adamw", .o = {.kind = LATHE_ADAMW, .lr = 0.01, .weight_decay = 0.1}},
    {.name = "decay", .o = {.kind = LATHE_SGD, .lr = 0.1, .weight_decay = 0.05}},
    {.name = "clip", .o = {.kind = LATHE_SGD, .lr = 0.5, .clip = 0.1}},
    {.name = "cosine", .o = {.kind = LATHE_ADAM, .lr = 0.02, .schedule = {.kind = LATHE_COSINE, .warmup = 3, .steps = 9, .floor = 0.1}}},
    {.name = "linear", .o = {.kind = LATHE_SGD, .lr = 0.2, .schedule = {.kind = LATHE_LINEAR, .steps = 8}}},
    {.name = "step", .o = {.kind = LATHE_SGD, .lr = 0.2, .schedule = {.kind = LATHE_STEP, .every = 3, .factor = 0.3}}},
    {.name = "groups", .o = {.kind = LATHE_ADAMW, .lr = 0.01, .weight_decay = 0.1, .groups = groups, .n_groups = 2}},
    {.name = "frozen", .o = {.kind = LATHE_MOMENTUM, .lr = 0.05, .freeze = frozen}},
    {.name = "average", .o = {.kind = LATHE_SGD, .lr = 0.1, .ema = 0.9}},
    {.name = "scaled", .o = {.kind = LATHE_SGD, .lr = 0.1, .loss_scale = 1024}},
    {.name = "separate", .o = {.kind = LATHE_ADAM, .lr = 0.01, .separate = true}},
    {.name = "accumulate", .o = {.kind = LATHE_MOMENTUM, .lr = 0.05, .accumulate = 2, .clip = 0.5}},
    {.name = "norm", .o = {.kind = LATHE_ADAM, .lr = 0.01}, .norm = true},
    {.name = "mask", .o = {.kind = LATHE_ADAM, .lr = 0.01}, .shifted = true}, /* of relu only the sign is kept, as bits */
    {.name = "short", .o = {.kind = LATHE_ADAM, .lr = 0.01, .loss_scale = 8}, .precision = LATHE_PRECISION_BF16},
    {.name = "dropout", .o = {.kind = LATHE_ADAM, .lr = 0.01}, .norm = true, .dropout = 0.3}, /* no file of losses: torch draws other numbers */
};

static LatheModel *build(const Case *c) {
    LatheModel *m = lathe_model_new("mlp");
    lathe_seed(m, 7); /* of parameters that are frozen: constants of the emitted code */
    LatheDim n = lathe_dim(m, "N", 1, BATCH);
    LatheValue x = lathe_input(m, "x", LATHE_F32, 2, (LatheDim[]){n, lathe_const_dim(FEATURES)});
    LatheValue labels = lathe_input(m, "labels", LATHE_I64, 1, &n);
    LatheValue h = lathe_dense(x, 32, "fc1");
    if (c->norm) h = lathe_batchnorm(h, "norm", NULL);
    h = lathe_relu(h);
    if (c->shifted) h = lathe_add(h, lathe_scalar(m, LATHE_F32, 1));
    if (c->dropout != 0) h = lathe_dropout(h, c->dropout);
    h = lathe_tanh(lathe_dense(h, 16, "fc2"));
    LatheValue logits = lathe_output("logits", lathe_dense(h, CLASSES, "fc3"));
    lathe_train(m, lathe_cross_entropy(logits, labels), &c->o);
    return m;
}

int main(int argc, char **argv) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases && argc >= 3; i++) {
        if (strcmp(cases[i].name, argv[1]) != 0) continue;
        LatheModel *m = build(&cases[i]);
        LatheOptions options = lathe_options();
        options.output = argv[2];
        options.name = "mlp";
        options.verify_ir = true;
        options.precision = cases[i].precision;
        options.distributed = argc > 3 ? LATHE_MPI : LATHE_LOCAL;
        options.shard_optimizer = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 0;
        options.bucket_bytes = 1500; /* several of them, in a model this small */
        LatheStatus status = lathe_compile(m, &options);
        lathe_print_diagnostics(m, stderr);
        lathe_model_free(m);
        return (int)status;
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases && argc == 1; i++) printf("%s\n", cases[i].name);
    return argc == 1 ? 0 : 2;
}
