/* Week 10: a convolutional GAN for 28x28 images (Radford et al. 2015, smaller).
 *
 *     generator:      noise [64,64] -> dense 7x7x32 -> norm -> relu -> deconv 16, 14x14 -> norm -> relu -> deconv 1, 28x28 -> sigmoid
 *     discriminator:  image -> conv 16, 14x14 -> leaky relu -> conv 32, 7x7 -> leaky relu -> dense 1
 */
#include "../blocks/program.h"

enum { BATCH = 64, NOISE = 64 };

static LatheValue generate(LatheValue noise) {
    LatheConv up = {.stride = 2, .pad = 1, .weight = lathe_normal(0, 0.05)};
    LatheValue x = lathe_reshape(lathe_dense(noise, 32 * 49, "generator/dense"), 4, (int64_t[]){0, 32, 7, 7});
    x = lathe_relu(lathe_batchnorm(x, "generator/norm1", NULL));
    x = lathe_relu(lathe_batchnorm(lathe_conv_transpose2d(x, 16, 4, "generator/up1", &up), "generator/norm2", NULL));
    return lathe_sigmoid(lathe_conv_transpose2d(x, 1, 4, "generator/up2", &up));
}

static LatheValue judge(LatheValue x) {
    LatheConv down = {.stride = 2, .pad = 1};
    x = lathe_leaky_relu(lathe_conv2d(x, 16, 4, "discriminator/down1", &down), 0.2);
    x = lathe_leaky_relu(lathe_conv2d(x, 32, 4, "discriminator/down2", &down), 0.2);
    return lathe_dense(lathe_flatten(x, 1), 1, "discriminator/score");
}

static LatheValue against(LatheValue score, double target) { return lathe_bce_logits(score, lathe_add(lathe_mul(score, lathe_scalar_like(score, 0)), lathe_scalar_like(score, target))); }

static void build(LatheModel *m, bool training) {
    LatheDim batch = lathe_const_dim(BATCH), one = lathe_const_dim(1), side = lathe_const_dim(28);
    if (!training) { /* exported, the generator takes its noise as an input */
        lathe_output("made", generate(lathe_input(m, "noise", LATHE_F32, 2, (LatheDim[]){batch, lathe_const_dim(NOISE)})));
        return;
    }
    LatheValue real = lathe_input(m, "real", LATHE_F32, 4, (LatheDim[]){batch, one, side, side});
    LatheValue zeros = lathe_expand(lathe_scalar(m, LATHE_F32, 0), 2, (int64_t[]){BATCH, NOISE});
    LatheValue made = lathe_output("made", generate(lathe_randn_like(zeros)));
    LatheValue score[2];
    lathe_split(judge(lathe_concat(2, (LatheValue[]){real, made}, 0)), 0, 2, score);
    LatheValue d_loss = lathe_add(against(score[0], 0.9), against(score[1], 0)), g_loss = against(score[1], 1);
    LatheOptimizer adam = {.kind = LATHE_ADAM, .lr = 2e-4, .beta1 = 0.5, .params = (const char *[]){"discriminator/*", NULL}, .name = "discriminator"};
    lathe_train(m, d_loss, &adam);
    adam.params = (const char *[]){"generator/*", NULL};
    adam.name = "generator";
    lathe_train(m, g_loss, &adam);
}

int main(int argc, char **argv) { return training_program("dcgan", build, argc, argv); }
