/* SparseAttention (com.microsoft): causal attention over a shared cache in which every head reads some blocks of keys only.
 *
 *     present = TensorScatter(past [B,Hk,M,D], new keys, start)       start[b] = total[b] - S, 0 for a first prompt
 *     key t counts for query s of head h when t <= start + s and block_mask[h mod L, (start + s) / size, t / size]
 *
 * The mask of blocks comes as compressed rows, row_indices [L,R+1] and column_indices [L,N], and becomes a matrix [L,R,R]: entry e of a layout is
 * in the row of which so many row ends lie at or before e. The blocks are a mask like any other here; nothing is saved by them. */
#include <math.h>

#include "passes/expand/attention.h"
#include "passes/expand/build.h"
#include "passes/expand/chain.h"
#include "passes/rules.h"

typedef struct Sparse {
    Chain c;
    Node *n;
    int64_t heads, kv_heads, size, block;
    Value *start, *steps; /* [B], scalar */
    AttentionParts parts;
} Sparse;

static bool separate(Sparse *s) {
    const Chain *c = &s->c;
    Node *n = s->n;
    int64_t all = n->in[1] != NULL ? s->heads : s->heads + 2 * s->kv_heads, q = 0, k = 0, v = 0;
    Dim width = n->in[0]->type->dim[2];
    if (!dim_is_const(c->m->cx, width)) return expand_fail(c->m, n, "the hidden size must be known at compile time");
    s->size = dim_value(c->m->cx, width) / all;
    q = s->heads * s->size, k = q + s->kv_heads * s->size, v = k + s->kv_heads * s->size;
    Value *part[3] = {n->in[0], n->in[1], n->in[2]};
    if (part[1] == NULL) {
        part[0] = chain_slice(c, n->in[0], 0, q, 2);
        part[1] = chain_slice(c, n->in[0], q, k, 2);
        part[2] = chain_slice(c, n->in[0], k, v, 2);
    }
    if (part[0] == NULL || part[1] == NULL || part[2] == NULL) return expand_fail(c->m, n, "key and value come together");
    s->parts.q = attention_split_heads(c->m, n, part[0], s->heads);
    s->parts.k = attention_split_heads(c->m, n, part[1], s->kv_heads);
    s->parts.v = attention_split_heads(c->m, n, part[2], s->kv_heads);
    return s->parts.q != NULL && s->parts.k != NULL && s->parts.v != NULL;
}

/* start[b] + s, [B,S] */
static Value *positions(const Sparse *s) { return chain_add(&s->c, chain_unsqueeze(&s->c, s->start, 1), chain_count(&s->c, s->steps, 2, 1)); }

static Value *rotated(const Sparse *s, Value *x, Value *position) {
    if (x == NULL || position == NULL) return NULL;
    Node *r = expand_node(s->c.m, s->n, OP_Ms_RotaryEmbedding, 4, (Value *[]){x, position, s->n->in[9], s->n->in[10]}, 1);
    if (attr_has(s->n, AT_SparseAttention_rotary_interleaved)) attr_set_i(r, AT_Ms_RotaryEmbedding_interleaved, attr_i(s->n, AT_SparseAttention_rotary_interleaved));
    return chain_node(&s->c, r);
}

static Value *written(const Sparse *s, Value *past, Value *fresh) {
    if (past == NULL || fresh == NULL) return NULL;
    Node *w = expand_node(s->c.m, s->n, OP_TensorScatter, 3, (Value *[]){past, fresh, s->start}, 1);
    attr_set_i(w, AT_TensorScatter_axis, 2);
    return chain_node(&s->c, w);
}

/* bool [L,R,R] */
static Value *block_matrix(const Sparse *s) {
    const Chain *c = &s->c;
    Value *ends = chain_cast(c, chain_slice(c, s->n->in[5], 1, INT64_MAX, 1), DT_I64), *column = chain_cast(c, s->n->in[6], DT_I64);
    Value *rows = chain_size(c, ends, 1), *entry = chain_count(c, chain_size(c, column, 1), 2, 1);
    Value *before = chain_cast(c, chain_2(c, OP_LessOrEqual, chain_unsqueeze(c, ends, 1), chain_unsqueeze(c, entry, 2)), DT_I64); /* [L,N,R] */
    Value *row = chain_reduce(c, OP_ReduceSum, before, 2, false), *real = chain_2(c, OP_Less, row, rows), *zero = chain_int(c, 0);
    row = chain_3(c, OP_Where, real, row, zero);
    column = chain_3(c, OP_Where, real, column, zero);
    Value *layout = chain_expand_like(c, chain_count(c, chain_size(c, column, 0), 2, 0), column);
    Value *place = chain_concat(c, chain_concat(c, chain_unsqueeze(c, layout, 2), chain_unsqueeze(c, row, 2), 2), chain_unsqueeze(c, column, 2), 2);
    Value *square = chain_reshape(c, rows, 1, (int64_t[]){1}), *layouts = chain_slice(c, chain_1(c, OP_Shape, ends), 0, 1, 0);
    Value *none = chain_2(c, OP_Expand, zero, chain_concat(c, chain_concat(c, layouts, square, 0), square, 0)), *ones = chain_cast(c, real, DT_I64);
    if (place == NULL || none == NULL || ones == NULL) return NULL;
    Node *mark = expand_node(c->m, s->n, OP_ScatterND, 3, (Value *[]){none, place, ones}, 1);
    attr_set_s(mark, AT_ScatterND_reduction, str_intern(c->m->cx, "max"));
    return chain_cast(c, chain_node(c, mark), DT_BOOL);
}

/* bool [B,H,S,M] */
static Value *allowed(const Sparse *s, Value *position) {
    const Chain *c = &s->c;
    Value *size = chain_int(c, s->block), *key = chain_count(c, chain_size(c, s->parts.k, 2), 1, 0), *blocks = block_matrix(s);
    const Type *t = blocks != NULL ? blocks->type : NULL;
    if (t == NULL || !dim_is_const(c->m->cx, t->dim[0]) || dim_value(c->m->cx, t->dim[0]) < 1) return expand_fail(c->m, s->n, "the number of layouts must be known at compile time"), NULL;
    int64_t *layout = ARENA_ARRAY(&c->m->cx->scratch, int64_t, (size_t)s->heads);
    for (int64_t h = 0; h < s->heads; h++) layout[h] = h % dim_value(c->m->cx, t->dim[0]);
    Value *last = chain_plus(c, chain_size(c, blocks, 2), -1); /* keys behind the mask's blocks are behind every query */
    Value *rows = chain_gather(c, blocks, chain_div(c, position, size), 1), *column = chain_2(c, OP_Min, chain_div(c, key, size), last);
    Value *all = chain_transpose(c, chain_gather(c, rows, column, 3), 4, (int64_t[]){1, 0, 2, 3}); /* [B,L,S,M] */
    Value *by_head = chain_gather(c, all, expand_ints(c->m, 1, &s->heads, layout), 1);
    Value *causal = chain_2(c, OP_LessOrEqual, key, chain_unsqueeze(c, chain_unsqueeze(c, position, 1), 3));
    return chain_2(c, OP_And, by_head, causal);
}

bool expand_sparse_attention(Module *m, Node *n, Value **out) {
    Sparse s = {.c = {m, n}, .n = n, .heads = attr_i(n, AT_SparseAttention_num_heads), .kv_heads = attr_i(n, AT_SparseAttention_kv_num_heads), .block = attr_i(n, AT_SparseAttention_sparse_block_size)};
    const Chain *c = &s.c;
    if (s.heads < 1 || s.kv_heads < 1 || s.heads > 1 << 20 || s.heads % s.kv_heads != 0 || s.block < 1) return expand_fail(m, n, "num_heads must be a multiple of kv_num_heads, sparse_block_size positive");
    for (uint32_t i = 3; i < 9; i++)
        if (expand_input(n, i) == NULL) return expand_fail(m, n, "inputs 3 to 8 are needed");
    if (n->in[0]->type->rank != 3 || n->in[3]->type->rank != 4 || n->in[4]->type->rank != 4 || n->in[5]->type->rank != 2 || n->in[6]->type->rank != 2 || n->in[8]->type->rank != 1)
        return expand_fail(m, n, "query [B,S,H*D], caches [B,Hk,M,D], rows and columns of blocks [L,..] and lengths [B] are needed");
    s.steps = chain_size(c, n->in[0], 1);
    Value *lengths = chain_cast(c, n->in[8], DT_I64), *first = chain_2(c, OP_Equal, chain_scalar(c, n->in[7]), s.steps);
    s.start = chain_3(c, OP_Where, first, chain_int(c, 0), chain_sub(c, lengths, s.steps));
    Value *position = positions(&s);
    if (position == NULL || !separate(&s)) return false;
    if (attr_has(n, AT_SparseAttention_do_rotary) && attr_i(n, AT_SparseAttention_do_rotary) != 0) {
        if (expand_input(n, 9) == NULL || expand_input(n, 10) == NULL) return expand_fail(m, n, "do_rotary needs cos_cache and sin_cache");
        s.parts.q = rotated(&s, s.parts.q, position);
        s.parts.k = rotated(&s, s.parts.k, position);
    }
    s.parts.k = written(&s, n->in[3], s.parts.k);
    s.parts.v = written(&s, n->in[4], s.parts.v);
    if (s.parts.q == NULL || s.parts.k == NULL || s.parts.v == NULL) return false;
    s.parts.left = s.parts.right = -1;
    s.parts.mask = allowed(&s, position);
    s.parts.scale = attention_scale(m, n, AT_SparseAttention_scale, s.parts.q);
    if (s.parts.mask == NULL || s.parts.scale == 0) return false;
    Value *y = attention_build(m, n, &s.parts, NULL);
    if (y == NULL) return false;
    out[0] = attention_join_heads(m, n, y);
    expand_give(m, n, out, 1, s.parts.k);
    expand_give(m, n, out, 2, s.parts.v);
    return out[0] != NULL;
}
