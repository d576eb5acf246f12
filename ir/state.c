/* States and entry points of a module: adding states, and which nodes and inputs an entry needs. */
#include "ir/state.h"

#include <math.h>

Value *state_in(const Module *m, uint32_t i) { return m->main->in[m->main->n_in - m->n_state + i]; }
uint32_t module_caller_in(const Module *m) { return m->main->n_in - m->n_state; }
uint32_t module_caller_out(const Module *m) { return m->main->n_out - m->n_state_out; }

static uint32_t append(Module *m, State s) {
    m->state = vec_grow(&m->cx->arena, m->state, m->n_state, &m->cap_state, sizeof *m->state);
    m->state[m->n_state] = s;
    return m->n_state++;
}

uint32_t state_add(Module *m, Str name, StateRole role, const Type *type, LatheInit init, const Value *first) {
    graph_add_input(m, m->main, type, name);
    return append(m, (State){.name = name, .role = role, .first = first, .init = init});
}

uint32_t state_from_constant(Module *m, Value *v, StateRole role, const LatheInit *init) {
    Value *first = value_const(m, v->type, v->data->data, true);
    first->name = v->name;
    v->data = NULL;
    v->sym = NULL;
    v->n_sym = 0;
    graph_adopt_input(m, m->main, v);
    State s = {.name = v->name, .role = role, .first = init != NULL ? NULL : first};
    if (init != NULL) s.init = *init;
    return append(m, s);
}

/* ---- first values ----------------------------------------------------------------------------------------------------- */
static void fans(uint32_t rank, const int64_t *shape, double *fan_in, double *fan_out) {
    double kernel = 1;
    for (uint32_t i = 2; i < rank; i++) kernel *= (double)shape[i];
    double first = rank > 0 ? (double)shape[0] : 1, second = rank > 1 ? (double)shape[1] : first;
    *fan_in = rank > 2 ? second * kernel : first;
    *fan_out = rank > 2 ? first * kernel : second;
}

LatheInit init_resolve(LatheInit init, uint32_t rank, const int64_t *shape) {
    double fan_in, fan_out, root3 = 1.7320508075688772;
    fans(rank, shape, &fan_in, &fan_out);
    double glorot = sqrt(2 / (fan_in + fan_out)), kaiming = sqrt(2 / ((1 + init.a * init.a) * fan_in));
    switch (init.kind) {
    case LATHE_INIT_GLOROT_UNIFORM: return lathe_uniform(-glorot * root3, glorot * root3);
    case LATHE_INIT_GLOROT_NORMAL: return lathe_normal(0, glorot);
    case LATHE_INIT_KAIMING_UNIFORM: return lathe_uniform(-kaiming * root3, kaiming * root3);
    case LATHE_INIT_KAIMING_NORMAL: return lathe_normal(0, kaiming);
    case LATHE_INIT_DEFAULT: case LATHE_INIT_CONSTANT: case LATHE_INIT_NORMAL: case LATHE_INIT_UNIFORM: case LATHE_INIT_ORTHOGONAL: case LATHE_INIT_TRUNCATED: break;
    }
    return init;
}

/* ---- what an entry needs ---------------------------------------------------------------------------------------------- */
typedef struct Reach {
    Module *m;
    uint32_t *node, *value; /* bit sets, by id */
    uint32_t bit;
    VEC(Node *) work;
} Reach;

static void need(Reach *r, Value *v) {
    if (v == NULL || (r->value[v->id] & r->bit)) return;
    r->value[v->id] |= r->bit;
    if (v->def == NULL || v->def->graph != r->m->main || (r->node[v->def->id] & r->bit)) return;
    r->node[v->def->id] |= r->bit;
    vec_push(&r->m->cx->scratch, &r->work, v->def);
}

static void need_region(Graph *g, void *user) {
    Reach *r = user;
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_in; i++) need(r, n->in[i]);
    }
    for (uint32_t i = 0; i < g->n_out; i++) need(r, g->out[i]);
}

static void reach(Reach *r, const Entry *e) {
    for (uint32_t i = 0; i < e->n_out; i++) need(r, r->m->main->out[e->out[i]]);
    while (r->work.n != 0) {
        Node *n = r->work.v[--r->work.n];
        for (uint32_t i = 0; i < n->n_in; i++) need(r, n->in[i]);
        for (uint32_t i = 0; i < n->n_attr; i++)
            if (attr_kind(n, i) == ATTR_GRAPH && n->attr[i].present) graph_visit(n->attr[i].graph, need_region, r);
    }
}

static Reach reach_all(Module *m) {
    Reach r = {.m = m, .node = ARENA_ARRAY(&m->cx->scratch, uint32_t, m->n_node + 1), .value = ARENA_ARRAY(&m->cx->scratch, uint32_t, m->n_value + 1)};
    for (uint32_t i = 0; i < m->n_entry; i++) {
        r.bit = 1u << i;
        reach(&r, &m->entry[i]);
    }
    return r;
}

static uint32_t without_repeats(const Module *m, uint32_t mask) {
    uint32_t kept = mask;
    for (uint32_t i = 0; i < m->n_entry; i++)
        if (mask & m->entry[i].after) kept &= ~(1u << i);
    return kept;
}

uint32_t *entry_masks(Module *m) {
    Reach r = reach_all(m);
    for (uint32_t i = 0; i < m->n_node; i++) r.node[i] = m->n_entry == 0 ? 1 : without_repeats(m, r.node[i]);
    return r.node;
}

uint32_t entry_owners(const Module *m, uint32_t output) {
    uint32_t mask = m->n_entry == 0;
    for (uint32_t i = 0; i < m->n_entry; i++)
        for (uint32_t k = 0; k < m->entry[i].n_out; k++)
            if (m->entry[i].out[k] == output) mask |= 1u << i;
    return mask;
}

uint32_t *entry_inputs(Module *m) {
    Reach r = reach_all(m);
    uint32_t *mask = ARENA_ARRAY(&m->cx->scratch, uint32_t, m->main->n_in + 1);
    for (uint32_t i = 0; i < m->main->n_in; i++) mask[i] = m->n_entry == 0 ? 1 : r.value[m->main->in[i]->id];
    for (uint32_t e = 0; e < m->n_entry; e++) /* what it calls needs the input, too */
        for (uint32_t c = 0; c < m->entry[e].n_calls; c++)
            for (uint32_t i = 0; i < m->main->n_in; i++)
                if (mask[i] >> m->entry[e].calls[c] & 1) mask[i] |= 1u << e;
    return mask;
}
