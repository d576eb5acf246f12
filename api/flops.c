/* Floating-point (or integer) operations a model asks for, counted on the graph as it was given: a multiply-add is two,
 * padding and recomputation of the kernels that implement it are not counted, symbolic dims are at their upper bounds.
 *
 *     MatMul, Gemm     2 * elements of the output * length of the sum
 *     Conv             2 * elements of the output * elements of one filter
 *     LSTM, GRU, RNN   2 * steps * batch * elements of both weight matrices
 *     attention        4 * elements of the queries * positions of the keys
 *     softmax, norms   5 * elements
 *     anything else    elements of its floating-point outputs; nothing for what only moves elements
 *
 * Both branches of an If count, the body of a Loop once. */
#include "api/model.h"

static double upper(const Context *cx, Dim d) {
    int64_t hi = d != 0 ? dim_hi(cx, d) : INT64_MAX;
    return hi == INT64_MAX ? 0 : (double)hi;
}

static bool has_dims(const Value *v) {
    return v != NULL && v->type != NULL && v->type->kind == TYPE_TENSOR && v->type->rank != RANK_UNKNOWN;
}

/* Product of the dims from `first` on; 0 when something is unknown. */
static double elements(const Context *cx, const Value *v, uint32_t first) {
    if (!has_dims(v)) return 0;
    double n = 1;
    for (uint32_t i = first; i < v->type->rank; i++) n *= upper(cx, v->type->dim[i]);
    return n;
}

static const Value *input(const Node *n, uint32_t i) { return i < n->n_in ? n->in[i] : NULL; }
static const Value *output(const Node *n) { return n->n_out != 0 ? n->out[0] : NULL; }

/* The dim `from_end` places before the last one (0: the last). */
static double dim_from_end(const Context *cx, const Value *v, uint32_t from_end) {
    return has_dims(v) && v->type->rank > from_end ? upper(cx, v->type->dim[v->type->rank - 1 - from_end]) : 1;
}

static double product(const Context *cx, const Node *n, const Value *a, bool transposed) {
    return 2 * elements(cx, output(n), 0) * dim_from_end(cx, a, transposed ? 1 : 0);
}

static double recurrent(const Context *cx, const Node *n) {
    const Value *x = input(n, 0);
    if (!has_dims(x) || x->type->rank < 2) return 0;
    double steps = upper(cx, x->type->dim[0]) * upper(cx, x->type->dim[1]);
    return 2 * steps * (elements(cx, input(n, 1), 0) + elements(cx, input(n, 2), 0));
}

static double pointwise(const Context *cx, const Node *n) {
    if ((op_info(n->op)->flags & (OPF_VIEW | OPF_REGION)) != 0) return 0;
    double flops = 0;
    for (uint32_t i = 0; i < n->n_out; i++)
        if (has_dims(n->out[i]) && dtype_is_float(n->out[i]->type->dtype)) flops += elements(cx, n->out[i], 0);
    return flops;
}

static double node_flops(const Context *cx, const Node *n) {
    switch (n->op) {
    case OP_MatMul: case OP_MatMulInteger: case OP_QLinearMatMul: case OP_MatMulInteger16: case OP_MatMulNBits: case OP_DynamicQuantizeMatMul:
    case OP_MatMulIntegerToFloat: case OP_MixedMatMul: case OP_IntegerMatMul: case OP_BlockMatMul: return product(cx, n, input(n, 0), false);
    case OP_FusedMatMul: return product(cx, n, input(n, 0), attr_i(n, AT_FusedMatMul_transA) != 0);
    case OP_Gemm: return product(cx, n, input(n, 0), attr_i(n, AT_Gemm_transA) != 0);
    case OP_FusedGemm: return product(cx, n, input(n, 0), attr_i(n, AT_FusedGemm_transA) != 0);
    case OP_Conv: case OP_ConvChannelsLast: case OP_FusedConv: case OP_ConvInteger: case OP_DeformConv: case OP_IntegerConv: case OP_IntegerConvChannelsLast: return 2 * elements(cx, output(n), 0) * elements(cx, input(n, 1), 1);
    case OP_QLinearConv: return 2 * elements(cx, output(n), 0) * elements(cx, input(n, 3), 1);
    case OP_ConvTranspose: case OP_ConvTransposeChannelsLast: return 2 * elements(cx, input(n, 0), 0) * elements(cx, input(n, 1), 1);
    case OP_LSTM: case OP_GRU: case OP_RNN: case OP_DynamicQuantizeLSTM: return recurrent(cx, n);
    case OP_Attention: case OP_MultiHeadAttention: case OP_FlexAttention:
        return 4 * elements(cx, input(n, 0), 0) * dim_from_end(cx, input(n, 1) != NULL ? input(n, 1) : input(n, 0), 1);
    case OP_Softmax: case OP_LogSoftmax: case OP_LayerNormalization: case OP_RMSNormalization: case OP_GroupNormalization: case OP_InstanceNormalization:
    case OP_GroupNormalizationChannelsLast:
        return 5 * elements(cx, output(n), 0);
    case OP_ConvGradWeight: case OP_ConvGradWeightChannelsLast: /* the sum runs over the pixels of the gradient, which is the second input */
        return 2 * elements(cx, input(n, 1), 0) * elements(cx, output(n), 1);
    default: return pointwise(cx, n); /* of more than five hundred operators */
    }
}

typedef struct Count { const Context *cx; double flops; } Count;

static void count_graph(Graph *g, void *user) {
    Count *c = user;
    FOR_NODES(n, g) c->flops += node_flops(c->cx, n);
}

double count_flops(LatheModel *m) {
    Count c = {.cx = &m->cx};
    graph_visit(m->m->main, count_graph, &c);
    return c.flops;
}

double count_node_flops(const Context *cx, const Node *n) {
    if (n->op != OP_Fused) return node_flops(cx, n);
    double flops = 0;
    const Graph *body = attr_at(n, AT_Fused_body)->graph;
    for (const Node *inner = body->first; inner != NULL; inner = inner->next) flops += count_node_flops(cx, inner);
    return flops;
}
