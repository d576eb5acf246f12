/* Reading and making the elements of constants, in every element type: declared in ir/graph.h. */
#include <math.h>

#include "ir/graph.h"
#include "ir/small_float.h"

/* Element i of a packed type: low bits first, never across a byte. */
static uint32_t packed_get(const void *data, uint32_t bits, int64_t i) {
    int64_t bit = i * bits;
    return ((const uint8_t *)data)[bit / 8] >> (bit % 8) & ((1u << bits) - 1);
}

static int64_t sign_extend(uint32_t x, uint32_t bits) {
    uint32_t sign = 1u << (bits - 1);
    return (int64_t)(x ^ sign) - (int64_t)sign;
}

static int64_t f64_to_i64(double x) {
    if (isnan(x)) return 0;
    if (x >= 0x1p63) return INT64_MAX;
    return x < -0x1p63 ? INT64_MIN : (int64_t)x;
}

#define LOAD(T, data, i) (((const Load_##T *)(data))[i].v)
#define LOADABLE(T) typedef struct Load_##T { T v; } __attribute__((packed)) Load_##T;
/* Constants may point into a file at any byte: loads are unaligned. */
LOADABLE(int16_t)
LOADABLE(int32_t)
LOADABLE(int64_t)
LOADABLE(uint16_t)
LOADABLE(uint32_t)
LOADABLE(uint64_t)
LOADABLE(float)
LOADABLE(double)

int64_t const_i64(const Value *v, int64_t i) {
    const void *p = v->data->data;
    switch (v->type->dtype) {
    case DT_U8: case DT_BOOL: return ((const uint8_t *)p)[i];
    case DT_I8: return ((const int8_t *)p)[i];
    case DT_U16: return LOAD(uint16_t, p, i);
    case DT_I16: return LOAD(int16_t, p, i);
    case DT_U32: return LOAD(uint32_t, p, i);
    case DT_I32: return LOAD(int32_t, p, i);
    case DT_I64: return LOAD(int64_t, p, i);
    case DT_U64: {
        uint64_t x = LOAD(uint64_t, p, i);
        return x > INT64_MAX ? INT64_MAX : (int64_t)x;
    }
    case DT_U4: return packed_get(p, 4, i);
    case DT_I4: return sign_extend(packed_get(p, 4, i), 4);
    case DT_U2: return packed_get(p, 2, i);
    case DT_I2: return sign_extend(packed_get(p, 2, i), 2);
    case DT_F32: case DT_F64: case DT_F16: case DT_BF16: case DT_F8E4M3FN: case DT_F8E4M3FNUZ: case DT_F8E5M2: case DT_F8E5M2FNUZ:
    case DT_F4E2M1: case DT_F8E8M0: case DT_C64: case DT_C128:
        return f64_to_i64(const_f64(v, i));
    case DT_STRING: case DT_NONE: case DT_COUNT: return 0;
    }
    return 0;
}

double const_f64(const Value *v, int64_t i) {
    const void *p = v->data->data;
    DType d = v->type->dtype;
    switch (d) {
    case DT_F32: return (double)LOAD(float, p, i);
    case DT_F64: return LOAD(double, p, i);
    case DT_C64: return (double)LOAD(float, p, 2 * i);
    case DT_C128: return LOAD(double, p, 2 * i);
    case DT_F16: case DT_BF16: return (double)small_float_decode(d, LOAD(uint16_t, p, i));
    case DT_F8E4M3FN: case DT_F8E4M3FNUZ: case DT_F8E5M2: case DT_F8E5M2FNUZ: case DT_F8E8M0:
        return (double)small_float_decode(d, ((const uint8_t *)p)[i]);
    case DT_F4E2M1: return (double)small_float_decode(d, packed_get(p, 4, i));
    case DT_U64: return (double)LOAD(uint64_t, p, i);
    case DT_U8: case DT_BOOL: case DT_I8: case DT_U16: case DT_I16: case DT_U32: case DT_I32: case DT_I64: case DT_U4: case DT_I4:
    case DT_U2: case DT_I2:
        return (double)const_i64(v, i);
    case DT_STRING: case DT_NONE: case DT_COUNT: return 0;
    }
    return 0;
}

static uint64_t f64_to_u64(double x) {
    return x >= 0x1p64 ? UINT64_MAX : x > 0 ? (uint64_t)x : 0;
}

static int64_t clamp(double x, int64_t lo, int64_t hi) {
    int64_t i = f64_to_i64(x);
    return i < lo ? lo : i > hi ? hi : i;
}

Value *value_const_scalar(Module *m, DType dtype, double x) {
    union { float f; double d; float c64[2]; double c128[2]; int64_t i; uint64_t u; } bytes = {.c128 = {0, 0}};
    uint32_t bits = dtype_bits(dtype);
    switch (dtype) {
    case DT_F32: bytes.f = (float)x; break;
    case DT_F64: bytes.d = x; break;
    case DT_C64: bytes.c64[0] = (float)x; break;
    case DT_C128: bytes.c128[0] = x; break;
    case DT_F16: case DT_BF16: case DT_F8E4M3FN: case DT_F8E4M3FNUZ: case DT_F8E5M2: case DT_F8E5M2FNUZ: case DT_F4E2M1: case DT_F8E8M0:
        bytes.u = small_float_encode_f64(dtype, x, true);
        break;
    case DT_BOOL: bytes.u = x != 0; break;
    case DT_U64: bytes.u = f64_to_u64(x); break;
    case DT_U8: case DT_U16: case DT_U32: case DT_U4: case DT_U2: bytes.i = clamp(x, 0, (INT64_C(1) << bits) - 1); break;
    case DT_I64: bytes.i = f64_to_i64(x); break;
    case DT_I8: case DT_I16: case DT_I32: bytes.i = clamp(x, -(INT64_C(1) << (bits - 1)), (INT64_C(1) << (bits - 1)) - 1); break;
    case DT_I4: case DT_I2: /* bits past the element stay zero */
        bytes.i = clamp(x, -(INT64_C(1) << (bits - 1)), (INT64_C(1) << (bits - 1)) - 1) & ((1 << bits) - 1);
        break;
    case DT_STRING: case DT_NONE: case DT_COUNT: CHECK(m->cx, dtype != DT_STRING && dtype != DT_NONE && dtype != DT_COUNT); break;
    }
    return value_const(m, type_tensor(m->cx, dtype, 0, NULL), &bytes, false);
}

const void *const_transpose(Context *cx, const Value *v, const uint32_t *perm) {
    const Type *t = v->type;
    uint32_t r = t->rank;
    size_t size = dtype_bits(t->dtype) / 8;
    int64_t stride[RANK_MAX], n[RANK_MAX], step[RANK_MAX], idx[RANK_MAX] = {0}, count = 1, from = 0;
    CHECK(cx, size != 0 && t->dtype != DT_STRING);
    for (uint32_t i = r; i-- > 0;) {
        stride[i] = count;
        count *= dim_value(cx, t->dim[i]);
    }
    for (uint32_t i = 0; i < r; i++) {
        n[i] = dim_value(cx, t->dim[perm[i]]);
        step[i] = stride[perm[i]];
    }
    uint8_t *to = ARENA_ARRAY(&cx->arena, uint8_t, (size_t)count * size);
    const uint8_t *data = v->data->data;
    for (int64_t k = 0; k < count; k++) {
        if (size == 4) memcpy(to + (size_t)k * 4, data + (size_t)from * 4, 4); /* a constant size is a plain move */
        else memcpy(to + (size_t)k * size, data + (size_t)from * size, size);
        for (uint32_t i = r; i-- > 0;) {
            from += step[i];
            if (++idx[i] < n[i]) break;
            from -= n[i] * step[i];
            idx[i] = 0;
        }
    }
    return to;
}
