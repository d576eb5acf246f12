/* What code is generated for. A property of the module's options, read by lowering (tile sizes, packing) and codegen. */
#ifndef LATHE_IR_TARGET_H
#define LATHE_IR_TARGET_H
#include "ir/graph.h"

typedef struct Target {
    const char *name;
    uint32_t vector_bits, registers; /* of one vector register, and how many there are */
    bool fma;
    bool scalable;                   /* vectors are as wide as the machine has them: code for one width must not run on another */
    const char *flags;               /* for the C compiler, separated by spaces */
} Target;

/* The target called name; NULL or "native": the machine we run on. NULL when there is none. */
const Target *target_find(const char *name);
const Target *target_at(uint32_t i); /* all, in the order of target.def; NULL behind the last */
const Target *module_target(const Module *m); /* of the module's options; never NULL */

#endif
