/* What gradients of operators with regions share. */
#ifndef LATHE_PASSES_GRAD_REGION_H
#define LATHE_PASSES_GRAD_REGION_H
#include "passes/grad/grad.h"

typedef struct Values { Value **v; uint32_t n; } Values;

/* The values from outside that a region or what is nested in it reads and whose gradient is asked for. */
Values region_captures(Grad *g, Graph *region);

#endif
