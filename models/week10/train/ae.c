/* Trains week 10's autoencoder on Fashion-MNIST; the picture has images above their reconstructions. */
#include "ae.h"

#include <string.h>

#include "host.h"

enum { BATCH = 64, SHOWN = 8 };

int main(int argc, char **argv) {
    Host h = host_start("ae", argc, argv);
    Images train = host_fashion(&h, "train"), test = host_fashion(&h, "t10k");
    static float image[BATCH * 784], y[BATCH * 784], embedding[BATCH * 32], shown[2 * SHOWN * 784];
    int steps = h.quick ? 400 : 5 * train.n / BATCH, index[BATCH];
    float loss;
    double sum = 0;
    ae_ctx c;
    int code = ae_init(&c, host_memory(AE_ARENA_BYTES), AE_ARENA_BYTES, host_memory(AE_STATE_BYTES), AE_STATE_BYTES, NULL, 0, 1);
    const ae_inputs in = {.image = image, .N = BATCH};
    const ae_outputs out = {.reconstruction = y, .embedding = embedding, .loss = &loss};
    for (int s = 0; s < steps && code == AE_OK; s++) {
        for (int i = 0; i < BATCH; i++) index[i] = (int)(host_uniform(&h) * train.n);
        host_batch(&train, index, BATCH, image, NULL);
        code = ae_train_step(&c, &in, &out);
        host_point(&h, "loss", s, (double)loss);
        if (s % 20 == 19) host_progress(&h, s + 1, steps, "loss %.4f", (double)loss);
    }
    for (int at = 0; at + BATCH <= test.n && code == AE_OK; at += BATCH) {
        code = ae_evaluate(&c, &(ae_inputs){.image = test.pixel + at * 784, .N = BATCH}, &out);
        sum += (double)loss;
        if (at != 0) continue;
        memcpy(shown, test.pixel, SHOWN * 784 * sizeof *shown);
        memcpy(shown + SHOWN * 784, y, SHOWN * 784 * sizeof *shown);
    }
    host_require(code == AE_OK, "%s", ae_error(code));
    host_png(&h, ".png", shown, 2 * SHOWN, 28, 28, 1);
    sum /= test.n / BATCH;
    host_bar(&h, sum < 0.012, "mean squared error on the test images %.4f, less than 0.012 is expected", sum);
    return host_end(&h);
}
