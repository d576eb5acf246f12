/* Prototypes of every rule function that ops.def names. A file that defines rules includes this. */
#ifndef LATHE_PASSES_RULES_H
#define LATHE_PASSES_RULES_H
#include "ir/graph.h"

#define OP(name, domain, in_min, in_max, out_min, out_max, flags, shape, expand, grad, define, lower) \
    ExpandFn expand_##expand;                                                                           \
    GradFn grad_##grad;                                                                                 \
    DefineFn define_##define;                                                                           \
    LowerFn lower_##lower;
#define ATTR(op, name, kind, def)
#include "ir/ops.def"
#undef OP
#undef ATTR

#endif
