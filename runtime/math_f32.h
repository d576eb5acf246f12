/* Elementary functions of float for emitted code (first version: libm). */
#ifndef LATHE_RUNTIME_MATH_F32_H
#define LATHE_RUNTIME_MATH_F32_H
#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float lathe_sqrt_f32(float x) {
    return sqrtf(x);
}

static inline float lathe_exp_f32(float x) {
    return expf(x);
}

static inline float lathe_expm1_f32(float x) {
    return expm1f(x);
}

static inline float lathe_log_f32(float x) {
    return logf(x);
}

static inline float lathe_log1p_f32(float x) {
    return log1pf(x);
}

static inline float lathe_sin_f32(float x) {
    return sinf(x);
}

static inline float lathe_cos_f32(float x) {
    return cosf(x);
}

static inline float lathe_tanh_f32(float x) {
    return tanhf(x);
}

static inline float lathe_erf_f32(float x) {
    return erff(x);
}

#endif
