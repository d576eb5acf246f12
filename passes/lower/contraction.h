/* What the lowering rules of contractions share. */
#ifndef LATHE_PASSES_LOWER_CONTRACTION_H
#define LATHE_PASSES_LOWER_CONTRACTION_H
#include "passes/lower.h"

/* May this node use micro-kernels? Not at -O0, not over constants only (folding interprets plain loops). */
bool contract_wanted(const Lower *lo, const Node *n);
DType contract_sum_type(DType operand); /* what products of these elements are summed in: f32, f64, or the integer's own wide type */

/* A zero point or scale operand: a scalar, or one entry per index i of its only long dimension. value NULL: `otherwise`. */
Expr *contract_parameter(Lower *lo, const Value *v, Expr *i, Expr *otherwise);
/* round(sum * scale) + zero in y's storage type, saturated; floats are stored scaled. */
Expr *contract_requantize(Lower *lo, const Value *y, Expr *sum, Expr *scale, const Value *zero);

#endif
