/* The independent check of a memory plan: uses nothing that the planner computed on the way, only its result.
 *
 * First no two lifetimes that meet in time may meet in memory. Then the plan is run in the abstract: every byte of the
 * arena remembers which value was written there last, and a step that reads a value must find it still there. That sees
 * wrong lifetimes, too: a value forgotten in a loop, a buffer reused too early. Loop bodies run twice, so that what one
 * iteration leaves for the next is seen; behind an If only what both branches leave counts. */
#include <stdlib.h>

#include "ir/plan.h"

static int by_offset(const void *a, const void *b) {
    const PlanBuffer *x = *(const PlanBuffer *const *)a, *y = *(const PlanBuffer *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static bool check_lifetimes(Context *cx, const Plan *p) {
    const PlanBuffer **sorted = ARENA_ARRAY(&cx->scratch, const PlanBuffer *, p->n_buffer);
    bool ok = true;
    for (uint32_t i = 0; i < p->n_buffer; i++) sorted[i] = &p->buffer[i];
    if (p->n_buffer != 0) qsort(sorted, p->n_buffer, sizeof *sorted, by_offset);
    for (uint32_t i = 0; i < p->n_buffer; i++) {
        const PlanBuffer *a = sorted[i];
        bool across = a->offset < p->fast_bytes && a->offset + a->bytes > p->fast_bytes;
        if (a->offset % p->align != 0 || a->offset + a->bytes > p->fast_bytes + p->arena_bytes || across || a->first > a->last) {
            diag(cx, SEV_ERROR, (Loc){0}, "memory plan: the buffer of \"%s\" is misaligned, or outside of the memories, or in both", str_text(cx, a->value->name));
            ok = false;
        }
        for (uint32_t k = i + 1; k < p->n_buffer && sorted[k]->offset < a->offset + a->bytes; k++) {
            const PlanBuffer *b = sorted[k];
            if (b->last < a->first || a->last < b->first) continue;
            diag(cx, SEV_ERROR, (Loc){0}, "memory plan: \"%s\" and \"%s\" overlap while both are alive", str_text(cx, a->value->name), str_text(cx, b->value->name));
            ok = false;
        }
    }
    return ok;
}

/* ---- running the plan in the abstract ------------------------------------------------------------------------------- */
typedef struct Held { const Value *value; uint64_t begin, end; } Held; /* value's contents stand in [begin, end) */
typedef struct Memory { Held *held; uint32_t n, cap; } Memory;
typedef struct Simulation { Context *cx; const Plan *plan; Memory now; bool ok; } Simulation;

static const Value *root_of(const Plan *p, const Value *v) {
    while (v->id < p->n_alias && p->alias[v->id] != NULL) v = p->alias[v->id];
    return v;
}

static Held place_of(const Simulation *s, const Value *v) {
    uint64_t bits = dtype_bits(v->type->dtype), begin = s->plan->ref[v->id].offset;
    for (uint32_t d = 0; d < v->type->rank; d++) { /* the planner has refused what overflows */
        int64_t hi = dim_hi(s->cx, v->type->dim[d]);
        bits *= hi > 0 ? (uint64_t)hi : 0;
    }
    return (Held){root_of(s->plan, v), begin, begin + (bits + 7) / 8};
}

static bool in_arena(const Simulation *s, const Value *v) { return v != NULL && s->plan->ref[v->id].space == SPACE_ARENA; }

static bool holds(const Memory *m, const Value *root) {
    for (uint32_t i = 0; i < m->n; i++)
        if (m->held[i].value == root) return true;
    return false;
}

static void read_value(Simulation *s, const Value *v, const Step *at) {
    if (!in_arena(s, v) || holds(&s->now, root_of(s->plan, v)) || !s->ok) return;
    Held h = place_of(s, v);
    if (h.begin == h.end) return;
    diag(s->cx, SEV_ERROR, at->node != NULL ? at->node->loc : (Loc){0}, "memory plan: step %u reads \"%s\" (value %u), which is not in its place any more", at->time,
         str_text(s->cx, v->name), v->id);
    s->ok = false;
}

static void write_value(Simulation *s, const Value *v) {
    if (!in_arena(s, v)) return;
    Held h = place_of(s, v);
    Memory *m = &s->now;
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->n; i++) {
        const Held *o = &m->held[i];
        if (o->value != h.value && (o->end <= h.begin || h.end <= o->begin)) m->held[n++] = *o;
    }
    m->n = n;
    m->held = vec_grow(&s->cx->scratch, m->held, m->n, &m->cap, sizeof *m->held);
    m->held[m->n++] = h;
}

/* Arguments of one kernel may share memory only where the kernel is made for it. */
static void check_arguments(Simulation *s, const Step *step) {
    const Kernel *k = step->kernel;
    for (uint32_t i = 0; i < step->n_value && s->ok; i++) {
        if (k->buf[i].kind == BUF_IN || !in_arena(s, step->value[i])) continue;
        Held a = place_of(s, step->value[i]);
        for (uint32_t j = 0; j < step->n_value; j++) {
            if (j == i || !in_arena(s, step->value[j])) continue;
            Held b = place_of(s, step->value[j]);
            if (a.end <= b.begin || b.end <= a.begin || (k->inplace && k->shares != NULL && k->shares[i] == k->shares[j])) continue;
            diag(s->cx, SEV_ERROR, step->node != NULL ? step->node->loc : (Loc){0}, "memory plan: arguments %u and %u of step %u overlap", i, j, step->time);
            s->ok = false;
        }
    }
}

static Memory copy_of(Simulation *s, const Memory *m) {
    Memory c = {ARENA_ARRAY(&s->cx->scratch, Held, m->n + 1), m->n, m->n + 1};
    if (m->n != 0) memcpy(c.held, m->held, m->n * sizeof *c.held);
    return c;
}

static void simulate(Simulation *s, const Step *step);

static void simulate_if(Simulation *s, const Step *step) {
    read_value(s, step->value[0], step);
    Memory before = copy_of(s, &s->now);
    simulate(s, step->body);
    Memory after = s->now;
    s->now = before;
    simulate(s, step->orelse);
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->now.n; i++)
        if (holds(&after, s->now.held[i].value)) s->now.held[n++] = s->now.held[i];
    s->now.n = n;
}

static void simulate_loop(Simulation *s, const Step *step) {
    for (int round = 0; round < 2 && s->ok; round++) {
        if (step->n_value > 2) write_value(s, step->value[2]);
        read_value(s, step->value[0], step);
        if (step->n_value > 1) read_value(s, step->value[1], step);
        simulate(s, step->body);
    }
    if (step->n_value > 2) write_value(s, step->value[2]);
}

static void simulate(Simulation *s, const Step *step) {
    for (; step != NULL && s->ok; step = step->next) {
        switch (step->kind) {
        case STEP_KERNEL:
            check_arguments(s, step);
            for (uint32_t i = 0; i < step->n_value; i++) /* what is INOUT may be scratch: written before it is read */
                if (step->kernel->buf[i].kind == BUF_IN) read_value(s, step->value[i], step);
            for (uint32_t i = 0; i < step->n_value; i++)
                if (step->kernel->buf[i].kind != BUF_IN) write_value(s, step->value[i]);
            break;
        case STEP_DIM: read_value(s, step->value[0], step); break;
        case STEP_LET: case STEP_GATE: break;
        case STEP_EXCHANGE:
            read_value(s, step->value[0], step);
            write_value(s, step->value[step->n_value - 1]);
            break;
        case STEP_ARRIVE:
            for (uint32_t i = 0; i < step->n_value; i++) read_value(s, step->value[i], step);
            write_value(s, step->value[0]);
            break;
        case STEP_COPY:
            read_value(s, step->value[0], step);
            write_value(s, step->value[1]);
            break;
        case STEP_IF: simulate_if(s, step); break;
        case STEP_LOOP: simulate_loop(s, step); break;
        }
    }
}

bool plan_check_overlap(Context *cx, const Plan *p) {
    if (!check_lifetimes(cx, p)) return false;
    Simulation s = {.cx = cx, .plan = p, .ok = true};
    simulate(&s, p->first);
    return s.ok;
}
