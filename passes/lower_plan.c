/* Builds the plan: every node of the main graph becomes a step (or none, for views that keep the bytes as they are).
 * Kernels that print equal are one kernel: a model of 48 equal layers emits each body once. */
#include "ir/plan.h"
#include "passes/lower.h"
#include "passes/pass.h"

typedef struct KernelTable {
    uint64_t *hash;
    const char **text;
    VEC(Kernel *) kernels;
    uint32_t cap;
} KernelTable;

typedef struct Builder {
    Module *m;
    Plan *plan;
    KernelTable table;
} Builder;

static uint64_t text_hash(const char *s, size_t n) {
    uint64_t h = n;
    for (size_t i = 0; i < n; i++) h = hash_mix(h, (unsigned char)s[i]);
    return h;
}

/* The kernel equal to k made before, or k itself. */
static Kernel *share(Builder *b, Kernel *k) {
    Context *cx = b->m->cx;
    Str name = k->name, comment = k->comment;
    k->name = k->comment = 0;
    Writer w = {.arena = &cx->scratch};
    kernel_print(cx, &w, k);
    k->name = name;
    k->comment = comment;
    uint64_t h = text_hash(w.text, w.n);
    KernelTable *t = &b->table;
    for (uint32_t i = 0; i < t->kernels.n; i++)
        if (t->hash[i] == h && strcmp(t->text[i], w.text) == 0) return t->kernels.v[i];
    if (t->kernels.n == t->cap) {
        uint32_t cap = t->cap != 0 ? t->cap * 2 : 64;
        uint64_t *hash = ARENA_ARRAY(&cx->scratch, uint64_t, cap);
        const char **text = ARENA_ARRAY(&cx->scratch, const char *, cap);
        if (t->cap != 0) {
            memcpy(hash, t->hash, t->cap * sizeof *hash);
            memcpy(text, t->text, t->cap * sizeof *text);
        }
        t->hash = hash;
        t->text = text;
        t->cap = cap;
    }
    t->hash[t->kernels.n] = h;
    t->text[t->kernels.n] = w.text;
    k->id = t->kernels.n;
    vec_push(&cx->arena, &t->kernels, k);
    return k;
}

static Step *step_new(Builder *b, Step ***tail, StepKind kind, Node *n) {
    Step *s = ARENA_NEW(&b->m->cx->arena, Step);
    s->kind = kind;
    s->node = n;
    **tail = s;
    *tail = &s->next;
    b->plan->n_step++;
    return s;
}

/* Reshape and its kin: the output is the input's memory under another type. */
static bool same_bytes(const Node *n) {
    switch ((Op)n->op) {
    case OP_Identity: case OP_Reshape: case OP_Flatten: case OP_Squeeze: case OP_Unsqueeze: return n->out[0]->type->kind == TYPE_TENSOR;
    default: return false;
    }
}

static bool lower_graph(Builder *b, Graph *g, Step ***tail) {
    Module *m = b->m;
    Context *cx = m->cx;
    bool ok = true;
    FOR_NODES(n, g) {
        if (same_bytes(n)) {
            b->plan->alias[n->out[0]->id] = n->in[0];
            continue;
        }
        LowerResult r;
        Kernel *k = lower_node(m, n, &r);
        if (k == NULL) {
            ok = false;
            continue;
        }
        Step *s = step_new(b, tail, STEP_KERNEL, n);
        s->n_value = k->n_arg;
        s->value = r.arg;
        s->kernel = share(b, k);
        for (uint32_t i = 0; i < r.n_dim; i++) {
            Step *d = step_new(b, tail, STEP_DIM, n);
            d->symbol = r.dim[i].symbol;
            d->value = ARENA_NEW(&cx->arena, Value *);
            d->value[0] = r.dim[i].cell;
            d->n_value = 1;
        }
    }
    return ok;
}

bool pass_lower_plan(Context *cx, Module *m) {
    (void)cx;
    Builder b = {.m = m, .plan = plan_new(m)};
    /* Lowering makes scratch values, so ids grow; aliases are only of values that exist now. */
    b.plan->alias = ARENA_ARRAY(&cx->arena, Value *, m->n_value);
    b.plan->n_alias = m->n_value;
    Step **tail = &b.plan->first;
    lower_graph(&b, m->main, &tail);
    b.plan->kernel = b.table.kernels.v;
    b.plan->n_kernel = b.table.kernels.n;
    return true;
}
