/* Types of pointwise operators: numpy broadcasting of all inputs, and the element type each operator gives.
 *
 *     Add(f32[N,1,4], f32[3,4]) -> f32[N,3,4]      Less(i64[2], i64[2]) -> bool[2]
 *
 * Integer vectors also keep their contents as symbolic dims where the operator is arithmetic: shape computations
 * (Shape, Gather, Mul, Concat, Reshape) stay known although nothing is constant. */
#include "ir/shape/shape.h"

/* ---- symbolic contents ------------------------------------------------------------------------------------------- */
static Dim truth(Context *cx, bool b) { return dim_const(cx, b); }

static Dim compare(Context *cx, Op op, Dim a, Dim b) { /* 0: not known */
    int64_t alo = dim_lo(cx, a), ahi = dim_hi(cx, a), blo = dim_lo(cx, b), bhi = dim_hi(cx, b);
    switch (op) {
    case OP_Equal: return a == b ? truth(cx, true) : ahi < blo || bhi < alo || (dim_is_const(cx, a) && dim_is_const(cx, b)) ? truth(cx, false) : 0;
    case OP_Less: return ahi < blo ? truth(cx, true) : alo >= bhi || a == b ? truth(cx, false) : 0;
    case OP_LessOrEqual: return ahi <= blo || a == b ? truth(cx, true) : alo > bhi ? truth(cx, false) : 0;
    case OP_Greater: return compare(cx, OP_Less, b, a);
    case OP_GreaterOrEqual: return compare(cx, OP_LessOrEqual, b, a);
    default: return 0;
    }
}

static Dim arithmetic(Context *cx, const Node *n, Dim a, Dim b) { /* b is 0 for one operand; 0: not known */
    bool positive = b != 0 && dim_lo(cx, b) > 0;
    switch ((Op)n->op) {
    case OP_Identity: case OP_Cast: case OP_CastLike: return a;
    case OP_Abs: case OP_Relu: return dim_lo(cx, a) >= 0 ? a : dim_hi(cx, a) <= 0 && n->op == OP_Relu ? dim_const(cx, 0) : 0;
    case OP_Neg: return dim_sub(cx, dim_const(cx, 0), a);
    case OP_Add: case OP_Sum: return b == 0 ? a : dim_add(cx, a, b);
    case OP_Sub: return dim_sub(cx, a, b);
    case OP_Mul: return dim_mul(cx, a, b);
    case OP_Div: return positive && dim_lo(cx, a) >= 0 ? dim_floordiv(cx, a, b) : 0;
    case OP_Mod: return positive && (attr_i(n, AT_Mod_fmod) == 0 || dim_lo(cx, a) >= 0) ? dim_mod(cx, a, b) : 0;
    case OP_Min: return b == 0 ? a : dim_min(cx, a, b);
    case OP_Max: return b == 0 ? a : dim_max(cx, a, b);
    case OP_Not: return dim_is_const(cx, a) ? truth(cx, dim_value(cx, a) == 0) : 0;
    case OP_And: return dim_is_const(cx, a) && dim_is_const(cx, b) ? truth(cx, dim_value(cx, a) != 0 && dim_value(cx, b) != 0) : 0;
    case OP_Or: return dim_is_const(cx, a) && dim_is_const(cx, b) ? truth(cx, dim_value(cx, a) != 0 || dim_value(cx, b) != 0) : 0;
    default: return b != 0 ? compare(cx, (Op)n->op, a, b) : 0;
    }
}

static void fold_symbols(Module *m, Node *n) {
    Context *cx = m->cx;
    const Type *t = n->out[0] != NULL ? n->out[0]->type : NULL;
    if (t == NULL || t->rank > 1 || n->n_in > 3 || (!dtype_is_int(t->dtype) && t->dtype != DT_BOOL)) return;
    const Dim *in[3];
    uint32_t count[3], total = 0;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (i == 1 && n->op == OP_CastLike) break; /* its values do not matter */
        in[i] = value_dims(m, n->in[i], &count[i]);
        if (in[i] == NULL) return;
        if (count[i] != 1 || i == 0) total = count[i] > total || count[i] == 0 ? count[i] : total;
    }
    uint32_t used = n->op == OP_CastLike ? 1 : n->n_in;
    Dim *out = ARENA_ARRAY(&cx->scratch, Dim, total);
    for (uint32_t k = 0; k < total; k++) {
        Dim e[3] = {0};
        for (uint32_t i = 0; i < used; i++) {
            if (count[i] != 1 && count[i] != total) return;
            e[i] = in[i][count[i] == 1 ? 0 : k];
        }
        if (n->op == OP_Where) out[k] = dim_is_const(cx, e[0]) ? (dim_value(cx, e[0]) != 0 ? e[1] : e[2]) : e[1] == e[2] ? e[1] : 0;
        else if (used < 3) out[k] = arithmetic(cx, n, e[0], e[1]);
        if (out[k] == 0) return;
    }
    shape_set_sym(m, n->out[0], total, out);
}

/* ---- rules ------------------------------------------------------------------------------------------------------- */
static bool broadcast_all(Module *m, Node *n, uint32_t first, uint32_t count, uint32_t *rank, Dim *dim) {
    const Type *t = shape_in(m, n, first);
    if (t == NULL) return false;
    *rank = t->rank;
    if (t->rank != 0) memcpy(dim, t->dim, t->rank * sizeof *dim);
    for (uint32_t i = first + 1; i < first + count; i++) {
        if (n->in[i] == NULL) continue;
        const Type *b = shape_in(m, n, i);
        if (b == NULL) return false;
        Dim joined[RANK_MAX];
        Type so_far = {.rank = (uint8_t)*rank, .dim = dim};
        if (!shape_broadcast(m, n, &so_far, b, rank, joined)) return false;
        memcpy(dim, joined, *rank * sizeof *dim);
    }
    return true;
}

static bool same_dtypes(Module *m, Node *n, uint32_t first, uint32_t count) {
    const Type *t = n->in[first]->type;
    for (uint32_t i = first + 1; i < first + count; i++) {
        if (n->in[i] == NULL || n->in[i]->type->dtype == t->dtype) continue;
        diag(m->cx, SEV_ERROR, n->loc, "input %u is %s, input %u is %s: they must be the same", i, dtype_text(n->in[i]->type->dtype), first, dtype_text(t->dtype));
        return false;
    }
    return true;
}

/* All inputs broadcast; the element type is the first input's. */
bool shape_pointwise(Module *m, Node *n) {
    uint32_t rank;
    Dim dim[RANK_MAX];
    if (!broadcast_all(m, n, 0, n->n_in, &rank, dim) || !same_dtypes(m, n, 0, n->n_in)) return false;
    shape_out(m, n, 0, n->in[0]->type->dtype, rank, dim);
    fold_symbols(m, n);
    return true;
}

/* Input 0 decides everything; further inputs are parameters (slope, bounds, bias). */
bool shape_identity(Module *m, Node *n) { /* of sequences and optionals, too */
    const Type *t = n->in[0] != NULL ? n->in[0]->type : NULL;
    if (t == NULL || t->kind == TYPE_TENSOR) return shape_same(m, n);
    n->out[0]->type = t;
    return true;
}

bool shape_same(Module *m, Node *n) {
    const Type *any = n->in[0] != NULL ? n->in[0]->type : NULL;
    if (n->op == OP_Identity && any != NULL && any->kind != TYPE_TENSOR) { /* sequences and optionals pass through */
        if (n->out[0] != NULL) n->out[0]->type = any;
        return true;
    }
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    shape_out(m, n, 0, t->dtype, t->rank, t->dim);
    if (n->n_in == 1) fold_symbols(m, n);
    return true;
}

bool shape_pow(Module *m, Node *n) { /* the exponent may have another type */
    uint32_t rank;
    Dim dim[RANK_MAX];
    if (!broadcast_all(m, n, 0, 2, &rank, dim)) return false;
    shape_out(m, n, 0, n->in[0]->type->dtype, rank, dim);
    return true;
}

bool shape_compare(Module *m, Node *n) {
    uint32_t rank;
    Dim dim[RANK_MAX];
    if (!broadcast_all(m, n, 0, n->n_in, &rank, dim) || !same_dtypes(m, n, 0, n->n_in)) return false;
    shape_out(m, n, 0, DT_BOOL, rank, dim);
    fold_symbols(m, n);
    return true;
}

bool shape_where(Module *m, Node *n) {
    uint32_t rank;
    Dim dim[RANK_MAX];
    if (!broadcast_all(m, n, 0, 3, &rank, dim) || !same_dtypes(m, n, 1, 2)) return false;
    shape_out(m, n, 0, n->in[1]->type->dtype, rank, dim);
    fold_symbols(m, n);
    return true;
}

static bool known_dtype(Module *m, Node *n, int64_t onnx, DType *d) {
    *d = onnx >= 0 && onnx <= INT32_MAX ? dtype_from_onnx((int32_t)onnx) : DT_NONE;
    if (*d != DT_NONE) return true;
    diag(m->cx, SEV_ERROR, n->loc, "%lld is not the number of an element type", (long long)onnx);
    return false;
}

bool shape_cast(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    DType d = DT_NONE;
    if (t == NULL) return false;
    if (n->op == OP_CastLike) {
        const Type *like = shape_in(m, n, 1);
        if (like == NULL) return false;
        d = like->dtype;
    } else if (!known_dtype(m, n, attr_i(n, AT_Cast_to), &d)) {
        return false;
    }
    if (d == DT_STRING && dtype_class(t->dtype) == 'C') {
        diag(m->cx, SEV_ERROR, n->loc, "a conversion of %s to strings is not supported", dtype_text(t->dtype));
        return false;
    }
    shape_out(m, n, 0, d, t->rank, t->dim);
    if (d == DT_I64 || d == DT_I32) fold_symbols(m, n);
    return true;
}

bool shape_parse_numbers(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    DType d;
    if (t == NULL || !known_dtype(m, n, attr_i(n, AT_ParseNumbers_to), &d)) return false;
    shape_out(m, n, 0, d, t->rank, t->dim);
    return true;
}

bool shape_format_numbers(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    shape_out(m, n, 0, DT_STRING, t->rank, t->dim);
    return true;
}

bool shape_bit_cast(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    DType d;
    if (t == NULL || !known_dtype(m, n, attr_i(n, AT_BitCast_to), &d)) return false;
    if (dtype_bits(d) != dtype_bits(t->dtype)) {
        diag(m->cx, SEV_ERROR, n->loc, "%s has %u bits, %s has %u: they must be the same", dtype_text(t->dtype), dtype_bits(t->dtype), dtype_text(d), dtype_bits(d));
        return false;
    }
    shape_out(m, n, 0, d, t->rank, t->dim);
    return true;
}

bool shape_dropout(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    shape_out(m, n, 0, t->dtype, t->rank, t->dim);
    shape_out(m, n, 1, DT_BOOL, t->rank, t->dim);
    return true;
}

/* ---- quantization ------------------------------------------------------------------------------------------------ */
/* Scale or zero point, input i: one element, one per element of the axis, or one per block of it. */
static bool quantization_fits(Module *m, Node *n, uint32_t i) {
    Context *cx = m->cx;
    if (!shape_has_in(n, i)) return true;
    const Type *t = shape_in(m, n, 0), *p = shape_in(m, n, i);
    if (t == NULL || p == NULL) return false;
    Dim count = type_numel(cx, p);
    if (dim_is_const(cx, count) && dim_value(cx, count) == 1) return true;
    bool blocked = (n->op == OP_QuantizeLinear || n->op == OP_DequantizeLinear) && attr_i(n, attr_named(n, "block_size")) > 0;
    int64_t axis = attr_has(n, attr_named(n, "axis")) ? attr_i(n, attr_named(n, "axis")) : 1, block = blocked ? attr_i(n, attr_named(n, "block_size")) : 1;
    axis = axis < 0 ? axis + t->rank : axis;
    if (axis < 0 || axis >= t->rank) axis = 0;
    if (t->rank == 0 || (p->rank != t->rank && (p->rank != 1 || blocked))) {
        diag(cx, SEV_ERROR, n->loc, "input %u has rank %u, the data has rank %u: one number, one per element of the axis, or one per block is needed", i, p->rank, t->rank);
        return false;
    }
    if (p->rank == 1 && !blocked) return shape_unify(m, n, p->dim[0], t->dim[axis], "parameters along the axis") != 0;
    for (uint32_t k = 0; k < t->rank; k++) {
        if (k == axis && !blocked) continue; /* blocks of equal size */
        Dim want = k == axis ? dim_ceildiv(cx, t->dim[k], dim_const(cx, block)) : t->dim[k];
        if (shape_unify(m, n, p->dim[k], want, "parameters and data") == 0) return false;
    }
    return dim_lo(cx, p->dim[axis]) > 0 || blocked;
}

bool shape_quantize(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0), *scale = shape_in(m, n, 1);
    if (t == NULL || scale == NULL || !quantization_fits(m, n, 1) || !quantization_fits(m, n, 2)) return false;
    DType d = DT_U8;
    if (n->n_in > 2 && n->in[2] != NULL) d = n->in[2]->type->dtype;
    else if (n->op == OP_QuantizeLinear && attr_i(n, AT_QuantizeLinear_output_dtype) != 0 && !known_dtype(m, n, attr_i(n, AT_QuantizeLinear_output_dtype), &d)) return false;
    shape_out(m, n, 0, d, t->rank, t->dim);
    return true;
}

bool shape_dequantize(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0), *scale = shape_in(m, n, 1);
    if (t == NULL || scale == NULL || !quantization_fits(m, n, 1) || !quantization_fits(m, n, 2)) return false;
    DType d = scale->dtype;
    if (n->op == OP_DequantizeLinear && attr_i(n, AT_DequantizeLinear_output_dtype) != 0 && !known_dtype(m, n, attr_i(n, AT_DequantizeLinear_output_dtype), &d)) return false;
    shape_out(m, n, 0, d, t->rank, t->dim);
    return true;
}

bool shape_dynamic_quantize(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    shape_out(m, n, 0, DT_U8, t->rank, t->dim);
    shape_out(m, n, 1, DT_F32, 0, NULL);
    shape_out(m, n, 2, DT_U8, 0, NULL);
    return true;
}

/* a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero */
bool shape_qlinear_binary(Module *m, Node *n) {
    const Type *a = shape_in(m, n, 0), *b = shape_in(m, n, 3);
    uint32_t rank;
    Dim dim[RANK_MAX];
    if (a == NULL || b == NULL || !shape_broadcast(m, n, a, b, &rank, dim)) return false;
    shape_out(m, n, 0, a->dtype, rank, dim);
    return true;
}

/* condition, x, x_scale, x_zero, y, y_scale, y_zero, z_scale, z_zero */
bool shape_qlinear_where(Module *m, Node *n) {
    const Type *c = shape_in(m, n, 0), *x = shape_in(m, n, 1), *y = shape_in(m, n, 4);
    uint32_t rank;
    Dim dim[RANK_MAX], all[RANK_MAX];
    if (c == NULL || x == NULL || y == NULL || !shape_broadcast(m, n, x, y, &rank, dim)) return false;
    if (!shape_broadcast(m, n, &(Type){.rank = (uint8_t)rank, .dim = dim}, c, &rank, all)) return false;
    shape_out(m, n, 0, x->dtype, rank, all);
    return true;
}

bool shape_bias_split_gelu(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < t->rank; i++) dim[i] = t->dim[i];
    if (t->rank == 0) {
        diag(m->cx, SEV_ERROR, n->loc, "input 0 is a scalar, at least one dimension is needed");
        return false;
    }
    dim[t->rank - 1] = dim_floordiv(m->cx, dim[t->rank - 1], dim_const(m->cx, 2));
    shape_out(m, n, 0, t->dtype, t->rank, dim);
    return true;
}

/* MurmurHash3: a 32-bit hash per element. */
bool shape_murmur_hash(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    if (t->dtype != DT_STRING && dtype_bits(t->dtype) != 32 && (dtype_bits(t->dtype) != 64 || dtype_class(t->dtype) == 'C')) {
        diag(m->cx, SEV_ERROR, n->loc, "strings and numbers of 32 or 64 bits are hashed");
        return false;
    }
    shape_out(m, n, 0, attr_i(n, AT_MurmurHash3_positive) != 0 ? DT_U32 : DT_I32, t->rank, t->dim);
    return true;
}
