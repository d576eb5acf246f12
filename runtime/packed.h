/* Elements of 4 and 2 bits, several to a byte, the first one in the low bits. */
#ifndef LATHE_RUNTIME_PACKED_H
#define LATHE_RUNTIME_PACKED_H
#include <stdint.h>

static inline uint8_t lathe_wrap_u4(uint8_t v) {
    return (uint8_t)(v & 15);
}

static inline int8_t lathe_wrap_i4(int8_t v) {
    return (int8_t)((v & 15) - (v & 8) * 2);
}

static inline uint8_t lathe_wrap_u2(uint8_t v) {
    return (uint8_t)(v & 3);
}

static inline int8_t lathe_wrap_i2(int8_t v) {
    return (int8_t)((v & 3) - (v & 2) * 2);
}

static inline uint8_t lathe_load_u4(const uint8_t *p, int64_t i) {
    return (uint8_t)(p[i >> 1] >> (i & 1) * 4 & 15);
}

static inline int8_t lathe_load_i4(const uint8_t *p, int64_t i) {
    return (int8_t)((p[i >> 1] >> (i & 1) * 4 & 15) - (p[i >> 1] >> (i & 1) * 4 & 8) * 2);
}

static inline uint8_t lathe_load_u2(const uint8_t *p, int64_t i) {
    return (uint8_t)(p[i >> 2] >> (i & 3) * 2 & 3);
}

static inline int8_t lathe_load_i2(const uint8_t *p, int64_t i) {
    return (int8_t)((p[i >> 2] >> (i & 3) * 2 & 3) - (p[i >> 2] >> (i & 3) * 2 & 2) * 2);
}

static inline void lathe_store_u4(uint8_t *p, int64_t i, uint8_t v) {
    const int shift = (int)(i & 1) * 4;
    p[i >> 1] = (uint8_t)((p[i >> 1] & ~(15 << shift)) | (v & 15) << shift);
}

static inline void lathe_store_i4(uint8_t *p, int64_t i, int8_t v) {
    const int shift = (int)(i & 1) * 4;
    p[i >> 1] = (uint8_t)((p[i >> 1] & ~(15 << shift)) | (v & 15) << shift);
}

static inline void lathe_store_u2(uint8_t *p, int64_t i, uint8_t v) {
    const int shift = (int)(i & 3) * 2;
    p[i >> 2] = (uint8_t)((p[i >> 2] & ~(3 << shift)) | (v & 3) << shift);
}

static inline void lathe_store_i2(uint8_t *p, int64_t i, int8_t v) {
    const int shift = (int)(i & 3) * 2;
    p[i >> 2] = (uint8_t)((p[i >> 2] & ~(3 << shift)) | (v & 3) << shift);
}

#endif
