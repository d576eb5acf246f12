/* DecoderAttention of com.microsoft: time comes first, and four booleans say which attention it is.
 *
 *     query [S,B,I], key [T,B,I], weights [I,I] and [I,2*I], bias [3*I], caches [B,H,P,D]
 *
 *     static_kv  use_past     keys and values
 *     no         no           of the query
 *     yes        no           of key
 *     no         yes          the caches, and those of the query behind them
 *     yes        yes          the caches
 *
 * The caches count where has_layer_state is true as well, the padding mask where has_key_padding_mask is; true in it means a key that nobody
 * attends to. New caches are the keys and values. The booleans must be constants: shapes depend on them. */
#include <math.h>

#include "passes/expand/attention.h"
#include "passes/expand/build.h"
#include "passes/expand/chain.h"
#include "passes/rules.h"

typedef struct Flags { bool fixed, past, state, mask; } Flags;

static bool read_flag(const Node *n, uint32_t i, bool *flag) {
    const Value *v = n->in[i];
    if (v->data == NULL || v->type->dtype != DT_BOOL || v->data->bytes < 1) return false;
    *flag = *(const unsigned char *)v->data->data != 0;
    return true;
}

/* [S,B,H*D] as [B,H,S,D]. */
static Value *heads_of(const Chain *c, Value *v, int64_t heads) {
    return chain_transpose(c, chain_reshape(c, v, 4, (int64_t[]){0, 0, heads, -1}), 4, (int64_t[]){1, 2, 0, 3});
}

/* Keys and values of x [L,B,I]. */
static bool projected(const Chain *c, Value *x, int64_t width, int64_t heads, Value *kv[2]) {
    Value *both = chain_add(c, chain_2(c, OP_MatMul, x, c->n->in[3]), chain_slice(c, c->n->in[4], width, 3 * width, 0));
    for (int64_t i = 0; i < 2; i++) kv[i] = heads_of(c, chain_slice(c, both, i * width, (i + 1) * width, 2), heads);
    return kv[0] != NULL && kv[1] != NULL;
}

static bool keys_and_values(const Chain *c, const Flags *f, int64_t width, int64_t heads, Value *kv[2]) {
    Node *n = c->n;
    bool cached = f->past && f->state;
    if (cached && (n->in[6] == NULL || n->in[7] == NULL)) return expand_fail(c->m, n, "use_past needs key_cache and value_cache");
    for (uint32_t i = 6; cached && i < 8; i++)
        if (n->in[i]->type->rank != 4 || n->in[i]->type->dim[1] != dim_const(c->m->cx, heads)) return expand_fail(c->m, n, "caches must be [B,H,P,D], H being num_heads");
    if (!cached) return projected(c, f->fixed ? n->in[1] : n->in[0], width, heads, kv);
    if (!f->fixed && !projected(c, n->in[0], width, heads, kv)) return false;
    for (uint32_t i = 0; i < 2; i++) kv[i] = f->fixed ? n->in[6 + i] : chain_concat(c, n->in[6 + i], kv[i], 2);
    return kv[0] != NULL && kv[1] != NULL;
}

bool expand_decoder_attention(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Flags f;
    int64_t heads = attr_i(n, AT_DecoderAttention_num_heads);
    const Type *x = n->in[0]->type, *key = n->in[1]->type;
    if (!read_flag(n, 8, &f.fixed) || !read_flag(n, 9, &f.past) || !read_flag(n, 10, &f.state) || !read_flag(n, 11, &f.mask))
        return expand_fail(m, n, "static_kv, use_past, has_layer_state and has_key_padding_mask must be constants");
    if (x->rank != 3 || key->rank != 3 || n->in[2]->type->rank != 2 || n->in[3]->type->rank != 2 || n->in[4]->type->rank != 1 || !dim_is_const(m->cx, x->dim[2]))
        return expand_fail(m, n, "query and key must be [S,B,I] with I known at compile time, the weights [I,I] and [I,2*I], bias [3*I]");
    int64_t width = dim_value(m->cx, x->dim[2]);
    if (heads < 1 || width < 1 || width % heads != 0) return expand_fail(m, n, "the last size of query must be a multiple of num_heads");
    AttentionParts p = {.left = -1, .right = -1};
    Value *kv[2];
    p.q = heads_of(&c, chain_add(&c, chain_2(&c, OP_MatMul, n->in[0], n->in[2]), chain_slice(&c, n->in[4], 0, width, 0)), heads);
    if (p.q == NULL || !keys_and_values(&c, &f, width, heads, kv)) return false;
    p.k = kv[0];
    p.v = kv[1];
    p.scale = 1 / sqrt((double)(width / heads));
    if (f.mask && (n->in[5] == NULL || n->in[5]->type->rank != 2)) return expand_fail(m, n, "key_padding_mask must be [B,T]");
    if (f.mask && (p.mask = chain_2(&c, OP_Unsqueeze, chain_1(&c, OP_Not, n->in[5]), value_const_i64(m, 2, (int64_t[]){1, 2}))) == NULL) return false;
    Value *y = attention_build(m, n, &p, NULL);
    if (y == NULL) return false;
    out[0] = chain_reshape(&c, chain_transpose(&c, y, 4, (int64_t[]){2, 0, 1, 3}), 3, (int64_t[]){0, 0, -1});
    expand_give(m, n, out, 1, kv[0]);
    expand_give(m, n, out, 2, kv[1]);
    return out[0] != NULL;
}
