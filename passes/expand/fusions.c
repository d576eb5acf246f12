/* What ONNX Runtime's optimisers join, taken apart again; lathe's own fusion puts it together.
 *
 *     BiasAdd(x, b, skip)                  x + b + skip
 *     BiasDropout(x, b, r, ratio, train)   Dropout(x + b) + r
 *     BiasSoftmax(x, b)                    Softmax over all dims from axis on, b repeated over rows
 *     GemmFastGelu(x, w, b)                FastGelu(x w, b)
 *     NhwcFusedConv(x, w, b, z)            FusedConv with channels last
 *     GroupNorm, SkipGroupNorm             GroupNormalization, with channels last and SiLU
 *     QLinearConv, Pad, Range, …           the standard operator of the same name
 *     ComplexMul(a, b)                     products of (re, im) pairs along the last axis
 *     MulInteger, ReduceSumInteger         products and sums of 8-bit numbers in 32 bits */
#include "passes/expand/build.h"
#include "passes/expand/chain.h"
#include "passes/rules.h"

/* ---- biases ------------------------------------------------------------------------------------------------------ */
bool expand_bias_add(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    out[0] = chain_add(&c, chain_add(&c, n->in[0], n->in[1]), n->in[2]);
    return out[0] != NULL;
}

bool expand_bias_dropout(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Value *sum = chain_add(&c, n->in[0], n->in[1]), *residual = expand_input(n, 2);
    if (sum == NULL) return false;
    Node *drop = expand_node(m, n, OP_Dropout, 3, (Value *[]){sum, expand_input(n, 3), expand_input(n, 4)}, 2);
    attr_share(drop, n);
    Value *y = chain_node(&c, drop);
    out[0] = residual != NULL ? chain_add(&c, y, residual) : y;
    expand_give(m, n, out, 1, drop->out[1]);
    return out[0] != NULL;
}

/* Rows of x [N,D] from `axis` on; bias has some of the rows: each counts for so many rows in turn (inner), or all of them repeat (outer). */
bool expand_bias_softmax(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Value *x = n->in[0];
    int64_t rank = x->type->rank, axis = attr_i(n, AT_BiasSoftmax_axis);
    if (axis < 0) axis += rank;
    if (axis < 0 || axis >= rank) return expand_fail(m, n, "axis is not one of the input's");
    Node *flat = expand_node(m, n, OP_Flatten, 1, &x, 1);
    attr_set_i(flat, AT_Flatten_axis, axis);
    Value *width = chain_slice(&c, chain_1(&c, OP_Shape, chain_node(&c, flat)), 1, 2, 0);
    bool inner = attr_i(n, AT_BiasSoftmax_is_inner_broadcast) != 0;
    Value *bias = chain_2(&c, OP_Reshape, n->in[1], chain_concat(&c, value_const_i64(m, 1, (int64_t[]){-1}), width, 0));
    Value *rows = chain_slice(&c, chain_1(&c, OP_Shape, bias), 0, 1, 0), *open = value_const_i64(m, 1, (int64_t[]){-1});
    Value *shape = chain_concat(&c, inner ? chain_concat(&c, rows, open, 0) : chain_concat(&c, open, rows, 0), width, 0);
    Value *sum = chain_add(&c, chain_2(&c, OP_Reshape, x, shape), chain_unsqueeze(&c, bias, inner ? 1 : 0));
    out[0] = chain_2(&c, OP_Reshape, chain_softmax(&c, sum, 2), chain_1(&c, OP_Shape, x));
    return out[0] != NULL;
}

bool expand_gemm_fast_gelu(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Value *y = chain_2(&c, OP_MatMul, n->in[0], n->in[1]), *bias = expand_input(n, 2);
    out[0] = bias != NULL ? chain_2(&c, OP_FastGelu, y, bias) : chain_1(&c, OP_FastGelu, y);
    return out[0] != NULL;
}

/* ---- convolutions ------------------------------------------------------------------------------------------------ */
bool expand_nhwc_fused_conv(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Value *z = expand_input(n, 3);
    if (n->in[0]->type->rank < 3) return expand_fail(m, n, "input [N, spatial..., C] is needed");
    Value *in[4] = {expand_move_channels(m, n, n->in[0], false), n->in[1], expand_input(n, 2), z != NULL ? expand_move_channels(m, n, z, false) : NULL};
    Node *conv = expand_node(m, n, OP_FusedConv, 4, in, 1);
    attr_share(conv, n);
    Value *y = chain_node(&c, conv);
    out[0] = y != NULL ? expand_move_channels(m, n, y, true) : NULL;
    return out[0] != NULL;
}

bool expand_ms_qlinear_conv(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    bool last = attr_i(n, AT_Ms_QLinearConv_channels_last) != 0;
    if (n->in[0]->type->rank < 3) return expand_fail(m, n, "input with spatial dims is needed");
    Value *in[9];
    for (uint32_t i = 0; i < 9; i++) in[i] = expand_input(n, i);
    if (last) in[0] = expand_move_channels(m, n, in[0], false);
    Node *conv = expand_node(m, n, OP_QLinearConv, 9, in, 1);
    attr_share(conv, n);
    Value *y = chain_node(&c, conv);
    out[0] = y != NULL && last ? expand_move_channels(m, n, y, true) : y;
    return out[0] != NULL;
}

/* ---- GroupNorm, SkipGroupNorm ------------------------------------------------------------------------------------ */
static Value *normalized(const Chain *c, Value *x) {
    Module *m = c->m;
    Node *n = c->n;
    bool last = attr_i(n, attr_named(n, "channels_last")) != 0, silu = attr_i(n, attr_named(n, "activation")) != 0;
    if (x == NULL) return NULL;
    if (x->type->rank < 3) return expand_fail(m, n, "input with channels and spatial dims is needed"), NULL;
    Value *in[3] = {last ? expand_move_channels(m, n, x, false) : x, chain_cast(c, n->in[1], x->type->dtype), chain_cast(c, n->in[2], x->type->dtype)};
    if (in[0] == NULL || in[1] == NULL || in[2] == NULL) return NULL;
    Node *norm = expand_node(m, n, OP_GroupNormalization, 3, in, 1);
    attr_set_i(norm, AT_GroupNormalization_num_groups, attr_i(n, attr_named(n, "groups")));
    attr_set_f(norm, AT_GroupNormalization_epsilon, attr_f(n, attr_named(n, "epsilon")));
    Value *y = chain_node(c, norm);
    if (silu) y = chain_mul(c, y, chain_1(c, OP_Sigmoid, y));
    return y != NULL && last ? expand_move_channels(m, n, y, true) : y;
}

bool expand_ms_group_norm(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    out[0] = normalized(&c, n->in[0]);
    return out[0] != NULL;
}

/* skip may be [N,C] or [N,1,1,C]; it, and bias, have channels last where x has. */
bool expand_skip_group_norm(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Value *x = n->in[0], *skip = n->in[3], *bias = expand_input(n, 4);
    bool last = attr_i(n, AT_SkipGroupNorm_channels_last) != 0;
    uint32_t spatial = x->type->rank > 2 ? x->type->rank - 2u : 0;
    for (uint32_t i = 0; i < spatial; i++) {
        if (skip != NULL && skip->type->rank < x->type->rank) skip = chain_unsqueeze(&c, skip, last ? 1 : -1);
        if (bias != NULL && !last) bias = chain_unsqueeze(&c, bias, -1);
    }
    Value *sum = chain_add(&c, x, skip);
    if (expand_input(n, 4) != NULL) sum = chain_add(&c, sum, bias);
    out[0] = normalized(&c, sum);
    expand_give(m, n, out, 1, sum);
    return out[0] != NULL;
}

/* ---- names of other operators ------------------------------------------------------------------------------------ */
bool expand_torch_embedding(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    out[0] = chain_gather(&c, n->in[0], n->in[1], 0);
    return out[0] != NULL;
}

bool expand_ms_pad(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Value *pads = n->in[1]->type->rank == 2 ? chain_reshape(&c, n->in[1], 1, (int64_t[]){-1}) : n->in[1], *value = expand_input(n, 2);
    Node *pad = expand_node(m, n, OP_Pad, 3, (Value *[]){n->in[0], pads, value != NULL ? chain_reshape(&c, value, 0, NULL) : NULL}, 1);
    attr_share(pad, n);
    out[0] = chain_node(&c, pad);
    return out[0] != NULL;
}

bool expand_ms_range(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Value *in[3] = {n->in[0], n->in[1], expand_input(n, 2)};
    for (int i = 0; i < 3; i++) in[i] = in[i] != NULL ? chain_reshape(&c, in[i], 0, NULL) : chain_like(&c, n->in[0], 1);
    out[0] = chain_3(&c, OP_Range, in[0], in[1], in[2]);
    return out[0] != NULL;
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */
bool expand_complex_mul(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    Value *part[4];
    double sign = n->op == OP_ComplexMulConj ? -1 : 1;
    for (uint32_t i = 0; i < 4; i++) {
        const Type *t = n->in[i / 2]->type;
        if (t->rank < 1 || !dim_is_const(m->cx, t->dim[t->rank - 1]) || dim_value(m->cx, t->dim[t->rank - 1]) != 2) return expand_fail(m, n, "the last dim must be 2: real and imaginary part");
        part[i] = chain_slice(&c, n->in[i / 2], i % 2, i % 2 + 1, (int64_t)t->rank - 1);
    }
    part[3] = chain_times(&c, part[3], sign);
    Value *re = chain_sub(&c, chain_mul(&c, part[0], part[2]), chain_mul(&c, part[1], part[3])), *im = chain_add(&c, chain_mul(&c, part[0], part[3]), chain_mul(&c, part[1], part[2]));
    out[0] = chain_concat(&c, re, im, -1);
    return out[0] != NULL;
}

static Value *centered(const Chain *c, Value *v, Value *zero) {
    Value *wide = chain_cast(c, v, DT_I32);
    return zero != NULL ? chain_sub(c, wide, chain_cast(c, chain_reshape(c, zero, 0, NULL), DT_I32)) : wide;
}

bool expand_mul_integer(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    if (n->in[2] == NULL) return expand_fail(m, n, "inputs A (0) and B (2) are needed");
    out[0] = chain_mul(&c, centered(&c, n->in[0], n->in[1]), centered(&c, n->in[2], expand_input(n, 3)));
    return out[0] != NULL;
}

bool expand_reduce_sum_integer(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    const Attr *axes = attr_at(n, AT_ReduceSumInteger_axes);
    Value *wide = chain_cast(&c, n->in[0], n->in[0]->type->dtype == DT_U8 ? DT_U32 : DT_I32);
    if (wide == NULL) return false;
    Node *sum = expand_node(m, n, OP_ReduceSum, 2, (Value *[]){wide, axes->ints.n != 0 ? value_const_i64(m, axes->ints.n, axes->ints.v) : NULL}, 1);
    attr_set_i(sum, AT_ReduceSum_keepdims, attr_i(n, AT_ReduceSumInteger_keepdims));
    out[0] = chain_node(&c, sum);
    return out[0] != NULL;
}

bool expand_is_all_finite(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    bool infinite = attr_i(n, AT_IsAllFinite_isnan_only) == 0, nan = attr_i(n, AT_IsAllFinite_isinf_only) == 0;
    Value *count = NULL;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (n->in[i] == NULL) return expand_fail(m, n, "no input may be left out");
        Value *bad[2] = {infinite ? chain_1(&c, OP_IsInf, n->in[i]) : NULL, nan ? chain_1(&c, OP_IsNaN, n->in[i]) : NULL};
        for (int k = 0; k < 2; k++) {
            if (bad[k] == NULL) continue;
            Node *sum = expand_node(m, n, OP_ReduceSum, 1, (Value *[]){chain_cast(&c, bad[k], DT_I64)}, 1);
            attr_set_i(sum, AT_ReduceSum_keepdims, 0);
            Value *one = chain_node(&c, sum);
            count = count != NULL ? chain_add(&c, count, one) : one;
        }
    }
    if (count == NULL) return expand_fail(m, n, "isinf_only and isnan_only exclude each other");
    out[0] = chain_2(&c, OP_Equal, count, chain_int(&c, 0));
    return out[0] != NULL;
}
