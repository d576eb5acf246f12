/* Trains week 10's GAN over numbers: N(5, 1.5²) from uniform noise, five steps of the discriminator for one of the generator. */
#include "gan1d.h"

#include <math.h>

#include "host.h"

enum { BATCH = 128, PARTS = 200 };

int main(int argc, char **argv) {
    Host h = host_start("gan1d", argc, argv);
    static float real[BATCH], made[BATCH];
    int steps = h.quick ? 30000 : 100000;
    float d_loss, g_loss = 0;
    double mean = 0, square = 0;
    gan1d_ctx c;
    int code = gan1d_init(&c, host_memory(GAN1D_ARENA_BYTES), GAN1D_ARENA_BYTES, host_memory(GAN1D_STATE_BYTES), GAN1D_STATE_BYTES, NULL, 0, 3);
    const gan1d_inputs in = {.real = real};
    const gan1d_outputs out = {.made = made, .discriminator_loss = &d_loss, .generator_loss = &g_loss};
    for (int s = 0; s < steps && code == GAN1D_OK; s++) {
        for (int i = 0; i < BATCH; i++) real[i] = (float)(5 + 1.5 * host_normal(&h));
        code = gan1d_discriminator_train_step(&c, &in, &out);
        if (s % 5 == 4 && code == GAN1D_OK) code = gan1d_generator_train_step(&c, &in, &out);
        if (s % 5 != 4) continue;
        host_point(&h, "discriminator", s, (double)d_loss);
        host_point(&h, "generator", s, (double)g_loss);
        if (s % 500 == 499) host_progress(&h, s + 1, steps, "losses %.3f %.3f", (double)d_loss, (double)g_loss);
    }
    for (int k = 0; k < PARTS && code == GAN1D_OK; k++) {
        code = gan1d_predict(&c, &in, &out);
        for (int i = 0; i < BATCH; i++) mean += (double)made[i], square += (double)made[i] * (double)made[i];
    }
    host_require(code == GAN1D_OK, "%s", gan1d_error(code));
    mean /= PARTS * BATCH;
    double deviation = sqrt(square / (PARTS * BATCH) - mean * mean);
    host_bar(&h, fabs(mean - 5) < 0.3 && fabs(deviation - 1.5) < 0.3, "made numbers have mean %.3f, deviation %.3f; the real ones 5 and 1.5", mean, deviation);
    return host_end(&h);
}
