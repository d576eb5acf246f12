/* Helpers of passes that replace values. The names of the model's outputs are part of its interface: replacing a value
 * that is an output must leave an output of that name. */
#ifndef LATHE_PASSES_REWRITE_H
#define LATHE_PASSES_REWRITE_H
#include "ir/graph.h"

/* Can `to` stand in for `from` as it is? No, if from is an output of the model and to is an input, a constant, or
 * another output. */
bool value_can_replace(const Module *m, const Value *from, const Value *to);
/* Every reader of output i of n reads `to` from now on (one walk over the module); n->out[i] becomes NULL. Where `to`
 * cannot be an output of the model under that name, an Identity before n makes it one. */
void node_forward_output(Module *m, Node *n, uint32_t i, Value *to);

#endif
