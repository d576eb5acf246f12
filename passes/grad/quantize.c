/* Straight-through gradients of fake quantization, and of the numbers an integer tensor stands for.
 *
 *     q = QuantizeLinear(x, s, z)                     c = Clip(x, (low - z) * s, (high - z) * s)
 *     y = DequantizeLinear(q, s, z)          ->       y = StraightThrough(DequantizeLinear(StopGradient(q), s, z), c)
 *
 * StraightThrough has the value of its first operand and the gradient goes to its second: rounding is passed as if it were not there, and
 * nothing flows where the value was saturated. Integers of a file (frozen weights) get no gradient. */
#include "passes/grad/grad.h"
#include "passes/lower/operand.h"
#include "passes/rules.h"

bool grad_straight_through(Grad *g) { /* StraightThrough */
    g->dx[1] = g->dy[0];
    return true;
}

/* A scale or zero point that broadcasts over x; NULL for one per block. */
static Value *spread(Grad *g, Value *v, const Type *x, int64_t axis, int64_t block) {
    if (v->type->rank == 0 || (v->type->rank == 1 && v->type->dim[0] == dim_const(g->m->cx, 1))) return v;
    if (block != 0 || v->type->rank != 1) return NULL;
    int64_t axes[RANK_MAX];
    uint32_t n = 0, own = g_axis(g, axis, x->rank);
    for (uint32_t a = own + 1; a < x->rank; a++) axes[n++] = a - own;
    return n == 0 ? v : g_2(g, OP_Unsqueeze, v, value_const_i64(g->m, n, axes));
}

static Value *bound(Grad *g, Value *x, Value *scale, Value *zero, double level) {
    Value *steps = zero != NULL ? g_sub(g, g_num(g, x, level), g_cast(g, zero, x->type->dtype)) : g_num(g, x, level);
    return g_mul(g, steps, g_cast(g, scale, x->type->dtype));
}

bool grad_expand_dequantize(Module *m, Node *n, Value **out) {
    Grad g = {.m = m, .n = n, .at = n};
    const Node *quantize = n->in[0]->def;
    Value *x = quantize->in[0], *scale = expand_input(quantize, 1), *zero = expand_input(quantize, 2), *through = x;
    DType level = n->in[0]->type->dtype;
    bool blocks = quantize->op == OP_QuantizeLinear && attr_i(quantize, AT_QuantizeLinear_block_size) != 0;
    int64_t axis = quantize->op == OP_QuantizeLinear ? attr_i(quantize, AT_QuantizeLinear_axis) : 1;
    scale = blocks ? NULL : spread(&g, scale, x->type, axis, 0);
    if (zero != NULL) zero = spread(&g, zero, x->type, axis, blocks);
    if (scale != NULL && dtype_is_int(level)) {
        double low, high;
        quantize_range(level, &low, &high);
        through = g_2(&g, OP_Min, g_2(&g, OP_Max, x, bound(&g, x, scale, zero, low)), bound(&g, x, scale, zero, high));
    }
    Value *in[3] = {g_1(&g, OP_StopGradient, n->in[0]), n->in[1], expand_input(n, 2)};
    Node *again = g_node(&g, (Op)n->op, n->n_in, in, 1);
    for (uint32_t i = 0; i < n->n_attr; i++) again->attr[i] = n->attr[i];
    Value *y = g_done(&g, again);
    if (y == NULL) return false;
    out[0] = g_2(&g, OP_StraightThrough, y, g_cast(&g, through, y->type->dtype));
    return true;
}

/* Integers times a scale: only the scale could get a gradient. */
bool grad_dequantize(Grad *g) {
    Value *scale = g->n->in[1], *dy = g->dy[0];
    if (!g_wants(g, 1)) return true;
    bool blocks = g->n->op == OP_DequantizeLinear && attr_i(g->n, AT_DequantizeLinear_block_size) != 0;
    Value *s = blocks ? NULL : spread(g, scale, g->n->in[0]->type, g->n->op == OP_DequantizeLinear ? attr_i(g->n, AT_DequantizeLinear_axis) : 1, 0);
    if (s == NULL) {
        diag(g->m->cx, SEV_ERROR, g->n->loc, "its gradient with respect to scales of blocks is not supported");
        return false;
    }
    Value *levels = g_div(g, g->n->out[0], g_cast(g, s, dy->type->dtype));
    g->dx[1] = g_cast(g, g_reshape_like(g, g_sum_to(g, g_mul(g, dy, levels), s), scale), scale->type->dtype);
    return true;
}

/* ---- packed integer weights ---------------------------------------------------------------------------------------------------------- */
/* The zero points of MatMulNBits, rows of which start at whole bytes, as one per block: u4 or u8 [N, blocks]. */
static Value *block_zeros(Grad *g, Value *packed, DType t, int64_t rows, int64_t blocks) {
    Context *cx = g->m->cx;
    bool four = t == DT_U4;
    int64_t stride = four ? (blocks + 1) / 2 : blocks, n = rows * blocks;
    uint8_t *out = ARENA_ARRAY(&cx->arena, uint8_t, (size_t)n + 1);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t b = 0; b < blocks; b++) {
            int64_t at = r * blocks + b, z = four ? 8 : 128;
            if (packed != NULL) z = four ? const_i64(packed, r * stride + b / 2) >> (b % 2 * 4) & 15 : const_i64(packed, at);
            if (four) out[at / 2] = (uint8_t)(out[at / 2] | z << (at % 2 * 4));
            else out[at] = (uint8_t)z;
        }
    return value_const(g->m, type_tensor(cx, t, 2, (Dim[]){dim_const(cx, rows), dim_const(cx, blocks)}), out, true);
}

/* MatMulNBits: Y = A W' + bias with frozen W [N, K]; dA = dY W, the weights dequantized where they are read. */
bool grad_mat_mul_n_bits(Grad *g) {
    Context *cx = g->m->cx;
    const Node *n = g->n;
    Value *a = n->in[0], *codes = n->in[1], *scales = n->in[2], *zeros = g_in(g, 3), *dy = g->dy[0];
    int64_t k = attr_i(n, AT_MatMulNBits_K), rows = attr_i(n, AT_MatMulNBits_N), bits = attr_i(n, AT_MatMulNBits_bits);
    int64_t size = attr_i(n, AT_MatMulNBits_block_size);
    if (g_wants(g, 5)) g->dx[5] = g_sum_to(g, dy, n->in[5]);
    if (!g_wants(g, 0) && !g_wants(g, 2)) return true;
    bool plain = codes->data != NULL && (zeros == NULL || (zeros->data != NULL && zeros->type->dtype == DT_U8)) && g_in(g, 4) == NULL;
    if (!plain || (bits != 4 && bits != 8) || size < 1 || g_wants(g, 2)) {
        diag(cx, SEV_ERROR, n->loc, "its gradient needs constant codes of 4 or 8 bits with integer zero points, without reordering; scales are not trained");
        return false;
    }
    int64_t blocks = (k + size - 1) / size;
    DType t = bits == 4 ? DT_U4 : DT_U8;
    Dim dim[2] = {dim_const(cx, rows), dim_const(cx, blocks * size)}; /* the same bytes, two codes in one, the low one first */
    if (codes->data->bytes != (size_t)(rows * blocks * size * bits / 8)) return false;
    Value *weights = value_const(g->m, type_tensor(cx, t, 2, dim), codes->data->data, true);
    Value *scale = g_2(g, OP_Reshape, scales, value_const_i64(g->m, 2, (int64_t[]){rows, blocks}));
    Node *d = g_node(g, OP_DequantizeLinear, 3, (Value *[]){weights, scale, block_zeros(g, zeros, t, rows, blocks)}, 1);
    attr_set_i(d, AT_DequantizeLinear_axis, 1);
    attr_set_i(d, AT_DequantizeLinear_block_size, size);
    Value *w = g_done(g, d);
    if (w == NULL) return false;
    if (blocks * size != k) w = expand_slice(g->m, g->at, w, 0, k, 1);
    g->dx[0] = g_reshape_like(g, g_2(g, OP_MatMul, dy, g_cast(g, w, dy->type->dtype)), a);
    return true;
}
