/* Week 2: ten classes without convolutions. The tricks of the lecture: He's initialisation, batch normalisation, dropout,
 * a residual connection, weight decay.
 *
 *     image [N,784] -> dense 256, norm, relu -> (dense 256, norm, relu, dropout) + skip -> dense 10
 */
#include "../blocks/program.h"

static LatheValue block(LatheValue x, int64_t units, const char *name) {
    lathe_scope(x.model, "%s", name);
    x = lathe_dense_with(x, units, "dense", &(LatheDense){.no_bias = true, .weight = lathe_kaiming_normal(0)});
    x = lathe_relu(lathe_batchnorm(x, "norm", NULL));
    lathe_end_scope(x.model);
    return x;
}

static void build(LatheModel *m, bool training) {
    LatheDim n = lathe_dim(m, "N", 1, 128);
    LatheValue x = lathe_input(m, "image", LATHE_F32, 2, (LatheDim[]){n, lathe_const_dim(784)});
    LatheValue h = block(x, 256, "first");
    h = lathe_add(h, lathe_dropout(block(h, 256, "second"), 0.2));
    LatheValue logits = lathe_output("logits", lathe_dense(h, 10, "logits"));
    if (!training) return;
    LatheValue label = lathe_input(m, "label", LATHE_I64, 1, &n);
    lathe_train(m, lathe_cross_entropy(logits, label), &(LatheOptimizer){.kind = LATHE_ADAM, .lr = 1e-3, .weight_decay = 1e-5});
}

int main(int argc, char **argv) { return training_program("letters", build, argc, argv); }
