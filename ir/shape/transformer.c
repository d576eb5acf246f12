/* Shapes of the transformer operators of com.microsoft. */
#include "ir/shape/shape.h"

/* SkipLayerNormalization and kin: Y, mean, inverse deviation, sum of the inputs. */
bool shape_skip_norm(Module *m, Node *n) {
    const Type *x = shape_in(m, n, 0), *skip = x != NULL ? shape_in(m, n, 1) : NULL;
    if (skip == NULL) return false;
    if (x->rank < 1) return shape_fail(m, n, "input 0 must have a hidden dimension");
    Dim dim[RANK_MAX];
    uint32_t rank;
    if (!shape_broadcast(m, n, x, skip, &rank, dim)) return false;
    shape_out(m, n, 0, x->dtype, rank, dim);
    shape_out(m, n, 3, x->dtype, rank, dim);
    dim[rank - 1] = dim_const(m->cx, 1);
    for (uint32_t i = 1; i < 3; i++) shape_out(m, n, i, x->dtype == DT_F64 ? DT_F64 : DT_F32, rank, dim);
    return true;
}

bool shape_simplified_norm(Module *m, Node *n) {
    const Type *x = shape_in(m, n, 0);
    uint32_t axis;
    if (x == NULL || !shape_axis(m, n, attr_i(n, attr_named(n, "axis")), x->rank, &axis)) return false;
    Dim dim[RANK_MAX];
    for (uint32_t a = 0; a < x->rank; a++) dim[a] = a < axis ? x->dim[a] : dim_const(m->cx, 1);
    shape_out(m, n, 0, x->dtype, x->rank, x->dim);
    shape_out(m, n, 1, x->dtype == DT_F64 ? DT_F64 : DT_F32, x->rank, dim);
    return true;
}

/* ids [B,S], word embedding [V,H] -> [B,S,H], mask index [B], sum [B,S,H] */
bool shape_embed_norm(Module *m, Node *n) {
    const Type *ids = shape_in(m, n, 0), *word = ids != NULL ? shape_in(m, n, 2) : NULL;
    if (word == NULL) return false;
    if (ids->rank != 2 || word->rank != 2) return shape_fail(m, n, "input_ids and word_embedding must be [B,S] and [V,H]");
    Dim dim[3] = {ids->dim[0], ids->dim[1], word->dim[1]};
    shape_out(m, n, 0, word->dtype, 3, dim);
    shape_out(m, n, 1, DT_I32, 1, dim);
    shape_out(m, n, 2, word->dtype, 3, dim);
    return true;
}

/* query [B,S,H*D] or packed [B,S,H,3,D] or [B,S,3*H*D]; key [B,T,H*D], packed [B,T,H,2,D] or [B,H,T,D]; value like key. `past`, `length`: numbers
 * of the inputs past_key and past_sequence_length; the latter only where past and present share a buffer [B,H,M,D]. */
static bool shape_heads(Module *m, Node *n, int64_t count, uint32_t past, uint32_t length, bool shared) {
    Context *cx = m->cx;
    const Type *q = shape_in(m, n, 0), *k = NULL, *v = NULL;
    if (q == NULL) return false;
    Dim heads = dim_const(cx, count), size, value_size, keys;
    if (count < 1) return shape_fail(m, n, "num_heads must be positive");
    if (shape_has_in(n, 1) && (k = shape_in(m, n, 1)) == NULL) return false;
    if (shape_has_in(n, 2) && (v = shape_in(m, n, 2)) == NULL) return false;
    if (q->rank == 5 && k == NULL) {
        size = value_size = q->dim[4];
        keys = q->dim[1];
    } else if (q->rank == 3 && k == NULL && v == NULL) {
        size = value_size = dim_floordiv(cx, q->dim[2], dim_mul(cx, heads, dim_const(cx, 3)));
        keys = q->dim[1];
    } else if (q->rank == 3 && k != NULL && k->rank == 5 && v == NULL) {
        size = value_size = k->dim[4];
        keys = k->dim[1];
    } else if (q->rank == 3 && k != NULL && v != NULL && k->rank == v->rank && (k->rank == 3 || k->rank == 4)) {
        size = dim_floordiv(cx, q->dim[2], heads);
        value_size = k->rank == 4 ? v->dim[3] : dim_floordiv(cx, v->dim[2], heads);
        keys = k->dim[k->rank == 4 ? 2 : 1];
    } else {
        return shape_fail(m, n, "query, key and value must be [B,L,H*D], or packed as [B,L,H,3,D] or [B,L,H,2,D]");
    }
    shape_out(m, n, 0, q->dtype, 3, (Dim[]){q->dim[0], q->dim[1], dim_mul(cx, heads, value_size)});
    Dim scored = keys;
    if (shape_has_in(n, past) != shape_has_in(n, past + 1)) return shape_fail(m, n, "past_key and past_value come together");
    if (shape_has_in(n, past)) {
        const Type *cache = shape_in(m, n, past), *values = shape_in(m, n, past + 1);
        if (cache == NULL || cache->rank != 4 || values == NULL || values->rank != 4) return shape_fail(m, n, "past_key and past_value must be [B,H,P,D]");
        scored = shared ? shape_data_dim(m, n, 3, 3, 0, dim_hi(cx, cache->dim[2])) : dim_add(cx, cache->dim[2], keys);
        keys = shared ? cache->dim[2] : scored;
        if (shared && !shape_has_in(n, length)) return shape_fail(m, n, "buffer sharing needs past_sequence_length");
        if (shared && shape_in(m, n, length) == NULL) return false;
        if (shared && type_numel(cx, n->in[length]->type) != dim_const(cx, 1)) return shape_fail(m, n, "past_sequence_length must be one number");
    }
    shape_out(m, n, 1, q->dtype, 4, (Dim[]){q->dim[0], heads, keys, size});
    shape_out(m, n, 2, q->dtype, 4, (Dim[]){q->dim[0], heads, keys, value_size});
    shape_out(m, n, 3, q->dtype, 4, (Dim[]){q->dim[0], heads, q->dim[1], scored});
    return true;
}

bool shape_multi_head_attention(Module *m, Node *n) { return shape_heads(m, n, attr_i(n, AT_MultiHeadAttention_num_heads), 6, 8, shape_has_in(n, 8)); }

bool shape_decoder_multi_head(Module *m, Node *n) {
    bool shared = attr_i(n, AT_DecoderMaskedMultiHeadAttention_past_present_share_buffer) != 0;
    return shape_heads(m, n, attr_i(n, AT_DecoderMaskedMultiHeadAttention_num_heads), 5, 7, shared);
}

/* input [B,S,I], weights [I, Q+K+V] -> [B,S,V], present [2,B,H,T,D], or like past where they share a buffer */
bool shape_ms_attention(Module *m, Node *n) {
    Context *cx = m->cx;
    const Type *x = shape_in(m, n, 0), *w = x != NULL ? shape_in(m, n, 1) : NULL;
    if (w == NULL) return false;
    if (x->rank != 3 || w->rank != 2) return shape_fail(m, n, "input and weights must be [B,S,I] and [I,3*H]");
    const Attr *sizes = attr_at(n, AT_Ms_Attention_qkv_hidden_sizes);
    bool given = sizes->present && sizes->ints.n == 3;
    Dim hidden = dim_floordiv(cx, w->dim[1], dim_const(cx, 3)), heads = dim_const(cx, attr_i(n, AT_Ms_Attention_num_heads));
    if (dim_lo(cx, heads) < 1) return shape_fail(m, n, "num_heads must be positive");
    Dim value = given ? dim_const(cx, sizes->ints.v[2]) : hidden, key = given ? dim_const(cx, sizes->ints.v[1]) : hidden;
    Dim length = x->dim[1];
    if (shape_has_in(n, 4)) {
        const Type *past = shape_in(m, n, 4);
        if (past == NULL || past->rank != 5) return shape_fail(m, n, "past must be [2,B,H,P,D]");
        length = attr_i(n, AT_Ms_Attention_past_present_share_buffer) != 0 ? past->dim[3] : dim_add(cx, past->dim[3], length);
    }
    shape_out(m, n, 0, x->dtype, 3, (Dim[]){x->dim[0], x->dim[1], value});
    shape_out(m, n, 1, x->dtype, 5, (Dim[]){dim_const(cx, 2), x->dim[0], heads, length, dim_floordiv(cx, key, heads)});
    return true;
}

/* query [B,S,H*D] with key and value [B,S,Hk*D], or all in one; past [B,Hk,P,D] -> output like query, present [B,Hk,max(P, total),D] */
bool shape_group_query_attention(Module *m, Node *n) {
    Context *cx = m->cx;
    const Type *q = shape_in(m, n, 0), *lengths = q != NULL ? shape_in(m, n, 5) : NULL, *total = lengths != NULL ? shape_in(m, n, 6) : NULL;
    int64_t heads = attr_i(n, AT_GroupQueryAttention_num_heads), kv = attr_i(n, AT_GroupQueryAttention_kv_num_heads);
    if (total == NULL) return false;
    if (q->rank != 3 || lengths->rank != 1) return shape_fail(m, n, "query must be [B,S,H*D] and seqlens_k [B]");
    if (heads < 1 || kv < 1 || heads > 1 << 20 || kv > 1 << 20 || heads % kv != 0) return shape_fail(m, n, "num_heads must be a multiple of kv_num_heads");
    if (shape_has_in(n, 1) != shape_has_in(n, 2) || shape_has_in(n, 3) != shape_has_in(n, 4)) return shape_fail(m, n, "key and value, and past_key and past_value, come together");
    if (shape_has_in(n, 12) || shape_has_in(n, 13) || shape_has_in(n, 16) || attr_i(n, AT_GroupQueryAttention_sliding_window_cache) != 0)
        return shape_fail(m, n, "quantized caches, query_seqlens and sliding_window_cache are not supported");
    if (shape_has_in(n, 14) != shape_has_in(n, 15)) return shape_fail(m, n, "q_norm_weight and k_norm_weight come together");
    Dim size = dim_floordiv(cx, q->dim[2], dim_const(cx, shape_has_in(n, 1) ? heads : heads + 2 * kv)), length = q->dim[1];
    for (uint32_t i = 1; i < 3; i++) {
        const Type *t = shape_has_in(n, i) ? shape_in(m, n, i) : NULL;
        if (!shape_has_in(n, i)) continue;
        if (t == NULL || t->rank != 3) return shape_fail(m, n, "key and value must be [B,S,Hk*D]");
        if (!shape_unify(m, n, t->dim[1], q->dim[1], "lengths of query and key") || !shape_unify(m, n, t->dim[2], dim_mul(cx, size, dim_const(cx, kv)), "sizes of query and key")) return false;
    }
    for (uint32_t i = 3; i < 5; i++) {
        const Type *t = shape_has_in(n, i) ? shape_in(m, n, i) : NULL;
        if (!shape_has_in(n, i)) continue;
        if (t == NULL || t->rank != 4 || t->dtype != q->dtype) return shape_fail(m, n, "past_key and past_value must be [B,Hk,P,D] of the query's type");
        if (!shape_unify(m, n, t->dim[1], dim_const(cx, kv), "heads of the cache") || !shape_unify(m, n, t->dim[3], size, "head sizes of the cache")) return false;
    }
    if (shape_has_in(n, 3)) {
        Dim past = n->in[3]->type->dim[2];
        uint32_t count;
        const Dim *known = value_dims(m, n->in[6], &count);
        int64_t most = dim_hi(cx, dim_add(cx, past, q->dim[1]));
        if (known != NULL && count == 1) length = dim_max(cx, past, known[0]);
        else length = shape_data_dim(m, n, n->n_out > 1 && n->out[1] != NULL ? 1 : 2, 2, dim_lo(cx, past), most);
    }
    shape_out(m, n, 0, q->dtype, 3, (Dim[]){q->dim[0], q->dim[1], dim_mul(cx, size, dim_const(cx, heads))});
    shape_out(m, n, 1, q->dtype, 4, (Dim[]){q->dim[0], dim_const(cx, kv), length, size});
    shape_out(m, n, 2, q->dtype, 4, (Dim[]){q->dim[0], dim_const(cx, kv), length, size});
    shape_out(m, n, 3, q->dtype, 4, (Dim[]){q->dim[0], dim_const(cx, heads), q->dim[1], length});
    return true;
}

/* x [B,S,C], counts [B] -> tokens [T,C], token_offset [B,S], ends [B+1], the largest count [1] */
bool shape_remove_padding(Module *m, Node *n) {
    Context *cx = m->cx;
    const Type *x = shape_in(m, n, 0), *counts = x != NULL ? shape_in(m, n, 1) : NULL;
    if (counts == NULL) return false;
    if (x->rank != 3 || counts->rank != 1) return shape_fail(m, n, "input must be [B,S,C] and sequence_token_count [B]");
    Dim batch = shape_unify(m, n, x->dim[0], counts->dim[0], "batch and counts");
    if (batch == 0) return false;
    Dim tokens = shape_data_dim(m, n, 0, 0, 0, dim_hi(cx, dim_mul(cx, batch, x->dim[1])));
    shape_out(m, n, 0, x->dtype, 2, (Dim[]){tokens, x->dim[2]});
    shape_out(m, n, 1, DT_I32, 2, (Dim[]){batch, x->dim[1]});
    shape_out(m, n, 2, DT_I32, 1, (Dim[]){dim_add(cx, batch, dim_const(cx, 1))});
    shape_out(m, n, 3, DT_I32, 1, (Dim[]){dim_const(cx, 1)});
    return true;
}

/* table [buckets, heads], lengths of queries and keys -> [1, heads, Q, K] */
bool shape_relative_position_bias(Module *m, Node *n) {
    Context *cx = m->cx;
    const Type *t = shape_in(m, n, 0);
    Dim dim[4];
    if (t == NULL) return false;
    if (t->rank != 2 || !dim_is_const(cx, t->dim[0]) || !dim_is_const(cx, t->dim[1])) return shape_fail(m, n, "bias_table must be [buckets, heads] of known sizes");
    for (uint32_t i = 1; i < 3; i++) {
        const Type *length = shape_in(m, n, i);
        uint32_t count;
        if (length == NULL) return false;
        if (type_numel(cx, length) != dim_const(cx, 1)) return shape_fail(m, n, "query_length and key_length are one number each");
        const Dim *known = value_dims(m, n->in[i], &count);
        dim[1 + i] = known != NULL ? known[0] : shape_data_dim(m, n, 0, 1 + i, 0, INT64_MAX);
    }
    dim[0] = dim_const(cx, 1);
    dim[1] = t->dim[1];
    shape_out(m, n, 0, t->dtype, 4, dim);
    return true;
}
