/* Which blocks of the arena stand in a small fast memory, and where. Plain data in and out, no IR. */
#ifndef LATHE_PASSES_FAST_MEMORY_H
#define LATHE_PASSES_FAST_MEMORY_H
#include "passes/arena_solver.h"

typedef struct FastGoal {
    uint64_t capacity;    /* of the fast memory */
    uint64_t rest;        /* what the blocks that do not go there may take; 0: no limit */
    const uint32_t *uses; /* by block: how often it is read or written */
} FastGoal;

/* Sets is_fast of the blocks that go to the fast memory and their offsets in it, and the offsets of the others in the arena. fast: bytes of the fast
 * memory in use, a multiple of every size's alignment when sizes are. Deterministic. The result is that of the arena. */
ArenaResult fast_memory_place(Arena *scratch, ArenaItem *item, uint32_t n, const FastGoal *goal, bool *is_fast, uint64_t *fast);

#endif
