/* Moving the difficulty of rounding between the inputs and the weights of matrix products, channel by channel:
 *
 *     x @ W  =  (x / s) @ (s * W)
 *
 *     SmoothQuant   s = max |x|^alpha / max |w|^(1 - alpha)     inputs with outliers become easier to round, weights harder
 *     AWQ           s = mean |x|^a                              weights of strong inputs are rounded more finely; a from 0 to 1 is chosen
 *                                                               by the error it leaves, weighted with mean |x|
 *
 * x / s costs nothing where x is a LayerNormalization that nobody else reads: its scale and bias take it; elsewhere a Mul does it.
 * Bias correction: what rounded weights change on average, (W - rounded W) * mean x, goes into the bias. */
#include <math.h>

#include "passes/quantize/quantize.h"

static Value *vector(Module *m, int64_t n, const float *data) {
    Dim dim = dim_const(m->cx, n);
    return value_const(m, type_tensor(m->cx, DT_F32, 1, &dim), data, true);
}

/* max |w| of every input channel over the sites of a point. */
static void weight_maxima(Module *m, const QuantizeSites *sites, uint32_t point, int64_t k, double *most) {
    for (uint32_t i = 0; i < sites->n; i++) {
        const QuantizeSite *s = &sites->v[i];
        if (s->conv || s->keep || s->point != point || s->k != k) continue;
        const float *w = quantize_weights(m, s);
        for (int64_t r = 0; r < s->rows; r++)
            for (int64_t c = 0; c < k; c++) most[c] = fmax(most[c], fabs((double)w[r * k + c]));
    }
}

/* The error that rounding s * w leaves, weighted by the strength of the channels. */
static double awq_error(const QuantizeSite *site, const float *w, const double *s, const float *mean, QuantizeCodes *c, float *scaled, QuantizeZero zero) {
    double sum = 0;
    for (int64_t r = 0; r < site->rows; r++)
        for (int64_t k = 0; k < site->k; k++) scaled[r * site->k + k] = (float)((double)w[r * site->k + k] * s[k]);
    quantize_round(c, scaled, zero);
    for (int64_t r = 0; r < site->rows; r++)
        for (int64_t k = 0; k < site->k; k++) {
            double e = ((double)scaled[r * site->k + k] - (double)quantize_code_value(c, r, k)) / s[k] * (double)mean[k];
            sum += e * e;
        }
    return sum;
}

enum { AWQ_STEPS = 20 };

static void awq_scales(Module *m, const LatheQuantization *q, const QuantizeSites *sites, uint32_t point, int64_t k, const float *mean, double *best) {
    Arena *a = &m->cx->scratch;
    double least = INFINITY, *s = ARENA_ARRAY(a, double, k);
    for (int step = 0; step < AWQ_STEPS; step++) {
        double error = 0, log_sum = 0;
        for (int64_t c = 0; c < k; c++) {
            s[c] = pow(fmax((double)mean[c], 1e-8), (double)step / (double)AWQ_STEPS);
            log_sum += log(s[c]) / (double)k;
        }
        for (int64_t c = 0; c < k; c++) s[c] = fmin(fmax(s[c] / exp(log_sum), 1e-3), 1e3);
        for (uint32_t i = 0; i < sites->n; i++) {
            const QuantizeSite *site = &sites->v[i];
            if (site->conv || site->keep || site->point != point || site->k != k) continue;
            int64_t group = q->group != 0 ? q->group : k, groups = site->rows * ((k + group - 1) / group);
            QuantizeCodes codes = {.rows = site->rows, .k = k, .group = group, .bits = q->scheme == LATHE_QUANTIZE_WEIGHT4 ? 4 : 8, .code = ARENA_ARRAY(a, uint8_t, site->rows * k),
                                   .scale = ARENA_ARRAY(a, float, groups), .zero = ARENA_ARRAY(a, float, groups)};
            error += awq_error(site, quantize_weights(m, site), s, mean, &codes, ARENA_ARRAY(a, float, site->rows * k), q->symmetric ? QUANTIZE_ZERO_MIDDLE : QUANTIZE_ZERO_CODE);
        }
        if (error >= least) continue;
        least = error;
        memcpy(best, s, (size_t)k * sizeof *s);
    }
}

/* Is x read by these sites only? */
static bool read_by_sites_only(const Module *m, const Uses *uses, const QuantizeSites *sites, const Value *x, uint32_t point) {
    for (uint32_t i = 0; i < m->main->n_out; i++)
        if (m->main->out[i] == x) return false;
    for (uint32_t u = uses->first[x->id]; u < uses->first[x->id + 1]; u++) {
        bool found = false;
        for (uint32_t i = 0; i < sites->n; i++) found |= sites->v[i].node == uses->use[u].node && sites->v[i].point == point && !sites->v[i].keep && uses->use[u].index == 0;
        if (!found) return false;
    }
    return true;
}

/* x / s: in the normalisation that makes x, or NULL. */
static bool into_normalisation(Module *m, Value *x, int64_t k, const double *s) {
    Node *n = x->def;
    if (n == NULL || n->op != OP_LayerNormalization || x->def_out != 0) return false;
    for (uint32_t i = 1; i < 3; i++) {
        const Value *v = i < n->n_in ? n->in[i] : NULL;
        if (v == NULL && i == 2) continue;
        if (v == NULL || v->data == NULL || v->type->dtype != DT_F32 || v->type->rank != 1 || dim_value(m->cx, v->type->dim[0]) != k) return false;
    }
    for (uint32_t i = 1; i < 3 && i < n->n_in; i++) {
        if (n->in[i] == NULL) continue;
        float *to = ARENA_ARRAY(&m->cx->arena, float, k);
        const float *from = n->in[i]->data->data;
        for (int64_t c = 0; c < k; c++) to[c] = (float)((double)from[c] / s[c]);
        n->in[i] = vector(m, k, to);
    }
    return true;
}

static bool apply(Module *m, QuantizeSites *sites, const Uses *uses, uint32_t point, Value *x, int64_t k, const double *s) {
    Value *scaled = x;
    if (!read_by_sites_only(m, uses, sites, x, point) || !into_normalisation(m, x, k, s)) {
        float *inverse = ARENA_ARRAY(&m->cx->arena, float, k);
        for (int64_t c = 0; c < k; c++) inverse[c] = (float)(1 / s[c]);
        Node *at = x->def != NULL ? x->def->next : m->main->first;
        scaled = build2(m, at, OP_Mul, x, vector(m, k, inverse));
        if (scaled == NULL) return false;
    }
    for (uint32_t i = 0; i < sites->n; i++) {
        QuantizeSite *site = &sites->v[i];
        if (site->conv || site->keep || site->point != point || site->k != k) continue;
        float *w = quantize_weights(m, site);
        for (int64_t r = 0; r < site->rows; r++)
            for (int64_t c = 0; c < k; c++) w[r * k + c] = (float)((double)w[r * k + c] * s[c]);
        quantize_set_weights(m, site, w);
        site->node->in[0] = scaled;
    }
    return true;
}

bool quantize_smooth(Module *m, const LatheQuantization *q, QuantizeSites *sites, const QuantizePoints *points, const QuantizeChannels *channels) {
    Uses uses = module_uses(m);
    for (uint32_t p = 0; p < points->n; p++) {
        int64_t k = 0;
        bool other = false; /* convolutions read it, too: as it is */
        for (uint32_t i = 0; i < sites->n; i++) {
            if (sites->v[i].point != p || sites->v[i].keep) continue;
            other |= sites->v[i].conv;
            k = sites->v[i].k;
        }
        if (k == 0 || other || channels[p].n != k) continue;
        double *s = ARENA_ARRAY(&m->cx->scratch, double, k), *most = ARENA_ARRAY(&m->cx->scratch, double, k);
        if (q->awq) {
            awq_scales(m, q, sites, p, k, channels[p].mean_abs, s);
        } else {
            weight_maxima(m, sites, p, k, most);
            for (int64_t c = 0; c < k; c++) {
                double x = (double)channels[p].most[c];
                s[c] = x > 1e-5 && most[c] > 1e-8 ? fmin(fmax(pow(x, q->smooth) / pow(most[c], 1 - q->smooth), 1e-4), 1e4) : 1;
            }
        }
        if (!apply(m, sites, &uses, p, points->v[p], k, s)) return false;
    }
    return true;
}

void quantize_correct_bias(Module *m, const QuantizeSite *s, const float *rounded, const QuantizeChannels *channels) {
    Value *bias = s->node->n_in > 2 ? s->node->in[2] : NULL;
    if (bias == NULL || bias->data == NULL || bias->type->dtype != DT_F32 || bias->type->rank != 1 || dim_value(m->cx, bias->type->dim[0]) != s->rows) return;
    int64_t taps = 1, per_group = s->k;
    if (s->conv) {
        per_group = dim_value(m->cx, s->w->type->dim[1]);
        taps = s->k / per_group;
    }
    if (channels->n != per_group * s->groups) return;
    const float *w = quantize_weights(m, s), *from = bias->data->data;
    float *to = ARENA_ARRAY(&m->cx->arena, float, s->rows);
    for (int64_t r = 0; r < s->rows; r++) {
        double shift = 0;
        int64_t first = r / (s->rows / s->groups) * per_group;
        for (int64_t k = 0; k < s->k; k++) shift += ((double)w[r * s->k + k] - (double)rounded[r * s->k + k]) * (double)channels->mean[first + k / taps];
        to[r] = (float)((double)from[r] + shift);
    }
    s->node->in[2] = vector(m, s->rows, to);
}
