/* Week 3: the small convolutional net of the first task, with the batch normalisation of the second, for 32x32 colour images.
 *
 *     image [N,3,32,32] -> conv 3x3, 10 -> norm -> relu -> max pool 2 -> dense 100 -> relu -> dropout 0.1 -> dense 10 -> logits
 */
#include "../blocks/program.h"

int main(int argc, char **argv) {
    LatheModel *m = lathe_model_new("miniconv");
    LatheDim dims[] = {lathe_dim(m, "N", 1, 64), lathe_const_dim(3), lathe_const_dim(32), lathe_const_dim(32)};
    LatheValue x = lathe_input(m, "image", LATHE_F32, 4, dims);
    x = lathe_conv2d(x, 10, 3, "conv", NULL);
    x = lathe_max_pool2d(lathe_relu(lathe_batchnorm(x, "norm", NULL)), 2, NULL);
    x = lathe_relu(lathe_dense(lathe_flatten(x, 1), 100, "hidden"));
    lathe_output("logits", lathe_dense(lathe_dropout(x, 0.1), 10, "logits"));
    return model_program(m, argc, argv);
}
