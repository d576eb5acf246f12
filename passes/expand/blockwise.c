/* Weights in blocks of few bits, each block with a scale of its own (com.microsoft): MatMulNBits, MatMulBnb4 and
 * GatherBlockQuantized as DequantizeLinear and the plain operator.
 *
 *     MatMulNBits(a, b, scales, zeros) {K, N, bits = 4}   ->   w = DequantizeLinear(b as u4[N,K], scales [N,K/block], zeros)
 *                                                              MatMul(a, Transpose(w))
 *
 * Constant weights of 4 and 2 bits become tensors of that type, the same bytes. */
#include "passes/expand/build.h"
#include "passes/rules.h"

enum { SIZE_LIMIT = 1 << 24 }; /* of K, N, blocks */

static DType packed_type(int64_t bits) { return bits == 2 ? DT_U2 : bits == 4 ? DT_U4 : bits == 8 ? DT_U8 : DT_NONE; }

Value *expand_unpacked(Module *m, Node *n, Value *v, int64_t rows, int64_t bytes, int64_t bits) {
    int64_t each = 8 / bits;
    if (v->data != NULL && v->data->bytes == (size_t)(rows * bytes)) {
        Dim dim[2] = {dim_const(m->cx, rows), dim_const(m->cx, bytes * each)};
        return value_const(m, type_tensor(m->cx, packed_type(bits), 2, dim), v->data->data, true);
    }
    Value *flat = expand_reshape(m, n, v, 3, (int64_t[]){rows, bytes, 1});
    if (each == 1 || flat == NULL) return flat != NULL ? expand_reshape(m, n, flat, 2, (int64_t[]){rows, bytes}) : NULL;
    uint8_t shift[4];
    for (int64_t i = 0; i < each; i++) shift[i] = (uint8_t)(i * bits);
    Dim count = dim_const(m->cx, each);
    Node *shifted = expand_node(m, n, OP_BitShift, 2, (Value *[]){flat, value_const(m, type_tensor(m->cx, DT_U8, 1, &count), shift, false)}, 1);
    attr_set_s(shifted, AT_BitShift_direction, str_intern(m->cx, "RIGHT"));
    Value *all = expand_result(m, shifted), *mask = value_const_scalar(m, DT_U8, (double)((1 << bits) - 1));
    return all != NULL ? expand_reshape(m, n, build2(m, n, OP_BitwiseAnd, all, mask), 2, (int64_t[]){rows, bytes * each}) : NULL;
}

/* v as a tensor of the element type `like`; packed constants stay packed where they can. */
static Value *as_type(Module *m, Node *n, Value *v, DType t) { return v != NULL ? expand_cast(m, n, v, t) : NULL; }

/* Zero points [N, blocks] of any form as numbers of w's type (integers) or of the scales' type (reals). */
static Value *zero_points(Module *m, Node *n, Value *zero, Value *w, int64_t rows, int64_t blocks, int64_t bits) {
    DType t = w->type->dtype;
    if (zero == NULL) {
        Value *one = value_const_scalar(m, t, (double)(1 << (bits - 1)));
        return build2(m, n, OP_Expand, one, value_const_i64(m, 2, (int64_t[]){rows, blocks}));
    }
    if (dtype_is_float(zero->type->dtype)) return expand_reshape(m, n, zero, 2, (int64_t[]){rows, blocks});
    int64_t bytes = (blocks * bits + 7) / 8;
    Value *all = expand_unpacked(m, n, zero, rows, bytes, bits);
    if (all == NULL) return NULL;
    if (bytes * 8 / bits != blocks) all = expand_slice(m, n, as_type(m, n, all, DT_U8), 0, blocks, 1);
    return as_type(m, n, all, t);
}

/* Weights w [N, K] from numbers, scales and zero points by block; the group of each column, if it is given. */
static Value *dequantized(Module *m, Node *n, Value *w, Value *scale, Value *zero, Value *group, int64_t block) {
    if (w == NULL || scale == NULL || zero == NULL) return NULL;
    if (group == NULL && zero->type->dtype == w->type->dtype) {
        Node *d = expand_node(m, n, OP_DequantizeLinear, 3, (Value *[]){w, scale, zero}, 1);
        attr_set_i(d, AT_DequantizeLinear_axis, 1);
        attr_set_i(d, AT_DequantizeLinear_block_size, block);
        return expand_result(m, d);
    }
    DType t = scale->type->dtype;
    Value *columns = group; /* the block of each column */
    if (columns == NULL) {
        int64_t k = dim_value(m->cx, w->type->dim[1]), *index = ARENA_ARRAY(&m->cx->arena, int64_t, (size_t)k);
        for (int64_t i = 0; i < k; i++) index[i] = i / block;
        columns = value_const_i64(m, (uint32_t)k, index);
    }
    Value *s = expand_gather(m, n, scale, columns, 1), *z = expand_gather(m, n, as_type(m, n, zero, t), columns, 1);
    if (s == NULL || z == NULL) return NULL;
    return build2(m, n, OP_Mul, build2(m, n, OP_Sub, as_type(m, n, w, t), z), s);
}

bool expand_matmul_nbits(Module *m, Node *n, Value **out) {
    int64_t k = attr_i(n, AT_MatMulNBits_K), rows = attr_i(n, AT_MatMulNBits_N), bits = attr_i(n, AT_MatMulNBits_bits), block = attr_i(n, AT_MatMulNBits_block_size);
    if (packed_type(bits) == DT_NONE) return expand_fail(m, n, "bits must be 2, 4 or 8");
    if (k < 1 || rows < 1 || block < 1 || k > SIZE_LIMIT || rows > SIZE_LIMIT || block > SIZE_LIMIT || block * bits % 8 != 0) return expand_fail(m, n, "K, N or block_size is not possible");
    if (attr_i(n, AT_MatMulNBits_weight_prepacked) != 0) return expand_fail(m, n, "weight_prepacked: the packed forms of other programs are not read");
    int64_t blocks = (k + block - 1) / block, padded = blocks * block;
    DType t = n->in[0]->type->dtype;
    Value *w = expand_unpacked(m, n, n->in[1], rows, padded * bits / 8, bits);
    Value *scale = as_type(m, n, expand_reshape(m, n, n->in[2], 2, (int64_t[]){rows, blocks}), t);
    Value *zero = w != NULL ? zero_points(m, n, expand_input(n, 3), w, rows, blocks, bits) : NULL, *group = expand_input(n, 4);
    if (w != NULL && padded != k) w = expand_slice(m, n, group != NULL ? as_type(m, n, w, DT_U8) : w, 0, k, 1);
    if (group != NULL && type_numel(m->cx, group->type) != dim_const(m->cx, k)) group = expand_slice(m, n, group, 0, k, 0);
    w = dequantized(m, n, w, scale, zero, group, block);
    if (w == NULL) return false;
    Value *y = build2(m, n, OP_MatMul, n->in[0], expand_transpose(m, n, w, 2, (int64_t[]){1, 0}));
    if (y != NULL && expand_input(n, 5) != NULL) y = build2(m, n, OP_Add, y, n->in[5]);
    out[0] = y;
    return y != NULL;
}

/* Codes of 4 bits, high half of a byte first, look up a number between -1 and 1; blocks of the flat weights have a largest
 * absolute value each. */
bool expand_matmul_bnb4(Module *m, Node *n, Value **out) {
    static const double fp4[16] = {0, 5.208333333e-03, 0.66666667, 1, 0.33333333, 0.5, 0.16666667, 0.25, 0, -5.208333333e-03, -0.66666667, -1, -0.33333333, -0.5, -0.16666667, -0.25};
    static const double nf4[16] = {-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0,
                                   0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1};
    int64_t k = attr_i(n, AT_MatMulBnb4_K), rows = attr_i(n, AT_MatMulBnb4_N), block = attr_i(n, AT_MatMulBnb4_block_size), type = attr_i(n, AT_MatMulBnb4_quant_type);
    if (k < 1 || rows < 1 || block < 1 || k > SIZE_LIMIT || rows > SIZE_LIMIT || block > SIZE_LIMIT || type < 0 || type > 1) return expand_fail(m, n, "K, N, block_size or quant_type is not possible");
    int64_t count = k * rows, blocks = (count + block - 1) / block, missing = blocks * block - count;
    DType t = n->in[0]->type->dtype;
    Value *flat = expand_reshape(m, n, n->in[1], 2, (int64_t[]){(count + 1) / 2, 1});
    Node *high = flat != NULL ? expand_node(m, n, OP_BitShift, 2, (Value *[]){flat, value_const_scalar(m, DT_U8, 4)}, 1) : NULL;
    if (high == NULL) return false;
    attr_set_s(high, AT_BitShift_direction, str_intern(m->cx, "RIGHT"));
    Value *low = build2(m, n, OP_BitwiseAnd, flat, value_const_scalar(m, DT_U8, 15));
    Value *codes = expand_reshape(m, n, expand_concat(m, n, 2, (Value *[]){expand_result(m, high), low}, 1), 1, (int64_t[]){-1});
    if (codes == NULL) return false;
    if (count % 2 != 0) codes = expand_slice(m, n, codes, 0, count, 0);
    if (missing != 0) codes = build2(m, n, OP_Pad, codes, value_const_i64(m, 2, (int64_t[]){0, missing}));
    codes = expand_reshape(m, n, expand_cast(m, n, codes, DT_I32), 2, (int64_t[]){blocks, block});
    Value *table = expand_cast(m, n, expand_floats(m, 1, (int64_t[]){16}, type == 0 ? fp4 : nf4, DT_F32), t);
    Value *w = codes != NULL ? expand_gather(m, n, table, codes, 0) : NULL, *most = expand_reshape(m, n, n->in[2], 2, (int64_t[]){blocks, 1});
    if (w == NULL || most == NULL) return false;
    w = build2(m, n, OP_Mul, w, expand_cast(m, n, most, t));
    if (missing != 0) w = expand_slice(m, n, expand_reshape(m, n, w, 1, (int64_t[]){-1}), 0, count, 0);
    bool transposed = attr_i(n, AT_MatMulBnb4_transB) != 0;
    w = expand_reshape(m, n, w, 2, transposed ? (int64_t[]){rows, k} : (int64_t[]){k, rows});
    if (transposed && w != NULL) w = expand_transpose(m, n, w, 2, (int64_t[]){1, 0});
    out[0] = w != NULL ? build2(m, n, OP_MatMul, n->in[0], w) : NULL;
    return out[0] != NULL;
}

/* ---- GatherBlockQuantized ---------------------------------------------------------------------------------------- */
typedef struct Table { /* data and what it is quantized with, one element each; zero may be NULL */
    Value *data, *scale, *zero;
    int64_t axis, along, block, bits;
} Table;

/* Bytes with numbers of `bits` bits along the last axis: one number to an element, and the zero points too. */
static bool unpack_table(Module *m, Node *n, Table *t) {
    int64_t rank = t->data->type->rank, shape[RANK_MAX], rows = 1;
    if (packed_type(t->bits) == DT_NONE || t->along != rank - 1 || t->axis == rank - 1) return expand_fail(m, n, "packed data must be quantized along the last axis and gathered along another one");
    for (int64_t i = 0; i < rank; i++) {
        if (!dim_is_const(m->cx, t->data->type->dim[i])) return expand_fail(m, n, "packed data must have sizes known at compile time");
        shape[i] = dim_value(m->cx, t->data->type->dim[i]);
        if (i + 1 < rank) rows *= shape[i];
    }
    Value *w = expand_unpacked(m, n, t->data, rows, shape[rank - 1], t->bits);
    shape[rank - 1] = shape[rank - 1] * 8 / t->bits;
    int64_t blocks = (shape[rank - 1] + t->block - 1) / t->block, zero_bytes = (blocks * t->bits + 7) / 8;
    t->data = w != NULL ? expand_reshape(m, n, w, (uint32_t)rank, shape) : NULL;
    if (t->data == NULL) return false;
    if (t->zero == NULL) {
        t->zero = build2(m, n, OP_Expand, value_const_scalar(m, t->data->type->dtype, (double)(1 << (t->bits - 1))), build1(m, n, OP_Shape, t->scale));
        return t->zero != NULL;
    }
    Value *z = expand_unpacked(m, n, t->zero, rows, zero_bytes, t->bits);
    if (z != NULL && zero_bytes * 8 / t->bits != blocks) z = expand_slice(m, n, as_type(m, n, z, DT_U8), 0, blocks, 1);
    shape[rank - 1] = blocks;
    t->zero = z != NULL ? as_type(m, n, expand_reshape(m, n, z, (uint32_t)rank, shape), t->data->type->dtype) : NULL;
    return t->zero != NULL;
}

/* Which indices are in range along the axis, and indices that are, 0 for the others. */
static bool checked_indices(Module *m, Node *n, const Table *t, Value **index, Value **inside) {
    Value *i = expand_cast(m, n, *index, DT_I64), *size = expand_gather(m, n, build1(m, n, OP_Shape, t->data), value_const_scalar(m, DT_I64, (double)t->axis), 0);
    if (i == NULL || size == NULL) return false;
    Value *from = build2(m, n, OP_GreaterOrEqual, i, build1(m, n, OP_Neg, size)), *to = build2(m, n, OP_Less, i, size);
    *inside = build2(m, n, OP_And, from, to);
    *index = build3(m, n, OP_Where, *inside, i, value_const_scalar(m, DT_I64, 0));
    return *index != NULL;
}

/* s, in blocks along one axis, with the sizes of w along all others. */
static Value *broadcast_scale(Module *m, Node *n, Value *s, Value *w, int64_t along) {
    Value *sizes = build1(m, n, OP_Shape, w), *own = build1(m, n, OP_Shape, s);
    if (sizes == NULL || own == NULL) return NULL;
    Value *part[3] = {expand_slice(m, n, sizes, 0, along, 0), expand_slice(m, n, own, along, along + 1, 0), expand_slice(m, n, sizes, along + 1, w->type->rank, 0)};
    return build2(m, n, OP_Expand, s, expand_concat(m, n, 3, part, 0));
}

static bool is_one(Module *m, const Value *v, int64_t axis) { return dim_is_const(m->cx, v->type->dim[axis]) && dim_value(m->cx, v->type->dim[axis]) == 1; }

/* The rows of t at the indices, as reals. A scale of one element along an axis (floats of 8 and 4 bits) is for all of it. */
static Value *gathered_rows(Module *m, Node *n, const Table *t, Value *index) {
    bool one = is_one(m, t->scale, t->axis), whole = is_one(m, t->scale, t->along), shared = false;
    for (uint32_t i = 0; i < t->data->type->rank; i++) shared |= i != t->axis && i != t->along && is_one(m, t->scale, i) && !is_one(m, t->data, i);
    Value *w = expand_gather(m, n, t->data, index, t->axis), *s = t->scale, *z = t->zero;
    if (one) index = build2(m, n, OP_Mul, index, value_const_scalar(m, DT_I64, 0));
    s = expand_gather(m, n, s, index, t->axis);
    if (z != NULL) z = expand_gather(m, n, z, index, t->axis);
    int64_t along = t->along > t->axis ? t->along + (int64_t)index->type->rank - 1 : t->along;
    if (w == NULL || s == NULL) return NULL;
    if (shared && !whole) s = broadcast_scale(m, n, s, w, along);
    if (whole) { /* one block: it broadcasts */
        w = expand_cast(m, n, w, s->type->dtype);
        if (z != NULL) w = build2(m, n, OP_Sub, w, expand_cast(m, n, z, s->type->dtype));
        return build2(m, n, OP_Mul, w, s);
    }
    Node *d = expand_node(m, n, OP_DequantizeLinear, z != NULL ? 3 : 2, (Value *[]){w, s, z}, 1);
    attr_set_i(d, AT_DequantizeLinear_axis, along);
    attr_set_i(d, AT_DequantizeLinear_block_size, t->block);
    return expand_result(m, d);
}

/* data, indices, scales, zero points: rows are gathered first, then only they are dequantized; rows out of range are 0. */
bool expand_gather_block_quantized(Module *m, Node *n, Value **out) {
    Table t = {n->in[0], n->in[2], expand_input(n, 3), attr_i(n, AT_GatherBlockQuantized_gather_axis), attr_i(n, AT_GatherBlockQuantized_quantize_axis),
               attr_i(n, AT_GatherBlockQuantized_block_size), attr_i(n, AT_GatherBlockQuantized_bits)};
    int64_t rank = t.data->type->rank;
    bool small_float = dtype_is_float(t.data->type->dtype);
    t.axis = t.axis < 0 ? t.axis + rank : t.axis;
    t.along = t.along < 0 ? t.along + rank : t.along;
    if (t.scale->type->rank != rank || t.axis < 0 || t.axis >= rank || t.along < 0 || t.along >= rank) return expand_fail(m, n, "gather_axis, quantize_axis or the rank of scales does not fit");
    if (t.block < 1 && small_float && dim_is_const(m->cx, t.data->type->dim[t.along])) t.block = dim_value(m->cx, t.data->type->dim[t.along]);
    if (t.block < 1) return expand_fail(m, n, "block_size must be positive");
    if (t.axis == t.along) return expand_fail(m, n, "data must not be gathered along the axis that is quantized in blocks");
    if (t.data->type->dtype == DT_U8 && t.bits < 8) {
        if (!unpack_table(m, n, &t)) return false;
    } else if (t.zero == NULL && t.data->type->dtype == DT_U8) { /* bytes are around 128 */
        t.zero = build2(m, n, OP_Expand, value_const_scalar(m, DT_U8, 128), build1(m, n, OP_Shape, t.scale));
    }
    Value *index = n->in[1], *inside;
    if (!checked_indices(m, n, &t, &index, &inside)) return false;
    Value *y = gathered_rows(m, n, &t, index);
    for (int64_t i = t.axis + 1; inside != NULL && i < rank; i++) inside = build2(m, n, OP_Unsqueeze, inside, value_const_i64(m, 1, (int64_t[]){-1}));
    out[0] = y != NULL && inside != NULL ? build3(m, n, OP_Where, inside, y, value_const_scalar(m, y->type->dtype, 0)) : NULL;
    return out[0] != NULL;
}
