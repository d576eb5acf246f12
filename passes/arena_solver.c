/* Greedy placement: items are placed one by one, in several orders, each into a free gap among the items that live at
 * the same time; the lowest arena wins. Orders: by size, by size * lifetime, by lifetime, by start; gaps: the lowest that
 * fits, or the tightest. Where no such arena is as low as wanted, passes/arena_search.c looks for one: first at the lower
 * bound, then half-way between what failed and what is known, as long as the effort lasts. */
#include "passes/arena_solver.h"

#include <stdlib.h>

#include "passes/arena_search.h"

enum { MOST_SEARCHED = 4096, ROUNDS = 6 }; /* the search keeps lists of pairs: too much memory for more items */

typedef struct Sorted { const ArenaItem *item; uint32_t index; } Sorted;

static int by_index(const Sorted *a, const Sorted *b) { return a->index < b->index ? -1 : 1; }
static int compare_u64(uint64_t a, uint64_t b) { return a > b ? -1 : a < b; } /* larger first */
static uint64_t lifetime(const ArenaItem *i) { return (uint64_t)i->upper - (uint64_t)i->lower; }

static int by_size(const void *pa, const void *pb) {
    const Sorted *a = pa, *b = pb;
    int c = compare_u64(a->item->size, b->item->size);
    if (c == 0) c = compare_u64(lifetime(a->item), lifetime(b->item));
    return c != 0 ? c : by_index(a, b);
}

static int by_area(const void *pa, const void *pb) {
    const Sorted *a = pa, *b = pb;
    double x = (double)a->item->size * (double)lifetime(a->item), y = (double)b->item->size * (double)lifetime(b->item);
    return x != y ? (x > y ? -1 : 1) : by_index(a, b);
}

static int by_lifetime(const void *pa, const void *pb) {
    const Sorted *a = pa, *b = pb;
    int c = compare_u64(lifetime(a->item), lifetime(b->item));
    if (c == 0) c = compare_u64(a->item->size, b->item->size);
    return c != 0 ? c : by_index(a, b);
}

static int by_start(const void *pa, const void *pb) {
    const Sorted *a = pa, *b = pb;
    if (a->item->lower != b->item->lower) return a->item->lower < b->item->lower ? -1 : 1;
    int c = compare_u64(a->item->size, b->item->size);
    return c != 0 ? c : by_index(a, b);
}

/* ---- lifetimes with gaps ----------------------------------------------------------------------------------------- */
/* The i-th stretch in which the item is in use; false when there are no more. May be empty. */
static bool span_of(const ArenaItem *a, uint32_t i, int64_t *lower, int64_t *upper) {
    if (i > a->n_gap) return false;
    *lower = i == 0 ? a->lower : a->gap[i - 1].upper;
    *upper = i == a->n_gap ? a->upper : a->gap[i].lower;
    return true;
}

static bool share_moment(const ArenaItem *a, const ArenaItem *b) {
    if (a->upper <= b->lower || b->upper <= a->lower) return false;
    if (a->n_gap == 0 && b->n_gap == 0) return true;
    int64_t la, ua, lb, ub;
    for (uint32_t i = 0, j = 0; span_of(a, i, &la, &ua) && span_of(b, j, &lb, &ub);) {
        if ((la > lb ? la : lb) < (ua < ub ? ua : ub)) return true;
        if (ua <= ub) i++;
        else j++;
    }
    return false;
}

typedef struct Event { int64_t time; uint32_t item; bool start; } Event;

static int by_time(const void *pa, const void *pb) { /* what ends at a moment makes room for what starts there */
    const Event *a = pa, *b = pb;
    if (a->time != b->time) return a->time < b->time ? -1 : 1;
    return a->start != b->start ? (a->start ? 1 : -1) : (a->item > b->item) - (a->item < b->item);
}

static Event *events(Arena *scratch, const ArenaItem *item, uint32_t n, uint32_t *n_event) {
    size_t room = 0;
    for (uint32_t i = 0; i < n; i++) room += 2 * ((size_t)item[i].n_gap + 1);
    Event *e = ARENA_ARRAY(scratch, Event, room);
    uint32_t k = 0;
    for (uint32_t i = 0; i < n; i++) {
        int64_t lower, upper;
        for (uint32_t j = 0; span_of(&item[i], j, &lower, &upper); j++) {
            if (lower >= upper) continue;
            e[k++] = (Event){lower, i, true};
            e[k++] = (Event){upper, i, false};
        }
    }
    qsort(e, k, sizeof *e, by_time);
    *n_event = k;
    return e;
}

static uint64_t most_alive(const ArenaItem *item, const Event *e, uint32_t n) {
    uint64_t live = 0, most = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (e[i].start) live += item[e[i].item].size;
        else live -= item[e[i].item].size;
        if (live > most) most = live;
    }
    return most;
}

/* ---- greedy placement --------------------------------------------------------------------------------------------- */
static uint64_t align_up(uint64_t x, uint64_t align) { return (x + align - 1) / align * align; }

/* Where the item goes among `placed`, which are sorted by offset. */
static uint64_t find_gap(const ArenaItem *item, ArenaItem *const *placed, uint32_t n, bool tightest) {
    uint64_t top = 0, best = UINT64_MAX, best_gap = UINT64_MAX;
    for (uint32_t i = 0; i < n; i++) {
        const ArenaItem *p = placed[i];
        if (!share_moment(p, item)) continue;
        if (p->offset >= top && p->offset - top >= item->size) {
            uint64_t gap = p->offset - top;
            if (!tightest) return top;
            if (gap < best_gap) best = top, best_gap = gap;
        }
        uint64_t end = align_up(p->offset + p->size, item->align);
        if (end > top) top = end;
    }
    return best != UINT64_MAX ? best : top;
}

static uint64_t place(ArenaItem *item, const Sorted *order, uint32_t n, ArenaItem **placed, bool tightest) {
    uint64_t height = 0;
    for (uint32_t i = 0; i < n; i++) {
        ArenaItem *it = &item[order[i].index];
        it->offset = find_gap(it, placed, i, tightest);
        if (it->offset + it->size > height) height = it->offset + it->size;
        uint32_t at = i;
        for (; at > 0 && placed[at - 1]->offset > it->offset; at--) placed[at] = placed[at - 1];
        placed[at] = it;
    }
    return height;
}

/* Leaves the lowest arena in offset[]; returns its height. */
static uint64_t place_greedily(Arena *scratch, ArenaItem *item, uint32_t n, uint64_t enough, uint64_t *offset) {
    static int (*const orders[])(const void *, const void *) = {by_size, by_area, by_lifetime, by_start};
    uint64_t best = UINT64_MAX;
    Sorted *order = ARENA_ARRAY(scratch, Sorted, n);
    ArenaItem **placed = ARENA_ARRAY(scratch, ArenaItem *, n);
    for (uint32_t try = 0; try < 8 && best > enough; try++) {
        for (uint32_t i = 0; i < n; i++) order[i] = (Sorted){&item[i], i};
        qsort(order, n, sizeof *order, orders[try / 2]);
        uint64_t height = place(item, order, n, placed, try % 2 == 1);
        if (height >= best) continue;
        best = height;
        for (uint32_t i = 0; i < n; i++) offset[i] = item[i].offset;
    }
    return best;
}

/* ---- the problem on a grid ---------------------------------------------------------------------------------------- */
static void push(Arena *scratch, ArenaList *l, uint32_t *room, uint32_t x) {
    l->v = vec_grow(scratch, l->v, l->n, room, sizeof *l->v);
    l->v[l->n++] = x;
}

/* One section wherever something ends after something else has started: every set of items that are alive together is in one of
 * them, and none of them is part of the next. */
static void make_sections(Arena *scratch, Problem *p, const Event *e, uint32_t n_event) {
    uint32_t *since = ARENA_ARRAY(scratch, uint32_t, p->n), *room = ARENA_ARRAY(scratch, uint32_t, p->n);
    bool grown = false;
    for (uint32_t i = 0; i < n_event; i++) {
        uint32_t b = e[i].item;
        if (e[i].start) {
            since[b] = p->n_section;
            grown = true;
            continue;
        }
        if (grown) p->n_section++;
        grown = false;
        for (uint32_t t = since[b]; t < p->n_section; t++) push(scratch, &p->block[b].section, &room[b], t);
    }
}

static void make_members(Arena *scratch, Problem *p) {
    p->member = ARENA_ARRAY(scratch, ArenaList, p->n_section);
    uint32_t *room = ARENA_ARRAY(scratch, uint32_t, p->n_section);
    for (uint32_t i = 0; i < p->n; i++)
        for (uint32_t j = 0; j < p->block[i].section.n; j++) push(scratch, &p->member[p->block[i].section.v[j]], &room[p->block[i].section.v[j]], i);
}

static void make_near(Arena *scratch, Problem *p) {
    uint32_t *seen = ARENA_ARRAY(scratch, uint32_t, p->n);
    for (uint32_t i = 0; i < p->n; i++) {
        Block *k = &p->block[i];
        uint32_t room = 0;
        seen[i] = i + 1;
        for (uint32_t j = 0; j < k->section.n; j++) {
            const ArenaList *m = &p->member[k->section.v[j]];
            for (uint32_t x = 0; x < m->n; x++) {
                if (seen[m->v[x]] == i + 1) continue;
                seen[m->v[x]] = i + 1;
                push(scratch, &k->near, &room, m->v[x]);
            }
        }
    }
}

static Problem *make_problem(Arena *scratch, const ArenaItem *item, uint32_t n, const Event *e, uint32_t n_event) {
    Problem *p = ARENA_NEW(scratch, Problem);
    *p = (Problem){.block = ARENA_ARRAY(scratch, Block, n), .n = n};
    for (uint32_t i = 0; i < n; i++) {
        Block *k = &p->block[i];
        k->size = (int64_t)item[i].size;
        k->align = (int64_t)item[i].align;
        int64_t lower, upper;
        for (uint32_t j = 0; span_of(&item[i], j, &lower, &upper); j++) k->width += (uint64_t)upper - (uint64_t)lower;
    }
    make_sections(scratch, p, e, n_event);
    make_members(scratch, p);
    make_near(scratch, p);
    return p;
}

static uint64_t take_placement(const Problem *p, uint64_t *offset) {
    uint64_t height = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        offset[i] = (uint64_t)p->block[i].offset;
        if (offset[i] + (uint64_t)p->block[i].size > height) height = offset[i] + (uint64_t)p->block[i].size;
    }
    return height;
}

/* Lowers `best` towards goal. Each round may use half of what is left, so that the first, the goal itself, gets the most. */
static uint64_t search_lower(Search *s, const Problem *p, uint64_t goal, uint64_t best, uint64_t *effort, uint64_t *offset, bool one_round) {
    uint64_t low = goal;
    for (uint32_t round = 0; round < ROUNDS && low < best && *effort != 0; round++) {
        uint64_t capacity = round == 0 ? goal : low + (best - low) / 2, given = one_round ? *effort : (*effort + 1) / 2, left = given;
        if (search_within(s, (int64_t)capacity, &left)) best = take_placement(p, offset);
        else low = capacity + 1;
        *effort -= given - left;
        if (one_round) break;
    }
    return best;
}

ArenaResult arena_solve(Arena *scratch, ArenaItem *item, uint32_t n, const ArenaGoal *goal) {
    ArenaResult r = {0};
    if (n == 0) return r;
    uint32_t n_event;
    const Event *e = events(scratch, item, n, &n_event);
    r.lower_bound = most_alive(item, e, n_event);
    uint64_t enough = goal->capacity > r.lower_bound ? goal->capacity : r.lower_bound, effort = goal->effort;
    uint64_t *offset = ARENA_ARRAY(scratch, uint64_t, n);
    r.height = place_greedily(scratch, item, n, enough, offset);
    if (r.height > enough && effort != 0 && n <= MOST_SEARCHED && !(goal->capacity != 0 && goal->capacity < r.lower_bound)) {
        Problem *p = make_problem(scratch, item, n, e, n_event);
        r.height = search_lower(search_new(scratch, p), p, enough, r.height, &effort, offset, goal->capacity != 0);
    }
    for (uint32_t i = 0; i < n; i++) item[i].offset = offset[i];
    r.effort = goal->effort - effort;
    return r;
}
