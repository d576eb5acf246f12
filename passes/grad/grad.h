/* Helpers of gradient rules (passes/grad/ *.c; the column grad of ops.def names each rule).
 *
 *     bool grad_exp(Module *m, Node *n, Node *at, Value *const *dy, Value **dx) {
 *         dx[0] = build2(m, at, OP_Mul, dy[0], n->out[0]);
 *         return true;
 *     }
 *
 * dy has the gradients of n's outputs (NULL: none), dx takes those of its inputs (NULL: none). New nodes stand before
 * `at`. A rule may use n's inputs and outputs, and only operators that have rules themselves, so that gradients can be
 * differentiated again. */
#ifndef LATHE_PASSES_GRAD_H
#define LATHE_PASSES_GRAD_H
#include "ir/graph.h"

/* The gradient of a broadcast: d summed over the axes along which x was repeated, in x's shape. */
Value *grad_unbroadcast(Module *m, Node *at, Value *d, const Value *x);
/* A constant of one element in v's dtype. */
Value *grad_scalar(Module *m, const Value *v, double c);

#endif
