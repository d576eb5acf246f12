/* Where the matrices of an attention operand are in a tensor that other operators made.
 *
 *     {}                                    the tensor itself: [batch, heads, rows, columns] or with one or no leading dimension
 *     {0, 2, 1, 3}                          its dimensions in this order, as by Transpose
 *     {1,12,64,64,  768,  147456,64,2304,1} the second of three parts of f32[1,64,2304]: sizes, offset, steps in elements */
#ifndef LATHE_IR_SHAPE_OPERAND_VIEW_H
#define LATHE_IR_SHAPE_OPERAND_VIEW_H
#include "ir/graph.h"

typedef struct OperandView {
    uint32_t rank;
    Dim size[RANK_MAX], step[RANK_MAX];
    int64_t offset;
} OperandView;

/* The view that attribute `slot` of n describes of a tensor of this type; false when it does not stay within it. */
bool operand_view(Context *cx, const Node *n, AttrSlot slot, const Type *t, OperandView *v);

#endif
