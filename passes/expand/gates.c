/* Gates and norms of com.microsoft's newer layers, out of ordinary operators:
 *
 *     SwiGLU(g, l)                    g * sigmoid(alpha g) * (l + beta), both clamped by limit
 *     ScaledSiLU(x)                   z * sigmoid(z), z = alpha x
 *     GatedAdd(x, y, gate)            x + y * gate
 *     GatedRMSNorm(x, scale, gate)    rms(groups of x as wide as scale) * scale * act(gate)
 *     BranchwiseRMSNorm(x, scale)     rms of every branch
 *     LinearAttentionGate(a, bias, s, b)   s * softplus(a + bias), sigmoid(b)
 *     EngramGate(k, q, v, …)          sigmoid(sign(d) sqrt(|d|)) v, d = rms(k) · rms(q) / sqrt(H)
 *     HyperConnectionPreMix, …PostMix      streams [.., C, H] into one, and a branch back into all
 *     MoEGroupRouter(logits, bias)    log of the sigmoids of the chosen experts of the chosen groups
 *
 * All compute in float, whatever the type of their operands. */
#include <math.h>
#include <string.h>

#include "passes/expand/build.h"
#include "passes/expand/chain.h"
#include "passes/rules.h"

static DType compute_type(const Value *v) { return v->type->dtype == DT_F64 ? DT_F64 : DT_F32; }

/* Input i in the type to compute in; NULL where it is left out. */
static Value *real(const Chain *c, uint32_t i) {
    Value *v = expand_input(c->n, i);
    return v != NULL ? chain_cast(c, v, compute_type(c->n->in[0])) : NULL;
}

/* v as output i, in input 0's type. */
static bool give(const Chain *c, Value **out, uint32_t i, Value *v) {
    out[i] = chain_cast(c, v, c->n->in[0]->type->dtype);
    return out[i] != NULL;
}

static Value *clamped(const Chain *c, Value *v, bool below, double limit) {
    if (v == NULL || !(limit > 0)) return v;
    Node *n = expand_node(c->m, c->n, OP_Clip, 3, (Value *[]){v, below ? chain_like(c, v, -limit) : NULL, chain_like(c, v, limit)}, 1);
    return chain_node(c, n);
}

static Value *silu(const Chain *c, Value *v, double alpha) { return chain_mul(c, v, chain_1(c, OP_Sigmoid, chain_times(c, v, alpha))); }

bool expand_ms_swiglu(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Value *gate = real(&c, 0), *linear = real(&c, 1);
    double limit = attr_f(n, AT_Ms_SwiGLU_limit);
    if (gate == NULL || gate->type->rank < 1) return expand_fail(m, n, "gate must have a last dim");
    if (linear == NULL) { /* gate holds both, one half behind the other */
        int64_t axis = (int64_t)gate->type->rank - 1;
        Dim width = gate->type->dim[axis];
        if (!dim_is_const(m->cx, width) || dim_value(m->cx, width) % 2 != 0) return expand_fail(m, n, "without up, the last dim of gate must be known and even");
        int64_t half = dim_value(m->cx, width) / 2;
        linear = chain_slice(&c, gate, half, 2 * half, axis);
        gate = chain_slice(&c, gate, 0, half, axis);
    }
    Value *open = silu(&c, clamped(&c, gate, false, limit), attr_f(n, AT_Ms_SwiGLU_activation_alpha));
    if (attr_i(n, AT_Ms_SwiGLU_round_activation) != 0) open = chain_cast(&c, chain_cast(&c, open, n->in[0]->type->dtype), compute_type(n->in[0]));
    return give(&c, out, 0, chain_mul(&c, open, chain_plus(&c, clamped(&c, linear, true, limit), attr_f(n, AT_Ms_SwiGLU_activation_beta))));
}

bool expand_scaled_silu(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Value *scale = real(&c, 1), *x = real(&c, 0);
    Value *z = scale != NULL ? chain_mul(&c, x, chain_reshape(&c, scale, 0, NULL)) : chain_times(&c, x, attr_f(n, AT_ScaledSiLU_alpha));
    return give(&c, out, 0, silu(&c, chain_cast(&c, chain_cast(&c, z, n->in[0]->type->dtype), compute_type(n->in[0])), 1));
}

/* With gate_weight, the gate is the sigmoid of a projection. */
bool expand_gated_add(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Value *gate = real(&c, 2), *weight = real(&c, 3);
    if (weight != NULL) gate = chain_1(&c, OP_Sigmoid, chain_2(&c, OP_MatMul, gate, weight));
    return give(&c, out, 0, chain_add(&c, real(&c, 0), chain_mul(&c, real(&c, 1), gate)));
}

bool expand_linear_attention_gate(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Value *soft = chain_1(&c, OP_Softplus, chain_add(&c, real(&c, 0), real(&c, 1)));
    if (!give(&c, out, 0, chain_mul(&c, soft, real(&c, 2)))) return false;
    if (n->n_out < 2 || n->out[1] == NULL) return true;
    if (expand_input(n, 3) == NULL) return expand_fail(m, n, "output beta needs input b");
    return give(&c, out, 1, chain_1(&c, OP_Sigmoid, real(&c, 3)));
}

/* ---- norms ------------------------------------------------------------------------------------------------------- */
/* x / sqrt(mean(x^2) + epsilon) over the last axis. */
static Value *rms(const Chain *c, Value *x, double epsilon) {
    if (x == NULL) return NULL;
    Value *mean = chain_reduce(c, OP_ReduceMean, chain_mul(c, x, x), (int64_t)x->type->rank - 1, true);
    return chain_div(c, x, chain_1(c, OP_Sqrt, chain_plus(c, mean, epsilon)));
}

/* v with its last axis in groups of `size`: [.., n, size]. */
static Value *grouped(const Chain *c, Value *v, int64_t size) {
    if (v == NULL) return NULL;
    Value *shape = chain_concat(c, chain_slice(c, chain_1(c, OP_Shape, v), 0, -1, 0), value_const_i64(c->m, 2, (int64_t[]){-1, size}), 0);
    return chain_2(c, OP_Reshape, v, shape);
}

static Value *shaped_like(const Chain *c, Value *v, Value *like) { return chain_2(c, OP_Reshape, v, chain_1(c, OP_Shape, like)); }

bool expand_gated_rms_norm(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Value *x = n->in[0], *scale = real(&c, 1), *gate = real(&c, 2);
    if (scale == NULL || scale->type->rank != 1 || x->type->rank < 1 || !dim_is_const(m->cx, scale->type->dim[0]) || dim_value(m->cx, scale->type->dim[0]) < 1)
        return expand_fail(m, n, "scale must be a vector of known length");
    const char *name = str_text(m->cx, attr_s(n, AT_GatedRMSNorm_activation));
    bool sigmoid = strcmp(name, "sigmoid") == 0;
    if (!sigmoid && strcmp(name, "silu") != 0 && strcmp(name, "swish") != 0) return expand_fail(m, n, "activation must be silu, swish or sigmoid");
    Value *norm = chain_mul(&c, rms(&c, grouped(&c, real(&c, 0), dim_value(m->cx, scale->type->dim[0])), attr_f(n, AT_GatedRMSNorm_epsilon)), scale);
    return give(&c, out, 0, chain_mul(&c, shaped_like(&c, norm, x), sigmoid ? chain_1(&c, OP_Sigmoid, gate) : silu(&c, gate, 1)));
}

/* Streams as [.., C, H]; NULL after a diagnostic. */
static Value *streams(const Chain *c, Value *v, int64_t branches) {
    if (v == NULL) return NULL;
    if (branches <= 0) return v;
    Dim width = v->type->rank > 0 ? v->type->dim[v->type->rank - 1] : dim_const(c->m->cx, 0);
    if (!dim_is_const(c->m->cx, width) || dim_value(c->m->cx, width) % branches != 0) return expand_fail(c->m, c->n, "the last dim must be known and a multiple of num_branches"), NULL;
    return grouped(c, v, dim_value(c->m->cx, width) / branches);
}

bool expand_branchwise_rms_norm(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Value *x = streams(&c, real(&c, 0), attr_i(n, AT_BranchwiseRMSNorm_num_branches)), *scale = real(&c, 1), *y = rms(&c, x, attr_f(n, AT_BranchwiseRMSNorm_epsilon));
    if (y == NULL || x->type->rank < 2) return expand_fail(m, n, "input must be [.., C, H], or [.., C*H] with num_branches");
    if (scale != NULL && scale->type->rank == 1 && scale->type->dim[0] != x->type->dim[x->type->rank - 1]) {
        Dim size = x->type->dim[x->type->rank - 1];
        if (!dim_is_const(m->cx, size)) return expand_fail(m, n, "the size of a branch must be known at compile time");
        scale = chain_reshape(&c, scale, 2, (int64_t[]){-1, dim_value(m->cx, size)});
    }
    if (expand_input(n, 1) != NULL) y = chain_mul(&c, y, scale);
    return give(&c, out, 0, shaped_like(&c, y, n->in[0]));
}

bool expand_engram_gate(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    double epsilon = attr_f(n, AT_EngramGate_epsilon);
    Value *key = real(&c, 0);
    if (key == NULL || key->type->rank != 4 || !dim_is_const(m->cx, key->type->dim[3]) || dim_value(m->cx, key->type->dim[3]) < 1) return expand_fail(m, n, "key must be [B,S,C,H], H known at compile time");
    Value *keys = chain_mul(&c, rms(&c, key, epsilon), real(&c, 3)), *queries = chain_mul(&c, rms(&c, real(&c, 1), epsilon), real(&c, 4));
    Value *dot = chain_times(&c, chain_reduce(&c, OP_ReduceSum, chain_mul(&c, keys, queries), 3, true), 1 / sqrt((double)dim_value(m->cx, key->type->dim[3])));
    Value *root = chain_1(&c, OP_Sqrt, chain_2(&c, OP_Max, chain_1(&c, OP_Abs, dot), chain_like(&c, dot, 1e-6)));
    Value *y = chain_mul(&c, chain_1(&c, OP_Sigmoid, chain_mul(&c, chain_1(&c, OP_Sign, dot), root)), chain_unsqueeze(&c, real(&c, 2), 2));
    if (!give(&c, out, 0, y)) return false;
    if (n->n_out < 2 || n->out[1] == NULL) return true;
    return give(&c, out, 1, chain_mul(&c, rms(&c, y, epsilon), real(&c, 5)));
}

/* ---- hyper-connections ------------------------------------------------------------------------------------------- */
/* Gates per branch [.., C], [.., C, 1] or [.., C, H] for streams of rank `rank`; flattened [.., C*H] in pre-mixes only. */
static Value *gates(const Chain *c, Value *v, const Value *like, int64_t branches) {
    if (v == NULL || like == NULL) return NULL;
    if (v->type->rank == like->type->rank) return v;
    Dim last = v->type->dim[v->type->rank - 1];
    bool flat = branches > 0 && last != like->type->dim[like->type->rank - 2];
    return flat ? streams(c, v, branches) : chain_unsqueeze(c, v, -1);
}

bool expand_hyper_pre_mix(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    int64_t branches = attr_i(n, AT_HyperConnectionPreMix_num_branches);
    Value *x = streams(&c, real(&c, 0), branches);
    if (x == NULL || x->type->rank < 2) return expand_fail(m, n, "streams must be [.., C, H], or [.., C*H] with num_branches");
    Value *sum = chain_reduce(&c, OP_ReduceSum, chain_mul(&c, x, gates(&c, real(&c, 1), x, branches)), (int64_t)x->type->rank - 2, false);
    return give(&c, out, 0, chain_times(&c, sum, attr_f(n, AT_HyperConnectionPreMix_reduction_scale)));
}

bool expand_hyper_post_mix(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Value *x = streams(&c, real(&c, 0), attr_i(n, AT_HyperConnectionPostMix_num_branches)), *mix = real(&c, 3);
    if (x == NULL || x->type->rank < 2) return expand_fail(m, n, "streams must be [.., C, H], or [.., C*H] with num_branches");
    Value *branch = chain_mul(&c, gates(&c, real(&c, 2), x, 0), chain_unsqueeze(&c, real(&c, 1), -2));
    if (mix != NULL) {
        int64_t perm[RANK_MAX], rank = mix->type->rank;
        for (int64_t i = 0; i < rank; i++) perm[i] = i + 2 < rank ? i : i + 2 == rank ? rank - 1 : rank - 2;
        x = chain_2(&c, OP_MatMul, chain_transpose(&c, mix, (uint32_t)rank, perm), x);
    }
    return give(&c, out, 0, shaped_like(&c, chain_add(&c, x, branch), n->in[0]));
}

/* ---- MoEGroupRouter ---------------------------------------------------------------------------------------------- */
/* bool [T,N]: is the element among the first k of its row? */
static Value *among_first(const Chain *c, Value *v, int64_t k) {
    if (v == NULL) return NULL;
    Node *top = expand_node(c->m, c->n, OP_TopK, 2, (Value *[]){v, value_const_i64(c->m, 1, &k)}, 2);
    if (chain_node(c, top) == NULL) return NULL;
    Value *none = chain_expand_like(c, chain_like(c, v, 0), v), *ones = chain_expand_like(c, chain_like(c, v, 1), top->out[1]);
    if (none == NULL || ones == NULL) return NULL;
    Node *mark = expand_node(c->m, c->n, OP_ScatterElements, 3, (Value *[]){none, top->out[1], ones}, 1);
    attr_set_i(mark, AT_ScatterElements_axis, 1);
    return chain_cast(c, chain_node(c, mark), DT_BOOL);
}

/* scores [T,E] with those of groups that are not among the first topk_group at -inf. */
static Value *in_best_groups(const Chain *c, Value *scores, int64_t experts) {
    int64_t groups = attr_i(c->n, AT_MoEGroupRouter_n_group), best = attr_i(c->n, AT_MoEGroupRouter_topk_group), each = attr_i(c->n, AT_MoEGroupRouter_group_topk);
    if (groups < 1 || best < 1 || best > groups || experts % groups != 0 || each < 1) return expand_fail(c->m, c->n, "n_group must divide the experts, topk_group be at most n_group, group_topk positive"), NULL;
    int64_t size = experts / groups, k = each < size ? each : size;
    Value *by_group = chain_reshape(c, scores, 3, (int64_t[]){-1, groups, size});
    if (by_group == NULL) return NULL;
    Value *top = chain_node(c, expand_node(c->m, c->n, OP_TopK, 2, (Value *[]){by_group, value_const_i64(c->m, 1, &k)}, 2));
    Value *chosen = among_first(c, chain_reduce(c, OP_ReduceSum, top, 2, false), best);
    Value *kept = chain_3(c, OP_Where, chain_unsqueeze(c, chosen, 2), by_group, chain_like(c, by_group, -(double)INFINITY));
    return chain_reshape(c, kept, 2, (int64_t[]){-1, experts});
}

bool expand_moe_group_router(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Value *logits = real(&c, 0), *weight = real(&c, 2), *bias = real(&c, 1);
    if (weight != NULL) logits = chain_2(&c, OP_MatMul, logits, chain_transpose(&c, weight, 2, (int64_t[]){1, 0}));
    if (logits == NULL || bias == NULL || logits->type->rank < 1 || !dim_is_const(m->cx, logits->type->dim[logits->type->rank - 1])) return expand_fail(m, n, "the number of experts must be known at compile time");
    int64_t experts = dim_value(m->cx, logits->type->dim[logits->type->rank - 1]), k = attr_i(n, AT_MoEGroupRouter_top_k);
    if (k < 1 || k > experts) return expand_fail(m, n, "top_k must be from 1 to the number of experts");
    Value *s = chain_1(&c, OP_Sigmoid, chain_reshape(&c, logits, 2, (int64_t[]){-1, experts})), *biased = chain_add(&c, s, bias);
    if (biased == NULL) return false;
    if (n->out[0] != NULL) {
        Value *ranked = attr_i(n, AT_MoEGroupRouter_n_group) == 1 ? biased : in_best_groups(&c, biased, experts);
        Value *logs = chain_1(&c, OP_Log, chain_2(&c, OP_Max, s, chain_like(&c, s, 1e-20)));
        if (!give(&c, out, 0, chain_3(&c, OP_Where, among_first(&c, ranked, k), logs, chain_like(&c, s, attr_f(n, AT_MoEGroupRouter_router_sentinel))))) return false;
    }
    expand_give(m, n, out, 1, biased);
    expand_give(m, n, out, 2, s);
    return true;
}
