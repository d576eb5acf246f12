/* place_updates: in a module that trains, nodes that only write states go as far forward as they can, so that what they read
 * is not kept to the end of the step.
 *
 *     %g1 = …  %g0 = …  %w1 = Fused(%x1, %g1, %w)  %w0 = Fused(%x0, %g0, %v)
 *     ->       %g1 = …  %w1 = Fused(%x1, %g1, %w)  %g0 = …  %w0 = Fused(%x0, %g0, %v)
 *
 * A node that writes a state stays behind everything that reads the state's old contents: then they can be written over. Scalars
 * (counters, rates, the checks of a Guard) move forward, too, since updates wait for them. */
#include "ir/state.h"
#include "passes/pass.h"

typedef struct Key { uint32_t first, second; } Key; /* order: behind the first-th node as it was, then by second */

typedef struct Place {
    Module *m;
    Key *key;            /* by node id */
    uint32_t *state_of;  /* by value id: state + 1 whose new contents the value is */
    const Uses *uses;
    uint32_t moved;
} Place;

static bool before(Key a, Key b) { return a.first != b.first ? a.first < b.first : a.second < b.second; }

static void later(Place *p, Key *key, const Node *n) {
    if (n != NULL && n->graph == p->m->main && before(*key, p->key[n->id])) *key = p->key[n->id];
}

/* Is every result a state's new contents, and nothing else? */
static bool only_writes_states(const Place *p, const Node *n) {
    bool any = false;
    for (uint32_t i = 0; i < n->n_out; i++) {
        const Value *v = n->out[i];
        if (v == NULL) continue;
        if (p->state_of[v->id] == 0) return false;
        for (uint32_t u = p->uses->first[v->id]; u < p->uses->first[v->id + 1]; u++)
            if (p->uses->use[u].node != NULL) return false;
        any = true;
    }
    return any;
}

static bool only_scalars(const Place *p, const Node *n) {
    for (uint32_t i = 0; i < n->n_out; i++) {
        const Type *t = n->out[i] != NULL ? n->out[i]->type : NULL;
        if (t == NULL) continue;
        if (t->kind != TYPE_TENSOR || t->rank == RANK_UNKNOWN || type_numel(p->m->cx, t) != dim_const(p->m->cx, 1)) return false;
    }
    for (uint32_t i = 0; i < n->n_in; i++) { /* sums over tensors stay where they are */
        const Type *t = n->in[i] != NULL ? n->in[i]->type : NULL;
        if (t != NULL && (t->kind != TYPE_TENSOR || t->rank == RANK_UNKNOWN || type_numel(p->m->cx, t) != dim_const(p->m->cx, 1))) return false;
    }
    return true;
}

/* The first place behind what n reads and, for states it writes, behind their readers. */
static Key earliest(Place *p, const Node *n) {
    Key key = {0, 0};
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i] != NULL) later(p, &key, n->in[i]->def);
    for (uint32_t i = 0; i < n->n_out; i++) {
        uint32_t s = n->out[i] != NULL ? p->state_of[n->out[i]->id] : 0;
        if (s == 0) continue;
        const Value *old = state_in(p->m, s - 1);
        for (uint32_t u = p->uses->first[old->id]; u < p->uses->first[old->id + 1]; u++)
            if (p->uses->use[u].node != n) later(p, &key, p->uses->use[u].node);
    }
    return key;
}

static void sort(Place *p, Node **node, Node **room, uint32_t n) {
    if (n < 2) return;
    uint32_t half = n / 2, i = 0, j = half, k = 0;
    sort(p, node, room, half);
    sort(p, node + half, room, n - half);
    while (i < half || j < n) {
        bool left = j >= n || (i < half && !before(p->key[node[j]->id], p->key[node[i]->id]));
        room[k++] = left ? node[i++] : node[j++];
    }
    memcpy(node, room, n * sizeof *node);
}

static void relink(Graph *g, Node **node, uint32_t n) {
    g->first = n != 0 ? node[0] : NULL;
    g->last = n != 0 ? node[n - 1] : NULL;
    for (uint32_t i = 0; i < n; i++) {
        node[i]->prev = i != 0 ? node[i - 1] : NULL;
        node[i]->next = i + 1 < n ? node[i + 1] : NULL;
    }
}

bool pass_place_updates(Context *cx, Module *m) {
    if (m->n_state_out == 0) return false;
    Uses uses = module_uses(m);
    Place place = {.m = m, .uses = &uses}, *p = &place;
    uint32_t n = 0, caller = module_caller_out(m);
    p->key = ARENA_ARRAY(&cx->scratch, Key, m->n_node);
    p->state_of = ARENA_ARRAY(&cx->scratch, uint32_t, m->n_value);
    for (uint32_t i = 0; i < m->n_state_out; i++) p->state_of[m->main->out[caller + i]->id] = m->state_out[i] + 1;
    FOR_NODES(node, m->main) p->key[node->id] = (Key){++n, 0};
    Node **list = ARENA_ARRAY(&cx->scratch, Node *, n), **room = ARENA_ARRAY(&cx->scratch, Node *, n);
    n = 0;
    FOR_NODES(node, m->main) {
        list[n++] = node;
        bool fixed = node->op != OP_Fused && (op_info(node->op)->flags & (OPF_RANDOM | OPF_REGION)) != 0; /* a Fused body reads its inputs only */
        if (fixed || node->n_in == 0 || !(only_writes_states(p, node) || only_scalars(p, node))) continue;
        Key key = earliest(p, node);
        if (key.first < p->key[node->id].first) p->key[node->id] = (Key){key.first, ++p->moved};
    }
    sort(p, list, room, n);
    relink(m->main, list, n);
    return p->moved != 0;
}
