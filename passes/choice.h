/* What lowering may do in several ways for one contraction, and which of them LatheOptions.choices asks for.
 *
 *     conv-1x56x56x64-56x56x64-k3x3-s1x1-d1x1-g1=winograd4        one entry: a key of shapes, a row of choice.def
 *
 * A rule says which ways are possible for its shape; the kernel carries key and possibilities to the plan, where
 * `lathe -O3` finds what it can time. Without an entry, or with one that is not possible, the cost model decides. */
#ifndef LATHE_PASSES_CHOICE_H
#define LATHE_PASSES_CHOICE_H
#include "passes/lower.h"
#include "passes/tile.h"

typedef enum Choice {
#define CHOICE(ID, name, what) CHOICE_##ID,
#include "passes/choice.def"
#undef CHOICE
    CHOICE_COUNT
} Choice;

const char *choice_name(Choice c);

/* Ways as bits: CHOICE_BIT(A) | CHOICE_BIT(B). */
#define CHOICE_BIT(ID) (1u << CHOICE_##ID)

/* The choice for the kernel being lowered. key: made of numbers only; possible: bits, 0: nothing to choose. */
Choice choice_take(Lower *lo, Str key, uint32_t possible);

/* The tile that the choice makes of the cost model's for m x k: one vector less wide, or the same. */
Tile choice_tile(const Lower *lo, Choice c, Tile tile, int64_t m, int64_t k);
/* The bits of loop order and tile width for weights of `panels` panels. */
uint32_t choice_loops(Tile tile, int64_t panels);
/* Does the loop over rows stand outside of that over panels? by_model: what the cost model says. */
static inline bool choice_rows_first(Choice c, bool by_model) { return c == CHOICE_ROWS_FIRST || (c != CHOICE_PANELS_FIRST && by_model); }

#endif
