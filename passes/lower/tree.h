/* Tables of a tree ensemble: what passes/expand/tree.c makes and passes/lower/tree.c reads. */
#ifndef LATHE_PASSES_LOWER_TREE_H
#define LATHE_PASSES_LOWER_TREE_H

typedef enum TreeMode { TREE_LEQ, TREE_LT, TREE_GTE, TREE_GT, TREE_EQ, TREE_NEQ, TREE_MEMBER, TREE_LEAF } TreeMode;
typedef enum TreeAggregate { TREE_AVERAGE, TREE_SUM, TREE_MIN, TREE_MAX } TreeAggregate;
/* Inputs of TreeScores: the rows; by node: feature, value, mode, child if the test holds, child if not, 1 if NaN counts as
 * holding, first weight (one more entry than nodes); by weight: target, weight; by tree: root node. */
typedef enum TreeOperand {
    TREE_IN_ROWS, TREE_IN_FEATURE, TREE_IN_VALUE, TREE_IN_MODE, TREE_IN_YES, TREE_IN_NO, TREE_IN_MISSING, TREE_IN_FIRST, TREE_IN_TARGET,
    TREE_IN_WEIGHT, TREE_IN_ROOT, TREE_IN_COUNT
} TreeOperand;

#endif
