/* Probabilities of classes from probabilities of pairs of them (Wu, Lin, Weng: "Probability estimates for multi-class
 * classification by pairwise coupling", 2004, second method). */
#ifndef LATHE_RUNTIME_SVM_H
#define LATHE_RUNTIME_SVM_H
#include <stdint.h>

/* The probability that it is class i rather than j. */
static inline float lathe_pair(const float *pair, int64_t classes, int64_t i, int64_t j) {
    if (i < j) return pair[i * classes - i * (i + 1) / 2 + j - i - 1];
    return 1.0f - pair[j * classes - j * (j + 1) / 2 + i - j - 1];
}

/* pair [rows, classes * (classes - 1) / 2] to out [rows, classes]. q: scratch of (classes + 1) * classes. */
static inline int lathe_pair_probabilities(const float *pair, float *out, float *q, int64_t rows, int64_t classes) {
    const int64_t k = classes;
    float *slope = q + k * k;
    for (int64_t row = 0; row < rows; row++, pair += k * (k - 1) / 2, out += k) {
        for (int64_t t = 0; t < k; t++) {
            out[t] = 1.0f / (float)k;
            q[t * k + t] = 0.0f;
            for (int64_t j = 0; j < k; j++) {
                if (j == t) continue;
                const float to = lathe_pair(pair, k, j, t);
                q[t * k + t] += to * to;
                q[t * k + j] = -to * lathe_pair(pair, k, t, j);
            }
        }
        for (int64_t round = 0; round < (k > 100 ? k : 100); round++) {
            float total = 0.0f, worst = 0.0f;
            for (int64_t t = 0; t < k; t++) {
                slope[t] = 0.0f;
                for (int64_t j = 0; j < k; j++) slope[t] += q[t * k + j] * out[j];
                total += out[t] * slope[t];
            }
            for (int64_t t = 0; t < k; t++) {
                const float off = slope[t] > total ? slope[t] - total : total - slope[t];
                if (off > worst) worst = off;
            }
            if (worst < 0.005f / (float)k) break;
            for (int64_t t = 0; t < k; t++) {
                const float step = (total - slope[t]) / q[t * k + t], whole = 1.0f + step;
                out[t] += step;
                total = (total + step * (step * q[t * k + t] + 2.0f * slope[t])) / whole / whole;
                for (int64_t j = 0; j < k; j++) {
                    slope[j] = (slope[j] + step * q[t * k + j]) / whole;
                    out[j] /= whole;
                }
            }
        }
    }
    return 0;
}

#endif
