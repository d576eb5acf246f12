/* cse: equal operators on equal inputs are computed once; equal constants are one constant.
 *
 *     before:  %a = Relu(%x)                 after:  %a = Relu(%x)
 *              %b = Relu(%x)                         %y = Add(%a, %a)
 *              %y = Add(%a, %b)
 *
 * One walk in execution order with a table of what is available; a region sees what its surroundings computed before
 * it, and what it computes itself is forgotten at its end. Outputs of the model keep their own node: their names are
 * part of the interface. */
#include "base/map.h"
#include "passes/pass.h"

typedef struct Entry { uint64_t hash; Node *node; uint32_t next; } Entry;

typedef struct Cse {
    Module *m;
    Context *cx;
    Value **map;            /* by value id: read this one instead; NULL = itself */
    bool *is_output;        /* by value id: output of the main graph */
    VEC(Entry) entry;       /* a stack: regions pop what they pushed */
    uint32_t *bucket, n_bucket;
    VEC(Value *) constant;
    Map constants;          /* hash -> index in constant + 1; chained by trying hash + 1 */
    bool changed, moved_symbols;
} Cse;

static uint64_t hash_bytes(uint64_t h, const void *data, size_t n) {
    const uint8_t *p = data;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t x;
        memcpy(&x, p, 8);
        h = hash_mix(h, x);
    }
    for (; n != 0; n--) h = hash_mix(h, *p++);
    return h;
}

/* Large weights are told apart by their ends: equality is checked on all bytes anyway. */
static uint64_t hash_constant(const Value *v) {
    const char *p = v->data->data;
    size_t n = v->data->bytes;
    uint64_t h = hash_mix((uint64_t)(uintptr_t)v->type, n);
    if (n <= 4096) return hash_bytes(h, p, n);
    return hash_bytes(hash_bytes(h, p, 2048), p + n - 2048, 2048);
}

static Value *unique_constant(Cse *c, Value *v) {
    for (uint64_t key = hash_constant(v);; key++) {
        uint32_t *at = map_at(&c->cx->scratch, &c->constants, key);
        if (*at == 0) {
            vec_push(&c->cx->scratch, &c->constant, v);
            *at = c->constant.n;
            return v;
        }
        Value *o = c->constant.v[*at - 1];
        if (o == v) return v;
        if (o->type != v->type || o->data->bytes != v->data->bytes) continue;
        if (o->data->data == v->data->data || memcmp(o->data->data, v->data->data, v->data->bytes) == 0) return o;
    }
}

static Value *replacement(Cse *c, Value *v) {
    if (v == NULL) return NULL;
    if (v->data != NULL && v->def == NULL && c->map[v->id] == NULL) c->map[v->id] = unique_constant(c, v);
    return c->map[v->id] != NULL ? c->map[v->id] : v;
}

static void replace_inputs(Cse *c, Node *n) {
    for (uint32_t i = 0; i < n->n_in; i++) {
        Value *v = replacement(c, n->in[i]);
        c->changed |= v != n->in[i];
        n->in[i] = v;
    }
}

static bool mergeable(const Cse *c, const Node *n) {
    uint32_t flags = op_info((Op)n->op)->flags;
    if (!(flags & OPF_PURE) || (flags & OPF_REGION)) return false;
    for (uint32_t i = 0; i < n->n_attr; i++)
        if (attr_kind(n, i) == ATTR_GRAPH && n->attr[i].present) return false;
    for (uint32_t i = 0; i < n->n_out; i++)
        if (n->out[i] != NULL && (c->is_output[n->out[i]->id] || n->out[i]->poison)) return false;
    return true;
}

static uint64_t hash_node(const Node *n) {
    uint64_t h = hash_mix(n->op, (uint64_t)n->n_in << 32 | n->n_out);
    for (uint32_t i = 0; i < n->n_in; i++) h = hash_mix(h, n->in[i] != NULL ? n->in[i]->id : 0);
    for (uint32_t i = 0; i < n->n_attr; i++) {
        AttrKind kind = attr_kind(n, i);
        if (n->attr[i].present && (kind == ATTR_INT || kind == ATTR_STRING)) h = hash_mix(h, kind == ATTR_INT ? (uint64_t)n->attr[i].i : n->attr[i].s);
    }
    return h;
}

static bool equal_nodes(const Node *a, const Node *b) {
    if (a->op != b->op || a->n_in != b->n_in || a->n_out != b->n_out) return false;
    for (uint32_t i = 0; i < a->n_in; i++)
        if (a->in[i] != b->in[i]) return false;
    for (uint32_t i = 0; i < a->n_attr; i++)
        if (!attr_equal(&a->attr[i], &b->attr[i], attr_kind(a, i))) return false;
    return true;
}

static Node *find(const Cse *c, const Node *n, uint64_t hash) {
    for (uint32_t e = c->bucket[hash & (c->n_bucket - 1)]; e != 0; e = c->entry.v[e - 1].next)
        if (c->entry.v[e - 1].hash == hash && equal_nodes(c->entry.v[e - 1].node, n)) return c->entry.v[e - 1].node;
    return NULL;
}

static void add(Cse *c, Node *n, uint64_t hash) {
    uint32_t *bucket = &c->bucket[hash & (c->n_bucket - 1)];
    Entry e = {hash, n, *bucket};
    vec_push(&c->cx->scratch, &c->entry, e);
    *bucket = c->entry.n;
}

static void forget(Cse *c, uint32_t n) {
    while (c->entry.n > n) {
        Entry *e = &c->entry.v[--c->entry.n];
        c->bucket[e->hash & (c->n_bucket - 1)] = e->next;
    }
}

static void merge(Cse *c, Node *n, Node *into) {
    for (uint32_t i = 0; i < n->n_out; i++) {
        Value *v = n->out[i];
        if (v == NULL) continue;
        if (into->out[i] == NULL) { /* not wanted so far */
            into->out[i] = v;
            v->def = into;
        } else {
            c->map[v->id] = into->out[i];
        }
    }
    c->moved_symbols |= (op_info((Op)n->op)->flags & OPF_DYNSHAPE) != 0;
    c->changed = true;
    node_remove(n);
}

static void walk(Cse *c, Graph *g) {
    uint32_t mine = c->entry.n;
    FOR_NODES(n, g) {
        replace_inputs(c, n);
        for (uint32_t i = 0; i < n->n_attr; i++)
            if (attr_kind(n, i) == ATTR_GRAPH && n->attr[i].present) walk(c, n->attr[i].graph);
        if (!mergeable(c, n)) continue;
        uint64_t hash = hash_node(n);
        Node *same = find(c, n, hash);
        if (same != NULL) merge(c, n, same);
        else add(c, n, hash);
    }
    if (g->outer != NULL) {
        for (uint32_t i = 0; i < g->n_out; i++) g->out[i] = replacement(c, g->out[i]);
    }
    forget(c, mine);
}

bool pass_cse(Context *cx, Module *m) {
    Cse c = {.m = m, .cx = cx, .n_bucket = 256};
    while (c.n_bucket < m->n_node) c.n_bucket *= 2;
    c.map = ARENA_ARRAY(&cx->scratch, Value *, m->n_value);
    c.is_output = ARENA_ARRAY(&cx->scratch, bool, m->n_value);
    c.bucket = ARENA_ARRAY(&cx->scratch, uint32_t, c.n_bucket);
    for (uint32_t i = 0; i < m->main->n_out; i++) c.is_output[m->main->out[i]->id] = true;
    walk(&c, m->main);
    if (c.moved_symbols) graph_infer(m, m->main); /* readers of a merged data-dependent size have the other's symbol */
    return c.changed;
}
