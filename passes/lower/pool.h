/* What pools and their gradients share. */
#ifndef LATHE_PASSES_LOWER_POOL_H
#define LATHE_PASSES_LOWER_POOL_H
#include "ir/shape/window.h"
#include "passes/lower.h"

/* How many taps of output out (an index with batch and channel first) count for the average: those inside the input, or inside the padded
 * input. */
Expr *pool_tap_count(Lower *lo, const Window *w, Expr *const *out, bool with_padding);

#endif
