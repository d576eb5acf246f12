/* Types of operators that make tensors from sizes and numbers: ConstantOfShape, Range, EyeLike, windows, random tensors. */
#include "ir/shape/shape.h"

#include <math.h>

static bool output_dtype(Module *m, Node *n, int64_t onnx, DType *d) {
    *d = onnx >= 0 && onnx <= INT32_MAX ? dtype_from_onnx((int32_t)onnx) : DT_NONE;
    if (*d != DT_NONE) return true;
    diag(m->cx, SEV_ERROR, n->loc, "%lld is not the number of an element type", (long long)onnx);
    return false;
}

bool shape_constant_of_shape(Module *m, Node *n) {
    Context *cx = m->cx;
    uint32_t rank;
    Dim dim[RANK_MAX];
    const Attr *value = attr_at(n, AT_ConstantOfShape_value);
    DType d = value->present ? value->tensor.type->dtype : DT_F32;
    const Dim *want = value_dims(m, n->in[0], &rank);
    Dim count_of = value->present ? type_numel(cx, value->tensor.type) : dim_const(cx, 1);
    if (!dim_is_const(cx, count_of) || dim_value(cx, count_of) != 1) {
        diag(cx, SEV_ERROR, n->loc, "value must have one element");
        return false;
    }
    if (want == NULL && !shape_length(m, n, 0, &rank)) return false;
    if (rank > RANK_MAX) {
        diag(cx, SEV_ERROR, n->loc, "shape has %u dimensions, at most %d are possible", rank, RANK_MAX);
        return false;
    }
    for (uint32_t i = 0; i < rank; i++) {
        dim[i] = want != NULL ? want[i] : shape_runtime_dim(m, n, 0, i, 0, INT64_MAX);
        if (dim_hi(cx, dim[i]) >= 0) continue;
        diag(cx, SEV_ERROR, n->loc, "shape[%u] is negative", i);
        return false;
    }
    shape_out(m, n, 0, d, rank, dim);
    if (!dtype_is_int(d) || rank > 1 || (rank == 1 && (!dim_is_const(cx, dim[0]) || dim_value(cx, dim[0]) > 64))) return true;
    Dim all[64];
    uint32_t count = rank == 0 ? 1 : (uint32_t)dim_value(cx, dim[0]);
    Value v = {.type = value->tensor.type, .data = value->tensor.data};
    for (uint32_t i = 0; i < count; i++) all[i] = dim_const(cx, value->present ? const_i64(&v, 0) : 0);
    shape_set_sym(m, n->out[0], count, all);
    return true;
}

static Dim range_size_integer(Module *m, const Dim *start, const Dim *limit, const Dim *delta) {
    Context *cx = m->cx;
    if (!dim_is_const(cx, delta[0]) || dim_value(cx, delta[0]) == 0) return 0;
    int64_t step = dim_value(cx, delta[0]);
    Dim span = step > 0 ? dim_sub(cx, limit[0], start[0]) : dim_sub(cx, start[0], limit[0]);
    if (step == INT64_MIN) return 0;
    Dim count = step == 1 ? span : dim_ceildiv(cx, span, dim_const(cx, step > 0 ? step : -step));
    return dim_max(cx, count, dim_const(cx, 0));
}

/* Operand i as an integer, also where it is one that was cast to float: Range(0.0, Cast(width), 1.0). */
static const Dim *integer_operand(Module *m, const Node *n, uint32_t i, uint32_t *count) {
    const Value *v = n->in[i];
    const Dim *d = value_dims(m, v, count);
    if (d != NULL) return d;
    if (v->def != NULL && v->def->op == OP_Cast) return value_dims(m, v->def->in[0], count);
    if (v->data == NULL || !dtype_is_float(v->type->dtype) || const_f64(v, 0) != (double)(int32_t)const_f64(v, 0)) return NULL;
    Dim *own = ARENA_NEW(&m->cx->arena, Dim);
    *own = dim_const(m->cx, (int32_t)const_f64(v, 0));
    *count = 1;
    return own;
}

bool shape_range(Module *m, Node *n) {
    Context *cx = m->cx;
    const Type *t = shape_in(m, n, 0);
    if (t == NULL || shape_in(m, n, 1) == NULL || shape_in(m, n, 2) == NULL) return false;
    uint32_t count[3];
    const Dim *v[3];
    bool constant = value_is_const(n->in[0]) && value_is_const(n->in[1]) && value_is_const(n->in[2]);
    for (uint32_t i = 0; i < 3; i++) v[i] = constant && dtype_is_float(t->dtype) ? NULL : integer_operand(m, n, i, &count[i]);
    Dim size = 0;
    if (v[0] != NULL && v[1] != NULL && v[2] != NULL) {
        size = range_size_integer(m, v[0], v[1], v[2]);
    } else if (dtype_is_float(t->dtype) && constant) {
        double c = ceil((const_f64(n->in[1], 0) - const_f64(n->in[0], 0)) / const_f64(n->in[2], 0));
        if (c < 0x1p40) size = dim_const(cx, c > 0 ? (int64_t)c : 0);
    }
    if (size == 0) size = shape_runtime_dim(m, n, 0, 0, 0, INT64_MAX);
    shape_out(m, n, 0, t->dtype, 1, &size);
    if (dtype_is_float(t->dtype) || v[0] == NULL || v[2] == NULL || !dim_is_const(cx, size) || dim_value(cx, size) > 64) return true;
    Dim all[64];
    for (int64_t i = 0; i < dim_value(cx, size); i++) all[i] = dim_add(cx, v[0][0], dim_mul(cx, v[2][0], dim_const(cx, i)));
    shape_set_sym(m, n->out[0], (uint32_t)dim_value(cx, size), all);
    return true;
}

bool shape_eye_like(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    DType d = t->dtype;
    if (t->rank != 2) {
        diag(m->cx, SEV_ERROR, n->loc, "the input has %u dimensions, 2 are needed", t->rank);
        return false;
    }
    if (attr_has(n, AT_EyeLike_dtype) && !output_dtype(m, n, attr_i(n, AT_EyeLike_dtype), &d)) return false;
    shape_out(m, n, 0, d, 2, t->dim);
    return true;
}

bool shape_window(Module *m, Node *n) {
    DType d;
    AttrSlot slot = n->op == OP_HannWindow ? AT_HannWindow_output_datatype : n->op == OP_HammingWindow ? AT_HammingWindow_output_datatype : AT_BlackmanWindow_output_datatype;
    if (shape_in(m, n, 0) == NULL || !output_dtype(m, n, attr_i(n, slot), &d)) return false;
    uint32_t count;
    const Dim *size = value_dims(m, n->in[0], &count);
    Dim dim = size != NULL ? size[0] : shape_runtime_dim(m, n, 0, 0, 0, INT64_MAX);
    shape_out(m, n, 0, d, 1, &dim);
    return true;
}

bool shape_mel_weight_matrix(Module *m, Node *n) {
    Context *cx = m->cx;
    DType d;
    if (!output_dtype(m, n, attr_i(n, AT_MelWeightMatrix_output_datatype), &d)) return false;
    uint32_t count;
    const Dim *bins = value_dims(m, n->in[0], &count), *length = value_dims(m, n->in[1], &count);
    Dim dim[2];
    dim[0] = length != NULL ? dim_add(cx, dim_floordiv(cx, length[0], dim_const(cx, 2)), dim_const(cx, 1)) : shape_runtime_dim(m, n, 0, 0, 0, INT64_MAX);
    dim[1] = bins != NULL ? bins[0] : shape_runtime_dim(m, n, 0, 1, 0, INT64_MAX);
    shape_out(m, n, 0, d, 2, dim);
    return true;
}

/* ---- random ------------------------------------------------------------------------------------------------------ */
bool shape_random(Module *m, Node *n) { /* the shape is an attribute */
    bool normal = n->op == OP_RandomNormal;
    const Attr *shape = attr_at(n, normal ? AT_RandomNormal_shape : AT_RandomUniform_shape);
    DType d;
    Dim dim[RANK_MAX];
    if (!output_dtype(m, n, attr_i(n, normal ? AT_RandomNormal_dtype : AT_RandomUniform_dtype), &d)) return false;
    for (uint32_t i = 0; i < shape->ints.n; i++) {
        if (i >= RANK_MAX || shape->ints.v[i] < 0) {
            diag(m->cx, SEV_ERROR, n->loc, "shape[%u] is not a size, or one of more than %d", i, RANK_MAX);
            return false;
        }
        dim[i] = dim_const(m->cx, shape->ints.v[i]);
    }
    shape_out(m, n, 0, d, shape->ints.n, dim);
    return true;
}

bool shape_random_like(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    AttrSlot slot = n->op == OP_RandomNormalLike ? AT_RandomNormalLike_dtype : n->op == OP_RandomUniformLike ? AT_RandomUniformLike_dtype : AT_Bernoulli_dtype;
    DType d = t->dtype;
    if (attr_has(n, slot) && !output_dtype(m, n, attr_i(n, slot), &d)) return false;
    shape_out(m, n, 0, d, t->rank, t->dim);
    return true;
}

bool shape_multinomial(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    DType d;
    if (t == NULL || !output_dtype(m, n, attr_i(n, AT_Multinomial_dtype), &d)) return false;
    if (t->rank != 2) {
        diag(m->cx, SEV_ERROR, n->loc, "the input has %u dimensions, 2 are needed", t->rank);
        return false;
    }
    shape_out(m, n, 0, d, 2, (Dim[]){t->dim[0], dim_const(m->cx, attr_i(n, AT_Multinomial_sample_size))});
    return true;
}
