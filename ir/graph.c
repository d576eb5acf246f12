#include "ir/graph.h"

#include <math.h>
#include <stdlib.h>

/* ---- the operator table ----------------------------------------------------------------------------------------- */
static const OpInfo ops[OP_COUNT] = {
#define OP(opname, dom, imin, imax, omin, omax, fl, shape, expand, grad, define, lower)                              \
    [OP_##opname] = {.name = #opname, .domain = DOMAIN_##dom, .in_min = imin, .in_max = imax, .out_min = omin, .out_max = omax, \
                     .flags = fl, .attr_first = AT_FIRST_##opname},
#define ATTR(op, name, kind, def)
#include "ir/ops.def"
#undef OP
#undef ATTR
};

static const AttrInfo attrs[AT_COUNT] = {
#define OP(opname, dom, imin, imax, omin, omax, fl, shape, expand, grad, define, lower)
#define ATTR(op, attrname, akind, adef) [AT_##op##_##attrname] = {.name = #attrname, .kind = ATTR_##akind, .def = adef},
#include "ir/ops.def"
#undef OP
#undef ATTR
};

/* How many ATTR rows follow each OP row: the row's initialiser is continued by one "+ 1" per ATTR. */
static const uint16_t attr_counts[OP_COUNT] = {
    [OP_NONE] = 0
#define OP(opname, dom, imin, imax, omin, omax, fl, shape, expand, grad, define, lower) , [OP_##opname] = 0
#define ATTR(op, name, kind, def) +1
#include "ir/ops.def"
#undef OP
#undef ATTR
};

static const char *file_name(const char *name) { /* without the Ms_ that keeps enum names apart */
    return strncmp(name, "Ms_", 3) == 0 ? name + 3 : name;
}

const OpInfo *op_info(Op op) {
    return &ops[op];
}

uint32_t op_attr_count(Op op) {
    return attr_counts[op];
}

const char *op_name(Op op) {
    return file_name(ops[op].name);
}

bool op_is_reshape(Op op) { return op == OP_Reshape || op == OP_Flatten || op == OP_Squeeze || op == OP_Unsqueeze; }

const AttrInfo *attr_info(AttrSlot slot) {
    return &attrs[slot];
}

static const char *const domains[] = {
    [DOMAIN_ONNX] = "", [DOMAIN_ML] = "ai.onnx.ml", [DOMAIN_MICROSOFT] = "com.microsoft",
    [DOMAIN_TRAINING] = "ai.onnx.preview.training", [DOMAIN_PREVIEW] = "ai.onnx.preview", [DOMAIN_LATHE] = "lathe",
};

const char *domain_text(OpDomain d) {
    return domains[d];
}

bool domain_find(const char *text, OpDomain *domain) {
    if (strcmp(text, "ai.onnx") == 0) text = "";
    for (size_t d = 0; d < sizeof domains / sizeof *domains; d++) {
        if (strcmp(domains[d], text) == 0) {
            *domain = (OpDomain)d;
            return true;
        }
    }
    return false;
}

Op op_find(OpDomain domain, const char *name) {
    for (int op = 1; op < OP_COUNT; op++)
        if (ops[op].domain == domain && strcmp(file_name(ops[op].name), name) == 0) return (Op)op;
    return OP_NONE;
}

/* ---- attributes ------------------------------------------------------------------------------------------------- */
Attr *attr_at(const Node *n, AttrSlot slot) {
    return &n->attr[slot - ops[n->op].attr_first];
}

AttrSlot attr_named(const Node *n, const char *name) {
    uint32_t first = op_info((Op)n->op)->attr_first, count = op_attr_count((Op)n->op);
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(attr_info((AttrSlot)(first + i))->name, name) == 0) return (AttrSlot)(first + i);
    return AT_COUNT;
}

void attr_share(Node *to, const Node *from) {
    for (uint32_t i = 0; i < from->n_attr; i++) {
        AttrSlot slot = from->attr[i].present ? attr_named(to, attr_info((AttrSlot)(op_info((Op)from->op)->attr_first + i))->name) : AT_COUNT;
        if (slot != AT_COUNT) *attr_at(to, slot) = from->attr[i];
    }
}

AttrKind attr_kind(const Node *n, uint32_t i) { return attrs[ops[n->op].attr_first + i].kind; }
bool attr_has(const Node *n, AttrSlot slot) { return attr_at(n, slot)->present; }
int64_t attr_i(const Node *n, AttrSlot slot) { return attr_at(n, slot)->i; }
double attr_f(const Node *n, AttrSlot slot) { return attr_at(n, slot)->f; }
Str attr_s(const Node *n, AttrSlot slot) { return attr_at(n, slot)->s; }

int64_t attr_ints_at(const Node *n, AttrSlot slot, uint32_t i) {
    const Attr *a = attr_at(n, slot);
    return a->present && i < a->ints.n ? a->ints.v[i] : 0;
}

bool attr_s_is(const Context *cx, const Node *n, AttrSlot slot, const char *text) {
    return strcmp(str_text(cx, attr_s(n, slot)), text) == 0;
}

void attr_set_i(Node *n, AttrSlot slot, int64_t i) { *attr_at(n, slot) = (Attr){.present = true, .i = i}; }
void attr_set_f(Node *n, AttrSlot slot, double f) { *attr_at(n, slot) = (Attr){.present = true, .f = f}; }
void attr_set_s(Node *n, AttrSlot slot, Str s) { *attr_at(n, slot) = (Attr){.present = true, .s = s}; }
void attr_set_graph(Node *n, AttrSlot slot, Graph *g) { *attr_at(n, slot) = (Attr){.present = true, .graph = g}; }

void attr_set_ints(Context *cx, Node *n, AttrSlot slot, const int64_t *v, uint32_t count) {
    int64_t *own = ARENA_ARRAY(&cx->arena, int64_t, count);
    if (count != 0) memcpy(own, v, count * sizeof *v);
    Attr *a = attr_at(n, slot);
    *a = (Attr){.present = true};
    a->ints.v = own;
    a->ints.n = count;
}

void attr_set_floats(Context *cx, Node *n, AttrSlot slot, const double *v, uint32_t count) {
    double *own = ARENA_ARRAY(&cx->arena, double, count);
    if (count != 0) memcpy(own, v, count * sizeof *v);
    Attr *a = attr_at(n, slot);
    *a = (Attr){.present = true};
    a->floats.v = own;
    a->floats.n = count;
}

/* The default of a slot from its text in ops.def: lists are comma-separated. */
static void set_default(Context *cx, Attr *a, const AttrInfo *info) {
    const char *def = info->def;
    if (def[0] == 0 || def[0] == '!') return;
    a->present = true;
    uint32_t n = 1;
    for (const char *p = def; *p != 0; p++) n += *p == ',';
    switch (info->kind) {
    case ATTR_INT: a->i = strtoll(def, NULL, 10); break;
    case ATTR_FLOAT: a->f = (double)strtof(def, NULL); break; /* ONNX stores floats: the double holds exactly that */
    case ATTR_STRING: a->s = str_intern(cx, def); break;
    case ATTR_INTS: {
        int64_t *v = ARENA_ARRAY(&cx->arena, int64_t, n);
        const char *p = def;
        for (uint32_t i = 0; i < n; i++, p++) {
            char *end;
            v[i] = strtoll(p, &end, 10);
            p = end;
        }
        a->ints.v = v;
        a->ints.n = n;
        break;
    }
    case ATTR_STRINGS: {
        Str *v = ARENA_ARRAY(&cx->arena, Str, n);
        const char *p = def;
        for (uint32_t i = 0; i < n; i++) {
            size_t len = strcspn(p, ",");
            v[i] = str_intern_n(cx, p, len);
            p += len + 1;
        }
        a->strings.v = v;
        a->strings.n = n;
        break;
    }
    case ATTR_FLOATS: case ATTR_TENSOR: case ATTR_GRAPH: case ATTR_TYPE: a->present = false; break;
    }
}

static bool same_bytes(const void *a, const void *b, size_t n) {
    return n == 0 || memcmp(a, b, n) == 0;
}

bool attr_equal(const Attr *a, const Attr *b, AttrKind kind) {
    if (!a->present || !b->present) return a->present == b->present;
    switch (kind) {
    case ATTR_INT: return a->i == b->i;
    case ATTR_FLOAT: return memcmp(&a->f, &b->f, sizeof a->f) == 0;
    case ATTR_STRING: return a->s == b->s;
    case ATTR_INTS: return a->ints.n == b->ints.n && same_bytes(a->ints.v, b->ints.v, a->ints.n * sizeof *a->ints.v);
    case ATTR_FLOATS: return a->floats.n == b->floats.n && same_bytes(a->floats.v, b->floats.v, a->floats.n * sizeof *a->floats.v);
    case ATTR_STRINGS: return a->strings.n == b->strings.n && same_bytes(a->strings.v, b->strings.v, a->strings.n * sizeof *a->strings.v);
    case ATTR_TENSOR:
        return a->tensor.type == b->tensor.type && a->tensor.data->bytes == b->tensor.data->bytes &&
               same_bytes(a->tensor.data->data, b->tensor.data->data, a->tensor.data->bytes);
    case ATTR_GRAPH: return a->graph == b->graph;
    case ATTR_TYPE: return a->type == b->type;
    }
    return false;
}

Attr attr_default(Context *cx, AttrSlot slot) {
    Attr a = {0};
    set_default(cx, &a, &attrs[slot]);
    return a;
}

/* ---- building --------------------------------------------------------------------------------------------------- */
Module *module_new(Context *cx, const char *name) {
    Module *m = ARENA_NEW(&cx->arena, Module);
    m->cx = cx;
    m->name = str_intern(cx, name);
    m->n_value = 1; /* id 0 is no value */
    m->main = graph_new(m, NULL, "main");
    return m;
}

Graph *graph_new(Module *m, Graph *outer, const char *name) {
    Graph *g = ARENA_NEW(&m->cx->arena, Graph);
    g->name = str_intern(m->cx, name);
    g->outer = outer;
    return g;
}

Value *value_new(Module *m, const Type *type, Str name) {
    Value *v = ARENA_NEW(&m->cx->arena, Value);
    v->id = m->n_value++;
    v->type = type;
    v->name = name;
    return v;
}

/* Appends to a list that has no capacity field: it grows at powers of two. */
static void append(Module *m, Value ***list, uint32_t *n, Value *v) {
    if ((*n & (*n - 1)) == 0) {
        Value **grown = ARENA_ARRAY(&m->cx->arena, Value *, *n == 0 ? 1 : *n * 2);
        if (*n != 0) memcpy(grown, *list, *n * sizeof *grown);
        *list = grown;
    }
    (*list)[(*n)++] = v;
}

void graph_adopt_input(Module *m, Graph *g, Value *v) {
    append(m, &g->in, &g->n_in, v);
}

Value *graph_add_input(Module *m, Graph *g, const Type *type, Str name) {
    Value *v = value_new(m, type, name);
    graph_adopt_input(m, g, v);
    return v;
}

void graph_add_output(Module *m, Graph *g, Value *v) {
    append(m, &g->out, &g->n_out, v);
}

Value *value_const(Module *m, const Type *type, const void *data, bool borrow) {
    Context *cx = m->cx;
    CHECK(cx, type_is_static(cx, type));
    int64_t n = dim_value(cx, type_numel(cx, type));
    size_t bytes = type->dtype == DT_STRING ? (size_t)n * sizeof(Str) : dtype_bytes(cx, type->dtype, n);
    ConstData *c = ARENA_NEW(&cx->arena, ConstData);
    if (!borrow) {
        void *own = arena_alloc(&cx->arena, bytes);
        if (bytes != 0) memcpy(own, data, bytes);
        data = own;
    }
    *c = (ConstData){.data = data, .bytes = bytes};
    Value *v = value_new(m, type, 0);
    v->data = c;
    return v;
}

Value *value_const_i64(Module *m, uint32_t n, const int64_t *v) {
    return value_const(m, type_tensor(m->cx, DT_I64, 1, (Dim[]){dim_const(m->cx, n)}), v, false);
}

Node *node_new(Module *m, Graph *g, Node *at, Op op, uint32_t n_in, Value *const *in, uint32_t n_out) {
    Context *cx = m->cx;
    Node *n = ARENA_NEW(&cx->arena, Node);
    n->id = m->n_node++;
    n->op = (uint16_t)op;
    n->n_in = (uint16_t)n_in;
    n->n_out = (uint16_t)n_out;
    n->n_attr = attr_counts[op];
    /* Room for every input and output the operator may have: reading one that is left out gives NULL. */
    uint32_t in_room = ops[op].in_max != MANY && ops[op].in_max > n_in ? ops[op].in_max : n_in;
    uint32_t out_room = ops[op].out_max != MANY && ops[op].out_max > n_out ? ops[op].out_max : n_out;
    n->in = ARENA_ARRAY(&cx->arena, Value *, in_room);
    if (n_in != 0) memcpy(n->in, in, n_in * sizeof *in);
    n->out = ARENA_ARRAY(&cx->arena, Value *, out_room);
    for (uint32_t i = 0; i < n_out; i++) {
        n->out[i] = value_new(m, NULL, 0);
        n->out[i]->def = n;
        n->out[i]->def_out = (uint16_t)i;
    }
    n->attr = ARENA_ARRAY(&cx->arena, Attr, n->n_attr);
    for (uint32_t i = 0; i < n->n_attr; i++) set_default(cx, &n->attr[i], &attrs[ops[op].attr_first + i]);
    n->graph = g;
    n->loc.op = str_intern(cx, op_name(op));
    if (at != NULL) {
        n->loc = at->loc;
        node_move_before(n, at);
    } else {
        n->prev = g->last;
        if (g->last != NULL) g->last->next = n;
        else g->first = n;
        g->last = n;
    }
    return n;
}

static Value *build(Module *m, Node *at, Op op, uint32_t n_in, Value *const *in) {
    Node *n = node_new(m, at->graph, at, op, n_in, in, 1);
    node_infer(m, n);
    return n->out[0];
}

Value *build1(Module *m, Node *at, Op op, Value *a) { return build(m, at, op, 1, (Value *[]){a}); }
Value *build2(Module *m, Node *at, Op op, Value *a, Value *b) { return build(m, at, op, 2, (Value *[]){a, b}); }
Value *build3(Module *m, Node *at, Op op, Value *a, Value *b, Value *c) { return build(m, at, op, 3, (Value *[]){a, b, c}); }

void node_remove(Node *n) {
    if (n->prev != NULL) n->prev->next = n->next;
    else n->graph->first = n->next;
    if (n->next != NULL) n->next->prev = n->prev;
    else n->graph->last = n->prev;
    n->prev = n->next = NULL;
    n->graph = NULL;
}

/* Also places a node that is in no list yet (fresh from node_new: prev and next are NULL and no list points at it). */
void node_move_before(Node *n, Node *at) {
    bool linked = n->prev != NULL || n->next != NULL || (n->graph != NULL && n->graph->first == n);
    if (linked) node_remove(n);
    n->graph = at->graph;
    n->prev = at->prev;
    n->next = at;
    if (at->prev != NULL) at->prev->next = n;
    else at->graph->first = n;
    at->prev = n;
}

static Value *mapped(Value *const *map, Value *v) {
    return v != NULL && map[v->id] != NULL ? map[v->id] : v;
}

static Graph *clone_into(Module *m, const Graph *g, Graph *outer, Value **map, Value *const *map_in) {
    Context *cx = m->cx;
    Graph *c = graph_new(m, outer, str_text(cx, g->name));
    for (uint32_t i = 0; i < g->n_in; i++) {
        if (map_in != NULL) {
            map[g->in[i]->id] = map_in[i];
        } else {
            Value *v = graph_add_input(m, c, g->in[i]->type, g->in[i]->name);
            v->sym = g->in[i]->sym;
            v->n_sym = g->in[i]->n_sym;
            map[g->in[i]->id] = v;
        }
    }
    for (const Node *n = g->first; n != NULL; n = n->next) {
        Value **in = ARENA_ARRAY(&cx->arena, Value *, n->n_in);
        for (uint32_t i = 0; i < n->n_in; i++) in[i] = mapped(map, n->in[i]);
        Node *d = node_new(m, c, NULL, n->op, n->n_in, in, n->n_out);
        d->loc = n->loc;
        d->agree = n->agree;
        d->n_agree = n->n_agree;
        for (uint32_t i = 0; i < n->n_attr; i++) {
            d->attr[i] = n->attr[i];
            if (attr_kind(n, i) == ATTR_GRAPH && n->attr[i].present)
                d->attr[i].graph = clone_into(m, n->attr[i].graph, c, map, NULL);
        }
        for (uint32_t i = 0; i < n->n_out; i++) {
            if (n->out[i] == NULL) {
                d->out[i] = NULL;
                continue;
            }
            Value *o = d->out[i], *from = n->out[i];
            o->type = from->type;
            o->name = from->name;
            o->sym = from->sym;
            o->n_sym = from->n_sym;
            o->poison = from->poison;
            o->declared = from->declared;
            map[from->id] = o;
        }
    }
    for (uint32_t i = 0; i < g->n_out; i++) graph_add_output(m, c, mapped(map, g->out[i]));
    return c;
}

Graph *graph_clone(Module *m, const Graph *g, Graph *outer, Value *const *map_in) {
    /* Values made while cloning get ids past the map's end, but only old values are looked up. */
    Value **map = ARENA_ARRAY(&m->cx->scratch, Value *, m->n_value);
    return clone_into(m, g, outer, map, map_in);
}

/* ---- walking ---------------------------------------------------------------------------------------------------- */
void graph_visit(Graph *g, void (*visit)(Graph *g, void *user), void *user) {
    visit(g, user);
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_attr; i++)
            if (attr_kind(n, i) == ATTR_GRAPH && n->attr[i].present) graph_visit(n->attr[i].graph, visit, user);
    }
}

typedef struct ListGraphs { Arena *arena; Graphs graphs; } ListGraphs;

static void list_graph(Graph *g, void *user) {
    ListGraphs *l = user;
    vec_push(l->arena, &l->graphs, g);
}

Graphs module_graphs(Module *m) {
    ListGraphs l = {.arena = &m->cx->scratch};
    graph_visit(m->main, list_graph, &l);
    return l.graphs;
}

static void count_uses(Graph *g, void *user) {
    uint32_t *count = user;
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_in; i++)
            if (n->in[i] != NULL) count[n->in[i]->id]++;
    }
    for (uint32_t i = 0; i < g->n_out; i++) count[g->out[i]->id]++;
}

uint32_t *module_use_counts(Module *m) {
    uint32_t *count = ARENA_ARRAY(&m->cx->scratch, uint32_t, m->n_value + 1);
    graph_visit(m->main, count_uses, count);
    return count;
}

typedef struct FillUses { Uses *uses; uint32_t *at; } FillUses;

static void fill_uses(Graph *g, void *user) {
    FillUses *f = user;
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_in; i++)
            if (n->in[i] != NULL) f->uses->use[f->at[n->in[i]->id]++] = (Use){n, i};
    }
    for (uint32_t i = 0; i < g->n_out; i++) f->uses->use[f->at[g->out[i]->id]++] = (Use){NULL, i};
}

Uses module_uses(Module *m) {
    Context *cx = m->cx;
    Uses u = {.first = ARENA_ARRAY(&cx->scratch, uint32_t, m->n_value + 1)};
    uint32_t *count = module_use_counts(m), *at = ARENA_ARRAY(&cx->scratch, uint32_t, m->n_value + 1);
    for (uint32_t i = 0; i < m->n_value; i++) at[i] = u.first[i], u.first[i + 1] = u.first[i] + count[i];
    memcpy(at, u.first, m->n_value * sizeof *at);
    u.use = ARENA_ARRAY(&cx->scratch, Use, u.first[m->n_value]);
    FillUses f = {&u, at};
    graph_visit(m->main, fill_uses, &f);
    return u;
}

static void replace_in(Graph *g, void *user) {
    Value *const *map = user;
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_in; i++) n->in[i] = mapped(map, n->in[i]);
    }
    for (uint32_t i = 0; i < g->n_out; i++) {
        Value *to = mapped(map, g->out[i]);
        if (to != g->out[i] && to->name == 0) to->name = g->out[i]->name;
        g->out[i] = to;
    }
}

void values_replace(Module *m, Value *const *map) {
    graph_visit(m->main, replace_in, (void *)(uintptr_t)map);
}

typedef struct ReplaceOne { Value *from, *to; } ReplaceOne;

static void replace_one(Graph *g, void *user) {
    ReplaceOne *r = user;
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_in; i++)
            if (n->in[i] == r->from) n->in[i] = r->to;
    }
    for (uint32_t i = 0; i < g->n_out; i++) {
        if (g->out[i] != r->from) continue;
        if (r->to->name == 0) r->to->name = r->from->name;
        g->out[i] = r->to;
    }
}

void value_replace(Module *m, Value *from, Value *to) {
    ReplaceOne r = {from, to};
    graph_visit(m->main, replace_one, &r);
}

/* ---- contents of constants -------------------------------------------------------------------------------------- */
bool value_is_const(const Value *v) {
    return v != NULL && v->data != NULL;
}

const Dim *value_dims(Module *m, const Value *v, uint32_t *n) {
    Context *cx = m->cx;
    if (v == NULL) return NULL;
    if (v->sym != NULL) {
        *n = v->n_sym;
        return v->sym;
    }
    if (v->data == NULL || !(dtype_is_int(v->type->dtype) || v->type->dtype == DT_BOOL) || v->type->rank > 1) return NULL;
    int64_t count = dim_value(cx, type_numel(cx, v->type));
    if (count > 4096) return NULL;
    Dim *d = ARENA_ARRAY(&cx->arena, Dim, count);
    for (int64_t i = 0; i < count; i++) d[i] = dim_const(cx, const_i64(v, i));
    *n = (uint32_t)count;
    return d;
}
