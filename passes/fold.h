/* Folding one node: what fold_consts does, for passes that build constants out of constants. */
#ifndef LATHE_PASSES_FOLD_H
#define LATHE_PASSES_FOLD_H
#include "ir/graph.h"

/* If everything the node reads is constant, runs it in the compiler: its outputs become constants in place (every
 * reader sees that at once), and the node is taken out. False: nothing was done. The types must have been inferred. */
bool fold_node(Module *m, Node *n);

/* Puts the nodes of the branch that is taken in the place of an If. */
void if_take_branch(Module *m, Node *n, bool condition);

#endif
