#include "blocks.h"

LatheValue conv_bn_relu(LatheValue x, int64_t channels, int64_t kernel, int64_t stride, const char *name) {
    LatheModel *m = x.model;
    lathe_scope(m, "%s", name);
    x = lathe_conv2d(x, channels, kernel, "conv", &(LatheConv){.stride = stride, .pad = kernel / 2, .no_bias = true});
    x = lathe_relu(lathe_batchnorm(x, "norm", NULL));
    lathe_end_scope(m);
    return x;
}

LatheValue residual_block(LatheValue x, int64_t channels, int64_t stride, const char *name) {
    LatheModel *m = x.model;
    lathe_scope(m, "%s", name);
    LatheValue y = conv_bn_relu(x, channels, 3, stride, "first"), skip = x;
    y = lathe_batchnorm(lathe_conv2d(y, channels, 3, "second", &(LatheConv){.pad = 1, .no_bias = true}), "norm", NULL);
    if (stride != 1 || lathe_size_of(x, 1) != channels)
        skip = lathe_batchnorm(lathe_conv2d(x, channels, 1, "skip", &(LatheConv){.stride = stride, .no_bias = true}), "skip_norm", NULL);
    y = lathe_relu(lathe_add(y, skip));
    lathe_end_scope(m);
    return y;
}

LatheValue dense_shared(LatheValue x, int64_t units, const char *name, bool again) {
    char weight[256], bias[256];
    if (!again) return lathe_dense(x, units, name);
    snprintf(weight, sizeof weight, "%s/weight", name);
    snprintf(bias, sizeof bias, "%s/bias", name);
    return lathe_add(lathe_matmul(x, lathe_find(x.model, weight)), lathe_find(x.model, bias));
}

static LatheValue self_attention(LatheValue x, const TransformerBlock *o) {
    int64_t width = lathe_size_of(x, -1);
    LatheInit small = lathe_normal(0, 0.02);
    LatheValue qkv[3], no_mask = {0};
    lathe_split(lathe_dense_with(x, 3 * width, "qkv", &(LatheDense){.weight = small}), -1, 3, qkv);
    LatheValue y = lathe_attention(qkv[0], qkv[1], qkv[2], no_mask, &(LatheAttention){.heads = o->heads, .causal = o->causal});
    return lathe_dropout(lathe_dense_with(y, width, "projection", &(LatheDense){.weight = small}), o->dropout);
}

static LatheValue feed_forward(LatheValue x, const TransformerBlock *o) {
    int64_t width = lathe_size_of(x, -1);
    LatheInit small = lathe_normal(0, 0.02);
    LatheValue y = lathe_gelu_tanh(lathe_dense_with(x, 4 * width, "up", &(LatheDense){.weight = small}));
    return lathe_dropout(lathe_dense_with(y, width, "down", &(LatheDense){.weight = small}), o->dropout);
}

LatheValue transformer_block(LatheValue x, const char *name, const TransformerBlock *o) {
    LatheModel *m = x.model;
    lathe_scope(m, "%s", name);
    x = lathe_add(x, self_attention(lathe_layernorm(x, "norm1", NULL), o));
    x = lathe_add(x, feed_forward(lathe_layernorm(x, "norm2", NULL), o));
    lathe_end_scope(m);
    return x;
}

LatheValue gpt_body(LatheValue ids, const Gpt *o) {
    LatheInit small = lathe_normal(0, 0.02);
    LatheValue x = lathe_embedding(ids, o->tokens, o->width, "tokens", small);
    x = lathe_add(x, lathe_embedding(lathe_positions(ids, 1), o->context, o->width, "positions", small));
    for (int i = 0; i < o->layers; i++) {
        char name[16];
        snprintf(name, sizeof name, "block%d", i);
        x = transformer_block(x, name, &(TransformerBlock){.heads = o->heads, .causal = true});
    }
    return lathe_layernorm(x, "norm", NULL);
}

LatheValue gpt_logits(LatheValue x) { return lathe_matmul(x, lathe_transpose(lathe_find(x.model, "tokens/weight"), NULL)); }
