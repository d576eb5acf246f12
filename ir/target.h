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
    const char *features, *supports; /* in a file for several targets: of functions, and asked of the machine; separated by commas */
} Target;

/* The target called name; NULL or "native": the machine we run on. NULL when there is none. */
const Target *target_find(const char *name);
const Target *target_at(uint32_t i); /* all, in the order of target.def; NULL behind the last */

/* One emitted file may have code for several targets, of which NAME_init chooses: "x86-64,x86-64-v3,x86-64-v4", or "x86-64-any" for
 * all of x86-64. */
enum { MOST_TARGETS = 16 };
typedef struct TargetList {
    const Target *target[MOST_TARGETS]; /* the plainest first, each once */
    uint32_t n;
    const char *unknown;                /* the first name that is no target, or no target of such a file; up to its comma; NULL: all are */
} TargetList;
TargetList target_list(const char *names);
bool target_plans_alike(const Target *a, const Target *b); /* whether a plan made for one is the plan for the other */

/* What the module is compiled for: of several targets the one that is being planned or printed, the best one before that. */
const Target *module_target(const Module *m);

#endif
