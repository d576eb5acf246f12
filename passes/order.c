/* order: kernels in the order that needs the least memory.
 *
 *     %a = small(%x)  %b = large(%x)  %c = shrink(%b)  %d = large(%a)  %e = shrink(%d)      given: %b and %d never meet, but
 *     %x has to stay until %b is computed: with large(%x) and shrink(%b) first, %a is not yet there at the largest moment
 *
 * A moment's memory depends on which steps have run, not on their order. So the search goes through sets of steps that are closed
 * under "needs", one more step at a time (Held and Karp's way): of all orders that lead to one set only the one with the lowest peak goes on. Sets
 * whose peak is not below that of the given order are dropped at once, and so most models are through after one look. A step that
 * enlarges no peak and leaves no more memory in use than before is taken without looking at others. Where all of this leaves more sets of
 * one size than MOST_SETS, or more work than EFFORT, the lowest go on: exact for small graphs, a beam for large ones, the same on every machine. A second search keeps to the peak that was found and
 * asks for the fewest jumps in the given order.
 *
 * Only kernels change places, between steps of other kinds; models with control flow or entries of their own keep their order. Both orders are
 * then placed in an arena by the solver, and the new one is taken when its arena is smaller. */
#include <stdlib.h>

#include "ir/state.h"
#include "passes/arena_solver.h"
#include "passes/in_place.h"
#include "passes/lifetime.h"
#include "passes/pass.h"

enum { NEVER = UINT32_MAX, MOST_SETS = 1024, LEAST_SETS = 4, WORK = 200000, REACH = 256, MOST_STEPS = 20000 };
enum { EFFORT = 4000000 }; /* uses of values that are looked at: some ten milliseconds */

typedef struct Cell { /* memory of one value and its views */
    uint64_t bytes;          /* 0: not in the arena */
    uint32_t first, last;    /* steps of the whole list that touch it; last NEVER: it stays to the end */
    VEC(uint32_t) user;      /* those, ascending */
    VEC(bool) writes;        /* by user */
} Cell;

typedef struct Pair { uint32_t in, out; int8_t fits; } Pair; /* arguments; fits < 0: not asked yet */

typedef struct Job { /* a step */
    Step *step;
    uint32_t *cell;          /* by argument; NEVER: none */
    VEC(uint32_t) needs;     /* steps before it in any order, of its run */
    Pair *pair;
    uint32_t n_pair;
    uint32_t work;           /* of looking at it: users of its values, and what it needs */
    bool movable;
} Job;

typedef struct Order {
    Context *cx;
    Module *m;
    Plan *plan;
    Cell *cell;              /* by value id, of roots */
    Job *job;
    uint32_t n;
    uint64_t align;
} Order;

/* Steps first .. first + n of the list, which may change places. */
typedef struct Run { uint32_t first, n, words; uint64_t floor; } Run;

/* ---- what steps touch ---------------------------------------------------------------------------------------------------- */
static bool is_write(const Step *s, uint32_t arg) {
    switch (s->kind) {
    case STEP_KERNEL: return s->kernel->buf[arg].kind != BUF_IN;
    case STEP_COPY: return arg == 1;
    case STEP_EXCHANGE: case STEP_ARRIVE: return true;
    case STEP_DIM: case STEP_LET: case STEP_GATE: case STEP_IF: case STEP_LOOP: return false;
    }
    return false;
}

static void touch(Order *o, uint32_t at, const Value *v, bool write) {
    Arena *a = &o->cx->scratch;
    Cell *c = &o->cell[plan_root(o->plan, v)->id];
    if (c->user.n != 0 && c->user.v[c->user.n - 1] == at) {
        c->writes.v[c->writes.n - 1] |= write;
        return;
    }
    vec_push(a, &c->user, at);
    vec_push(a, &c->writes, write);
    if (c->first == NEVER) c->first = at;
    c->last = at;
}

static void size_cells(Order *o) {
    const Graph *g = o->m->main;
    for (uint32_t i = 0; i < o->n; i++) {
        const Job *j = &o->job[i];
        for (uint32_t k = 0; k < j->step->n_value; k++) {
            if (j->step->value[k] == NULL) continue;
            const Value *r = plan_root(o->plan, j->step->value[k]);
            uint64_t bytes = value_bytes_most(o->cx, r);
            bytes = (bytes + o->align - 1) / o->align * o->align;
            o->cell[r->id].bytes = r->data != NULL ? 0 : bytes != 0 ? bytes : o->align;
        }
    }
    for (uint32_t i = 0; i < g->n_in; i++) o->cell[plan_root(o->plan, g->in[i])->id].bytes = 0;
    for (uint32_t i = 0; i < g->n_out; i++) o->cell[plan_root(o->plan, g->out[i])->id].bytes = 0; /* the caller's memory */
}

/* Operands that a result may be written over. */
static void find_pairs(Order *o, Job *j) {
    const Step *s = j->step;
    VEC(Pair) pair = {0};
    for (uint32_t out = 0; s->kind == STEP_KERNEL && out < s->n_value; out++) {
        if (s->kernel->buf[out].kind != BUF_OUT || j->cell[out] == NEVER) continue;
        const Cell *to = &o->cell[j->cell[out]];
        for (uint32_t in = 0; in < s->n_value; in++) {
            if (s->kernel->buf[in].kind != BUF_IN || j->cell[in] == NEVER || j->cell[in] == j->cell[out]) continue;
            const Cell *from = &o->cell[j->cell[in]];
            if (to->bytes != 0 && from->bytes >= to->bytes) vec_push(&o->cx->scratch, &pair, ((Pair){in, out, -1}));
        }
    }
    j->pair = pair.v;
    j->n_pair = pair.n;
}

static bool pair_fits(Order *o, Job *j, Pair *p) {
    if (p->fits >= 0) return p->fits;
    bool fits = true;
    for (uint32_t i = 0; i < j->step->n_value && fits; i++)
        if (j->step->kernel->buf[i].kind == BUF_IN && j->cell[i] == j->cell[p->in]) fits = step_in_place(o->cx, j->step, i, p->out);
    p->fits = fits;
    return fits;
}

static bool describe(Order *o) {
    Arena *a = &o->cx->scratch;
    o->n = 0;
    for (Step *s = o->plan->first; s != NULL; s = s->next, o->n++)
        if (s->kind == STEP_IF || s->kind == STEP_LOOP) return false;
    if (o->n < 3 || o->n > MOST_STEPS) return false;
    o->cell = ARENA_ARRAY(a, Cell, o->m->n_value);
    o->job = ARENA_ARRAY(a, Job, o->n);
    for (uint32_t i = 0; i < o->m->n_value; i++) o->cell[i].first = NEVER;
    uint32_t at = 0;
    for (Step *s = o->plan->first; s != NULL; s = s->next, at++) {
        Job *j = &o->job[at];
        j->step = s;
        j->movable = s->kind == STEP_KERNEL || s->kind == STEP_COPY;
        j->cell = ARENA_ARRAY(a, uint32_t, s->n_value);
        for (uint32_t i = 0; i < s->n_value; i++) {
            j->cell[i] = s->value[i] != NULL ? plan_root(o->plan, s->value[i])->id : NEVER;
            if (s->value[i] != NULL) touch(o, at, s->value[i], is_write(s, i));
        }
    }
    size_cells(o);
    for (uint32_t v = 0; v < o->m->n_value; v++) { /* who needs whom: nobody passes a write, and no write passes anybody */
        const Cell *c = &o->cell[v];
        uint32_t write = NEVER;
        for (uint32_t u = 0; u < c->user.n; u++) {
            Job *j = &o->job[c->user.v[u]];
            for (uint32_t w = write == NEVER ? 0 : write; c->writes.v[u] && w < u; w++) vec_push(a, &j->needs, c->user.v[w]);
            if (!c->writes.v[u] && write != NEVER) vec_push(a, &j->needs, c->user.v[write]);
            if (c->writes.v[u]) write = u;
        }
    }
    for (uint32_t i = 0; i < o->n; i++) {
        Job *j = &o->job[i];
        find_pairs(o, j);
        j->work = 8 + j->needs.n;
        for (uint32_t k = 0; k < j->step->n_value; k++) j->work += j->cell[k] == NEVER ? 0 : 2 + o->cell[j->cell[k]].user.n;
    }
    return true;
}

/* ---- one more step -------------------------------------------------------------------------------------------------------- */
typedef struct Set { /* steps of the run that have run */
    uint64_t *done;          /* bits */
    uint64_t live, peak;     /* bytes now, at most so far */
    uint64_t key;            /* the lower the better */
    uint32_t parent, step;   /* how it came about */
    uint32_t jumps, first;   /* first: the first step that has not run */
} Set;

static bool has(const Set *s, uint32_t i) { return s->done[i / 64] >> (i % 64) & 1; }

/* Has every user of the cell but step `at` run, and does nobody want it behind the run? */
static bool dies(const Run *r, const Set *s, const Cell *c, uint32_t at) {
    if (c->last == NEVER || c->last >= r->first + r->n) return false;
    for (uint32_t u = c->user.n; u-- > 0 && c->user.v[u] >= r->first;)
        if (c->user.v[u] != at && !has(s, c->user.v[u] - r->first)) return false;
    return true;
}

static bool is_born(const Run *r, const Set *s, const Cell *c) {
    if (c->first < r->first) return false;
    for (uint32_t u = 0; u < c->user.n && c->user.v[u] < r->first + r->n; u++)
        if (has(s, c->user.v[u] - r->first)) return false;
    return true;
}

static bool seen_before(const Job *j, uint32_t arg) {
    for (uint32_t i = 0; i < arg; i++)
        if (j->cell[i] == j->cell[arg]) return true;
    return false;
}

/* Bytes alive while step `at` runs behind set s, and after it. */
static void cost(Order *o, const Run *r, const Set *s, uint32_t at, uint64_t *during, uint64_t *after) {
    Job *j = &o->job[at];
    uint64_t born = 0, gone = 0;
    uint64_t taken_in = 0, taken_out = 0; /* by argument, of the first 64 */
    for (uint32_t i = 0; i < j->step->n_value; i++) {
        if (j->cell[i] == NEVER || seen_before(j, i)) continue;
        const Cell *c = &o->cell[j->cell[i]];
        if (c->bytes == 0) continue;
        if (is_born(r, s, c)) born += c->bytes;
        if (dies(r, s, c, at)) gone += c->bytes;
    }
    for (uint32_t i = 0; i < j->n_pair; i++) {
        Pair *p = &j->pair[i];
        if (p->in > 63 || p->out > 63 || (taken_in >> p->in & 1) || (taken_out >> p->out & 1)) continue;
        const Cell *from = &o->cell[j->cell[p->in]], *to = &o->cell[j->cell[p->out]];
        if (!dies(r, s, from, at) || !is_born(r, s, to) || !pair_fits(o, j, p)) continue;
        born -= to->bytes;
        gone -= to->bytes;
        taken_in |= (uint64_t)1 << p->in;
        taken_out |= (uint64_t)1 << p->out;
    }
    *during = s->live + born;
    *after = s->live + born - gone;
}

static bool ready(const Order *o, const Run *r, const Set *s, uint32_t at) {
    const Job *j = &o->job[at];
    for (uint32_t i = 0; i < j->needs.n; i++)
        if (j->needs.v[i] >= r->first && !has(s, j->needs.v[i] - r->first)) return false;
    return true;
}

/* ---- the search ------------------------------------------------------------------------------------------------------------ */
typedef struct Level { Set *set; uint32_t n, cap; } Level;

typedef struct Search {
    Order *o;
    const Run *run;
    uint64_t below;      /* peaks must be */
    bool few_jumps;      /* what counts below that is jumps */
    uint32_t width;
    int64_t effort;      /* what is left; a level gets its share of it */
    uint64_t *slot_hash; /* of the level being made */
    uint32_t *slot, n_slot;
} Search;

/* The lower peak, or the fewer jumps, first. */
static int compare_sets(const void *x, const void *y) {
    const Set *a = x, *b = y;
    if (a->key != b->key) return a->key < b->key ? -1 : 1;
    if (a->live != b->live) return a->live < b->live ? -1 : 1;
    if (a->jumps != b->jumps) return a->jumps < b->jumps ? -1 : 1;
    if (a->parent != b->parent) return a->parent < b->parent ? -1 : 1;
    return a->step < b->step ? -1 : a->step > b->step;
}

static uint64_t hash_set(const Set *s, uint32_t words) {
    uint64_t h = words;
    for (uint32_t i = 0; i < words; i++) h = hash_mix(h, s->done[i]);
    return h;
}

/* Adds set s to the level, unless an equal one is there and better. */
static void add(Search *q, Level *l, const Set *s) {
    uint64_t h = hash_set(s, q->run->words);
    uint32_t i = (uint32_t)h & (q->n_slot - 1);
    for (; q->slot[i] != 0; i = (i + 1) & (q->n_slot - 1)) {
        Set *old = &l->set[q->slot[i] - 1];
        if (q->slot_hash[i] != h || memcmp(old->done, s->done, q->run->words * sizeof *s->done) != 0) continue;
        if (compare_sets(s, old) < 0) {
            uint64_t *done = old->done;
            *old = *s;
            old->done = done;
        }
        return;
    }
    if (2 * (l->n + 1) > q->n_slot) return; /* full: wider than any beam */
    l->set = vec_grow(&q->o->cx->scratch, l->set, l->n, &l->cap, sizeof *l->set);
    Set *to = &l->set[l->n++];
    *to = *s;
    to->done = ARENA_ARRAY(&q->o->cx->scratch, uint64_t, q->run->words);
    memcpy(to->done, s->done, q->run->words * sizeof *to->done);
    q->slot[i] = l->n;
    q->slot_hash[i] = h;
}

/* Adds to `next` what set s becomes by one more step. */
static void grow(Search *q, Level *next, const Set *s, uint32_t parent, uint32_t last, uint64_t *bits) {
    const Run *r = q->run;
    uint32_t end = s->first + REACH < r->n ? s->first + REACH : r->n, free_step = NEVER;
    uint64_t ceiling = s->peak > r->floor ? s->peak : r->floor;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = s->first; i < end; i++) {
            uint64_t during, after;
            q->effort--;
            if (has(s, i) || (pass == 1 && free_step != NEVER && i != free_step) || !ready(q->o, r, s, r->first + i)) continue;
            q->effort -= q->o->job[r->first + i].work;
            cost(q->o, r, s, r->first + i, &during, &after);
            if (pass == 0) { /* costs nothing now or later */
                if (free_step == NEVER && during <= ceiling && after <= s->live) free_step = i;
                if (free_step != NEVER) break;
                continue;
            }
            uint64_t peak = during > s->peak ? during : s->peak;
            if (peak >= q->below) continue;
            Set t = {.done = bits, .live = after, .peak = peak, .parent = parent, .step = i, .jumps = s->jumps + (i != last + 1), .first = s->first};
            t.key = q->few_jumps ? t.jumps : peak > r->floor ? peak : r->floor;
            memcpy(bits, s->done, r->words * sizeof *bits);
            bits[i / 64] |= (uint64_t)1 << (i % 64);
            while (t.first < r->n && has(&t, t.first)) t.first++;
            add(q, next, &t);
        }
    }
}

static void keep_best(const Search *q, Level *l) {
    qsort(l->set, l->n, sizeof *l->set, compare_sets);
    if (l->n > q->width) l->n = q->width;
}

/* The best order of the run: order[k] is a step of it. False when none is below q->below. */
static bool search(Search *q, uint64_t live, uint32_t *order, uint64_t *peak) {
    const Run *r = q->run;
    Arena *a = &q->o->cx->scratch;
    Level *level = ARENA_ARRAY(a, Level, r->n + 1);
    uint64_t *bits = ARENA_ARRAY(a, uint64_t, r->words);
    Set start = {.done = ARENA_ARRAY(a, uint64_t, r->words), .live = live, .peak = live};
    level[0].set = vec_grow(a, level[0].set, 0, &level[0].cap, sizeof start);
    level[0].set[level[0].n++] = start;
    for (uint32_t k = 0; k < r->n; k++) {
        memset(q->slot, 0, q->n_slot * sizeof *q->slot);
        int64_t enough = q->effort - q->effort / (r->n - k);
        for (uint32_t i = 0; i < level[k].n && (i == 0 || q->effort > enough); i++)
            grow(q, &level[k + 1], &level[k].set[i], i, k == 0 ? NEVER : level[k].set[i].step, bits);
        if (level[k + 1].n == 0) return false;
        keep_best(q, &level[k + 1]);
    }
    uint32_t at = 0;
    *peak = level[r->n].set[at].peak;
    for (uint32_t k = r->n; k > 0; k--) {
        order[k - 1] = level[k].set[at].step;
        at = level[k].set[at].parent;
    }
    return true;
}

/* ---- runs -------------------------------------------------------------------------------------------------------------------- */
/* Bytes alive before the run, the peak of the given order, and the most that one step needs in any order. */
static uint64_t measure(Order *o, Run *r, uint64_t *live) {
    Set s = {.done = ARENA_ARRAY(&o->cx->scratch, uint64_t, r->words)};
    for (uint32_t v = 0; v < o->m->n_value; v++) {
        const Cell *c = &o->cell[v];
        if (c->user.n != 0 && c->first < r->first && c->last >= r->first) s.live += c->bytes;
    }
    *live = s.live;
    uint64_t peak = s.live;
    r->floor = s.live;
    for (uint32_t i = 0; i < r->n; i++) {
        uint64_t during, after, own = 0, result = 0;
        const Job *j = &o->job[r->first + i];
        for (uint32_t k = 0; k < j->step->n_value; k++) {
            if (j->cell[k] == NEVER || seen_before(j, k)) continue;
            own += o->cell[j->cell[k]].bytes;
            if (j->n_pair != 0 && j->step->kernel->buf[k].kind == BUF_OUT) result += o->cell[j->cell[k]].bytes;
        }
        if (own - result > r->floor) r->floor = own - result;
        cost(o, r, &s, r->first + i, &during, &after);
        if (during > peak) peak = during;
        s.live = after;
        s.done[i / 64] |= (uint64_t)1 << (i % 64);
    }
    return peak;
}

/* Looks for an order of the run with a lower peak; changes o->job's order. */
static bool improve(Order *o, Run *r) {
    Arena *a = &o->cx->scratch;
    uint64_t live, given, found;
    uint32_t *order = ARENA_ARRAY(a, uint32_t, r->n);
    r->words = (r->n + 63) / 64;
    given = measure(o, r, &live);
    if (given <= r->floor) return false;
    uint32_t width = WORK / (8 * r->n);
    Search q = {.o = o, .run = r, .below = given, .effort = EFFORT, .width = width > MOST_SETS ? MOST_SETS : width < LEAST_SETS ? LEAST_SETS : width, .n_slot = 1 << 15};
    q.slot = ARENA_ARRAY(a, uint32_t, q.n_slot);
    q.slot_hash = ARENA_ARRAY(a, uint64_t, q.n_slot);
    if (!search(&q, live, order, &found)) return false;
    q.below = found + 1;
    q.few_jumps = true;
    q.effort = EFFORT;
    uint32_t *calm = ARENA_ARRAY(a, uint32_t, r->n);
    if (search(&q, live, calm, &found)) order = calm;
    Job *job = ARENA_ARRAY(a, Job, r->n);
    for (uint32_t i = 0; i < r->n; i++) job[i] = o->job[r->first + order[i]];
    memcpy(o->job + r->first, job, r->n * sizeof *job);
    return true;
}

/* ---- the arena of an order --------------------------------------------------------------------------------------------------- */
static uint64_t arena_of(Order *o) {
    Arena *a = &o->cx->scratch;
    uint32_t n_value = o->m->n_value, n = 0, *first = ARENA_ARRAY(a, uint32_t, n_value), *last = ARENA_ARRAY(a, uint32_t, n_value);
    uint32_t *merged = ARENA_ARRAY(a, uint32_t, n_value);
    for (uint32_t v = 0; v < n_value; v++) first[v] = merged[v] = NEVER;
    for (uint32_t t = 0; t < o->n; t++)
        for (uint32_t i = 0; i < o->job[t].step->n_value; i++) {
            uint32_t v = o->job[t].cell[i];
            if (v == NEVER) continue;
            if (first[v] == NEVER) first[v] = t;
            last[v] = t;
        }
    for (uint32_t v = 0; v < n_value; v++)
        if (o->cell[v].last == NEVER) last[v] = o->n;
    for (uint32_t t = 0; t < o->n; t++) {
        Job *j = &o->job[t];
        for (uint32_t i = 0; i < j->n_pair; i++) {
            Pair *p = &j->pair[i];
            uint32_t out = j->cell[p->out], in = j->cell[p->in];
            while (merged[in] != NEVER) in = merged[in];
            if (first[out] != t || merged[out] != NEVER || last[in] != t || in == out || o->cell[in].bytes < o->cell[out].bytes || !pair_fits(o, j, p)) continue;
            merged[out] = in;
            last[in] = last[out];
        }
    }
    ArenaItem *item = ARENA_ARRAY(a, ArenaItem, n_value);
    for (uint32_t v = 0; v < n_value; v++)
        if (first[v] != NEVER && merged[v] == NEVER && o->cell[v].bytes != 0) item[n++] = (ArenaItem){.lower = first[v], .upper = (int64_t)last[v] + 1, .size = o->cell[v].bytes, .align = o->align};
    return arena_solve(a, item, n, &(ArenaGoal){.effort = ARENA_QUICK}).height;
}

bool pass_order(Context *cx, Module *m) {
    Order order = {.cx = cx, .m = m, .plan = m->plan, .align = m->plan->align}, *o = &order;
    if (m->n_entry != 0 || m->n_state != 0 || !describe(o)) return false;
    Job *given = ARENA_ARRAY(&cx->scratch, Job, o->n);
    memcpy(given, o->job, o->n * sizeof *given);
    bool changed = false;
    for (uint32_t i = 0; i < o->n;) {
        Run r = {.first = i};
        while (i < o->n && o->job[i].movable) i++;
        r.n = i - r.first;
        if (r.n >= 3) changed |= improve(o, &r);
        if (r.n == 0) i++;
    }
    if (!changed) return false;
    uint64_t after = arena_of(o);
    Job *best = o->job;
    o->job = given;
    if (arena_of(o) <= after) return false;
    Step **tail = &m->plan->first;
    for (uint32_t i = 0; i < o->n; i++, tail = &(*tail)->next) *tail = best[i].step;
    *tail = NULL;
    return true;
}
