/* Shapes of attention and its kin.
 *
 *     Attention(q: f32[B,Hq,S,D], k: f32[B,H,T,D], v: f32[B,H,T,E])                  -> f32[B,Hq,S,E]
 *     Attention(q: f32[B,S,Hq*D], …) with q_num_heads, kv_num_heads                  -> f32[B,S,Hq*E] */
#include "ir/shape/shape.h"

typedef struct Heads { Dim batch, heads, length, size; } Heads;

/* Reads [B,H,L,D] or [B,L,H*D]. */
static bool heads_of(Module *m, Node *n, uint32_t i, AttrSlot heads, Heads *h) {
    const Type *t = shape_in(m, n, i);
    if (t == NULL) return false;
    if (t->rank == 4) {
        *h = (Heads){t->dim[0], t->dim[1], t->dim[2], t->dim[3]};
        return true;
    }
    if (t->rank != 3 || heads == AT_COUNT || !attr_has(n, heads) || attr_i(n, heads) < 1)
        return shape_fail(m, n, "query, key and value must be [B,H,L,D], or [B,L,H*D] with the numbers of heads as attributes");
    h->batch = t->dim[0];
    h->length = t->dim[1];
    h->heads = dim_const(m->cx, attr_i(n, heads));
    h->size = dim_floordiv(m->cx, t->dim[2], h->heads);
    if (h->size == 0 || dim_mul(m->cx, h->size, h->heads) != t->dim[2]) return shape_fail(m, n, "the hidden size is not a multiple of the number of heads");
    return true;
}

bool shape_attention(Module *m, Node *n) {
    Context *cx = m->cx;
    bool flex = n->op == OP_FlexAttention;
    AttrSlot q_heads = attr_named(n, "q_num_heads"), kv_heads = attr_named(n, "kv_num_heads");
    Heads q, k, v;
    if (!heads_of(m, n, 0, q_heads, &q) || !heads_of(m, n, 1, kv_heads, &k) || !heads_of(m, n, 2, kv_heads, &v)) return false;
    if (n->in[0]->type->rank != n->in[1]->type->rank || n->in[0]->type->rank != n->in[2]->type->rank) return shape_fail(m, n, "query, key and value differ in rank");
    if (!shape_unify(m, n, q.batch, k.batch, "batch of query and key") || !shape_unify(m, n, k.batch, v.batch, "batch of key and value") ||
        !shape_unify(m, n, q.size, k.size, "head size of query and key") || !shape_unify(m, n, k.length, v.length, "length of key and value") ||
        !shape_unify(m, n, k.heads, v.heads, "heads of key and value")) return false;
    if (!dim_is_const(cx, q.heads) || !dim_is_const(cx, k.heads) || dim_value(cx, k.heads) < 1 || dim_value(cx, q.heads) % dim_value(cx, k.heads) != 0)
        return shape_fail(m, n, "the heads of the query must be a multiple of those of the key");
    DType t = n->in[0]->type->dtype;
    if (n->in[0]->type->rank == 4) shape_out(m, n, 0, t, 4, (Dim[]){q.batch, q.heads, q.length, v.size});
    else shape_out(m, n, 0, t, 3, (Dim[]){q.batch, q.length, dim_mul(cx, q.heads, v.size)});
    if (flex) return true;
    Dim total = k.length;
    if (shape_has_in(n, 4) != shape_has_in(n, 5)) return shape_fail(m, n, "past_key and past_value must be given together");
    if (shape_has_in(n, 4)) {
        const Type *past = shape_in(m, n, 4), *past_value = shape_in(m, n, 5);
        if (past == NULL || past_value == NULL) return false;
        if (past->rank != 4 || past_value->rank != 4) return shape_fail(m, n, "past_key and past_value must be [B,H,P,D]");
        total = dim_add(cx, past->dim[2], k.length);
    }
    shape_out(m, n, 1, n->in[1]->type->dtype, 4, (Dim[]){k.batch, k.heads, total, k.size});
    shape_out(m, n, 2, n->in[2]->type->dtype, 4, (Dim[]){k.batch, k.heads, total, v.size});
    shape_out(m, n, 3, t, 4, (Dim[]){q.batch, q.heads, q.length, total});
    return true;
}

bool shape_first(Module *m, Node *n) { /* the type of input 0 */
    const Type *t = shape_in(m, n, 0);
    if (t != NULL) shape_out(m, n, 0, t->dtype, t->rank, t->dim);
    return t != NULL;
}

/* x [B,H,S,D] or [B,S,H*D]; caches [positions, R/2] with position_ids, else [B,S,R/2]. */
bool shape_rotary(Module *m, Node *n) {
    const Type *x = shape_in(m, n, 0);
    if (x == NULL) return false;
    if (x->rank != 3 && x->rank != 4) return shape_fail(m, n, "input 0 must be [B,H,S,D] or [B,S,H*D]");
    for (uint32_t i = 1; i < n->n_in; i++)
        if (n->in[i] != NULL && shape_in(m, n, i) == NULL) return false;
    AttrSlot heads = attr_named(n, "num_heads");
    if (n->op == OP_RotaryEmbedding && x->rank == 3 && (!attr_has(n, heads) || attr_i(n, heads) < 1)) return shape_fail(m, n, "num_heads is needed for [B,S,H*D]");
    return shape_first(m, n);
}

/* query [B,T,Hq*K], key [B,T,H*K], value [B,T,H*V] -> output [B,T,Hq*V], state [B,H,K,V] */
bool shape_linear_attention(Module *m, Node *n) {
    Context *cx = m->cx;
    const Type *q = shape_in(m, n, 0), *k = q != NULL ? shape_in(m, n, 1) : NULL, *v = k != NULL ? shape_in(m, n, 2) : NULL;
    if (v == NULL) return false;
    int64_t q_heads = attr_i(n, attr_named(n, "q_num_heads")), heads = attr_i(n, attr_named(n, "kv_num_heads"));
    if (q->rank != 3 || k->rank != 3 || v->rank != 3) return shape_fail(m, n, "query, key and value must be [B,T,H*D]");
    if (heads < 1 || q_heads < 1 || q_heads % heads != 0) return shape_fail(m, n, "q_num_heads must be a multiple of kv_num_heads");
    Dim h = dim_const(cx, heads), key = dim_floordiv(cx, k->dim[2], h), value = dim_floordiv(cx, v->dim[2], h);
    shape_out(m, n, 0, q->dtype, 3, (Dim[]){q->dim[0], q->dim[1], dim_mul(cx, value, dim_const(cx, q_heads))});
    DType state = shape_has_in(n, 3) && n->in[3]->type != NULL ? n->in[3]->type->dtype : q->dtype;
    shape_out(m, n, 1, state, 4, (Dim[]){q->dim[0], h, key, value});
    return true;
}

/* x [B,C,L], weight [C,1,K] -> output [B,C,L], state [B,C,K-1] */
bool shape_causal_conv(Module *m, Node *n) {
    const Type *x = shape_in(m, n, 0), *w = x != NULL ? shape_in(m, n, 1) : NULL;
    if (w == NULL) return false;
    if (x->rank != 3 || w->rank != 3) return shape_fail(m, n, "input and weight must be [B,C,L] and [C,1,K]");
    if (!shape_unify(m, n, x->dim[1], w->dim[0], "channels of input and weight")) return false;
    shape_out(m, n, 0, x->dtype, 3, x->dim);
    shape_out(m, n, 1, x->dtype, 3, (Dim[]){x->dim[0], x->dim[1], dim_sub(m->cx, w->dim[2], dim_const(m->cx, 1))});
    return true;
}
