/* How much scratch memory a kernel may take without making the arena larger: what the largest moment of the run has over its own.
 *
 *     %a = Conv(%x)      %x + %a alive: 6 MB            room 2 MB
 *     %b = Conv(%a)      %a + %b alive: 8 MB            room 0
 *
 * Lifetimes of the main graph's values in the order of its nodes, without anybody's scratch memory. Kernels whose speed grows with their scratch
 * memory ask for it (passes/lower_winograd.c). An estimate: memory is planned later, from what the kernels are then. */
#include "passes/build_plan.h"
#include "passes/lifetime.h"

typedef struct Rooms {
    Context *cx;
    Module *m;
    uint32_t *last;   /* by value id: position of the last reader; NEVER: to the end */
    uint64_t *bytes;  /* by value id: of values in the arena that are alive */
} Rooms;

enum { NEVER = UINT32_MAX };

/* The operand whose place the result takes: a view's, a pointwise operator's, one of an epilogue. */
static const Value *replaced(const Rooms *r, const Node *n, uint32_t at) {
    bool view = op_is_reshape(n->op) || n->op == OP_Identity;
    if (!view && n->op != OP_Fused && !(op_info(n->op)->flags & OPF_INPLACE)) return NULL;
    for (uint32_t i = n->op == OP_Fused ? 1 : 0; i < n->n_in; i++) {
        const Value *v = n->in[i];
        if (v != NULL && r->last[v->id] == at && r->bytes[v->id] != 0 && r->bytes[v->id] >= value_bytes_most(r->cx, n->out[0])) return v;
    }
    return NULL;
}

uint64_t *scratch_rooms(Module *m) {
    Rooms rooms = {.cx = m->cx, .m = m}, *r = &rooms;
    r->last = ARENA_ARRAY(&m->cx->scratch, uint32_t, m->n_value);
    r->bytes = ARENA_ARRAY(&m->cx->scratch, uint64_t, m->n_value);
    uint64_t *room = ARENA_ARRAY(&m->cx->scratch, uint64_t, m->n_node), now = 0, most = 0;
    bool *is_output = ARENA_ARRAY(&m->cx->scratch, bool, m->n_value);
    for (uint32_t i = 0; i < m->main->n_out; i++) is_output[m->main->out[i]->id] = true;
    uint32_t *position = ARENA_ARRAY(&m->cx->scratch, uint32_t, m->n_node), at = 0;
    FOR_NODES(n, m->main) position[n->id] = at++;
    last_readers(m, position, NEVER, r->last);
    at = 0;
    FOR_NODES(n, m->main) {
        const Value *old = n->n_out == 1 && n->out[0] != NULL ? replaced(r, n, at) : NULL;
        if (old != NULL) now -= r->bytes[old->id], r->bytes[old->id] = 0;
        for (uint32_t o = 0; o < n->n_out; o++)
            if (n->out[o] != NULL && !is_output[n->out[o]->id]) now += r->bytes[n->out[o]->id] = value_bytes_most(r->cx, n->out[o]);
        room[n->id] = now; /* for now: what is alive */
        if (now > most) most = now;
        for (uint32_t i = 0; i < n->n_in; i++) {
            const Value *v = n->in[i];
            if (v == NULL || r->last[v->id] != at) continue;
            now -= r->bytes[v->id];
            r->bytes[v->id] = 0;
        }
        for (uint32_t o = 0; o < n->n_out; o++) { /* nobody reads it */
            const Value *v = n->out[o];
            if (v == NULL || r->last[v->id] > at) continue;
            now -= r->bytes[v->id];
            r->bytes[v->id] = 0;
        }
        at++;
    }
    FOR_NODES(n, m->main) room[n->id] = most - room[n->id];
    return room;
}
