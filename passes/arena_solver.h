/* Places blocks of memory with known lifetimes in one arena, as low as possible. Plain data in and out, no IR.
 *
 *     ArenaItem item[] = {{.lower = 0, .upper = 3, .size = 4, .align = 1}, {.lower = 2, .upper = 5, .size = 8, .align = 1}};
 *     ArenaResult r = arena_solve(&scratch, item, 2, &(ArenaGoal){.effort = ARENA_QUICK});
 *     // r.height == r.lower_bound == 12, item[i].offset is filled
 *
 * Greedy placement in several orders first; where that misses the goal, a tree search (passes/arena_search.h). The search is
 * bounded by work, never by time: the result is the same on every machine. */
#ifndef LATHE_PASSES_ARENA_SOLVER_H
#define LATHE_PASSES_ARENA_SOLVER_H
#include <stdbool.h>

#include "base/arena.h"

typedef struct ArenaGap { int64_t lower, upper; } ArenaGap;

typedef struct ArenaItem {
    int64_t lower, upper; /* lifetime: lower <= time < upper */
    uint64_t size;        /* bytes, at least 1 */
    uint64_t align;       /* the offset is a multiple of it; at least 1 */
    const ArenaGap *gap;  /* stretches of the lifetime in which the bytes are free for others: in order, disjoint, inside of it */
    uint32_t n_gap;
    uint64_t offset;      /* result */
} ArenaItem;

/* Effort for the compiler (some 20 ms where greedy placement is not enough) and for `lathe plan` (seconds). */
enum { ARENA_QUICK = 20000000 };
#define ARENA_PATIENT ((uint64_t)15000000000)

typedef struct ArenaGoal {
    uint64_t capacity; /* a placement this low is good enough; 0: the lower the better */
    uint64_t effort;   /* how much work the search may be, in comparisons; 0: greedy placement only */
} ArenaGoal;

typedef struct ArenaResult {
    uint64_t height;      /* of the placement in item[].offset */
    uint64_t lower_bound; /* the largest sum of sizes alive at one time: no placement is lower */
    uint64_t effort;      /* what the search was */
} ArenaResult;

/* Fills offset of every item. Deterministic. The sum of all sizes and alignments must be below 2^62. */
ArenaResult arena_solve(Arena *scratch, ArenaItem *item, uint32_t n, const ArenaGoal *goal);

#endif
