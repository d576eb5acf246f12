/* First values of parameters. Element i of a parameter depends on (seed, stream, i) only, the stream being a hash of the
 * parameter's name, and every operation is an exactly rounded one (+ - * / sqrt in double, no libm, no contraction: this file
 * is compiled with -ffp-contract=off), so the same model has the same bits on every machine.
 *
 * Fans: weight [in, out] (dense) has fan in = in; [out, in, kernel…] (convolution) has fan in = in * kernel elements. */
#include <math.h>

#include "base/philox.h"
#include "frontend/dsl.h"

/* ---- log, sine and cosine by series ------------------------------------------------------------------------------ */
static double exact_log(double x) { /* x > 0 and normal: 2^e * f, ln f = 2 atanh((f - 1) / (f + 1)) */
    union { double d; uint64_t u; } v = {.d = x};
    int e = (int)(v.u >> 52) - 1023;
    v.u = (v.u & 0xFFFFFFFFFFFFFu) | 0x3FF0000000000000u;
    double f = v.d;
    if (f > 1.4142135623730951) f *= 0.5, e++;
    double s = (f - 1) / (f + 1), s2 = s * s, sum = 0;
    for (int k = 23; k >= 1; k -= 2) sum = sum * s2 + 1.0 / k;
    return 2 * s * sum + e * 0.69314718055994530942;
}

/* sin and cos of 2 pi u, u in [0,1): within the eighth of the circle around the nearest quarter turn. */
static void exact_circle(double u, double *sine, double *cosine) {
    int quarter = (int)(u * 4 + 0.5);
    double a = (u - quarter * 0.25) * 6.28318530717958647692, a2 = a * a, s = 0, c = 0;
    for (int k = 17; k >= 1; k -= 2) s = 1 - s * a2 / ((k + 1) * (k + 2));
    for (int k = 16; k >= 0; k -= 2) c = 1 - c * a2 / ((k + 1) * (k + 2));
    s *= a;
    switch (quarter & 3) {
    case 0: *sine = s, *cosine = c; break;
    case 1: *sine = c, *cosine = -s; break;
    case 2: *sine = -s, *cosine = -c; break;
    case 3: *sine = -c, *cosine = s; break;
    }
}

/* Four standard normals by the transform of Box and Muller (1958). */
static void normal4(double out[4], const uint32_t r[4]) {
    for (int i = 0; i < 4; i += 2) {
        double radius = sqrt(-2 * exact_log(1 - philox_unit(r[i]))), sine, cosine;
        exact_circle(philox_unit(r[i + 1]), &sine, &cosine);
        out[i] = radius * cosine;
        out[i + 1] = radius * sine;
    }
}

static void fill_normal(float *out, int64_t n, double mean, double deviation, uint64_t seed, uint64_t stream) {
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t r[4];
        double x[4];
        philox(r, (uint64_t[]){(uint64_t)i / 4, stream}, seed);
        normal4(x, r);
        for (int64_t k = 0; k < 4 && i + k < n; k++) out[i + k] = (float)(mean + deviation * x[k]);
    }
}

static void fill_uniform(float *out, int64_t n, double low, double high, uint64_t seed, uint64_t stream) {
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t r[4];
        philox(r, (uint64_t[]){(uint64_t)i / 4, stream}, seed);
        for (int64_t k = 0; k < 4 && i + k < n; k++) out[i + k] = (float)(low + (high - low) * philox_unit(r[k]));
    }
}

/* ---- orthogonal ------------------------------------------------------------------------------------------------- */
/* The rows of a short and wide matrix (columns of a tall one) made orthonormal by modified Gram and Schmidt, twice, then
 * scaled. a[vectors][length], vectors <= length. */
static void orthonormalise(double *a, int64_t vectors, int64_t length) {
    for (int64_t i = 0; i < vectors; i++) {
        double *x = a + i * length;
        for (int pass = 0; pass < 2; pass++) {
            for (int64_t j = 0; j < i; j++) {
                const double *y = a + j * length;
                double dot = 0;
                for (int64_t k = 0; k < length; k++) dot += x[k] * y[k];
                for (int64_t k = 0; k < length; k++) x[k] -= dot * y[k];
            }
        }
        double square = 0;
        for (int64_t k = 0; k < length; k++) square += x[k] * x[k];
        double scale = square > 0 ? 1 / sqrt(square) : 0;
        for (int64_t k = 0; k < length; k++) x[k] *= scale;
    }
}

static void fill_orthogonal(Context *cx, float *out, int64_t rows, int64_t cols, double gain, uint64_t seed, uint64_t stream) {
    fill_normal(out, rows * cols, 0, 1, seed, stream);
    bool wide = rows <= cols;
    int64_t vectors = wide ? rows : cols, length = wide ? cols : rows;
    double *a = ARENA_ARRAY(&cx->scratch, double, rows * cols);
    for (int64_t i = 0; i < vectors; i++)
        for (int64_t k = 0; k < length; k++) a[i * length + k] = (double)out[wide ? i * cols + k : k * cols + i];
    orthonormalise(a, vectors, length);
    for (int64_t i = 0; i < vectors; i++)
        for (int64_t k = 0; k < length; k++) out[wide ? i * cols + k : k * cols + i] = (float)(gain * a[i * length + k]);
}

/* ---- by kind ---------------------------------------------------------------------------------------------------- */
static void fans(uint32_t rank, const int64_t *shape, double *fan_in, double *fan_out) {
    double kernel = 1;
    for (uint32_t i = 2; i < rank; i++) kernel *= (double)shape[i];
    double first = rank > 0 ? (double)shape[0] : 1, second = rank > 1 ? (double)shape[1] : first;
    *fan_in = rank > 2 ? second * kernel : first;
    *fan_out = rank > 2 ? first * kernel : second;
}

void dsl_init_fill(Context *cx, float *out, uint32_t rank, const int64_t *shape, LatheInit init, uint64_t seed, uint64_t stream) {
    int64_t n = 1;
    for (uint32_t i = 0; i < rank; i++) n *= shape[i];
    double fan_in, fan_out;
    fans(rank, shape, &fan_in, &fan_out);
    double glorot = sqrt(2 / (fan_in + fan_out)), kaiming = sqrt(2 / ((1 + init.a * init.a) * fan_in)), root3 = 1.7320508075688772;
    switch (init.kind) {
    case LATHE_INIT_DEFAULT: case LATHE_INIT_CONSTANT:
        for (int64_t i = 0; i < n; i++) out[i] = (float)init.a;
        break;
    case LATHE_INIT_NORMAL: fill_normal(out, n, init.a, init.b, seed, stream); break;
    case LATHE_INIT_UNIFORM: fill_uniform(out, n, init.a, init.b, seed, stream); break;
    case LATHE_INIT_GLOROT_UNIFORM: fill_uniform(out, n, -glorot * root3, glorot * root3, seed, stream); break;
    case LATHE_INIT_GLOROT_NORMAL: fill_normal(out, n, 0, glorot, seed, stream); break;
    case LATHE_INIT_KAIMING_UNIFORM: fill_uniform(out, n, -kaiming * root3, kaiming * root3, seed, stream); break;
    case LATHE_INIT_KAIMING_NORMAL: fill_normal(out, n, 0, kaiming, seed, stream); break;
    case LATHE_INIT_ORTHOGONAL: {
        int64_t rows = rank > 0 ? shape[0] : 1;
        if (n != 0) fill_orthogonal(cx, out, rows, n / rows, init.a, seed, stream);
        break;
    }
    }
}
