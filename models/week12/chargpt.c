/* Week 12: a character GPT that is trained on the King James Bible and then quantized: what 8 and 4 bits cost in perplexity.
 *
 *     ids [N,65] -> the first 64 -> token + position embedding -> 4 transformer blocks of width 128 -> norm -> the token embedding,
 *     transposed -> logits [N*64,128]; nll: the mean of -log p(next character)
 */
#include "../blocks/blocks.h"
#include "../blocks/program.h"

enum { TOKENS = 128, CONTEXT = 64, WIDTH = 128, HEADS = 4, LAYERS = 4 };

static void build(LatheModel *m, bool training) {
    LatheDim n = lathe_dim(m, "N", 1, training ? 32 : 256);
    LatheValue ids = lathe_input(m, "ids", LATHE_I64, 2, (LatheDim[]){n, lathe_const_dim(CONTEXT + 1)});
    LatheValue x = gpt_body(lathe_slice(ids, 1, 0, CONTEXT, 1), &(Gpt){.tokens = TOKENS, .context = CONTEXT, .width = WIDTH, .heads = HEADS, .layers = LAYERS});
    LatheValue next = lathe_reshape(lathe_slice(ids, 1, 1, CONTEXT + 1, 1), 1, (int64_t[]){-1});
    LatheValue nll = lathe_cross_entropy(lathe_reshape(gpt_logits(x), 2, (int64_t[]){-1, TOKENS}), next);
    if (!training) lathe_output("nll", nll);
    if (training) lathe_train(m, nll, &(LatheOptimizer){.kind = LATHE_ADAMW, .lr = 1e-3, .clip = 1});
}

int main(int argc, char **argv) { return training_program("chargpt", build, argc, argv); }
