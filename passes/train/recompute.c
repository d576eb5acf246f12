/* Recomputation: less memory for more arithmetic (Chen et al. 2016). The forward pass is cut into segments; between forward and
 * backward pass only values that a later segment reads are kept, and the backward pass computes the rest of a segment once
 * more, from what was kept, just before it needs it:
 *
 *     %a = Relu(%x)  %b = Exp(%a)  | %c = Neg(%b) …          %a = Relu(%x)  %b = Exp(%a)  | %c = Neg(%b) …
 *     …                                                  ->  …
 *     %g = Mul(%d, %a)                                       %x2 = Again(%x)  %a2 = Relu(%x2)  %g = Mul(%d, %a2)
 *
 * Again is its operand; it keeps later passes from finding that the copies are what they copy. Random numbers are kept. Without segments, and on
 * top of them, the same is done with what costs next to nothing (passes/train/cheap.c). */
#include "passes/train/train.h"

enum { SMALL_BYTES = 4096 }; /* not worth it */

typedef struct Recompute {
    TrainForward f;
    Module *m;
    Context *cx;
    Value **copy;       /* by value id */
    Node *at;           /* copies go before it */
} Recompute;

uint64_t train_bytes(Context *cx, const Value *v) {
    uint64_t bits = v->type != NULL && v->type->kind == TYPE_TENSOR ? dtype_bits(v->type->dtype) : 0;
    for (uint32_t i = 0; bits != 0 && i < v->type->rank; i++) {
        int64_t hi = dim_hi(cx, v->type->dim[i]);
        if (__builtin_mul_overflow(bits, hi > 0 && hi < INT64_MAX ? (uint64_t)hi : 1, &bits)) return UINT64_MAX / 4;
    }
    return bits / 8;
}

bool train_is_small(Context *cx, const Value *v) { return train_bytes(cx, v) < SMALL_BYTES; }

bool train_repeatable(const Node *n) {
    const OpInfo *info = op_info(n->op);
    return (info->flags & OPF_PURE) && !(info->flags & (OPF_RANDOM | OPF_REGION | OPF_DYNSHAPE)) && n->op != OP_Dropout;
}

bool train_is_forward(const TrainForward *f, const Node *n) { return n != NULL && n->graph == f->m->main && n->id < f->n_node && f->segment[n->id] != 0; }

static uint64_t node_bytes(Recompute *r, const Node *n) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n->n_out; i++)
        if (n->out[i] != NULL) sum += train_bytes(r->cx, n->out[i]);
    return sum;
}

/* Equal shares of what the forward pass writes. */
static void cut(Recompute *r, const bool *forward, uint32_t segments) {
    uint64_t all = 0, done = 0;
    FOR_NODES(n, r->m->main) all += n->id < r->f.n_node && forward[n->id] ? node_bytes(r, n) : 0;
    FOR_NODES(n, r->m->main) {
        if (n->id >= r->f.n_node || !forward[n->id]) continue;
        uint32_t s = all != 0 ? (uint32_t)(done * segments / all) : 0;
        r->f.segment[n->id] = 1 + (s < segments ? s : segments - 1);
        done += node_bytes(r, n);
    }
    r->f.last = segments;
}

static void find_kept(Recompute *r) {
    FOR_NODES(n, r->m->main) {
        if (n->id >= r->f.n_node || r->f.segment[n->id] == 0) continue;
        for (uint32_t i = 0; i < n->n_in; i++) {
            const Value *v = n->in[i];
            if (v != NULL && v->def != NULL && v->def->graph == r->m->main && r->f.segment[v->def->id] != r->f.segment[n->id]) r->f.kept[v->id] = true;
        }
        for (uint32_t i = 0; i < n->n_out; i++)
            if (n->out[i] != NULL && (!train_repeatable(n) || train_is_small(r->cx, n->out[i]) || r->f.segment[n->id] == r->f.last)) r->f.kept[n->out[i]->id] = true;
    }
    for (uint32_t i = 0; i < r->m->main->n_out; i++)
        if (r->m->main->out[i]->id < r->f.n_value) r->f.kept[r->m->main->out[i]->id] = true;
}

static bool is_forward(const Recompute *r, const Value *v) { return v != NULL && v->id < r->f.n_value && train_is_forward(&r->f, v->def); }

static Value *again(Recompute *r, Value *v) {
    if (r->copy[v->id] == NULL) {
        r->copy[v->id] = build1(r->m, r->at, OP_Again, v);
        r->copy[v->id]->sym = v->sym;
        r->copy[v->id]->n_sym = v->n_sym;
    }
    return r->copy[v->id];
}

static Value *recomputed(Recompute *r, Value *v);

/* A copy of n before r->at, whose outputs are the copies of n's. */
static void repeat(Recompute *r, const Node *n) {
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
}

/* A normalisation most of which the gradient makes from the same operand: no Again. */
static Value *normalized(Recompute *r, Node *n) {
    Value *x = is_forward(r, n->in[0]) && !r->f.kept[n->in[0]->id] ? recomputed(r, n->in[0]) : n->in[0];
    return r->copy[n->out[0]->id] = train_norm_again(r->m, r->at, n, x);
}

/* v as the copies read it. */
static Value *recomputed(Recompute *r, Value *v) {
    if (!is_forward(r, v)) return v;
    if (r->f.kept[v->id]) return train_is_small(r->cx, v) ? v : again(r, v);
    if (r->copy[v->id] != NULL) return r->copy[v->id];
    Node *n = v->def;
    if (v->def_out == 0 && train_shares_norm(n, r->f.kept)) return normalized(r, n);
    repeat(r, n);
    return r->copy[v->id];
}

void train_recompute(Module *m, const bool *forward, Node *first, Node *end, uint32_t segments) {
    Recompute state = {.f = {.m = m, .n_node = m->n_node, .n_value = m->n_value}, .m = m, .cx = m->cx}, *r = &state;
    if (segments == 1) return;
    r->f.segment = ARENA_ARRAY(&m->cx->scratch, uint32_t, m->n_node);
    r->f.kept = ARENA_ARRAY(&m->cx->scratch, bool, m->n_value);
    r->copy = ARENA_ARRAY(&m->cx->scratch, Value *, m->n_value);
    cut(r, forward, segments != 0 ? segments : 1);
    find_kept(r);
    train_find_cheap(&r->f);
    for (Node *n = first; n != end; n = n->next) {
        if (n->id < r->f.n_node && r->f.segment[n->id] != 0) continue;
        r->at = n;
        for (uint32_t i = 0; i < n->n_in; i++)
            if (is_forward(r, n->in[i]) && !r->f.kept[n->in[i]->id]) n->in[i] = recomputed(r, n->in[i]);
    }
}
