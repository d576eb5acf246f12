/* GroupQueryAttention: keys and values go into a cache, every sequence of the batch at a place of its own.
 *
 *     past [B,Hk,P,D], new keys [B,S,Hk*D], seqlens_k [B]   ->   present [B,Hk,max(P, total),D]
 *
 * Sequence b has seqlens_k[b] + 1 keys, the last S of which are new (the first S, when the call is a first prompt: total_sequence_length is S).
 * Row t of its present is row t - start of what is new where there is such a row, row t of past before, and 0 behind. The rows come from past
 * and new keys behind one another, by an index that is clamped: lengths that do not fit the cache give other rows, and never a read outside. */
#include <math.h>

#include "passes/expand/attention.h"
#include "passes/expand/bind.h"
#include "passes/expand/build.h"
#include "passes/rules.h"

typedef struct Query {
    Module *m;
    Node *n;
    int64_t heads, kv_heads, size;
    Value *start;          /* [B] i64: keys in front of the new ones */
    Value *length;         /* scalar i64: rows of present */
    Value *steps;          /* scalar i64: S */
    Dim present;
    AttentionParts parts;
} Query;

static Value *number(const Query *g, int64_t v) { return value_const_scalar(g->m, DT_I64, (double)v); }

/* Size `axis` of v as a scalar. */
static Value *size_of(const Query *g, Value *v, int64_t axis) { return expand_gather(g->m, g->n, build1(g->m, g->n, OP_Shape, v), number(g, axis), 0); }

/* 0, 1, … as a tensor of rank `rank` along `axis`. */
static Value *counting(const Query *g, Value *count, int64_t rank, int64_t axis) {
    int64_t axes[RANK_MAX];
    uint32_t n = 0;
    for (int64_t i = 0; i < rank; i++)
        if (i != axis) axes[n++] = i;
    Value *all = build3(g->m, g->n, OP_Range, number(g, 0), count, number(g, 1));
    return all != NULL ? build2(g->m, g->n, OP_Unsqueeze, all, value_const_i64(g->m, n, axes)) : NULL;
}

/* A scalar of the file's, as i64. */
static Value *scalar(const Query *g, Value *v) { return expand_reshape(g->m, g->n, expand_cast(g->m, g->n, v, DT_I64), 0, NULL); }

/* ---- query, key, value ------------------------------------------------------------------------------------------- */
static Value *heads_of(const Query *g, Value *v, int64_t heads, Value *norm, double epsilon) {
    v = attention_split_heads(g->m, g->n, v, heads);
    if (v == NULL || norm == NULL) return v;
    Node *r = expand_node(g->m, g->n, OP_RMSNormalization, 2, (Value *[]){v, norm}, 1);
    attr_set_f(r, AT_RMSNormalization_epsilon, epsilon);
    attr_set_i(r, AT_RMSNormalization_axis, -1);
    return expand_result(g->m, r);
}

static double epsilon_of(const Query *g, AttrSlot own) { return attr_has(g->n, own) ? attr_f(g->n, own) : attr_f(g->n, AT_GroupQueryAttention_qk_norm_epsilon); }

static bool split(Query *g) {
    Module *m = g->m;
    Node *n = g->n;
    Value *q = n->in[0], *k = n->in[1], *v = n->in[2];
    if (k == NULL) { /* all in one */
        int64_t wide = g->heads * g->size, narrow = g->kv_heads * g->size;
        k = expand_slice(m, n, q, wide, wide + narrow, 2);
        v = expand_slice(m, n, q, wide + narrow, wide + 2 * narrow, 2);
        q = expand_slice(m, n, q, 0, wide, 2);
    }
    if (q == NULL || k == NULL || v == NULL) return false;
    g->parts.q = heads_of(g, q, g->heads, expand_input(n, 14), epsilon_of(g, AT_GroupQueryAttention_q_norm_epsilon));
    g->parts.k = heads_of(g, k, g->kv_heads, expand_input(n, 15), epsilon_of(g, AT_GroupQueryAttention_k_norm_epsilon));
    g->parts.v = attention_split_heads(m, n, v, g->kv_heads);
    return g->parts.q != NULL && g->parts.k != NULL && g->parts.v != NULL;
}

static Value *rotated(const Query *g, Value *x, Value *position) {
    Node *n = g->n, *r = expand_node(g->m, n, OP_Ms_RotaryEmbedding, 4, (Value *[]){x, position, n->in[7], n->in[8]}, 1);
    Dim half = n->in[7]->type->dim[1];
    attr_set_i(r, AT_Ms_RotaryEmbedding_interleaved, attr_has(n, AT_GroupQueryAttention_rotary_interleaved) ? attr_i(n, AT_GroupQueryAttention_rotary_interleaved) : 0);
    attr_set_i(r, AT_Ms_RotaryEmbedding_rotary_embedding_dim, 2 * dim_value(g->m->cx, half));
    return expand_result(g->m, r);
}

static bool rotate(Query *g) {
    Node *n = g->n;
    if (!attr_has(n, AT_GroupQueryAttention_do_rotary) || attr_i(n, AT_GroupQueryAttention_do_rotary) == 0) return true;
    Value *cosine = expand_input(n, 7), *sine = expand_input(n, 8), *position = expand_input(n, 9);
    if (cosine == NULL || sine == NULL || cosine->type->rank != 2 || sine->type->rank != 2 || !dim_is_const(g->m->cx, cosine->type->dim[1]) || 2 * dim_value(g->m->cx, cosine->type->dim[1]) > g->size)
        return expand_fail(g->m, g->n, "do_rotary needs cos_cache and sin_cache [positions, up to half the head size]");
    if (position == NULL) {
        Value *start = build2(g->m, n, OP_Unsqueeze, g->start, value_const_i64(g->m, 1, (int64_t[]){1})), *step = counting(g, g->steps, 2, 1);
        position = start != NULL && step != NULL ? build2(g->m, n, OP_Add, start, step) : NULL;
    }
    if (position == NULL) return false;
    g->parts.q = rotated(g, g->parts.q, position);
    g->parts.k = rotated(g, g->parts.k, position);
    return g->parts.q != NULL && g->parts.k != NULL;
}

/* ---- the cache --------------------------------------------------------------------------------------------------- */
/* Where sequences and their new keys start, and how long present is. */
static bool places(Query *g) {
    Module *m = g->m;
    Node *n = g->n;
    Value *past = n->in[3], *total = scalar(g, n->in[6]);
    g->steps = size_of(g, n->in[0], 1);
    Value *lengths = expand_cast(m, n, n->in[5], DT_I64);
    if (total == NULL || g->steps == NULL || lengths == NULL) return false;
    if (past == NULL) {
        g->length = g->steps;
        g->start = build2(m, n, OP_Mul, lengths, number(g, 0));
        return g->start != NULL;
    }
    Value *last = build2(m, n, OP_Add, build2(m, n, OP_Sub, lengths, g->steps), number(g, 1)), *first = build2(m, n, OP_Equal, total, g->steps);
    g->start = build3(m, n, OP_Where, first, number(g, 0), last);
    Value *rows = build2(m, n, OP_Max, size_of(g, past, 2), total);
    if (g->start == NULL || rows == NULL) return false;
    const Type *t = type_tensor(m->cx, DT_I64, 1, &g->present);
    uint32_t known;
    Value *vector = expand_reshape(m, n, rows, 1, (int64_t[]){1});
    if (vector == NULL) return false;
    if (value_dims(m, n->in[6], &known) == NULL) vector = bind_dims(m, n, vector, t);
    g->length = vector != NULL ? expand_reshape(m, n, vector, 0, NULL) : NULL;
    return g->length != NULL;
}

typedef struct Rows { /* of present, [B,T]: which of past and new rows behind one another; is there one? */
    Value *index, *used;
} Rows;

static bool rows_of(const Query *g, Rows *r) {
    Module *m = g->m;
    Node *n = g->n;
    Value *past = size_of(g, n->in[3], 2), *t = counting(g, g->length, 2, 1), *start = build2(m, n, OP_Unsqueeze, g->start, value_const_i64(m, 1, (int64_t[]){1}));
    if (past == NULL || t == NULL || start == NULL) return false;
    Value *offset = build2(m, n, OP_Sub, t, start), *used = build2(m, n, OP_Less, offset, g->steps);
    Value *fresh = build2(m, n, OP_And, build2(m, n, OP_GreaterOrEqual, offset, number(g, 0)), used);
    Value *row = build3(m, n, OP_Where, fresh, build2(m, n, OP_Add, offset, past), t);
    Value *last = build2(m, n, OP_Sub, build2(m, n, OP_Add, past, g->steps), number(g, 1));
    r->index = build2(m, n, OP_Unsqueeze, build2(m, n, OP_Min, row, last), value_const_i64(m, 1, (int64_t[]){2}));
    r->used = build2(m, n, OP_Unsqueeze, used, value_const_i64(m, 2, (int64_t[]){1, 3}));
    return r->index != NULL && r->used != NULL;
}

/* past [B,H,P,D] and fresh [B,H,S,D] as present [B,H,T,D]. */
static Value *cached(const Query *g, Value *past, Value *fresh, const Rows *rows) {
    Value *all = attention_concat(g->m, g->n, past, fresh, 2);
    if (all == NULL) return NULL;
    all = expand_transpose(g->m, g->n, all, 4, (int64_t[]){0, 2, 1, 3});
    Node *pick = expand_node(g->m, g->n, OP_GatherND, 2, (Value *[]){all, rows->index}, 1);
    attr_set_i(pick, AT_GatherND_batch_dims, 1);
    Value *y = expand_result(g->m, pick);
    if (y != NULL) y = expand_transpose(g->m, g->n, y, 4, (int64_t[]){0, 2, 1, 3});
    return y != NULL ? build3(g->m, g->n, OP_Where, rows->used, y, value_const_scalar(g->m, y->type->dtype, 0)) : NULL;
}

static bool cache(Query *g) {
    Value *past_k = g->n->in[3], *past_v = g->n->in[4];
    if (past_k == NULL) return true;
    Rows rows;
    if (!rows_of(g, &rows)) return false;
    g->parts.k = cached(g, past_k, g->parts.k, &rows);
    g->parts.v = cached(g, past_v, g->parts.v, &rows);
    return g->parts.k != NULL && g->parts.v != NULL;
}

/* ---- which keys count -------------------------------------------------------------------------------------------- */
/* bool [B,1,S,T]: key t of sequence b for query s, which is at start[b] + s. */
static Value *allowed(const Query *g, Value *columns) {
    Module *m = g->m;
    Node *n = g->n;
    int64_t window = attr_i(n, AT_GroupQueryAttention_local_window_size);
    Value *t = counting(g, columns, 4, 3), *s = counting(g, g->steps, 4, 2), *axes = value_const_i64(m, 3, (int64_t[]){1, 2, 3});
    Value *start = build2(m, n, OP_Unsqueeze, g->start, axes), *lengths = build2(m, n, OP_Unsqueeze, expand_cast(m, n, n->in[5], DT_I64), axes);
    if (t == NULL || s == NULL || start == NULL || lengths == NULL) return NULL;
    Value *position = build2(m, n, OP_Add, start, s);
    if (attr_i(n, AT_GroupQueryAttention_causal) == 0) return build2(m, n, OP_LessOrEqual, t, lengths);
    Value *ok = build2(m, n, OP_LessOrEqual, t, position);
    if (window < 1) return ok;
    return build2(m, n, OP_And, ok, build2(m, n, OP_Greater, t, build2(m, n, OP_Sub, position, number(g, window))));
}

static bool masks(Query *g) {
    Module *m = g->m;
    Node *n = g->n;
    Value *bias = expand_input(n, 10), *columns = bias != NULL ? size_of(g, bias, 3) : g->length;
    g->parts.mask = columns != NULL ? allowed(g, columns) : NULL;
    if (bias != NULL && g->parts.mask != NULL) g->parts.mask = build3(m, n, OP_Where, g->parts.mask, bias, value_const_scalar(m, bias->type->dtype, -(double)INFINITY));
    return g->parts.mask != NULL;
}

bool expand_group_query_attention(Module *m, Node *n, Value **out) {
    Query g = {.m = m, .n = n, .heads = attr_i(n, AT_GroupQueryAttention_num_heads), .kv_heads = attr_i(n, AT_GroupQueryAttention_kv_num_heads)};
    int64_t all = n->in[1] != NULL ? g.heads : g.heads + 2 * g.kv_heads, mode = attr_i(n, AT_GroupQueryAttention_qk_output);
    Dim width = n->in[0]->type->dim[2];
    if (!dim_is_const(m->cx, width)) return expand_fail(g.m, g.n, "the hidden size must be known at compile time");
    g.size = dim_value(m->cx, width) / all;
    if (n->n_out > 1 && n->out[1] != NULL) g.present = n->out[1]->type->dim[2];
    else if (n->n_out > 2 && n->out[2] != NULL) g.present = n->out[2]->type->dim[2];
    else g.present = dim_runtime(m->cx, "GroupQueryAttention", 0, INT64_MAX);
    g.parts.left = g.parts.right = -1;
    g.parts.scores_mode = mode == 2 ? 3 : 2;
    g.parts.softcap = attr_has(n, AT_GroupQueryAttention_softcap) ? attr_f(n, AT_GroupQueryAttention_softcap) : 0;
    bool given = attr_has(n, AT_GroupQueryAttention_scale) && attr_f(n, AT_GroupQueryAttention_scale) != 0;
    g.parts.scale = given ? attr_f(n, AT_GroupQueryAttention_scale) : 1 / sqrt((double)g.size);
    if (!places(&g) || !split(&g) || !rotate(&g) || !cache(&g) || !masks(&g)) return false;
    g.parts.sink = expand_input(n, 11);
    if (g.parts.sink == NULL && attr_i(n, AT_GroupQueryAttention_smooth_softmax) == 1) g.parts.sink = value_const_scalar(m, n->in[0]->type->dtype, 0);
    Value *scores, *y = attention_build(m, n, &g.parts, &scores);
    if (y == NULL) return false;
    out[0] = attention_join_heads(m, n, y);
    expand_give(m, n, out, 1, g.parts.k);
    expand_give(m, n, out, 2, g.parts.v);
    if (mode == 1 && n->n_out > 3 && n->out[3] != NULL) { /* scores of keys that do not count are given as 0 */
        Value *counted = allowed(&g, g.length);
        scores = counted != NULL ? build3(m, n, OP_Where, counted, scores, value_const_scalar(m, scores->type->dtype, 0)) : NULL;
        if (scores == NULL) return false;
    }
    expand_give(m, n, out, 3, scores);
    return out[0] != NULL;
}
