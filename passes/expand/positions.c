/* Positions of com.microsoft's transformers: rotary embeddings of three kinds of positions, of Gemma, and biases by relative position.
 *
 *     MRotaryEmbedding(x, positions [3,B,S], cos, sin)   row positions[k] of the caches for the columns that belong to k, then RotaryEmbedding
 *     GemmaRotaryEmbedding(e, q, q', k, k')              q cos(e) + q' sin(e), the same for k
 *     GatedRelativePositionBias(q, …)                    (u (r a - 1) + 2) * rel_pos with gates u, r = sigmoid(sums of halves of q w + b)
 *     RelativePositionBias(table, Q, K)                  table[bucket(k - q)] for every head: T5's buckets, exact ones near 0 and logarithmic ones */
#include <math.h>

#include "passes/expand/attention.h"
#include "passes/expand/bind.h"
#include "passes/expand/build.h"
#include "passes/expand/chain.h"
#include "passes/rules.h"

/* ---- rotary ------------------------------------------------------------------------------------------------------ */
/* Which of the three positions column i of a cache belongs to. */
static int64_t section_of(int64_t i, const int64_t size[3], bool interleaved) {
    if (!interleaved) return i < size[0] ? 0 : i < size[0] + size[1] ? 1 : 2;
    for (int64_t k = 1; k < 3; k++)
        if (i % 3 == k && i < 3 * size[k]) return k;
    return 0;
}

/* A cache's rows for all tokens, [B,S,half]. */
static Value *cache_rows(const Chain *c, Value *cache, Value *positions, Value *section) {
    Value *y = NULL;
    for (int64_t k = 0; k < 3; k++) {
        Value *rows = chain_gather(c, cache, chain_squeeze(c, chain_slice(c, positions, k, k + 1, 0), 0), 0);
        y = k == 0 ? rows : chain_3(c, OP_Where, chain_2(c, OP_Equal, section, chain_int(c, k)), rows, y);
    }
    return y;
}

bool expand_m_rotary(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Value *x = n->in[0], *positions = n->in[1], *cosine = n->in[2];
    const Attr *sizes = attr_at(n, AT_MRotaryEmbedding_mrope_section);
    if (positions->type->rank != 3 || cosine->type->rank != 2 || !dim_is_const(m->cx, cosine->type->dim[1]) || (x->type->rank != 3 && x->type->rank != 4))
        return expand_fail(m, n, "input [B,S,H*D] or [B,H,S,D], position_ids [3,B,S] and caches [P,half] of known width are needed");
    int64_t half = dim_value(m->cx, cosine->type->dim[1]), heads = attr_i(n, AT_MRotaryEmbedding_num_heads), size[3];
    if (sizes->ints.n != 3 || half < 1 || half > 1 << 20) return expand_fail(m, n, "mrope_section must be three sizes");
    for (int i = 0; i < 3; i++) size[i] = sizes->ints.v[i];
    if (size[0] < 0 || size[1] < 0 || size[2] < 0 || size[0] + size[1] + size[2] != half) return expand_fail(m, n, "the sizes in mrope_section must add up to the width of the caches");
    int64_t *section = ARENA_ARRAY(&m->cx->scratch, int64_t, (size_t)half);
    for (int64_t i = 0; i < half; i++) section[i] = section_of(i, size, attr_i(n, AT_MRotaryEmbedding_mrope_layout) != 0);
    Value *which = expand_ints(m, 1, &half, section), *cos = cache_rows(&c, cosine, positions, which), *sin = cache_rows(&c, n->in[3], positions, which);
    if (cos == NULL || sin == NULL) return false;
    if (x->type->rank == 3 && heads < 1) return expand_fail(m, n, "num_heads is needed for [B,S,H*D]");
    int64_t turned = attr_i(n, AT_MRotaryEmbedding_rotary_embedding_dim);
    Dim width = x->type->dim[x->type->rank - 1];
    if (turned == 0) turned = dim_is_const(m->cx, width) ? dim_value(m->cx, width) / (x->type->rank == 3 ? heads : 1) : 0;
    if (turned != 2 * half) return expand_fail(m, n, "rotary_embedding_dim, or else the head size, must be known and twice the width of the caches");
    Node *r = expand_node(m, n, OP_RotaryEmbedding, 3, (Value *[]){x, cos, sin}, 1);
    attr_set_i(r, AT_RotaryEmbedding_interleaved, attr_i(n, AT_MRotaryEmbedding_interleaved));
    attr_set_i(r, AT_RotaryEmbedding_rotary_embedding_dim, attr_i(n, AT_MRotaryEmbedding_rotary_embedding_dim));
    if (heads > 0) attr_set_i(r, AT_RotaryEmbedding_num_heads, heads);
    out[0] = chain_node(&c, r);
    return out[0] != NULL;
}

bool expand_gemma_rotary(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    DType t = n->in[1]->type->dtype;
    Value *sin = chain_unsqueeze(&c, chain_cast(&c, chain_1(&c, OP_Sin, n->in[0]), t), 1), *cos = chain_unsqueeze(&c, chain_cast(&c, chain_1(&c, OP_Cos, n->in[0]), t), 1);
    for (uint32_t i = 0; i < 2; i++) {
        out[i] = chain_add(&c, chain_mul(&c, n->in[1 + 2 * i], cos), chain_mul(&c, n->in[2 + 2 * i], sin));
        if (out[i] == NULL) return false;
    }
    return true;
}

/* ---- biases ------------------------------------------------------------------------------------------------------ */
bool expand_gated_position_bias(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Value *q = n->in[0], *offsets = expand_input(n, 6);
    int64_t heads = attr_i(n, AT_GatedRelativePositionBias_num_heads);
    if (offsets != NULL) q = chain_2(&c, OP_RestorePadding, q, offsets);
    q = chain_add(&c, q, n->in[1]);
    if (q == NULL || q->type->rank != 3 || heads < 1) return expand_fail(m, n, "query_layer must be [B,S,H*D], or [T,H*D] with token_offset, and num_heads positive");
    q = attention_split_heads(m, n, q, heads);
    Value *gates = q != NULL ? chain_add(&c, chain_2(&c, OP_MatMul, q, n->in[3]), n->in[4]) : NULL; /* [B,H,S,D'] */
    if (gates == NULL || !dim_is_const(m->cx, gates->type->dim[3]) || dim_value(m->cx, gates->type->dim[3]) % 2 != 0) return expand_fail(m, n, "the weights must have an even, known number of columns");
    int64_t half = dim_value(m->cx, gates->type->dim[3]) / 2;
    Value *u = chain_1(&c, OP_Sigmoid, chain_reduce(&c, OP_ReduceSum, chain_slice(&c, gates, 0, half, 3), 3, true));
    Value *r = chain_1(&c, OP_Sigmoid, chain_reduce(&c, OP_ReduceSum, chain_slice(&c, gates, half, 2 * half, 3), 3, true));
    Value *gate = chain_plus(&c, chain_mul(&c, u, chain_plus(&c, chain_mul(&c, r, n->in[5]), -1)), 2);
    out[0] = chain_mul(&c, gate, n->in[2]);
    return out[0] != NULL;
}

/* Lengths as scalars, with the dims of the output as their contents. */
static bool lengths(const Chain *c, Value *length[2]) {
    const Type *t = c->n->out[0]->type;
    uint32_t known;
    for (uint32_t i = 0; i < 2; i++) {
        Value *vector = chain_reshape(c, chain_cast(c, c->n->in[1 + i], DT_I64), 1, (int64_t[]){1});
        if (vector == NULL) return false;
        if (value_dims(c->m, c->n->in[1 + i], &known) == NULL) vector = bind_dims(c->m, c->n, vector, type_tensor(c->m->cx, DT_I64, 1, &t->dim[2 + i]));
        length[i] = chain_reshape(c, vector, 0, NULL);
    }
    return length[0] != NULL && length[1] != NULL;
}

bool expand_relative_position_bias(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    const Type *t = n->in[0]->type;
    bool both = attr_i(n, AT_RelativePositionBias_is_bidirectional) != 0;
    int64_t all = dim_value(m->cx, t->dim[0]), heads = dim_value(m->cx, t->dim[1]), buckets = both ? all / 2 : all, exact = buckets / 2, far = attr_i(n, AT_RelativePositionBias_max_distance);
    Value *length[2];
    if (exact < 1 || far <= exact) return expand_fail(m, n, "max_distance must be more than the number of exact buckets");
    if (!lengths(&c, length)) return false;
    Value *distance = chain_sub(&c, chain_count(&c, length[1], 2, 1), chain_count(&c, length[0], 2, 0)), *zero = chain_int(&c, 0);
    Value *size = both ? chain_1(&c, OP_Abs, distance) : chain_1(&c, OP_Neg, chain_2(&c, OP_Min, distance, zero));
    Value *ratio = chain_times(&c, chain_cast(&c, chain_2(&c, OP_Max, size, chain_int(&c, 1)), DT_F32), 1.0 / (double)exact);
    Value *steps = chain_times(&c, chain_1(&c, OP_Log, ratio), (double)(buckets - exact) / log((double)far / (double)exact));
    Value *large = chain_2(&c, OP_Min, chain_plus(&c, chain_cast(&c, steps, DT_I64), (double)exact), chain_int(&c, buckets - 1));
    Value *bucket = chain_3(&c, OP_Where, chain_2(&c, OP_Less, size, chain_int(&c, exact)), size, large);
    if (both) bucket = chain_add(&c, bucket, chain_times(&c, chain_cast(&c, chain_2(&c, OP_Greater, distance, zero), DT_I64), (double)buckets));
    Value *table = chain_reshape(&c, n->in[0], 2, (int64_t[]){heads, all}); /* the elements stand column by column */
    out[0] = chain_unsqueeze(&c, chain_gather(&c, table, bucket, 1), 0);
    return out[0] != NULL;
}
