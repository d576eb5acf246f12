/* MoE and QMoE (com.microsoft): every token goes through the k experts its router prefers.
 *
 *     MoE(x [T,I], router [T,E], w1 [E,F,I], b1, w2 [E,I,F], b2)   ->   h = act(x w1[e]' + b1[e])       [E,T,F]
 *                                                                      y = h w2[e]' + b2[e]            [E,T,I]
 *                                                                      sum over e of weight[e,T] * y   [T,I]
 *
 * Experts whose weights are constants are computed one by one, and only if some token of the call chose them:
 *
 *     for every e   If(any weight[e,T]) { expert e of x times weight[e] } else { 0 }       the sum of all is the result
 *
 * Their weights are parts of the constants, which are not copied; quantized ones stay packed where MatMulNBits reads their form. Other experts are
 * all computed for all tokens, as two batched products; the weights of experts that were not chosen are 0. The weights are the softmax of the router
 * over all experts, or over the chosen ones when they are normalized. */
#include <string.h>

#include "passes/expand/build.h"
#include "passes/rules.h"

typedef struct Experts {
    Module *m;
    Node *n;      /* the operator */
    Node *at;     /* nodes go before it: n, or the end of a region */
    int64_t only; /* the one expert that is computed; -1: all of them, batched */
    int64_t count, k, fusion;
    bool quantized, normalize;
    Str activation;
    double alpha, beta, limit; /* of SwiGLU; limit 0: none */
} Experts;

static Value *number(const Experts *x, const Value *like, double v) { return value_const_scalar(x->m, like->type->dtype, v); }

static Value *unsqueeze(const Experts *x, Value *v, int64_t axis) { return v != NULL ? build2(x->m, x->at, OP_Unsqueeze, v, value_const_i64(x->m, 1, &axis)) : NULL; }

static Value *two(const Experts *x, Op op, Value *a, Value *b) { return a != NULL && b != NULL ? build2(x->m, x->at, op, a, b) : NULL; }

/* Input i: all of it, or the part [1, ..] of the expert that is computed. */
static Value *part(const Experts *x, int i) {
    Value *v = expand_input(x->n, (uint32_t)i);
    if (v == NULL || x->only < 0) return v;
    Dim dim[RANK_MAX];
    size_t bytes = v->data->bytes / (size_t)dim_value(x->m->cx, v->type->dim[0]);
    for (uint32_t a = 0; a < v->type->rank; a++) dim[a] = a == 0 ? dim_const(x->m->cx, 1) : v->type->dim[a];
    return value_const(x->m, type_tensor(x->m->cx, v->type->dtype, v->type->rank, dim), (const char *)v->data->data + (size_t)x->only * bytes, true);
}

/* ---- routing ----------------------------------------------------------------------------------------------------- */
/* router [T,E] as weights [E,T,1], 0 for experts that are not among a token's first k. */
static Value *routed(const Experts *x, Value *router, Value *mixing) {
    Module *m = x->m;
    Node *n = x->n, *top = expand_node(m, n, OP_TopK, 2, (Value *[]){router, value_const_i64(m, 1, &x->k)}, 2);
    if (!node_infer(m, top)) return NULL;
    Value *share = top->out[0];
    if (mixing != NULL || !x->normalize) {
        Value *all = mixing != NULL ? mixing : expand_softmax(m, n, router, 1);
        Node *pick = all != NULL ? expand_node(m, n, OP_GatherElements, 2, (Value *[]){all, top->out[1]}, 1) : NULL;
        if (pick == NULL) return NULL;
        attr_set_i(pick, AT_GatherElements_axis, 1);
        share = expand_result(m, pick);
        if (share != NULL && mixing != NULL && x->normalize) share = two(x, OP_Div, share, expand_reduce_axis(m, n, OP_ReduceSum, share, 1, true));
    } else {
        share = expand_softmax(m, n, share, 1);
    }
    Value *none = two(x, OP_Expand, number(x, router, 0), build1(m, n, OP_Shape, router));
    if (share == NULL || none == NULL) return NULL;
    Node *spread = expand_node(m, n, OP_ScatterElements, 3, (Value *[]){none, top->out[1], share}, 1);
    attr_set_i(spread, AT_ScatterElements_axis, 1);
    Value *w = expand_result(m, spread);
    return w != NULL ? unsqueeze(x, expand_transpose(m, n, w, 2, (int64_t[]){1, 0}), 2) : NULL;
}

/* ---- weights ----------------------------------------------------------------------------------------------------- */
typedef struct Projection { /* numbers of inputs; -1: there is none */
    int weight, scale, zero, bias;
    AttrSlot bits;
} Projection;

/* Zero points of N * blocks numbers in each of E rows, or in each of E * N, as [E*N, blocks] of w's type. */
static Value *zeros_of(const Experts *x, Value *zero, Value *w, int64_t rows, int64_t blocks, int64_t bits) {
    Module *m = x->m;
    DType t = w->type->dtype;
    if (zero == NULL) return two(x, OP_Expand, value_const_scalar(m, t, (double)(1 << (bits - 1))), value_const_i64(m, 2, (int64_t[]){rows, blocks}));
    int64_t runs = zero->type->rank == 2 ? x->count : rows, each = rows * blocks / runs, bytes = (each * bits + 7) / 8;
    Value *z = expand_unpacked(m, x->at, zero, runs, bytes, bits);
    if (z != NULL && bytes * 8 / bits != each) z = expand_slice(m, x->at, expand_cast(m, x->at, z, DT_U8), 0, each, 1);
    z = z != NULL ? expand_reshape(m, x->at, z, 2, (int64_t[]){rows, blocks}) : NULL;
    return z != NULL ? expand_cast(m, x->at, z, t) : NULL;
}

static int64_t bits_of(const Experts *x, const Projection *p) {
    return attr_has(x->n, p->bits) && attr_i(x->n, p->bits) != 0 ? attr_i(x->n, p->bits) : attr_i(x->n, AT_QMoE_expert_weight_bits);
}

/* Weights [E,N,K] of a quantized projection as reals. */
static Value *dequantized(const Experts *x, const Projection *p, Value *w, DType t) {
    Module *m = x->m;
    Value *scale = part(x, p->scale);
    int64_t bits = bits_of(x, p);
    int64_t block = attr_has(x->n, AT_QMoE_block_size) ? attr_i(x->n, AT_QMoE_block_size) : 0;
    Dim each = w->type->dim[1], bytes = w->type->dim[2];
    if (bits != 2 && bits != 4 && bits != 8) return expand_fail(x->m, x->n, "expert_weight_bits must be 2, 4 or 8"), NULL;
    if (scale == NULL || w->type->dtype != DT_U8 || !dim_is_const(m->cx, each) || !dim_is_const(m->cx, bytes)) return expand_fail(x->m, x->n, "weights must be bytes of known sizes, with scales"), NULL;
    int64_t rows = x->count * dim_value(m->cx, each), size = dim_value(m->cx, bytes) * 8 / bits;
    if (block < 1) block = size;
    if (size < 1 || size % block != 0) return expand_fail(x->m, x->n, "the inner size must be a multiple of block_size"), NULL;
    Value *codes = expand_unpacked(m, x->at, w, rows, dim_value(m->cx, bytes), bits);
    Value *s = expand_reshape(m, x->at, scale, 2, (int64_t[]){rows, size / block});
    Value *z = codes != NULL ? zeros_of(x, part(x, p->zero), codes, rows, size / block, bits) : NULL;
    if (s == NULL || z == NULL) return NULL;
    Node *d = expand_node(m, x->at, OP_DequantizeLinear, 3, (Value *[]){codes, expand_cast(m, x->at, s, t), z}, 1);
    attr_set_i(d, AT_DequantizeLinear_axis, 1);
    attr_set_i(d, AT_DequantizeLinear_block_size, block);
    Value *real = expand_result(m, d);
    return real != NULL ? expand_reshape(m, x->at, real, 3, (int64_t[]){x->count, rows / x->count, size}) : NULL;
}

/* v [T,K] times the packed weights of one expert; NULL where MatMulNBits does not read their form. */
static Value *packed_product(const Experts *x, const Projection *p, Value *v, Value *w) {
    Value *scale = part(x, p->scale), *zero = part(x, p->zero);
    int64_t bits = bits_of(x, p), block = attr_has(x->n, AT_QMoE_block_size) ? attr_i(x->n, AT_QMoE_block_size) : 0;
    if (scale == NULL || (bits != 4 && bits != 8) || w->type->dtype != DT_U8 || v->type->dtype != DT_F32 || scale->type->dtype != DT_F32) return NULL;
    int64_t rows = dim_value(x->m->cx, w->type->dim[1]), size = dim_value(x->m->cx, w->type->dim[2]) * 8 / bits;
    if (block < 1) block = size;
    if (rows < 1 || block < 16 || block % 16 != 0 || size % block != 0) return NULL;
    int64_t blocks = size / block;
    if (zero != NULL && zero->data->bytes != (size_t)(rows * ((blocks * bits + 7) / 8))) return NULL; /* zero points of several rows in one byte */
    Node *n = expand_node(x->m, x->at, OP_MatMulNBits, 4, (Value *[]){v, w, scale, zero}, 1);
    attr_set_i(n, AT_MatMulNBits_K, size);
    attr_set_i(n, AT_MatMulNBits_N, rows);
    attr_set_i(n, AT_MatMulNBits_bits, bits);
    attr_set_i(n, AT_MatMulNBits_block_size, block);
    return expand_result(x->m, n);
}

/* v [1,T,K] through every expert: [E,T,N]; or v [T,K] through one: [T,N]. */
static Value *projected(const Experts *x, const Projection *p, Value *v) {
    Value *w = part(x, p->weight), *bias = part(x, p->bias), *y = NULL;
    bool one = x->only >= 0;
    if (v == NULL || w == NULL || w->type->rank != 3) return expand_fail(x->m, x->n, "the experts' weights must be [E,N,K]"), NULL;
    if (one && x->quantized) y = packed_product(x, p, v, w);
    if (y == NULL) {
        if (x->quantized) w = dequantized(x, p, w, v->type->dtype);
        if (w == NULL) return NULL;
        Value *turned = expand_transpose(x->m, x->at, w, 3, (int64_t[]){0, 2, 1});
        y = two(x, OP_MatMul, v, one ? two(x, OP_Squeeze, turned, value_const_i64(x->m, 1, (int64_t[]){0})) : turned);
    }
    return bias != NULL ? two(x, OP_Add, y, one ? bias : unsqueeze(x, bias, 1)) : y;
}

/* ---- activations ------------------------------------------------------------------------------------------------- */
/* Gate and linear half of [..,2F], elements in turn or one half behind the other. */
static bool halves(const Experts *x, Value *both, Value **gate, Value **linear) {
    Module *m = x->m;
    Dim wide = both->type->dim[both->type->rank - 1];
    if (!dim_is_const(m->cx, wide) || dim_value(m->cx, wide) % 2 != 0) return expand_fail(x->m, x->n, "fused weights must have an even number of rows");
    int64_t size = dim_value(m->cx, wide), step = x->fusion == 1 ? 2 : 1, second = x->fusion == 1 ? 1 : size / 2, axis = -1;
    for (int64_t i = 0; i < 2; i++) {
        int64_t from = i * second, to = x->fusion == 1 ? size : from + size / 2;
        Value *in[5] = {both, value_const_i64(m, 1, &from), value_const_i64(m, 1, &to), value_const_i64(m, 1, &axis), value_const_i64(m, 1, &step)};
        *(i == 0 ? gate : linear) = expand_result(m, expand_node(m, x->at, OP_Slice, 5, in, 1));
    }
    return *gate != NULL && *linear != NULL;
}

static Value *swiglu(const Experts *x, Value *gate, Value *linear) {
    if (x->limit > 0) {
        gate = build3(x->m, x->at, OP_Clip, gate, NULL, number(x, gate, x->limit));
        linear = build3(x->m, x->at, OP_Clip, linear, number(x, linear, -x->limit), number(x, linear, x->limit));
        if (gate == NULL || linear == NULL) return NULL;
    }
    Value *open = build1(x->m, x->at, OP_Sigmoid, two(x, OP_Mul, gate, number(x, gate, x->alpha)));
    return two(x, OP_Mul, two(x, OP_Mul, gate, open), two(x, OP_Add, linear, number(x, linear, x->beta)));
}

/* h is what the first projection gives; v its input, for a second one. */
static Value *activated(const Experts *x, Value *h, const Projection *third, Value *v) {
    const char *name = str_text(x->m->cx, x->activation);
    bool is_swiglu = strcmp(name, "swiglu") == 0;
    Value *linear = NULL;
    if (h == NULL) return NULL;
    if (is_swiglu && x->fusion != 0 && !halves(x, h, &h, &linear)) return NULL;
    if (expand_input(x->n, (uint32_t)third->weight) != NULL && linear == NULL && (linear = projected(x, third, v)) == NULL) return NULL;
    if (is_swiglu && linear == NULL) return expand_fail(x->m, x->n, "swiglu needs fused weights or a third projection"), NULL;
    if (is_swiglu) return swiglu(x, h, linear);
    Value *y = NULL;
    if (strcmp(name, "identity") == 0) y = h;
    else if (strcmp(name, "relu") == 0) y = build1(x->m, x->at, OP_Relu, h);
    else if (strcmp(name, "silu") == 0) y = two(x, OP_Mul, h, build1(x->m, x->at, OP_Sigmoid, h));
    else if (strcmp(name, "gelu") == 0) y = build1(x->m, x->at, OP_FastGelu, h);
    else return expand_fail(x->m, x->n, "activation_type must be relu, gelu, silu, swiglu or identity"), NULL;
    return linear != NULL ? two(x, OP_Mul, y, linear) : y;
}

/* ---- the experts ------------------------------------------------------------------------------------------------- */
/* Is everything but the tokens and the router constant, an expert in each element of the first dim? */
static bool constant_experts(const Experts *x, Value *mixing) {
    for (uint32_t i = 2; i < x->n->n_in; i++) {
        const Value *v = x->n->in[i];
        if (v == NULL || v == mixing) continue;
        if (v->data == NULL || v->type->rank < 1 || !dim_is_const(x->m->cx, v->type->dim[0]) || dim_value(x->m->cx, v->type->dim[0]) != x->count) return false;
    }
    return true;
}

/* A region that gives what is built in front of the node that `end` is set to. */
static Graph *region(const Experts *x, const char *name, Value *like, Node **end) {
    Graph *g = graph_new(x->m, x->n->graph, name);
    *end = node_new(x->m, g, NULL, OP_Identity, 1, &like, 1);
    (*end)->loc = x->n->loc;
    return g;
}

static bool close_region(const Experts *x, Graph *g, Node *end, Value *result) {
    if (result == NULL) return false;
    end->in[0] = result;
    if (!node_infer(x->m, end)) return false;
    graph_add_output(x->m, g, end->out[0]);
    return true;
}

/* Expert e of the tokens [T,I], times its weights [E,T,1], if one of the tokens chose it. */
static Value *chosen_expert(const Experts *x, const Projection p[3], Value *tokens, Value *share, Value *used, int64_t e) {
    Module *m = x->m;
    Value *number_e = value_const_scalar(m, DT_I64, (double)e), *condition = expand_gather(m, x->n, used, number_e, 0);
    Experts one = *x, none = *x;
    one.only = e;
    one.count = 1;
    Graph *then = region(x, "expert", tokens, &one.at), *otherwise = region(x, "no_token", tokens, &none.at);
    Value *h = activated(&one, projected(&one, &p[0], tokens), &p[2], tokens), *y = h != NULL ? projected(&one, &p[1], h) : NULL;
    y = two(&one, OP_Mul, y, expand_gather(m, one.at, share, number_e, 0));
    Value *zero = two(&none, OP_Expand, number(x, tokens, 0), build1(m, none.at, OP_Shape, tokens));
    if (condition == NULL || !close_region(x, then, one.at, y) || !close_region(x, otherwise, none.at, zero)) return NULL;
    Node *choice = expand_node(m, x->n, OP_If, 1, &condition, 1);
    attr_set_graph(choice, AT_If_then_branch, then);
    attr_set_graph(choice, AT_If_else_branch, otherwise);
    return expand_result(m, choice);
}

static Value *chosen_experts(const Experts *x, const Projection p[3], Value *tokens, Value *share) {
    Module *m = x->m;
    Value *most = expand_reduce_axis(m, x->n, OP_ReduceMax, two(x, OP_Squeeze, share, value_const_i64(m, 1, (int64_t[]){2})), 1, false);
    Value *used = most != NULL ? build1(m, x->n, OP_Not, two(x, OP_Equal, most, number(x, most, 0))) : NULL, **part_of = ARENA_ARRAY(&m->cx->scratch, Value *, (size_t)x->count);
    for (int64_t e = 0; e < x->count; e++) {
        part_of[e] = used != NULL ? chosen_expert(x, p, tokens, share, used, e) : NULL;
        if (part_of[e] == NULL) return NULL;
    }
    return x->count == 1 ? part_of[0] : expand_result(m, expand_node(m, x->n, OP_Sum, (uint32_t)x->count, part_of, 1));
}

static Value *all_experts(const Experts *x, const Projection p[3], Value *tokens, Value *share) {
    Value *v = unsqueeze(x, tokens, 0), *h = activated(x, projected(x, &p[0], v), &p[2], v), *y = h != NULL ? projected(x, &p[1], h) : NULL;
    y = two(x, OP_Mul, y, share);
    return y != NULL ? expand_reduce_axis(x->m, x->n, OP_ReduceSum, y, 0, false) : NULL;
}

static bool expand_experts(Experts *x, const Projection p[3], Value *mixing, Value **out) {
    Module *m = x->m;
    Value *in = x->n->in[0], *router = x->n->in[1];
    uint32_t rank = in->type->rank;
    if (rank < 2 || rank > 3 || router->type->rank != 2 || !dim_is_const(m->cx, router->type->dim[1]) || !dim_is_const(m->cx, in->type->dim[rank - 1]))
        return expand_fail(x->m, x->n, "input must be [T,I] or [B,S,I] and router_probs [T,E], with I and E known at compile time");
    x->count = dim_value(m->cx, router->type->dim[1]);
    if (x->k < 1 || x->k > x->count) return expand_fail(x->m, x->n, "k must be from 1 to the number of experts");
    Value *tokens = rank == 3 ? expand_reshape(m, x->n, in, 2, (int64_t[]){-1, dim_value(m->cx, in->type->dim[2])}) : in, *share = routed(x, router, mixing);
    if (tokens == NULL || share == NULL) return false;
    Value *y = constant_experts(x, mixing) ? chosen_experts(x, p, tokens, share) : all_experts(x, p, tokens, share);
    if (y != NULL && rank == 3) y = two(x, OP_Reshape, y, build1(m, x->n, OP_Shape, in));
    out[0] = y;
    return y != NULL;
}

static double number_or_none(const Node *n, AttrSlot slot) { return attr_has(n, slot) ? attr_f(n, slot) : 0; }

bool expand_moe(Module *m, Node *n, Value **out) {
    static const Projection p[3] = {{.weight = 2, .bias = 3}, {.weight = 4, .bias = 5}, {.weight = 6, .bias = 7}};
    Experts x = {.m = m, .n = n, .at = n, .only = -1, .k = attr_i(n, AT_MoE_k), .fusion = attr_i(n, AT_MoE_swiglu_fusion), .normalize = attr_i(n, AT_MoE_normalize_routing_weights) != 0, .activation = attr_s(n, AT_MoE_activation_type),
                 .alpha = attr_f(n, AT_MoE_activation_alpha), .beta = attr_f(n, AT_MoE_activation_beta), .limit = number_or_none(n, AT_MoE_swiglu_limit)};
    if (attr_i(n, AT_MoE_use_sparse_mixer) != 0 || attr_i(n, AT_MoE_swiglu_limit_after_activation) != 0) return expand_fail(x.m, x.n, "use_sparse_mixer and swiglu_limit_after_activation are not supported");
    return expand_experts(&x, p, NULL, out);
}

bool expand_qmoe(Module *m, Node *n, Value **out) {
    static const Projection p[3] = {{2, 3, 11, 4, AT_QMoE_fc1_expert_weight_bits}, {5, 6, 12, 7, AT_QMoE_fc2_expert_weight_bits}, {8, 9, 13, 10, AT_QMoE_fc3_expert_weight_bits}};
    Experts x = {.m = m, .n = n, .at = n, .only = -1, .k = attr_i(n, AT_QMoE_k), .fusion = attr_i(n, AT_QMoE_swiglu_fusion), .normalize = attr_i(n, AT_QMoE_normalize_routing_weights) != 0, .activation = attr_s(n, AT_QMoE_activation_type),
                 .alpha = attr_f(n, AT_QMoE_activation_alpha), .beta = attr_f(n, AT_QMoE_activation_beta), .limit = number_or_none(n, AT_QMoE_swiglu_limit), .quantized = true};
    if (strcmp(str_text(m->cx, attr_s(n, AT_QMoE_quant_type)), "int") != 0) return expand_fail(x.m, x.n, "quant_type must be int");
    if (attr_i(n, AT_QMoE_weights_prepacked) == 1) return expand_fail(x.m, x.n, "weights_prepacked: the packed forms of other programs are not read");
    if (attr_i(n, AT_QMoE_use_sparse_mixer) != 0 || attr_i(n, AT_QMoE_swiglu_limit_after_activation) != 0) return expand_fail(x.m, x.n, "use_sparse_mixer and swiglu_limit_after_activation are not supported");
    return expand_experts(&x, p, expand_input(n, 14), out);
}
