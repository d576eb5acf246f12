/* Quantized operators as dequantize, compute, quantize. */
#include "passes/rules.h"

static Value *build_node(Module *m, Node *at, Op op, uint32_t n_in, Value *const *in) {
    Node *n = node_new(m, at->graph, at, op, n_in, in, 1);
    n->loc = at->loc;
    node_infer(m, n);
    return n->out[0];
}

/* y_scale, y_zero, then (x, scale, zero) for each part: every part in the scale of the result, then joined. */
bool expand_qlinear_concat(Module *m, Node *n, Value **out) {
    uint32_t parts = (n->n_in - 2u) / 3u;
    Value **part = ARENA_ARRAY(&m->cx->scratch, Value *, parts);
    for (uint32_t k = 0; k < parts; k++) {
        Value *real = build_node(m, n, OP_DequantizeLinear, 3, &n->in[2 + 3 * k]);
        part[k] = build_node(m, n, OP_QuantizeLinear, 3, (Value *[]){real, n->in[0], n->in[1]});
    }
    Node *concat = node_new(m, n->graph, n, OP_Concat, parts, part, 1);
    concat->loc = n->loc;
    attr_set_i(concat, AT_Concat_axis, attr_i(n, AT_QLinearConcat_axis));
    if (!node_infer(m, concat)) return false;
    out[0] = concat->out[0];
    return true;
}

/* u8 for the range of x that holds 0: scale = (max - min) / 255, zero = round(-min / scale). */
bool expand_dynamic_quantize(Module *m, Node *n, Value **out) {
    Value *x = n->in[0], *none = value_const_scalar(m, DT_F32, 0);
    Node *lowest = node_new(m, n->graph, n, OP_ReduceMin, 1, &x, 1), *highest = node_new(m, n->graph, n, OP_ReduceMax, 1, &x, 1);
    attr_set_i(lowest, AT_ReduceMin_keepdims, 0);
    attr_set_i(highest, AT_ReduceMax_keepdims, 0);
    if (!node_infer(m, lowest) || !node_infer(m, highest)) return false;
    Value *min = build2(m, n, OP_Min, lowest->out[0], none), *max = build2(m, n, OP_Max, highest->out[0], none);
    Value *scale = build2(m, n, OP_Div, build2(m, n, OP_Sub, max, min), value_const_scalar(m, DT_F32, 255));
    Value *flat = build2(m, n, OP_Equal, scale, none); /* all elements 0: any scale will do */
    scale = build3(m, n, OP_Where, flat, value_const_scalar(m, DT_F32, 1), scale);
    Value *zero = build1(m, n, OP_Round, build2(m, n, OP_Div, build1(m, n, OP_Neg, min), scale));
    Node *cast = node_new(m, n->graph, n, OP_Cast, 1, (Value *[]){build3(m, n, OP_Clip, zero, none, value_const_scalar(m, DT_F32, 255))}, 1);
    attr_set_i(cast, AT_Cast_to, dtype_to_onnx(DT_U8));
    if (!node_infer(m, cast)) return false;
    out[0] = build3(m, n, OP_QuantizeLinear, x, scale, cast->out[0]);
    out[1] = scale;
    out[2] = cast->out[0];
    return out[0] != NULL && out[0]->type != NULL;
}
