/* CausalConvWithState of com.microsoft: ai.onnx's of the same name, or a convolution when its taps stand apart.
 *
 *     y, state = CausalConvWithState(x [B,C,L], w [C,1,K], bias, past [B,C,P]) {dilation = 2}      P = (K - 1) * dilation
 *         ->   all = Concat(past, x)   y = act(Conv(all, w, bias) {dilations = 2, group = C})   state = the last P of all
 *
 * Activations with channels last are transposed around it. */
#include <string.h>

#include "passes/expand/build.h"
#include "passes/rules.h"

static Value *turned(Module *m, Node *n, Value *v, bool last) { return v != NULL && last ? expand_transpose(m, n, v, 3, (int64_t[]){0, 2, 1}) : v; }

static bool plain(Module *m, Node *n, Value *x, Value *past, bool silu, Value **y, Value **state) {
    Node *conv = expand_node(m, n, OP_CausalConvWithState, 4, (Value *[]){x, n->in[1], expand_input(n, 2), past}, 2);
    attr_set_s(conv, AT_CausalConvWithState_activation, str_intern(m->cx, silu ? "silu" : "none"));
    if (!node_infer(m, conv)) return false;
    *y = conv->out[0];
    *state = conv->out[1];
    return true;
}

static bool dilated(Module *m, Node *n, Value *x, Value *past, bool silu, int64_t dilation, Value **y, Value **state) {
    Dim channels = x->type->dim[1], taps = n->in[1]->type->dim[2];
    if (!dim_is_const(m->cx, channels) || !dim_is_const(m->cx, taps)) return expand_fail(m, n, "channels and taps must be known at compile time");
    int64_t rows = (dim_value(m->cx, taps) - 1) * dilation, axis = 2, from = -rows, to = INT64_MAX;
    if (rows > INT32_MAX || rows < 1) return expand_fail(m, n, "a dilated kernel must have more than one tap");
    Value *all = past != NULL ? expand_concat(m, n, 2, (Value *[]){past, x}, 2) : build2(m, n, OP_Pad, x, value_const_i64(m, 6, (int64_t[]){0, 0, rows, 0, 0, 0}));
    if (all == NULL) return false;
    Node *conv = expand_node(m, n, OP_Conv, 3, (Value *[]){all, n->in[1], expand_input(n, 2)}, 1);
    attr_set_ints(m->cx, conv, AT_Conv_dilations, &dilation, 1);
    attr_set_i(conv, AT_Conv_group, dim_value(m->cx, channels));
    *y = expand_result(m, conv);
    if (*y != NULL && silu) *y = build2(m, n, OP_Mul, *y, build1(m, n, OP_Sigmoid, *y));
    Value *in[4] = {all, value_const_i64(m, 1, &from), value_const_i64(m, 1, &to), value_const_i64(m, 1, &axis)};
    *state = expand_result(m, expand_node(m, n, OP_Slice, 4, in, 1));
    return *y != NULL && *state != NULL;
}

bool expand_ms_causal_conv(Module *m, Node *n, Value **out) {
    const char *activation = str_text(m->cx, attr_s(n, AT_Ms_CausalConvWithState_activation));
    bool silu = strcmp(activation, "silu") == 0 || strcmp(activation, "swish") == 0, last = attr_i(n, AT_Ms_CausalConvWithState_channels_last) != 0;
    int64_t dilation = attr_i(n, AT_Ms_CausalConvWithState_dilation);
    if (!silu && strcmp(activation, "none") != 0) return expand_fail(m, n, "activation must be silu, swish or none");
    if (attr_i(n, AT_Ms_CausalConvWithState_ndim) != 1 || n->in[0]->type->rank != 3 || n->in[1]->type->rank != 3) return expand_fail(m, n, "input and weight must have 3 dimensions, and ndim must be 1");
    if (attr_i(n, AT_Ms_CausalConvWithState_input_channel_offset) != 0 || attr_i(n, AT_Ms_CausalConvWithState_input_channels) != 0 || attr_i(n, AT_Ms_CausalConvWithState_state_length) != 0 ||
        attr_i(n, AT_Ms_CausalConvWithState_state_update_capacity) != 0 || attr_i(n, AT_Ms_CausalConvWithState_state_window) != 0 || attr_i(n, AT_Ms_CausalConvWithState_state_channels_last) >= 0)
        return expand_fail(m, n, "channel selection, windows of states and their own layout are not supported");
    if (dilation < 1 || dilation > INT32_MAX) return expand_fail(m, n, "dilation must be positive");
    Value *x = turned(m, n, n->in[0], last), *past = turned(m, n, expand_input(n, 3), last), *y = NULL, *state = NULL;
    if (x == NULL) return false;
    if (!(dilation == 1 ? plain(m, n, x, past, silu, &y, &state) : dilated(m, n, x, past, silu, dilation, &y, &state))) return false;
    out[0] = turned(m, n, y, last);
    out[1] = turned(m, n, state, last);
    return out[0] != NULL && out[1] != NULL;
}
