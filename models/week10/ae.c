/* Week 10: an autoencoder with one hidden layer on each side.
 *
 *     image [N,784] -> dense 512 -> relu -> dense 32 (the code) -> dense 512 -> relu -> dense 784 -> sigmoid
 */
#include "../blocks/program.h"

static void build(LatheModel *m, bool training) {
    LatheDim n = lathe_dim(m, "N", 1, 64);
    LatheValue x = lathe_input(m, "image", LATHE_F32, 2, (LatheDim[]){n, lathe_const_dim(784)});
    LatheValue code = lathe_output("embedding", lathe_dense(lathe_relu(lathe_dense(x, 512, "encoder/hidden")), 32, "encoder/code"));
    LatheValue y = lathe_sigmoid(lathe_dense(lathe_relu(lathe_dense(code, 512, "decoder/hidden")), 784, "decoder/image"));
    lathe_output("reconstruction", y);
    if (training) lathe_train(m, lathe_mse(y, x), &(LatheOptimizer){.kind = LATHE_ADAM, .lr = 1e-3});
}

int main(int argc, char **argv) { return training_program("ae", build, argc, argv); }
