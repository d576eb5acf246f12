/* Finds what can be quantized: see quantize.h.
 *
 * A static scheme makes bytes of the inputs of all sites. In a network of images (values of rank 4 and more) it also does so
 * with the inputs and results of what stands between convolutions (additions, concatenations, pools), so that the network
 * stays in bytes. The results of an activation behind a contraction are taken after it. In other networks only the inputs of sites
 * become bytes: residual sums and normalisations stay in floats. */
#include "ir/shape/convolution.h"
#include "passes/quantize/quantize.h"

static bool is_f32(const Value *v) { return v != NULL && v->type != NULL && v->type->kind == TYPE_TENSOR && v->type->rank != RANK_UNKNOWN && v->type->dtype == DT_F32; }

static bool kept(Module *m, const LatheQuantization *q, const Node *n) {
    for (const char *const *k = q->keep; k != NULL && *k != NULL; k++) {
        if (n->loc.node != 0 && strcmp(*k, str_text(m->cx, n->loc.node)) == 0) return true;
        if (n->out[0]->name != 0 && strcmp(*k, str_text(m->cx, n->out[0]->name)) == 0) return true;
    }
    return false;
}

static bool site_of(Module *m, Node *n, QuantizeSite *s) {
    Context *cx = m->cx;
    *s = (QuantizeSite){.node = n};
    if ((n->op != OP_Conv && n->op != OP_MatMul && n->op != OP_Gemm) || !is_f32(n->in[0]) || !is_f32(n->in[1]) || n->in[1]->data == NULL || n->in[0]->data != NULL) return false;
    s->x = n->in[0];
    s->w = n->in[1];
    const Type *t = s->w->type;
    if (n->op == OP_Conv) {
        s->conv = true;
        s->groups = attr_i(n, AT_Conv_group);
        s->rows = dim_value(cx, t->dim[0]);
        s->k = s->by_row = s->rows == 0 ? 0 : dim_value(cx, type_numel(cx, t)) / s->rows;
        s->by_k = 1;
        return s->k > 0;
    }
    if (t->rank != 2 || s->x->type->rank < 2) return false;
    bool transposed = n->op == OP_Gemm && attr_i(n, AT_Gemm_transB) != 0;
    if (n->op == OP_Gemm && (attr_i(n, AT_Gemm_transA) != 0 || attr_f(n, AT_Gemm_alpha) != 1 || (n->n_in > 2 && n->in[2] != NULL && attr_f(n, AT_Gemm_beta) != 1))) return false;
    s->groups = 1;
    s->rows = dim_value(cx, t->dim[transposed ? 0 : 1]);
    s->k = dim_value(cx, t->dim[transposed ? 1 : 0]);
    s->by_row = transposed ? s->k : 1;
    s->by_k = transposed ? 1 : s->rows;
    return s->rows > 0 && s->k > 0;
}

typedef struct Finder {
    Module *m;
    QuantizePoints *points;
    uint32_t *number;  /* by value id: point + 1 */
} Finder;

static uint32_t point(Finder *f, Value *v) {
    if (f->number[v->id] == 0) {
        vec_push(&f->m->cx->scratch, f->points, v);
        f->number[v->id] = f->points->n;
    }
    return f->number[v->id] - 1;
}

static bool between_convolutions(const Node *n) {
    switch ((int)n->op) {
    case OP_Add: case OP_Concat: case OP_MaxPool: case OP_AveragePool: case OP_GlobalAveragePool: case OP_Mul: break;
    default: return false;
    }
    for (uint32_t i = 0; i < n->n_in; i++)
        if (!is_f32(n->in[i]) || n->in[i]->type->rank < 4 || n->in[i]->data != NULL) return false;
    return is_f32(n->out[0]);
}

static bool has_convolutions(const Graph *g) {
    for (const Node *n = g->first; n != NULL; n = n->next)
        if (n->op == OP_Conv) return true;
    return false;
}

void quantize_find(Module *m, const LatheQuantization *q, QuantizeSites *sites, QuantizePoints *points) {
    Finder f = {.m = m, .points = points, .number = ARENA_ARRAY(&m->cx->scratch, uint32_t, m->n_value)};
    bool images = q->scheme == LATHE_QUANTIZE_STATIC && has_convolutions(m->main);
    bool *bytes = ARENA_ARRAY(&m->cx->scratch, bool, m->n_value); /* made by something that becomes integers */
    FOR_NODES(n, m->main) {
        QuantizeSite s;
        if (site_of(m, n, &s)) {
            s.keep = kept(m, q, n);
            s.point = point(&f, s.x);
            vec_push(&m->cx->scratch, sites, s);
            bytes[n->out[0]->id] = true;
        } else if (images && between_convolutions(n)) {
            bool all = true;
            for (uint32_t i = 0; i < n->n_in; i++) all = all && (bytes[n->in[i]->id] || f.number[n->in[i]->id] != 0);
            if (!all) continue;
            for (uint32_t i = 0; i < n->n_in; i++) point(&f, n->in[i]);
            bytes[n->out[0]->id] = true;
        } else if ((n->op == OP_Relu || n->op == OP_Clip || n->op == OP_LeakyRelu || op_is_reshape(n->op)) && n->in[0] != NULL) {
            bytes[n->out[0]->id] = bytes[n->in[0]->id];
        }
    }
}

float *quantize_weights(Module *m, const QuantizeSite *s) {
    float *w = ARENA_ARRAY(&m->cx->scratch, float, s->rows * s->k);
    const float *from = s->w->data->data;
    for (int64_t r = 0; r < s->rows; r++)
        for (int64_t k = 0; k < s->k; k++) w[r * s->k + k] = from[r * s->by_row + k * s->by_k];
    return w;
}

void quantize_set_weights(Module *m, QuantizeSite *s, const float *matrix) {
    float *to = ARENA_ARRAY(&m->cx->arena, float, s->rows * s->k);
    for (int64_t r = 0; r < s->rows; r++)
        for (int64_t k = 0; k < s->k; k++) to[r * s->by_row + k * s->by_k] = matrix[r * s->k + k];
    s->w = s->node->in[1] = value_const(m, s->w->type, to, true);
}
