#include "passes/lower_contract.h"
bool lower_matmul_contract(Lower *lo, const Node *n, const MatMulGeometry *g) { (void)lo, (void)n, (void)g; return false; }
bool lower_gemm_contract(Lower *lo, const Node *n) { (void)lo, (void)n; return false; }
bool lower_conv_contract(Lower *lo, const Node *n, const ConvGeometry *g) { (void)lo, (void)n, (void)g; return false; }
bool lower_conv_transpose_contract(Lower *lo, const Node *n, const ConvGeometry *g) { (void)lo, (void)n, (void)g; return false; }
