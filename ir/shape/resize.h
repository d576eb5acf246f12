/* What a Resize does to each axis, resolved from scales or sizes: shared by shape rule and lowering. */
#ifndef LATHE_IR_SHAPE_RESIZE_H
#define LATHE_IR_SHAPE_RESIZE_H
#include "ir/graph.h"

typedef struct ResizePlan {
    uint32_t rank, n_axis;
    uint32_t axis[RANK_MAX];   /* the axes named by `axes` (all by default), in that order: roi lists starts, then ends */
    bool resized[RANK_MAX];    /* by axis: not just copied */
    float scale[RANK_MAX];     /* by axis; 0: see the next two, else output size / input size */
    bool runtime_scales;       /* the scales are in operand 2 at run time */
    bool runtime_ratio;        /* one common scale from the wanted sizes in operand 3, at run time */
    bool larger;               /* that scale: the largest, else the smallest */
    Dim out[RANK_MAX];
} ResizePlan;

/* False after a diagnostic. */
bool resize_resolve(Module *m, Node *n, ResizePlan *p);

#endif
