/* Lifetimes of the main graph's values in the order of its nodes, for estimates that are made before memory is planned. */
#ifndef LATHE_PASSES_LIFETIME_H
#define LATHE_PASSES_LIFETIME_H
#include "ir/graph.h"

/* Bytes of a tensor at the upper bounds of its dims; 0 for what is none, never more than 2^41. */
uint64_t value_bytes_most(const Context *cx, const Value *v);
/* By value id (of zeros): the position of the last node that reads it, `elsewhere` for outputs and what regions read. position: by node id. */
void last_readers(Module *m, const uint32_t *position, uint32_t elsewhere, uint32_t *last);

#endif
