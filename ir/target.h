/* What code is generated for. A property of the module's options, read by lowering (tile sizes, packing) and codegen. */
#ifndef LATHE_IR_TARGET_H
#define LATHE_IR_TARGET_H
#include "ir/graph.h"

typedef struct Target {
    const char *name;
    uint32_t vector_bits, registers; /* of one vector register, and how many there are */
    bool fma;
    const char *flag;                /* for the C compiler */
} Target;

/* The target called name; NULL or "native": the machine we run on. NULL when there is none. */
const Target *target_find(const char *name);
const Target *module_target(const Module *m); /* of the module's options; never NULL */

#endif
