/* Which opset an exported model needs.
 *
 * 21 is the ground: everything ops.def describes that is not listed here is in opset 21 with the same meaning (attributes
 * at their defaults are not written, so attributes added later do no harm), and every runtime of the last years reads
 * it. What came later raises the version of the model that uses it, and of no other. */
#include "frontend/onnx_export.h"

enum { GROUND = 21 };

static const struct { Op op; int32_t opset; } op_rows[] = {
    {OP_Attention, 23}, {OP_RMSNormalization, 23}, {OP_RotaryEmbedding, 23}, {OP_Swish, 24}, {OP_TensorScatter, 24}, {OP_BitCast, 26},
    {OP_CumProd, 26}, {OP_CausalConvWithState, 27}, {OP_LinearAttention, 27}, {OP_SwiGLU, 28},
};

/* Attributes that must be written only when they differ from their default. */
static const struct { Op op; AttrSlot slot; int32_t opset; } attr_rows[] = {
    {OP_Attention, AT_Attention_left_window_size, 25}, {OP_Attention, AT_Attention_right_window_size, 25}, {OP_Cast, AT_Cast_round_mode, 24},
    {OP_CastLike, AT_CastLike_round_mode, 24}, {OP_DequantizeLinear, AT_DequantizeLinear_output_dtype, 23},
    {OP_QuantizeLinear, AT_QuantizeLinear_precision, 23}, {OP_Range, AT_Range_stash_type, 27}, {OP_SpaceToDepth, AT_SpaceToDepth_mode, 28},
};

static const struct { DType dtype; int32_t opset; } dtype_rows[] = {
    {DT_BF16, 22}, {DT_F4E2M1, 23}, {DT_F8E8M0, 24}, {DT_I2, 25}, {DT_U2, 25},
};

/* Operators that took more element types later than the type itself came. */
static const struct { Op op; DType dtype; int32_t opset; } typed_rows[] = {
    {OP_BitShift, DT_I8, 28}, {OP_BitShift, DT_I16, 28}, {OP_BitShift, DT_I32, 28}, {OP_BitShift, DT_I64, 28}, {OP_Celu, DT_BF16, 28},
    {OP_Celu, DT_F16, 28}, {OP_Celu, DT_F64, 28}, {OP_Compress, DT_BF16, 28}, {OP_Einsum, DT_BF16, 28}, {OP_OneHot, DT_BF16, 28},
    {OP_Range, DT_BF16, 27}, {OP_Range, DT_F16, 27}, {OP_ReverseSequence, DT_BF16, 28}, {OP_SplitToSequence, DT_BF16, 24},
    {OP_TopK, DT_BF16, 24}, {OP_Unique, DT_BF16, 28},
};

static void raise(int32_t *opset, int32_t to) {
    if (*opset < to) *opset = to;
}

static void raise_for_value(const Value *v, Op op, int32_t *opset) {
    const Type *t = v != NULL ? v->type : NULL;
    while (t != NULL && t->elem != NULL) t = t->elem;
    if (t == NULL) return;
    for (size_t i = 0; i < sizeof dtype_rows / sizeof *dtype_rows; i++)
        if (dtype_rows[i].dtype == t->dtype) raise(opset, dtype_rows[i].opset);
    for (size_t i = 0; i < sizeof typed_rows / sizeof *typed_rows; i++)
        if (typed_rows[i].op == op && typed_rows[i].dtype == t->dtype) raise(opset, typed_rows[i].opset);
}

static bool is_float(const Value *v) {
    return v != NULL && v->type != NULL && dtype_is_float(v->type->dtype);
}

static void raise_for_node(const Node *n, Opsets *o) {
    const OpInfo *info = op_info(n->op);
    o->used[info->domain] = true;
    if (n->op == OP_TreeEnsemble) raise(&o->ml, 5);
    if (n->op == OP_LabelEncoder) raise(&o->ml, 4);
    if (n->op == OP_Attention && n->n_in > 6) raise(&o->onnx, 24); /* nonpad_kv_seqlen */
    if (n->op == OP_Mod && attr_i(n, AT_Mod_fmod) == 0 && (is_float(n->in[0]) || is_float(n->in[1]))) raise(&o->onnx, 28);
    for (size_t i = 0; i < sizeof op_rows / sizeof *op_rows; i++)
        if (op_rows[i].op == n->op) raise(&o->onnx, op_rows[i].opset);
    for (size_t i = 0; i < sizeof attr_rows / sizeof *attr_rows; i++)
        if (attr_rows[i].op == n->op && !attr_is_default(n, attr_rows[i].slot)) raise(&o->onnx, attr_rows[i].opset);
    for (uint32_t i = 0; i < n->n_in; i++) raise_for_value(n->in[i], n->op, &o->onnx);
    for (uint32_t i = 0; i < n->n_out; i++) raise_for_value(n->out[i], n->op, &o->onnx);
}

static void visit(Graph *g, void *user) {
    FOR_NODES(n, g) raise_for_node(n, user);
}

static int32_t ir_version(int32_t opset) {
    static const struct { int32_t opset, ir; } rows[] = {{22, 10}, {23, 11}, {24, 12}, {27, 13}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (opset <= rows[i].opset) return rows[i].ir;
    return 14;
}

Opsets opsets_needed(Module *m) {
    Opsets o = {.onnx = GROUND, .ml = 3};
    o.used[DOMAIN_ONNX] = true;
    graph_visit(m->main, visit, &o);
    o.ir_version = ir_version(o.onnx);
    return o;
}
