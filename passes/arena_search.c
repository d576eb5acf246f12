/* Looks for a placement of all blocks within a capacity: depth first, lowest block first.
 *
 * Every block has a *floor*, the top of the highest placed block it shares a moment with. A node of the search puts one block on
 * its floor, which raises the floors of its neighbours. What keeps the tree small:
 *
 *   - Blocks are placed in the order of (offset, rank): any packing that is pushed down can be built that way, so every packing is
 *     met once. A block whose floor is no lower than the top another one could have is no candidate: that one fits below it.
 *   - In every section, the lowest floor among the waiting blocks plus their sizes must stay within the capacity.
 *   - Waiting blocks that fall apart into groups without a common moment are solved group by group.
 *   - A dead end names the placed blocks that caused it: those which hold up the floors it is about, and what holds up those. A
 *     choice that is not among the causes is not revised (backjumping): the search returns to the latest one that is.
 *
 * The causes leave out why candidates were passed over, so a search that ends without a result is no proof. How long a search takes
 * depends on the ranks more than on anything else, and on some instances only patience helps, on others only a new start. Half of the effort goes
 * to four exact orders, twice as much to each of them in every round; half to short searches whose ranks are off by chance. */
#include "passes/arena_search.h"

#include <stdlib.h>
#include <string.h>

#include "base/vec.h"

enum { NOBODY = UINT32_MAX, ORDERS = 4 };
static const uint64_t effort_of_turn = 2000000;

typedef enum Outcome { FOUND, DEAD_END, TIRED } Outcome;

typedef struct Candidate { int64_t floor; uint32_t rank, block; } Candidate;
typedef struct Undo { bool is_section; uint32_t index, cause; int64_t value; } Undo;

typedef struct Ordered { double key[3]; uint32_t block; } Ordered;

struct Search {
    Arena *scratch;
    Problem *p;
    int64_t capacity;
    int64_t *floor;        /* by block: the lowest offset it can have now */
    uint32_t *cause;       /* by block: the placed block its floor comes from, or NOBODY */
    bool *placed;
    uint32_t *rank;
    uint32_t *first, *end; /* by block: its first section, one behind its last */
    int64_t *lowest;       /* by section: lowest floor among the waiting blocks */
    int64_t *waiting;      /* by section: sum of their sizes */
    uint32_t *dirty;       /* sections to look at again */
    bool *is_dirty;
    uint32_t n_dirty;
    VEC(Undo) trail;
    VEC(uint32_t) list;    /* stack of lists of waiting blocks, by first section */
    VEC(Candidate) candidate; /* stack */
    uint32_t words;        /* of a set of blocks */
    uint64_t *causes;      /* a set per level: why the dead end below it is one */
    uint64_t effort;       /* left in this turn */
    Ordered *order;
    uint64_t random;
};

/* ---- sets of blocks --------------------------------------------------------------------------------------------- */
static uint64_t *causes_at(const Search *s, uint32_t level) { return s->causes + (size_t)level * s->words; }
static bool has(const uint64_t *set, uint32_t b) { return set[b / 64] >> (b % 64) & 1; }
static void add(uint64_t *set, uint32_t b) { set[b / 64] |= (uint64_t)1 << (b % 64); }

/* What holds up a block at the floor it has. */
static void add_support(const Search *s, uint64_t *set, uint32_t b) {
    for (uint32_t c = s->cause[b]; c != NOBODY && !has(set, c); c = s->cause[c]) add(set, c);
}

/* ---- placing ----------------------------------------------------------------------------------------------------- */
static int64_t align_up(int64_t x, int64_t align) { return align > 1 ? (x + align - 1) / align * align : x; }

static void mark_sections(Search *s, uint32_t b, int64_t old_floor) {
    const Block *k = &s->p->block[b];
    for (uint32_t i = 0; i < k->section.n; i++) {
        uint32_t t = k->section.v[i];
        if (s->lowest[t] != old_floor || s->is_dirty[t]) continue;
        s->is_dirty[t] = true;
        s->dirty[s->n_dirty++] = t;
    }
}

static void refresh_sections(Search *s) {
    for (uint32_t i = 0; i < s->n_dirty; i++) {
        uint32_t t = s->dirty[i];
        const ArenaList *m = &s->p->member[t];
        int64_t lowest = INT64_MAX / 2;
        for (uint32_t j = 0; j < m->n; j++)
            if (!s->placed[m->v[j]] && s->floor[m->v[j]] < lowest) lowest = s->floor[m->v[j]];
        s->effort -= m->n < s->effort ? m->n : s->effort;
        s->is_dirty[t] = false;
        if (lowest == s->lowest[t]) continue;
        vec_push(s->scratch, &s->trail, ((Undo){true, t, 0, s->lowest[t]}));
        s->lowest[t] = lowest;
    }
    s->n_dirty = 0;
}

/* Puts b on its floor. False, with the causes added to set, when a neighbour no longer fits above it. */
static bool put(Search *s, uint32_t b, uint64_t *set) {
    const Block *k = &s->p->block[b];
    bool good = true;
    s->placed[b] = true;
    s->p->block[b].offset = s->floor[b];
    for (uint32_t i = 0; i < k->section.n; i++) s->waiting[k->section.v[i]] -= k->size;
    mark_sections(s, b, s->floor[b]);
    int64_t top = s->floor[b] + k->size;
    for (uint32_t i = 0; i < k->near.n; i++) {
        uint32_t o = k->near.v[i];
        if (s->placed[o] || s->floor[o] >= top) continue;
        int64_t old = s->floor[o], to = align_up(top, s->p->block[o].align);
        vec_push(s->scratch, &s->trail, ((Undo){false, o, s->cause[o], old}));
        s->floor[o] = to;
        s->cause[o] = b;
        if (to + s->p->block[o].size > s->capacity) {
            add_support(s, set, o);
            good = false;
            break;
        }
        mark_sections(s, o, old);
    }
    uint32_t work = k->near.n + k->section.n;
    s->effort -= work < s->effort ? work : s->effort;
    if (good) {
        refresh_sections(s);
    } else {
        for (uint32_t i = 0; i < s->n_dirty; i++) s->is_dirty[s->dirty[i]] = false;
        s->n_dirty = 0;
    }
    return good;
}

static void take_back(Search *s, uint32_t b, uint32_t mark) {
    while (s->trail.n > mark) {
        const Undo *u = &s->trail.v[--s->trail.n];
        if (u->is_section) {
            s->lowest[u->index] = u->value;
        } else {
            s->floor[u->index] = u->value;
            s->cause[u->index] = u->cause;
        }
    }
    const Block *k = &s->p->block[b];
    for (uint32_t i = 0; i < k->section.n; i++) s->waiting[k->section.v[i]] += k->size;
    s->placed[b] = false;
}

/* Can all that waits in the sections [first, end) still stand at `offset` or higher? If not, adds why not to set. */
static bool fits(Search *s, uint32_t first, uint32_t end, int64_t offset, uint32_t last, uint64_t *set) {
    bool over = false;
    for (uint32_t t = first; t < end; t++) {
        int64_t low = s->lowest[t] > offset ? s->lowest[t] : offset;
        over |= (low + s->waiting[t] > s->capacity) & (s->waiting[t] != 0);
    }
    s->effort -= end - first < s->effort ? end - first : s->effort;
    if (!over) return true;
    uint32_t t = first;
    bool by_floor = false;
    for (uint32_t i = first; i < end && !by_floor; i++) {
        if (s->waiting[i] == 0) continue;
        if (s->lowest[i] + s->waiting[i] > s->capacity) t = i, by_floor = true;
        else if (offset + s->waiting[i] > s->capacity) t = i;
    }
    if (!by_floor) add(set, last), add_support(s, set, last);
    const ArenaList *m = &s->p->member[t];
    for (uint32_t j = 0; j < m->n; j++)
        if (!s->placed[m->v[j]]) add_support(s, set, m->v[j]);
    return false;
}

/* ---- the tree ----------------------------------------------------------------------------------------------------- */
typedef struct State { /* a group of waiting blocks and the last choice made for it */
    uint32_t list, n;  /* in Search.list */
    uint32_t level;
    int64_t offset;    /* blocks stand here or higher, */
    uint32_t rank;     /* and those that stand here have this rank or a higher one */
    uint32_t last;     /* the block placed last, NOBODY at the root */
} State;

static Outcome search_groups(Search *s, const State *all);

/* Pushes the candidates of a state in their order; returns their number. */
static uint32_t find_candidates(Search *s, const State *a) {
    int64_t lowest_top = INT64_MAX;
    for (uint32_t i = 0; i < a->n; i++) {
        uint32_t b = s->list.v[a->list + i];
        int64_t top = s->floor[b] + s->p->block[b].size;
        if (top < lowest_top) lowest_top = top;
    }
    uint32_t base = s->candidate.n, n = 0;
    for (uint32_t i = 0; i < a->n; i++) {
        uint32_t b = s->list.v[a->list + i], rank = s->rank[b];
        int64_t floor = s->floor[b];
        if (floor >= lowest_top || floor < a->offset || (floor == a->offset && rank < a->rank)) continue;
        vec_push(s->scratch, &s->candidate, ((Candidate){0}));
        Candidate *c = s->candidate.v + base;
        uint32_t at = n++;
        for (; at > 0 && (c[at - 1].floor > floor || (c[at - 1].floor == floor && c[at - 1].rank > rank)); at--) c[at] = c[at - 1];
        c[at] = (Candidate){floor, rank, b};
    }
    s->effort -= a->n * 2 < s->effort ? a->n * 2 : s->effort;
    return n;
}

/* Places c and looks below; on a dead end the causes are at level + 1. */
static Outcome try_candidate(Search *s, const State *a, const Candidate *c) {
    uint64_t *why = causes_at(s, a->level + 1);
    memset(why, 0, s->words * sizeof *why);
    if (!put(s, c->block, why)) return DEAD_END;
    State rest = {s->list.n, 0, a->level + 1, c->floor, c->rank, c->block};
    uint32_t first = UINT32_MAX, end = 0;
    for (uint32_t i = 0; i < a->n; i++) {
        uint32_t b = s->list.v[a->list + i];
        if (s->first[b] < first) first = s->first[b];
        if (s->end[b] > end) end = s->end[b];
        if (b == c->block) continue;
        vec_push(s->scratch, &s->list, b);
        rest.n++;
    }
    Outcome r = rest.n == 0 ? FOUND : fits(s, first, end, c->floor, c->block, why) ? search_groups(s, &rest) : DEAD_END;
    s->list.n = rest.list;
    return r;
}

/* On a dead end the causes are at a->level. */
static Outcome search(Search *s, const State *a) {
    if (s->effort == 0) return TIRED;
    uint64_t *why = causes_at(s, a->level), *below = causes_at(s, a->level + 1);
    memset(why, 0, s->words * sizeof *why);
    uint32_t base = s->candidate.n, n = find_candidates(s, a), mark = s->trail.n;
    Outcome r = DEAD_END;
    if (n == 0 && a->last != NOBODY) add(why, a->last), add_support(s, why, a->last);
    for (uint32_t i = 0; i < n && r == DEAD_END; i++) {
        Candidate c = s->candidate.v[base + i];
        r = try_candidate(s, a, &c);
        if (r == FOUND) break;
        take_back(s, c.block, mark);
        if (r == TIRED) break;
        bool to_blame = has(below, c.block);
        for (uint32_t w = 0; w < s->words; w++) why[w] |= below[w];
        why[c.block / 64] &= ~((uint64_t)1 << (c.block % 64));
        if (!to_blame) break;
    }
    s->candidate.n = base;
    return r;
}

/* Solves the groups that share no section one by one. When one fails, flags and sums of what was placed are restored here; floors
 * are on the trail, for the caller. */
static Outcome search_groups(Search *s, const State *all) {
    Outcome r = FOUND;
    for (uint32_t i = 0; i < all->n && r == FOUND;) {
        uint32_t j = i, end = 0;
        for (; j < all->n && (j == i || s->first[s->list.v[all->list + j]] < end); j++)
            if (s->end[s->list.v[all->list + j]] > end) end = s->end[s->list.v[all->list + j]];
        State group = *all;
        group.list = all->list + i;
        group.n = j - i;
        r = search(s, &group);
        i = j;
    }
    if (r == FOUND) return r;
    for (uint32_t i = 0; i < all->n; i++) {
        uint32_t b = s->list.v[all->list + i];
        if (s->placed[b]) take_back(s, b, s->trail.n);
    }
    return r;
}

/* ---- orders ------------------------------------------------------------------------------------------------------- */
static int by_keys(const void *pa, const void *pb) {
    const Ordered *a = pa, *b = pb;
    for (int i = 0; i < 3; i++)
        if (a->key[i] != b->key[i]) return a->key[i] > b->key[i] ? -1 : 1;
    return (a->block > b->block) - (a->block < b->block);
}

static double random_factor(Search *s) { /* 0.75 .. 1.25 */
    s->random = s->random * 6364136223846793005u + 1442695040888963407u;
    return 0.75 + 0.5 * ((double)(s->random >> 40) / (double)(1 << 24));
}

/* Ranks by the time a block takes, its area, and the most that is in use together with it, in different order. */
static void rank_blocks(Search *s, uint32_t order, bool exact) {
    Ordered *o = s->order;
    static const uint8_t place[ORDERS][3] = {{0, 1, 2}, {2, 1, 0}, {1, 2, 0}, {1, 0, 2}}; /* of width, area, pressure */
    for (uint32_t i = 0; i < s->p->n; i++) {
        const Block *k = &s->p->block[i];
        double pressure = 0;
        for (uint32_t j = 0; j < k->section.n; j++)
            if ((double)s->waiting[k->section.v[j]] > pressure) pressure = (double)s->waiting[k->section.v[j]];
        o[i].block = i;
        o[i].key[place[order][0]] = (double)k->width;
        o[i].key[place[order][1]] = (double)k->width * (double)k->size;
        o[i].key[place[order][2]] = pressure;
        if (!exact) o[i].key[0] *= random_factor(s);
    }
    qsort(o, s->p->n, sizeof *o, by_keys);
    for (uint32_t i = 0; i < s->p->n; i++) s->rank[o[i].block] = i;
}

typedef struct Started { uint32_t first, block; } Started;

static int by_first(const void *pa, const void *pb) {
    const Started *a = pa, *b = pb;
    if (a->first != b->first) return a->first < b->first ? -1 : 1;
    return (a->block > b->block) - (a->block < b->block);
}

static void push_all(Search *s) {
    Started *o = ARENA_ARRAY(s->scratch, Started, s->p->n);
    for (uint32_t i = 0; i < s->p->n; i++) o[i] = (Started){s->first[i], i};
    qsort(o, s->p->n, sizeof *o, by_first);
    for (uint32_t i = 0; i < s->p->n; i++) vec_push(s->scratch, &s->list, o[i].block);
}

static void restart(Search *s) {
    const Problem *p = s->p;
    s->trail.n = s->candidate.n = s->n_dirty = 0;
    for (uint32_t t = 0; t < p->n_section; t++) {
        s->lowest[t] = p->member[t].n != 0 ? 0 : INT64_MAX / 2;
        s->waiting[t] = 0;
        for (uint32_t j = 0; j < p->member[t].n; j++) s->waiting[t] += p->block[p->member[t].v[j]].size;
        s->is_dirty[t] = false;
    }
    for (uint32_t i = 0; i < p->n; i++) {
        s->floor[i] = 0;
        s->cause[i] = NOBODY;
        s->placed[i] = false;
    }
}

Search *search_new(Arena *scratch, Problem *p) {
    Search *s = ARENA_NEW(scratch, Search);
    s->scratch = scratch;
    s->p = p;
    s->floor = ARENA_ARRAY(scratch, int64_t, p->n);
    s->cause = ARENA_ARRAY(scratch, uint32_t, p->n);
    s->placed = ARENA_ARRAY(scratch, bool, p->n);
    s->rank = ARENA_ARRAY(scratch, uint32_t, p->n);
    s->first = ARENA_ARRAY(scratch, uint32_t, p->n);
    s->end = ARENA_ARRAY(scratch, uint32_t, p->n);
    s->lowest = ARENA_ARRAY(scratch, int64_t, p->n_section);
    s->waiting = ARENA_ARRAY(scratch, int64_t, p->n_section);
    s->dirty = ARENA_ARRAY(scratch, uint32_t, p->n_section);
    s->is_dirty = ARENA_ARRAY(scratch, bool, p->n_section);
    s->order = ARENA_ARRAY(scratch, Ordered, p->n);
    s->words = (p->n + 63) / 64;
    s->causes = ARENA_ARRAY(scratch, uint64_t, ((size_t)p->n + 2) * s->words);
    for (uint32_t i = 0; i < p->n; i++) {
        const ArenaList *l = &p->block[i].section;
        s->first[i] = l->v[0];
        s->end[i] = l->v[l->n - 1] + 1;
    }
    push_all(s);
    return s;
}

static Outcome search_once(Search *s, uint32_t order, bool exact, uint64_t turn, uint64_t *effort) {
    restart(s);
    rank_blocks(s, order, exact);
    uint64_t given = turn < *effort ? turn : *effort;
    s->effort = given;
    Outcome r = search_groups(s, &(State){.n = s->p->n, .last = NOBODY});
    *effort -= given - s->effort;
    return r;
}

bool search_within(Search *s, int64_t capacity, uint64_t *effort) {
    s->capacity = capacity;
    s->random = 1;
    for (uint64_t turn = effort_of_turn, times = ORDERS; *effort != 0; turn *= 2, times *= 2) {
        uint32_t n_ended = 0;
        for (uint32_t i = 0; i < ORDERS && *effort != 0; i++) {
            Outcome r = search_once(s, i, true, turn, effort);
            if (r == FOUND) return true;
            n_ended += r == DEAD_END;
        }
        if (n_ended == ORDERS && *effort != 0) return false;
        for (uint64_t i = 0; i < times && *effort != 0; i++)
            if (search_once(s, (uint32_t)(i % ORDERS), false, effort_of_turn, effort) == FOUND) return true;
    }
    return false;
}
