/* Transformer operators of com.microsoft out of ordinary ones.
 *
 *     %y, , , %s = SkipLayerNormalization(%x, %skip, %g, %b)   ->   %s = Add(%x, %skip)
 *                                                                   %y = LayerNormalization(%s, %g, %b) */
#include <math.h>

#include "passes/expand/attention.h"
#include "passes/expand/build.h"
#include "passes/rules.h"

/* ---- normalisations ---------------------------------------------------------------------------------------------- */
static bool no_output(Module *m, const Node *n, uint32_t i, const char *what) {
    if (i >= n->n_out || n->out[i] == NULL) return true;
    diag(m->cx, SEV_ERROR, n->loc, "output %u (%s) is not supported", i, what);
    return false;
}

static Node *layer_norm(Module *m, Node *at, Value *x, Value *gamma, Value *beta, double epsilon, uint32_t n_out) {
    Node *n = expand_node(m, at, OP_LayerNormalization, beta != NULL ? 3 : 2, (Value *[]){x, gamma, beta}, n_out);
    attr_set_f(n, AT_LayerNormalization_epsilon, epsilon);
    return n;
}

static Value *rms_norm(Module *m, Node *at, Value *x, Value *gamma, double epsilon, int64_t axis) {
    Node *n = expand_node(m, at, OP_RMSNormalization, 2, (Value *[]){x, gamma}, 1);
    attr_set_f(n, AT_RMSNormalization_epsilon, epsilon);
    attr_set_i(n, AT_RMSNormalization_axis, axis);
    return expand_result(m, n);
}

bool expand_skip_norm(Module *m, Node *n, Value **out) {
    bool simple = n->op == OP_SkipSimplifiedLayerNormalization;
    Value *sum = build2(m, n, OP_Add, n->in[0], n->in[1]), *bias = expand_input(n, simple ? 3 : 4);
    if (bias != NULL) sum = build2(m, n, OP_Add, sum, bias);
    double epsilon = attr_f(n, attr_named(n, "epsilon"));
    if (n->n_out > 3 && n->out[3] != NULL) out[3] = sum;
    if (simple) {
        if (!no_output(m, n, 1, "mean") || !no_output(m, n, 2, "inverse deviation")) return false;
        out[0] = rms_norm(m, n, sum, n->in[2], epsilon, -1);
        return out[0] != NULL;
    }
    Node *norm = layer_norm(m, n, sum, n->in[2], expand_input(n, 3), epsilon, n->n_out < 3 ? n->n_out : 3);
    for (uint32_t i = 0; i < norm->n_out; i++) out[i] = n->out[i] != NULL ? norm->out[i] : NULL;
    return node_infer(m, norm);
}

bool expand_simplified_norm(Module *m, Node *n, Value **out) {
    if (!no_output(m, n, 1, "inverse deviation")) return false;
    out[0] = rms_norm(m, n, n->in[0], n->in[1], attr_f(n, attr_named(n, "epsilon")), attr_i(n, attr_named(n, "axis")));
    return out[0] != NULL;
}

bool expand_embed_norm(Module *m, Node *n, Value **out) {
    Value *ids = n->in[0], *segment = expand_input(n, 1), *mask = expand_input(n, 7), *position = expand_input(n, 8);
    Value *sum = expand_gather(m, n, n->in[2], ids, 0), *places;
    if (position != NULL) {
        places = expand_gather(m, n, n->in[3], position, 0);
    } else {
        Value *start = value_const_i64(m, 1, (int64_t[]){0}), *axis = value_const_i64(m, 1, (int64_t[]){0});
        Value *length = expand_gather(m, n, build1(m, n, OP_Shape, ids), value_const_i64(m, 1, (int64_t[]){1}), 0);
        places = expand_result(m, expand_node(m, n, OP_Slice, 4, (Value *[]){n->in[3], start, length, axis}, 1));
    }
    if (sum == NULL || places == NULL) return false;
    sum = build2(m, n, OP_Add, sum, places);
    if (segment != NULL && n->in[4] != NULL) sum = build2(m, n, OP_Add, sum, expand_gather(m, n, n->in[4], segment, 0));
    Node *norm = layer_norm(m, n, sum, n->in[5], n->in[6], attr_f(n, AT_EmbedLayerNormalization_epsilon), 1);
    out[0] = expand_result(m, norm);
    if (n->n_out > 1 && n->out[1] != NULL) {
        Value *counted = mask != NULL ? mask : build2(m, n, OP_Mul, ids, value_const_scalar(m, ids->type->dtype, 0));
        out[1] = expand_cast(m, n, expand_reduce_axis(m, n, OP_ReduceSum, counted, 1, false), DT_I32);
    }
    if (n->n_out > 2 && n->out[2] != NULL) out[2] = sum;
    return out[0] != NULL;
}

/* ---- attention --------------------------------------------------------------------------------------------------- */
/* Half i of past [2,B,H,P,D]. */
static Value *past_half(Module *m, Node *at, Value *past, int64_t i) {
    return build2(m, at, OP_Squeeze, expand_slice(m, at, past, i, i + 1, 0), value_const_i64(m, 1, (int64_t[]){0}));
}

typedef struct Projected { /* what Attention and QAttention do with the product of input and weights, biased: [B,S,Q+K+V] */
    Value *qkv, *mask, *past, *bias;
    int64_t heads, width[3];
    bool causal;
    AttrSlot scale;
} Projected;

static bool attend(Module *m, Node *n, const Projected *in, Value **out) {
    Value *part[3];
    int64_t from = 0;
    for (int i = 0; i < 3; from += in->width[i++]) part[i] = attention_split_heads(m, n, expand_slice(m, n, in->qkv, from, from + in->width[i], 2), in->heads);
    AttentionParts p = {.q = part[0], .k = part[1], .v = part[2], .causal = in->causal, .left = -1, .right = -1};
    if (p.q == NULL || p.k == NULL || p.v == NULL) return false;
    if (in->past != NULL) {
        p.past = past_half(m, n, in->past, 0);
        p.k = attention_concat(m, n, p.past, p.k, 2);
        p.v = attention_concat(m, n, past_half(m, n, in->past, 1), p.v, 2);
    }
    p.scale = attention_scale(m, n, in->scale, p.q);
    if (p.scale == 0 || !attention_padding_mask(m, n, in->mask, in->bias, &p)) return false;
    Value *y = attention_build(m, n, &p, NULL);
    if (y == NULL) return false;
    out[0] = attention_join_heads(m, n, y);
    if (n->n_out > 1 && n->out[1] != NULL) {
        Value *zero = value_const_i64(m, 1, (int64_t[]){0});
        out[1] = expand_concat(m, n, 2, (Value *[]){build2(m, n, OP_Unsqueeze, p.k, zero), build2(m, n, OP_Unsqueeze, p.v, zero)}, 0);
    }
    return out[0] != NULL;
}

/* Are weights [I, Q+K+V] of known size? Sets the three widths to thirds. */
static bool weights_known(Module *m, const Node *n, Projected *p) {
    const Type *w = n->in[1]->type;
    if (w->rank == 2 && dim_is_const(m->cx, w->dim[1]) && dim_value(m->cx, w->dim[1]) % 3 == 0) {
        for (int i = 0; i < 3; i++) p->width[i] = dim_value(m->cx, w->dim[1]) / 3;
        return true;
    }
    diag(m->cx, SEV_ERROR, n->loc, "weights must be [I, Q+K+V] with sizes known at compile time");
    return false;
}

bool expand_ms_attention(Module *m, Node *n, Value **out) {
    const Attr *sizes = attr_at(n, AT_Ms_Attention_qkv_hidden_sizes);
    Projected p = {.mask = expand_input(n, 3), .past = expand_input(n, 4), .bias = expand_input(n, 5), .scale = AT_Ms_Attention_scale};
    p.heads = attr_i(n, AT_Ms_Attention_num_heads);
    p.causal = attr_i(n, AT_Ms_Attention_unidirectional) != 0;
    if (attr_has(n, AT_Ms_Attention_do_rotary) && attr_i(n, AT_Ms_Attention_do_rotary) != 0) {
        diag(m->cx, SEV_ERROR, n->loc, "do_rotary is not supported");
        return false;
    }
    bool given = sizes->present && sizes->ints.n == 3;
    if (attr_i(n, AT_Ms_Attention_past_present_share_buffer) != 0) {
        if (given && (sizes->ints.v[0] != sizes->ints.v[1] || sizes->ints.v[0] != sizes->ints.v[2])) return expand_fail(m, n, "buffer sharing needs queries, keys and values of one size");
        return expand_self_attention_in_place(m, n, NULL, p.causal, out);
    }
    if (!given && !weights_known(m, n, &p)) return false;
    for (int i = 0; given && i < 3; i++) p.width[i] = sizes->ints.v[i];
    p.qkv = build2(m, n, OP_MatMul, n->in[0], n->in[1]);
    if (expand_input(n, 2) != NULL) p.qkv = build2(m, n, OP_Add, p.qkv, n->in[2]);
    return attend(m, n, &p, out);
}

/* input, weights, bias, their scales, mask, their zero points, past: the projection is a product of integers. */
bool expand_qattention(Module *m, Node *n, Value **out) {
    Projected p = {.mask = expand_input(n, 5), .past = expand_input(n, 8), .scale = AT_QAttention_scale};
    p.heads = attr_i(n, AT_QAttention_num_heads);
    p.causal = attr_i(n, AT_QAttention_unidirectional) != 0;
    if (attr_has(n, AT_QAttention_do_rotary) && attr_i(n, AT_QAttention_do_rotary) != 0) {
        diag(m->cx, SEV_ERROR, n->loc, "do_rotary is not supported");
        return false;
    }
    if (n->in[0]->type->rank != 3 || p.heads < 1) {
        diag(m->cx, SEV_ERROR, n->loc, "input must be [B,S,I] and num_heads positive");
        return false;
    }
    if (!weights_known(m, n, &p)) return false;
    Value *scale = build2(m, n, OP_Mul, n->in[3], n->in[4]);
    p.qkv = expand_scaled_product(m, n, n->in[0], n->in[1], scale, expand_input(n, 6), expand_input(n, 7), n->in[2]);
    return p.qkv != NULL && attend(m, n, &p, out);
}
