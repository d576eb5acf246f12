/* Two memories (passes/fast_memory.c) by themselves, and the check of plans that use them (ir/plan_check.c). */
#include "ir/plan.h"
#include "passes/fast_memory.h"
#include "unit.h"

enum { MOST = 60 };

static uint64_t next(uint64_t *r) { return *r = hash_mix(*r, 0x9E3779B97F4A7C15u) ^ (*r >> 29); }

static bool overlap(const ArenaItem *a, const ArenaItem *b) {
    return a->lower < b->upper && b->lower < a->upper && a->offset < b->offset + b->size && b->offset < a->offset + a->size;
}

START_TEST(random_blocks) {
    for (uint64_t seed = 1; seed <= 200; seed++) {
        uint64_t r = seed * 77, fast, again, capacity = 64 * (next(&r) % 200);
        uint32_t n = 1 + (uint32_t)(next(&r) % MOST), uses[MOST];
        ArenaItem item[MOST], copy[MOST];
        bool is_fast[MOST], same[MOST];
        for (uint32_t i = 0; i < n; i++) {
            int64_t from = (int64_t)(next(&r) % 30);
            item[i] = (ArenaItem){.lower = from, .upper = from + 1 + (int64_t)(next(&r) % 12), .size = 64 * (1 + next(&r) % 40), .align = 64};
            uses[i] = 1 + (uint32_t)(next(&r) % 9);
            copy[i] = item[i];
        }
        FastGoal goal = {capacity, seed % 2 * 64 * 50, uses};
        ArenaResult rest = fast_memory_place(&cx.scratch, item, n, &goal, is_fast, &fast), second = fast_memory_place(&cx.scratch, copy, n, &goal, same, &again);
        ck_assert_uint_eq(rest.height, second.height);
        ck_assert_uint_le(fast, capacity);
        for (uint32_t i = 0; i < n; i++) {
            ck_assert(is_fast[i] == same[i] && item[i].offset == copy[i].offset && item[i].offset % 64 == 0);
            ck_assert_uint_le(item[i].offset + item[i].size, is_fast[i] ? fast : rest.height);
            for (uint32_t k = 0; k < i; k++) ck_assert(is_fast[i] != is_fast[k] || !overlap(&item[i], &item[k]));
        }
        arena_reset(&cx.scratch);
    }
}
END_TEST

/* Where the arena is too small for the largest moment, the fast memory takes from there, though others are used more often. */
START_TEST(relieves_the_arena) {
    ArenaItem item[3] = {{.lower = 0, .upper = 2, .size = 640, .align = 64}, {.lower = 0, .upper = 2, .size = 640, .align = 64}, {.lower = 0, .upper = 4, .size = 64, .align = 64}};
    const uint32_t uses[3] = {1, 1, 9};
    bool is_fast[3];
    uint64_t fast;
    ArenaResult r = fast_memory_place(&cx.scratch, item, 3, &(FastGoal){640, 0, uses}, is_fast, &fast);
    ck_assert(is_fast[2] && !is_fast[0] && !is_fast[1] && r.height == 1280 && fast == 64);
    r = fast_memory_place(&cx.scratch, item, 3, &(FastGoal){640, 704, uses}, is_fast, &fast);
    ck_assert(is_fast[0] && !is_fast[1] && !is_fast[2] && r.height == 704 && fast == 640);
}
END_TEST

/* A plan with one buffer, at an offset in the fast memory, behind it, or across. */
static bool accepted(uint64_t offset, uint64_t fast, uint64_t arena) {
    Module *m = module_new(&cx, "m");
    Dim n = dim_const(&cx, 32);
    Plan *p = plan_new(m);
    p->align = 64;
    p->fast_bytes = fast;
    p->arena_bytes = arena;
    p->n_buffer = 1;
    p->buffer = ARENA_ARRAY(&cx.arena, PlanBuffer, 1);
    p->buffer[0] = (PlanBuffer){value_new(m, type_tensor(&cx, DT_F32, 1, &n), str_intern(&cx, "v")), 128, offset, 0, 1};
    return plan_check_overlap(&cx, p);
}

START_TEST(checked) {
    ck_assert(accepted(0, 128, 0));
    ck_assert(accepted(128, 128, 128));
    ck_assert(!accepted(64, 128, 128)); /* half here, half there */
    ck_assert(!accepted(0, 64, 128));
    ck_assert(!accepted(192, 128, 128)); /* beyond the arena */
}
END_TEST

Suite *suite_fast_memory(void) {
    Suite *s = suite_create("fast_memory");
    TCase *t = unit_case(s, "fast_memory");
    tcase_add_test(t, random_blocks);
    tcase_add_test(t, relieves_the_arena);
    tcase_add_test(t, checked);
    return s;
}
