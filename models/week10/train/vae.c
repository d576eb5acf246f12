/* Trains week 10's variational autoencoder on Fashion-MNIST; the picture has images that were decoded from noise. */
#include "vae.h"

#include "host.h"

enum { BATCH = 64, SAMPLES = 64 };

int main(int argc, char **argv) {
    Host h = host_start("vae", argc, argv);
    Images train = host_fashion(&h, "train"), test = host_fashion(&h, "t10k");
    static float image[BATCH * 784], y[BATCH * 784], sample[SAMPLES * 784];
    int steps = h.quick ? 400 : 8 * train.n / BATCH, index[BATCH];
    float loss;
    double sum = 0;
    vae_ctx c;
    int code = vae_init(&c, host_memory(VAE_ARENA_BYTES), VAE_ARENA_BYTES, host_memory(VAE_STATE_BYTES), VAE_STATE_BYTES, NULL, 0, 1);
    const vae_inputs in = {.image = image, .N = BATCH};
    const vae_outputs out = {.reconstruction = y, .sample = sample, .loss = &loss};
    for (int s = 0; s < steps && code == VAE_OK; s++) {
        for (int i = 0; i < BATCH; i++) index[i] = (int)(host_uniform(&h) * train.n);
        host_batch(&train, index, BATCH, image, NULL);
        code = vae_train_step(&c, &in, &out);
        if (s >= 50) host_point(&h, "loss", s, (double)loss);
        if (s % 20 == 19) host_progress(&h, s + 1, steps, "loss %.1f", (double)loss);
    }
    for (int at = 0; at + BATCH <= test.n && code == VAE_OK; at += BATCH) {
        code = vae_evaluate(&c, &(vae_inputs){.image = test.pixel + at * 784, .N = BATCH}, &out);
        sum += (double)loss;
    }
    host_require(code == VAE_OK, "%s", vae_error(code));
    host_png(&h, ".png", sample, SAMPLES, 28, 28, 1);
    sum /= test.n / BATCH;
    host_bar(&h, sum < -900, "negative evidence lower bound on the test images %.1f, less than -900 is expected", sum);
    return host_end(&h);
}
