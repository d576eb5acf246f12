/* Quantization for callers: what calibration collects over several compilations, and the calls around passes/quantize/. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/model.h"
#include "passes/pass.h"
#include "passes/quantize/quantize.h"

typedef enum Step { STEP_CHANNELS, STEP_RANGE, STEP_HISTOGRAM, STEP_SQUARES, STEP_DONE } Step;

typedef struct Layer {
    char *name, *op;
    bool keep, conv;
    int64_t rows, k;
    uint32_t point;
    float *w;                    /* the original weights, while they are being rounded */
    QuantizeCodes codes;
    double sqnr;
    uint64_t float_bytes, bytes;
} Layer;

struct LatheCalibration {
    LatheQuantization q;
    Step step;
    uint32_t n_point, n_layer, first_output, current; /* current: the point whose squares are summed */
    char **point_name;
    QuantizeChannels *channels;  /* by point, of the model before smoothing */
    uint32_t n_channel_point, sets; /* sets: runs added in this round */
    bool smoothing;              /* channels are known: every model is smoothed */
    QuantizeRange *range, *chosen;
    uint64_t *bins;              /* [n_point][QUANTIZE_BINS] */
    double *squares;
    int64_t k;
    Layer *layer;
    bool ready, failed;          /* ready: the first probe has sized everything */
    char problem[512];
};

LatheQuantization lathe_quantization(void) { return (LatheQuantization){.percentile = 99.99}; }

static bool weights_only(const LatheQuantization *q) { return q->scheme == LATHE_QUANTIZE_WEIGHT8 || q->scheme == LATHE_QUANTIZE_WEIGHT4; }

static bool smooths(const LatheQuantization *q) { return (q->smooth > 0 && !weights_only(q)) || (q->awq && weights_only(q)); }

/* What is measured once channels are known. */
static Step main_step(const LatheQuantization *q) {
    return q->scheme == LATHE_QUANTIZE_STATIC ? STEP_RANGE : q->gptq ? STEP_SQUARES : STEP_DONE;
}

static Step first_step(const LatheQuantization *q) {
    bool channels = smooths(q) || q->outliers != 0 || (q->bias_correction && q->scheme == LATHE_QUANTIZE_STATIC);
    return channels ? STEP_CHANNELS : main_step(q);
}

LatheCalibration *lathe_calibration_new(const LatheQuantization *q) {
    LatheCalibration *c = calloc(1, sizeof *c);
    if (c == NULL) return NULL;
    c->q = *q;
    c->step = first_step(q);
    return c;
}

static void free_channels(LatheCalibration *c) {
    for (uint32_t i = 0; i < c->n_channel_point; i++) free(c->channels[i].most), free(c->channels[i].mean_abs), free(c->channels[i].mean);
    free(c->channels);
}

void lathe_calibration_free(LatheCalibration *c) {
    if (c == NULL) return;
    free_channels(c);
    for (uint32_t i = 0; i < c->n_point; i++) free(c->point_name[i]);
    for (uint32_t i = 0; i < c->n_layer; i++) {
        Layer *l = &c->layer[i];
        free(l->name), free(l->op), free(l->w), free(l->codes.code), free(l->codes.scale), free(l->codes.zero), free(l->codes.outlier), free(l->codes.exact);
    }
    free(c->point_name), free(c->range), free(c->chosen), free(c->bins), free(c->squares), free(c->layer), free(c);
}

void lathe_calibration_keep(LatheCalibration *c, const char *const *keep) { c->q.keep = keep; }
bool lathe_calibration_pending(const LatheCalibration *c) { return !c->failed && c->step != STEP_DONE; }
const char *lathe_calibration_problem(const LatheCalibration *c) { return c->problem; }

const char *lathe_calibration_step(const LatheCalibration *c) {
    switch (c->step) {
    case STEP_CHANNELS: return "measuring channels";
    case STEP_RANGE: return "measuring ranges";
    case STEP_HISTOGRAM: return "counting histograms";
    case STEP_SQUARES: return "correlating inputs";
    case STEP_DONE: return "done";
    }
    return "";
}

static LatheStatus fail(LatheCalibration *c, LatheStatus status, const char *text, const char *name) {
    c->failed = true;
    snprintf(c->problem, sizeof c->problem, "%s%s", text, name);
    return status;
}

/* ---- the model as it is quantized ------------------------------------------------------------------------------------------------- */
typedef struct Request {
    LatheCalibration *c;
    QuantizeSites sites;
    QuantizePoints points;
} Request;

static char *copy_text(const char *text) {
    char *to = malloc(strlen(text) + 1);
    if (to != NULL) strcpy(to, text);
    return to;
}

/* Sizes everything by the first model that is seen. */
static bool get_ready(LatheModel *m, Request *r) {
    LatheCalibration *c = r->c;
    if (c->ready) return c->n_point == r->points.n && c->n_layer == r->sites.n;
    c->point_name = calloc(r->points.n + 1, sizeof *c->point_name);
    c->range = calloc(r->points.n + 1, sizeof *c->range);
    c->chosen = calloc(r->points.n + 1, sizeof *c->chosen);
    c->bins = calloc((size_t)r->points.n * QUANTIZE_BINS + 1, sizeof *c->bins);
    c->layer = calloc(r->sites.n + 1, sizeof *c->layer);
    if (c->point_name == NULL || c->range == NULL || c->chosen == NULL || c->bins == NULL || c->layer == NULL) return false;
    c->n_point = r->points.n;
    c->n_layer = r->sites.n;
    for (uint32_t i = 0; i < c->n_point; i++) {
        const Value *v = r->points.v[i];
        c->point_name[i] = copy_text(v->name != 0 ? str_text(&m->cx, v->name) : "an unnamed value");
        c->range[i] = (QuantizeRange){INFINITY, -INFINITY};
    }
    for (uint32_t i = 0; i < c->n_layer; i++) {
        const QuantizeSite *s = &r->sites.v[i];
        Str name = s->node->loc.node != 0 ? s->node->loc.node : s->node->out[0]->name;
        c->layer[i] = (Layer){.name = copy_text(name != 0 ? str_text(&m->cx, name) : "unnamed"), .op = copy_text(op_name((Op)s->node->op)), .keep = s->keep, .conv = s->conv,
                              .rows = s->rows, .k = s->k, .point = s->point, .float_bytes = (uint64_t)(s->rows * s->k) * 4};
    }
    c->ready = true;
    return true;
}

static bool prepare(LatheModel *m, Request *r) {
    static const char *const passes[] = {"infer_shapes", "fold_consts", "simplify", "cse", "dce"};
    const LatheOptions options = lathe_options();
    if (m->cx.n_error != 0 || options_apply(m, &options) != LATHE_OK) return false;
    for (size_t i = 0; i < sizeof passes / sizeof *passes; i++)
        if (!pass_run(m->m, pass_find(passes[i]))) return false;
    quantize_find(m->m, &r->c->q, &r->sites, &r->points);
    if (r->c->q.equalize) quantize_equalize(m->m, &r->sites);
    if (r->c->smoothing && smooths(&r->c->q)) {
        if (r->points.n != r->c->n_channel_point || !quantize_smooth(m->m, &r->c->q, &r->sites, &r->points, r->c->channels)) return false;
        r->sites.n = r->points.n = 0;
        quantize_find(m->m, &r->c->q, &r->sites, &r->points);
    }
    if (r->sites.n == 0) {
        fail(r->c, LATHE_ERROR_MODEL, "there is nothing to quantize: no Conv, MatMul or Gemm with constant f32 weights", "");
        return false;
    }
    if (r->c->step == STEP_CHANNELS || get_ready(m, r)) return true;
    fail(r->c, LATHE_ERROR_MODEL, r->c->ready ? "another model than the one calibrated" : "out of memory", "");
    return false;
}

/* ---- probing ----------------------------------------------------------------------------------------------------------------------------- */
static bool is_coded(const Layer *l) { return l->codes.code != NULL; }

/* Layers rounded so far get their new weights, so that later ones see what they will compute. */
static void set_rounded(LatheModel *m, Request *r) {
    for (uint32_t i = 0; i < r->sites.n; i++) {
        const QuantizeCodes *codes = &r->c->layer[i].codes;
        if (codes->code == NULL) continue;
        float *w = ARENA_ARRAY(&m->cx.scratch, float, codes->rows * codes->k);
        for (int64_t row = 0; row < codes->rows; row++)
            for (int64_t k = 0; k < codes->k; k++) w[row * codes->k + k] = quantize_code_value(codes, row, k);
        quantize_set_weights(m->m, &r->sites.v[i], w);
    }
}

/* The next point whose layers have no codes yet; false: all have. */
static bool next_squares(LatheModel *m, Request *r) {
    LatheCalibration *c = r->c;
    const Layer *first = NULL;
    for (uint32_t i = 0; i < c->n_layer && first == NULL; i++)
        if (!c->layer[i].keep && !c->layer[i].conv && !is_coded(&c->layer[i])) first = &c->layer[i];
    if (first == NULL) return false;
    c->current = first->point;
    c->k = first->k;
    free(c->squares);
    c->squares = calloc((size_t)(c->k * c->k), sizeof *c->squares);
    bool good = c->squares != NULL;
    for (uint32_t i = 0; i < c->n_layer && good; i++) {
        Layer *l = &c->layer[i];
        if (l->keep || l->conv || l->point != c->current || is_coded(l)) continue;
        size_t bytes = (size_t)(l->rows * l->k) * sizeof *l->w;
        if (l->w == NULL) l->w = malloc(bytes);
        good = l->w != NULL;
        if (good) memcpy(l->w, quantize_weights(m->m, &r->sites.v[i]), bytes);
    }
    return good;
}

/* Room for the channels of every point; those of run-time size are left out. */
static bool new_channels(LatheModel *m, Request *r, const uint32_t *axis) {
    LatheCalibration *c = r->c;
    if (c->channels != NULL) return c->n_channel_point == r->points.n;
    c->channels = calloc(r->points.n + 1, sizeof *c->channels);
    if (c->channels == NULL) return false;
    c->n_channel_point = r->points.n;
    for (uint32_t i = 0; i < r->points.n; i++) {
        QuantizeChannels *p = &c->channels[i];
        Dim d = r->points.v[i]->type->dim[axis[i]];
        p->n = dim_is_const(&m->cx, d) ? dim_value(&m->cx, d) : 0;
        p->most = calloc((size_t)p->n + 1, sizeof *p->most);
        p->mean_abs = calloc((size_t)p->n + 1, sizeof *p->mean_abs);
        p->mean = calloc((size_t)p->n + 1, sizeof *p->mean);
        if (p->most == NULL || p->mean_abs == NULL || p->mean == NULL) return false;
    }
    return true;
}

/* One more run: maxima, and means over the runs so far. */
static LatheStatus add_channels(LatheCalibration *c, const void *const *out) {
    float share = 1 / (float)++c->sets;
    for (uint32_t i = 0; i < c->n_channel_point; i++) {
        QuantizeChannels *p = &c->channels[i];
        const float *most = out[3 * i], *mean_abs = out[3 * i + 1], *mean = out[3 * i + 2];
        for (int64_t k = 0; k < p->n; k++) {
            if (!isfinite(most[k]) || !isfinite(mean[k])) return fail(c, LATHE_ERROR_MODEL, "NaN or infinity in a value of the model", "");
            p->most[k] = fmaxf(p->most[k], most[k]);
            p->mean_abs[k] += (mean_abs[k] - p->mean_abs[k]) * share;
            p->mean[k] += (mean[k] - p->mean[k]) * share;
        }
    }
    return LATHE_OK;
}

static LatheStatus probe(LatheModel *m, void *user) {
    Request *r = user;
    LatheCalibration *c = r->c;
    if (!prepare(m, r)) return LATHE_ERROR_MODEL;
    static const QuantizeProbe kinds[] = {[STEP_CHANNELS] = PROBE_CHANNELS, [STEP_RANGE] = PROBE_RANGE, [STEP_HISTOGRAM] = PROBE_HISTOGRAM, [STEP_SQUARES] = PROBE_SQUARES};
    c->first_output = m->m->main->n_out;
    uint32_t *axis = quantize_axes(m->m, &r->sites, &r->points);
    if (c->step == STEP_CHANNELS && !new_channels(m, r, axis)) return fail(c, LATHE_ERROR_MODEL, "out of memory", "");
    c->sets = 0;
    if (c->step == STEP_SQUARES) {
        set_rounded(m, r);
        if (!next_squares(m, r)) return fail(c, LATHE_ERROR_MODEL, "no matrix product with constant weights to round", "");
    }
    if (quantize_probe(m->m, kinds[c->step], &r->points, c->range, axis, c->current)) return LATHE_OK;
    return fail(c, LATHE_ERROR_MODEL, "a value cannot be measured", "");
}

LatheStatus lathe_calibration_probe(LatheModel *m, LatheCalibration *c) {
    Request r = {.c = c};
    return model_enter(m, probe, &r);
}

LatheStatus lathe_calibration_add(LatheCalibration *c, const void *const *outputs) {
    const void *const *out = outputs + c->first_output;
    if (c->step == STEP_CHANNELS) return add_channels(c, out);
    for (uint32_t i = 0; i < c->n_point && c->step == STEP_RANGE; i++) {
        float low, high;
        memcpy(&low, out[2 * i], sizeof low);
        memcpy(&high, out[2 * i + 1], sizeof high);
        if (!isfinite(low) || !isfinite(high)) return fail(c, LATHE_ERROR_MODEL, "NaN or infinity in ", c->point_name[i]);
        c->range[i].low = fmin(c->range[i].low, (double)low);
        c->range[i].high = fmax(c->range[i].high, (double)high);
    }
    for (uint32_t i = 0; i < c->n_point && c->step == STEP_HISTOGRAM; i++) {
        const int64_t *bin = out[i];
        for (int k = 0; k < QUANTIZE_BINS; k++) c->bins[(size_t)i * QUANTIZE_BINS + (size_t)k] += (uint64_t)bin[k];
    }
    const float *square = out[0];
    for (int64_t i = 0; c->step == STEP_SQUARES && i < c->k * c->k; i++) {
        if (!isfinite(square[i])) return fail(c, LATHE_ERROR_MODEL, "NaN or infinity in ", c->point_name[c->current]);
        c->squares[i] += (double)square[i];
    }
    return LATHE_OK;
}

/* ---- weights ------------------------------------------------------------------------------------------------------------------------------- */
static int64_t group_of(const LatheQuantization *q, int64_t k) {
    if (q->group != 0) return q->group;
    int64_t g = 16;
    while (g < k) g *= 2;
    return g;
}

/* The inputs of a layer with the largest elements; all but one at most. */
static bool choose_outliers(const LatheQuantization *q, Layer *l, const QuantizeChannels *channels) {
    QuantizeCodes *c = &l->codes;
    if (q->outliers == 0 || channels == NULL || channels->n != l->k) return true;
    c->outlier = calloc((size_t)l->k, sizeof *c->outlier);
    c->exact = calloc((size_t)(l->rows * l->k), sizeof *c->exact);
    if (c->outlier == NULL || c->exact == NULL) return false;
    for (int64_t n = 0; n < (int64_t)q->outliers && n + 1 < l->k; n++) {
        int64_t best = -1;
        for (int64_t k = 0; k < l->k; k++)
            if (!c->outlier[k] && (best < 0 || channels->most[k] > channels->most[best])) best = k;
        c->outlier[best] = true;
    }
    return true;
}

/* channels: of the layer's input, NULL when they were not measured */
static bool new_codes(const LatheQuantization *q, Layer *l, const QuantizeChannels *channels) {
    QuantizeCodes *c = &l->codes;
    *c = (QuantizeCodes){.rows = l->rows, .k = l->k, .group = weights_only(q) ? group_of(q, l->k) : l->k, .bits = q->scheme == LATHE_QUANTIZE_WEIGHT4 ? 4 : 8};
    size_t groups = (size_t)(l->rows * ((l->k + c->group - 1) / c->group));
    c->code = calloc((size_t)(l->rows * l->k), 1);
    c->scale = calloc(groups, sizeof *c->scale);
    c->zero = calloc(groups, sizeof *c->zero);
    return c->code != NULL && c->scale != NULL && c->zero != NULL && choose_outliers(q, l, channels);
}

static const QuantizeChannels *channels_of(const LatheCalibration *c, const Layer *l) { return l->point < c->n_channel_point ? &c->channels[l->point] : NULL; }

static QuantizeZero zero_kind(const LatheQuantization *q) { return q->symmetric || !weights_only(q) ? QUANTIZE_ZERO_MIDDLE : QUANTIZE_ZERO_CODE; }

static LatheStatus round_current(LatheCalibration *c) {
    double *h = malloc((size_t)(c->k * c->k) * sizeof *h);
    for (uint32_t i = 0; i < c->n_layer; i++) {
        Layer *l = &c->layer[i];
        if (l->keep || l->conv || l->point != c->current || is_coded(l)) continue;
        if (h == NULL || !new_codes(&c->q, l, channels_of(c, l))) {
            free(h);
            return fail(c, LATHE_ERROR_MODEL, "out of memory", "");
        }
        memcpy(h, c->squares, (size_t)(c->k * c->k) * sizeof *h);
        if (!quantize_gptq(&l->codes, l->w, h, zero_kind(&c->q), c->q.act_order, 128)) quantize_round(&l->codes, l->w, zero_kind(&c->q));
    }
    free(h);
    for (uint32_t i = 0; i < c->n_layer; i++)
        if (!c->layer[i].keep && !c->layer[i].conv && !is_coded(&c->layer[i])) return LATHE_OK; /* another round */
    c->step = STEP_DONE;
    return LATHE_OK;
}

LatheStatus lathe_calibration_end_round(LatheCalibration *c) {
    switch (c->step) {
    case STEP_CHANNELS:
        c->smoothing = true;
        c->step = main_step(&c->q);
        return LATHE_OK;
    case STEP_RANGE: c->step = STEP_HISTOGRAM; return LATHE_OK;
    case STEP_HISTOGRAM: c->step = STEP_DONE; return LATHE_OK;
    case STEP_SQUARES: return round_current(c);
    case STEP_DONE: return LATHE_OK;
    }
    return LATHE_OK;
}

/* ---- the result ------------------------------------------------------------------------------------------------------------------------------ */
static void account_codes(Layer *l, const float *w) {
    const QuantizeCodes *c = &l->codes;
    double signal = 0, noise = 0;
    for (int64_t r = 0; r < l->rows; r++)
        for (int64_t k = 0; k < l->k; k++) {
            double x = (double)w[r * l->k + k], e = x - (double)quantize_code_value(c, r, k);
            signal += x * x;
            noise += e * e;
        }
    int64_t groups = (l->k + c->group - 1) / c->group;
    l->sqnr = noise > 0 ? 10 * log10(signal / noise) : INFINITY;
    l->bytes = (uint64_t)(l->rows * groups) * ((uint64_t)c->group * (uint64_t)c->bits / 8 + 4) + (uint64_t)l->rows * (uint64_t)((groups * c->bits + 7) / 8);
}

/* The weights as the static and dynamic schemes round them. */
static QuantizeRows rows_of(LatheModel *m, const LatheQuantization *q, const Layer *l, const float *w) {
    return quantize_rows(&m->cx.scratch, w, l->rows, l->k, quantize_weight_bits(q), q->per_tensor);
}

static float *rounded_rows(LatheModel *m, const LatheQuantization *q, const Layer *l, const float *w) {
    QuantizeRows rows = rows_of(m, q, l, w);
    float *to = ARENA_ARRAY(&m->cx.scratch, float, l->rows * l->k);
    for (int64_t r = 0; r < l->rows; r++)
        for (int64_t k = 0; k < l->k; k++) to[r * l->k + k] = quantize_rows_value(&rows, r, k);
    return to;
}

static void account_rows(LatheModel *m, const LatheQuantization *q, Layer *l, const float *w) {
    const float *rounded = rounded_rows(m, q, l, w);
    double signal = 0, noise = 0;
    for (int64_t i = 0; i < l->rows * l->k; i++) {
        double x = (double)w[i], e = x - (double)rounded[i];
        signal += x * x;
        noise += e * e;
    }
    l->sqnr = noise > 0 ? 10 * log10(signal / noise) : INFINITY;
    l->bytes = ((uint64_t)(l->rows * l->k) * (uint64_t)quantize_weight_bits(q) + 7) / 8 + (uint64_t)(q->per_tensor ? 1 : l->rows) * 4;
}

static LatheStatus quantize(LatheModel *m, void *user) {
    Request *r = user;
    LatheCalibration *c = r->c;
    if (!prepare(m, r)) return LATHE_ERROR_MODEL;
    bool only = weights_only(&c->q), coded = only || (c->q.scheme == LATHE_QUANTIZE_DYNAMIC && (c->q.gptq || c->q.outliers != 0)), good;
    QuantizeCodes *codes = ARENA_ARRAY(&m->cx.scratch, QuantizeCodes, c->n_layer);
    for (uint32_t i = 0; i < c->n_layer; i++) {
        Layer *l = &c->layer[i];
        l->keep = r->sites.v[i].keep;
        if (l->keep || (l->conv && c->q.scheme != LATHE_QUANTIZE_STATIC)) {
            l->bytes = l->float_bytes;
            l->sqnr = INFINITY;
            continue;
        }
        const float *w = quantize_weights(m->m, &r->sites.v[i]);
        if (c->q.bias_correction && c->smoothing && !smooths(&c->q) && c->q.scheme == LATHE_QUANTIZE_STATIC && l->point < c->n_channel_point)
            quantize_correct_bias(m->m, &r->sites.v[i], rounded_rows(m, &c->q, l, w), &c->channels[l->point]);
        if (coded && !is_coded(l)) {
            if (!new_codes(&c->q, l, channels_of(c, l))) return fail(c, LATHE_ERROR_MODEL, "out of memory", "");
            quantize_round(&l->codes, w, zero_kind(&c->q));
        }
        if (coded) account_codes(l, w);
        else account_rows(m, &c->q, l, w);
        if (coded) codes[i] = l->codes;
    }
    for (uint32_t i = 0; i < c->n_point; i++) c->chosen[i] = quantize_range_choose(&c->q, c->range[i], c->bins + (size_t)i * QUANTIZE_BINS);
    if (only) good = quantize_weight_only(m->m, &c->q, &r->sites, codes);
    else if (c->q.scheme == LATHE_QUANTIZE_DYNAMIC) good = quantize_dynamic(m->m, &c->q, &r->sites, codes);
    else good = quantize_static(m->m, &c->q, &r->sites, &r->points, c->chosen);
    return good ? model_status(m) : LATHE_ERROR_MODEL;
}

LatheStatus lathe_quantize(LatheModel *m, LatheCalibration *c) {
    Request r = {.c = c};
    return model_enter(m, quantize, &r);
}

static LatheStatus round_weights(LatheModel *m, void *user) {
    (void)user;
    if (m->cx.n_error != 0 || !pass_run(m->m, pass_find("infer_shapes"))) return LATHE_ERROR_MODEL;
    if (quantize_fold_weights(m->m) != 0) return model_status(m);
    diag(&m->cx, SEV_ERROR, (Loc){0}, "no constants behind a QuantizeLinear: this is not a model from lathe quantize --qat");
    return LATHE_ERROR_MODEL;
}

LatheStatus lathe_round_weights(LatheModel *m) { return model_enter(m, round_weights, NULL); }

uint32_t lathe_quantized_layer_count(const LatheCalibration *c) { return c->n_layer; }

LatheQuantizedLayer lathe_quantized_layer(const LatheCalibration *c, uint32_t i) {
    const Layer *l = &c->layer[i];
    bool measured = c->q.scheme == LATHE_QUANTIZE_STATIC && !l->keep;
    return (LatheQuantizedLayer){.name = l->name, .op = l->op, .quantized = l->bytes != l->float_bytes, .low = measured ? c->chosen[l->point].low : 0,
                                 .high = measured ? c->chosen[l->point].high : 0, .histogram = measured ? c->bins + (size_t)l->point * QUANTIZE_BINS : NULL, .sqnr = l->sqnr,
                                 .float_bytes = l->float_bytes, .bytes = l->bytes};
}
