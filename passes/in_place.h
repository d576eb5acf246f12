/* May a kernel step write an output over an operand that dies there? */
#ifndef LATHE_PASSES_IN_PLACE_H
#define LATHE_PASSES_IN_PLACE_H
#include "ir/plan.h"

/* s: a kernel step; in, out: its arguments. True when element i of `out` is computed from element i of `in` only, before anything else could
 * want the old one. The caller looks whether `in` dies at s, and whether other arguments are the same memory. */
bool step_in_place(Context *cx, const Step *s, uint32_t in, uint32_t out);

#endif
