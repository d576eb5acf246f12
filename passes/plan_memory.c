/* Gives every value of the plan its place: the caller's input and output buffers, the weights, or the arena.
 *
 *     step 0: %a = conv(x, w)      %a: [0,1]   ->  arena 0        a lifetime runs from the first step that touches the
 *     step 1: %b = relu(%a)        %b: [1,2]   ->  arena 0        value to the last; relu works in place
 *     step 2: y  = gemm(%b, v)     y           ->  output 0       written where the caller wants it
 *
 * Inside a loop a value lives through the whole loop if it is also touched outside of it, belongs to the loop itself
 * (condition, iteration number), or is read before it is written (it carries data into the next iteration).
 * Sizes are those of the upper bounds of symbolic dims. Views made by lowering (plan->alias) share their root's place. */
#include "base/map.h"
#include "passes/fast_memory.h"
#include "passes/in_place.h"
#include "lathe.h"
#include "ir/plan.h"
#include "ir/state.h"
#include "passes/pass.h"

enum { NEVER = UINT32_MAX };
static const uint64_t MOST_BYTES = (uint64_t)1 << 40;

typedef struct Life {
    uint32_t first, last;
    bool written; /* while walking: a step before has written it */
    bool reads_early; /* read before written */
} Life;

typedef struct Planner {
    Context *cx;
    Module *m;
    Plan *plan;
    Life *life;       /* by value id, of roots */
    Value **root;     /* by value id */
    Value **value;    /* by value id, those that steps mention */
    Value **merged;   /* by value id: shares the memory of this value (in place) */
    uint32_t n, time;
} Planner;

/* ---- lifetimes -------------------------------------------------------------------------------------------------------- */
static void touch(Planner *p, Value *v, bool read, bool write) {
    if (v == NULL) return;
    p->value[v->id] = v;
    Value *r = p->root[v->id] = plan_root(p->plan, v);
    p->value[r->id] = r;
    p->root[r->id] = r;
    Life *l = &p->life[r->id];
    if (l->first == NEVER) l->first = p->time;
    l->last = p->time;
    if (read && !l->written) l->reads_early = true;
    if (write) l->written = true;
}

static void walk(Planner *p, Step *s);

/* Values touched in the loop over [begin, end] that must keep their memory all the time. */
static void extend_loop(Planner *p, const Life *before, const bool *in_loop, uint32_t begin, uint32_t end) {
    for (uint32_t i = 0; i < p->n; i++) {
        Life *l = &p->life[i];
        if (l->first == NEVER || !in_loop[i]) continue;
        bool outside = before[i].first != NEVER;
        if (!outside && !l->reads_early) continue;
        if (l->first > begin) l->first = begin;
        l->last = end;
    }
}

static void mark_loop(Planner *p, const Step *s, bool *in_loop) {
    for (; s != NULL; s = s->next) {
        for (uint32_t i = 0; i < s->n_value; i++)
            if (s->value[i] != NULL) in_loop[plan_root(p->plan, s->value[i])->id] = true;
        mark_loop(p, s->body, in_loop);
        mark_loop(p, s->orelse, in_loop);
    }
}

static void walk_loop(Planner *p, Step *s) {
    Life *before = ARENA_ARRAY(&p->cx->scratch, Life, p->n);
    bool *in_loop = ARENA_ARRAY(&p->cx->scratch, bool, p->n);
    uint32_t begin = p->time;
    memcpy(before, p->life, p->n * sizeof *before);
    for (uint32_t i = 0; i < s->n_value; i++) touch(p, s->value[i], true, i == 2);
    for (uint32_t i = 0; i < s->n_value; i++) { /* the loop's own values live through it */
        if (s->value[i] == NULL) continue;
        uint32_t id = p->root[s->value[i]->id]->id;
        if (before[id].first == NEVER) before[id].first = begin;
        in_loop[id] = true;
    }
    p->time++;
    walk(p, s->body);
    mark_loop(p, s->body, in_loop);
    extend_loop(p, before, in_loop, begin, p->time);
}

/* A value first touched inside a loop and used behind it was filled over the iterations: it lives from the loop's start. */
static void extend_after_loops(Planner *p, const Step *s, uint32_t end_of_list) {
    (void)end_of_list;
    for (; s != NULL; s = s->next) {
        if (s->kind == STEP_LOOP) {
            bool *in_loop = ARENA_ARRAY(&p->cx->scratch, bool, p->n);
            mark_loop(p, s->body, in_loop);
            uint32_t end = s->next != NULL ? s->next->time - 1 : NEVER;
            for (uint32_t i = 0; i < p->n && end != NEVER; i++)
                if (in_loop[i] && p->life[i].first > s->time && p->life[i].first != NEVER && p->life[i].last > end) p->life[i].first = s->time;
        }
        extend_after_loops(p, s->body, 0);
        extend_after_loops(p, s->orelse, 0);
    }
}

static void walk(Planner *p, Step *s) {
    for (; s != NULL; s = s->next) {
        s->time = p->time;
        switch (s->kind) {
        case STEP_KERNEL:
            for (uint32_t i = 0; i < s->n_value; i++) touch(p, s->value[i], s->kernel->buf[i].kind == BUF_IN, s->kernel->buf[i].kind != BUF_IN);
            break;
        case STEP_DIM: touch(p, s->value[0], true, false); break;
        case STEP_LET: case STEP_GATE: break;
        case STEP_EXCHANGE:
            touch(p, s->value[0], true, s->n_value == 1);
            if (s->n_value > 1) touch(p, s->value[1], false, true);
            break;
        case STEP_ARRIVE:
            for (uint32_t i = 0; i < s->n_value; i++) touch(p, s->value[i], true, i == 0);
            break;
        case STEP_COPY:
            touch(p, s->value[0], true, false);
            touch(p, s->value[1], false, true);
            break;
        case STEP_IF:
            touch(p, s->value[0], true, false);
            p->time++;
            walk(p, s->body);
            walk(p, s->orelse);
            break;
        case STEP_LOOP: walk_loop(p, s); break;
        }
        p->time++;
    }
}

/* ---- outputs ----------------------------------------------------------------------------------------------------------- */
static void copy_at_end(Planner *p, Value *from, Value *to, uint32_t entries) {
    Step **tail = &p->plan->first;
    while (*tail != NULL) tail = &(*tail)->next;
    Step *s = ARENA_NEW(&p->cx->arena, Step);
    s->kind = STEP_COPY;
    s->n_value = 2;
    s->value = ARENA_ARRAY(&p->cx->arena, Value *, 2);
    s->value[0] = from;
    s->value[1] = to;
    s->entries = entries;
    *tail = s;
    p->plan->n_step++;
}

/* Outputs that are an input, a constant, the same bytes as an earlier output, or computed in more entries than they are an
 * output of, are copied at the end. */
static void place_outputs(Planner *p, bool *is_output, uint32_t *output_of) {
    Graph *g = p->m->main;
    uint32_t *runs = entry_masks(p->m), n_out = module_caller_out(p->m);
    for (uint32_t i = 0; i < n_out; i++) {
        Value *r = plan_root(p->plan, g->out[i]);
        uint32_t owners = entry_owners(p->m, i);
        bool is_input = false;
        for (uint32_t k = 0; k < g->n_in; k++) is_input |= g->in[k] == r;
        bool elsewhere = p->m->n_entry != 0 && (r->def == NULL || r->def->graph != g || runs[r->def->id] != owners);
        if (!is_input && r->data == NULL && !is_output[r->id] && !elsewhere) {
            is_output[r->id] = true;
            output_of[r->id] = i;
            continue;
        }
        Value *to = value_new(p->m, g->out[i]->type, 0);
        copy_at_end(p, g->out[i], to, owners);
        is_output[to->id] = true;
        output_of[to->id] = i;
    }
}

/* ---- weights ------------------------------------------------------------------------------------------------------------- */
/* The place of the weight equal to v, or where v's is to be noted: 1 + its number, by hash; weights of equal hash stand at consecutive keys. */
static uint32_t *find_weight(Planner *p, const Value *v, Map *place) {
    uint32_t *at;
    for (uint64_t key = const_hash(v); *(at = map_at(&p->cx->scratch, place, key)) != 0; key++)
        if (const_equal(p->plan->weight[*at - 1].value, v)) break;
    return at;
}

/* Equal constants are one weight. */
static void place_weight(Planner *p, Value *v, Map *place) {
    Plan *plan = p->plan;
    uint32_t *at = find_weight(p, v, place);
    if (*at == 0) {
        uint64_t bytes = v->data->bytes != 0 ? v->data->bytes : 1;
        plan->weight[plan->n_weight++] = (PlanWeight){v, plan->weight_bytes};
        *at = plan->n_weight;
        plan->weight_bytes += (bytes + plan->align - 1) / plan->align * plan->align;
    }
    plan->ref[v->id] = (BufRef){.space = SPACE_WEIGHT, .offset = plan->weight[*at - 1].offset};
}

/* The file has those of all targets; what two have in common is there once. */
static void take_weights_of(Planner *p, const Plan *before, Map *place) {
    for (uint32_t i = 0; before != NULL && i < before->n_weight; i++) {
        p->plan->weight[i] = before->weight[i];
        p->plan->n_weight = i + 1;
        p->plan->weight_bytes = before->weight_bytes;
        *find_weight(p, before->weight[i].value, place) = i + 1;
    }
}

/* ---- in place --------------------------------------------------------------------------------------------------------------- */
/* The variant of k in which arguments share memory in one more pair. */
static Kernel *inplace_kernel(Planner *p, Kernel *k, uint32_t in, uint32_t out) {
    Plan *plan = p->plan;
    uint32_t *shares = ARENA_ARRAY(&p->cx->arena, uint32_t, k->n_arg);
    for (uint32_t i = 0; i < k->n_arg; i++) shares[i] = k->shares != NULL ? k->shares[i] : i;
    shares[out] = shares[in];
    for (uint32_t i = 0; i < plan->n_kernel; i++) {
        Kernel *o = plan->kernel[i];
        if (o->inplace && o->body == k->body && memcmp(o->shares, shares, k->n_arg * sizeof *shares) == 0) return o;
    }
    Kernel *c = ARENA_NEW(&p->cx->arena, Kernel);
    *c = *k;
    c->inplace = true;
    c->shares = shares;
    c->id = plan->n_kernel;
    Kernel **list = ARENA_ARRAY(&p->cx->arena, Kernel *, plan->n_kernel + 1);
    memcpy(list, plan->kernel, plan->n_kernel * sizeof *list);
    list[plan->n_kernel++] = c;
    plan->kernel = list;
    return c;
}

static Value *memory_of(const Planner *p, Value *v) {
    v = p->root[v->id];
    while (p->merged[v->id] != NULL) v = p->merged[v->id];
    return v;
}

static uint64_t bytes_of(Planner *p, const Value *v);

/* May argument `out` be written over the memory `in`, which argument `at` reads? Others may read it too (a view beside its operand): if the
 * kernel works in place of each of them. */
static bool fits_over(const Planner *p, const Step *s, const Value *in, uint32_t at, uint32_t out) {
    if (!step_in_place(p->cx, s, at, out)) return false;
    for (uint32_t i = 0; i < s->n_value; i++) {
        if (i == at || s->kernel->buf[i].kind != BUF_IN || memory_of(p, s->value[i]) != in) continue;
        if (!step_in_place(p->cx, s, i, out)) return false;
    }
    return true;
}

static void merge_in_place(Planner *p, Step *s, const bool *in_arena) {
    for (; s != NULL; s = s->next) {
        merge_in_place(p, s->body, in_arena);
        merge_in_place(p, s->orelse, in_arena);
        if (s->kind != STEP_KERNEL) continue;
        for (uint32_t o = 0; o < s->n_value; o++) {
            Value *out = p->root[s->value[o]->id];
            if (s->kernel->buf[o].kind != BUF_OUT || !in_arena[out->id] || p->life[out->id].first != s->time || p->merged[out->id] != NULL) continue;
            for (uint32_t i = 0; i < s->n_value; i++) {
                if (s->kernel->buf[i].kind != BUF_IN || !in_arena[p->root[s->value[i]->id]->id]) continue;
                Value *in = memory_of(p, s->value[i]);
                if (p->life[in->id].last != s->time || in == out || bytes_of(p, out) > bytes_of(p, in)) continue;
                if (!fits_over(p, s, in, i, o)) continue;
                s->kernel = inplace_kernel(p, s->kernel, i, o);
                for (uint32_t j = 0; j < s->n_value; j++)
                    if (j != i && s->kernel->buf[j].kind == BUF_IN && memory_of(p, s->value[j]) == in) s->kernel = inplace_kernel(p, s->kernel, i, j);
                p->merged[out->id] = in;
                p->life[in->id].last = p->life[out->id].last;
                break;
            }
        }
    }
}

/* ---- states ----------------------------------------------------------------------------------------------------------------- */
typedef struct StateUse { uint32_t last_read[ENTRY_MAX]; } StateUse; /* by entry: time + 1 */

static uint32_t place_state_inputs(Planner *p) {
    Plan *plan = p->plan;
    for (uint32_t i = 0; i < p->m->n_state; i++) {
        State *s = &p->m->state[i];
        const Type *t = state_in(p->m, i)->type;
        uint64_t bytes = dtype_bytes(p->cx, t->dtype, dim_value(p->cx, type_numel(p->cx, t)));
        s->offset = plan->state_bytes;
        plan->state_bytes += ((bytes != 0 ? bytes : 1) + plan->align - 1) / plan->align * plan->align;
    }
    return p->m->n_state;
}

static void note_state_reads(Planner *p, const Step *s, StateUse *use, const uint32_t *state_of, uint32_t entries, uint32_t time) {
    for (; s != NULL; s = s->next) {
        uint32_t mask = time == NEVER ? s->entries : entries, at = time == NEVER ? s->time : time;
        for (uint32_t i = 0; i < s->n_value; i++) {
            if (s->value[i] == NULL || (s->kind == STEP_COPY && i == 1)) continue;
            uint32_t state = state_of[plan_root(p->plan, s->value[i])->id];
            for (uint32_t e = 0; state != 0 && e < ENTRY_MAX; e++)
                if (mask >> e & 1) use[state - 1].last_read[e] = at + 1;
        }
        note_state_reads(p, s->body, use, state_of, mask, at);
        note_state_reads(p, s->orelse, use, state_of, mask, at);
    }
}

/* The top-level kernel step that writes v, and which argument it is; NULL when it is written elsewhere, too. */
static Step *writer_of(Planner *p, const Value *v, uint32_t *arg) {
    Step *found = NULL;
    for (Step *s = p->plan->first; s != NULL; s = s->next) {
        for (uint32_t i = 0; s->kind == STEP_KERNEL && i < s->n_value; i++) {
            if (s->kernel->buf[i].kind == BUF_IN || plan_root(p->plan, s->value[i]) != v) continue;
            if (found != NULL || s->kernel->buf[i].kind != BUF_OUT) return NULL;
            found = s;
            *arg = i;
        }
    }
    return found;
}

/* Did every entry of the step pass a gate before it? */
static bool is_gated(const Planner *p, const Step *step) {
    uint32_t passed = 0;
    for (const Step *s = p->plan->first; s != NULL && s->time < step->time; s = s->next)
        if (s->kind == STEP_GATE) passed |= s->entries;
    return (step->entries & ~passed) == 0;
}

/* May the step write the state's new contents over the old? Nothing that its entries run later may read the old ones. */
static bool fits_in_state(Planner *p, Step *s, uint32_t arg, const StateUse *use, const Value *old, uint32_t *in) {
    *in = arg;
    for (uint32_t e = 0; e < ENTRY_MAX; e++)
        if ((s->entries >> e & 1) && use->last_read[e] > s->time + 1) return false;
    if (!is_gated(p, s)) return false;
    uint32_t reads = 0;
    for (uint32_t i = 0; i < s->n_value; i++) {
        if (plan_root(p->plan, s->value[i]) != old) continue;
        if (reads++ != 0) return false;
        if (!step_in_place(p->cx, s, i, arg)) return false;
        *in = i;
    }
    return true;
}

/* New contents of states go where the old ones are, or are copied there at the end. */
static void place_states(Planner *p, uint32_t *placed_in, const bool *is_output) {
    Module *m = p->m;
    Graph *g = m->main;
    uint32_t n_caller = module_caller_out(m), *state_of = ARENA_ARRAY(&p->cx->scratch, uint32_t, p->n);
    StateUse *use = ARENA_ARRAY(&p->cx->scratch, StateUse, m->n_state + 1);
    if (place_state_inputs(p) == 0) return;
    for (uint32_t i = 0; i < m->n_state; i++) state_of[state_in(m, i)->id] = i + 1;
    note_state_reads(p, p->plan->first, use, state_of, 0, NEVER);
    for (uint32_t i = 0; i < m->n_state_out; i++) {
        Value *r = plan_root(p->plan, g->out[n_caller + i]), *old = state_in(m, m->state_out[i]);
        uint32_t arg = 0, in = 0;
        if (r == old) continue;
        Step *s = r->data == NULL && r->def != NULL && !is_output[r->id] && placed_in[r->id] == 0 ? writer_of(p, r, &arg) : NULL;
        if (s != NULL && fits_in_state(p, s, arg, &use[m->state_out[i]], old, &in)) {
            placed_in[r->id] = m->state_out[i] + 1;
            if (in != arg) s->kernel = inplace_kernel(p, s->kernel, in, arg);
        } else {
            copy_at_end(p, g->out[n_caller + i], old, entry_owners(m, n_caller + i));
        }
    }
}

/* Kernels that no step calls any more (all their steps work in place) are dropped; ids stay dense and in order. */
static void mark_kernels(const Step *s, bool *used) {
    for (; s != NULL; s = s->next) {
        if (s->kind == STEP_KERNEL) used[s->kernel->id] = true;
        mark_kernels(s->body, used);
        mark_kernels(s->orelse, used);
    }
}

static void drop_unused_kernels(Planner *p) {
    Plan *plan = p->plan;
    bool *used = ARENA_ARRAY(&p->cx->scratch, bool, plan->n_kernel);
    uint32_t n = 0;
    mark_kernels(plan->first, used);
    for (uint32_t i = 0; i < plan->n_kernel; i++)
        if (used[plan->kernel[i]->id]) plan->kernel[n++] = plan->kernel[i];
    for (uint32_t i = 0; i < n; i++) plan->kernel[i]->id = i;
    plan->n_kernel = n;
}

/* ---- arena --------------------------------------------------------------------------------------------------------------------- */
static bool bytes_at_most(Planner *p, const Value *v, uint64_t *bytes) {
    uint64_t bits = dtype_bits(v->type->dtype);
    for (uint32_t d = 0; d < v->type->rank; d++) {
        int64_t hi = dim_hi(p->cx, v->type->dim[d]);
        if (hi < 0) hi = 0;
        if (__builtin_mul_overflow(bits, (uint64_t)hi, &bits) || bits > MOST_BYTES * 8) return false;
    }
    *bytes = (bits + 7) / 8;
    return true;
}

static uint64_t bytes_of(Planner *p, const Value *v) {
    uint64_t bytes;
    return bytes_at_most(p, v, &bytes) ? bytes : MOST_BYTES;
}

static void too_big(Planner *p, const Value *v) {
    Writer t = {.arena = &p->cx->scratch};
    type_print(p->cx, &t, v->type);
    diag(p->cx, SEV_ERROR, v->def != NULL ? v->def->loc : (Loc){0}, "tensor \"%s\" of type %s may need more than 2^40 bytes: give its symbolic dims a lower bound",
         str_text(p->cx, v->name), cw_cstr(&t));
}

static void count_uses(Planner *p, const Step *s, uint32_t *uses) {
    for (; s != NULL; s = s->next) {
        for (uint32_t i = 0; i < s->n_value; i++)
            if (s->value[i] != NULL) uses[memory_of(p, s->value[i])->id]++;
        count_uses(p, s->body, uses);
        count_uses(p, s->orelse, uses);
    }
}

/* Offsets in the arena, or in it and a fast memory before it. */
static ArenaResult solve(Planner *p, ArenaItem *item, Value *const *value, uint32_t n) {
    const LatheOptions *o = p->m->options;
    Arena *a = &p->cx->scratch;
    if (o == NULL || o->fast_memory == 0) return arena_solve(a, item, n, &(ArenaGoal){.effort = ARENA_QUICK});
    uint32_t *by_value = ARENA_ARRAY(a, uint32_t, p->n), *uses = ARENA_ARRAY(a, uint32_t, n);
    bool *is_fast = ARENA_ARRAY(a, bool, n);
    count_uses(p, p->plan->first, by_value);
    for (uint32_t i = 0; i < n; i++) uses[i] = by_value[value[i]->id];
    ArenaResult r = fast_memory_place(a, item, n, &(FastGoal){o->fast_memory, o->rest_memory, uses}, is_fast, &p->plan->fast_bytes);
    for (uint32_t i = 0; i < n; i++)
        if (!is_fast[i]) item[i].offset += p->plan->fast_bytes;
    return r;
}

static bool place_arena(Planner *p, const bool *in_arena) {
    Plan *plan = p->plan;
    ArenaItem *item = ARENA_ARRAY(&p->cx->scratch, ArenaItem, p->n);
    Value **value = ARENA_ARRAY(&p->cx->scratch, Value *, p->n);
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        if (!in_arena[i] || p->merged[i] != NULL) continue;
        uint64_t bytes;
        if (!bytes_at_most(p, p->value[i], &bytes)) {
            too_big(p, p->value[i]);
            return false;
        }
        bytes = bytes != 0 ? (bytes + plan->align - 1) / plan->align * plan->align : plan->align;
        value[n] = p->value[i];
        item[n++] = (ArenaItem){.lower = p->life[i].first, .upper = (int64_t)p->life[i].last + 1, .size = bytes, .align = plan->align};
    }
    ArenaResult result = solve(p, item, value, n);
    plan->arena_bytes = result.height;
    plan->lower_bound = result.lower_bound;
    plan->buffer = ARENA_ARRAY(&p->cx->arena, PlanBuffer, n);
    plan->n_buffer = n;
    for (uint32_t i = 0; i < n; i++) {
        plan->buffer[i] = (PlanBuffer){value[i], item[i].size, item[i].offset, (uint32_t)item[i].lower, (uint32_t)(item[i].upper - 1)};
        plan->ref[value[i]->id] = (BufRef){.space = SPACE_ARENA, .offset = item[i].offset};
    }
    if (plan->arena_bytes <= MOST_BYTES) return true;
    diag(p->cx, SEV_ERROR, (Loc){0}, "the model needs %llu bytes of working memory, more than 2^40", (unsigned long long)plan->arena_bytes);
    return false;
}

bool pass_plan_memory(Context *cx, Module *m) {
    Plan *plan = m->plan;
    if (m->options != NULL && m->options->fast_memory != 0 && (m->n_entry != 0 || m->n_state != 0)) {
        diag(cx, SEV_ERROR, (Loc){0}, "a fast memory is for inference; this model keeps states");
        return true;
    }
    Planner planner = {.cx = cx, .m = m, .plan = plan}, *p = &planner;
    uint32_t room = m->n_value + m->main->n_out; /* outputs that are copied get fresh values */
    bool *is_output = ARENA_ARRAY(&cx->scratch, bool, room), *in_arena = ARENA_ARRAY(&cx->scratch, bool, room);
    uint32_t *output_of = ARENA_ARRAY(&cx->scratch, uint32_t, room);
    place_outputs(p, is_output, output_of);
    p->n = m->n_value;
    p->life = ARENA_ARRAY(&cx->scratch, Life, p->n);
    p->root = ARENA_ARRAY(&cx->scratch, Value *, p->n);
    p->value = ARENA_ARRAY(&cx->scratch, Value *, p->n);
    p->merged = ARENA_ARRAY(&cx->scratch, Value *, p->n);
    for (uint32_t i = 0; i < p->n; i++) p->life[i].first = NEVER;
    walk(p, plan->first);
    uint32_t *placed_in = ARENA_ARRAY(&cx->scratch, uint32_t, p->n);
    place_states(p, placed_in, is_output);
    for (uint32_t i = 0; i < p->n; i++) p->life[i] = (Life){.first = NEVER}; /* again, with the copies */
    p->time = 0;
    walk(p, plan->first);
    extend_after_loops(p, plan->first, p->time);
    for (uint32_t i = 0; i < p->n; i++)
        if (p->value[i] != NULL && p->value[i]->persistent && p->life[i].first != NEVER) p->life[i].last = p->time;

    plan->ref = ARENA_ARRAY(&cx->arena, BufRef, p->n);
    plan->n_ref = p->n;
    plan->weight = ARENA_ARRAY(&cx->arena, PlanWeight, p->n);
    Map weights = {0};
    take_weights_of(p, plan->before, &weights);
    uint32_t n_in = module_caller_in(m);
    for (uint32_t i = 0; i < n_in; i++) plan->ref[m->main->in[i]->id] = (BufRef){.space = SPACE_INPUT, .index = i};
    for (uint32_t i = n_in; i < m->main->n_in; i++) plan->ref[m->main->in[i]->id] = (BufRef){.space = SPACE_STATE, .offset = m->state[i - n_in].offset};
    for (uint32_t i = 0; i < p->n; i++) {
        Value *v = p->value[i];
        if (v == NULL || p->root[i] != v || plan->ref[i].space == SPACE_INPUT || plan->ref[i].space == SPACE_STATE) continue;
        if (placed_in[i] != 0) plan->ref[i] = (BufRef){.space = SPACE_STATE, .offset = m->state[placed_in[i] - 1].offset};
        else if (is_output[i]) plan->ref[i] = (BufRef){.space = SPACE_OUTPUT, .index = output_of[i]};
        else if (v->data != NULL) place_weight(p, v, &weights);
        else in_arena[i] = true;
    }
    for (uint32_t i = 0; i < m->n_state; i++)
        if (m->state[i].first != NULL && m->state[i].same_as == 0) place_weight(p, (Value *)(uintptr_t)m->state[i].first, &weights);
    merge_in_place(p, plan->first, in_arena);
    drop_unused_kernels(p);
    if (!place_arena(p, in_arena)) return true;
    for (uint32_t i = 0; i < p->n; i++)
        if (p->value[i] != NULL) plan->ref[i] = plan->ref[memory_of(p, p->value[i])->id];
    plan_check_overlap(cx, plan);
    return true;
}
