/* Discrete Fourier transforms of any length, in O(n * sum of the prime factors of n) (Stockham's form of Cooley and Tukey's
 * algorithm: every stage reads one array and writes the other, and the result comes out in order).
 *
 *     n = 12 = 4 * 3:  stage 1: butterflies of 4, times roots of unity;  stage 2: butterflies of 3
 *
 * A number is two neighbours, real and imaginary part. Factors are 4, then one 2 (taken first), then odd primes. */
#ifndef LATHE_RUNTIME_FFT_H
#define LATHE_RUNTIME_FFT_H
#include <stdint.h>
#include <string.h>

/* The factor that the stage after `done` of the n points splits off; 1 at the end. */
static inline int64_t lathe_fft_factor(int64_t n, int64_t done) {
    int64_t rest = n / done;
    if (done == 1 && n % 2 == 0) {
        while (rest % 4 == 0) rest /= 4;
        if (rest % 2 == 0) return 2;
        rest = n;
    }
    if (rest % 4 == 0) return 4;
    for (int64_t f = 2; f * f <= rest; f++)
        if (rest % f == 0) return f;
    return rest;
}

/* A butterfly takes p points at distance `in` from x and writes them at distance `out` to y; s is the sign of the exponent.
 * lathe_fft: `rows` transforms of n points in a; b is scratch of the same size, root holds cos and sin of 2 pi j / n. The
 * results are in a, times scale. */
#define LATHE_FFT_FUNCTIONS(T, S) \
    static inline void lathe_fft_two_##S(const T *x, int64_t in, T *y, int64_t out) { \
        const T ar = x[0], ai = x[1], br = x[in], bi = x[in + 1]; \
        y[0] = ar + br; \
        y[1] = ai + bi; \
        y[out] = ar - br; \
        y[out + 1] = ai - bi; \
    } \
    static inline void lathe_fft_three_##S(const T *x, int64_t in, T *y, int64_t out, T s) { \
        const T c = s * (T)0.86602540378443864676; \
        const T sr = x[in] + x[2 * in], si = x[in + 1] + x[2 * in + 1], dr = x[in] - x[2 * in], di = x[in + 1] - x[2 * in + 1]; \
        const T mr = x[0] + sr * (T)-0.5, mi = x[1] + si * (T)-0.5, tr = -(di * c), ti = dr * c; \
        y[0] = x[0] + sr; \
        y[1] = x[1] + si; \
        y[out] = mr + tr; \
        y[out + 1] = mi + ti; \
        y[2 * out] = mr - tr; \
        y[2 * out + 1] = mi - ti; \
    } \
    static inline void lathe_fft_four_##S(const T *x, int64_t in, T *y, int64_t out, T s) { \
        const T ar = x[0] + x[2 * in], ai = x[1] + x[2 * in + 1], br = x[0] - x[2 * in], bi = x[1] - x[2 * in + 1]; \
        const T cr = x[in] + x[3 * in], ci = x[in + 1] + x[3 * in + 1]; \
        const T dr = s * (x[3 * in + 1] - x[in + 1]), di = s * (x[in] - x[3 * in]); \
        y[0] = ar + cr; \
        y[1] = ai + ci; \
        y[2 * out] = ar - cr; \
        y[2 * out + 1] = ai - ci; \
        y[out] = br + dr; \
        y[out + 1] = bi + di; \
        y[3 * out] = br - dr; \
        y[3 * out + 1] = bi - di; \
    } \
    static inline void lathe_fft_five_##S(const T *x, int64_t in, T *y, int64_t out, T s) { \
        const T c1 = (T)0.3090169943749474241, c2 = (T)-0.8090169943749474241, s1 = s * (T)0.95105651629515357212, s2 = s * (T)0.58778525229247312917; \
        const T ar = x[in] + x[4 * in], ai = x[in + 1] + x[4 * in + 1], dr = x[in] - x[4 * in], di = x[in + 1] - x[4 * in + 1]; \
        const T br = x[2 * in] + x[3 * in], bi = x[2 * in + 1] + x[3 * in + 1], er = x[2 * in] - x[3 * in], ei = x[2 * in + 1] - x[3 * in + 1]; \
        const T pr = x[0] + c1 * ar + c2 * br, pi = x[1] + c1 * ai + c2 * bi, qr = x[0] + c2 * ar + c1 * br, qi = x[1] + c2 * ai + c1 * bi; \
        const T ui = s1 * dr + s2 * er, ur = -(s1 * di + s2 * ei), vi = s2 * dr - s1 * er, vr = -(s2 * di - s1 * ei); \
        y[0] = x[0] + ar + br; \
        y[1] = x[1] + ai + bi; \
        y[out] = pr + ur; \
        y[out + 1] = pi + ui; \
        y[4 * out] = pr - ur; \
        y[4 * out + 1] = pi - ui; \
        y[2 * out] = qr + vr; \
        y[2 * out + 1] = qi + vi; \
        y[3 * out] = qr - vr; \
        y[3 * out + 1] = qi - vi; \
    } \
    static inline void lathe_fft_any_##S(const T *x, int64_t in, T *y, int64_t out, T s, int64_t p, const T *root, int64_t n) { \
        for (int64_t k = 0; k < p; k++) { \
            T re = x[0], im = x[1]; \
            for (int64_t j = 1; j < p; j++) { \
                const T *w = root + 2 * (j * k % p * (n / p)), c = w[0], d = s * w[1]; \
                re += x[j * in] * c - x[j * in + 1] * d; \
                im += x[j * in] * d + x[j * in + 1] * c; \
            } \
            y[k * out] = re; \
            y[k * out + 1] = im; \
        } \
    } \
    static inline int lathe_fft_##S(T *a, T *b, int64_t rows, int64_t n, const T *root, int64_t inverse, T scale) { \
        const T s = inverse != 0 ? (T)1 : (T)-1; \
        for (int64_t row = 0; row < rows; row++) { \
            T *x = a + row * n * 2, *y = b; \
            for (int64_t done = 1; done < n;) { \
                const int64_t p = lathe_fft_factor(n, done), width = n / (done * p), in = 2 * width, out = 2 * width * done; \
                for (int64_t k = 0; k < done; k++) { \
                    for (int64_t i = 0; i < width; i++) { \
                        const T *from = x + 2 * (i + width * p * k); \
                        T *to = y + 2 * (i + width * k); \
                        if (p == 2) lathe_fft_two_##S(from, in, to, out); \
                        else if (p == 3) lathe_fft_three_##S(from, in, to, out, s); \
                        else if (p == 4) lathe_fft_four_##S(from, in, to, out, s); \
                        else if (p == 5) lathe_fft_five_##S(from, in, to, out, s); \
                        else lathe_fft_any_##S(from, in, to, out, s, p, root, n); \
                        for (int64_t j = 1; i > 0 && j < p; j++) { \
                            const T *w = root + 2 * (j * done * i), c = w[0], d = s * w[1]; \
                            T *z = to + j * out; \
                            const T re = z[0] * c - z[1] * d, im = z[0] * d + z[1] * c; \
                            z[0] = re; \
                            z[1] = im; \
                        } \
                    } \
                } \
                T *other = x; \
                x = y; \
                y = other; \
                done *= p; \
            } \
            T *to = a + row * n * 2; \
            for (int64_t i = 0; i < 2 * n; i++) to[i] = x[i] * scale; \
        } \
        return 0; \
    }

/* defines: lathe_fft_f32 */
LATHE_FFT_FUNCTIONS(float, f32)

/* defines: lathe_fft_f64 */
LATHE_FFT_FUNCTIONS(double, f64)

#endif
