/* The quantized model as an ordinary ONNX model.
 *
 *     static       x -> QuantizeLinear -> DequantizeLinear -> Conv, with DequantizeLinear(w) and DequantizeLinear(b)      (QDQ)
 *                  to be trained: DequantizeLinear(QuantizeLinear(w)), w and b in floats; quantize_fold_weights makes the form above of it
 *     dynamic      round(x / s) - z -> s8, s and z per token from min and max;  (MatMulInteger + z * sums of w's columns) * s * scale of w  + b
 *                  symmetric: s from max |x|, no z
 *                  with outliers: the same on the other columns of x, + their columns times their weights in floats   (QUIK)
 *     weight only  MatMulNBits(x, packed codes, scales, zero points)                                     (com.microsoft) */
#include <math.h>

#include "ir/text_number.h"
#include "passes/fold.h"
#include "passes/quantize/quantize.h"
#include "passes/rewrite.h"

static Value *build(Module *m, Node *at, Op op, uint32_t n_in, Value *const *in) {
    Node *n = node_new(m, m->main, at, op, n_in, in, 1);
    n->loc = at->loc;
    n->loc.node = 0;
    return node_infer(m, n) ? n->out[0] : NULL;
}

static Value *vector(Module *m, DType t, int64_t n, const void *data) {
    Dim dim = dim_const(m->cx, n);
    return value_const(m, type_tensor(m->cx, t, 1, &dim), data, true);
}

static void named(Module *m, Value *v, const Value *after, const char *suffix) {
    if (after->name != 0) v->name = str_format(m->cx, "%s%s", str_text(m->cx, after->name), suffix);
}

/* ---- weights of the static and dynamic schemes: signed, with one scale per row or for all ---------------------------------------------- */
typedef struct Weights8 { Value *w; float *scale; int64_t n_scale; } Weights8;

static DType signed_type(int bits) { return bits == 8 ? DT_I8 : DT_I4; }

static Weights8 weights8(Module *m, const QuantizeSite *s, int bits, bool per_tensor) {
    QuantizeRows rows = quantize_rows(&m->cx->arena, quantize_weights(m, s), s->rows, s->k, bits, per_tensor);
    Weights8 r = {.scale = rows.scale, .n_scale = rows.n_scale};
    DType t = signed_type(bits);
    uint8_t *to = ARENA_ARRAY(&m->cx->arena, uint8_t, s->rows * s->k);
    for (int64_t i = 0; i < s->rows; i++)
        for (int64_t k = 0; k < s->k; k++) number_set(to, t, (size_t)(i * s->by_row + k * s->by_k), (uint64_t)rows.code[i * s->k + k] & ((UINT64_C(1) << bits) - 1));
    r.w = value_const(m, type_tensor(m->cx, t, s->w->type->rank, s->w->type->dim), to, true);
    named(m, r.w, s->w, "_quantized");
    return r;
}

/* ---- static ------------------------------------------------------------------------------------------------------------------------------- */
static Value *dequantize(Module *m, Node *at, Value *q, Value *scale, Value *zero, int64_t axis) {
    Node *n = node_new(m, m->main, at, OP_DequantizeLinear, zero != NULL ? 3 : 2, (Value *[]){q, scale, zero}, 1);
    n->loc = at->loc;
    n->loc.node = 0;
    if (axis >= 0) attr_set_i(n, AT_DequantizeLinear_axis, axis);
    return node_infer(m, n) ? n->out[0] : NULL;
}

/* A float bias as i32 in the scale of the sum. NULL: it does not fit. */
static Value *bias32(Module *m, Node *at, const Value *bias, float scale_x, const Weights8 *w) {
    int64_t n = dim_value(m->cx, type_numel(m->cx, bias->type));
    int32_t *to = ARENA_ARRAY(&m->cx->arena, int32_t, n);
    float *scale = ARENA_ARRAY(&m->cx->arena, float, n);
    const float *from = bias->data->data;
    for (int64_t i = 0; i < n; i++) {
        scale[i] = scale_x * w->scale[w->n_scale == 1 ? 0 : i];
        double code = rint((double)from[i] / (double)scale[i]);
        if (!(fabs(code) < 2147483647.0)) return NULL;
        to[i] = (int32_t)code;
    }
    Value *q = vector(m, DT_I32, n, to);
    named(m, q, bias, "_quantized");
    return dequantize(m, at, q, w->n_scale == 1 ? value_const_scalar(m, DT_F32, (double)scale[0]) : vector(m, DT_F32, n, scale), NULL, w->n_scale == 1 ? -1 : 0);
}

/* The weights as floats that the graph rounds. */
static Value *rounded_in_graph(Module *m, QuantizeSite *s, Value *scale, Value *zero, int64_t axis) {
    Node *n = node_new(m, m->main, s->node, OP_QuantizeLinear, 3, (Value *[]){s->w, scale, zero}, 1);
    n->loc = s->node->loc;
    n->loc.node = 0;
    if (axis >= 0) attr_set_i(n, AT_QuantizeLinear_axis, axis);
    if (!node_infer(m, n)) return NULL;
    named(m, n->out[0], s->w, "_quantized");
    return n->out[0];
}

static bool static_site(Module *m, const LatheQuantization *q, QuantizeSite *s, float scale_x) {
    int bits = quantize_weight_bits(q);
    Weights8 w = weights8(m, s, bits, q->per_tensor);
    int64_t axis = s->conv ? 0 : s->by_row == 1 && s->w->type->rank == 2 && s->by_k != 1 ? 1 : 0;
    if (s->k == 1 && !s->conv) axis = dim_value(m->cx, s->w->type->dim[0]) == s->rows && s->node->op == OP_Gemm && attr_i(s->node, AT_Gemm_transB) != 0 ? 0 : 1;
    Value *scale = w.n_scale == 1 ? value_const_scalar(m, DT_F32, (double)w.scale[0]) : vector(m, DT_F32, w.n_scale, w.scale);
    Value *zero = w.n_scale == 1 ? value_const_scalar(m, signed_type(bits), 0) : vector(m, signed_type(bits), w.n_scale, ARENA_ARRAY(&m->cx->arena, int8_t, w.n_scale));
    if (w.n_scale == 1) axis = -1;
    Value *codes = q->train ? rounded_in_graph(m, s, scale, zero, axis) : w.w;
    if (codes == NULL) return false;
    s->node->in[1] = dequantize(m, s->node, codes, scale, zero, axis);
    if (q->train) return s->node->in[1] != NULL;
    Value *bias = s->node->n_in > 2 ? s->node->in[2] : NULL;
    if (bias != NULL && bias->data != NULL && bias->type->rank == 1 && dim_value(m->cx, bias->type->dim[0]) == s->rows) {
        Value *b = bias32(m, s->node, bias, scale_x, &w);
        if (b != NULL) s->node->in[2] = b;
    }
    return s->node->in[1] != NULL;
}

/* The node before which what is computed from v goes: right behind its definition. */
static Node *behind(Module *m, const Value *v) { return v->def != NULL ? v->def->next : m->main->first; }

static bool is_output(const Module *m, const Value *v) {
    for (uint32_t i = 0; i < m->main->n_out; i++)
        if (m->main->out[i] == v) return true;
    return false;
}

/* v rounded to bytes for all its readers but the kept layers. Results of the model stay as they were. */
static bool insert_pair(Module *m, const LatheQuantization *q, Value *v, QuantizeRange r, const Uses *uses, const bool *kept) {
    bool read = false;
    for (uint32_t u = uses->first[v->id]; u < uses->first[v->id + 1]; u++) read |= uses->use[u].node != NULL && !kept[uses->use[u].node->id];
    if (!read) return true;
    float scale;
    int32_t zero;
    quantize_parameters(r, q->symmetric, &scale, &zero);
    Node *at = behind(m, v);
    if (at == NULL) return true; /* nobody reads it */
    Value *s = value_const_scalar(m, DT_F32, (double)scale), *z = value_const_scalar(m, q->symmetric ? DT_I8 : DT_U8, zero);
    Node *quantize = node_new(m, m->main, at, OP_QuantizeLinear, 3, (Value *[]){v, s, z}, 1);
    quantize->loc = at->loc;
    quantize->loc.node = 0;
    if (!node_infer(m, quantize)) return false;
    named(m, quantize->out[0], v, "_quantized");
    Value *back = dequantize(m, at, quantize->out[0], s, z, -1);
    if (back == NULL) return false;
    named(m, back, v, "_dequantized");
    for (uint32_t u = uses->first[v->id]; u < uses->first[v->id + 1]; u++)
        if (uses->use[u].node != NULL && uses->use[u].node->graph == m->main && !kept[uses->use[u].node->id]) uses->use[u].node->in[uses->use[u].index] = back;
    return true;
}

bool quantize_static(Module *m, const LatheQuantization *q, QuantizeSites *sites, const QuantizePoints *points, const QuantizeRange *range) {
    Uses uses = module_uses(m);
    bool *kept = ARENA_ARRAY(&m->cx->scratch, bool, m->n_node);
    for (uint32_t i = 0; i < sites->n; i++) {
        QuantizeSite *s = &sites->v[i];
        kept[s->node->id] = s->keep;
        if (s->keep) continue;
        float scale;
        int32_t zero;
        quantize_parameters(range[s->point], q->symmetric, &scale, &zero);
        if (!static_site(m, q, s, scale)) return false;
    }
    for (uint32_t i = 0; i < points->n; i++)
        if (!insert_pair(m, q, points->v[i], range[i], &uses, kept)) return false;
    return true;
}

/* Is it the weight of a DequantizeLinear, as a float constant that the graph rounds? */
static bool rounds_constants(const Node *n) {
    if (n->op != OP_QuantizeLinear) return false;
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i] != NULL && n->in[i]->data == NULL) return false;
    return true;
}

uint32_t quantize_fold_weights(Module *m) {
    uint32_t folded = 0;
    for (Node *n = m->main->first, *next; n != NULL; n = next) {
        next = n->next;
        folded += rounds_constants(n) && fold_node(m, n);
    }
    return folded;
}

/* ---- dynamic -------------------------------------------------------------------------------------------------------------------------------- */
static Value *abs_max_of_rows(Module *m, Node *at, Value *x) {
    Value *size = build(m, at, OP_Abs, 1, &x), *axes = value_const_i64(m, 1, (int64_t[]){-1});
    return build(m, at, OP_ReduceMax, 2, (Value *[]){size, axes});
}

/* The result of n is `y` from now on. */
static bool replace(Module *m, Node *n, Value *y) {
    if (y == NULL) return false;
    if (n->out[0]->name != 0 && !is_output(m, n->out[0])) y->name = n->out[0]->name;
    node_forward_output(m, n, 0, y);
    node_remove(n);
    return true;
}

static Value *cast(Module *m, Node *at, Value *v, DType t) {
    Node *n = node_new(m, m->main, at, OP_Cast, 1, &v, 1);
    n->loc = at->loc;
    n->loc.node = 0;
    attr_set_i(n, AT_Cast_to, dtype_to_onnx(t));
    return node_infer(m, n) ? n->out[0] : NULL;
}

/* x rounded to s8, row by row: x = (code + zero) * scale. zero: NULL when it is 0 everywhere. */
typedef struct Tokens { Value *code, *scale, *zero; } Tokens;

static Tokens tokens(Module *m, Node *n, Value *x, bool symmetric) {
    Tokens t = {0};
    Value *low = NULL, *high = NULL, *size, *smallest = value_const_scalar(m, DT_F32, 1e-30);
    if (symmetric) {
        size = build(m, n, OP_Div, 2, (Value *[]){abs_max_of_rows(m, n, x), value_const_scalar(m, DT_F32, 127)});
    } else {
        Value *axes = value_const_i64(m, 1, (int64_t[]){-1}), *nothing = value_const_scalar(m, DT_F32, 0);
        low = build(m, n, OP_Min, 2, (Value *[]){build(m, n, OP_ReduceMin, 2, (Value *[]){x, axes}), nothing});
        high = build(m, n, OP_Max, 2, (Value *[]){build(m, n, OP_ReduceMax, 2, (Value *[]){x, axes}), nothing});
        size = build(m, n, OP_Div, 2, (Value *[]){build(m, n, OP_Sub, 2, (Value *[]){high, low}), value_const_scalar(m, DT_F32, 254)});
    }
    t.scale = build(m, n, OP_Max, 2, (Value *[]){size, smallest});
    Value *steps = build(m, n, OP_Round, 1, (Value *[]){build(m, n, OP_Div, 2, (Value *[]){x, t.scale})});
    if (!symmetric) {
        Value *middle = build(m, n, OP_Mul, 2, (Value *[]){build(m, n, OP_Add, 2, (Value *[]){high, low}), value_const_scalar(m, DT_F32, 0.5)});
        t.zero = build(m, n, OP_Round, 1, (Value *[]){build(m, n, OP_Div, 2, (Value *[]){middle, t.scale})});
        steps = build(m, n, OP_Sub, 2, (Value *[]){steps, t.zero});
    }
    t.code = cast(m, n, build(m, n, OP_Clip, 3, (Value *[]){steps, value_const_scalar(m, DT_F32, -127), value_const_scalar(m, DT_F32, 127)}), DT_I8);
    return t;
}

/* The sums of the columns of s8 weights, as floats. */
static Value *column_sums(Module *m, const Value *w) {
    int64_t k = dim_value(m->cx, w->type->dim[0]), n = dim_value(m->cx, w->type->dim[1]);
    float *to = ARENA_ARRAY(&m->cx->arena, float, n);
    const int8_t *from = w->data->data;
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < n; j++) to[j] += (float)from[i * n + j];
    Value *v = vector(m, DT_F32, n, to);
    named(m, v, w, "_sums");
    return v;
}

/* Columns of a site: those that become integers, or the outliers. */
static int64_t columns(Module *m, const QuantizeCodes *c, bool outliers, int64_t **at) {
    int64_t n = 0;
    *at = ARENA_ARRAY(&m->cx->arena, int64_t, c->k);
    for (int64_t k = 0; k < c->k; k++)
        if ((c->outlier != NULL && c->outlier[k]) == outliers) (*at)[n++] = k;
    return n;
}

/* Some channels of x. */
static Value *take(Module *m, Node *at, Value *x, int64_t n, const int64_t *which) {
    Node *g = node_new(m, m->main, at, OP_Gather, 2, (Value *[]){x, value_const_i64(m, (uint32_t)n, which)}, 1);
    g->loc = at->loc;
    g->loc.node = 0;
    attr_set_i(g, AT_Gather_axis, x->type->rank - 1);
    return node_infer(m, g) ? g->out[0] : NULL;
}

static Value *matrix(Module *m, DType t, int64_t rows, int64_t n, const void *data) {
    return value_const(m, type_tensor(m->cx, t, 2, (Dim[]){dim_const(m->cx, rows), dim_const(m->cx, n)}), data, true);
}

/* Codes around their middle as s8, [columns][rows]. */
static Weights8 coded8(Module *m, const QuantizeSite *s, const QuantizeCodes *c, int64_t n, const int64_t *at) {
    int8_t *to = ARENA_ARRAY(&m->cx->arena, int8_t, n * c->rows);
    for (int64_t i = 0; i < n; i++)
        for (int64_t r = 0; r < c->rows; r++) to[i * c->rows + r] = (int8_t)(c->code[r * c->k + at[i]] - 128);
    Weights8 w = {.w = matrix(m, DT_I8, n, c->rows, to), .scale = ARENA_ARRAY(&m->cx->arena, float, c->rows), .n_scale = c->rows};
    memcpy(w.scale, c->scale, (size_t)c->rows * sizeof *w.scale);
    named(m, w.w, s->w, "_quantized");
    return w;
}

/* x's outliers times their weights, in floats. */
static Value *exact_part(Module *m, const QuantizeSite *s, const QuantizeCodes *c, int64_t n, const int64_t *at) {
    float *to = ARENA_ARRAY(&m->cx->arena, float, n * c->rows);
    for (int64_t i = 0; i < n; i++)
        for (int64_t r = 0; r < c->rows; r++) to[i * c->rows + r] = c->exact[r * c->k + at[i]];
    Value *w = matrix(m, DT_F32, n, c->rows, to);
    named(m, w, s->w, "_outliers");
    return build(m, s->node, OP_MatMul, 2, (Value *[]){take(m, s->node, s->x, n, at), w});
}

static bool dynamic_site(Module *m, const LatheQuantization *q, QuantizeSite *s, const QuantizeCodes *c) {
    Node *n = s->node;
    int64_t *inner = NULL, *outer = NULL, n_inner = c->k != 0 ? columns(m, c, false, &inner) : 0, n_outer = c->k != 0 ? columns(m, c, true, &outer) : 0;
    Weights8 w = c->k != 0 ? coded8(m, s, c, n_inner, inner) : weights8(m, s, 8, q->per_tensor);
    Value *exact = n_outer != 0 ? exact_part(m, s, c, n_outer, outer) : NULL;
    if (n_outer != 0) s->x = take(m, n, s->x, n_inner, inner);
    if (c->k == 0 && n->op == OP_Gemm && attr_i(n, AT_Gemm_transB) != 0) {
        Dim dim[2] = {s->w->type->dim[1], s->w->type->dim[0]};
        Value *turned = value_const(m, type_tensor(m->cx, DT_I8, 2, dim), const_transpose(m->cx, w.w, (uint32_t[]){1, 0}), true);
        turned->name = w.w->name;
        w.w = turned;
    }
    Tokens t = tokens(m, n, s->x, q->symmetric);
    Value *sum = cast(m, n, build(m, n, OP_MatMulInteger, 2, (Value *[]){t.code, w.w}), DT_F32);
    if (t.zero != NULL) sum = build(m, n, OP_Add, 2, (Value *[]){sum, build(m, n, OP_Mul, 2, (Value *[]){t.zero, column_sums(m, w.w)})});
    Value *scale_w = w.n_scale == 1 ? value_const_scalar(m, DT_F32, (double)w.scale[0]) : vector(m, DT_F32, w.n_scale, w.scale);
    Value *y = build(m, n, OP_Mul, 2, (Value *[]){build(m, n, OP_Mul, 2, (Value *[]){sum, scale_w}), t.scale});
    if (exact != NULL) y = build(m, n, OP_Add, 2, (Value *[]){y, exact});
    if (n->n_in > 2 && n->in[2] != NULL) y = build(m, n, OP_Add, 2, (Value *[]){y, n->in[2]});
    return replace(m, n, y);
}

bool quantize_dynamic(Module *m, const LatheQuantization *q, QuantizeSites *sites, const QuantizeCodes *codes) {
    for (uint32_t i = 0; i < sites->n; i++)
        if (!sites->v[i].keep && !sites->v[i].conv && !dynamic_site(m, q, &sites->v[i], &codes[i])) return false;
    return true;
}

/* ---- weight only ------------------------------------------------------------------------------------------------------------------------------ */
/* MatMulNBits wants whole blocks: codes of the padding are the zero point. */
static Value *packed_codes(Module *m, const QuantizeCodes *c) {
    int64_t groups = (c->k + c->group - 1) / c->group, bytes = c->group * c->bits / 8;
    uint8_t *to = ARENA_ARRAY(&m->cx->arena, uint8_t, c->rows * groups * bytes), *block = ARENA_ARRAY(&m->cx->scratch, uint8_t, c->group);
    for (int64_t r = 0; r < c->rows; r++)
        for (int64_t g = 0; g < groups; g++) {
            for (int64_t k = 0; k < c->group; k++) block[k] = g * c->group + k < c->k ? c->code[r * c->k + g * c->group + k] : (uint8_t)c->zero[r * groups + g];
            uint8_t *at = to + (r * groups + g) * bytes;
            if (c->bits == 4) quantize_pack4(at, block, c->group);
            else memcpy(at, block, (size_t)c->group);
        }
    Dim dim[3] = {dim_const(m->cx, c->rows), dim_const(m->cx, groups), dim_const(m->cx, bytes)};
    return value_const(m, type_tensor(m->cx, DT_U8, 3, dim), to, true);
}

static Value *packed_zeros(Module *m, const QuantizeCodes *c) {
    int64_t groups = (c->k + c->group - 1) / c->group, bytes = (groups * c->bits + 7) / 8;
    uint8_t *to = ARENA_ARRAY(&m->cx->arena, uint8_t, c->rows * bytes), *row = ARENA_ARRAY(&m->cx->scratch, uint8_t, groups);
    for (int64_t r = 0; r < c->rows; r++) {
        for (int64_t g = 0; g < groups; g++) row[g] = (uint8_t)c->zero[r * groups + g];
        if (c->bits == 4) quantize_pack4(to + r * bytes, row, groups);
        else memcpy(to + r * bytes, row, (size_t)groups);
    }
    return vector(m, DT_U8, c->rows * bytes, to);
}

static bool weight_site(Module *m, const LatheQuantization *q, QuantizeSite *s, const QuantizeCodes *c) {
    Node *n = s->node;
    Value *in[4] = {s->x, packed_codes(m, c), vector(m, DT_F32, c->rows * ((c->k + c->group - 1) / c->group), c->scale), packed_zeros(m, c)};
    named(m, in[1], s->w, "_packed");
    named(m, in[2], s->w, "_scales");
    named(m, in[3], s->w, "_zeros");
    Node *made = node_new(m, m->main, n, OP_MatMulNBits, 4, in, 1);
    made->loc = n->loc;
    attr_set_i(made, AT_MatMulNBits_K, c->k);
    attr_set_i(made, AT_MatMulNBits_N, c->rows);
    attr_set_i(made, AT_MatMulNBits_bits, c->bits);
    attr_set_i(made, AT_MatMulNBits_block_size, c->group);
    if (q->int8_activations) attr_set_i(made, AT_MatMulNBits_accuracy_level, 4);
    const Type *x = s->x->type;
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < x->rank; i++) dim[i] = i + 1 < x->rank ? x->dim[i] : dim_const(m->cx, c->rows);
    made->out[0]->type = type_tensor(m->cx, DT_F32, x->rank, dim);
    Value *y = made->out[0];
    if (n->n_in > 2 && n->in[2] != NULL) y = build(m, n, OP_Add, 2, (Value *[]){y, n->in[2]});
    return replace(m, n, y);
}

bool quantize_weight_only(Module *m, const LatheQuantization *q, QuantizeSites *sites, const QuantizeCodes *codes) {
    for (uint32_t i = 0; i < sites->n; i++)
        if (codes[i].k != 0 && !weight_site(m, q, &sites->v[i], &codes[i])) return false;
    return true;
}
