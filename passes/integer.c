/* integer: quantized operators computed on integers.
 *
 *     %a = DequantizeLinear(%x, %sx, %zx)                  %i = IntegerConv(%x, %w, %zx, %zw, %b) {to = f32}
 *     %v = DequantizeLinear(%w, %sw, %zw)                  %y = Mul(%i, sx * sw / sy)
 *     %c = Conv(%a, %v, DequantizeLinear(%b))       ->     %r = Relu(%y)
 *     %r = Relu(%c)                                        %q = QuantizeLinear(%r, 1, %zy)
 *     %q = QuantizeLinear(%r, %sy, %zy)
 *
 * Fusion makes one kernel of that: the exact integer sum, one multiplication, rounding. The rules:
 *   - contractions of dequantized operands, QLinearConv, QLinearMatMul, ConvInteger, MatMulInteger become IntegerConv and
 *     IntegerMatMul with what is left of the scales behind them;
 *   - MatMulNBits, and products with weights that are dequantized, become BlockMatMul, which reads the codes;
 *   - the division by the scale of a QuantizeLinear goes into constant factors before it;
 *   - a Relu or Clip before it goes when rounding to bytes clips as much;
 *   - QuantizeLinear goes before what only moves or picks elements, so that those work on bytes;
 *   - dequantizing and quantizing again with the same parameters is nothing; quantizing and dequantizing again before
 *     an addition becomes rounding and clipping, so that the addition joins the contraction that made the operand.
 *
 * It runs before constants are folded: folding would turn weights into floats. */
#include <math.h>

#include "passes/fold.h"
#include "passes/lower/operand.h"
#include "passes/pass.h"
#include "passes/rewrite.h"
#include "passes/rules.h"
#include "passes/simplify/simplify.h"

/* ---- looking at nodes ------------------------------------------------------------------------------------------------------ */
static bool is_byte(const Value *v) { return v->type != NULL && v->type->kind == TYPE_TENSOR && (v->type->dtype == DT_U8 || v->type->dtype == DT_I8); }

static bool is_f32(const Value *v) { return v->type != NULL && v->type->kind == TYPE_TENSOR && v->type->dtype == DT_F32; }

static bool has_rank(const Value *v) { return v->type != NULL && v->type->kind == TYPE_TENSOR && v->type->rank != RANK_UNKNOWN; }

static Value *input(const Node *n, uint32_t i) { return i < n->n_in ? n->in[i] : NULL; }

static bool one_element(Rewriter *r, const Value *v) {
    Dim n = has_rank(v) ? type_numel(r->cx, v->type) : 0;
    return n != 0 && dim_is_const(r->cx, n) && dim_value(r->cx, n) == 1;
}

static bool constant_scalar(Rewriter *r, const Value *v) { return v == NULL || (v->data != NULL && one_element(r, v)); }

/* A constant vector of n elements, or of one. */
static bool per_index(Rewriter *r, const Value *v, int64_t n) {
    if (v->data == NULL || !has_rank(v) || v->type->rank > 1) return false;
    Dim have = type_numel(r->cx, v->type);
    return dim_is_const(r->cx, have) && (dim_value(r->cx, have) == 1 || dim_value(r->cx, have) == n);
}

/* v as bytes times one scale: its DequantizeLinear. */
static Node *bytes_of(Rewriter *r, const Value *v) {
    Node *d = rw_def(r, v, OP_DequantizeLinear);
    if (d == NULL) d = rw_def(r, v, OP_Ms_DequantizeLinear);
    if (d == NULL || !is_byte(d->in[0]) || !has_rank(d->in[0]) || !is_f32(d->in[1]) || !is_f32(d->out[0])) return NULL;
    if (!one_element(r, d->in[1]) || (input(d, 2) != NULL && !one_element(r, d->in[2]))) return NULL;
    return d;
}

/* Constants of 4 or 2 bits as bytes; others as they are. */
static Value *widened(Rewriter *r, Value *v) {
    if (v == NULL || v->data == NULL || v->type->kind != TYPE_TENSOR) return v;
    DType t = v->type->dtype, to = t == DT_I4 || t == DT_I2 ? DT_I8 : DT_U8;
    if (t != DT_I4 && t != DT_U4 && t != DT_I2 && t != DT_U2) return v;
    int64_t n = dim_value(r->cx, type_numel(r->cx, v->type));
    uint8_t *bytes = ARENA_ARRAY(&r->cx->arena, uint8_t, n);
    for (int64_t i = 0; i < n; i++) bytes[i] = (uint8_t)const_i64(v, i);
    return value_const(r->m, type_tensor(r->cx, to, v->type->rank, v->type->dim), bytes, true);
}

/* Weights that the graph rounds are rounded now, those of few bits become bytes; d is what dequantizes them. */
static void become_bytes(Rewriter *r, Node *d) {
    if (attr_i(d, AT_DequantizeLinear_block_size) != 0) return;
    Node *q = rw_def(r, d->in[0], OP_QuantizeLinear);
    if (q != NULL && q->in[0]->data != NULL) fold_node(r->m, q);
    d->in[0] = widened(r, d->in[0]);
    if (d->n_in > 2) d->in[2] = widened(r, d->in[2]);
}

/* v as constant bytes times a scale, or one per index of `axis`: its DequantizeLinear. */
static Node *weights_of(Rewriter *r, const Value *v, int64_t axis) {
    Node *d = rw_def(r, v, OP_DequantizeLinear);
    if (d != NULL) become_bytes(r, d);
    if (d == NULL || !is_byte(d->in[0]) || d->in[0]->data == NULL || !is_f32(d->in[1]) || d->in[1]->data == NULL || !is_f32(d->out[0])) return NULL;
    const Value *zero = input(d, 2);
    if (zero != NULL && (zero->data == NULL || zero->type->dtype != d->in[0]->type->dtype)) return NULL;
    if (one_element(r, d->in[1])) return zero == NULL || one_element(r, zero) ? d : NULL;
    int64_t own = attr_i(d, AT_DequantizeLinear_axis);
    if (own < 0) own += d->in[0]->type->rank;
    if (own != axis || axis >= d->in[0]->type->rank || attr_i(d, AT_DequantizeLinear_block_size) != 0 || d->in[1]->type->rank != 1) return NULL;
    int64_t n = dim_value(r->cx, d->in[0]->type->dim[axis]);
    return per_index(r, d->in[1], n) && (zero == NULL || per_index(r, zero, n)) ? d : NULL;
}

/* ---- contractions --------------------------------------------------------------------------------------------------------- */
/* A scale or bias per channel as it broadcasts against a result whose channels are dimension 1 of `rank` (at_end: the last). */
static Value *per_channel(Rewriter *r, Node *at, Value *v, uint32_t rank, bool at_end) {
    if (one_element(r, v)) return v->type->rank == 0 ? v : rw_reshape(r, at, v, 0, NULL);
    if (at_end) return v;
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i + 1 < rank; i++) dim[i] = i == 0 ? v->type->dim[v->type->rank - 1] : dim_const(r->cx, 1);
    return rw_reshape(r, at, v, rank - 1, dim);
}

/* The integers of a bias that is quantized with the product of the operands' scales; NULL when it is not. */
static Value *integer_bias(Rewriter *r, const Value *bias, const Value *product) {
    Node *d = rw_def(r, bias, OP_DequantizeLinear);
    if (d == NULL || product->data == NULL || d->in[0]->data == NULL || d->in[0]->type->dtype != DT_I32 || d->in[0]->type->rank != 1 || d->in[1]->data == NULL) return NULL;
    if (!is_f32(d->in[1]) || (input(d, 2) != NULL && !rw_is(r->cx, d->in[2], 0))) return NULL;
    if (!per_index(r, d->in[1], dim_value(r->cx, d->in[0]->type->dim[0])) || !per_index(r, product, dim_value(r->cx, d->in[0]->type->dim[0]))) return NULL;
    int64_t n = dim_value(r->cx, d->in[0]->type->dim[0]), own = (int64_t)(d->in[1]->data->bytes / 4), scales = (int64_t)(product->data->bytes / 4);
    for (int64_t i = 0; i < n; i++) {
        double have = const_f64(d->in[1], own == 1 ? 0 : i), want = const_f64(product, scales == 1 ? 0 : i);
        if (!(fabs(have - want) <= 1e-5 * fabs(want))) return NULL;
    }
    return d->in[0];
}

typedef struct Operands { /* what a contraction is made of; zero points may be NULL */
    Op op;               /* IntegerConv or IntegerMatMul */
    const Node *like;    /* a convolution: whose attributes to take */
    Value *x, *w, *zero_x, *zero_w, *bias; /* bias: i32 or NULL */
    DType to;
} Operands;

static Value *integer_node(Rewriter *r, Node *at, const Operands *o) {
    Node *n = rw_node(r, at, o->op, 5, (Value *[]){o->x, o->w, o->zero_x, o->zero_w, o->bias});
    for (uint32_t i = 0; o->like != NULL && i < o->like->n_attr; i++) {
        AttrSlot slot = attr_named(n, attr_info((AttrSlot)(op_info(o->like->op)->attr_first + i))->name);
        if (slot != AT_COUNT) *attr_at(n, slot) = o->like->attr[i];
    }
    attr_set_i(n, attr_named(n, "to"), dtype_to_onnx(o->to));
    return rw_value(r, n);
}

/* The contraction times `scale` (one, or per channel), plus a bias in floats, which may be NULL. */
static Value *scaled_contraction(Rewriter *r, Node *at, const Operands *o, Value *scale, Value *bias) {
    bool at_end = o->op == OP_IntegerMatMul;
    Value *sum = integer_node(r, at, o);
    uint32_t rank = sum->type->rank;
    Value *y = rw_build2(r, at, OP_Mul, sum, per_channel(r, at, scale, rank, at_end));
    return bias != NULL ? rw_build2(r, at, OP_Add, y, per_channel(r, at, bias, rank, at_end)) : y;
}

/* A contraction n in floats of dequantized operands. */
static bool from_floats(Rewriter *r, Node *n, const Node *x, Operands *o, Value *scale_w, Value *bias) {
    Value *scale = rw_build2(r, n, OP_Mul, x->in[1], scale_w), *whole = bias != NULL ? integer_bias(r, bias, scale) : NULL;
    o->x = x->in[0];
    o->zero_x = input(x, 2);
    o->bias = whole;
    o->to = DT_F32;
    return rw_replace(r, n, scaled_contraction(r, n, o, scale, whole != NULL ? NULL : bias));
}

static bool float_conv(Rewriter *r, Node *n) {
    Node *x = bytes_of(r, n->in[0]), *w = x != NULL ? weights_of(r, n->in[1], 0) : NULL;
    if (w == NULL || !is_f32(n->out[0])) return false;
    Operands o = {.op = OP_IntegerConv, .like = n, .w = w->in[0], .zero_w = input(w, 2)};
    return from_floats(r, n, x, &o, w->in[1], input(n, 2));
}

/* The weights of a matrix product, [K, N] with scales along N, from w or the transpose of w. */
static bool matrix_weights(Rewriter *r, Node *n, const Value *v, bool transposed, Operands *o, Value **scale) {
    Node *t = rw_def(r, v, OP_Transpose);
    if (t != NULL && v->type->rank == 2) {
        const Attr *perm = attr_at(t, AT_Transpose_perm);
        if (perm->present && (perm->ints.n != 2 || perm->ints.v[0] != 1)) return false;
        transposed = !transposed;
        v = t->in[0];
    }
    if (!has_rank(v) || v->type->rank != 2) return false;
    Node *w = weights_of(r, v, transposed ? 0 : 1);
    if (w == NULL) return false;
    o->w = transposed ? rw_build1(r, n, OP_Transpose, w->in[0]) : w->in[0];
    o->zero_w = input(w, 2);
    *scale = w->in[1];
    return o->w->data != NULL;
}

static bool float_matmul(Rewriter *r, Node *n) {
    Node *x = bytes_of(r, n->in[0]);
    Operands o = {.op = OP_IntegerMatMul};
    Value *scale;
    if (x == NULL || x->in[0]->type->rank < 2 || !matrix_weights(r, n, n->in[1], false, &o, &scale)) return false;
    return from_floats(r, n, x, &o, scale, NULL);
}

static bool float_gemm(Rewriter *r, Node *n) {
    Node *x = bytes_of(r, n->in[0]);
    Operands o = {.op = OP_IntegerMatMul};
    Value *scale, *c = input(n, 2);
    if (x == NULL || attr_i(n, AT_Gemm_transA) != 0 || attr_f(n, AT_Gemm_alpha) != 1 || (c != NULL && (attr_f(n, AT_Gemm_beta) != 1 || !has_rank(c)))) return false;
    if (!matrix_weights(r, n, n->in[1], attr_i(n, AT_Gemm_transB) != 0, &o, &scale)) return false;
    return from_floats(r, n, x, &o, scale, c);
}

/* Scales and zero points of the QLinear operators: x scale, x zero, …; y scale in `scale_y`, y zero behind it. */
static bool quantized_result(Rewriter *r, Node *n, Operands *o, uint32_t w) {
    Value *scale_x = n->in[1], *scale_w = n->in[w + 1], *scale_y = n->in[w + 3], *zero_y = n->in[w + 4];
    if (!one_element(r, scale_x) || !one_element(r, scale_y) || !one_element(r, zero_y) || scale_w->type->rank > 1) return false;
    if (n->in[2] != NULL && !one_element(r, n->in[2])) return false;
    if (!is_byte(n->in[0]) || !is_byte(n->in[w]) || !is_byte(n->out[0]) || n->in[w]->data == NULL || scale_w->data == NULL || !is_f32(scale_x)) return false;
    o->x = n->in[0], o->w = n->in[w], o->zero_x = n->in[2], o->zero_w = n->in[w + 2], o->to = DT_F32;
    int64_t rows = dim_value(r->cx, o->w->type->dim[o->op == OP_IntegerConv ? 0 : o->w->type->rank - 1]);
    if (!per_index(r, scale_w, rows) || (o->zero_w != NULL && !per_index(r, o->zero_w, rows))) return false;
    Value *scale = rw_build2(r, n, OP_Div, rw_build2(r, n, OP_Mul, scale_x, scale_w), scale_y);
    Value *y = scaled_contraction(r, n, o, scale, NULL);
    return rw_replace(r, n, rw_value(r, rw_node(r, n, OP_QuantizeLinear, 3, (Value *[]){y, value_const_scalar(r->m, DT_F32, 1), per_channel(r, n, zero_y, 1, true)})));
}

static bool qlinear_conv(Rewriter *r, Node *n) {
    Operands o = {.op = OP_IntegerConv, .like = n, .bias = input(n, 8)};
    return quantized_result(r, n, &o, 3);
}

static bool qlinear_matmul(Rewriter *r, Node *n) {
    Operands o = {.op = OP_IntegerMatMul};
    return n->in[3]->type->rank == 2 && n->in[0]->type->rank >= 2 && quantized_result(r, n, &o, 3);
}

/* ConvInteger and MatMulInteger with constant weights; the result stays i32. */
static bool plain_integer(Rewriter *r, Node *n, Operands o) {
    o.x = n->in[0], o.w = n->in[1], o.zero_x = input(n, 2), o.zero_w = input(n, 3), o.to = DT_I32;
    if (!is_byte(o.x) || !is_byte(o.w) || o.w->data == NULL || !has_rank(o.x)) return false;
    int64_t rows = o.w->type->rank == 0 ? 1 : dim_value(r->cx, o.w->type->dim[o.op == OP_IntegerConv ? 0 : o.w->type->rank - 1]);
    if ((o.zero_x != NULL && !one_element(r, o.zero_x)) || (o.zero_w != NULL && !per_index(r, o.zero_w, rows))) return false;
    return rw_replace(r, n, integer_node(r, n, &o));
}

static bool conv_integer(Rewriter *r, Node *n) { return plain_integer(r, n, (Operands){.op = OP_IntegerConv, .like = n}); }

static bool matmul_integer(Rewriter *r, Node *n) {
    return has_rank(n->in[1]) && n->in[1]->type->rank == 2 && has_rank(n->in[0]) && n->in[0]->type->rank >= 2 && plain_integer(r, n, (Operands){.op = OP_IntegerMatMul});
}

static bool is_integer(const Node *n) { return n != NULL && (n->op == OP_IntegerConv || n->op == OP_IntegerMatMul); }

/* A contraction cast to f32 rounds as it does itself with `to`. */
static bool cast_of_integer(Rewriter *r, Node *n) {
    Node *c = rw_def(r, n->in[0], OP_IntegerMatMul);
    if (c == NULL) c = rw_def(r, n->in[0], OP_IntegerConv);
    if (c == NULL || !rw_single(r, n->in[0]) || n->in[0]->type->dtype != DT_I32 || !is_f32(n->out[0])) return false;
    Node *made = rw_copy(r, n, c, c->n_in, c->in);
    attr_set_i(made, attr_named(made, "to"), dtype_to_onnx(DT_F32));
    return rw_replace(r, n, rw_value(r, made));
}

/* ---- weights only ----------------------------------------------------------------------------------------------------------- */
static bool group_fits(int64_t group, int64_t k) { return group >= 16 && group % 16 == 0 && group <= 1 << 20 && k > 0; }

static Value *matrix(Rewriter *r, DType t, int64_t rows, int64_t columns, const void *data) {
    Dim dim[2] = {dim_const(r->cx, rows), dim_const(r->cx, columns)};
    return value_const(r->m, type_tensor(r->cx, t, 2, dim), data, true);
}

static Value *block_matmul(Rewriter *r, Node *at, Value *x, Value *codes, Value *scales, Value *zeros, int64_t bits, int64_t group, bool integers) {
    Node *n = rw_node(r, at, OP_BlockMatMul, 4, (Value *[]){x, codes, scales, zeros});
    attr_set_i(n, AT_BlockMatMul_bits, bits);
    attr_set_i(n, AT_BlockMatMul_group, group);
    attr_set_i(n, AT_BlockMatMul_integers, integers);
    return rw_value(r, n);
}

static bool has_bytes(const Value *v, int64_t n) { return v != NULL && v->data != NULL && v->data->bytes >= (size_t)n; }

/* Codes of `bits` bits, n of them in each of `rows` rows of row_bytes bytes, one byte each. */
static uint8_t *unpacked(Rewriter *r, const uint8_t *from, int64_t rows, int64_t row_bytes, int64_t n, int64_t bits) {
    uint8_t *to = ARENA_ARRAY(&r->cx->arena, uint8_t, rows * n + 1);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < n; k++) to[i * n + k] = bits == 8 ? from[i * row_bytes + k] : (uint8_t)(from[i * row_bytes + k / 2] >> (k % 2 * 4) & 15);
    return to;
}

static bool matmul_nbits(Rewriter *r, Node *n) {
    int64_t k = attr_i(n, AT_MatMulNBits_K), rows = attr_i(n, AT_MatMulNBits_N), bits = attr_i(n, AT_MatMulNBits_bits), group = attr_i(n, AT_MatMulNBits_block_size);
    if ((bits != 4 && bits != 8) || !group_fits(group, k) || rows < 1 || k > 1 << 24 || rows > 1 << 24 || attr_i(n, AT_MatMulNBits_weight_prepacked) != 0) return false;
    int64_t groups = (k + group - 1) / group, zero_bytes = (groups * bits + 7) / 8, row_bytes = groups * group * bits / 8;
    const Value *packed_zeros = input(n, 3);
    if (!is_f32(n->in[0]) || n->in[0]->type->rank < 1 || input(n, 4) != NULL || !is_byte(n->in[1]) || !is_f32(n->in[2])) return false;
    if (!has_bytes(n->in[1], rows * row_bytes) || !has_bytes(n->in[2], rows * groups * 4)) return false;
    if (packed_zeros != NULL && (!is_byte(packed_zeros) || !has_bytes(packed_zeros, rows * zero_bytes))) return false;
    uint8_t *codes = unpacked(r, n->in[1]->data->data, rows, row_bytes, k, bits), *zeros;
    if (packed_zeros != NULL) zeros = unpacked(r, packed_zeros->data->data, rows, zero_bytes, groups, bits);
    else memset(zeros = ARENA_ARRAY(&r->cx->arena, uint8_t, rows * groups), 1 << (bits - 1), (size_t)(rows * groups));
    Value *y = block_matmul(r, n, n->in[0], matrix(r, DT_U8, rows, k, codes), matrix(r, DT_F32, rows, groups, n->in[2]->data->data), matrix(r, DT_U8, rows, groups, zeros), bits, group,
                            attr_i(n, AT_MatMulNBits_accuracy_level) == 4);
    if (input(n, 5) != NULL) y = rw_build2(r, n, OP_Add, y, n->in[5]);
    return rw_replace(r, n, y);
}

/* A product of floats with dequantized constant weights [K, N]: of 4 or 8 bits, with scales per column or per block of a column. */
static bool dequantized_weights(Rewriter *r, Node *n) {
    Node *d = rw_def(r, n->in[1], OP_DequantizeLinear);
    if (d == NULL || !is_f32(n->in[0]) || n->in[0]->data != NULL || n->in[0]->type->rank < 2 || d->in[0]->data == NULL || d->in[1]->data == NULL || d->in[0]->type->rank != 2) return false;
    DType t = d->in[0]->type->dtype;
    const Value *zero = input(d, 2);
    bool four = t == DT_U4 || t == DT_I4, is_signed = t == DT_I8 || t == DT_I4;
    if ((!four && t != DT_U8 && t != DT_I8) || !is_f32(d->in[1]) || (zero != NULL && (zero->data == NULL || zero->type->dtype != t))) return false;
    int64_t k = dim_value(r->cx, d->in[0]->type->dim[0]), columns = dim_value(r->cx, d->in[0]->type->dim[1]), block = attr_i(d, AT_DequantizeLinear_block_size), axis = attr_i(d, AT_DequantizeLinear_axis);
    if (axis < 0) axis += 2;
    bool blocked = block > 0 && axis == 0 && d->in[1]->type->rank == 2, per_column = block == 0 && axis == 1 && d->in[1]->type->rank == 1, one = one_element(r, d->in[1]);
    if ((!blocked && !per_column && !one) || k < 1 || columns < 1 || k * columns > INT64_C(1) << 32) return false;
    if (per_column && !per_index(r, d->in[1], columns)) return false;
    if (blocked && (d->in[1]->data->bytes != (size_t)(((k + block - 1) / block) * columns) * 4)) return false;
    if (zero != NULL && type_numel(r->cx, zero->type) != type_numel(r->cx, d->in[1]->type)) return false;
    int64_t group = blocked ? block : (k + 15) / 16 * 16, groups = (k + group - 1) / group, offset = is_signed ? (four ? 8 : 128) : 0;
    if (!group_fits(group, k)) return false;
    uint8_t *codes = ARENA_ARRAY(&r->cx->arena, uint8_t, columns * k), *zeros = ARENA_ARRAY(&r->cx->arena, uint8_t, columns * groups);
    float *scales = ARENA_ARRAY(&r->cx->arena, float, columns * groups);
    for (int64_t j = 0; j < columns; j++) {
        for (int64_t i = 0; i < k; i++) codes[j * k + i] = (uint8_t)(const_i64(d->in[0], i * columns + j) + offset);
        for (int64_t g = 0; g < groups; g++) {
            int64_t at = one ? 0 : per_column ? j : g * columns + j;
            scales[j * groups + g] = (float)const_f64(d->in[1], at);
            zeros[j * groups + g] = (uint8_t)((zero != NULL ? const_i64(zero, at) : 0) + offset);
        }
    }
    return rw_replace(r, n, block_matmul(r, n, n->in[0], matrix(r, DT_U8, columns, k, codes), matrix(r, DT_F32, columns, groups, scales), matrix(r, DT_U8, columns, groups, zeros), four ? 4 : 8, group, false));
}

/* ---- scales ------------------------------------------------------------------------------------------------------------------ */
enum { DEEPEST = 12 };

/* Steps of a contraction, as an addition that joins it has them. */
static bool rounded(Rewriter *r, const Value *v) {
    Node *c = rw_def(r, v, OP_Clip);
    return c != NULL && rw_def(r, c->in[0], OP_Round) != NULL;
}

/* Can v be divided by a constant by dividing constants it is made of? `joins`: and is there a contraction in it? */
static bool divisible(Rewriter *r, Value *v, uint32_t depth, bool *joins) {
    if (!is_f32(v) || depth > DEEPEST) return false;
    if (v->data != NULL) return true;
    Node *d = v->def;
    if (d == NULL || !rw_single(r, v)) return false;
    d = rw_def(r, v, (Op)d->op); /* inputs up to date */
    switch ((int)d->op) {
    case OP_Mul:
        *joins |= is_integer(d->in[0]->def) || rounded(r, d->in[0]);
        return (d->in[0]->data != NULL && is_f32(d->in[0])) || (d->in[1]->data != NULL && is_f32(d->in[1]));
    case OP_Add: return divisible(r, d->in[0], depth + 1, joins) && divisible(r, d->in[1], depth + 1, joins);
    case OP_Relu: case OP_LeakyRelu: return divisible(r, d->in[0], depth + 1, joins);
    case OP_Clip: return constant_scalar(r, input(d, 1)) && constant_scalar(r, input(d, 2)) && divisible(r, d->in[0], depth + 1, joins);
    case OP_DequantizeLinear: return bytes_of(r, v) != NULL && d->in[1]->data != NULL;
    default: return false;
    }
}

static Value *divided(Rewriter *r, Node *at, Value *v, Value *by) {
    if (v->data != NULL) return rw_build2(r, at, OP_Div, v, by);
    Node *d = rw_def(r, v, (Op)v->def->op);
    switch ((int)d->op) {
    case OP_Mul: {
        uint32_t c = d->in[1]->data != NULL ? 1 : 0;
        return rw_build2(r, at, OP_Mul, d->in[1 - c], rw_build2(r, at, OP_Div, d->in[c], by));
    }
    case OP_Add: return rw_build2(r, at, OP_Add, divided(r, at, d->in[0], by), divided(r, at, d->in[1], by));
    case OP_DequantizeLinear:
        return rw_value(r, rw_copy(r, at, d, 3, (Value *[]){d->in[0], rw_build2(r, at, OP_Div, d->in[1], by), input(d, 2)}));
    case OP_Clip: {
        Value *low = input(d, 1), *high = input(d, 2);
        return rw_value(r, rw_copy(r, at, d, 3, (Value *[]){divided(r, at, d->in[0], by), low != NULL ? rw_build2(r, at, OP_Div, low, by) : NULL, high != NULL ? rw_build2(r, at, OP_Div, high, by) : NULL}));
    }
    default: return rw_value(r, rw_copy(r, at, d, 1, (Value *[]){divided(r, at, d->in[0], by)}));
    }
}

/* A QuantizeLinear to bytes with constant parameters for the whole tensor. */
static bool plain_quantize(Rewriter *r, const Node *n) {
    return is_byte(n->out[0]) && is_f32(n->in[0]) && has_rank(n->in[0]) && is_f32(n->in[1]) && constant_scalar(r, n->in[1]) && constant_scalar(r, input(n, 2));
}

static Value *quantized(Rewriter *r, Node *at, const Node *like, Value *x, Value *scale) {
    return rw_value(r, rw_copy(r, at, like, 3, (Value *[]){x, scale != NULL ? scale : like->in[1], input(like, 2)}));
}

static bool divide_by_scale(Rewriter *r, Node *n) {
    bool joins = false;
    if (!plain_quantize(r, n) || rw_is(r->cx, n->in[1], 1) || n->in[0]->data != NULL || !divisible(r, n->in[0], 0, &joins) || !joins) return false;
    Value *by = n->in[1]->type->rank == 0 ? n->in[1] : rw_reshape(r, n, n->in[1], 0, NULL);
    return rw_replace(r, n, quantized(r, n, n, divided(r, n, n->in[0], by), value_const_scalar(r->m, DT_F32, 1)));
}

/* The step that a constant x becomes (NaN: none); everything below (above) it becomes no higher (lower) one, as rounding is monotonic. */
static double step_of(const Node *q, double x) {
    double scale = const_f64(q->in[1], 0), zero = input(q, 2) != NULL ? const_f64(q->in[2], 0) : 0, low, high;
    quantize_range(q->out[0]->type->dtype, &low, &high);
    return isnan(x) ? x : fmin(fmax(rint((double)((float)x / (float)scale)) + zero, low), high);
}

/* Does a QuantizeLinear clip whatever a Relu or Clip d before it clips? */
static bool clips_more(Rewriter *r, const Node *q, const Node *d) {
    double low, high;
    quantize_range(q->out[0]->type->dtype, &low, &high);
    if (d->op == OP_Relu) return step_of(q, 0) == low;
    const Value *least = input(d, 1), *most = input(d, 2);
    if (!constant_scalar(r, least) || !constant_scalar(r, most)) return false;
    return (least == NULL || step_of(q, const_f64(least, 0)) == low) && (most == NULL || step_of(q, const_f64(most, 0)) == high);
}

static bool drop_clip(Rewriter *r, Node *n) {
    if (!plain_quantize(r, n) || n->in[0]->data != NULL || !(const_f64(n->in[1], 0) > 0)) return false;
    Node *d = rw_def(r, n->in[0], OP_Relu);
    if (d == NULL) d = rw_def(r, n->in[0], OP_Clip);
    return d != NULL && clips_more(r, n, d) && rw_replace(r, n, quantized(r, n, n, d->in[0], NULL));
}

/* Results of arithmetic that rounds anyway are multiplied with the inverse of the scale; what was given is divided, exactly. */
static bool invert_scale(Rewriter *r, Node *n) {
    if (!plain_quantize(r, n) || rw_is(r->cx, n->in[1], 1) || n->in[0]->def == NULL || !rw_single(r, n->in[0])) return false;
    Op op = (Op)n->in[0]->def->op;
    if (op != OP_Mul && op != OP_Div && op != OP_Add && op != OP_Sub && op != OP_Erf && op != OP_Sigmoid && op != OP_Tanh && op != OP_Gelu && op != OP_Softmax && op != OP_LayerNormalization &&
        op != OP_AveragePool && op != OP_GlobalAveragePool && op != OP_ReduceMean && op != OP_HardSwish)
        return false;
    float scale = (float)const_f64(n->in[1], 0), inverse = 1 / scale;
    if (!isnormal(scale) || !isnormal(inverse)) return false;
    Value *x = rw_build2(r, n, OP_Mul, n->in[0], value_const_scalar(r->m, DT_F32, (double)inverse));
    return rw_replace(r, n, quantized(r, n, n, x, value_const_scalar(r->m, DT_F32, 1)));
}

/* ---- bytes through what only moves elements --------------------------------------------------------------------------------- */
static bool same_parameters(Rewriter *r, const Node *q, const Node *d) {
    (void)r;
    const Value *zq = input(q, 2), *zd = input(d, 2);
    if (q->in[1]->data == NULL || d->in[1]->data == NULL || const_f64(q->in[1], 0) != const_f64(d->in[1], 0)) return false;
    int64_t a = zq == NULL ? 0 : zq->data != NULL ? const_i64(zq, 0) : -1, b = zd == NULL ? 0 : zd->data != NULL ? const_i64(zd, 0) : -2;
    return a == b;
}

static bool quantize_back(Rewriter *r, Node *n) {
    if (!plain_quantize(r, n)) return false;
    Node *d = bytes_of(r, n->in[0]);
    return d != NULL && d->in[0]->type->dtype == n->out[0]->type->dtype && same_parameters(r, n, d) && rw_replace(r, n, d->in[0]);
}

static bool moves(const Node *n) {
    if (n->n_out != 1 && n->op != OP_MaxPool) return false;
    switch ((int)n->op) {
    case OP_MaxPool: return n->n_out < 2 || n->out[1] == NULL;
    case OP_Transpose: case OP_Slice: case OP_Identity: return true;
    default: return op_is_reshape(n->op);
    }
}

static bool quantize_first(Rewriter *r, Node *n) {
    if (!plain_quantize(r, n) || n->in[0]->def == NULL || !rw_single(r, n->in[0])) return false;
    Node *d = rw_def(r, n->in[0], (Op)n->in[0]->def->op);
    if (d->op == OP_Concat) {
        Value **in = ARENA_ARRAY(&r->cx->scratch, Value *, d->n_in);
        for (uint32_t i = 0; i < d->n_in; i++) in[i] = quantized(r, n, n, d->in[i], NULL);
        return rw_replace(r, n, rw_value(r, rw_copy(r, n, d, d->n_in, in)));
    }
    if (!moves(d)) return false;
    Value **in = ARENA_ARRAY(&r->cx->scratch, Value *, d->n_in);
    for (uint32_t i = 0; i < d->n_in; i++) in[i] = d->in[i];
    in[0] = quantized(r, n, n, d->in[0], NULL);
    return rw_replace(r, n, rw_value(r, rw_copy(r, n, d, d->n_in, in)));
}

/* ---- additions join contractions ----------------------------------------------------------------------------------------------- */
/* The QuantizeLinear behind a DequantizeLinear that undoes it, nobody else reading between, of a contraction. */
static Node *rounding_of(Rewriter *r, Value *v) {
    Node *d = bytes_of(r, v), *q = d != NULL && rw_single(r, v) ? rw_def(r, d->in[0], OP_QuantizeLinear) : NULL;
    bool joins = false;
    if (q == NULL || !rw_single(r, d->in[0]) || !plain_quantize(r, q) || !same_parameters(r, q, d)) return NULL;
    return divisible(r, q->in[0], 0, &joins) && joins ? q : NULL;
}

static bool add_joins(Rewriter *r, Node *n) {
    if (bytes_of(r, n->in[0]) == NULL || bytes_of(r, n->in[1]) == NULL || !type_same_dims(n->in[0]->type, n->in[1]->type)) return false;
    uint32_t k = 0;
    Node *q = rounding_of(r, n->in[0]);
    if (q == NULL) q = rounding_of(r, n->in[k = 1]);
    if (q == NULL) return false;
    bool is_signed = q->out[0]->type->dtype == DT_I8;
    double zero = input(q, 2) != NULL ? const_f64(q->in[2], 0) : 0;
    Value *by = q->in[1]->type->rank == 0 ? q->in[1] : rw_reshape(r, n, q->in[1], 0, NULL);
    Value *steps = rw_build1(r, n, OP_Round, divided(r, n, q->in[0], by));
    Node *clip = rw_node(r, n, OP_Clip, 3, (Value *[]){steps, value_const_scalar(r->m, DT_F32, (is_signed ? -128 : 0) - zero), value_const_scalar(r->m, DT_F32, (is_signed ? 127 : 255) - zero)});
    Value *again = rw_build2(r, n, OP_Mul, rw_value(r, clip), by);
    return rw_replace(r, n, rw_build2(r, n, OP_Add, k == 0 ? again : n->in[0], k == 0 ? n->in[1] : again));
}

static const Rule rules[] = {
    {OP_Conv, float_conv}, {OP_MatMul, float_matmul}, {OP_MatMul, dequantized_weights}, {OP_MatMulNBits, matmul_nbits}, {OP_Gemm, float_gemm}, {OP_QLinearConv, qlinear_conv}, {OP_QLinearMatMul, qlinear_matmul},
    {OP_ConvInteger, conv_integer}, {OP_MatMulInteger, matmul_integer}, {OP_Cast, cast_of_integer}, {OP_QuantizeLinear, quantize_back},
    {OP_QuantizeLinear, quantize_first}, {OP_Add, add_joins},
};
static const Rule scale_rules[] = {{OP_QuantizeLinear, divide_by_scale}, {OP_QuantizeLinear, drop_clip}, {OP_QuantizeLinear, invert_scale}};

/* Experts are taken apart before the rules run, so that their weights stay packed. */
static bool expand_quantized_experts(Module *m) {
    bool changed = false;
    Graphs all = module_graphs(m);
    for (uint32_t i = 0; i < all.n; i++) {
        FOR_NODES(n, all.v[i]) {
            Value *y = NULL;
            if (n->op != OP_QMoE || n->out[0] == NULL || n->out[0]->type == NULL || n->out[0]->poison || !expand_qmoe(m, n, &y)) continue;
            node_forward_output(m, n, 0, y);
            node_remove(n);
            changed = true;
        }
    }
    return changed;
}

bool pass_integer(Context *cx, Module *m) {
    bool changed = expand_quantized_experts(m);
    if (cx->n_error != 0) return changed;
    changed |= rewrite_module(m, rules, sizeof rules / sizeof *rules);
    return changed && (rewrite_module(m, scale_rules, sizeof scale_rules / sizeof *scale_rules), true);
}
