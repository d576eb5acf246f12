/* Contractions on micro-kernels: what lowering rules call before they write plain loops. See passes/lower_contract.c
 * for how a product becomes tiles. Each function returns false when the node does not fit (type, layout, size, -O0)
 * and has then written nothing. */
#ifndef LATHE_PASSES_LOWER_CONTRACT_H
#define LATHE_PASSES_LOWER_CONTRACT_H
#include "ir/shape/contraction.h"
#include "ir/shape/convolution.h"
#include "passes/lower.h"

/* The element to store at idx of the result, from the plain sum (a bias, a scale, …). */
typedef Expr *ContractFinish(Lower *lo, const Node *n, const MatMulGeometry *g, Expr *const *idx, Expr *sum);

/* out[0] of n = finish(inputs a times b). */
bool lower_product(Lower *lo, const Node *n, const MatMulGeometry *g, uint32_t a, uint32_t b, ContractFinish *finish);

bool lower_matmul_contract(Lower *lo, const Node *n, const MatMulGeometry *g);
bool lower_gemm_contract(Lower *lo, const Node *n);
bool lower_conv_contract(Lower *lo, const Node *n, const ConvGeometry *g);
bool lower_conv_transpose_contract(Lower *lo, const Node *n, const ConvGeometry *g);
bool lower_conv_grad_contract(Lower *lo, const Node *n, const ConvGeometry *g);

/* alpha * sum + beta * c of a Gemm at idx (passes/lower/matmul.c). */
Expr *gemm_finish(Lower *lo, const Node *n, Expr *const *idx, Expr *sum);

#endif
