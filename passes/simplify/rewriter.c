/* The engine of rewrite rules: sweeps over the module until no rule applies. Replaced values are kept in a map and
 * resolved when a node is visited, so that a replacement costs nothing however many readers there are. */
#include <math.h>

#include "ir/text_number.h"
#include "passes/fold.h"
#include "passes/simplify/simplify.h"

enum { SWEEPS_MAX = 16, PER_NODE_MAX = 16, SPLAT_MAX = 1 << 20 };

/* ---- bookkeeping by value id ---- */
static void make_room(Rewriter *r) {
    if (r->m->n_value <= r->cap) return;
    Arena *a = &r->cx->scratch;
    uint32_t cap = r->m->n_value * 2;
    Value **map = ARENA_ARRAY(a, Value *, cap);
    uint32_t *uses = ARENA_ARRAY(a, uint32_t, cap);
    bool *is_output = ARENA_ARRAY(a, bool, cap);
    if (r->cap != 0) {
        memcpy(map, r->map, r->cap * sizeof *map);
        memcpy(uses, r->uses, r->cap * sizeof *uses);
        memcpy(is_output, r->is_output, r->cap * sizeof *is_output);
    }
    r->map = map;
    r->uses = uses;
    r->is_output = is_output;
    r->cap = cap;
}

static Value *resolve(const Rewriter *r, Value *v) {
    while (v != NULL && v->id < r->cap && r->map[v->id] != NULL) v = r->map[v->id];
    return v;
}

static void resolve_inputs(const Rewriter *r, Node *n) {
    for (uint32_t i = 0; i < n->n_in; i++) n->in[i] = resolve(r, n->in[i]);
}

static bool removable(const Rewriter *r, const Node *n) {
    uint32_t flags = op_info((Op)n->op)->flags;
    if (!(flags & OPF_PURE) || (flags & OPF_REGION) || n->graph == NULL) return false;
    for (uint32_t i = 0; i < n->n_out; i++)
        if (n->out[i] != NULL && r->uses[n->out[i]->id] != 0) return false;
    return true;
}

static void remove_node(Rewriter *r, Node *n);

static void release(Rewriter *r, Value *v) {
    v = resolve(r, v);
    if (v == NULL || r->uses[v->id] == 0 || --r->uses[v->id] != 0) return;
    if (v->def != NULL && removable(r, v->def)) remove_node(r, v->def);
}

static void remove_node(Rewriter *r, Node *n) {
    node_remove(n);
    for (uint32_t i = 0; i < n->n_in; i++) release(r, n->in[i]);
}

/* ---- the interface of rules ---- */
Node *rw_def(Rewriter *r, const Value *v, Op op) {
    if (v == NULL || v->def == NULL || v->def->op != op) return NULL;
    resolve_inputs(r, v->def);
    return v->def;
}

bool rw_single(const Rewriter *r, const Value *v) {
    return r->uses[v->id] == 1 && !r->is_output[v->id];
}

bool rw_replace(Rewriter *r, Node *n, Value *to) {
    Value *from = n->out[0];
    if (to == NULL || to == from) return false;
    if (r->is_output[from->id]) {
        if (to->def == NULL || to->def->graph != r->m->main || r->is_output[to->id]) return false;
        to->name = from->name;
        r->is_output[to->id] = true;
        r->is_output[from->id] = false;
    }
    if (to->declared == NULL) to->declared = from->declared;
    r->map[from->id] = to;
    r->uses[to->id] += r->uses[from->id];
    r->uses[from->id] = 0;
    n->out[0] = NULL;
    r->changed = true;
    if (removable(r, n)) remove_node(r, n);
    return true;
}

static Node *adopt(Rewriter *r, Node *n) {
    make_room(r);
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i] != NULL) r->uses[n->in[i]->id]++;
    return n;
}

Node *rw_node(Rewriter *r, Node *at, Op op, uint32_t n_in, Value *const *in) {
    return adopt(r, node_new(r->m, at->graph, at, op, n_in, in, 1));
}

Node *rw_copy(Rewriter *r, Node *at, const Node *like, uint32_t n_in, Value *const *in) {
    Node *n = rw_node(r, at, (Op)like->op, n_in, in);
    for (uint32_t i = 0; i < n->n_attr; i++) n->attr[i] = like->attr[i];
    n->loc = like->loc;
    return n;
}

Value *rw_value(Rewriter *r, Node *n) {
    Value *v = n->out[0];
    node_infer(r->m, n);
    if (fold_node(r->m, n)) {
        make_room(r);
        for (uint32_t i = 0; i < n->n_in; i++) release(r, n->in[i]);
    }
    return v;
}

Value *rw_build1(Rewriter *r, Node *at, Op op, Value *a) { return rw_value(r, rw_node(r, at, op, 1, (Value *[]){a})); }
Value *rw_build2(Rewriter *r, Node *at, Op op, Value *a, Value *b) { return rw_value(r, rw_node(r, at, op, 2, (Value *[]){a, b})); }

void rw_discard(Rewriter *r, Value *v) {
    if (v->def != NULL && removable(r, v->def)) remove_node(r, v->def);
}

Value *rw_reshape(Rewriter *r, Node *at, Value *x, uint32_t rank, const Dim *dim) {
    const Type *want = type_tensor(r->cx, x->type->dtype, rank, dim);
    if (x->type == want) return x;
    int64_t shape[RANK_MAX];
    uint32_t unknown = 0;
    bool zero = false;
    for (uint32_t i = 0; i < rank; i++) {
        bool known = dim_is_const(r->cx, dim[i]);
        shape[i] = known ? dim_value(r->cx, dim[i]) : -1;
        unknown += !known;
        zero |= shape[i] == 0;
    }
    if (unknown > 1 || (unknown == 1 && zero)) return NULL;
    Value *in[2] = {x, value_const_i64(r->m, rank, shape)};
    Node *n = rw_node(r, at, OP_Reshape, 2, in);
    if (zero) attr_set_i(n, AT_Reshape_allowzero, 1);
    Value *v = rw_value(r, n);
    if (v->type == want) return v;
    rw_discard(r, v); /* the remaining size is right, but has another form */
    return NULL;
}

/* ---- looking at values ---- */
bool rw_splat(const Context *cx, const Value *v, double *x) {
    if (v == NULL || v->data == NULL) return false;
    DType d = v->type->dtype;
    (void)cx;
    if (d == DT_STRING || dtype_class(d) == 'C') return false;
    size_t n = v->data->bytes * 8 / dtype_bits(d);
    if (v->type->rank == 0) n = 1;
    if (n == 0 || n > SPLAT_MAX || (dtype_bits(d) < 8 && v->type->rank != 0)) return false;
    uint64_t first = number_get(v->data->data, d, 0);
    for (size_t i = 1; i < n; i++)
        if (number_get(v->data->data, d, i) != first) return false;
    *x = const_f64(v, 0);
    return true;
}

bool rw_is(const Context *cx, const Value *v, double x) {
    double y;
    return rw_splat(cx, v, &y) && y == x;
}

bool rw_ints(Module *m, const Value *v, int64_t *x, uint32_t max, uint32_t *n) {
    const Dim *d = value_dims(m, v, n);
    if (d == NULL || *n > max) return false;
    for (uint32_t i = 0; i < *n; i++) {
        if (!dim_is_const(m->cx, d[i])) return false;
        x[i] = dim_value(m->cx, d[i]);
    }
    return true;
}

bool rw_float(const Value *v) {
    DType d = v->type->dtype;
    return v->type->kind == TYPE_TENSOR && (d == DT_F32 || d == DT_F64 || d == DT_F16 || d == DT_BF16);
}

bool rw_same_type(const Value *a, const Value *b) {
    return a != NULL && b != NULL && a->type == b->type;
}

/* ---- sweeps ---- */
static bool has_type(const Value *v) {
    return v == NULL || (v->type != NULL && !v->poison && v->type->rank != RANK_UNKNOWN);
}

/* Rules may count on the types of what they look at. */
static bool sound(const Node *n) {
    bool ok = true;
    for (uint32_t i = 0; i < n->n_in; i++) ok &= has_type(n->in[i]);
    for (uint32_t i = 0; i < n->n_out; i++) ok &= has_type(n->out[i]);
    return ok;
}

static bool apply_one(Rewriter *r, Node *n, const Rule *rule, uint32_t n_rule) {
    for (uint32_t i = 0; i < n_rule; i++)
        if (rule[i].op == (Op)n->op && rule[i].rewrite(r, n)) return true;
    return false;
}

static void sweep(Rewriter *r, Graph *g, const Rule *rule, uint32_t n_rule) {
    FOR_NODES(n, g) {
        resolve_inputs(r, n);
        for (uint32_t i = 0; i < n->n_attr; i++)
            if (n->attr[i].present && attr_kind(n, i) == ATTR_GRAPH) sweep(r, n->attr[i].graph, rule, n_rule);
        for (int k = 0; k < PER_NODE_MAX && n->graph == g && n->n_out != 0 && n->out[0] != NULL && sound(n); k++) {
            if (!apply_one(r, n, rule, n_rule)) break;
            r->changed = true;
        }
    }
}

static void resolve_graph(Graph *g, void *user) {
    const Rewriter *r = user;
    FOR_NODES(n, g) resolve_inputs(r, n);
    for (uint32_t i = 0; i < g->n_out; i++) g->out[i] = resolve(r, g->out[i]);
}

bool rewrite_module(Module *m, const Rule *rule, uint32_t n_rule) {
    Rewriter r = {.m = m, .cx = m->cx};
    make_room(&r);
    memcpy(r.uses, module_use_counts(m), m->n_value * sizeof *r.uses);
    for (uint32_t i = 0; i < m->main->n_out; i++) r.is_output[m->main->out[i]->id] = true;
    bool any = false;
    for (int k = 0; k < SWEEPS_MAX; k++) {
        r.changed = false;
        sweep(&r, m->main, rule, n_rule);
        if (!r.changed) break;
        any = true;
    }
    graph_visit(m->main, resolve_graph, &r);
    return any;
}
