/* Week 1: a perceptron with one hidden layer for 28x28 images of ten classes.
 *
 *     image [N,784] -> dense 512 -> relu -> dense 10 -> logits
 */
#include "../blocks/program.h"

int main(int argc, char **argv) {
    LatheModel *m = lathe_model_new("mlp");
    LatheValue x = lathe_input(m, "image", LATHE_F32, 2, (LatheDim[]){lathe_dim(m, "N", 1, 64), lathe_const_dim(784)});
    LatheValue h = lathe_relu(lathe_dense(x, 512, "hidden"));
    lathe_output("logits", lathe_dense(h, 10, "logits"));
    return model_program(m, argc, argv);
}
