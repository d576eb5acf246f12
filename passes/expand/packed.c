/* Batches without padding: the tokens of all sequences behind one another, [T,…], with the ends of sequences [B+1] and, in token_offset [B,S],
 * the places that tokens (the first T of the list) and paddings (the others) have in the padded batch.
 *
 *     PackedMultiHeadAttention(q, k, v [T,H*D])   ->   token ends[b] + s as row s of sequence b        [B,H,S,D]
 *                                                      attention with ends[b+1] - ends[b] valid keys   [B,H,S,E]
 *                                                      the rows that token_offset lists                [T,H*E]
 *     RemovePadding(x [B,S,C], counts [B])        ->   the rows s < counts[b], in order
 *     RestorePadding(x [T,C], token_offset)       ->   zeros [B*S,C] with row token_offset[t] set to row t */
#include "passes/expand/attention.h"
#include "passes/expand/bind.h"
#include "passes/expand/build.h"
#include "passes/expand/chain.h"
#include "passes/rules.h"

/* [B]: element b of a vector, or that of b + 1. */
static Value *neighbours(const Chain *c, Value *ends, bool next) { return chain_cast(c, next ? chain_slice(c, ends, 1, INT64_MAX, 0) : chain_slice(c, ends, 0, -1, 0), DT_I64); }

/* The first T of the offsets, T that of x. */
static Value *kept_offsets(const Chain *c, Value *offsets, Value *x) {
    return chain_gather(c, chain_reshape(c, chain_cast(c, offsets, DT_I64), 1, (int64_t[]){-1}), chain_count(c, chain_size(c, x, 0), 1, 0), 0);
}

/* Numbers of tokens [B,S]; those of padding are clamped to one that exists. */
static Value *token_numbers(const Chain *c, Value *x, Value *offsets, Value *ends) {
    Value *number = chain_add(c, chain_unsqueeze(c, neighbours(c, ends, false), 1), chain_count(c, chain_size(c, offsets, 1), 2, 1));
    return chain_2(c, OP_Min, number, chain_sub(c, chain_size(c, x, 0), chain_int(c, 1)));
}

typedef struct Packed {
    Value *part[3], *offsets, *ends, *added; /* query, key and value [T,H*D] */
    int64_t heads;
    AttrSlot scale;
} Packed;

static Value *attend(const Chain *c, const Packed *in) {
    Value *number = token_numbers(c, in->part[0], in->offsets, in->ends), *part[3];
    for (int i = 0; i < 3; i++) {
        Value *rows = chain_gather(c, in->part[i], number, 0);
        part[i] = rows != NULL ? attention_split_heads(c->m, c->n, rows, in->heads) : NULL;
    }
    AttentionParts p = {.q = part[0], .k = part[1], .v = part[2], .left = -1, .right = -1, .mask = in->added};
    if (p.q == NULL || p.k == NULL || p.v == NULL) return NULL;
    p.valid = chain_sub(c, neighbours(c, in->ends, true), neighbours(c, in->ends, false));
    p.scale = attention_scale(c->m, c->n, in->scale, p.q);
    if (p.valid == NULL || p.scale == 0) return NULL;
    Value *y = attention_build(c->m, c->n, &p, NULL);
    if (y == NULL) return NULL;
    y = attention_join_heads(c->m, c->n, y);
    Value *shape = chain_concat(c, value_const_i64(c->m, 1, (int64_t[]){-1}), chain_slice(c, chain_1(c, OP_Shape, y), 2, 3, 0), 0);
    return chain_gather(c, chain_2(c, OP_Reshape, y, shape), kept_offsets(c, in->offsets, in->part[0]), 0);
}

static bool places_fit(const Chain *c, const Value *offsets, const Value *ends, int64_t heads) {
    if (offsets->type->rank != 2 || ends->type->rank != 1) return expand_fail(c->m, c->n, "token_offset must be [B,S] and cumulative_sequence_length [B+1]");
    return heads > 0 || expand_fail(c->m, c->n, "num_heads must be positive");
}

bool expand_packed_multi_head(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Packed p = {.part = {n->in[0], n->in[1], n->in[2]}, .offsets = n->in[4], .ends = n->in[5], .added = expand_input(n, 6), .heads = attr_i(n, AT_PackedMultiHeadAttention_num_heads),
                .scale = AT_PackedMultiHeadAttention_scale};
    if (p.offsets == NULL || p.ends == NULL || !places_fit(&c, p.offsets, p.ends, p.heads)) return false;
    bool joint = n->in[1] == NULL && n->in[2] == NULL && n->in[0]->type->rank == 4; /* [T,H,3,D] */
    if (!joint && (n->in[1] == NULL || n->in[2] == NULL)) return expand_fail(m, n, "query, key and value must be [T,H*D], or in one as [T,H,3,D]");
    int64_t from = 0;
    for (int i = 0; i < 3; i++) {
        if (joint) {
            Value *one = chain_squeeze(&c, chain_slice(&c, n->in[0], i, i + 1, 2), 2);
            p.part[i] = one != NULL ? build2(m, n, OP_Reshape, one, value_const_i64(m, 2, (int64_t[]){0, -1})) : NULL;
        }
        if (p.part[i] == NULL || p.part[i]->type == NULL || p.part[i]->type->rank != 2) return expand_fail(m, n, "query, key and value must be [T,H*D]");
        Dim width = p.part[i]->type->dim[1];
        if (n->in[3] == NULL) continue;
        if (!dim_is_const(m->cx, width)) return expand_fail(m, n, "with a bias, sizes must be known at compile time");
        p.part[i] = chain_add(&c, p.part[i], chain_slice(&c, n->in[3], from, from + dim_value(m->cx, width), 0));
        from += dim_value(m->cx, width);
        if (p.part[i] == NULL) return false;
    }
    out[0] = attend(&c, &p);
    return out[0] != NULL;
}

bool expand_packed_attention(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Packed p = {.offsets = n->in[3], .ends = n->in[4], .added = expand_input(n, 5), .heads = attr_i(n, AT_PackedAttention_num_heads), .scale = AT_PackedAttention_scale};
    const Attr *sizes = attr_at(n, AT_PackedAttention_qkv_hidden_sizes);
    bool given = sizes->present && sizes->ints.n == 3;
    Value *y = chain_add(&c, chain_2(&c, OP_MatMul, n->in[0], n->in[1]), n->in[2]);
    if (y == NULL || !places_fit(&c, p.offsets, p.ends, p.heads)) return false;
    if (y->type->rank != 2 || !dim_is_const(m->cx, y->type->dim[1])) return expand_fail(m, n, "input and weights must be [T,I] and [I,Q+K+V], Q+K+V known at compile time");
    int64_t from = 0, third = dim_value(m->cx, y->type->dim[1]) / 3;
    for (int i = 0; i < 3; i++) {
        int64_t to = from + (given ? sizes->ints.v[i] : third);
        p.part[i] = chain_slice(&c, y, from, to, 1);
        from = to;
    }
    if (p.part[0] == NULL || p.part[1] == NULL || p.part[2] == NULL) return false;
    out[0] = attend(&c, &p);
    return out[0] != NULL;
}

/* ---- padding ----------------------------------------------------------------------------------------------------- */
bool expand_remove_padding(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Value *x = n->in[0], *counts = chain_cast(&c, n->in[1], DT_I64), *steps = chain_size(&c, x, 1), *zero = value_const_i64(m, 1, (int64_t[]){0});
    counts = chain_2(&c, OP_Max, chain_2(&c, OP_Min, counts, steps), chain_int(&c, 0));
    Value *padding = chain_2(&c, OP_GreaterOrEqual, chain_count(&c, steps, 2, 1), chain_unsqueeze(&c, counts, 1));
    Value *flags = chain_reshape(&c, chain_cast(&c, padding, DT_I32), 1, (int64_t[]){-1});
    if (flags == NULL) return false;
    Node *sort = expand_node(m, n, OP_TopK, 2, (Value *[]){flags, chain_reshape(&c, chain_1(&c, OP_Size, flags), 1, (int64_t[]){1})}, 2); /* equal ones stay in order */
    attr_set_i(sort, AT_TopK_largest, 0);
    attr_set_i(sort, AT_TopK_axis, 0);
    if (chain_node(&c, sort) == NULL) return false;
    Value *ends = chain_2(&c, OP_CumSum, counts, value_const_scalar(m, DT_I64, 0)), *total = chain_reduce(&c, OP_ReduceSum, counts, 0, true);
    if (ends == NULL || total == NULL) return false;
    if (n->out[0] != NULL) {
        Value *end = bind_dims(m, n, total, type_tensor(m->cx, DT_I64, 1, &n->out[0]->type->dim[0]));
        Value *kept = chain_node(&c, expand_node(m, n, OP_Slice, 4, (Value *[]){sort->out[1], zero, end, zero}, 1));
        Value *shape = chain_concat(&c, value_const_i64(m, 1, (int64_t[]){-1}), chain_slice(&c, chain_1(&c, OP_Shape, x), 2, 3, 0), 0);
        if ((out[0] = chain_gather(&c, chain_2(&c, OP_Reshape, x, shape), kept, 0)) == NULL) return false;
    }
    if (n->n_out > 1 && n->out[1] != NULL) out[1] = chain_cast(&c, chain_2(&c, OP_Reshape, sort->out[1], chain_slice(&c, chain_1(&c, OP_Shape, x), 0, 2, 0)), DT_I32);
    if (n->n_out > 2 && n->out[2] != NULL) out[2] = chain_cast(&c, chain_concat(&c, zero, ends, 0), DT_I32);
    if (n->n_out > 3 && n->out[3] != NULL) out[3] = chain_cast(&c, chain_reduce(&c, OP_ReduceMax, counts, 0, true), DT_I32);
    return true;
}

bool expand_restore_padding(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Value *x = n->in[0], *offsets = n->in[1];
    if (x->type->rank != 2 || offsets->type->rank != 2) return expand_fail(m, n, "input must be [T,C] and token_offset [B,S]");
    Value *width = chain_slice(&c, chain_1(&c, OP_Shape, x), 1, 2, 0), *places = chain_reshape(&c, chain_1(&c, OP_Size, offsets), 1, (int64_t[]){1});
    Value *none = chain_2(&c, OP_Expand, chain_like(&c, x, 0), chain_concat(&c, places, width, 0));
    Value *filled = chain_3(&c, OP_ScatterND, none, chain_unsqueeze(&c, kept_offsets(&c, offsets, x), 1), x);
    out[0] = chain_2(&c, OP_Reshape, filled, chain_concat(&c, chain_1(&c, OP_Shape, offsets), width, 0));
    return out[0] != NULL;
}
