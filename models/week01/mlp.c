/* Week 1, backprop: a perceptron with two hidden layers for 28x28 images of ten classes.
 *
 *     image [N,784] -> dense 100 -> relu -> dense 200 -> relu -> dense 10 -> logits
 *
 * Weights start at N(0, 0.01²), as in the lecture; stochastic gradient descent, rate 0.1, batches of 32.
 */
#include "../blocks/program.h"

static LatheValue layer(LatheValue x, int64_t units, const char *name) {
    return lathe_dense_with(x, units, name, &(LatheDense){.weight = lathe_normal(0, 0.01)});
}

static void build(LatheModel *m, bool training) {
    LatheDim n = lathe_dim(m, "N", 1, 100);
    LatheValue x = lathe_input(m, "image", LATHE_F32, 2, (LatheDim[]){n, lathe_const_dim(784)});
    LatheValue h = lathe_relu(layer(x, 100, "hidden1"));
    h = lathe_relu(layer(h, 200, "hidden2"));
    LatheValue logits = lathe_output("logits", layer(h, 10, "logits"));
    if (!training) return;
    LatheValue label = lathe_input(m, "label", LATHE_I64, 1, &n);
    lathe_train(m, lathe_cross_entropy(logits, label), &(LatheOptimizer){.kind = LATHE_SGD, .lr = 0.1});
}

int main(int argc, char **argv) { return training_program("mlp", build, argc, argv); }
