/* Week 8: a small GPT. Every position predicts the next token from those before it.
 *
 *     ids [N,T] -> token + position embedding -> 4 transformer blocks -> norm -> the token embedding, transposed -> logits [N,T,256]
 */
#include "../blocks/blocks.h"
#include "../blocks/program.h"

enum { TOKENS = 256, CONTEXT = 128, WIDTH = 128, HEADS = 4, LAYERS = 4 };

int main(int argc, char **argv) {
    LatheModel *m = lathe_model_new("gpt");
    LatheValue ids = lathe_input(m, "ids", LATHE_I64, 2, (LatheDim[]){lathe_dim(m, "N", 1, 8), lathe_dim(m, "T", 1, CONTEXT)});
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
