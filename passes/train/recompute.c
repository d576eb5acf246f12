/* Recomputation: less memory for more arithmetic (Chen et al. 2016). The forward pass is cut into segments; between forward and
 * backward pass only values that a later segment reads are kept, and the backward pass computes the rest of a segment once
 * more, from what was kept, just before it needs it:
 *
 *     %a = Relu(%x)  %b = Exp(%a)  | %c = Neg(%b) …          %a = Relu(%x)  %b = Exp(%a)  | %c = Neg(%b) …
 *     …                                                  ->  …
 *     %g = Mul(%d, %a)                                       %x2 = Again(%x)  %a2 = Relu(%x2)  %g = Mul(%d, %a2)
 *
 * Again is its operand; it keeps later passes from finding that the copies are what they copy. Random numbers are kept. */
#include "passes/train/train.h"

enum { SMALL_BYTES = 4096 }; /* not worth it */

typedef struct Recompute {
    Module *m;
    Context *cx;
    uint32_t *segment;  /* by node id: + 1; 0: no part of the forward pass */
    bool *kept;         /* by value id */
    Value **copy;       /* by value id */
    Node *at;           /* copies go before it */
    uint32_t n_node, n_value, last; /* last: the segment that is not recomputed */
} Recompute;

static uint64_t bytes_of(Recompute *r, const Value *v) {
    uint64_t bits = v->type != NULL && v->type->kind == TYPE_TENSOR ? dtype_bits(v->type->dtype) : 0;
    for (uint32_t i = 0; bits != 0 && i < v->type->rank; i++) {
        int64_t hi = dim_hi(r->cx, v->type->dim[i]);
        if (__builtin_mul_overflow(bits, hi > 0 && hi < INT64_MAX ? (uint64_t)hi : 1, &bits)) return UINT64_MAX / 4;
    }
    return bits / 8;
}

static bool repeatable(const Node *n) {
    const OpInfo *info = op_info(n->op);
    return (info->flags & OPF_PURE) && !(info->flags & (OPF_RANDOM | OPF_REGION | OPF_DYNSHAPE)) && n->op != OP_Dropout;
}

static uint64_t node_bytes(Recompute *r, const Node *n) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n->n_out; i++)
        if (n->out[i] != NULL) sum += bytes_of(r, n->out[i]);
    return sum;
}

/* Equal shares of what the forward pass writes. */
static void cut(Recompute *r, const bool *forward, uint32_t segments) {
    uint64_t all = 0, done = 0;
    FOR_NODES(n, r->m->main) all += n->id < r->n_node && forward[n->id] ? node_bytes(r, n) : 0;
    FOR_NODES(n, r->m->main) {
        if (n->id >= r->n_node || !forward[n->id]) continue;
        uint32_t s = all != 0 ? (uint32_t)(done * segments / all) : 0;
        r->segment[n->id] = 1 + (s < segments ? s : segments - 1);
        done += node_bytes(r, n);
    }
    r->last = segments;
}

static void find_kept(Recompute *r) {
    FOR_NODES(n, r->m->main) {
        if (n->id >= r->n_node || r->segment[n->id] == 0) continue;
        for (uint32_t i = 0; i < n->n_in; i++) {
            const Value *v = n->in[i];
            if (v != NULL && v->def != NULL && v->def->graph == r->m->main && r->segment[v->def->id] != r->segment[n->id]) r->kept[v->id] = true;
        }
        for (uint32_t i = 0; i < n->n_out; i++)
            if (n->out[i] != NULL && (!repeatable(n) || bytes_of(r, n->out[i]) < SMALL_BYTES || r->segment[n->id] == r->last)) r->kept[n->out[i]->id] = true;
    }
    for (uint32_t i = 0; i < r->m->main->n_out; i++)
        if (r->m->main->out[i]->id < r->n_value) r->kept[r->m->main->out[i]->id] = true;
}

static bool is_forward(const Recompute *r, const Value *v) {
    return v != NULL && v->id < r->n_value && v->def != NULL && v->def->graph == r->m->main && v->def->id < r->n_node && r->segment[v->def->id] != 0;
}

static Value *again(Recompute *r, Value *v) {
    if (r->copy[v->id] == NULL) {
        r->copy[v->id] = build1(r->m, r->at, OP_Again, v);
        r->copy[v->id]->sym = v->sym;
        r->copy[v->id]->n_sym = v->n_sym;
    }
    return r->copy[v->id];
}

/* v as the copies read it. */
static Value *recomputed(Recompute *r, Value *v) {
    if (!is_forward(r, v)) return v;
    if (r->kept[v->id]) return bytes_of(r, v) < SMALL_BYTES ? v : again(r, v);
    if (r->copy[v->id] != NULL) return r->copy[v->id];
    const Node *n = v->def;
    Value **in = ARENA_ARRAY(&r->cx->scratch, Value *, n->n_in);
    for (uint32_t i = 0; i < n->n_in; i++) in[i] = n->in[i] != NULL ? recomputed(r, n->in[i]) : NULL;
    Node *c = node_new(r->m, r->m->main, r->at, n->op, n->n_in, in, n->n_out);
    c->loc = n->loc;
    for (uint32_t i = 0; i < n->n_attr; i++) c->attr[i] = n->attr[i];
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (n->out[i] == NULL) {
            c->out[i] = NULL;
            continue;
        }
        c->out[i]->type = n->out[i]->type;
        c->out[i]->sym = n->out[i]->sym;
        c->out[i]->n_sym = n->out[i]->n_sym;
        r->copy[n->out[i]->id] = c->out[i];
    }
    return r->copy[v->id];
}

void train_recompute(Module *m, const bool *forward, Node *first, Node *end, uint32_t segments) {
    Recompute state = {.m = m, .cx = m->cx, .n_node = m->n_node, .n_value = m->n_value}, *r = &state;
    if (segments < 2) return;
    r->segment = ARENA_ARRAY(&m->cx->scratch, uint32_t, m->n_node);
    r->kept = ARENA_ARRAY(&m->cx->scratch, bool, m->n_value);
    r->copy = ARENA_ARRAY(&m->cx->scratch, Value *, m->n_value);
    cut(r, forward, segments);
    find_kept(r);
    for (Node *n = first; n != end; n = n->next) {
        if (n->id < r->n_node && r->segment[n->id] != 0) continue;
        r->at = n;
        for (uint32_t i = 0; i < n->n_in; i++)
            if (is_forward(r, n->in[i]) && !r->kept[n->in[i]->id]) n->in[i] = recomputed(r, n->in[i]);
    }
}
