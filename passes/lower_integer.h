/* Integer contractions on micro-kernels (passes/lower_integer.c). False: the node does not fit, nothing was written. */
#ifndef LATHE_PASSES_LOWER_INTEGER_H
#define LATHE_PASSES_LOWER_INTEGER_H
#include "passes/lower_contract.h"

/* n: an IntegerConvChannelsLast. */
bool lower_integer_conv_contract(Lower *lo, const Node *n, const ConvGeometry *g);
/* n: an IntegerMatMul. */
bool lower_integer_matmul_contract(Lower *lo, const Node *n, const MatMulGeometry *g);

/* Column j of a constant zero point operand (NULL: 0). */
int64_t integer_zero(const Value *zero, int64_t j);

#endif
