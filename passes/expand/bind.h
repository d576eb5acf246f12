/* Sizes that operands give at run time. */
#ifndef LATHE_PASSES_EXPAND_BIND_H
#define LATHE_PASSES_EXPAND_BIND_H
#include "ir/graph.h"

/* Before `at`: a BindDims node. sizes is an i64 vector of t's rank; its elements set t's runtime symbols, and must equal
 * t's other dims when the model runs. Returns sizes with the dims of t as known contents. */
Value *bind_dims(Module *m, Node *at, Value *sizes, const Type *t);
/* Does this BindDims compare one of its sizes (with a dim that was declared or that the caller gives)? The run ends there when they differ. */
bool bind_checks(const Context *cx, const Node *n);
/* value as an i64 vector of one element. */
Value *bind_vector(Module *m, Node *at, Value *scalar);

#endif
