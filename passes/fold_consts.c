/* fold_consts: what can be known now is computed now.
 *
 *     before:  %s = Shape(%x) : i64[2] = [N, 64]            after:  %d = const i64[1] [64]
 *              %d = Gather(%s, %one) : i64[1] = [64]                %w2 = const f32[2] [0.5, 1]
 *              %w2 = Mul(%w, %half) : f32[2]
 *
 * One walk in execution order, with inference along the way, since a constant input makes types more precise:
 *   - a value whose contents inference knows to be constant becomes a constant, whatever it is computed from;
 *   - a pure node with constant inputs is lowered to its kernel and the kernel interpreted, so a folded constant has
 *     the bits the emitted code would compute; an operator that has only an expansion is expanded first;
 *   - an If whose condition is constant is replaced by the nodes of its branch.
 * fold_shapes does that where fold_consts is switched off, for small tensors only.
 * A result much larger than what it is made from stays: it is cheaper to compute than to store. */
#include "passes/fold.h"

#include "ir/kernel.h"
#include "ir/text_number.h"
#include "passes/lower.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

enum { SHAPE_BYTES = 1024 }; /* what may be the sizes of something */
enum { SMALL_BYTES = 16 * 1024 * 1024, GROWTH = 4 }; /* larger results must not be more than GROWTH times the inputs */

static void become_constant(Module *m, Value *v, const void *data, size_t bytes) {
    ConstData *c = ARENA_NEW(&m->cx->arena, ConstData);
    *c = (ConstData){.data = data, .bytes = bytes};
    v->def->out[v->def_out] = NULL;
    v->def = NULL;
    v->def_out = 0;
    v->sym = NULL;
    v->n_sym = 0;
    v->data = c;
}

/* ---- contents that inference knows ---- */
static bool fits(DType d, int64_t x) {
    uint32_t bits = dtype_bits(d);
    if (d == DT_BOOL) return x == 0 || x == 1;
    if (dtype_class(d) == 'U') return x >= 0 && (bits == 64 || x >> bits == 0);
    return bits == 64 || (x >= -(INT64_C(1) << (bits - 1)) && x < INT64_C(1) << (bits - 1));
}

static bool fold_known(Module *m, Value *v) {
    Context *cx = m->cx;
    if (v != NULL && v->def != NULL && v->def->op == OP_BindDims) return false; /* what the file says about a size is to be checked by the run */
    if (v == NULL || v->sym == NULL || !type_is_static(cx, v->type) || dim_value(cx, type_numel(cx, v->type)) != v->n_sym) return false;
    DType d = v->type->dtype;
    for (uint32_t i = 0; i < v->n_sym; i++)
        if (!dim_is_const(cx, v->sym[i]) || !fits(d, dim_value(cx, v->sym[i]))) return false;
    size_t bytes = dtype_bytes(cx, d, v->n_sym);
    void *data = arena_alloc(&cx->arena, bytes);
    uint64_t mask = dtype_bits(d) == 64 ? UINT64_MAX : (UINT64_C(1) << dtype_bits(d)) - 1;
    for (uint32_t i = 0; i < v->n_sym; i++) number_set(data, d, i, (uint64_t)dim_value(cx, v->sym[i]) & mask);
    become_constant(m, v, data, bytes);
    return true;
}

/* ---- running a node ---- */
static bool plain_tensor(const Context *cx, const Value *v) {
    return type_is_static(cx, v->type) && v->type->dtype != DT_STRING && dtype_class(v->type->dtype) != 'C';
}

static size_t value_bytes(Context *cx, const Value *v) {
    return dtype_bytes(cx, v->type->dtype, dim_value(cx, type_numel(cx, v->type)));
}

/* All inputs constant, all outputs of known and moderate size. */
static bool foldable(Module *m, const Node *n) {
    Context *cx = m->cx;
    const OpInfo *op = op_info((Op)n->op);
    OpRules rules = op_rules((Op)n->op);
    if (!(op->flags & OPF_PURE) || (op->flags & (OPF_DYNSHAPE | OPF_REGION)) || (rules.define == NULL && rules.lower == NULL)) return false;
    size_t in = 0, out = 0;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (n->in[i] == NULL) continue;
        if (n->in[i]->data == NULL || !plain_tensor(cx, n->in[i])) return false;
        in += n->in[i]->data->bytes;
    }
    bool any = false;
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (n->out[i] == NULL) continue;
        if (n->out[i]->poison || !plain_tensor(cx, n->out[i])) return false;
        out += value_bytes(cx, n->out[i]);
        any = true;
    }
    return any && (out <= SMALL_BYTES || out / GROWTH <= in);
}

/* Memory for one kernel argument; constants of mapped files may stand at any address, kernels want aligned elements. */
static void *argument(Context *cx, const Value *v) {
    if (v->data == NULL) return arena_alloc(&cx->arena, value_bytes(cx, v));
    if (v->data->recipe != NULL) {
        ConstRoom room = {0};
        const_room_for(&cx->scratch, &room, v);
        return (void *)(uintptr_t)const_bytes(v, &room);
    }
    if ((uintptr_t)v->data->data % 16 == 0) return (void *)(uintptr_t)v->data->data;
    void *copy = arena_alloc(&cx->scratch, v->data->bytes);
    if (v->data->bytes != 0) memcpy(copy, v->data->data, v->data->bytes);
    return copy;
}

static bool run_node(Module *m, Node *n) {
    Context *cx = m->cx;
    LowerResult r;
    Kernel *k = lower_node(m, n, &r);
    if (k == NULL) return false;
    void **buf = ARENA_ARRAY(&cx->scratch, void *, k->n_arg);
    for (uint32_t i = 0; i < k->n_arg; i++) {
        if (!plain_tensor(cx, r.arg[i])) return false;
        buf[i] = argument(cx, r.arg[i]);
    }
    int64_t *dims = ARENA_ARRAY(&cx->scratch, int64_t, dim_symbol_count(cx)); /* all types are static: not read */
    if (kernel_interpret(cx, k, buf, dims) != LATHE_RT_OK) return false;     /* the program reports it when it gets there */
    for (uint32_t i = 0; i < n->n_out; i++) {
        Value *v = n->out[i];
        for (uint32_t a = 0; v != NULL && a < k->n_arg; a++) {
            if (r.arg[a] != v) continue;
            become_constant(m, v, buf[a], value_bytes(cx, v));
            break;
        }
    }
    return true;
}

static bool has_outputs(const Node *n) {
    for (uint32_t i = 0; i < n->n_out; i++)
        if (n->out[i] != NULL) return true;
    return false;
}

/* Transposed weights are large: moved directly, not by the interpreter. */
static bool move_elements(Module *m, Node *n) {
    const Type *t = n->in[0]->type;
    if (n->op != OP_Transpose || dtype_bits(t->dtype) < 8) return false;
    const Attr *a = attr_at(n, AT_Transpose_perm);
    uint32_t perm[RANK_MAX];
    for (uint32_t i = 0; i < t->rank; i++) {
        int64_t p = a->present && a->ints.n == t->rank ? a->ints.v[i] : (int64_t)t->rank - 1 - i;
        perm[i] = (uint32_t)(p < 0 ? p + t->rank : p);
    }
    become_constant(m, n->out[0], const_transpose(m->cx, n->in[0], perm), n->in[0]->data->bytes);
    return true;
}

bool fold_node(Module *m, Node *n) {
    bool changed = false;
    if (n->n_in == 0 && n->op == OP_Constant) return false; /* importers make these values */
    for (uint32_t i = 0; i < n->n_out; i++) changed |= fold_known(m, n->out[i]);
    if (has_outputs(n) && foldable(m, n)) changed |= move_elements(m, n) || run_node(m, n);
    if (changed && !has_outputs(n)) node_remove(n);
    return changed;
}

/* ---- nodes that turn into other nodes ---- */
static bool all_constant(const Node *n) {
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i] != NULL && n->in[i]->data == NULL) return false;
    return n->n_in != 0;
}

/* The condition of an If, when known: 0 or 1; -1 otherwise. */
static int known_condition(const Node *n) {
    if (n->op != OP_If || n->in[0] == NULL || n->in[0]->data == NULL) return -1;
    return const_i64(n->in[0], 0) != 0;
}

static void move_region(Graph *region, Node *before) {
    FOR_NODES(b, region) {
        for (uint32_t i = 0; i < b->n_attr; i++)
            if (b->attr[i].present && attr_kind(b, i) == ATTR_GRAPH) b->attr[i].graph->outer = before->graph;
        node_move_before(b, before);
    }
}

void if_take_branch(Module *m, Node *n, bool condition) {
    Graph *branch = attr_at(n, condition ? AT_If_then_branch : AT_If_else_branch)->graph;
    move_region(branch, n);
    for (uint32_t i = 0; i < n->n_out; i++)
        if (n->out[i] != NULL) node_forward_output(m, n, i, branch->out[i]);
    node_remove(n);
}

/* Replaces an operator that only has an expansion by it; the new nodes stand where n stood. */
static bool expand_constant(Module *m, Node *n) {
    OpRules rules = op_rules((Op)n->op);
    if (!all_constant(n) || rules.expand == NULL || rules.define != NULL || rules.lower != NULL) return false;
    Value **out = ARENA_ARRAY(&m->cx->scratch, Value *, n->n_out);
    if (!rules.expand(m, n, out)) return false;
    for (uint32_t i = 0; i < n->n_out; i++)
        if (n->out[i] != NULL) node_forward_output(m, n, i, out[i]);
    node_remove(n);
    return true;
}

typedef struct Folding { Module *m; bool changed, shapes; } Folding; /* shapes: only what sizes may depend on */

static void fold_graph(Folding *f, Graph *g);

static void fold_regions(Folding *f, Node *n) {
    for (uint32_t i = 0; i < n->n_attr; i++)
        if (n->attr[i].present && attr_kind(n, i) == ATTR_GRAPH) fold_graph(f, n->attr[i].graph);
}

/* May sizes depend on the node? Its constants are small. */
static bool is_shape_arithmetic(Context *cx, const Node *n) {
    for (uint32_t i = 0; i < n->n_out; i++) {
        const Value *v = n->out[i];
        if (v != NULL && (v->type == NULL || v->type->kind != TYPE_TENSOR || !type_is_static(cx, v->type) || value_bytes(cx, v) > SHAPE_BYTES)) return false;
    }
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i] != NULL && n->in[i]->data != NULL && n->in[i]->data->bytes > SHAPE_BYTES) return false;
    return true;
}

static void fold_graph(Folding *f, Graph *g) {
    Module *m = f->m;
    for (Node *n = g->first, *next; n != NULL; n = next) {
        Node *prev = n->prev;
        next = n->next;
        if (f->changed && !node_reinfer(m, n)) continue;
        int condition = known_condition(n);
        if (condition < 0 && f->shapes && !is_shape_arithmetic(m->cx, n)) {
            fold_regions(f, n);
            continue;
        }
        if (condition >= 0 || expand_constant(m, n)) {
            if (condition >= 0) if_take_branch(m, n, condition != 0);
            next = prev != NULL ? prev->next : g->first; /* on with what has taken its place */
            f->changed = true;
            continue;
        }
        if (fold_node(m, n)) f->changed = true;
        else fold_regions(f, n);
    }
}

bool pass_fold_consts(Context *cx, Module *m) {
    (void)cx;
    Folding f = {.m = m};
    fold_graph(&f, m->main);
    return f.changed;
}

/* Without fold_consts, what sizes depend on must still be known: a model compiles at every level or at none. */
bool pass_fold_shapes(Context *cx, Module *m) {
    (void)cx;
    Folding f = {.m = m, .shapes = true};
    if (!pass_enabled(m, "fold_consts")) fold_graph(&f, m->main);
    return f.changed;
}
