/* Which part of a value's range to spend 256 codes on, from a histogram of what it was on the calibration data.
 *
 *     MINMAX      all of it
 *     PERCENTILE  what is left without the outermost elements
 *     MSE         the clipping with the least expected square error
 *     ENTROPY     the clipping whose quantized distribution is nearest to the original (Kullback-Leibler)
 *
 * The last two try ends shrunk towards zero in steps, both by the same factor. */
#include <math.h>

#include "passes/quantize/quantize.h"

#define STEPS 100
#define CODES 256
static const double UNREACHED = 1e-9;

static double center(QuantizeRange r, int bin) { return r.low + (r.high - r.low) * (bin + 0.5) / QUANTIZE_BINS; }

static QuantizeRange percentile(QuantizeRange r, const uint64_t *bins, double percent) {
    uint64_t total = 0, seen = 0;
    for (int i = 0; i < QUANTIZE_BINS; i++) total += bins[i];
    double outside = (1 - percent / 100) * (double)total;
    int first = 0, last = QUANTIZE_BINS - 1;
    for (; first < last && (double)(seen + bins[first]) <= outside; first++) seen += bins[first];
    for (seen = 0; last > first && (double)(seen + bins[last]) <= outside; last--) seen += bins[last];
    double step = (r.high - r.low) / QUANTIZE_BINS;
    return (QuantizeRange){r.low + step * first, r.low + step * (last + 1)};
}

static QuantizeRange shrunk(QuantizeRange r, int step) {
    double f = (double)(STEPS - step) / STEPS;
    return (QuantizeRange){r.low * f, r.high * f};
}

static double square_error(const LatheQuantization *q, QuantizeRange whole, const uint64_t *bins, QuantizeRange r) {
    float scale;
    int32_t zero;
    quantize_parameters(r, q->symmetric, &scale, &zero);
    double low = q->symmetric ? -127 : 0, high = q->symmetric ? 127 : 255, sum = 0, within = (whole.high - whole.low) / QUANTIZE_BINS;
    for (int i = 0; i < QUANTIZE_BINS; i++) {
        if (bins[i] == 0) continue;
        double x = center(whole, i), c = fmin(fmax(rint(x / (double)scale) + zero, low), high), e = x - (c - zero) * (double)scale;
        double noise = c > low && c < high ? (double)scale * (double)scale / 12 : e * e;
        sum += (double)bins[i] * (within < (double)scale ? noise : e * e);
    }
    return sum;
}

/* Divergence of the histogram from itself seen through the codes of r: a code's elements lie evenly in the bins of it that hold any. What
 * is clipped lies in bins that the codes cannot reach; those have the probability UNREACHED altogether. To pile clipped elements up in
 * the last bin instead, as is often done, makes the end of a range look right that is far too short: its last bin is the same in both. */
static double divergence(QuantizeRange whole, const uint64_t *bins, QuantizeRange r) {
    double level[CODES] = {0}, total = 0, inside = 0, sum = 0;
    int filled[CODES] = {0}, at[QUANTIZE_BINS];
    for (int i = 0; i < QUANTIZE_BINS; i++) {
        double x = center(whole, i);
        at[i] = x < r.low || x > r.high ? -1 : (int)fmin((x - r.low) / (r.high - r.low) * CODES, CODES - 1);
        total += (double)bins[i];
        if (bins[i] != 0 && at[i] >= 0) level[at[i]] += (double)bins[i], inside += (double)bins[i], filled[at[i]]++;
    }
    if (!(inside > 0)) return INFINITY;
    for (int i = 0; i < QUANTIZE_BINS; i++) {
        if (bins[i] == 0) continue;
        double p = (double)bins[i] / total, q = at[i] >= 0 ? level[at[i]] / filled[at[i]] / inside : 0;
        sum += p * log(p / (q * (1 - UNREACHED) + UNREACHED / QUANTIZE_BINS));
    }
    return sum;
}

QuantizeRange quantize_range_choose(const LatheQuantization *q, QuantizeRange whole, const uint64_t *bins) {
    if (bins == NULL || q->range == LATHE_RANGE_MINMAX || !(whole.high > whole.low)) return whole;
    if (q->range == LATHE_RANGE_PERCENTILE) return percentile(whole, bins, q->percentile);
    uint64_t rest[QUANTIZE_BINS]; /* without zeros, which every range represents exactly: activations hold many */
    memcpy(rest, bins, sizeof rest);
    double zero = -whole.low / (whole.high - whole.low) * QUANTIZE_BINS;
    if (zero >= 0 && zero < QUANTIZE_BINS) rest[(int)zero] = 0;
    QuantizeRange best = whole;
    double least = INFINITY;
    for (int s = 0; s < STEPS * 9 / 10; s++) {
        QuantizeRange r = shrunk(whole, s);
        if (!(r.high > r.low)) break;
        double e = q->range == LATHE_RANGE_MSE ? square_error(q, whole, bins, r) : divergence(whole, rest, r);
        if (e >= least) continue;
        least = e;
        best = r;
    }
    return best;
}

void quantize_parameters(QuantizeRange r, bool symmetric, float *scale, int32_t *zero) {
    double low = fmin(r.low, 0), high = fmax(r.high, 0);
    *scale = symmetric ? (float)(fmax(-low, high) / 127) : (float)((high - low) / 255);
    if (!(*scale > 1e-30F)) *scale = 1;
    *zero = symmetric ? 0 : (int32_t)fmin(fmax(rint(-low / (double)*scale), 0), 255);
}
