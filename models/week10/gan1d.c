/* Week 10: two networks of a hidden layer each, against each other over numbers (Goodfellow et al. 2014).
 *
 *     generator:      noise U(0,1) -> dense 16 -> elu -> dense 1
 *     discriminator:  number -> dense 64 -> elu -> dense 2 -> log softmax: class 1 is real, 0 is made
 *
 * Each has a loss and an optimizer of its own, over its own parameters; the discriminator sees real and made numbers in one batch.
 */
#include "../blocks/program.h"

enum { BATCH = 128 };

static LatheValue column(LatheValue x, int64_t row, int64_t class) { /* log probabilities of a class, of one half of the batch */
    return lathe_slice(lathe_slice(x, 0, row * BATCH, (row + 1) * BATCH, 1), 1, class, class + 1, 1);
}

static void build(LatheModel *m, bool training) {
    LatheValue real = lathe_input(m, training ? "real" : "noise", LATHE_F32, 2, (LatheDim[]){lathe_const_dim(BATCH), lathe_const_dim(1)});
    LatheValue noise = training ? lathe_rand_like(real, 0, 1) : real; /* exported, the generator takes its noise as an input */
    LatheValue h = lathe_elu(lathe_dense(noise, 16, "generator/hidden"), 1);
    LatheValue made = lathe_output("made", lathe_dense(h, 1, "generator/number"));
    if (!training) return;
    LatheValue both = lathe_concat(2, (LatheValue[]){real, made}, 0);
    h = lathe_elu(lathe_dense(both, 64, "discriminator/hidden"), 1);
    LatheValue log_p = lathe_log_softmax(lathe_dense(h, 2, "discriminator/class"), 1);
    LatheValue right = lathe_add(column(log_p, 0, 1), column(log_p, 1, 0)), fooled = column(log_p, 1, 1);
    LatheValue d_loss = lathe_neg(lathe_reduce(LATHE_REDUCE_MEAN, right, 0, NULL, false)), g_loss = lathe_neg(lathe_reduce(LATHE_REDUCE_MEAN, fooled, 0, NULL, false));
    lathe_train(m, d_loss, &(LatheOptimizer){.kind = LATHE_SGD, .lr = 1e-2, .params = (const char *[]){"discriminator/*", NULL}, .name = "discriminator"});
    lathe_train(m, g_loss, &(LatheOptimizer){.kind = LATHE_SGD, .lr = 1e-3, .params = (const char *[]){"generator/*", NULL}, .name = "generator"});
}

int main(int argc, char **argv) { return training_program("gan1d", build, argc, argv); }
