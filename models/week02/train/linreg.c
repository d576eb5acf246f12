/* Fits a line to noisy points of a known one; the first gradients are those of the formula dL/dw = 2 mean((w x + b - y) x). */
#include "linreg.h"

#include <math.h>
#include <string.h>

#include "host.h"

enum { POINTS = 506, STEPS = 300 };

static linreg_ctx c;

static const float *tensor(const char *name) {
    for (int i = 0; i < LINREG_TENSORS; i++)
        if (strcmp(linreg_tensors[i].name, name) == 0) return (const float *)((unsigned char *)c.state + linreg_tensors[i].offset);
    host_require(false, "the state has no tensor %s", name);
    return NULL;
}

int main(int argc, char **argv) {
    Host h = host_start("linreg", argc, argv);
    static float x[POINTS], y[POINTS];
    double dw = 0, db = 0;
    for (int i = 0; i < POINTS; i++) {
        x[i] = (float)(4 * host_uniform(&h));
        y[i] = (float)(34.5 - 9.5 * (double)x[i] + 3 * host_normal(&h));
        dw -= 2 * (double)y[i] * (double)x[i] / POINTS;
        db -= 2 * (double)y[i] / POINTS;
    }
    float loss;
    const linreg_inputs in = {.x = x, .target = y, .N = POINTS};
    const linreg_outputs out = {.loss = &loss};
    int code = linreg_init(&c, host_memory(LINREG_ARENA_BYTES), LINREG_ARENA_BYTES, host_memory(LINREG_STATE_BYTES), LINREG_STATE_BYTES, NULL, 0, 1);
    for (int s = 0; s < STEPS && code == LINREG_OK; s++) {
        code = linreg_forward(&c, &in, &out);
        if (code == LINREG_OK) code = linreg_backward(&c, &in, &out);
        if (s == 0) {
            double gw = (double)*tensor("optimizer/gradient/line/weight"), gb = (double)*tensor("optimizer/gradient/line/bias");
            host_bar(&h, fabs(gw - dw) < 1e-3 * fabs(dw) && fabs(gb - db) < 1e-3 * fabs(db), "first gradients %.4f, %.4f; by the formula %.4f, %.4f", gw, gb, dw, db);
        }
        if (code == LINREG_OK) code = linreg_step(&c, &in, &out);
        host_point(&h, "loss", s, (double)loss);
    }
    host_require(code == LINREG_OK, "%s", linreg_error(code));
    double w = (double)*tensor("line/weight"), b = (double)*tensor("line/bias");
    host_bar(&h, fabs(w + 9.5) < 0.5 && fabs(b - 34.5) < 1, "y = %.2f x + %.2f; the points come from y = -9.5 x + 34.5", w, b);
    return host_end(&h);
}
