/* Week 10: a variational autoencoder (Kingma and Welling 2014).
 *
 *     image [N,784] -> dense 512 -> relu -> mean, log deviation of z [N,20]      z = mean + noise * exp(log deviation)
 *     z -> dense 512 -> relu -> mean, log deviation of every pixel                loss = KL(z to N(0,1)) - log p(image)
 *
 * The network as it is exported decodes the mean; "sample" is decoded from noise alone. Deviations of pixels stay above exp(-3): a pixel that is always black would have none.
 */
#include "../blocks/blocks.h"
#include "../blocks/program.h"

enum { Z = 20, HIDDEN = 512, SAMPLES = 64 };

typedef struct Normal { LatheValue mean, log_deviation; } Normal;

static Normal decode(LatheValue z, bool again) {
    LatheValue h = lathe_relu(dense_shared(z, HIDDEN, "decoder/hidden", again));
    LatheValue mean = lathe_sigmoid(dense_shared(h, 784, "decoder/mean", again));
    return (Normal){mean, lathe_clip(dense_shared(h, 784, "decoder/deviation", again), -3, 1)};
}

static void build(LatheModel *m, bool training) {
    LatheDim n = lathe_dim(m, "N", 1, 64);
    LatheValue x = lathe_input(m, "image", LATHE_F32, 2, (LatheDim[]){n, lathe_const_dim(784)});
    LatheValue h = lathe_relu(lathe_dense(x, HIDDEN, "encoder/hidden"));
    Normal z = {lathe_dense(h, Z, "encoder/mean"), lathe_clip(lathe_dense(h, Z, "encoder/deviation"), -8, 4)};
    LatheValue drawn = training ? lathe_add(z.mean, lathe_mul(lathe_randn_like(z.mean), lathe_exp(z.log_deviation))) : z.mean;
    Normal image = decode(drawn, false);
    lathe_output("reconstruction", image.mean);
    if (!training) return;
    LatheValue zeros = lathe_expand(lathe_scalar(m, LATHE_F32, 0), 2, (int64_t[]){SAMPLES, Z});
    lathe_output("sample", decode(lathe_randn_like(zeros), true).mean);
    LatheValue fit = lathe_gaussian_log_prob(x, image.mean, image.log_deviation);
    lathe_train(m, lathe_elbo_loss(fit, z.mean, z.log_deviation), &(LatheOptimizer){.kind = LATHE_ADAM, .lr = 1e-3, .clip = 1000});
}

int main(int argc, char **argv) { return training_program("vae", build, argc, argv); }
