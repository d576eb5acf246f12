/* Post-training quantization: what api/quantize.c is made of.
 *
 *     sites    contractions with constant weights: Conv, MatMul, Gemm; weights seen as a matrix [rows][k], a row per output channel
 *     points   float values that become bytes (static scheme), or whose statistics a scheme wants
 *     probes   outputs added to the model that measure points on every run: the model is compiled and run on calibration data
 *     rewrite  the model with QuantizeLinear / DequantizeLinear, DynamicQuantizeLinear or MatMulNBits in it
 *
 * All of them work on a graph of ONNX operators with inferred types, before any pass that introduces others. */
#ifndef LATHE_PASSES_QUANTIZE_H
#define LATHE_PASSES_QUANTIZE_H
#include "ir/graph.h"
#include "lathe.h"

typedef struct QuantizeSite {
    Node *node;
    Value *x, *w;
    bool conv;
    int64_t groups, rows, k;       /* rows: of all groups; k: weights of a row */
    int64_t by_row, by_k;          /* elements between neighbours in w */
    uint32_t point;                /* of x, in the list of points */
    bool keep;                     /* stays in floats */
} QuantizeSite;
typedef VEC(QuantizeSite) QuantizeSites;
typedef VEC(Value *) QuantizePoints;

/* The sites of the main graph and the points the scheme needs, in execution order; the same for equal models. */
void quantize_find(Module *m, const LatheQuantization *q, QuantizeSites *sites, QuantizePoints *points);
/* The weights of a site as floats, [rows][k]; scratch memory. */
float *quantize_weights(Module *m, const QuantizeSite *s);
/* New weights for it (in w's own layout), replacing the old constant. */
void quantize_set_weights(Module *m, QuantizeSite *s, const float *matrix);

/* ---- ranges (ranges.c) ---------------------------------------------------------------------------------------------------------- */
#define QUANTIZE_BINS 2048
typedef struct QuantizeRange { double low, high; } QuantizeRange;
/* The part of [low, high] to spend the codes on; bins: how many elements fell into each of its equal parts. */
QuantizeRange quantize_range_choose(const LatheQuantization *q, QuantizeRange whole, const uint64_t *bins);
/* Scale and zero point for 8 bits: u8, or with `symmetric` s8 and zero 0. The range is widened to hold 0. */
void quantize_parameters(QuantizeRange r, bool symmetric, float *scale, int32_t *zero);

/* ---- channels (smooth.c) ---------------------------------------------------------------------------------------------------------- */
typedef struct QuantizeChannels { int64_t n; float *most, *mean_abs, *mean; } QuantizeChannels; /* of a point: max |x|, mean |x|, mean x */
/* SmoothQuant (q->smooth) or AWQ (q->awq) on the matrix products of m; channels: by point. Sites and points must be found anew. */
bool quantize_smooth(Module *m, const LatheQuantization *q, QuantizeSites *sites, const QuantizePoints *points, const QuantizeChannels *channels);
/* Scales the channels between two sites so that their weights are of equal size (equalize.c). */
void quantize_equalize(Module *m, QuantizeSites *sites);
/* Puts what rounding the site's weights to `rounded` changes on average into its bias. */
void quantize_correct_bias(Module *m, const QuantizeSite *s, const float *rounded, const QuantizeChannels *channels);

/* ---- probes (probe.c) ------------------------------------------------------------------------------------------------------------ */
typedef enum QuantizeProbe { PROBE_CHANNELS, PROBE_RANGE, PROBE_HISTOGRAM, PROBE_SQUARES } QuantizeProbe;
/* CHANNELS: per point f32[C] max |x|, mean |x|, mean x over all dims but `axis[point]`. RANGE: per point f32 min and max. HISTOGRAM: per point i64[QUANTIZE_BINS] over range[point]. SQUARES: XᵀX f32[k,k] of point `only`. */
bool quantize_probe(Module *m, QuantizeProbe probe, const QuantizePoints *points, const QuantizeRange *range, const uint32_t *axis, uint32_t only);
/* The dim of a point that its sites call channels: 1 for convolutions, else the last. By point. */
uint32_t *quantize_axes(Module *m, const QuantizeSites *sites, const QuantizePoints *points);

/* ---- weights (codes.c, gptq.c) ---------------------------------------------------------------------------------------------------- */
typedef struct QuantizeCodes { /* of one site: value = (code - zero) * scale, per group of `group` weights of a row */
    int64_t rows, k, group;
    int bits;
    uint8_t *code;         /* [rows][k] */
    float *scale;          /* [rows][ceil(k / group)] */
    float *zero;           /* the same shape */
    bool *outlier;         /* [k]: columns that stay in floats; NULL: none */
    float *exact;          /* [rows][k]: the weights of those; NULL without outliers */
} QuantizeCodes;
typedef enum QuantizeZero {
    QUANTIZE_ZERO_MIDDLE,  /* symmetric: the middle code */
    QUANTIZE_ZERO_CODE,    /* a code; the range is widened to hold 0 */
    QUANTIZE_ZERO_FLOAT,   /* -min / scale as it is: all codes from min to max are used */
} QuantizeZero;
/* Weights of the static scheme, signed: value = code * scale, one scale per row or one for all. */
typedef struct QuantizeRows {
    int64_t rows, k, n_scale;
    float *scale;
    int8_t *code;          /* [rows][k] */
} QuantizeRows;
/* 8 bits: -127 to 127, the largest weight is 127. 4 bits: -8 to 7, the scale with the least square error. */
QuantizeRows quantize_rows(Arena *a, const float *w, int64_t rows, int64_t k, int bits, bool per_tensor);
float quantize_rows_value(const QuantizeRows *r, int64_t row, int64_t k);
int quantize_weight_bits(const LatheQuantization *q); /* of the static scheme */

/* Round to nearest: code = round(w / scale + zero), half to even, clipped. */
void quantize_round(QuantizeCodes *c, const float *w, QuantizeZero zero);
/* GPTQ: as quantize_round, with the errors of earlier columns made up for by later ones, outliers last of all. h: XᵀX, [k][k], destroyed. False: h is not
 * positive definite even when damped. block: columns whose updates are kept back together. */
bool quantize_gptq(QuantizeCodes *c, const float *w, double *h, QuantizeZero zero, bool act_order, int64_t block);
float quantize_code_value(const QuantizeCodes *c, int64_t row, int64_t k);

/* Two 4-bit codes per byte, the even column in the low half; n columns, an odd last one alone. */
void quantize_pack4(uint8_t *to, const uint8_t *codes, int64_t n);
void quantize_unpack4(uint8_t *codes, const uint8_t *from, int64_t n);

/* ---- rewriting (rewrite.c) --------------------------------------------------------------------------------------------------------- */
/* range: by point. q->train: weights stay floats, rounded by QuantizeLinear in the graph; biases stay as they are. */
bool quantize_static(Module *m, const LatheQuantization *q, QuantizeSites *sites, const QuantizePoints *points, const QuantizeRange *range);
/* codes: by site, of 8 bits and one group; those without codes (k 0) are rounded to nearest. */
bool quantize_dynamic(Module *m, const LatheQuantization *q, QuantizeSites *sites, const QuantizeCodes *codes);
/* Constant floats behind a QuantizeLinear become the integers they are rounded to: how many. */
uint32_t quantize_fold_weights(Module *m);
/* codes: by site; those without codes (k 0) stay as they are. */
bool quantize_weight_only(Module *m, const LatheQuantization *q, QuantizeSites *sites, const QuantizeCodes *codes);

#endif
