/* Which axes a reduction reduces: shared by its shape rule and its lowering. */
#ifndef LATHE_IR_SHAPE_REDUCE_H
#define LATHE_IR_SHAPE_REDUCE_H
#include "ir/graph.h"

/* Bit a of *mask: axis a of input 0 is reduced. Serves the Reduce* family, ArgMax/ArgMin and the global pools. False after a
 * diagnostic. Where only the run knows the axes: *runtime, and no axis is in the mask. */
bool reduce_mask(Module *m, Node *n, uint32_t *mask, bool *runtime);
/* Do reduced axes stay in the output as 1? */
bool reduce_keepdims(const Node *n);

#endif
