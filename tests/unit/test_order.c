/* Orders of kernels that need the least memory (passes/order.c): random graphs whose optimum is found here by going through all sets of operators,
 * and graphs with a known one. The operators are matrix products, which make any size of any other, and concatenations. */
#include "ir/plan.h"
#include "lathe.h"
#include "passes/pass.h"
#include "unit.h"

enum { MOST = 11, UNIT = 16 /* floats: the arena's alignment */ };

typedef struct Made { /* operator i reads one or two earlier values; value 0 is the input */
    uint32_t n, in[MOST + 1][2], n_in[MOST + 1], size[MOST + 1]; /* sizes in units */
    bool read[MOST + 1];
} Made;

static uint64_t next(uint64_t *r) { return *r = hash_mix(*r, 0x9E3779B97F4A7C15u) ^ (*r >> 29); }

static Made draw(uint64_t seed) {
    uint64_t r = seed * 1000003 + 17;
    Made g = {.n = 5 + (uint32_t)(next(&r) % (MOST - 4)), .size = {1}};
    for (uint32_t i = 1; i <= g.n; i++) {
        g.n_in[i] = i > 2 && next(&r) % 3 == 0 ? 2 : 1;
        for (uint32_t k = 0; k < g.n_in[i]; k++) {
            g.in[i][k] = next(&r) % 4 == 0 ? 0 : (uint32_t)(next(&r) % i);
            if (k == 1) g.in[i][k] = i - 1; /* no two operators are equal: they would become one */
            g.read[g.in[i][k]] = true;
        }
        g.size[i] = g.n_in[i] == 2 ? g.size[g.in[i][0]] + g.size[g.in[i][1]] : 1 + (uint32_t)(next(&r) % 40);
    }
    return g;
}

static Module *build(const Made *g, const LatheOptions *options) {
    Writer w = {.arena = &cx.arena};
    cw_printf(&w, "graph @main(%%v0: f32[1,%u]) -> (", g->size[0] * UNIT);
    const char *comma = "";
    for (uint32_t i = 1; i <= g->n; i++)
        if (!g->read[i]) cw_printf(&w, "%s%%v%u", comma, i), comma = ", ";
    cw_printf(&w, ") {\n");
    for (uint32_t i = 1; i <= g->n; i++) {
        if (g->n_in[i] == 2) {
            cw_printf(&w, "%%v%u = Concat(%%v%u, %%v%u) {axis = 1}\n", i, g->in[i][0], g->in[i][1]);
            continue;
        }
        cw_printf(&w, "%%s%u = const i64[2] [%u, %u]\n", i, g->size[g->in[i][0]] * UNIT, g->size[i] * UNIT);
        cw_printf(&w, "%%w%u = ConstantOfShape(%%s%u) {value = f32[1] [%u]}\n%%v%u = MatMul(%%v%u, %%w%u)\n", i, i, i, i, g->in[i][0], i);
    }
    cw_printf(&w, "}\n");
    const char *text = cw_cstr(&w);
    Module *m = module_parse(&cx, "graph", text, strlen(text));
    ck_assert_msg(m != NULL, "%s", text);
    m->options = options;
    return m;
}

static const Plan *plan_of(const Made *g, bool ordered) {
    static const char *const off[] = {"join_rows", "order", NULL}, *const on[] = {"join_rows", NULL}; /* every operator is a step */
    LatheOptions *options = ARENA_NEW(&cx.arena, LatheOptions);
    *options = lathe_options();
    options->target = "generic";
    options->disable = ordered ? on : off;
    Module *m = build(g, options);
    ck_assert(pass_run_pipeline(m));
    return m->plan;
}

/* The least peak over all orders, in units: over sets of operators that have run. */
static uint32_t optimum(const Made *g) {
    static uint32_t best[1 << MOST];
    uint32_t all = (1u << g->n) - 1;
    for (uint32_t s = 0; s <= all; s++) best[s] = UINT32_MAX;
    best[0] = 0;
    for (uint32_t s = 0; s < all; s++) {
        if (best[s] == UINT32_MAX) continue;
        uint32_t live = 0;
        for (uint32_t v = 1; v <= g->n; v++) { /* results of operators that others still need; outputs are the caller's */
            bool wanted = false;
            for (uint32_t i = 1; i <= g->n; i++)
                for (uint32_t k = 0; k < g->n_in[i]; k++) wanted |= g->in[i][k] == v && !(s >> (i - 1) & 1);
            if ((s >> (v - 1) & 1) && wanted) live += g->size[v];
        }
        for (uint32_t i = 1; i <= g->n; i++) {
            bool ready = !(s >> (i - 1) & 1);
            for (uint32_t k = 0; k < g->n_in[i]; k++) ready &= g->in[i][k] == 0 || (s >> (g->in[i][k] - 1) & 1);
            if (!ready) continue;
            uint32_t during = live + (g->read[i] ? g->size[i] : 0), t = s | 1u << (i - 1), peak = during > best[s] ? during : best[s];
            if (peak < best[t]) best[t] = peak;
        }
    }
    return best[all];
}

START_TEST(random_graphs) {
    uint32_t lower = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        Made g = draw(seed);
        const Plan *with = plan_of(&g, true), *without = plan_of(&g, false);
        ck_assert_msg(with->arena_bytes <= without->arena_bytes, "seed %u: %u > %u", (unsigned)seed, (unsigned)with->arena_bytes, (unsigned)without->arena_bytes);
        ck_assert_msg(with->lower_bound == optimum(&g) * 64, "seed %u: %u, not %u", (unsigned)seed, (unsigned)with->lower_bound, optimum(&g) * 64);
        lower += with->arena_bytes < without->arena_bytes;
        context_teardown();
        context_setup();
    }
    ck_assert_uint_ge(lower, 10); /* there was something to find */
}
END_TEST

/* Four branches that make a large value and shrink it, given side by side: all large values at once. One branch after the other needs one. */
START_TEST(branches) {
    Made g = {.n = 11, .size = {1}};
    for (uint32_t b = 0; b < 4; b++) {
        g.n_in[1 + b] = g.n_in[5 + b] = 1;
        g.size[1 + b] = 100;
        g.in[5 + b][0] = 1 + b;
        g.size[5 + b] = 2;
        g.read[1 + b] = g.read[5 + b] = true;
    }
    for (uint32_t i = 9; i <= 11; i++) {
        g.n_in[i] = 2;
        g.in[i][0] = i == 9 ? 5 : i - 1;
        g.in[i][1] = i - 3;
        g.size[i] = g.size[g.in[i][0]] + 2;
        g.read[i] = i != 11;
    }
    ck_assert_uint_eq(plan_of(&g, false)->arena_bytes, (400 + 2) * 64);
    ck_assert_uint_eq(plan_of(&g, true)->arena_bytes, (100 + 2 + 6) * 64); /* the last branch shrinks beside what the three others became */
}
END_TEST

Suite *suite_order(void) {
    Suite *s = suite_create("order");
    TCase *t = unit_case(s, "order");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, random_graphs);
    tcase_add_test(t, branches);
    return s;
}
