/* Geometry of sliding windows (pools; convolutions may use it, too): attributes and automatic padding resolved. */
#ifndef LATHE_IR_SHAPE_WINDOW_H
#define LATHE_IR_SHAPE_WINDOW_H
#include "ir/graph.h"

enum { WINDOW_AXES_MAX = RANK_MAX - 2 };
/* Spatial axis a: output o reads input o*stride - before + k*dilation for k < kernel. */
typedef struct Window {
    uint32_t n;
    Dim in[WINDOW_AXES_MAX], out[WINDOW_AXES_MAX], kernel[WINDOW_AXES_MAX];
    int64_t stride[WINDOW_AXES_MAX], dilation[WINDOW_AXES_MAX];
    Dim before[WINDOW_AXES_MAX], after[WINDOW_AXES_MAX];
} Window;

/* n spatial axes with sizes in[], window sizes kernel[]; the rest from the attributes auto_pad, pads, strides, dilations,
 * ceil_mode of node n. False after a diagnostic. */
bool window_resolve(Module *m, Node *node, uint32_t n, const Dim *in, const Dim *kernel, Window *w);
/* The same for a pool: axes 2.. of input 0, attribute kernel_shape. */
bool window_of_pool(Module *m, Node *node, Window *w);
/* MaxUnpool: the dims that input 1 counts positions in. */
bool unpool_inferred(Module *m, Node *n, Dim *dim);

#endif
