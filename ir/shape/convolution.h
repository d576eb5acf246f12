/* Geometry of convolutions: what a node's attributes and operand types say, shared by shape rules and lowering.
 *
 *     Conv x: f32[N,3,224,224], w: f32[64,3,7,7] {strides = [2,2], pads = [3,3,3,3]}
 *       -> spatial 2, kernel {7,7}, stride {2,2}, dilation {1,1}, begin {3,3}, end {3,3}, out {112,112}, group 1 */
#ifndef LATHE_IR_SHAPE_CONVOLUTION_H
#define LATHE_IR_SHAPE_CONVOLUTION_H
#include "ir/shape/shape.h"

typedef struct ConvGeometry {
    bool channels_last, transposed;
    uint32_t spatial;               /* number of spatial dimensions; the input's rank is this plus 2 */
    uint32_t first;                 /* position of the first spatial dimension in input and output: 2, channels last 1 */
    int64_t group;
    Dim batch, in_channels, out_channels; /* of the whole tensors */
    Dim in_group, out_group;        /* channels of one group */
    Dim in[RANK_MAX], kernel[RANK_MAX], out[RANK_MAX];
    int64_t stride[RANK_MAX], dilation[RANK_MAX];
    Dim begin[RANK_MAX], end[RANK_MAX]; /* padding; symbolic for auto_pad over symbolic sizes. Never negative for Conv */
} ConvGeometry;

/* Reads n's geometry; false after a diag(). n is any operator of the convolution family, transposed ones included. */
bool conv_geometry(Module *m, const Node *n, ConvGeometry *g);
/* The same for ConvGradWeight: the geometry of the convolution whose weights' gradient it is; out: the sizes of dY. */
bool conv_grad_geometry(Module *m, const Node *n, ConvGeometry *g);
/* Which input is x, which w, and which the bias (n_in when the operator has none). */
void conv_operands(const Node *n, uint32_t *x, uint32_t *w, uint32_t *bias);

#endif
