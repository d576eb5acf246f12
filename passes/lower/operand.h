/* What the lowering rules of pointwise operators share. */
#ifndef LATHE_PASSES_LOWER_OPERAND_H
#define LATHE_PASSES_LOWER_OPERAND_H
#include "passes/lower.h"

/* The element of operand v that belongs to idx of a result of type t, by numpy broadcasting. A dim that may be 1 or
 * equal only at run time is checked there: another size is the run-time error "index". */
Expr *operand_load(Lower *lo, const Value *v, const Type *t, Expr *const *idx);
/* The same cast to the compute type `as`. */
Expr *operand_as(Lower *lo, DType as, const Value *v, const Type *t, Expr *const *idx);
/* x times y plus z, in x's type. */
static inline Expr *lx_mul_add(Lower *lo, Expr *x, Expr *y, Expr *z) { return lx_add(lo, lx_mul(lo, x, y), z); }
/* The scalar function that op applies to every element; FN_NONE when it is not one of one operand. */
Fn operand_unary_fn(Op op);
/* Is optional input i given? */
static inline bool has_in(const Node *n, uint32_t i) { return i < n->n_in && n->in[i] != NULL; }

/* i of any integer type, counted from the end when negative, checked against size (run-time error "index"). */
Expr *wrapped_index(Lower *lo, Expr *i, Expr *size);

/* ---- slices (passes/lower/movement.c) ---- */
/* One axis of a Slice node: element i of the result is element start + i * step; start and end lie within the axis. */
typedef struct SliceAxis { Expr *start, *end, *step; } SliceAxis;
SliceAxis slice_axis(Lower *lo, const Node *n, uint32_t axis);

/* ---- quantization (passes/lower/quantize.c) ---- */
/* Rounds a float to the nearest integer, half to even, and saturates it to the integer storage type d. */
Expr *quantize_saturate(Lower *lo, Expr *x, DType d);
/* Range of integer type d as floats. */
void quantize_range(DType d, double *lo, double *hi);
/* Finite range of a small float type (float8, float4, f8e8m0); 0 for every other type. */
double small_float_max(DType d);

#endif
