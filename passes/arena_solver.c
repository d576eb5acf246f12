/* Greedy placement: items are placed one by one, in several orders, each into a free gap among the items that live at
 * the same time; the lowest arena wins. Orders: by size, by size * lifetime, by lifetime, by start; gaps: the lowest that
 * fits, or the tightest. A height equal to the lower bound ends the search. */
#include "passes/arena_solver.h"

#include <stdbool.h>
#include <stdlib.h>

typedef struct Sorted { const ArenaItem *item; uint32_t index; } Sorted;

static int by_index(const Sorted *a, const Sorted *b) { return a->index < b->index ? -1 : 1; }
static int compare_u64(uint64_t a, uint64_t b) { return a > b ? -1 : a < b; } /* larger first */
static uint64_t lifetime(const ArenaItem *i) { return (uint64_t)i->last - i->first + 1; }

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
    if (a->item->first != b->item->first) return a->item->first < b->item->first ? -1 : 1;
    int c = compare_u64(a->item->size, b->item->size);
    return c != 0 ? c : by_index(a, b);
}

/* Where the item goes among `placed`, which are sorted by offset. */
static uint64_t find_gap(const ArenaItem *item, ArenaItem *const *placed, uint32_t n, bool tightest, uint64_t align) {
    uint64_t top = 0, best = UINT64_MAX, best_gap = UINT64_MAX;
    for (uint32_t i = 0; i < n; i++) {
        const ArenaItem *p = placed[i];
        if (p->last < item->first || p->first > item->last) continue;
        if (p->offset >= top && p->offset - top >= item->size) {
            uint64_t gap = p->offset - top;
            if (!tightest) return top;
            if (gap < best_gap) best = top, best_gap = gap;
        }
        uint64_t end = (p->offset + p->size + align - 1) / align * align;
        if (end > top) top = end;
    }
    return best != UINT64_MAX ? best : top;
}

static uint64_t place(ArenaItem *item, const Sorted *order, uint32_t n, ArenaItem **placed, bool tightest, uint64_t align) {
    uint64_t height = 0;
    for (uint32_t i = 0; i < n; i++) {
        ArenaItem *it = &item[order[i].index];
        it->offset = find_gap(it, placed, i, tightest, align);
        if (it->offset + it->size > height) height = it->offset + it->size;
        uint32_t at = i;
        for (; at > 0 && placed[at - 1]->offset > it->offset; at--) placed[at] = placed[at - 1];
        placed[at] = it;
    }
    return height;
}

uint64_t arena_lower_bound(Arena *scratch, const ArenaItem *item, uint32_t n) {
    uint32_t end = 0;
    for (uint32_t i = 0; i < n; i++)
        if (item[i].last + 1 > end) end = item[i].last + 1;
    int64_t *change = ARENA_ARRAY(scratch, int64_t, (size_t)end + 1), live = 0, most = 0;
    for (uint32_t i = 0; i < n; i++) {
        change[item[i].first] += (int64_t)item[i].size;
        change[item[i].last + 1] -= (int64_t)item[i].size;
    }
    for (uint32_t t = 0; t < end; t++) {
        live += change[t];
        if (live > most) most = live;
    }
    return (uint64_t)most;
}

uint64_t arena_solve(Arena *scratch, ArenaItem *item, uint32_t n, uint64_t align) {
    static int (*const orders[])(const void *, const void *) = {by_size, by_area, by_lifetime, by_start};
    uint64_t best = UINT64_MAX, bound = arena_lower_bound(scratch, item, n);
    uint64_t *offset = ARENA_ARRAY(scratch, uint64_t, n);
    Sorted *order = ARENA_ARRAY(scratch, Sorted, n);
    ArenaItem **placed = ARENA_ARRAY(scratch, ArenaItem *, n);
    for (uint32_t try = 0; try < 8 && best > bound; try++) {
        for (uint32_t i = 0; i < n; i++) order[i] = (Sorted){&item[i], i};
        qsort(order, n, sizeof *order, orders[try / 2]);
        uint64_t height = place(item, order, n, placed, try % 2 == 1, align);
        if (height >= best) continue;
        best = height;
        for (uint32_t i = 0; i < n; i++) offset[i] = item[i].offset;
    }
    for (uint32_t i = 0; i < n; i++) item[i].offset = offset[i];
    return n != 0 ? best : 0;
}
