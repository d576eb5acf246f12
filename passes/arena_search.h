/* The problem on a grid, as the solver's parts share it: the distinct moments that matter become sections 0 … n_section - 1. */
#ifndef LATHE_PASSES_ARENA_SEARCH_H
#define LATHE_PASSES_ARENA_SEARCH_H
#include "passes/arena_solver.h"
#include "base/vec.h"

typedef struct ArenaList { uint32_t *v, n; } ArenaList;

typedef struct Block {
    int64_t size, align;
    uint64_t width;       /* time it is in use */
    ArenaList section;    /* in which it is in use, ascending */
    ArenaList near;       /* blocks it shares a section with, ascending */
    int64_t offset;       /* result */
} Block;

typedef struct Problem {
    Block *block;
    uint32_t n, n_section;
    ArenaList *member;    /* by section: the blocks in use there, ascending */
} Problem;

typedef struct Search Search;
Search *search_new(Arena *scratch, Problem *p);
/* Looks for a placement no higher than capacity and puts it into block[].offset. effort is reduced by what was used; the
 * search gives up at 0. False says nothing was found, not that there is nothing. */
bool search_within(Search *s, int64_t capacity, uint64_t *effort);

#endif
