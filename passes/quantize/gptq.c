/* GPTQ: rounding a weight matrix so that its products with the calibration data change least (Frantar et al., 2022).
 *
 *     H = XᵀX        dead inputs (H_ii = 0) get H_ii = 1 and weight 0; with act_order columns are taken by descending H_ii
 *     H += 0.01 * mean(diag H) * I;  U = upper Cholesky factor of inverse(H)
 *     for each column i:  q = round(w_i);  e = (w_i - q) / U_ii;  later columns of the block -= e * U_i,later
 *     behind each block:  all later columns -= E * U_block,later
 *
 * Outlier columns, which stay in floats, come last and make up for errors without making any (QUIK: Ashkboos et al., 2023).
 * Scales and zero points are those of the original weights, per row or group, and belong to the original columns. */
#include <math.h>
#include <stdlib.h>

#include "passes/quantize/quantize.h"

static const double DAMPING = 0.01;

/* The lower Cholesky factor of a, in place; what stands above the diagonal becomes 0. */
static bool cholesky(double *a, int64_t n) {
    for (int64_t j = 0; j < n; j++) {
        double d = a[j * n + j];
        for (int64_t k = 0; k < j; k++) d -= a[j * n + k] * a[j * n + k];
        if (!(d > 0) || isinf(d)) return false;
        d = sqrt(d);
        a[j * n + j] = d;
        for (int64_t i = j + 1; i < n; i++) {
            double s = a[i * n + j];
            for (int64_t k = 0; k < j; k++) s -= a[i * n + k] * a[j * n + k];
            a[i * n + j] = s / d;
        }
        for (int64_t k = j + 1; k < n; k++) a[j * n + k] = 0;
    }
    return true;
}

/* The inverse of the matrix whose lower factor is l, in `out`; l is destroyed. */
static void invert(double *l, double *out, int64_t n) {
    for (int64_t j = 0; j < n; j++) { /* l becomes its own inverse */
        l[j * n + j] = 1 / l[j * n + j];
        for (int64_t i = j + 1; i < n; i++) {
            double s = 0;
            for (int64_t k = j; k < i; k++) s -= l[i * n + k] * l[k * n + j];
            l[i * n + j] = s / l[i * n + i];
        }
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
            double s = 0;
            for (int64_t k = i; k < n; k++) s += l[k * n + i] * l[k * n + j];
            out[i * n + j] = out[j * n + i] = s;
        }
}

typedef struct Order { bool last; double weight; int64_t at; } Order;

static int by_weight(const void *a, const void *b) {
    const Order *x = a, *y = b;
    if (x->last != y->last) return x->last - y->last;
    if (x->weight != y->weight) return x->weight > y->weight ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* h, permuted and damped, into u: the upper factor of its inverse. work: n * n. */
static bool factor(double *h, const Order *order, double *u, double *work, int64_t n) {
    double mean = 0;
    for (int64_t i = 0; i < n; i++) mean += h[i * n + i] / (double)n;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) work[i * n + j] = h[order[i].at * n + order[j].at] + (i == j ? DAMPING * mean : 0);
    if (!cholesky(work, n)) return false;
    invert(work, h, n);
    if (!cholesky(h, n)) return false;
    for (int64_t i = 0; i < n; i++) /* inverse = L Lᵀ = Uᵀ U with U = Lᵀ */
        for (int64_t j = 0; j < n; j++) u[i * n + j] = h[j * n + i];
    return true;
}

static double round_one(QuantizeCodes *c, int64_t row, int64_t k, double w) {
    if (c->outlier != NULL && c->outlier[k]) {
        c->exact[row * c->k + k] = (float)w;
        return w;
    }
    int64_t g = row * ((c->k + c->group - 1) / c->group) + k / c->group;
    double most = (double)((1 << c->bits) - 1), code = fmin(fmax(rint(w / (double)c->scale[g] + (double)c->zero[g]), 0), most);
    c->code[row * c->k + k] = (uint8_t)code;
    return (code - (double)c->zero[g]) * (double)c->scale[g];
}

static void round_rows(QuantizeCodes *c, double *w, const Order *order, const double *u, double *error, int64_t block) {
    int64_t n = c->k;
    for (int64_t row = 0; row < c->rows; row++, w += n)
        for (int64_t start = 0; start < n; start += block) {
            int64_t end = start + block < n ? start + block : n;
            for (int64_t i = start; i < end; i++) {
                double e = (w[i] - round_one(c, row, order[i].at, w[i])) / u[i * n + i];
                for (int64_t j = i; j < end; j++) w[j] -= e * u[i * n + j];
                error[i] = e;
            }
            for (int64_t i = start; i < end; i++)
                for (int64_t j = end; j < n; j++) w[j] -= error[i] * u[i * n + j];
        }
}

bool quantize_gptq(QuantizeCodes *c, const float *w, double *h, QuantizeZero zero, bool act_order, int64_t block) {
    int64_t n = c->k;
    double *u = calloc((size_t)(n * n), sizeof *u), *work = calloc((size_t)(n * n), sizeof *work), *copy = calloc((size_t)(c->rows * n), sizeof *copy), *error = calloc((size_t)n, sizeof *error);
    Order *order = calloc((size_t)n, sizeof *order);
    bool good = u != NULL && work != NULL && copy != NULL && error != NULL && order != NULL;
    if (good) {
        quantize_round(c, w, zero); /* scales and zero points */
        for (int64_t i = 0; i < n; i++) order[i] = (Order){c->outlier != NULL && c->outlier[i], act_order ? h[i * n + i] : 0, i};
        for (int64_t i = 0; i < n; i++)
            if (h[i * n + i] == 0) h[i * n + i] = 1, order[i].weight = act_order ? 1 : 0;
            else for (int64_t r = 0; r < c->rows; r++) copy[r * n + i] = (double)w[r * n + i];
        qsort(order, (size_t)n, sizeof *order, by_weight);
        for (int64_t r = 0; r < c->rows; r++) { /* columns in the order they are taken */
            for (int64_t i = 0; i < n; i++) error[i] = copy[r * n + order[i].at];
            memcpy(copy + r * n, error, (size_t)n * sizeof *error);
        }
        good = factor(h, order, u, work, n);
        if (good) round_rows(c, copy, order, u, error, block);
    }
    free(u), free(work), free(copy), free(error), free(order);
    return good;
}
