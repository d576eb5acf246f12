/* Week 12: a GPT for the throughput curve: forward passes per second for 1 to 1024 tokens at once, without a cache.
 *
 *     ids [1,T] -> token + position embedding -> 6 transformer blocks of width 256 -> norm -> the token embedding, transposed -> logits [1,T,256]
 */
#include "../blocks/blocks.h"
#include "../blocks/program.h"

enum { TOKENS = 256, CONTEXT = 1024, WIDTH = 256, HEADS = 4, LAYERS = 6 };

int main(int argc, char **argv) {
    LatheModel *m = lathe_model_new("gpt");
    LatheValue ids = lathe_input(m, "ids", LATHE_I64, 2, (LatheDim[]){lathe_const_dim(1), lathe_dim(m, "T", 1, CONTEXT)});
    LatheInit small = lathe_normal(0, 0.02);
    LatheValue x = lathe_embedding(ids, TOKENS, WIDTH, "tokens", small);
    x = lathe_add(x, lathe_embedding(lathe_positions(ids, 1), CONTEXT, WIDTH, "positions", small));
    for (int i = 0; i < LAYERS; i++) {
        char name[16];
        snprintf(name, sizeof name, "block%d", i);
        x = transformer_block(x, name, &(TransformerBlock){.heads = HEADS, .causal = true});
    }
    x = lathe_layernorm(x, "norm", NULL);
    lathe_output("logits", lathe_matmul(x, lathe_transpose(lathe_find(m, "tokens/weight"), NULL)));
    return model_program(m, argc, argv);
}
