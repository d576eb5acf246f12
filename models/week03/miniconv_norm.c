/* Week 3: the same net with batch normalisation behind the convolution, the second task.
 *
 *     image [N,1,28,28] -> conv 3x3, 10 -> norm -> relu -> max pool 2 -> dense 100 -> relu -> dropout 0.1 -> dense 10 -> logits
 */
#include "../blocks/program.h"

static void build(LatheModel *m, bool training) {
    LatheDim n = lathe_dim(m, "N", 1, 100);
    LatheValue x = lathe_input(m, "image", LATHE_F32, 4, (LatheDim[]){n, lathe_const_dim(1), lathe_const_dim(28), lathe_const_dim(28)});
    x = lathe_batchnorm(lathe_conv2d(x, 10, 3, "conv", &(LatheConv){.no_bias = true}), "norm", NULL);
    x = lathe_max_pool2d(lathe_relu(x), 2, NULL);
    x = lathe_relu(lathe_dense(lathe_flatten(x, 1), 100, "hidden"));
    LatheValue logits = lathe_output("logits", lathe_dense(lathe_dropout(x, 0.1), 10, "logits"));
    if (!training) return;
    LatheValue label = lathe_input(m, "label", LATHE_I64, 1, &n);
    lathe_train(m, lathe_cross_entropy(logits, label), &(LatheOptimizer){.kind = LATHE_ADAM, .lr = 1e-3});
}

int main(int argc, char **argv) { return training_program("miniconv_norm", build, argc, argv); }
