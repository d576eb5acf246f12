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
    LatheValue x = gpt_body(ids, &(Gpt){.tokens = TOKENS, .context = CONTEXT, .width = WIDTH, .heads = HEADS, .layers = LAYERS});
    lathe_output("logits", gpt_logits(x));
    return model_program(m, argc, argv);
}
