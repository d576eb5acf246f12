/* Places blocks of memory with known lifetimes in one arena, as low as possible. Plain data in and out, no IR. */
#ifndef LATHE_PASSES_ARENA_SOLVER_H
#define LATHE_PASSES_ARENA_SOLVER_H
#include "base/arena.h"

typedef struct ArenaItem {
    uint64_t size;        /* bytes, a multiple of the alignment */
    uint32_t first, last; /* lifetime in steps, both inclusive */
    uint64_t offset;      /* result, a multiple of the alignment */
} ArenaItem;

/* Fills offset of every item; returns the height of the arena. Deterministic. Temporary memory comes from scratch. */
uint64_t arena_solve(Arena *scratch, ArenaItem *item, uint32_t n, uint64_t align);
/* The largest sum of sizes alive at one time: no placement can be lower. */
uint64_t arena_lower_bound(Arena *scratch, const ArenaItem *item, uint32_t n);

#endif
