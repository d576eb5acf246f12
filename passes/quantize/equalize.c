/* Cross-layer equalisation (Nagel et al., 2019): channels between two layers get weights of equal size on both sides, so that one
 * scale suits them all.
 *
 *     W2 relu(W1 x + b1)  =  (W2 S) relu(S^-1 (W1 x + b1)),    s_c = sqrt(max |row c of W1| / max |column c of W2|)
 *
 * for every channel c. It holds for what stays the same under a positive scale: Relu, LeakyRelu, nothing. Pairs are taken in turn, a few
 * times over, because a layer can be the second of one pair and the first of the next. */
#include <math.h>

#include "passes/quantize/quantize.h"

enum { ROUNDS = 4 };

/* The only reader of v, at its first input; NULL when there are others or v is a result of the model. */
static Node *only_reader(const Module *m, const Uses *uses, const Value *v) {
    for (uint32_t i = 0; i < m->main->n_out; i++)
        if (m->main->out[i] == v) return NULL;
    uint32_t first = uses->first[v->id];
    return uses->first[v->id + 1] - first == 1 && uses->use[first].index == 0 ? uses->use[first].node : NULL;
}

/* The site that alone reads what s gives, through an activation perhaps. */
static QuantizeSite *next_site(const Module *m, const Uses *uses, QuantizeSites *sites, const QuantizeSite *s) {
    Node *n = only_reader(m, uses, s->node->out[0]);
    if (n != NULL && (n->op == OP_Relu || n->op == OP_LeakyRelu)) n = only_reader(m, uses, n->out[0]);
    for (uint32_t i = 0; n != NULL && i < sites->n; i++)
        if (sites->v[i].node == n) return &sites->v[i];
    return NULL;
}

/* Weights of an input channel that stand side by side in a row. */
static int64_t taps(Module *m, const QuantizeSite *s) { return s->conv ? s->k / dim_value(m->cx, s->w->type->dim[1]) : 1; }

/* The input channel that weight k of a row is for. */
static int64_t channel(const QuantizeSite *s, int64_t per_channel, int64_t row, int64_t k) {
    return row / (s->rows / s->groups) * (s->k / per_channel) + k / per_channel;
}

static Value *divided_bias(Module *m, const Value *b, int64_t n, const double *s) {
    float *to = ARENA_ARRAY(&m->cx->arena, float, n);
    const float *from = b->data->data;
    for (int64_t i = 0; i < n; i++) to[i] = (float)((double)from[i] / s[i]);
    return value_const(m, b->type, to, true);
}

static void equalize_pair(Module *m, QuantizeSite *a, QuantizeSite *b) {
    int64_t n = a->rows, per_channel = taps(m, b);
    Value *bias = a->node->n_in > 2 ? a->node->in[2] : NULL;
    if (b->k / per_channel * b->groups != n || a->keep || b->keep || a->conv != b->conv) return;
    if (bias != NULL && (bias->data == NULL || bias->type->rank != 1 || dim_value(m->cx, bias->type->dim[0]) != n)) return;
    float *w = quantize_weights(m, a), *v = quantize_weights(m, b);
    double *s = ARENA_ARRAY(&m->cx->scratch, double, n), *out = ARENA_ARRAY(&m->cx->scratch, double, n), *in = ARENA_ARRAY(&m->cx->scratch, double, n);
    for (int64_t r = 0; r < n; r++)
        for (int64_t k = 0; k < a->k; k++) out[r] = fmax(out[r], fabs((double)w[r * a->k + k]));
    for (int64_t r = 0; r < b->rows; r++)
        for (int64_t k = 0; k < b->k; k++) {
            int64_t c = channel(b, per_channel, r, k);
            in[c] = fmax(in[c], fabs((double)v[r * b->k + k]));
        }
    for (int64_t c = 0; c < n; c++) s[c] = out[c] > 1e-20 && in[c] > 1e-20 ? fmin(fmax(sqrt(out[c] / in[c]), 1e-4), 1e4) : 1;
    for (int64_t r = 0; r < n; r++)
        for (int64_t k = 0; k < a->k; k++) w[r * a->k + k] = (float)((double)w[r * a->k + k] / s[r]);
    for (int64_t r = 0; r < b->rows; r++)
        for (int64_t k = 0; k < b->k; k++) v[r * b->k + k] = (float)((double)v[r * b->k + k] * s[channel(b, per_channel, r, k)]);
    quantize_set_weights(m, a, w);
    quantize_set_weights(m, b, v);
    if (bias != NULL) a->node->in[2] = divided_bias(m, bias, n, s);
}

void quantize_equalize(Module *m, QuantizeSites *sites) {
    Uses uses = module_uses(m);
    for (int round = 0; round < ROUNDS; round++)
        for (uint32_t i = 0; i < sites->n; i++) {
            QuantizeSite *b = next_site(m, &uses, sites, &sites->v[i]);
            if (b != NULL) equalize_pair(m, &sites->v[i], b);
        }
}
