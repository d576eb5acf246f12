/* The verifier: what must be true of a graph between passes. module_verify checks, for the main graph and every region:
 *
 *   1  Nodes form one list: first has no prev, last no next, neighbours point at each other, each node names its graph.
 *   2  A region's outer graph is the graph of the node that holds it, and no graph is held twice.
 *   3  The number of inputs and outputs of a node is within its operator's limits.
 *   4  A node has the attribute slots of its operator, the required ones present, each with what its kind needs.
 *   5  Every output of a node points back at the node and its place, has no constant data, and is defined once.
 *   6  Every input of a node is a constant, an input of this or an enclosing graph, or defined earlier in this graph or
 *      before the node that holds the region in an enclosing one.
 *   7  Inputs of a graph have no definition and no data, and stand in one list once.
 *   8  Outputs of a graph exist and are visible at its end.
 *   9  Inputs and outputs of the main graph that have names have different names.
 *  10  Once inference has run (some node's output has a type), every value has a type or is poison; not so in the branch
 *      that an If of known condition does not take: it never runs and need not make sense.
 *  11  A constant has a tensor type with constant dims and as many bytes as that needs.
 *  12  Known contents (sym) belong to an integer tensor of that many elements and have no unknown in them.
 *  13  Values are poison only if an error was reported.
 *  14  Ids of values and nodes are below the module's counts and belong to one object.
 *  15  The regions of If, Loop, Scan and Fused take and give as many values as their node does.
 *  16  Inference run again on a copy succeeds and finds types that agree with the present ones.
 *
 * A broken invariant is an error diagnostic: `IR invariant 6: input 1, "x", is used before its definition`. */
#include "ir/graph.h"
#include "ir/state.h"

typedef struct Verifier {
    Module *m;
    Context *cx;
    Value **value;      /* by id: the value met with this id */
    bool *visible;      /* by value id */
    bool *defined;      /* by value id */
    Node **node;        /* by id */
    VEC(Value *) scope; /* visible values, innermost graph last */
    VEC(Graph *) graphs;
    uint32_t n_dead;    /* branches around us that never run */
    uint32_t n_typed, n_untyped;
    Value *untyped;     /* the first one */
    bool ok;
} Verifier;

static void broken(Verifier *v, Loc loc, int invariant, const char *format, ...) LATHE_PRINTF(4, 5);
static void broken(Verifier *v, Loc loc, int invariant, const char *format, ...) {
    Writer w = {.arena = &v->cx->scratch};
    va_list args;
    va_start(args, format);
    cw_vprintf(&w, format, args);
    va_end(args);
    diag(v->cx, SEV_ERROR, loc, "IR invariant %d: %s", invariant, cw_cstr(&w));
    v->ok = false;
}

static const char *name_of(const Verifier *v, const Value *x) {
    Writer w = {.arena = &v->cx->scratch};
    if (x->name != 0) cw_string(&w, str_text(v->cx, x->name), str_size(v->cx, x->name));
    else cw_printf(&w, "value %u", x->id);
    return cw_cstr(&w);
}

/* ---- single values ---------------------------------------------------------------------------------------------- */
static bool check_id(Verifier *v, Loc loc, Value *x) {
    if (x->id == 0 || x->id >= v->m->n_value) {
        broken(v, loc, 14, "a value has id %u, the module has %u", x->id, v->m->n_value);
        return false;
    }
    if (v->value[x->id] == NULL) v->value[x->id] = x;
    if (v->value[x->id] == x) return true;
    broken(v, loc, 14, "two values have id %u: %s and another", x->id, name_of(v, x));
    return false;
}

static void check_constant(Verifier *v, Loc loc, const Value *x) {
    const Type *t = x->type;
    if (t == NULL || !type_is_static(v->cx, t)) {
        broken(v, loc, 11, "constant %s has no tensor type of constant dims", name_of(v, x));
        return;
    }
    int64_t n = dim_value(v->cx, type_numel(v->cx, t));
    size_t bytes = t->dtype == DT_STRING ? (size_t)n * sizeof(Str) : dtype_bytes(v->cx, t->dtype, n);
    if (x->data->bytes != bytes) broken(v, loc, 11, "constant %s has %zu bytes, its type needs %zu", name_of(v, x), x->data->bytes, bytes);
}

static void check_contents(Verifier *v, Loc loc, const Value *x) {
    if (x->sym == NULL) return;
    const Type *t = x->type;
    if (t == NULL || t->kind != TYPE_TENSOR || !(dtype_is_int(t->dtype) || t->dtype == DT_BOOL)) {
        broken(v, loc, 12, "%s has known contents but is no integer tensor", name_of(v, x));
        return;
    }
    Dim n = type_numel(v->cx, t);
    if (dim_is_const(v->cx, n) && dim_value(v->cx, n) != x->n_sym)
        broken(v, loc, 12, "%s has %lld elements, contents are known for %u", name_of(v, x), (long long)dim_value(v->cx, n), x->n_sym);
    for (uint32_t i = 0; i < x->n_sym; i++)
        if (x->sym[i] == 0) broken(v, loc, 12, "%s: the contents of element %u are unknown", name_of(v, x), i);
}

static void define(Verifier *v, Loc loc, Value *x) {
    if (!check_id(v, loc, x)) return;
    if (v->defined[x->id]) broken(v, loc, 5, "%s is defined twice", name_of(v, x));
    v->defined[x->id] = true;
    v->visible[x->id] = true;
    vec_push(&v->cx->scratch, &v->scope, x);
    check_contents(v, loc, x);
    if (x->poison && v->cx->n_error == 0) broken(v, loc, 13, "%s is poison, but no error was reported", name_of(v, x));
}

static bool usable(Verifier *v, Loc loc, Value *x) {
    if (!check_id(v, loc, x)) return true; /* said already */
    if (x->data == NULL) return v->visible[x->id];
    check_constant(v, loc, x);
    return true;
}

/* ---- nodes ------------------------------------------------------------------------------------------------------ */
static void check_attr(Verifier *v, const Node *n, uint32_t i) {
    const AttrInfo *info = attr_info((AttrSlot)(op_info((Op)n->op)->attr_first + i));
    const Attr *a = &n->attr[i];
    if (!a->present) {
        if (info->def[0] == '!') broken(v, n->loc, 4, "attribute %s is required", info->name);
        return;
    }
    bool good = true;
    switch (info->kind) {
    case ATTR_INT: case ATTR_FLOAT: case ATTR_STRING: break;
    case ATTR_INTS: good = a->ints.n == 0 || a->ints.v != NULL; break;
    case ATTR_FLOATS: good = a->floats.n == 0 || a->floats.v != NULL; break;
    case ATTR_STRINGS: good = a->strings.n == 0 || a->strings.v != NULL; break;
    case ATTR_TENSOR: good = a->tensor.data != NULL && type_is_static(v->cx, a->tensor.type); break;
    case ATTR_GRAPH: good = a->graph != NULL; break;
    case ATTR_TYPE: good = a->type != NULL; break;
    }
    if (!good) broken(v, n->loc, 4, "attribute %s is present without a value", info->name);
}

static void check_count(Verifier *v, const Node *n, const char *what, uint32_t count, uint32_t min, uint32_t max) {
    if (count >= min && (max == MANY || count <= max)) return;
    if (max == MANY) broken(v, n->loc, 3, "%u %s, at least %u are needed", count, what, min);
    else if (max == min) broken(v, n->loc, 3, "%u %s, %u are needed", count, what, min);
    else broken(v, n->loc, 3, "%u %s, %u to %u are allowed", count, what, min, max);
}

static void check_region_shape(Verifier *v, const Node *n, const Graph *g, const char *name, uint32_t n_in, uint32_t n_out) {
    if (g->n_in != n_in) broken(v, n->loc, 15, "region %s has %u inputs, the node gives it %u", name, g->n_in, n_in);
    if (g->n_out != n_out) broken(v, n->loc, 15, "region %s has %u outputs, the node takes %u", name, g->n_out, n_out);
}

static void check_regions(Verifier *v, const Node *n) {
    if (n->op == OP_If) {
        check_region_shape(v, n, attr_at(n, AT_If_then_branch)->graph, "then_branch", 0, n->n_out);
        check_region_shape(v, n, attr_at(n, AT_If_else_branch)->graph, "else_branch", 0, n->n_out);
    } else if (n->op == OP_Loop) {
        check_region_shape(v, n, attr_at(n, AT_Loop_body)->graph, "body", n->n_in, n->n_out + 1u);
    } else if (n->op == OP_Scan) {
        check_region_shape(v, n, attr_at(n, AT_Scan_body)->graph, "body", n->n_in, n->n_out);
    } else if (n->op == OP_Fused) {
        check_region_shape(v, n, attr_at(n, AT_Fused_body)->graph, "body", n->n_in, n->n_out);
    }
}

static void check_graph(Verifier *v, Graph *g);

/* The condition of an If where it is known: 0 or 1, else -1. */
static int known_condition(const Context *cx, const Node *n) {
    const Value *c = n->op == OP_If && n->n_in == 1 ? n->in[0] : NULL;
    if (c != NULL && c->data != NULL && c->data->bytes != 0) return const_i64(c, 0) != 0;
    if (c != NULL && c->sym != NULL && c->n_sym == 1 && dim_is_const(cx, c->sym[0])) return dim_value(cx, c->sym[0]) != 0;
    return -1;
}

/* Is g the branch of an If that its known condition does not take? */
static bool never_runs(const Context *cx, const Node *n, const Graph *g) {
    int condition = known_condition(cx, n);
    return condition >= 0 && g == attr_at(n, condition != 0 ? AT_If_else_branch : AT_If_then_branch)->graph;
}

static void check_region(Verifier *v, Node *n, Graph *g) {
    if (g->outer != n->graph) broken(v, n->loc, 2, "region @%s names another graph than its node's as outer", str_text(v->cx, g->name));
    for (uint32_t i = 0; i < v->graphs.n; i++) {
        if (v->graphs.v[i] != g) continue;
        broken(v, n->loc, 2, "region @%s is held twice", str_text(v->cx, g->name));
        return;
    }
    vec_push(&v->cx->scratch, &v->graphs, g);
    bool dead = never_runs(v->cx, n, g);
    v->n_dead += dead;
    check_graph(v, g);
    v->n_dead -= dead;
}

static void check_outputs(Verifier *v, Node *n) {
    for (uint32_t i = 0; i < n->n_out; i++) {
        Value *x = n->out[i];
        if (x == NULL) continue;
        if (x->def != n || x->def_out != i) broken(v, n->loc, 5, "output %u, %s, points at another definition", i, name_of(v, x));
        if (x->data != NULL) broken(v, n->loc, 5, "output %u, %s, has constant data", i, name_of(v, x));
        define(v, n->loc, x);
        bool declared = false; /* the outputs of the model come with types before inference */
        for (uint32_t k = 0; k < v->m->main->n_out; k++) declared |= v->m->main->out[k] == x;
        if (v->n_dead != 0 || (declared && x->type != NULL)) continue;
        if (x->type != NULL) v->n_typed++;
        else if (!x->poison && v->n_untyped++ == 0) v->untyped = x;
    }
}

static void check_node(Verifier *v, Node *n) {
    if (n->op == OP_NONE || n->op >= OP_COUNT || n->id >= v->m->n_node || (v->node[n->id] != NULL && v->node[n->id] != n)) {
        broken(v, n->loc, 14, "node %u has a bad operator or id, or is in two places", n->id);
        return;
    }
    v->node[n->id] = n;
    const OpInfo *op = op_info((Op)n->op);
    check_count(v, n, "inputs", n->n_in, op->in_min, op->in_max);
    check_count(v, n, "outputs", n->n_out, op->out_min, op->out_max);
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i] != NULL && !usable(v, n->loc, n->in[i])) broken(v, n->loc, 6, "input %u, %s, is not defined here", i, name_of(v, n->in[i]));
    if (n->n_attr != op_attr_count((Op)n->op)) {
        broken(v, n->loc, 4, "%u attribute slots, the operator has %u", n->n_attr, op_attr_count((Op)n->op));
        return;
    }
    bool before = v->ok;
    v->ok = true;
    for (uint32_t i = 0; i < n->n_attr; i++) check_attr(v, n, i);
    if (v->ok) check_regions(v, n);
    for (uint32_t i = 0; i < n->n_attr; i++)
        if (n->attr[i].present && attr_kind(n, i) == ATTR_GRAPH && n->attr[i].graph != NULL) check_region(v, n, n->attr[i].graph);
    v->ok &= before;
    check_outputs(v, n);
}

/* ---- graphs ----------------------------------------------------------------------------------------------------- */
static bool check_links(Verifier *v, const Graph *g) {
    const Node *prev = NULL;
    uint32_t count = 0;
    for (const Node *n = g->first; n != NULL; prev = n, n = n->next) {
        if (n->prev == prev && n->graph == g && count++ < v->m->n_node) continue;
        broken(v, n->loc, 1, "node %u is not linked as graph @%s and its neighbours say", n->id, str_text(v->cx, g->name));
        return false;
    }
    if (g->last == prev) return true;
    broken(v, (Loc){0}, 1, "graph @%s ends with another node than its list", str_text(v->cx, g->name));
    return false;
}

static void check_graph(Verifier *v, Graph *g) {
    uint32_t mine = v->scope.n;
    if (!check_links(v, g)) return;
    for (uint32_t i = 0; i < g->n_in; i++) {
        Value *x = g->in[i];
        if (x->def != NULL || x->data != NULL) broken(v, (Loc){0}, 7, "input %s of graph @%s has a definition or data", name_of(v, x), str_text(v->cx, g->name));
        if (x->id < v->m->n_value && v->defined[x->id]) broken(v, (Loc){0}, 7, "input %s of graph @%s is defined elsewhere too", name_of(v, x), str_text(v->cx, g->name));
        else define(v, (Loc){0}, x);
    }
    FOR_NODES(n, g) check_node(v, n);
    for (uint32_t i = 0; i < g->n_out; i++) {
        Value *x = g->out[i];
        if (x == NULL) broken(v, (Loc){0}, 8, "output %u of graph @%s is missing", i, str_text(v->cx, g->name));
        else if (!usable(v, (Loc){0}, x)) broken(v, (Loc){0}, 8, "output %u of graph @%s, %s, is not defined there", i, str_text(v->cx, g->name), name_of(v, x));
    }
    while (v->scope.n > mine) v->visible[v->scope.v[--v->scope.n]->id] = false;
}

/* Outputs of entries share names: an output in training and the same one outside of it. */
static void check_names(Verifier *v) {
    const Graph *g = v->m->main;
    uint32_t n_in = module_caller_in(v->m), n_out = v->m->n_entry == 0 ? g->n_out : 0;
    for (uint32_t i = 0; i < n_in + n_out; i++) {
        for (uint32_t j = 0; j < i; j++) {
            const Value *a = i < n_in ? g->in[i] : g->out[i - n_in], *b = j < n_in ? g->in[j] : g->out[j - n_in];
            if (a != NULL && b != NULL && a != b && a->name != 0 && a->name == b->name)
                broken(v, (Loc){0}, 9, "two inputs or outputs of the model are named %s", name_of(v, a));
        }
    }
}

/* ---- types ------------------------------------------------------------------------------------------------------ */
static const char *type_text(Verifier *v, const Type *t) {
    Writer w = {.arena = &v->cx->scratch};
    type_print(v->cx, &w, t);
    return cw_cstr(&w);
}

/* Walks a graph and its re-inferred copy side by side. */
static void compare_types(Verifier *v, const Graph *g, const Graph *copy) {
    const Node *c = copy->first;
    for (const Node *n = g->first; n != NULL && c != NULL; n = n->next, c = c->next) {
        for (uint32_t i = 0; i < n->n_out; i++) {
            const Value *a = n->out[i], *b = c->out[i];
            if (a == NULL || b == NULL || type_agrees(v->cx, a->type, b->type)) continue;
            broken(v, n->loc, 16, "output %u is %s, inference finds %s", i, type_text(v, a->type), type_text(v, b->type));
        }
        for (uint32_t i = 0; i < n->n_attr; i++)
            if (attr_kind(n, i) == ATTR_GRAPH && n->attr[i].present) compare_types(v, n->attr[i].graph, c->attr[i].graph);
    }
}

static void check_types(Verifier *v) {
    Module *m = v->m;
    Context *cx = v->cx;
    if (v->n_typed == 0) return;
    if (v->n_untyped != 0) {
        broken(v, v->untyped->def->loc, 10, "%u values have no type, the first is %s", v->n_untyped, name_of(v, v->untyped));
        return;
    }
    uint32_t n_value = m->n_value, n_node = m->n_node;
    DimMark mark = dim_mark(cx);
    Graph *copy = graph_clone(m, m->main, NULL, NULL);
    if (!graph_infer(m, copy)) broken(v, (Loc){0}, 16, "inference fails when it runs again");
    else compare_types(v, m->main, copy);
    dim_release(cx, mark);
    m->n_value = n_value;
    m->n_node = n_node;
}

bool module_verify(Module *m) {
    Context *cx = m->cx;
    Verifier v = {.m = m, .cx = cx, .ok = true};
    v.value = ARENA_ARRAY(&cx->scratch, Value *, m->n_value);
    v.visible = ARENA_ARRAY(&cx->scratch, bool, m->n_value);
    v.defined = ARENA_ARRAY(&cx->scratch, bool, m->n_value);
    v.node = ARENA_ARRAY(&cx->scratch, Node *, m->n_node + 1);
    check_graph(&v, m->main);
    check_names(&v);
    if (v.ok && cx->n_error == 0) check_types(&v);
    return v.ok;
}
