/* lathe_place_blocks: the arena solver for callers that have blocks and no model. */
#include "api/model.h"
#include "passes/arena_solver.h"

typedef struct PlaceRequest {
    LatheBlock *block;
    uint32_t n;
    uint64_t capacity;
    LathePlacement *result;
} PlaceRequest;

static bool gaps_are_good(const LatheBlock *b) {
    int64_t from = b->lower;
    uint64_t used = (uint64_t)b->upper - (uint64_t)b->lower;
    for (uint32_t i = 0; i < b->n_gap; i++) {
        if (b->gap[i].lower < from || b->gap[i].lower >= b->gap[i].upper || b->gap[i].upper > b->upper) return false;
        used -= (uint64_t)b->gap[i].upper - (uint64_t)b->gap[i].lower;
        from = b->gap[i].upper;
    }
    return used != 0;
}

static bool blocks_are_good(const PlaceRequest *r) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        const LatheBlock *b = &r->block[i];
        if (b->lower >= b->upper || !gaps_are_good(b)) return false;
        if (__builtin_add_overflow(sum, b->size, &sum) || __builtin_add_overflow(sum, b->align, &sum) || sum >> 62 != 0) return false;
    }
    return true;
}

static LatheStatus place_blocks(LatheModel *m, void *user) {
    const PlaceRequest *r = user;
    Arena *scratch = &m->cx.scratch;
    ArenaItem *item = ARENA_ARRAY(scratch, ArenaItem, r->n);
    uint32_t *block = ARENA_ARRAY(scratch, uint32_t, r->n), n = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        LatheBlock *b = &r->block[i];
        b->offset = 0;
        if (b->size == 0) continue;
        ArenaGap *gap = ARENA_ARRAY(scratch, ArenaGap, b->n_gap);
        for (uint32_t j = 0; j < b->n_gap; j++) gap[j] = (ArenaGap){b->gap[j].lower, b->gap[j].upper};
        block[n] = i;
        item[n++] = (ArenaItem){.lower = b->lower, .upper = b->upper, .size = b->size, .align = b->align != 0 ? b->align : 1, .gap = gap, .n_gap = b->n_gap};
    }
    ArenaResult result = arena_solve(scratch, item, n, &(ArenaGoal){.capacity = r->capacity, .effort = ARENA_PATIENT});
    for (uint32_t i = 0; i < n; i++) r->block[block[i]].offset = item[i].offset;
    *r->result = (LathePlacement){result.height, result.lower_bound};
    arena_reset(scratch);
    return r->capacity != 0 && result.height > r->capacity ? LATHE_ERROR_MODEL : LATHE_OK;
}

LatheStatus lathe_place_blocks(LatheModel *m, LatheBlock *block, uint32_t n, uint64_t capacity, LathePlacement *result) {
    PlaceRequest r = {block, n, capacity, result};
    *result = (LathePlacement){0};
    return blocks_are_good(&r) ? model_enter(m, place_blocks, &r) : LATHE_ERROR_USAGE;
}
