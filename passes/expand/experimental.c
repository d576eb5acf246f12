/* Operators of ai.onnx's early, experimental days that ONNX Runtime still reads:
 *
 *     Affine(x)              alpha x + beta                 Scale(x)        scale x
 *     ScaledTanh(x)          alpha tanh(beta x)             ParametricSoftplus(x)   alpha softplus(beta x)
 *     ImageScaler(x)         scale x + bias per channel     Crop(x)         x without its borders, or a part of a given size
 *     GivenTensorFill(s)     the values of an attribute, in a shape
 *     DynamicSlice           Slice under another name */
#include "passes/expand/build.h"
#include "passes/expand/chain.h"
#include "passes/rules.h"

bool expand_affine(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    switch ((int)n->op) {
    case OP_Affine: out[0] = chain_plus(&c, chain_times(&c, n->in[0], attr_f(n, AT_Affine_alpha)), attr_f(n, AT_Affine_beta)); break;
    case OP_ScaledTanh: out[0] = chain_times(&c, chain_1(&c, OP_Tanh, chain_times(&c, n->in[0], attr_f(n, AT_ScaledTanh_beta))), attr_f(n, AT_ScaledTanh_alpha)); break;
    case OP_ParametricSoftplus:
        out[0] = chain_times(&c, chain_1(&c, OP_Softplus, chain_times(&c, n->in[0], attr_f(n, AT_ParametricSoftplus_beta))), attr_f(n, AT_ParametricSoftplus_alpha));
        break;
    default: out[0] = chain_mul(&c, n->in[0], chain_like(&c, n->in[0], attr_f(n, AT_Scale_scale))); break;
    }
    if (out[0] == n->in[0]) out[0] = chain_1(&c, OP_Identity, out[0]);
    return out[0] != NULL;
}

bool expand_image_scaler(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    const Attr *bias = attr_at(n, AT_ImageScaler_bias);
    Value *y = chain_mul(&c, n->in[0], chain_like(&c, n->in[0], attr_f(n, AT_ImageScaler_scale)));
    if (bias->present && bias->floats.n != 0) {
        int64_t count = bias->floats.n;
        Value *v = chain_cast(&c, expand_floats(m, 1, &count, bias->floats.v, DT_F32), n->in[0]->type->dtype);
        y = chain_add(&c, y, chain_reshape(&c, v, 3, (int64_t[]){-1, 1, 1}));
    }
    out[0] = y;
    return y != NULL;
}

/* border: left, top, right, bottom; scale: height and width from the left and top border on */
bool expand_crop(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    const Attr *border = attr_at(n, AT_Crop_border), *size = attr_at(n, AT_Crop_scale);
    bool sized = size->present && size->ints.n == 2;
    if (n->in[0]->type->rank != 4 || !border->present || border->ints.n != 4) return expand_fail(m, n, "input [N,C,H,W] and four borders are needed");
    Value *y = n->in[0];
    for (int64_t a = 0; a < 2; a++) { /* height, width */
        int64_t from = border->ints.v[1 - a], behind = border->ints.v[3 - a], to = sized ? from + size->ints.v[a] : behind == 0 ? INT64_MAX : -behind;
        if (from < 0 || behind < 0 || (sized && size->ints.v[a] < 0)) return expand_fail(m, n, "borders and sizes must not be negative");
        y = chain_slice(&c, y, from, to, 2 + a);
    }
    out[0] = y;
    return y != NULL;
}

bool expand_given_tensor_fill(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    const Attr *values = attr_at(n, AT_GivenTensorFill_values), *shape = attr_at(n, AT_GivenTensorFill_shape), *extra = attr_at(n, AT_GivenTensorFill_extra_shape);
    int64_t size[RANK_MAX], count = values->floats.n;
    uint32_t rank = 0, known;
    Value *in = expand_input(n, 0);
    const Dim *dim = in != NULL && attr_i(n, AT_GivenTensorFill_input_as_shape) != 0 ? value_dims(m, in, &known) : NULL;
    if (in != NULL && dim == NULL) return expand_fail(m, n, "input 0 must be a shape that is known at compile time (input_as_shape)");
    for (uint32_t i = 0; in != NULL && i < known && rank < RANK_MAX; i++) size[rank++] = dim_is_const(m->cx, dim[i]) ? dim_value(m->cx, dim[i]) : -1;
    for (uint32_t i = 0; in == NULL && shape->present && i < shape->ints.n && rank < RANK_MAX; i++) size[rank++] = shape->ints.v[i];
    for (uint32_t i = 0; extra->present && i < extra->ints.n && rank < RANK_MAX; i++) size[rank++] = extra->ints.v[i];
    out[0] = chain_reshape(&c, expand_floats(m, 1, &count, values->floats.v, DT_F32), rank, size);
    return out[0] != NULL;
}
