/* Week 2: a line through points.
 *
 *     x [N,1] -> w x + b -> y      mean squared error, plain gradient descent
 */
#include "../blocks/program.h"

static void build(LatheModel *m, bool training) {
    LatheDim n = lathe_dim(m, "N", 1, 512);
    LatheValue x = lathe_input(m, "x", LATHE_F32, 2, (LatheDim[]){n, lathe_const_dim(1)});
    LatheValue y = lathe_output("y", lathe_dense_with(x, 1, "line", &(LatheDense){.weight = lathe_zeros()}));
    if (!training) return;
    LatheValue target = lathe_input(m, "target", LATHE_F32, 2, (LatheDim[]){n, lathe_const_dim(1)});
    lathe_train(m, lathe_mse(y, target), &(LatheOptimizer){.kind = LATHE_SGD, .lr = 0.05, .separate = true});
}

int main(int argc, char **argv) { return training_program("linreg", build, argc, argv); }
