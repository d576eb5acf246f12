/* Operators of com.microsoft on words and tokens, out of ordinary ones.
 *
 *     NGramRepeatBlock(ids [B,S], scores [B,V]) {ngram_size = n}      ids[b, t+n-1] gets -inf where ids[b, t .. t+n-2] are the last n - 1 tokens
 *     WordConvEmbedding(chars [W,L], w [F,1,K,D], b, table [C,D])     max over the places of a word of tanh(conv(table[chars]))
 *     MurmurHash3(x)                                                  32-bit hash of the bytes of each number
 *     Unique(x)                                                       Unique in the order of first occurrence */
#include <math.h>

#include "passes/expand/build.h"
#include "passes/expand/chain.h"
#include "passes/rules.h"

/* ---- NGramRepeatBlock -------------------------------------------------------------------------------------------- */
/* Token k of the last n - 1 of each row, [B,1]; some token where a row is shorter, which no n-gram is compared with then. */
static Value *suffix_token(const Chain *c, Value *ids, int64_t k, int64_t size) {
    Value *at = chain_plus(c, chain_size(c, ids, 1), (double)(k - (size - 1)));
    return chain_unsqueeze(c, chain_gather(c, ids, chain_2(c, OP_Max, at, chain_int(c, 0)), 1), 1);
}

bool expand_ngram_repeat_block(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Value *ids = n->in[0], *scores = n->in[1], *same = NULL;
    int64_t size = attr_i(n, AT_NGramRepeatBlock_ngram_size);
    if (ids->type->rank != 2 || scores->type->rank != 2) return expand_fail(m, n, "input_ids must be [B,S] and scores [B,V]");
    if (size < 1 || size > 256) return expand_fail(m, n, "ngram_size must be from 1 to 256");
    Value *last = chain_slice(&c, ids, size - 1, INT64_MAX, 1);
    for (int64_t k = 0; k + 1 < size; k++) {
        Value *equal = chain_2(&c, OP_Equal, chain_slice(&c, ids, k, k + 1 - size, 1), suffix_token(&c, ids, k, size));
        same = same == NULL ? equal : chain_2(&c, OP_And, same, equal);
    }
    if (size == 1) same = chain_2(&c, OP_Equal, last, last);
    Value *token = chain_3(&c, OP_Where, same, last, chain_like(&c, last, 0));
    Value *low = chain_3(&c, OP_Where, same, chain_like(&c, scores, -(double)INFINITY), chain_like(&c, scores, (double)INFINITY));
    if (token == NULL || low == NULL) return false;
    Node *ban = expand_node(m, n, OP_ScatterElements, 3, (Value *[]){scores, token, low}, 1);
    attr_set_i(ban, AT_ScatterElements_axis, 1);
    attr_set_s(ban, AT_ScatterElements_reduction, str_intern(m->cx, "min"));
    out[0] = chain_node(&c, ban);
    return out[0] != NULL;
}

/* ---- WordConvEmbedding ------------------------------------------------------------------------------------------- */
/* A word has as many characters as it has positive numbers, at least the width of the window; a word that does not start with one is 0. */
bool expand_word_conv_embedding(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Value *chars = n->in[0], *w = n->in[1], *table = n->in[3];
    if (chars->type->rank != 2 || w->type->rank != 4 || table->type->rank != 2) return expand_fail(m, n, "characters [W,L], weights [F,1,K,D] and a table [C,D] are needed");
    Value *letters = chain_unsqueeze(&c, chain_gather(&c, table, chars, 0), 1), *window = chain_size(&c, w, 2);
    if (letters == NULL) return false;
    Value *places = chain_1(&c, OP_Tanh, chain_squeeze(&c, chain_node(&c, expand_node(m, n, OP_Conv, 3, (Value *[]){letters, w, n->in[2]}, 1)), 3)); /* [W,F,L-K+1] */
    Value *positive = chain_cast(&c, chain_2(&c, OP_Greater, chars, chain_like(&c, chars, 0)), DT_I64), *length = chain_2(&c, OP_Max, chain_reduce(&c, OP_ReduceSum, positive, 1, true), window);
    Value *count = chain_unsqueeze(&c, chain_plus(&c, chain_sub(&c, length, window), 1), 2), *inside = chain_2(&c, OP_Less, chain_count(&c, chain_size(&c, places, 2), 3, 2), count);
    Value *best = chain_reduce(&c, OP_ReduceMax, chain_3(&c, OP_Where, inside, places, chain_like(&c, places, -2)), 2, false); /* -2: below any tanh */
    Value *given = chain_2(&c, OP_Greater, chain_slice(&c, chars, 0, 1, 1), chain_like(&c, chars, 0));
    out[0] = chain_3(&c, OP_Where, given, best, chain_like(&c, best, 0));
    return out[0] != NULL;
}

/* ---- MurmurHash3 ------------------------------------------------------------------------------------------------- */
static Value *shifted(const Chain *c, Value *v, int64_t by, bool left) {
    if (v == NULL) return NULL;
    Node *n = expand_node(c->m, c->n, OP_BitShift, 2, (Value *[]){v, chain_like(c, v, (double)by)}, 1);
    attr_set_s(n, AT_BitShift_direction, str_intern(c->m->cx, left ? "LEFT" : "RIGHT"));
    return chain_node(c, n);
}

static Value *rotated(const Chain *c, Value *v, int64_t by) { return chain_2(c, OP_BitwiseOr, shifted(c, v, by, true), shifted(c, v, 32 - by, false)); }

static Value *mixed(const Chain *c, Value *h, Value *word) {
    Value *k = chain_times(c, rotated(c, chain_times(c, word, 0xcc9e2d51), 15), 0x1b873593);
    return chain_plus(c, chain_times(c, rotated(c, chain_2(c, OP_BitwiseXor, h, k), 13), 5), 0xe6546b64);
}

static Value *spread(const Chain *c, Value *h, int64_t by, double factor) { return chain_times(c, chain_2(c, OP_BitwiseXor, h, shifted(c, h, by, false)), factor); }

static Value *bits(const Chain *c, Value *v, DType t) {
    if (v == NULL || v->type->dtype == t) return v;
    Node *n = expand_node(c->m, c->n, OP_BitCast, 1, &v, 1);
    attr_set_i(n, AT_BitCast_to, dtype_to_onnx(t));
    return chain_node(c, n);
}

bool expand_murmur_hash(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    DType t = n->in[0]->type->dtype;
    if (t == DT_STRING) return false; /* by its own rule */
    bool wide = dtype_bits(t) == 64;
    Value *x = bits(&c, n->in[0], wide ? DT_U64 : DT_U32), *low = x, *high = NULL;
    if (wide) {
        low = chain_cast(&c, chain_2(&c, OP_BitwiseAnd, x, chain_like(&c, x, 4294967295.0)), DT_U32);
        high = chain_cast(&c, shifted(&c, x, 32, false), DT_U32);
    }
    Value *h = chain_like(&c, low, (double)(uint32_t)attr_i(n, AT_MurmurHash3_seed));
    h = mixed(&c, h, low);
    if (wide) h = mixed(&c, h, high);
    h = chain_2(&c, OP_BitwiseXor, h, chain_like(&c, h, wide ? 8 : 4));
    h = spread(&c, spread(&c, spread(&c, h, 16, 0x85ebca6b), 13, 0xc2b2ae35), 16, 1);
    out[0] = bits(&c, h, attr_i(n, AT_MurmurHash3_positive) != 0 ? DT_U32 : DT_I32);
    return out[0] != NULL;
}

/* ---- Unique ------------------------------------------------------------------------------------------------------ */
bool expand_ms_unique(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Node *unique = expand_node(m, n, OP_Unique, 1, n->in, 4);
    attr_set_i(unique, AT_Unique_sorted, 0);
    unique->out[0]->type = type_tensor(m->cx, n->in[0]->type->dtype, 1, n->out[n->out[0] != NULL ? 0 : 2]->type->dim); /* the size keeps its symbol */
    if (chain_node(&c, unique) == NULL) return false;
    for (uint32_t i = 0; i < n->n_out; i++) out[i] = unique->out[i == 0 ? 0 : i + 1];
    return true;
}

/* A (a sparse initializer, which the compiler holds like any other matrix) times B. */
bool expand_sparse_matmul(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Value *part[2] = {n->in[0], n->in[1]};
    const AttrSlot turned[2] = {AT_SparseToDenseMatMul_transA, AT_SparseToDenseMatMul_transB};
    for (int i = 0; i < 2; i++) {
        if (part[i]->type->rank != 2) return expand_fail(m, n, "two matrices are needed");
        if (attr_i(n, turned[i]) != 0) part[i] = chain_transpose(&c, part[i], 2, (int64_t[]){1, 0});
    }
    out[0] = chain_times(&c, chain_2(&c, OP_MatMul, part[0], part[1]), attr_f(n, AT_SparseToDenseMatMul_alpha));
    return out[0] != NULL;
}
