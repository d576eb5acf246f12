/* Trains the emitted model for twelve batches of made-up data and checks what must hold:
 *
 *     harness LOSSES.txt [ERROR]  the losses are those of the file, by torch, up to so much of themselves (1e-5); -: not compared
 *     harness --dump DIR          writes the first state and the data, which fixture.py starts from
 *
 * In both: the same bits for one and for two threads; a run that is saved half-way, loaded and continued ends with the same
 * bits; a checkpoint that is cut off, damaged or of another model, a wrong label and a loss that is not a number are errors
 * that change nothing. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mlp.h"

enum { FEATURES = 20, CLASSES = 5, BATCH = 64, BATCHES = 12 };

static unsigned char arena[MLP_ARENA_BYTES] __attribute__((aligned(64)));
static unsigned char state[MLP_STATE_BYTES] __attribute__((aligned(64))), kept[MLP_STATE_BYTES], other[MLP_STATE_BYTES];
static float x[BATCHES][BATCH * FEATURES];
static int64_t labels[BATCHES][BATCH];
static int failures;

static void expect(int good, const char *what) {
    if (good) return;
    printf("FAILED: %s\n", what);
    failures++;
}

/* A checkpoint in memory. */
static struct { unsigned char bytes[MLP_STATE_BYTES + 65536]; size_t n; } file;

static int put(void *user, const void *bytes, size_t n) {
    (void)user;
    if (file.n + n > sizeof file.bytes) return 1;
    memcpy(file.bytes + file.n, bytes, n);
    file.n += n;
    return 0;
}

static int get(void *user, uint64_t offset, void *bytes, size_t n) {
    (void)user;
    if (offset + n > file.n) return 1;
    memcpy(bytes, file.bytes + offset, n);
    return 0;
}

static void make_data(void) {
    uint32_t r = 1;
    for (int s = 0; s < BATCHES; s++) {
        for (int i = 0; i < BATCH * FEATURES; i++) r = r * 1664525u + 1013904223u, x[s][i] = (float)(r >> 8) / 8388608.0f - 1.0f;
        for (int i = 0; i < BATCH; i++) { /* the label: which of five sums of four features is largest */
            float best = -9;
            for (int c = 0; c < CLASSES; c++) {
                const float *f = &x[s][i * FEATURES + c * 4], sum = f[0] + f[1] - f[2] + f[3];
                if (sum > best) best = sum, labels[s][i] = c;
            }
        }
    }
}

static void start(mlp_ctx *c, int threads) {
    expect(mlp_init(c, arena, sizeof arena, state, sizeof state, NULL, 0, 7) == MLP_OK, "init");
    c->threads = threads;
}

static float step(mlp_ctx *c, int s) {
    float loss = -1;
    const mlp_inputs in = {.x = x[s], .labels = labels[s], .N = BATCH};
    const mlp_outputs out = {.logits = NULL, .loss = &loss};
    int code = mlp_train_step(c, &in, &out);
    if (code != MLP_OK) printf("%s\n", mlp_error(code));
    expect(code == MLP_OK, "train_step");
    return loss;
}

static void check_errors(mlp_ctx *c) {
    float loss, logits[BATCH * CLASSES];
    const mlp_inputs in = {.x = x[0], .labels = labels[0], .N = BATCH};
    const mlp_outputs out = {.logits = logits, .loss = &loss};
    memcpy(kept, state, sizeof state);
    int64_t label = labels[0][3];
    labels[0][3] = CLASSES;
    expect(mlp_train_step(c, &in, &out) % 16 == MLP_ERROR_INDEX, "a label out of range is an error");
    labels[0][3] = label;
    expect(memcmp(kept, state, sizeof state) == 0, "a label out of range changes nothing");
    float value = x[0][5];
    x[0][5] = NAN;
    expect(mlp_train_step(c, &in, &out) % 16 == MLP_ERROR_VALUE, "a loss that is not a number is an error");
    x[0][5] = value;
    expect(memcmp(kept, state, sizeof state) == 0, "a loss that is not a number changes nothing");
    expect(mlp_evaluate(c, &in, &out) == MLP_OK && isfinite(loss), "evaluate");
    expect(mlp_predict(c, &in, &out) == MLP_OK && isfinite(logits[BATCH * CLASSES - 1]), "predict");
    expect(memcmp(kept, state, sizeof state) == 0, "evaluate and predict change nothing");
}

static void check_checkpoint(mlp_ctx *c) {
    size_t whole = file.n;
    memcpy(kept, state, sizeof state);
    for (size_t cut = 0; cut < 3; cut++) {
        file.n = cut == 0 ? 4 : cut == 1 ? 100 : whole - 1;
        expect(mlp_load(c, get, NULL) == MLP_ERROR_WEIGHTS, "a checkpoint that is cut off is an error");
    }
    file.n = whole;
    file.bytes[whole - 5] ^= 1;
    expect(mlp_load(c, get, NULL) == MLP_ERROR_WEIGHTS, "damaged data is an error");
    file.bytes[whole - 5] ^= 1;
    file.bytes[200] ^= 1;
    expect(mlp_load(c, get, NULL) == MLP_ERROR_WEIGHTS, "a checkpoint of another model is an error");
    file.bytes[200] ^= 1;
    expect(memcmp(kept, state, sizeof state) == 0, "a checkpoint that is refused changes nothing");
}

static int dump(const char *folder) {
    char path[1024];
    mlp_ctx c;
    start(&c, 1);
    file.n = 0;
    expect(mlp_save(&c, put, NULL) == MLP_OK, "save");
    snprintf(path, sizeof path, "%s/first.safetensors", folder);
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(file.bytes, 1, file.n, f) != file.n || fclose(f) != 0) return 1;
    snprintf(path, sizeof path, "%s/data.bin", folder);
    f = fopen(path, "wb");
    return f == NULL || fwrite(x, sizeof x, 1, f) != 1 || fwrite(labels, sizeof labels, 1, f) != 1 || fclose(f) != 0;
}

int main(int argc, char **argv) {
    mlp_ctx c;
    make_data();
    if (argc == 3 && strcmp(argv[1], "--dump") == 0) return dump(argv[2]) || failures != 0;
    const double error = argc > 2 ? atof(argv[2]) : 1e-5;
    int compare = argc > 1 && strcmp(argv[1], "-") != 0;
    FILE *f = compare ? fopen(argv[1], "r") : NULL;
    if (compare && f == NULL) return printf("no file of losses\n"), 1;
    start(&c, 1);
    for (int s = 0; s < BATCHES; s++) {
        double want, loss = (double)step(&c, s);
        if (!compare) continue;
        if (fscanf(f, "%lf", &want) != 1) want = (double)NAN;
        if (fabs(loss - want) <= error * fabs(want)) continue;
        printf("batch %d: loss %.8g, torch %.8g\n", s, loss, want);
        failures++;
    }
    if (f != NULL) fclose(f);
    memcpy(other, state, sizeof state);
    start(&c, 2);
    for (int s = 0; s < BATCHES; s++) {
        step(&c, s);
        if (s != BATCHES / 2) continue;
        file.n = 0;
        expect(mlp_save(&c, put, NULL) == MLP_OK, "save");
    }
    expect(memcmp(other, state, sizeof state) == 0, "two threads give the same bits as one");
    check_checkpoint(&c);
    start(&c, 1);
    expect(mlp_load(&c, get, NULL) == MLP_OK, "load");
    for (int s = BATCHES / 2 + 1; s < BATCHES; s++) step(&c, s);
    expect(memcmp(other, state, sizeof state) == 0, "a resumed run ends with the same bits");
    check_errors(&c);
    printf("%s\n", failures == 0 ? "ok" : "failed");
    return failures != 0;
}
