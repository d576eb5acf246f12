/* Conversions of the storage-only types (f16, bf16, float8, float4, packed integers), by bit operations.
 * The compiler uses them for constants; runtime/small_float.h is what emitted code uses. */
#ifndef LATHE_IR_SMALL_FLOAT_H
#define LATHE_IR_SMALL_FLOAT_H
#include "ir/type.h"

/* bits -> float. d is one of f16, bf16, f8*, f4e2m1, f8e8m0. */
float small_float_decode(DType d, uint32_t bits);
/* float -> bits, round to nearest even; saturate: out-of-range goes to the largest finite value where ONNX's
 * `saturate` applies (float8), else to NaN or infinity as the ONNX Cast table says. f4e2m1 always saturates and has
 * no NaN (NaN becomes -0); f8e8m0 rounds up, ONNX's default for it. */
uint32_t small_float_encode(DType d, float x, bool saturate);
/* The same from double, rounded once. */
uint32_t small_float_encode_f64(DType d, double x, bool saturate);

/* Powers of two only: the rounding direction is Cast's `round_mode`. The sign is dropped (ONNX leaves it open). */
typedef enum E8m0Round { E8M0_UP, E8M0_DOWN, E8M0_NEAREST } E8m0Round;
uint32_t f8e8m0_encode(float x, bool saturate, E8m0Round round);

#endif
