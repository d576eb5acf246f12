/* Blocks that several weeks build from: small functions from values to a value, in the language of include/lathe.h.
 * Their parameters stand in a scope called `name`. */
#ifndef LATHE_MODELS_BLOCKS_H
#define LATHE_MODELS_BLOCKS_H
#include "lathe.h"

/* convolution, batch normalisation, relu; no bias, the normalisation has one. x [N,C,H,W] */
LatheValue conv_bn_relu(LatheValue x, int64_t channels, int64_t kernel, int64_t stride, const char *name);

/* relu(x + f(x)), f two 3x3 convolutions with batch normalisation (He et al. 2015); where the size changes, x goes through a
 * 1x1 convolution. */
LatheValue residual_block(LatheValue x, int64_t channels, int64_t stride, const char *name);

/* A dense layer, or once more the one of this name: x through the same weights (units is not looked at then). */
LatheValue dense_shared(LatheValue x, int64_t units, const char *name, bool again);

/* Pre-norm transformer block as in GPT-2 (Radford et al. 2019): x + attention(norm(x)), then x + mlp(norm(x)). x [N,T,width] */
typedef struct TransformerBlock { int64_t heads; bool causal; double dropout; } TransformerBlock;
LatheValue transformer_block(LatheValue x, const char *name, const TransformerBlock *o);

/* GPT-2 up to its last norm: ids [N,T] -> token + position embedding -> blocks block0, block1, ... -> norm -> [N,T,width]. */
typedef struct Gpt { int64_t tokens, context, width, heads; int layers; } Gpt;
LatheValue gpt_body(LatheValue ids, const Gpt *o);
LatheValue gpt_logits(LatheValue x); /* x [...,width] times the token embedding, transposed: [...,tokens] */

#endif
