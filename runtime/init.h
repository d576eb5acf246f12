/* First values of parameters. Element i of a parameter depends on (seed, stream, i) only, the stream being a hash of its
 * name. The same code fills the constants of a model that is compiled without training. */
#ifndef LATHE_RUNTIME_INIT_H
#define LATHE_RUNTIME_INIT_H
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "philox.h"

static void lathe_init_block(uint32_t *word, int64_t block, uint64_t seed, uint64_t stream) {
    const uint64_t b = (uint64_t)block;
    word[0] = (uint32_t)b, word[1] = (uint32_t)(b >> 32), word[2] = (uint32_t)stream, word[3] = (uint32_t)(stream >> 32);
    lathe_philox_block(word, (uint32_t)seed, (uint32_t)(seed >> 32));
}

static double lathe_init_unit(uint32_t word) { /* [0, 1): the top 24 bits */
    return (double)(word >> 8) * 0x1p-24;
}

/* ln x of a normal x > 0: 2^e f, ln f = 2 atanh((f - 1) / (f + 1)) as a series. No libm, so that machines agree. */
static double lathe_init_log(double x) {
    uint64_t bits;
    memcpy(&bits, &x, 8);
    int e = (int)(bits >> 52) - 1023;
    bits = (bits & 0xFFFFFFFFFFFFFu) | 0x3FF0000000000000u;
    double f;
    memcpy(&f, &bits, 8);
    if (f > 1.4142135623730951) f *= 0.5, e++;
    const double s = (f - 1) / (f + 1), s2 = s * s;
    double sum = 0;
    for (int k = 23; k >= 1; k -= 2) sum = sum * s2 + 1.0 / k;
    return 2 * s * sum + e * 0.69314718055994530942;
}

/* sin and cos of 2 pi u, u in [0, 1): within the eighth of the circle around the nearest quarter turn. */
static void lathe_init_circle(double u, double *sine, double *cosine) {
    const int quarter = (int)(u * 4 + 0.5);
    const double a = (u - quarter * 0.25) * 6.28318530717958647692, a2 = a * a;
    double s = 0, c = 0;
    for (int k = 17; k >= 1; k -= 2) s = 1 - s * a2 / ((k + 1) * (k + 2));
    for (int k = 16; k >= 0; k -= 2) c = 1 - c * a2 / ((k + 1) * (k + 2));
    s *= a;
    *sine = (quarter & 3) == 0 ? s : (quarter & 3) == 1 ? c : (quarter & 3) == 2 ? -s : -c;
    *cosine = (quarter & 3) == 0 ? c : (quarter & 3) == 1 ? -s : (quarter & 3) == 2 ? -c : s;
}

/* Four standard normals by the transform of Box and Muller (1958). */
static void lathe_init_normal4(double *out, int64_t block, uint64_t seed, uint64_t stream) {
    uint32_t r[4];
    lathe_init_block(r, block, seed, stream);
    for (int i = 0; i < 4; i += 2) {
        const double radius = sqrt(-2 * lathe_init_log(1 - lathe_init_unit(r[i])));
        double sine, cosine;
        lathe_init_circle(lathe_init_unit(r[i + 1]), &sine, &cosine);
        out[i] = radius * cosine;
        out[i + 1] = radius * sine;
    }
}

static void lathe_init_normal(float *out, int64_t n, double mean, double deviation, uint64_t seed, uint64_t stream) {
    for (int64_t i = 0; i < n; i += 4) {
        double x[4];
        lathe_init_normal4(x, i / 4, seed, stream);
        for (int64_t k = 0; k < 4 && i + k < n; k++) out[i + k] = (float)(mean + deviation * x[k]);
    }
}

/* Normal within two deviations of the mean: numbers outside are drawn again, from blocks far behind the tensor's own. */
static void lathe_init_truncated(float *out, int64_t n, double mean, double deviation, uint64_t seed, uint64_t stream) {
    for (int64_t i = 0; i < n; i++) {
        double x[4];
        lathe_init_normal4(x, i / 4, seed, stream);
        double v = x[i % 4];
        for (int64_t again = 1; (v < -2 || v > 2) && again < 64; again++) {
            lathe_init_normal4(x, again * (INT64_C(1) << 48) + i / 4, seed, stream);
            v = x[i % 4];
        }
        out[i] = (float)(mean + deviation * (v < -2 ? -2 : v > 2 ? 2 : v));
    }
}

static void lathe_init_uniform(float *out, int64_t n, double low, double high, uint64_t seed, uint64_t stream) {
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t r[4];
        lathe_init_block(r, i / 4, seed, stream);
        for (int64_t k = 0; k < 4 && i + k < n; k++) out[i + k] = (float)(low + (high - low) * lathe_init_unit(r[k]));
    }
}

static void lathe_init_constant(float *out, int64_t n, double value) {
    for (int64_t i = 0; i < n; i++) out[i] = (float)value;
}

/* Makes the rows of a wide matrix (the columns of a tall one) orthonormal by modified Gram and Schmidt, twice, and scales them. */
static void lathe_init_orthogonal(float *a, int64_t rows, int64_t cols, double gain) {
    const int64_t vectors = rows <= cols ? rows : cols, length = rows <= cols ? cols : rows;
    const int64_t next = rows <= cols ? cols : 1, step = rows <= cols ? 1 : cols; /* from vector to vector, along one */
    for (int64_t i = 0; i < vectors; i++) {
        float *x = a + i * next;
        for (int pass = 0; pass < 2; pass++) {
            for (int64_t j = 0; j < i; j++) {
                const float *y = a + j * next;
                double dot = 0;
                for (int64_t k = 0; k < length; k++) dot += (double)x[k * step] * (double)y[k * step];
                for (int64_t k = 0; k < length; k++) x[k * step] = (float)((double)x[k * step] - dot * (double)y[k * step]);
            }
            double square = 0;
            for (int64_t k = 0; k < length; k++) square += (double)x[k * step] * (double)x[k * step];
            const double scale = square > 0 ? 1 / sqrt(square) : 0;
            for (int64_t k = 0; k < length; k++) x[k * step] = (float)((double)x[k * step] * scale);
        }
    }
    for (int64_t i = 0; i < rows * cols; i++) a[i] = (float)(gain * (double)a[i]);
}

#endif
