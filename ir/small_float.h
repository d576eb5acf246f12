/* Conversions of the storage-only types (f16, bf16, float8, float4, packed integers), by bit operations.
 * The compiler uses them for constants; runtime/small_float.h is what emitted code uses. */
#ifndef LATHE_IR_SMALL_FLOAT_H
#define LATHE_IR_SMALL_FLOAT_H
#include "ir/type.h"

/* bits -> float. d is one of f16, bf16, f8*, f4e2m1, f8e8m0. */
float small_float_decode(DType d, uint32_t bits);
/* float -> bits, round to nearest even; saturate: out-of-range goes to the largest finite value where ONNX's
 * `saturate` applies (float8), else to NaN or infinity as the ONNX Cast table says. */
uint32_t small_float_encode(DType d, float x, bool saturate);

#endif
