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
    LatheValue x = gpt_body(ids, &(Gpt){.tokens = TOKENS, .context = CONTEXT, .width = WIDTH, .heads = HEADS, .layers = LAYERS});
    lathe_output("logits", gpt_logits(x));
    return model_program(m, argc, argv);
}
