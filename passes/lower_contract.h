/* Contractions on micro-kernels: what lowering rules call before they write plain loops. See passes/lower_contract.c
 * for how a product becomes tiles. Each function returns false when the node does not fit (type, layout, size, -O0)
 * and has then written nothing. */
#ifndef LATHE_PASSES_LOWER_CONTRACT_H
#define LATHE_PASSES_LOWER_CONTRACT_H
#include "ir/shape/contraction.h"
#include "ir/shape/convolution.h"
#include "passes/lower.h"

bool lower_matmul_contract(Lower *lo, const Node *n, const MatMulGeometry *g);
bool lower_gemm_contract(Lower *lo, const Node *n);
bool lower_conv_contract(Lower *lo, const Node *n, const ConvGeometry *g);
bool lower_conv_transpose_contract(Lower *lo, const Node *n, const ConvGeometry *g);

/* alpha * sum + beta * c of a Gemm at idx (passes/lower/matmul.c). */
Expr *gemm_finish(Lower *lo, const Node *n, Expr *const *idx, Expr *sum);

#endif
