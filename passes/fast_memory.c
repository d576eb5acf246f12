/* Two memories: blocks that are used often for the space and time they take go to the fast one as long as they fit.
 *
 *     size  64 K, used 9 times in 3 steps     3 uses a step: first
 *     size 512 K, used 2 times in 2 steps     1 use a step: if there is room at that time
 *
 * Each block goes to the lowest gap that it fits into at its time. When what remains is too much for the arena, the fast memory is
 * filled from the arena's highest moment instead: the largest block alive there that fits, again and again; then by uses. */
#include "passes/fast_memory.h"

#include <stdlib.h>
#include <string.h>

typedef struct Placing {
    ArenaItem *item;
    uint32_t n;
    uint64_t capacity;
    bool *is_fast;
    uint32_t *placed, n_placed; /* those in the fast memory, by offset */
} Placing;

static bool together(const ArenaItem *a, const ArenaItem *b) { return a->lower < b->upper && b->lower < a->upper; }

/* Puts block i into the lowest gap of the fast memory; false when there is none. */
static bool place(Placing *p, uint32_t i) {
    ArenaItem *b = &p->item[i];
    uint64_t at = 0;
    for (uint32_t k = 0; k < p->n_placed; k++) {
        const ArenaItem *o = &p->item[p->placed[k]];
        if (!together(b, o)) continue;
        if (o->offset >= at + b->size) break;
        if (o->offset + o->size > at) at = (o->offset + o->size + b->align - 1) / b->align * b->align;
    }
    if (b->size > p->capacity || at > p->capacity - b->size) return false;
    b->offset = at;
    p->is_fast[i] = true;
    uint32_t k = p->n_placed++;
    for (; k > 0 && p->item[p->placed[k - 1]].offset > at; k--) p->placed[k] = p->placed[k - 1];
    p->placed[k] = i;
    return true;
}

typedef struct Rank { double uses; uint64_t size; uint32_t index; } Rank;

static int by_uses(const void *x, const void *y) {
    const Rank *a = x, *b = y;
    if (a->uses != b->uses) return a->uses > b->uses ? -1 : 1;
    if (a->size != b->size) return a->size < b->size ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

static void fill_by_uses(Arena *scratch, Placing *p, const uint32_t *uses) {
    Rank *rank = ARENA_ARRAY(scratch, Rank, p->n);
    for (uint32_t i = 0; i < p->n; i++) rank[i] = (Rank){(double)uses[i] / (double)(p->item[i].upper - p->item[i].lower), p->item[i].size, i};
    if (p->n != 0) qsort(rank, p->n, sizeof *rank, by_uses);
    for (uint32_t i = 0; i < p->n; i++)
        if (!p->is_fast[rank[i].index]) place(p, rank[i].index);
}

/* The moment at which most of what is not in the fast memory is alive. */
static int64_t highest_moment(const Placing *p, uint64_t *change, int64_t end) {
    memset(change, 0, (size_t)(end + 1) * sizeof *change);
    for (uint32_t i = 0; i < p->n; i++) {
        if (p->is_fast[i]) continue;
        change[p->item[i].lower] += p->item[i].size;
        change[p->item[i].upper] -= p->item[i].size;
    }
    uint64_t now = 0, most = 0;
    int64_t at = 0;
    for (int64_t t = 0; t < end; t++) {
        now += change[t];
        if (now > most) most = now, at = t;
    }
    return at;
}

enum { MOST_ROUNDS = 4096 };

static void fill_by_height(Arena *scratch, Placing *p) {
    int64_t end = 0;
    for (uint32_t i = 0; i < p->n; i++)
        if (p->item[i].upper > end) end = p->item[i].upper;
    uint64_t *change = ARENA_ARRAY(scratch, uint64_t, (size_t)end + 1);
    for (uint32_t round = 0; round < p->n && round < MOST_ROUNDS; round++) {
        int64_t at = highest_moment(p, change, end);
        uint64_t tried = UINT64_MAX; /* sizes, from the largest */
        uint32_t tried_index = 0;
        bool found = false;
        while (!found) {
            uint32_t best = UINT32_MAX;
            for (uint32_t i = 0; i < p->n; i++) {
                const ArenaItem *b = &p->item[i];
                if (p->is_fast[i] || b->lower > at || b->upper <= at || b->size > tried || (b->size == tried && i <= tried_index)) continue;
                if (best == UINT32_MAX || b->size > p->item[best].size) best = i;
            }
            if (best == UINT32_MAX) return; /* nothing that is alive then fits */
            tried = p->item[best].size;
            tried_index = best;
            found = place(p, best);
        }
    }
}

/* The blocks that are left, in the arena. */
static ArenaResult place_rest(Arena *scratch, const Placing *p) {
    ArenaItem *rest = ARENA_ARRAY(scratch, ArenaItem, p->n);
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n; i++)
        if (!p->is_fast[i]) rest[n++] = p->item[i];
    ArenaResult result = arena_solve(scratch, rest, n, &(ArenaGoal){.effort = ARENA_QUICK});
    n = 0;
    for (uint32_t i = 0; i < p->n; i++)
        if (!p->is_fast[i]) p->item[i].offset = rest[n++].offset;
    return result;
}

ArenaResult fast_memory_place(Arena *scratch, ArenaItem *item, uint32_t n, const FastGoal *goal, bool *is_fast, uint64_t *fast) {
    Placing p = {.item = item, .n = n, .capacity = goal->capacity, .is_fast = is_fast, .placed = ARENA_ARRAY(scratch, uint32_t, n)};
    memset(is_fast, 0, n * sizeof *is_fast);
    fill_by_uses(scratch, &p, goal->uses);
    ArenaResult result = place_rest(scratch, &p);
    if (goal->rest != 0 && result.height > goal->rest) {
        p.n_placed = 0;
        memset(is_fast, 0, n * sizeof *is_fast);
        fill_by_height(scratch, &p);
        fill_by_uses(scratch, &p, goal->uses);
        result = place_rest(scratch, &p);
    }
    *fast = 0;
    for (uint32_t i = 0; i < n; i++)
        if (is_fast[i] && item[i].offset + item[i].size > *fast) *fast = item[i].offset + item[i].size;
    return result;
}
