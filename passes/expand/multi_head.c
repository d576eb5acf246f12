/* MultiHeadAttention and DecoderMaskedMultiHeadAttention: queries, keys and values that are projected already, in one of several forms, and
 * a cache that is either joined with the new keys or, with buffer sharing, written in place. DecoderMaskedSelfAttention and Attention with a
 * shared buffer are the same behind a product with their weights; their cache is one tensor of keys and values. Keys lie in it row by row.
 *
 *     past [B,H,P,D], new keys [B,H,S,D]                    ->   present = Concat(past, new)                              [B,H,P+S,D]
 *     past [B,H,M,D], new keys, past_sequence_length P      ->   present = TensorScatter(past, new, P), keys 0 … P+S count  [B,H,M,D]
 *
 * cache_indirection [B/W,W,M] belongs to beam search with W beams: key t < P of a sequence is that of the beam it names among the W
 * sequences of the same batch entry. Keys are then picked before the products; present keeps every beam's own. */
#include <math.h>

#include "passes/expand/attention.h"
#include "passes/expand/bind.h"
#include "passes/expand/build.h"
#include "passes/expand/chain.h"
#include "passes/rules.h"

typedef struct Operands { /* of either operator; NULL where left out */
    Value *q, *k, *v, *bias, *mask, *added, *past_k, *past_v, *length, *beams;
    int64_t heads;
    AttrSlot scale;
} Operands;

/* Part i of [B,L,H,parts,D] as [B,H,L,D]. */
static Value *unpack(const Chain *c, Value *v, int64_t i) { return chain_transpose(c, chain_squeeze(c, chain_slice(c, v, i, i + 1, 3), 3), 4, (int64_t[]){0, 2, 1, 3}); }

/* Adds the part of a joint bias vector from `from` on, as wide as x, and splits the heads. */
static Value *biased_heads(const Chain *c, Value *x, Value *bias, Dim from, int64_t heads) {
    if (x == NULL || x->type->rank == 4) return x;
    if (bias != NULL) {
        Dim to = dim_add(c->m->cx, from, x->type->dim[2]);
        if (!dim_is_const(c->m->cx, from) || !dim_is_const(c->m->cx, to)) return NULL;
        x = chain_add(c, x, chain_slice(c, bias, dim_value(c->m->cx, from), dim_value(c->m->cx, to), 0));
    }
    return x != NULL ? attention_split_heads(c->m, c->n, x, heads) : NULL;
}

/* q, k and v as [B,H,L,D] each. */
static bool separate(const Chain *c, Operands *o, AttentionParts *p) {
    Context *cx = c->m->cx;
    const Type *t = o->q->type;
    if (t->rank == 5) {
        p->q = unpack(c, o->q, 0);
        p->k = unpack(c, o->q, 1);
        p->v = unpack(c, o->q, 2);
    } else {
        if (o->k == NULL) { /* [B,S,3*H*D] */
            if (!dim_is_const(cx, t->dim[2]) || dim_value(cx, t->dim[2]) % 3 != 0) return expand_fail(c->m, c->n, "packed query, key and value must be three equal parts of known size");
            int64_t each = dim_value(cx, t->dim[2]) / 3;
            o->k = chain_slice(c, o->q, each, 2 * each, 2);
            o->v = chain_slice(c, o->q, 2 * each, 3 * each, 2);
            o->q = chain_slice(c, o->q, 0, each, 2);
            if (o->q == NULL || o->k == NULL || o->v == NULL) return false;
        }
        Dim zero = dim_const(cx, 0), hidden = o->q->type->dim[2];
        bool packed = o->k->type->rank == 5;
        p->q = biased_heads(c, o->q, o->bias, zero, o->heads);
        p->k = packed ? unpack(c, o->k, 0) : biased_heads(c, o->k, o->bias, hidden, o->heads);
        p->v = packed ? unpack(c, o->k, 1) : biased_heads(c, o->v, o->bias, dim_add(cx, hidden, hidden), o->heads);
    }
    return (p->q != NULL && p->k != NULL && p->v != NULL) || expand_fail(c->m, c->n, "this form of query, key, value and bias is not supported");
}

/* ---- the cache --------------------------------------------------------------------------------------------------- */
/* past [B,H,M,D] with the new rows at `length`. */
static Value *written(const Chain *c, Value *past, Value *fresh, Value *length) {
    if (fresh->type->dtype != past->type->dtype) return expand_fail(c->m, c->n, "the cache has another element type than keys and values"), NULL;
    Value *batch = chain_reshape(c, chain_size(c, past, 0), 1, (int64_t[]){1}), *at = chain_2(c, OP_Expand, length, batch);
    if (at == NULL) return NULL;
    Node *n = expand_node(c->m, c->n, OP_TensorScatter, 3, (Value *[]){past, fresh, at}, 1);
    attr_set_i(n, AT_TensorScatter_axis, 2);
    return chain_node(c, n);
}

/* [B,M,2]: the sequence that key t of sequence b is of, and t. */
static Value *sources(const Chain *c, const Operands *o, Value *length) {
    const Type *t = o->beams->type;
    if (t->rank != 3 || !dim_is_const(c->m->cx, t->dim[1])) return expand_fail(c->m, c->n, "cache_indirection must be [B,W,M] with a number of beams known at compile time"), NULL;
    Value *width = chain_size(c, o->beams, 1), *steps = chain_size(c, o->beams, 2), *batch = chain_size(c, o->beams, 0);
    Value *first = chain_mul(c, chain_count(c, batch, 3, 0), width), *own = chain_add(c, first, chain_count(c, width, 3, 1)), *place = chain_count(c, steps, 3, 2);
    Value *other = chain_add(c, first, chain_cast(c, o->beams, DT_I64));
    Value *source = chain_3(c, OP_Where, chain_2(c, OP_Less, place, length), other, own);
    Value *pair = chain_concat(c, chain_unsqueeze(c, source, 3), chain_unsqueeze(c, chain_expand_like(c, place, source), 3), 3);
    Value *shape = chain_concat(c, value_const_i64(c->m, 1, (int64_t[]){-1}), chain_slice(c, chain_1(c, OP_Shape, pair), 2, 4, 0), 0);
    return chain_2(c, OP_Reshape, pair, shape);
}

static Value *picked(const Chain *c, Value *present, Value *index) {
    Value *rows = chain_gather_nd(c, chain_transpose(c, present, 4, (int64_t[]){0, 2, 1, 3}), index, 0);
    return chain_transpose(c, rows, 4, (int64_t[]){0, 2, 1, 3});
}

/* Joins past and new keys; present[0] and [1] are what the outputs give. */
static bool cached(const Chain *c, const Operands *o, AttentionParts *p, Value *present[2], Value **total) {
    present[0] = p->k;
    present[1] = p->v;
    if (o->past_k == NULL) return true;
    if (o->length == NULL) {
        p->past = o->past_k;
        present[0] = p->k = chain_concat(c, o->past_k, p->k, 2);
        present[1] = p->v = chain_concat(c, o->past_v, p->v, 2);
        return p->k != NULL && p->v != NULL;
    }
    Value *length = chain_scalar(c, o->length);
    *total = chain_add(c, length, chain_size(c, p->k, 2));
    present[0] = p->k = written(c, o->past_k, p->k, length);
    present[1] = p->v = written(c, o->past_v, p->v, length);
    if (p->k == NULL || p->v == NULL || *total == NULL) return false;
    if (o->beams != NULL) {
        Value *index = sources(c, o, length);
        p->k = picked(c, p->k, index);
        p->v = picked(c, p->v, index);
    }
    return p->k != NULL && p->v != NULL;
}

/* Keys of a shared buffer from `total` on do not count; AttentionBias takes the last query to be at the last key that does. */
static bool limited(const Chain *c, AttentionParts *p, Value *total) {
    Value *batch = chain_reshape(c, chain_size(c, p->k, 0), 1, (int64_t[]){1}), *valid = chain_2(c, OP_Expand, total, batch);
    if (p->valid != NULL && p->causal) return expand_fail(c->m, c->n, "with buffer sharing, unidirectional and lengths of keys do not go together");
    p->valid = p->valid != NULL ? chain_2(c, OP_Min, valid, chain_cast(c, p->valid, DT_I64)) : valid;
    return p->valid != NULL;
}

/* Output 3 of a shared buffer: scores of the keys that count. */
static Value *scores_up_to(const Chain *c, Value *scores, Value *total) {
    const Type *wanted = c->n->out[3]->type;
    Value *end = bind_dims(c->m, c->n, chain_reshape(c, total, 1, (int64_t[]){1}), type_tensor(c->m->cx, DT_I64, 1, &wanted->dim[3]));
    Value *in[4] = {scores, value_const_i64(c->m, 1, (int64_t[]){0}), end, value_const_i64(c->m, 1, (int64_t[]){3})};
    return chain_node(c, expand_node(c->m, c->n, OP_Slice, 4, in, 1));
}

typedef struct Results { Value *y, *present[2], *scores, *total; } Results; /* y [B,S,H*D]; total: keys that count of a shared buffer */

static bool heads_of(const Chain *c, Operands *o, bool causal, Results *r) {
    AttentionParts p = {.left = -1, .right = -1, .causal = causal};
    r->total = NULL;
    if (!separate(c, o, &p) || !cached(c, o, &p, r->present, &r->total)) return false;
    p.scale = attention_scale(c->m, c->n, o->scale, p.q);
    if (p.scale == 0 || !attention_padding_mask(c->m, c->n, o->mask, o->added, &p)) return false;
    if (r->total != NULL && !limited(c, &p, r->total)) return false;
    Value *y = attention_build(c->m, c->n, &p, &r->scores);
    r->y = y != NULL ? attention_join_heads(c->m, c->n, y) : NULL;
    return r->y != NULL;
}

static bool expand_heads(const Chain *c, Operands *o, bool causal, Value **out) {
    Module *m = c->m;
    Node *n = c->n;
    Results r;
    if (!heads_of(c, o, causal, &r)) return false;
    if (r.total != NULL && n->n_out > 3 && n->out[3] != NULL && (r.scores = scores_up_to(c, r.scores, r.total)) == NULL) return false;
    out[0] = r.y;
    expand_give(m, n, out, 1, r.present[0]);
    expand_give(m, n, out, 2, r.present[1]);
    expand_give(m, n, out, 3, r.scores);
    return true;
}

bool expand_multi_head_attention(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Operands o = {.q = n->in[0], .k = expand_input(n, 1), .v = expand_input(n, 2), .bias = expand_input(n, 3), .mask = expand_input(n, 4), .added = expand_input(n, 5), .past_k = expand_input(n, 6),
                  .past_v = expand_input(n, 7), .length = expand_input(n, 8), .beams = expand_input(n, 9), .heads = attr_i(n, AT_MultiHeadAttention_num_heads), .scale = AT_MultiHeadAttention_scale};
    return expand_heads(&c, &o, attr_i(n, AT_MultiHeadAttention_unidirectional) != 0, out);
}

/* One new token. Keys of rank 4 are those of cross attention, and there is no cache. */
bool expand_decoder_multi_head(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Operands o = {.q = n->in[0], .k = expand_input(n, 1), .v = expand_input(n, 2), .bias = expand_input(n, 10), .mask = expand_input(n, 3), .added = expand_input(n, 4), .past_k = expand_input(n, 5),
                  .past_v = expand_input(n, 6), .length = expand_input(n, 7), .beams = expand_input(n, 9), .heads = attr_i(n, AT_DecoderMaskedMultiHeadAttention_num_heads),
                  .scale = AT_DecoderMaskedMultiHeadAttention_scale};
    if (attr_i(n, AT_DecoderMaskedMultiHeadAttention_past_present_share_buffer) == 0) o.length = NULL;
    return expand_heads(&c, &o, false, out);
}

/* The weights of Attention and DecoderMaskedSelfAttention make queries, keys and values of the same size; past and present are [2,B,H,M,D]. */
bool expand_self_attention_in_place(Module *m, Node *n, Value *beams, bool causal, Value **out) {
    Chain c = {m, n};
    Value *past = expand_input(n, 4), *length = expand_input(n, 6), *qkv = chain_2(&c, OP_MatMul, n->in[0], n->in[1]);
    bool pair = past != NULL && past->type->rank == 5 && (!dim_is_const(m->cx, past->type->dim[0]) || dim_value(m->cx, past->type->dim[0]) == 2);
    if (!pair || length == NULL || type_numel(m->cx, length->type) != dim_const(m->cx, 1))
        return expand_fail(m, n, "buffer sharing needs past [2,B,H,M,D] and one number past_sequence_length");
    if (expand_input(n, 2) != NULL) qkv = chain_add(&c, qkv, n->in[2]);
    if (qkv == NULL) return false;
    if (qkv->type->rank != 3) return expand_fail(m, n, "input must be [B,S,I]");
    Operands o = {.q = qkv, .mask = expand_input(n, 3), .added = expand_input(n, 5), .past_k = chain_squeeze(&c, chain_slice(&c, past, 0, 1, 0), 0), .length = length, .beams = beams,
                  .past_v = chain_squeeze(&c, chain_slice(&c, past, 1, 2, 0), 0), .heads = attr_i(n, attr_named(n, "num_heads")), .scale = attr_named(n, "scale")};
    if (o.heads < 1) return expand_fail(m, n, "num_heads must be positive");
    if (o.past_k == NULL || o.past_v == NULL) return false;
    Results r;
    if (!heads_of(&c, &o, causal, &r)) return false;
    out[0] = r.y;
    if (n->n_out > 1 && n->out[1] != NULL) out[1] = chain_concat(&c, chain_unsqueeze(&c, r.present[0], 0), chain_unsqueeze(&c, r.present[1], 0), 0);
    return n->n_out < 2 || n->out[1] == NULL || out[1] != NULL;
}

bool expand_decoder_self_attention(Module *m, Node *n, Value **out) {
    if (attr_i(n, AT_DecoderMaskedSelfAttention_past_present_share_buffer) == 0) return expand_fail(m, n, "past_present_share_buffer must be 1");
    if (attr_i(n, AT_DecoderMaskedSelfAttention_do_rotary) != 0) return expand_fail(m, n, "do_rotary is not supported");
    return expand_self_attention_in_place(m, n, expand_input(n, 8), false, out);
}
