/* Attention, FlexAttention: see attention.h.
 *
 *     %y = Attention(%q, %k, %v) {is_causal = 1}   ->   %s = MatMul(Mul(%q, scale), Transpose(%k))
 *                                                       %p = Softmax(AttentionBias(%s) {causal = 1})
 *                                                       %y = MatMul(%p, %v)
 *
 * AttentionBias is pointwise: masks are computed from indices and never stored. Rows that attend to nothing are 0
 * (MaskedSoftmax). Grouped queries repeat the key and value heads by a Gather. */
#include "passes/expand/attention.h"

#include <math.h>

#include "passes/rules.h"

static Node *add(Module *m, Node *at, Op op, uint32_t n_in, Value *const *in) {
    Node *n = node_new(m, at->graph, at, op, n_in, in, 1);
    n->loc = at->loc;
    return n;
}

static Value *done(Module *m, Node *n) { return node_infer(m, n) ? n->out[0] : NULL; }

static Value *transpose(Module *m, Node *at, Value *v, uint32_t rank, const int64_t *perm) {
    Node *n = add(m, at, OP_Transpose, 1, &v);
    attr_set_ints(m->cx, n, AT_Transpose_perm, perm, rank);
    return done(m, n);
}

static Value *cast(Module *m, Node *at, Value *v, DType t) {
    if (v == NULL || v->type == NULL) return NULL; /* reported where it was made */
    if (v->type->dtype == t) return v;
    Node *n = add(m, at, OP_Cast, 1, &v);
    attr_set_i(n, AT_Cast_to, dtype_to_onnx(t));
    return done(m, n);
}

static Value *times(Module *m, Node *at, Value *v, double factor) {
    if (factor == 1) return v;
    return build2(m, at, OP_Mul, v, value_const_scalar(m, v->type->dtype, factor));
}

Value *attention_concat(Module *m, Node *at, Value *a, Value *b, int64_t axis) {
    Node *n = add(m, at, OP_Concat, 2, (Value *[]){a, b});
    attr_set_i(n, AT_Concat_axis, axis);
    return done(m, n);
}

/* Elements from (the first is 0) to `to` along an axis. */
static Value *attention_slice(Module *m, Node *at, Value *v, int64_t from, int64_t to, int64_t axis) {
    if (v == NULL) return NULL;
    Value *in[4] = {v, value_const_i64(m, 1, &from), value_const_i64(m, 1, &to), value_const_i64(m, 1, &axis)};
    return done(m, add(m, at, OP_Slice, 4, in));
}

Value *attention_split_heads(Module *m, Node *at, Value *v, int64_t heads) {
    Value *split = build2(m, at, OP_Reshape, v, value_const_i64(m, 4, (int64_t[]){0, 0, heads, -1}));
    return transpose(m, at, split, 4, (int64_t[]){0, 2, 1, 3});
}

Value *attention_join_heads(Module *m, Node *at, Value *v) {
    Value *moved = transpose(m, at, v, 4, (int64_t[]){0, 2, 1, 3});
    return build2(m, at, OP_Reshape, moved, value_const_i64(m, 3, (int64_t[]){0, 0, -1}));
}

static Value *repeat_heads(Module *m, Node *at, Value *v, int64_t heads) {
    int64_t have = dim_value(m->cx, v->type->dim[1]);
    if (have == heads) return v;
    if (have < 1 || heads % have != 0) {
        diag(m->cx, SEV_ERROR, at->loc, "%lld heads of queries, %lld of keys: a multiple is needed", (long long)heads, (long long)have);
        return NULL;
    }
    int64_t *index = ARENA_ARRAY(&m->cx->arena, int64_t, (size_t)heads);
    for (int64_t h = 0; h < heads; h++) index[h] = h / (heads / have);
    Node *n = add(m, at, OP_Gather, 2, (Value *[]){v, value_const_i64(m, (uint32_t)heads, index)});
    attr_set_i(n, AT_Gather_axis, 1);
    return done(m, n);
}

static Value *cap(Module *m, Node *at, Value *s, double softcap) {
    if (!(softcap > 0) || s == NULL || s->type == NULL) return s;
    Value *c = value_const_scalar(m, s->type->dtype, softcap);
    return build2(m, at, OP_Mul, build1(m, at, OP_Tanh, build2(m, at, OP_Div, s, c)), c);
}

static Value *bias(Module *m, Node *at, const AttentionParts *p, Value *s) {
    if (p->mask == NULL && p->valid == NULL && !p->causal && p->left < 0 && p->right < 0) return s;
    Node *n = add(m, at, OP_AttentionBias, 4, (Value *[]){s, p->mask, p->valid, p->past});
    attr_set_i(n, AT_AttentionBias_causal, p->causal);
    attr_set_i(n, AT_AttentionBias_left, p->left);
    attr_set_i(n, AT_AttentionBias_right, p->right);
    return done(m, n);
}

/* The nodes of a region with one input and one output, in place before `at`. */
static Value *inline_region(Module *m, Node *at, const Graph *region, Value *in) {
    if (region == NULL) return in;
    if (region->n_in != 1 || region->n_out != 1) {
        diag(m->cx, SEV_ERROR, at->loc, "the modifier has %u inputs and %u outputs, one of each is needed", region->n_in, region->n_out);
        return NULL;
    }
    Graph *copy = graph_clone(m, region, at->graph, &in);
    FOR_NODES(n, copy) {
        node_move_before(n, at);
        if (!node_infer(m, n)) return NULL;
    }
    return copy->out[0];
}

/* A softmax over the scores and one more column, which is dropped again. */
static Value *with_sink(Module *m, Node *at, Value *sink, Value *s) {
    Value *first = attention_slice(m, at, build1(m, at, OP_Shape, s), 0, 3, 0), *one = value_const_i64(m, 1, (int64_t[]){1});
    Value *column = build2(m, at, OP_Reshape, cast(m, at, sink, s->type->dtype), value_const_i64(m, 4, (int64_t[]){1, -1, 1, 1}));
    if (first == NULL || column == NULL) return NULL;
    column = build2(m, at, OP_Expand, column, attention_concat(m, at, first, one, 0));
    if (column == NULL) return NULL;
    Node *n = add(m, at, OP_Softmax, 1, (Value *[]){attention_concat(m, at, s, column, 3)});
    attr_set_i(n, AT_Softmax_axis, -1);
    return attention_slice(m, at, done(m, n), 0, -1, 3);
}

static Value *probabilities(Module *m, Node *at, const AttentionParts *p, Value *s) {
    if (p->sink != NULL) return with_sink(m, at, p->sink, s);
    bool whole_rows = p->mask == NULL && p->valid == NULL && p->left < 0 && p->right < 0; /* some key is always allowed */
    Node *n = add(m, at, whole_rows ? OP_Softmax : OP_MaskedSoftmax, 1, &s);
    attr_set_i(n, attr_named(n, "axis"), -1);
    return done(m, n);
}

Value *attention_build(Module *m, Node *at, const AttentionParts *p, Value **scores) {
    DType t = p->q->type->dtype, inner = p->softmax_type != DT_NONE ? p->softmax_type : t;
    int64_t heads = dim_value(m->cx, p->q->type->dim[1]);
    Value *k = repeat_heads(m, at, p->k, heads), *v = repeat_heads(m, at, p->v, heads), *stage[4];
    Value *kt = transpose(m, at, k, 4, (int64_t[]){0, 1, 3, 2});
    if (kt == NULL || v == NULL) return NULL;
    bool small = dtype_bits(t) < 32; /* the root on both sides keeps products in the range of half precision, and rounds as ONNX says */
    Value *q = times(m, at, p->q, small ? sqrt(p->scale) : p->scale);
    Value *s = stage[0] = build2(m, at, OP_MatMul, q, small ? times(m, at, kt, sqrt(p->scale)) : kt);
    s = stage[1] = cap(m, at, s, p->softcap);
    if (p->score_mod != NULL) s = inline_region(m, at, p->score_mod, cast(m, at, s, inner));
    if (s == NULL) return NULL;
    s = stage[2] = bias(m, at, p, s);
    if (s == NULL) return NULL;
    s = cast(m, at, s, inner);
    if (s == NULL) return NULL;
    s = probabilities(m, at, p, s);
    s = inline_region(m, at, p->prob_mod, s);
    s = stage[3] = cast(m, at, s, t);
    if (s == NULL) return NULL;
    if (scores != NULL) *scores = stage[p->scores_mode];
    return build2(m, at, OP_MatMul, s, v);
}

bool attention_padding_mask(Module *m, Node *n, Value *mask, Value *bias, AttentionParts *p) {
    p->mask = bias;
    if (mask == NULL) return true;
    uint32_t rank = mask->type->rank;
    if (rank == 1 && mask->type->dim[0] == p->q->type->dim[0]) {
        p->valid = mask;
        return true;
    }
    if (rank != 2 && rank != 3) {
        diag(m->cx, SEV_ERROR, n->loc, "a mask of rank %u is not supported; [B], [B,T] and [B,S,T] are", rank);
        return false;
    }
    Value *allowed = cast(m, n, mask, DT_BOOL);
    allowed = rank == 2 ? build2(m, n, OP_Unsqueeze, allowed, value_const_i64(m, 2, (int64_t[]){1, 2}))
                        : build2(m, n, OP_Unsqueeze, allowed, value_const_i64(m, 1, (int64_t[]){1}));
    p->mask = bias == NULL ? allowed : build3(m, n, OP_Where, allowed, bias, value_const_scalar(m, bias->type->dtype, -(double)INFINITY));
    return p->mask != NULL;
}

double attention_scale(Module *m, const Node *n, AttrSlot slot, const Value *q) {
    if (attr_has(n, slot) && attr_f(n, slot) != 0) return attr_f(n, slot);
    Dim size = q->type->dim[3];
    if (dim_is_const(m->cx, size) && dim_value(m->cx, size) > 0) return 1 / sqrt((double)dim_value(m->cx, size));
    diag(m->cx, SEV_ERROR, n->loc, "the head size must be known at compile time when scale is not given");
    return 0;
}

static Value *operand(const Node *n, uint32_t i) { return i < n->n_in ? n->in[i] : NULL; }

static double default_scale(Module *m, const Node *n, AttrSlot scale, const Value *q) {
    if (attr_has(n, scale) && attr_f(n, scale) != 0) return attr_f(n, scale);
    Dim size = q->type->dim[q->type->rank - 1];
    return 1 / sqrt((double)(dim_is_const(m->cx, size) ? dim_value(m->cx, size) : 1));
}

static bool head_size_known(Module *m, const Node *n, const Value *q, AttrSlot scale) {
    if (attr_has(n, scale) || dim_is_const(m->cx, q->type->dim[3])) return true;
    diag(m->cx, SEV_ERROR, n->loc, "the head size must be known at compile time when scale is not given");
    return false;
}

static DType precision(const Node *n, AttrSlot slot) {
    return attr_has(n, slot) && attr_i(n, slot) != 0 ? dtype_from_onnx((int32_t)attr_i(n, slot)) : DT_NONE;
}

bool expand_attention(Module *m, Node *n, Value **out) {
    AttentionParts p = {.q = n->in[0], .k = n->in[1], .v = n->in[2], .mask = operand(n, 3), .valid = operand(n, 6), .past = operand(n, 4)};
    bool packed = p.q->type->rank == 3;
    if (packed) {
        p.q = attention_split_heads(m, n, p.q, attr_i(n, AT_Attention_q_num_heads));
        p.k = attention_split_heads(m, n, p.k, attr_i(n, AT_Attention_kv_num_heads));
        p.v = attention_split_heads(m, n, p.v, attr_i(n, AT_Attention_kv_num_heads));
    }
    if (p.q == NULL || p.k == NULL || p.v == NULL || !head_size_known(m, n, p.q, AT_Attention_scale)) return false;
    if (p.past != NULL) {
        p.k = attention_concat(m, n, p.past, p.k, 2);
        p.v = attention_concat(m, n, operand(n, 5), p.v, 2);
        if (p.k == NULL || p.v == NULL) return false;
    }
    p.scale = default_scale(m, n, AT_Attention_scale, p.q);
    p.softcap = attr_f(n, AT_Attention_softcap);
    p.causal = attr_i(n, AT_Attention_is_causal) != 0;
    p.left = attr_i(n, AT_Attention_left_window_size);
    p.right = attr_i(n, AT_Attention_right_window_size);
    p.softmax_type = precision(n, AT_Attention_softmax_precision);
    p.scores_mode = attr_i(n, AT_Attention_qk_matmul_output_mode);
    if (p.scores_mode < 0 || p.scores_mode > 3) {
        diag(m->cx, SEV_ERROR, n->loc, "qk_matmul_output_mode is %lld, 0 to 3 are possible", (long long)p.scores_mode);
        return false;
    }
    Value *scores, *y = attention_build(m, n, &p, &scores);
    if (y == NULL) return false;
    Value *all[4] = {packed ? attention_join_heads(m, n, y) : y, p.k, p.v, scores};
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (n->out[i] == NULL) continue;
        /* an output must be a value of its own: an input, or one that two outputs share, is passed through Identity */
        bool own = all[i] != NULL && all[i]->def != NULL && all[i] != n->in[1] && all[i] != n->in[2];
        out[i] = own ? all[i] : build1(m, n, OP_Identity, all[i]);
    }
    return true;
}

bool expand_flex_attention(Module *m, Node *n, Value **out) {
    AttentionParts p = {.q = n->in[0], .k = n->in[1], .v = n->in[2], .left = -1, .right = -1};
    if (!head_size_known(m, n, p.q, AT_FlexAttention_scale)) return false;
    p.scale = default_scale(m, n, AT_FlexAttention_scale, p.q);
    p.softmax_type = precision(n, AT_FlexAttention_softmax_precision);
    if (p.softmax_type == DT_NONE) p.softmax_type = p.q->type->dtype == DT_F64 ? DT_F64 : DT_F32;
    if (attr_has(n, AT_FlexAttention_score_mod)) p.score_mod = attr_at(n, AT_FlexAttention_score_mod)->graph;
    if (attr_has(n, AT_FlexAttention_prob_mod)) p.prob_mod = attr_at(n, AT_FlexAttention_prob_mod)->graph;
    out[0] = attention_build(m, n, &p, NULL);
    return out[0] != NULL;
}
