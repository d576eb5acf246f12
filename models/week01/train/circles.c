/* Checks week 1's fixtures (probabilities, loss and gradient of four points), then lets the five optimizers race. */
#include "circles.h"

#include <math.h>
#include <string.h>

#include "host.h"

enum { POINTS = 1024, BATCH = 4, STEPS = 50 };

static circles_ctx c;
static float features[POINTS * 6], y[POINTS];
static int n;

static void expand(float *f, double x0, double x1) {
    const double v[6] = {x0, x1, x0 * x0, x1 * x1, x0 * x1, 1};
    for (int i = 0; i < 6; i++) f[i] = (float)v[i];
}

static float *tensor(const char *name) {
    for (int i = 0; i < CIRCLES_TENSORS; i++)
        if (strcmp(circles_tensors[i].name, name) == 0) return (float *)((unsigned char *)c.state + circles_tensors[i].offset);
    host_require(false, "the state has no tensor %s", name);
    return NULL;
}

static void start(void) {
    static void *arena, *state;
    if (arena == NULL) arena = host_memory(CIRCLES_ARENA_BYTES), state = host_memory(CIRCLES_STATE_BYTES);
    int code = circles_init(&c, arena, CIRCLES_ARENA_BYTES, state, CIRCLES_STATE_BYTES, NULL, 0, 1);
    host_require(code == CIRCLES_OK, "%s", circles_error(code));
}

static double difference(const float *found, const double *wanted, int count) {
    double most = 0;
    for (int i = 0; i < count; i++) most = fmax(most, fabs((double)found[i] - wanted[i]) / fabs(wanted[i]));
    return most;
}

/* The notebook's own checks. */
static void fixtures(Host *h) {
    static const double point[4][2] = {{0, 0}, {1, 0}, {2.61, -1.28}, {-0.59, 2.1}};
    static const double want[4] = {.73105858, .450166, .02020883, .59844257}, want_loss = .66131, want_gradient[6] = {-.06504252, -.21728448, -.1379879, -.43443953, .107504, -.05003101};
    static const float label[4] = {0, 1, 0, 1};
    float f[24], probability[4], loss;
    start();
    for (int i = 0; i < 4; i++) expand(f + 6 * i, point[i][0], point[i][1]);
    for (int i = 0; i < 6; i++) tensor("w")[i] = (float)(-1 + 2 * i / 5.0);
    const circles_inputs in = {.features = f, .y = label, .N = 4};
    const circles_outputs out = {.probability = probability, .descent_loss = &loss};
    int code = circles_predict(&c, &in, &out);
    if (code == CIRCLES_OK) code = circles_descent_forward(&c, &in, &out);
    if (code == CIRCLES_OK) code = circles_descent_backward(&c, &in, &out);
    host_require(code == CIRCLES_OK, "%s", circles_error(code));
    host_bar(h, difference(probability, want, 4) < 1e-3, "probabilities as in the notebook");
    host_bar(h, fabs((double)loss - want_loss) < 1e-3 * want_loss, "loss %.5f", (double)loss);
    host_bar(h, difference(tensor("descent_optimizer/gradient/w"), want_gradient, 6) < 1e-3, "gradient as in the notebook");
}

/* Two noisy circles, one inside the other; a part of the outer one is left out. Each coordinate with mean 0 and deviation 1. */
static void make_points(Host *h) {
    double x[POINTS][2], mean[2] = {0, 0}, square[2] = {0, 0};
    n = 0;
    for (int i = 0; i < POINTS; i++) {
        int inner = i % 2;
        double angle = 6.28318530717958648 * (i / 2) / (POINTS / 2.0), radius = inner ? 0.4 : 1;
        double p[2] = {radius * cos(angle) + 0.2 * host_normal(h), radius * sin(angle) + 0.2 * host_normal(h)};
        if (!inner && p[1] <= p[0] - 0.5) continue;
        y[n] = (float)inner;
        for (int k = 0; k < 2; k++) x[n][k] = p[k], mean[k] += p[k], square[k] += p[k] * p[k];
        n++;
    }
    for (int i = 0; i < n; i++) {
        double z[2];
        for (int k = 0; k < 2; k++) z[k] = (x[i][k] - mean[k] / n) / sqrt(square[k] / n - mean[k] / n * (mean[k] / n));
        expand(features + 6 * i, z[0], z[1]);
    }
}

typedef int Step(circles_ctx *ctx, const circles_inputs *in, const circles_outputs *out);

static double race(Host *h, const char *name, Step *step) {
    float f[BATCH * 6], label[BATCH], loss, all;
    const circles_inputs in = {.features = f, .y = label, .N = BATCH}, whole = {.features = features, .y = y, .N = n};
    const circles_outputs out = {.descent_loss = &loss, .momentum_loss = &loss, .adagrad_loss = &loss, .rmsprop_loss = &loss, .adam_loss = &loss};
    start();
    for (int s = 0; s <= STEPS; s++) {
        int code = circles_descent_forward(&c, &whole, &(circles_outputs){.descent_loss = &all});
        host_point(h, name, s, (double)all);
        for (int i = 0; i < BATCH; i++) {
            int k = (int)(host_uniform(h) * n);
            memcpy(f + 6 * i, features + 6 * k, 6 * sizeof *f);
            label[i] = y[k];
        }
        if (code == CIRCLES_OK && s < STEPS) code = step(&c, &in, &out);
        host_require(code == CIRCLES_OK, "%s", circles_error(code));
    }
    printf("%-9s loss after %d steps: %.3f\n", name, STEPS, (double)all);
    return (double)all;
}

int main(int argc, char **argv) {
    Host h = host_start("circles", argc, argv);
    fixtures(&h);
    make_points(&h);
    double plain = race(&h, "descent", circles_descent_train_step), best = plain;
    best = fmin(best, race(&h, "momentum", circles_momentum_train_step));
    best = fmin(best, race(&h, "adagrad", circles_adagrad_train_step));
    best = fmin(best, race(&h, "rmsprop", circles_rmsprop_train_step));
    best = fmin(best, race(&h, "adam", circles_adam_train_step));
    host_bar(&h, best < 0.45, "the best loss is %.3f, less than 0.45 is expected", best);
    return host_end(&h);
}
