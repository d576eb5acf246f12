/* The independent check of a memory plan: does not use anything the planner computed on the way, only its result. */
#include <stdlib.h>

#include "ir/plan.h"

static int by_offset(const void *a, const void *b) {
    const PlanBuffer *x = *(const PlanBuffer *const *)a, *y = *(const PlanBuffer *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

bool plan_check_overlap(Context *cx, const Plan *p) {
    const PlanBuffer **sorted = ARENA_ARRAY(&cx->scratch, const PlanBuffer *, p->n_buffer);
    bool ok = true;
    for (uint32_t i = 0; i < p->n_buffer; i++) sorted[i] = &p->buffer[i];
    if (p->n_buffer != 0) qsort(sorted, p->n_buffer, sizeof *sorted, by_offset);
    for (uint32_t i = 0; i < p->n_buffer; i++) {
        const PlanBuffer *a = sorted[i];
        if (a->offset % p->align != 0 || a->offset + a->bytes > p->arena_bytes || a->first > a->last) {
            diag(cx, SEV_ERROR, (Loc){0}, "memory plan: buffer %u is misaligned or outside of the arena", i);
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
