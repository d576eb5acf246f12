/* Geometry of matrix products (MatMul and its kin), shared by shape rules and lowering. */
#ifndef LATHE_IR_SHAPE_CONTRACTION_H
#define LATHE_IR_SHAPE_CONTRACTION_H
#include "ir/shape/shape.h"

typedef struct MatrixLayout { /* positions of an operand's dimensions; rank 1: a vector along K */
    uint32_t rank, row, col, batch[RANK_MAX];
} MatrixLayout;

typedef struct MatMulGeometry {
    Dim m, n, k, batch[RANK_MAX];   /* batch: of the result */
    uint32_t n_batch;
    bool has_m, has_n;              /* false: that operand is a vector, the result lacks the dimension */
    bool trans_a, trans_b, batch_a, batch_b;
    double alpha;
    MatrixLayout a, b;
} MatMulGeometry;

/* Geometry of the product of inputs a and b of n; false after a diag(). */
bool matmul_geometry(Module *m, const Node *n, uint32_t a, uint32_t b, MatMulGeometry *g);

/* An Einsum equation, parsed: label l of operand i's dimension d is label[i][d]; operand n_in is the result. Labels are
 * numbered 0..n_label-1: the result's first, in its order, then the summed ones. */
typedef struct EinsumGeometry {
    uint32_t n_label, n_result;
    Dim size[4 * RANK_MAX];
    uint8_t (*label)[RANK_MAX];
} EinsumGeometry;
bool einsum_geometry(Module *m, const Node *n, EinsumGeometry *g);

#endif
