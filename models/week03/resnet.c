/* Week 3: a residual net of 20 layers for 32x32 colour images (He et al. 2015, section 4.2).
 *
 *     image [N,3,32,32] -> conv 16 -> 3 blocks of 16 -> 3 of 32, half the size -> 3 of 64, half the size -> average -> dense 10 -> logits
 */
#include "../blocks/blocks.h"
#include "../blocks/program.h"

int main(int argc, char **argv) {
    LatheModel *m = lathe_model_new("resnet");
    LatheDim dims[] = {lathe_dim(m, "N", 1, 64), lathe_const_dim(3), lathe_const_dim(32), lathe_const_dim(32)};
    LatheValue x = conv_bn_relu(lathe_input(m, "image", LATHE_F32, 4, dims), 16, 3, 1, "stem");
    for (int stage = 0; stage < 3; stage++) {
        for (int i = 0; i < 3; i++) {
            char name[32];
            snprintf(name, sizeof name, "stage%d_block%d", stage, i);
            x = residual_block(x, 16 << stage, stage > 0 && i == 0 ? 2 : 1, name);
        }
    }
    lathe_output("logits", lathe_dense(lathe_global_avg_pool(x), 10, "logits"));
    return model_program(m, argc, argv);
}
