/* Week 12: the first projection of the character GPT for the QUIK table: weights rounded to 8 bits, and inputs, too, with and without
 * outlier columns in floats. Its weights are those that chargpt has trained.
 *
 *     ids [N,65] -> the first 64 -> token + position embedding -> norm -> dense 384 -> the mean over all rows, y [64,384]
 */
#include "../blocks/blocks.h"
#include "../blocks/program.h"

enum { TOKENS = 128, CONTEXT = 64, WIDTH = 128 };

int main(int argc, char **argv) {
    LatheModel *m = lathe_model_new("quik");
    LatheValue ids = lathe_input(m, "ids", LATHE_I64, 2, (LatheDim[]){lathe_dim(m, "N", 1, 256), lathe_const_dim(CONTEXT + 1)});
    LatheInit small = lathe_normal(0, 0.02);
    ids = lathe_slice(ids, 1, 0, CONTEXT, 1);
    LatheValue x = lathe_add(lathe_embedding(ids, TOKENS, WIDTH, "tokens", small), lathe_embedding(lathe_positions(ids, 1), CONTEXT, WIDTH, "positions", small));
    LatheValue y = lathe_dense_with(lathe_layernorm(x, "block0/norm1", NULL), 3 * WIDTH, "block0/qkv", &(LatheDense){.weight = small});
    lathe_output("y", lathe_mean(y, 0, false));
    return model_program(m, argc, argv);
}
