/* Floats as integers of the same order, so that compilers vectorise loops that look for a largest or smallest element.
 * NaN wins, as in numpy: it becomes the largest (smallest) integer, which stands for a NaN again on the way back. */
#ifndef LATHE_RUNTIME_REDUCE_H
#define LATHE_RUNTIME_REDUCE_H
#include <stdint.h>
#include <string.h>

static inline int32_t lathe_max_key_f32(float x) {
    int32_t i;
    memcpy(&i, &x, sizeof i);
    return x != x ? INT32_MAX : i ^ ((i >> 31) & INT32_MAX);
}

static inline int32_t lathe_min_key_f32(float x) {
    int32_t i;
    memcpy(&i, &x, sizeof i);
    return x != x ? INT32_MIN : i ^ ((i >> 31) & INT32_MAX);
}

static inline float lathe_from_key_f32(int32_t key) {
    const int32_t i = key ^ ((key >> 31) & INT32_MAX);
    float x;
    memcpy(&x, &i, sizeof x);
    return x;
}

static inline int64_t lathe_max_key_f64(double x) {
    int64_t i;
    memcpy(&i, &x, sizeof i);
    return x != x ? INT64_MAX : i ^ ((i >> 63) & INT64_MAX);
}

static inline int64_t lathe_min_key_f64(double x) {
    int64_t i;
    memcpy(&i, &x, sizeof i);
    return x != x ? INT64_MIN : i ^ ((i >> 63) & INT64_MAX);
}

static inline double lathe_from_key_f64(int64_t key) {
    const int64_t i = key ^ ((key >> 63) & INT64_MAX);
    double x;
    memcpy(&x, &i, sizeof x);
    return x;
}

#endif
