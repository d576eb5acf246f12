/* Pointwise parts of attention, and its recurrent relatives.
 *
 *     AttentionBias:     y[b,h,i,j] = allowed(b, i, j) ? scores[b,h,i,j] + mask : -inf
 *     RotaryEmbedding:   pairs of elements turned by the angle of their position
 *     LinearAttention:   state S[key, value] per head: decay, correct, add k v^T, read with q; token by token
 *     CausalConvWithState: depthwise convolution over the past, whose end is carried over */
#include "passes/lower/rows.h"
#include "passes/rules.h"

static const Value *operand(const Node *n, uint32_t i) { return i < n->n_in ? n->in[i] : NULL; }

/* ---- AttentionBias ----------------------------------------------------------------------------------------------- */
/* Adds to *allowed and *add what the mask says about (b, h, i, j); a mask that ends before j forbids it. */
static void read_mask(Lower *lo, const Value *mask, Expr *const *idx, Expr **allowed, Expr **add) {
    const Type *t = mask->type;
    Expr *own[RANK_MAX];
    for (uint32_t a = 0; a < t->rank; a++) {
        bool one = dim_is_const(lo->cx, t->dim[a]) && dim_value(lo->cx, t->dim[a]) == 1;
        own[a] = one && a + 1 < t->rank ? lx_i(lo, 0) : idx[a + 4 - t->rank];
    }
    if (t->rank != 0) {
        Expr *length = lx_dim(lo, t->dim[t->rank - 1]), *last = own[t->rank - 1];
        *allowed = lx_2(lo, FN_AND, *allowed, lx_2(lo, FN_LT, last, length));
        own[t->rank - 1] = lx_2(lo, FN_MAX, lx_2(lo, FN_MIN, last, lx_add(lo, length, lx_i(lo, -1))), lx_i(lo, 0));
    }
    Expr *e = lower_load(lo, mask, own);
    if (t->dtype == DT_BOOL) *allowed = lx_2(lo, FN_AND, *allowed, e);
    else *add = e;
}

Expr *define_attention_bias(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    (void)out;
    const Value *mask = operand(n, 1), *valid = operand(n, 2), *past = operand(n, 3);
    Expr *s = lower_load(lo, n->in[0], idx), *allowed = ex_i(lo->cx, DT_BOOL, 1), *add = NULL;
    DType t = (DType)s->dtype;
    Expr *i = idx[2], *j = idx[3], *keys = valid != NULL ? lx_cast(lo, DT_I64, lower_load(lo, valid, &idx[0])) : NULL;
    Expr *offset = lx_i(lo, 0);
    if (past != NULL) offset = lx_dim(lo, past->type->dim[2]);
    else if (valid != NULL) offset = lx_sub(lo, keys, lx_dim(lo, n->in[0]->type->dim[2]));
    Expr *at = lx_add(lo, i, offset);
    int64_t left = attr_i(n, AT_AttentionBias_left), right = attr_i(n, AT_AttentionBias_right);
    if (attr_i(n, AT_AttentionBias_causal) != 0) allowed = lx_2(lo, FN_AND, allowed, lx_2(lo, FN_LE, j, at));
    if (left >= 0) allowed = lx_2(lo, FN_AND, allowed, lx_2(lo, FN_LE, lx_sub(lo, at, lx_i(lo, left)), j));
    if (right >= 0) allowed = lx_2(lo, FN_AND, allowed, lx_2(lo, FN_LE, j, lx_add(lo, at, lx_i(lo, right))));
    if (keys != NULL) allowed = lx_2(lo, FN_AND, allowed, lx_2(lo, FN_LT, j, keys));
    if (mask != NULL) read_mask(lo, mask, idx, &allowed, &add);
    if (add != NULL) s = lx_add(lo, s, lx_cast(lo, t, add));
    return lx_select(lo, allowed, s, lower_lowest(lo, t));
}

/* ---- RotaryEmbedding --------------------------------------------------------------------------------------------- */
typedef struct Rotary {
    const Value *cosine, *sine, *position;
    int64_t size;            /* of a head; 0: not known at compile time */
    Dim size_dim, rotated;
} Rotary;

static Rotary rotary_of(Lower *lo, const Node *n) {
    const Type *x = n->in[0]->type;
    bool ms = n->op == OP_Ms_RotaryEmbedding;
    Rotary r = {.cosine = n->in[ms ? 2 : 1], .sine = n->in[ms ? 3 : 2], .position = operand(n, ms ? 1 : 3)};
    AttrSlot heads = attr_named(n, "num_heads"), dim = attr_named(n, "rotary_embedding_dim");
    int64_t h = attr_has(n, heads) ? attr_i(n, heads) : 0, part = attr_has(n, dim) ? attr_i(n, dim) : 0;
    Dim half = r.cosine->type->dim[r.cosine->type->rank - 1];
    if (x->rank == 4) r.size_dim = x->dim[3];
    else if (h > 0) r.size_dim = dim_floordiv(lo->cx, x->dim[2], dim_const(lo->cx, h));
    else r.size_dim = dim_mul(lo->cx, half, dim_const(lo->cx, 2));
    r.rotated = part > 0 ? dim_const(lo->cx, part) : r.size_dim;
    return r;
}

/* Element k of a cache for token s of batch b. */
static Expr *cache(Lower *lo, const Rotary *r, const Value *c, Expr *b, Expr *s, Expr *k) {
    if (c->type->rank == 3) return lower_load(lo, c, (Expr *[]){b, s, k});
    Expr *p = s;
    if (r->position != NULL && r->position->type->rank == 2) p = lower_load(lo, r->position, (Expr *[]){b, s});
    else if (r->position != NULL) p = lx_add(lo, lx_cast(lo, DT_I64, lower_load_scalar(lo, r->position)), s); /* the first token's */
    p = lx_2(lo, FN_INDEX, lx_cast(lo, DT_I64, p), lx_dim(lo, c->type->dim[0]));
    return lower_load(lo, c, (Expr *[]){p, k});
}

Expr *define_rotary(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    (void)out;
    const Type *x = n->in[0]->type;
    Rotary r = rotary_of(lo, n);
    DType t = lower_float_type(x->dtype);
    bool four = x->rank == 4, interleaved = attr_has(n, attr_named(n, "interleaved")) && attr_i(n, attr_named(n, "interleaved")) != 0;
    Expr *size = lx_dim(lo, r.size_dim), *rotated = lx_dim(lo, r.rotated), *half = lx_dim(lo, dim_floordiv(lo->cx, r.rotated, dim_const(lo->cx, 2)));
    Expr *last = idx[x->rank - 1], *d = four ? last : lx_2(lo, FN_MOD, last, size), *two = lx_i(lo, 2), *one = lx_i(lo, 1);
    Expr *b = idx[0], *s = four ? idx[2] : idx[1], *k, *first, *move;
    if (interleaved) {
        k = lx_2(lo, FN_FLOORDIV, d, two);
        first = lx_2(lo, FN_EQ, lx_2(lo, FN_MOD, d, two), lx_i(lo, 0));
        move = lx_select(lo, first, one, lx_i(lo, -1));
    } else {
        first = lx_2(lo, FN_LT, d, half);
        k = lx_select(lo, first, d, lx_sub(lo, d, half));
        move = lx_select(lo, first, half, lx_sub(lo, lx_i(lo, 0), half));
    }
    Expr *turned = lx_2(lo, FN_LT, d, rotated), *other[RANK_MAX];
    k = lx_select(lo, turned, k, lx_i(lo, 0));
    for (uint32_t a = 0; a < x->rank; a++) other[a] = idx[a];
    other[x->rank - 1] = lx_add(lo, last, lx_select(lo, turned, move, lx_i(lo, 0)));
    Expr *e = lx_cast(lo, t, lower_load(lo, n->in[0], idx)), *partner = lx_cast(lo, t, lower_load(lo, n->in[0], other));
    Expr *c = lx_cast(lo, t, cache(lo, &r, r.cosine, b, s, k)), *sn = lx_cast(lo, t, cache(lo, &r, r.sine, b, s, k));
    Expr *across = lx_mul(lo, partner, sn);
    Expr *y = lx_add(lo, lx_mul(lo, e, c), lx_select(lo, first, lx_1(lo, FN_NEG, across), across));
    return lx_select(lo, turned, y, e);
}

/* ---- LinearAttention --------------------------------------------------------------------------------------------- */
typedef struct Linear {
    Lower *lo;
    const Node *n;
    DType t;
    Dim key, value;
    Value *state, *sum;      /* scratch [B,H,K,V], [B,H,V] */
    Expr *b, *h, *time;
    bool gated, delta;
} Linear;

static Expr *part(Linear *s, uint32_t i, Expr *head, Dim size, Expr *j) { /* x[b, t, head*size + j] */
    Expr *at = lx_add(s->lo, lx_mul(s->lo, head, lx_dim(s->lo, size)), j);
    return lx_cast(s->lo, s->t, lower_load(s->lo, s->n->in[i], (Expr *[]){s->b, s->time, at}));
}

static Expr *state_at(Linear *s, Expr *k, Expr *v) { return lower_load(s->lo, s->state, (Expr *[]){s->b, s->h, k, v}); }
static void set_state(Linear *s, Expr *k, Expr *v, Expr *e) { lower_store(s->lo, s->state, (Expr *[]){s->b, s->h, k, v}, e); }

/* sum[v] = sum over k of weight(k) * S[k, v], with weight from operand i and head. */
static void read_state(Linear *s, uint32_t i, Expr *head) {
    Lower *lo = s->lo;
    Expr *v = lower_for_dim(lo, s->value), *at[3] = {s->b, s->h, v};
    lower_store(lo, s->sum, at, lx_const(lo, s->t, 0));
    lower_end(lo);
    Expr *k = lower_for_dim(lo, s->key), *weight = lower_local(lo, s->t, part(s, i, head, s->key, k));
    v = at[2] = lower_for_dim(lo, s->value);
    lower_store_reduce(lo, s->sum, at, FN_ADD, lx_mul(lo, weight, state_at(s, k, v)));
    lower_end_n(lo, 2);
}

static void decay_state(Linear *s) {
    Lower *lo = s->lo;
    const Type *g = s->n->in[4]->type;
    bool per_key = g->dim[2] != dim_const(lo->cx, attr_i(s->n, attr_named(s->n, "kv_num_heads")));
    Expr *k = lower_for_dim(lo, s->key);
    Expr *e = per_key ? part(s, 4, s->h, s->key, k) : lx_cast(lo, s->t, lower_load(lo, s->n->in[4], (Expr *[]){s->b, s->time, s->h}));
    Expr *keep = lower_local(lo, s->t, lx_1(lo, FN_EXP, e));
    Expr *v = lower_for_dim(lo, s->value);
    set_state(s, k, v, lx_mul(lo, keep, state_at(s, k, v)));
    lower_end_n(lo, 2);
}

static void update_state(Linear *s) {
    Lower *lo = s->lo;
    Expr *rate = NULL;
    if (s->gated) decay_state(s);
    if (s->delta) {
        bool one = dim_is_const(lo->cx, s->n->in[5]->type->dim[2]) && dim_value(lo->cx, s->n->in[5]->type->dim[2]) == 1;
        rate = lx_cast(lo, s->t, lower_load(lo, s->n->in[5], (Expr *[]){s->b, s->time, one ? lx_i(lo, 0) : s->h}));
        read_state(s, 1, s->h);
    }
    Expr *k = lower_for_dim(lo, s->key), *e = part(s, 1, s->h, s->key, k);
    Expr *weight = lower_local(lo, s->t, rate != NULL ? lx_mul(lo, rate, e) : e);
    Expr *v = lower_for_dim(lo, s->value), *add = part(s, 2, s->h, s->value, v);
    if (s->delta) add = lx_sub(lo, add, lower_load(lo, s->sum, (Expr *[]){s->b, s->h, v}));
    set_state(s, k, v, lx_add(lo, state_at(s, k, v), lx_mul(lo, weight, add)));
    lower_end_n(lo, 2);
}

static void read_output(Linear *s, int64_t group, double scale) {
    Lower *lo = s->lo;
    Expr *g = lower_for(lo, lx_i(lo, group)), *head = lx_add(lo, lx_mul(lo, s->h, lx_i(lo, group)), g);
    read_state(s, 0, head);
    Expr *v = lower_for_dim(lo, s->value), *at = lx_add(lo, lx_mul(lo, head, lx_dim(lo, s->value)), v);
    Expr *e = lx_mul(lo, lower_load(lo, s->sum, (Expr *[]){s->b, s->h, v}), lx_const(lo, s->t, scale));
    lower_store(lo, s->n->out[0], (Expr *[]){s->b, s->time, at}, e);
    lower_end_n(lo, 2);
}

static void copy_state(Linear *s, bool in) {
    Lower *lo = s->lo;
    Expr *k = lower_for_dim(lo, s->key), *v = lower_for_dim(lo, s->value), *idx[4] = {s->b, s->h, k, v};
    if (!in) lower_store(lo, s->n->out[1], idx, state_at(s, k, v));
    else set_state(s, k, v, operand(s->n, 3) != NULL ? lx_cast(lo, s->t, lower_load(lo, s->n->in[3], idx)) : lx_const(lo, s->t, 0));
    lower_end_n(lo, 2);
}

bool lower_linear_attention(Lower *lo, const Node *n) {
    Context *cx = lo->cx;
    AttrSlot rule = attr_named(n, "update_rule");
    Linear s = {.lo = lo, .n = n, .t = lower_float_type(n->in[0]->type->dtype)};
    bool both = attr_s_is(cx, n, rule, "gated_delta");
    s.gated = both || attr_s_is(cx, n, rule, "gated");
    s.delta = both || attr_s_is(cx, n, rule, "delta");
    if ((!s.gated && !s.delta && !attr_s_is(cx, n, rule, "linear")) || (s.gated && operand(n, 4) == NULL) || (s.delta && operand(n, 5) == NULL)) {
        diag(cx, SEV_ERROR, n->loc, "update_rule \"%s\" is unknown, or its decay or beta is missing", str_text(cx, attr_s(n, rule)));
        return false;
    }
    int64_t q_heads = attr_i(n, attr_named(n, "q_num_heads")), heads = attr_i(n, attr_named(n, "kv_num_heads"));
    double scale = attr_f(n, attr_named(n, "scale"));
    const Type *q = n->in[0]->type;
    s.key = dim_floordiv(cx, n->in[1]->type->dim[2], dim_const(cx, heads));
    s.value = dim_floordiv(cx, n->in[2]->type->dim[2], dim_const(cx, heads));
    if (scale == 0) {
        if (!dim_is_const(cx, s.key)) {
            diag(cx, SEV_ERROR, n->loc, "the head size must be known at compile time when scale is not given");
            return false;
        }
        Scalar size = {.f64 = (double)dim_value(cx, s.key)};
        int error = 0;
        scale = 1 / scalar_eval(FN_SQRT, DT_F64, DT_F64, &size, 0, &error).f64;
    }
    Dim h = dim_const(cx, heads);
    s.state = lower_scratch(lo, type_tensor(cx, s.t, 4, (Dim[]){q->dim[0], h, s.key, s.value}));
    s.sum = lower_scratch(lo, type_tensor(cx, s.t, 3, (Dim[]){q->dim[0], h, s.value}));
    s.b = lower_for_dim(lo, q->dim[0]);
    s.h = lower_for_dim(lo, h);
    copy_state(&s, true);
    s.time = lower_for_dim(lo, q->dim[1]);
    update_state(&s);
    read_output(&s, q_heads / heads, scale);
    lower_end(lo);
    if (n->n_out > 1 && lower_is_wanted(lo, n->out[1])) copy_state(&s, false);
    lower_end_n(lo, 2);
    return true;
}

/* ---- CausalConvWithState ----------------------------------------------------------------------------------------- */
/* Element p (from -(K-1)) of the past followed by the input. */
static Expr *with_past(Lower *lo, const Node *n, Expr *b, Expr *c, Expr *p) {
    const Type *x = n->in[0]->type;
    DType t = lower_float_type(x->dtype);
    Expr *zero = lx_i(lo, 0), *before = lx_2(lo, FN_LT, p, zero), *last = lx_add(lo, lx_dim(lo, x->dim[2]), lx_i(lo, -1));
    Expr *inside = lx_2(lo, FN_MAX, lx_2(lo, FN_MIN, p, last), zero), *past = lx_const(lo, t, 0);
    if (operand(n, 3) != NULL) {
        Expr *state = lx_dim(lo, n->in[3]->type->dim[2]);
        Expr *at = lx_2(lo, FN_MAX, lx_2(lo, FN_MIN, lx_add(lo, p, state), lx_add(lo, state, lx_i(lo, -1))), zero);
        past = lx_cast(lo, t, lower_load(lo, n->in[3], (Expr *[]){b, c, at}));
    }
    return lx_select(lo, before, past, lx_cast(lo, t, lower_load(lo, n->in[0], (Expr *[]){b, c, inside})));
}

bool lower_causal_conv(Lower *lo, const Node *n) {
    const Type *x = n->in[0]->type, *w = n->in[1]->type;
    DType t = lower_float_type(x->dtype);
    bool silu = attr_s_is(lo->cx, n, AT_CausalConvWithState_activation, "silu") || attr_s_is(lo->cx, n, AT_CausalConvWithState_activation, "swish");
    Expr *b = lower_for_dim(lo, x->dim[0]), *c = lower_for_dim(lo, x->dim[1]), *zero = lx_i(lo, 0);
    Expr *back = lx_add(lo, lx_dim(lo, w->dim[2]), lx_i(lo, -1));
    Expr *i = lower_for_dim(lo, x->dim[2]);
    Expr *sum = lower_local(lo, t, operand(n, 2) != NULL ? lx_cast(lo, t, lower_load(lo, n->in[2], &c)) : lx_const(lo, t, 0));
    Expr *k = lower_for_dim(lo, w->dim[2]), *weight = lx_cast(lo, t, lower_load(lo, n->in[1], (Expr *[]){c, zero, k}));
    lower_accumulate(lo, sum, FN_ADD, lx_mul(lo, weight, with_past(lo, n, b, c, lx_sub(lo, lx_add(lo, i, k), back))));
    lower_end(lo);
    lower_store(lo, n->out[0], (Expr *[]){b, c, i}, silu ? lx_mul(lo, sum, lx_1(lo, FN_SIGMOID, sum)) : sum);
    lower_end(lo);
    if (n->n_out > 1 && lower_is_wanted(lo, n->out[1])) {
        Expr *j = lower_for(lo, back), *p = lx_sub(lo, lx_add(lo, lx_dim(lo, x->dim[2]), j), back);
        lower_store(lo, n->out[1], (Expr *[]){b, c, j}, with_past(lo, n, b, c, p));
        lower_end(lo);
    }
    lower_end_n(lo, 2);
    return true;
}
