/* Week 3: a residual net of 20 layers (He et al. 2015, section 4.2) for 28x28 images of one channel.
 *
 *     image [N,1,28,28] -> conv 16 -> 3 blocks of 16 -> 3 of 32, half the size -> 3 of 64, half the size -> average -> dense 10 -> logits
 *
 * Nesterov momentum, weight decay, a learning rate that warms up and falls along a cosine.
 */
#include "../blocks/blocks.h"
#include "../blocks/program.h"

static LatheValue stages(LatheValue x) {
    for (int stage = 0; stage < 3; stage++) {
        for (int i = 0; i < 3; i++) {
            char name[32];
            snprintf(name, sizeof name, "stage%d_block%d", stage, i);
            x = residual_block(x, 16 << stage, stage > 0 && i == 0 ? 2 : 1, name);
        }
    }
    return x;
}

static void build(LatheModel *m, bool training) {
    LatheDim n = lathe_dim(m, "N", 1, 64);
    LatheValue x = lathe_input(m, "image", LATHE_F32, 4, (LatheDim[]){n, lathe_const_dim(1), lathe_const_dim(28), lathe_const_dim(28)});
    x = stages(conv_bn_relu(x, 16, 3, 1, "stem"));
    LatheValue logits = lathe_output("logits", lathe_dense(lathe_global_avg_pool(x), 10, "logits"));
    if (!training) return;
    LatheValue label = lathe_input(m, "label", LATHE_I64, 1, &n);
    LatheSchedule schedule = {.kind = LATHE_COSINE, .warmup = 100, .steps = 1900};
    lathe_train(m, lathe_cross_entropy(logits, label), &(LatheOptimizer){.kind = LATHE_NESTEROV, .lr = 0.1, .weight_decay = 1e-4, .schedule = schedule});
}

int main(int argc, char **argv) { return training_program("resnet", build, argc, argv); }
