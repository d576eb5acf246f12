/* Weights as codes of few bits: rounding to nearest, and packing.
 *
 *     MIDDLE  scale = max |w| / (2^(bits-1) - 1), zero = 2^(bits-1)
 *     CODE    scale = (max - min) / (2^bits - 1), zero = round(-min / scale), min and max widened to hold 0
 *     FLOAT   scale = (max - min) / (2^bits - 1), zero = -min / scale; a constant row has scale 1
 *
 * per row, or per group of consecutive weights of a row. The static scheme's weights (quantize_rows) are signed and have no zero. */
#include <math.h>

#include "passes/quantize/quantize.h"

/* left_out: of these weights; NULL: none */
static void parameters(const float *w, const bool *left_out, int64_t n, int bits, QuantizeZero kind, float *scale, float *zero) {
    double low = kind == QUANTIZE_ZERO_FLOAT && left_out == NULL ? (double)w[0] : 0, high = low, most = (double)((1 << bits) - 1), half = (double)(1 << (bits - 1));
    for (int64_t i = 0; i < n; i++) {
        if (left_out != NULL && left_out[i]) continue;
        low = fmin(low, (double)w[i]), high = fmax(high, (double)w[i]);
    }
    *scale = (float)(kind == QUANTIZE_ZERO_MIDDLE ? fmax(-low, high) / (half - 1) : (high - low) / most);
    if (!(*scale > 1e-30F)) *scale = 1;
    switch (kind) {
    case QUANTIZE_ZERO_MIDDLE: *zero = (float)half; return;
    case QUANTIZE_ZERO_CODE: *zero = (float)fmin(fmax(rint(-low / (double)*scale), 0), most); return;
    case QUANTIZE_ZERO_FLOAT: *zero = (float)(-low / (double)*scale); return;
    }
}

void quantize_round(QuantizeCodes *c, const float *w, QuantizeZero kind) {
    int64_t groups = (c->k + c->group - 1) / c->group;
    double most = (double)((1 << c->bits) - 1);
    for (int64_t r = 0; r < c->rows; r++)
        for (int64_t g = 0; g < groups; g++) {
            int64_t start = g * c->group, end = start + c->group < c->k ? start + c->group : c->k;
            float *scale = &c->scale[r * groups + g], *zero = &c->zero[r * groups + g];
            parameters(w + r * c->k + start, c->outlier != NULL ? c->outlier + start : NULL, end - start, c->bits, kind, scale, zero);
            for (int64_t k = start; k < end; k++) {
                if (c->outlier != NULL && c->outlier[k]) c->exact[r * c->k + k] = w[r * c->k + k];
                c->code[r * c->k + k] = (uint8_t)fmin(fmax(rint((double)w[r * c->k + k] / (double)*scale + (double)*zero), 0), most);
            }
        }
}

/* ---- signed, without zero ------------------------------------------------------------------------------------------------------------ */
int quantize_weight_bits(const LatheQuantization *q) { return q->weight_bits != 0 ? (int)q->weight_bits : 8; }

static double signed_code(double w, double scale, int bits) {
    double high = (double)((1 << (bits - 1)) - 1), low = bits == 8 ? -high : -high - 1;
    return fmin(fmax(rint(w / scale), low), high);
}

static double square_error(const float *w, int64_t n, double scale, int bits) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double e = (double)w[i] - signed_code((double)w[i], scale, bits) * scale;
        sum += e * e;
    }
    return sum;
}

/* With few codes, cutting off the largest weights makes the others more exact. */
static float signed_scale(const float *w, int64_t n, int bits) {
    const int tries = 64;
    double most = 0;
    for (int64_t i = 0; i < n; i++) most = fmax(most, fabs((double)w[i]));
    double widest = most / (double)((1 << (bits - 1)) - 1), best = widest, least = INFINITY;
    if (!(widest > 1e-30)) return 1;
    for (int t = tries; t > 0 && bits < 8; t--) {
        double scale = (double)(float)(widest * t / tries), e = scale > 0 ? square_error(w, n, scale, bits) : INFINITY;
        if (e < least) least = e, best = scale;
    }
    return (float)best;
}

QuantizeRows quantize_rows(Arena *a, const float *w, int64_t rows, int64_t k, int bits, bool per_tensor) {
    QuantizeRows r = {.rows = rows, .k = k, .n_scale = per_tensor ? 1 : rows, .scale = ARENA_ARRAY(a, float, rows), .code = ARENA_ARRAY(a, int8_t, rows * k)};
    if (per_tensor) r.scale[0] = signed_scale(w, rows * k, bits);
    for (int64_t i = 0; i < rows; i++) {
        if (!per_tensor) r.scale[i] = signed_scale(w + i * k, k, bits);
        double scale = (double)r.scale[per_tensor ? 0 : i];
        for (int64_t j = 0; j < k; j++) r.code[i * k + j] = (int8_t)signed_code((double)w[i * k + j], scale, bits);
    }
    return r;
}

float quantize_rows_value(const QuantizeRows *r, int64_t row, int64_t k) { return (float)r->code[row * r->k + k] * r->scale[r->n_scale == 1 ? 0 : row]; }

/* ---- packing ------------------------------------------------------------------------------------------------------------------------- */
float quantize_code_value(const QuantizeCodes *c, int64_t row, int64_t k) {
    if (c->outlier != NULL && c->outlier[k]) return c->exact[row * c->k + k];
    int64_t g = row * ((c->k + c->group - 1) / c->group) + k / c->group;
    return ((float)c->code[row * c->k + k] - c->zero[g]) * c->scale[g];
}

void quantize_pack4(uint8_t *to, const uint8_t *codes, int64_t n) {
    for (int64_t i = 0; i < n; i += 2) to[i / 2] = (uint8_t)((codes[i] & 15) | (i + 1 < n ? (codes[i + 1] & 15) << 4 : 0));
}

void quantize_unpack4(uint8_t *codes, const uint8_t *from, int64_t n) {
    for (int64_t i = 0; i < n; i++) codes[i] = i % 2 == 0 ? from[i / 2] & 15 : from[i / 2] >> 4;
}
