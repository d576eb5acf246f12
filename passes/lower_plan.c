/* Builds the plan: every node of the main graph becomes a step (or none, for views that keep the bytes as they are).
 * Kernels that print equal are one kernel: a model of 48 equal layers emits each body once. */
#include "passes/expand/bind.h"
#include "ir/state.h"
#include "passes/build_plan.h"
#include "passes/pass.h"

static uint64_t text_hash(const char *s, size_t n) {
    uint64_t h = n;
    for (size_t i = 0; i < n; i++) h = hash_mix(h, (unsigned char)s[i]);
    return h;
}

/* The kernel equal to k made before, or k itself. */
static Kernel *share(PlanBuilder *b, Kernel *k) {
    Context *cx = b->m->cx;
    Str name = k->name, comment = k->comment;
    k->name = k->comment = 0;
    Writer w = {.arena = &cx->scratch};
    kernel_print(cx, &w, k);
    k->name = name;
    k->comment = comment;
    uint64_t h = text_hash(w.text, w.n);
    uint32_t n = b->kernels.list.n;
    for (uint32_t i = 0; i < n; i++)
        if (b->kernels.hash[i] == h && strcmp(b->kernels.text[i], w.text) == 0) return b->kernels.list.v[i];
    if (n == b->kernels.cap) {
        uint32_t cap = n != 0 ? n * 2 : 64;
        uint64_t *hash = ARENA_ARRAY(&cx->scratch, uint64_t, cap);
        const char **text = ARENA_ARRAY(&cx->scratch, const char *, cap);
        if (n != 0) {
            memcpy(hash, b->kernels.hash, n * sizeof *hash);
            memcpy(text, b->kernels.text, n * sizeof *text);
        }
        b->kernels.hash = hash;
        b->kernels.text = text;
        b->kernels.cap = cap;
    }
    b->kernels.hash[n] = h;
    b->kernels.text[n] = w.text;
    k->id = n;
    vec_push(&cx->arena, &b->kernels.list, k);
    return k;
}

Step *plan_step(PlanBuilder *b, StepTail *tail, StepKind kind, Node *n, uint32_t n_value, Value *const *value) {
    Step *s = ARENA_NEW(&b->m->cx->arena, Step);
    s->kind = kind;
    s->node = n;
    s->entries = b->entries;
    s->n_value = n_value;
    s->value = ARENA_ARRAY(&b->m->cx->arena, Value *, n_value);
    for (uint32_t i = 0; i < n_value; i++) s->value[i] = value[i];
    **tail = s;
    *tail = &s->next;
    b->plan->n_step++;
    return s;
}

/* Reshape and its kin: the output is the input's memory under another type. */
static bool same_bytes(const Node *n) { return (n->op == OP_Identity || n->op == OP_Again || op_is_reshape(n->op)) && n->out[0]->type->kind == TYPE_TENSOR; }

bool plan_lower_node(PlanBuilder *b, StepTail *tail, Node *n) {
    LowerResult r;
    Kernel *k = lower_node(b->m, n, &r);
    if (k == NULL) return false;
    Step *s = plan_step(b, tail, STEP_KERNEL, n, k->n_arg, r.arg);
    s->kernel = share(b, k);
    s->checked = r.checked;
    s->n_checked = r.n_checked;
    for (uint32_t i = 0; i < r.n_dim; i++)
        plan_step(b, tail, STEP_DIM, n, 1, (Value *[]){r.dim[i].cell})->symbol = r.dim[i].symbol;
    return true;
}

bool plan_lower_graph(PlanBuilder *b, StepTail *tail, Graph *g) {
    bool ok = true;
    FOR_NODES(n, g) {
        if (g == b->m->main) b->entries = b->masks[n->id], b->m->scratch_room = b->room[n->id];
        switch ((Op)n->op) {
        case OP_If: ok &= plan_lower_if(b, tail, n); break;
        case OP_Loop: ok &= plan_lower_loop(b, tail, n); break;
        case OP_Scan: ok &= plan_lower_scan(b, tail, n); break;
        case OP_AllReduceStart: case OP_ReduceScatterStart: case OP_ExchangeWait: /* in place: the message is the value's own memory */
            b->plan->alias[n->out[0]->id] = n->in[0];
            plan_step(b, tail, n->op == OP_ExchangeWait ? STEP_ARRIVE : STEP_EXCHANGE, n, n->n_in, n->in);
            break;
        case OP_AllGatherStart: plan_step(b, tail, STEP_EXCHANGE, n, 2, (Value *[]){n->in[0], n->out[0]}); break;
        default:
            if (same_bytes(n)) b->plan->alias[n->out[0]->id] = n->in[0];
            else ok &= plan_lower_node(b, tail, n);
            if (n->op == OP_Guard || (n->op == OP_BindDims && bind_checks(b->m->cx, n))) plan_step(b, tail, STEP_GATE, n, 0, NULL);
            break;
        }
    }
    return ok;
}

bool pass_lower_plan(Context *cx, Module *m) {
    PlanBuilder b = {.m = m, .plan = plan_new(m), .masks = entry_masks(m), .room = scratch_rooms(m)};
    /* Lowering makes scratch values, so ids grow; aliases are only of values that exist now. */
    b.plan->alias = ARENA_ARRAY(&cx->arena, Value *, m->n_value);
    b.plan->n_alias = m->n_value;
    StepTail tail = &b.plan->first;
    plan_lower_graph(&b, &tail, m->main);
    b.plan->kernel = b.kernels.list.v;
    b.plan->n_kernel = b.kernels.list.n;
    return true;
}
