/* Week 1, adaptive optimisation: logistic regression on points in the plane, with squares and products as features.
 *
 *     features [N,6] = x0, x1, x0², x1², x0 x1, 1      probability = sigmoid(features w)      binary cross-entropy
 *
 * One parameter vector, five optimizers: each has functions of its own, all start at w = 0, 0, 0, 0, 0, 1.
 */
#include "../blocks/program.h"

static void build(LatheModel *m, bool training) {
    LatheDim n = lathe_dim(m, "N", 1, 1024);
    LatheValue x = lathe_input(m, "features", LATHE_F32, 2, (LatheDim[]){n, lathe_const_dim(6)});
    LatheValue w = lathe_param(m, "w", LATHE_F32, 2, (int64_t[]){6, 1}, lathe_zeros());
    const float first[6] = {0, 0, 0, 0, 0, 1};
    lathe_load_array(m, "w", first, sizeof first);
    LatheValue score = lathe_squeeze(lathe_matmul(x, w), 1);
    lathe_output("probability", lathe_sigmoid(score));
    if (!training) return;
    LatheValue y = lathe_input(m, "y", LATHE_F32, 1, &n);
    LatheValue loss = lathe_bce_logits(score, y);
    lathe_train(m, loss, &(LatheOptimizer){.kind = LATHE_SGD, .lr = 0.1, .name = "descent", .separate = true});
    lathe_train(m, loss, &(LatheOptimizer){.kind = LATHE_MOMENTUM, .lr = 0.05, .momentum = 0.9, .name = "momentum"});
    lathe_train(m, loss, &(LatheOptimizer){.kind = LATHE_ADAGRAD, .lr = 0.3, .name = "adagrad"});
    lathe_train(m, loss, &(LatheOptimizer){.kind = LATHE_RMSPROP, .lr = 0.1, .beta2 = 0.9, .name = "rmsprop"});
    lathe_train(m, loss, &(LatheOptimizer){.kind = LATHE_ADAM, .lr = 0.1, .name = "adam"});
}

int main(int argc, char **argv) { return training_program("circles", build, argc, argv); }
