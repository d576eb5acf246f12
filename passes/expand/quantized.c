/* Quantized operators of com.microsoft as dequantize, compute, quantize, or around MatMulInteger.
 *
 *     MatMulIntegerToFloat(a, b, sa, sb, za, zb, bias)   ->   Cast(MatMulInteger(a, b, za, zb)) * (sa * sb) + bias */
#include "passes/expand/build.h"
#include "passes/rules.h"

/* Input i of n as the real number it stands for; its scale is input `scale`, its zero point the one behind. */
static Value *dequantized(Module *m, Node *n, uint32_t i, uint32_t scale) {
    return build3(m, n, OP_DequantizeLinear, n->in[i], n->in[scale], expand_input(n, scale + 1));
}

/* y in integers like input 0; without a zero point it is 0 of that type. */
static Value *quantized(Module *m, Node *n, Value *y, uint32_t scale) {
    Value *zero = expand_input(n, scale + 1);
    if (zero == NULL) zero = value_const_scalar(m, n->in[0]->type->dtype, 0);
    return y != NULL ? build3(m, n, OP_QuantizeLinear, y, n->in[scale], zero) : NULL;
}

/* ---- products ---------------------------------------------------------------------------------------------------- */
Value *expand_scaled_product(Module *m, Node *n, Value *a, Value *b, Value *scale, Value *za, Value *zb, Value *bias) {
    Value *y = expand_result(m, expand_node(m, n, OP_MatMulInteger, 4, (Value *[]){a, b, za, zb}, 1));
    if (y == NULL || scale == NULL) return NULL;
    y = build2(m, n, OP_Mul, expand_cast(m, n, y, scale->type->dtype), scale);
    return bias != NULL ? build2(m, n, OP_Add, y, bias) : y;
}

bool expand_matmul_integer_to_float(Module *m, Node *n, Value **out) {
    Value *scale = build2(m, n, OP_Mul, n->in[2], n->in[3]);
    out[0] = expand_scaled_product(m, n, n->in[0], n->in[1], scale, expand_input(n, 4), expand_input(n, 5), expand_input(n, 6));
    return out[0] != NULL;
}

bool expand_dynamic_quantize_matmul(Module *m, Node *n, Value **out) {
    Node *a = expand_node(m, n, OP_DynamicQuantizeLinear, 1, n->in, 3);
    if (!node_infer(m, a)) return false;
    Value *scale = build2(m, n, OP_Mul, a->out[1], n->in[2]);
    out[0] = expand_scaled_product(m, n, a->out[0], n->in[1], scale, a->out[2], expand_input(n, 3), expand_input(n, 4));
    return out[0] != NULL;
}

static Value *maybe_transposed(Module *m, Node *n, Value *v, AttrSlot slot) {
    return attr_i(n, slot) != 0 ? expand_transpose(m, n, v, 2, (int64_t[]){1, 0}) : v;
}

/* a, its scale and zero, b, its scale and zero, integer bias, scale and zero of the result: without those it is real. */
bool expand_qgemm(Module *m, Node *n, Value **out) {
    Value *a = maybe_transposed(m, n, n->in[0], AT_QGemm_transA), *b = maybe_transposed(m, n, n->in[3], AT_QGemm_transB), *c = expand_input(n, 6);
    Value *y = a != NULL && b != NULL ? expand_result(m, expand_node(m, n, OP_MatMulInteger, 4, (Value *[]){a, b, n->in[2], n->in[5]}, 1)) : NULL;
    if (y == NULL) return false;
    if (c != NULL) y = build2(m, n, OP_Add, y, c);
    Value *scale = build2(m, n, OP_Mul, build2(m, n, OP_Mul, n->in[1], n->in[4]), value_const_scalar(m, n->in[1]->type->dtype, attr_f(n, AT_QGemm_alpha)));
    y = build2(m, n, OP_Mul, expand_cast(m, n, y, DT_F32), scale);
    out[0] = expand_input(n, 7) != NULL ? quantized(m, n, y, 7) : y;
    return out[0] != NULL;
}

/* ---- pools, means, softmax: x, its scale and zero, scale and zero of the result ---------------------------------- */
static bool has_channels(Module *m, const Node *n) {
    if (n->in[0]->type->rank >= 3 && n->in[0]->type->rank != RANK_UNKNOWN) return true;
    diag(m->cx, SEV_ERROR, n->loc, "input 0 must be [N, C, spatial…]");
    return false;
}

bool expand_qlinear_average_pool(Module *m, Node *n, Value **out) {
    bool last = attr_i(n, AT_QLinearAveragePool_channels_last) != 0;
    if (!has_channels(m, n)) return false;
    Value *x = dequantized(m, n, 0, 1);
    if (last && x != NULL) x = expand_move_channels(m, n, x, false);
    if (x == NULL) return false;
    Node *pool = expand_node(m, n, OP_AveragePool, 1, &x, 1);
    attr_share(pool, n);
    Value *y = expand_result(m, pool);
    if (last && y != NULL) y = expand_move_channels(m, n, y, true);
    out[0] = quantized(m, n, y, 3);
    return out[0] != NULL;
}

bool expand_qlinear_global_average_pool(Module *m, Node *n, Value **out) {
    bool last = attr_i(n, AT_QLinearGlobalAveragePool_channels_last) != 0;
    if (!has_channels(m, n)) return false;
    Value *x = dequantized(m, n, 0, 1);
    if (last && x != NULL) x = expand_move_channels(m, n, x, false);
    Value *y = x != NULL ? build1(m, n, OP_GlobalAveragePool, x) : NULL;
    if (last && y != NULL) y = expand_move_channels(m, n, y, true);
    out[0] = quantized(m, n, y, 3);
    return out[0] != NULL;
}

bool expand_qlinear_reduce_mean(Module *m, Node *n, Value **out) {
    const Attr *axes = attr_at(n, AT_QLinearReduceMean_axes);
    Value *x = dequantized(m, n, 0, 1);
    if (x == NULL) return false;
    Node *mean = expand_node(m, n, OP_ReduceMean, 2, (Value *[]){x, value_const_i64(m, axes->ints.n, axes->ints.v)}, 1);
    attr_set_i(mean, AT_ReduceMean_keepdims, attr_i(n, AT_QLinearReduceMean_keepdims));
    out[0] = quantized(m, n, expand_result(m, mean), 3);
    return out[0] != NULL;
}

/* Before opset 13 a softmax is over all axes from `axis` on. */
bool expand_qlinear_softmax(Module *m, Node *n, Value **out) {
    int64_t axis = attr_i(n, AT_QLinearSoftmax_axis);
    bool whole = attr_i(n, AT_QLinearSoftmax_opset) < 13;
    Value *x = dequantized(m, n, 0, 1), *y = x;
    if (whole && x != NULL) {
        Node *flat = expand_node(m, n, OP_Flatten, 1, &x, 1);
        attr_set_i(flat, AT_Flatten_axis, axis);
        y = expand_result(m, flat);
    }
    y = y != NULL ? expand_softmax(m, n, y, whole ? 1 : axis) : NULL;
    if (whole && y != NULL) y = build2(m, n, OP_Reshape, y, build1(m, n, OP_Shape, x));
    out[0] = quantized(m, n, y, 3);
    return out[0] != NULL;
}

/* ---- embeddings: ids, segments, five quantized tables (word, position, segment, gamma, beta), mask, five scales, five zeros */
bool expand_qembed_norm(Module *m, Node *n, Value **out) {
    Value *real[5];
    for (uint32_t i = 0; i < 5; i++) {
        real[i] = NULL;
        if (expand_input(n, 2 + i) == NULL) continue;
        real[i] = build3(m, n, OP_DequantizeLinear, n->in[2 + i], n->in[8 + i], n->in[13 + i]);
        if (real[i] == NULL) return false;
    }
    Value *in[] = {n->in[0], n->in[1], real[0], real[1], real[2], real[3], real[4], n->in[7]};
    Node *embed = expand_node(m, n, OP_EmbedLayerNormalization, 8, in, 2);
    attr_share(embed, n);
    if (!node_infer(m, embed)) return false;
    out[0] = embed->out[0];
    out[1] = embed->out[1];
    return true;
}
