/* Trains week 10's convolutional GAN on Fashion-MNIST; the picture has what the generator makes at the end. */
#include "dcgan.h"

#include <math.h>

#include "host.h"

enum { BATCH = 64 };

/* How much the pictures differ from each other: the mean deviation of a pixel over them. */
static double variety(const float *made) {
    double sum = 0;
    for (int p = 0; p < 784; p++) {
        double mean = 0, square = 0;
        for (int i = 0; i < BATCH; i++) mean += (double)made[i * 784 + p], square += (double)made[i * 784 + p] * (double)made[i * 784 + p];
        mean /= BATCH;
        sum += sqrt(fmax(square / BATCH - mean * mean, 0));
    }
    return sum / 784;
}

int main(int argc, char **argv) {
    Host h = host_start("dcgan", argc, argv);
    Images train = host_fashion(&h, "train");
    static float real[BATCH * 784], made[BATCH * 784];
    int steps = h.quick ? 100 : 3 * train.n / BATCH, index[BATCH];
    float d_loss, g_loss;
    dcgan_ctx c;
    int code = dcgan_init(&c, host_memory(DCGAN_ARENA_BYTES), DCGAN_ARENA_BYTES, host_memory(DCGAN_STATE_BYTES), DCGAN_STATE_BYTES, NULL, 0, 1);
    const dcgan_inputs in = {.real = real};
    const dcgan_outputs out = {.made = made, .discriminator_loss = &d_loss, .generator_loss = &g_loss};
    for (int s = 0; s < steps && code == DCGAN_OK; s++) {
        for (int i = 0; i < BATCH; i++) index[i] = (int)(host_uniform(&h) * train.n);
        host_batch(&train, index, BATCH, real, NULL);
        code = dcgan_discriminator_train_step(&c, &in, &out);
        if (code == DCGAN_OK) code = dcgan_generator_train_step(&c, &in, &out);
        host_point(&h, "discriminator", s, (double)d_loss);
        host_point(&h, "generator", s, (double)g_loss);
        host_progress(&h, s + 1, steps, "losses %.3f %.3f", (double)d_loss, (double)g_loss);
    }
    if (code == DCGAN_OK) code = dcgan_predict(&c, &in, &out);
    host_require(code == DCGAN_OK, "%s", dcgan_error(code));
    host_png(&h, ".png", made, BATCH, 28, 28, 1);
    double spread = variety(made), wanted = variety(real);
    host_bar(&h, spread > 0.4 * wanted, "a pixel differs by %.3f between made images, by %.3f between real ones", spread, wanted);
    return host_end(&h);
}
