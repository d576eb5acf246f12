/* The C DSL's core: handles, scopes, inputs and outputs, and the one function that makes nodes. Layers are in dsl_layers.c,
 * dsl_ops.c, dsl_shape.c and dsl_sequence.c, parameters in dsl_param.c and dsl_init.c, weight files in dsl_weights.c. */
#include "frontend/dsl.h"

#include <ctype.h>
#include <stdio.h>

/* ---- handles ---------------------------------------------------------------------------------------------------- */
Builder *dsl_builder(LatheModel *m) {
    if (m->builder == NULL) m->builder = ARENA_NEW(&m->cx.arena, Builder);
    return m->builder;
}

static bool alive(LatheValue v) {
    return v.id != 0 && v.model != NULL && !v.model->dead && v.model->builder != NULL && v.id <= v.model->builder->values.n;
}

Value *dsl_value(LatheValue v) {
    Value *value = alive(v) ? v.model->builder->values.v[v.id - 1] : NULL;
    return value != NULL && !value->poison ? value : NULL;
}

LatheValue dsl_handle(LatheModel *m, Value *v) {
    if (v == NULL || v->poison) return (LatheValue){0};
    Builder *b = dsl_builder(m);
    vec_push(&m->cx.arena, &b->values, v);
    return (LatheValue){m, b->values.n};
}

const Type *dsl_type(LatheValue v) {
    const Value *value = dsl_value(v);
    return value != NULL ? value->type : NULL;
}

DType dsl_dtype(LatheValue v) {
    const Type *t = dsl_type(v);
    return t != NULL ? t->dtype : DT_NONE;
}

bool lathe_is_null(LatheValue v) {
    return dsl_value(v) == NULL;
}

LatheDType lathe_dtype(LatheValue v) {
    const Type *t = dsl_type(v);
    return t != NULL ? (LatheDType)dtype_to_onnx(t->dtype) : (LatheDType)0;
}

uint32_t lathe_rank(LatheValue v) {
    const Type *t = dsl_type(v);
    return t != NULL && t->rank != RANK_UNKNOWN ? t->rank : 0;
}

LatheDim lathe_dim_of(LatheValue v, int64_t axis) {
    const Type *t = dsl_type(v);
    int64_t rank = lathe_rank(v);
    if (axis < 0) axis += rank;
    if (t == NULL || axis < 0 || axis >= rank || t->dim[axis] == 0) return (LatheDim){0};
    Dim d = t->dim[axis];
    if (dim_is_const(&v.model->cx, d)) return (LatheDim){.size = dim_value(&v.model->cx, d)};
    return (LatheDim){.symbol = d};
}

int64_t lathe_size_of(LatheValue v, int64_t axis) {
    const Type *t = dsl_type(v);
    int64_t rank = lathe_rank(v);
    if (axis < 0) axis += rank;
    if (t == NULL || axis < 0 || axis >= rank || t->dim[axis] == 0) return -1;
    return dim_is_const(&v.model->cx, t->dim[axis]) ? dim_value(&v.model->cx, t->dim[axis]) : -1;
}

/* ---- scopes and names ------------------------------------------------------------------------------------------- */
Str dsl_scoped(LatheModel *m, const char *name) {
    Builder *b = dsl_builder(m);
    if (b->scopes.n == 0) return str_intern(&m->cx, name);
    Writer w = {.arena = &m->cx.arena};
    cw_printf(&w, "%s%s", str_text(&m->cx, b->scopes.v[b->scopes.n - 1]), name);
    return str_intern(&m->cx, cw_cstr(&w));
}

static LatheStatus open_scope(LatheModel *m, void *name) {
    Writer w = {.arena = &m->cx.arena};
    cw_printf(&w, "%s/", (const char *)name);
    Str prefix = dsl_scoped(m, cw_cstr(&w));
    Builder *b = dsl_builder(m);
    vec_push(&m->cx.arena, &b->scopes, prefix);
    return LATHE_OK;
}

void lathe_scope(LatheModel *m, const char *format, ...) {
    char name[256];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    model_enter(m, open_scope, name);
}

static LatheStatus close_scope(LatheModel *m, void *user) {
    (void)user;
    Builder *b = dsl_builder(m);
    if (b->scopes.n != 0) b->scopes.n--;
    else diag(&m->cx, SEV_ERROR, (Loc){0}, "lathe_end_scope without a lathe_scope before it");
    return LATHE_OK;
}

void lathe_end_scope(LatheModel *m) {
    model_enter(m, close_scope, NULL);
}

/* "relu_2" for the second Relu without a name: what the next one will be called. */
static Str automatic_name(LatheModel *m, Op op) {
    Writer w = {.arena = &m->cx.arena};
    for (const char *p = op_name(op); *p != 0; p++) {
        bool word = p != op_name(op) && isupper((unsigned char)p[0]) && islower((unsigned char)p[-1]);
        cw_printf(&w, "%s%c", word ? "_" : "", tolower((unsigned char)*p));
    }
    cw_printf(&w, "_%u", dsl_builder(m)->count[op] + 1);
    return dsl_scoped(m, cw_cstr(&w));
}

static Str layer_name(LatheModel *m, Op op, const char *name) {
    return name != NULL ? dsl_scoped(m, name) : automatic_name(m, op);
}

typedef struct NameRequest { Value *v; const char *name; } NameRequest;

static LatheStatus name_value(LatheModel *m, void *user) {
    NameRequest *r = user;
    r->v->name = dsl_scoped(m, r->name);
    return LATHE_OK;
}

LatheValue lathe_name(LatheValue v, const char *name) {
    Value *value = dsl_value(v);
    if (value != NULL) model_enter(v.model, name_value, &(NameRequest){value, name});
    return v;
}

typedef struct FindRequest { const char *name; Value *found; LatheValue handle; } FindRequest;

static void find_value(FindRequest *r, const Context *cx, Value *v) {
    if (r->found == NULL && v != NULL && v->name != 0 && strcmp(str_text(cx, v->name), r->name) == 0) r->found = v;
}

static LatheStatus find_named(LatheModel *m, void *user) {
    FindRequest *r = user;
    const Graph *g = m->m->main;
    for (uint32_t i = 0; i < g->n_in; i++) find_value(r, &m->cx, g->in[i]);
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_in; i++) find_value(r, &m->cx, n->in[i]);
        for (uint32_t i = 0; i < n->n_out; i++) find_value(r, &m->cx, n->out[i]);
    }
    for (uint32_t i = 0; i < g->n_out; i++) find_value(r, &m->cx, g->out[i]);
    if (r->found == NULL) diag(&m->cx, SEV_ERROR, (Loc){0}, "the model has no value called \"%s\"", r->name);
    r->handle = dsl_handle(m, r->found);
    return LATHE_OK;
}

LatheValue lathe_find(LatheModel *m, const char *name) {
    FindRequest r = {.name = name};
    model_enter(m, find_named, &r);
    return r.handle;
}

/* ---- diagnostics ------------------------------------------------------------------------------------------------ */
bool lathe_diagnostic(const LatheModel *m, uint32_t i, LatheDiagnostic *d) {
    if (m == NULL || i >= m->cx.diags.n) return false;
    const Diag *from = &m->cx.diags.v[i];
    *d = (LatheDiagnostic){.severity = (LatheSeverity)from->severity, .op = str_text(&m->cx, from->loc.op),
                           .layer = str_text(&m->cx, from->loc.node), .message = from->message};
    return true;
}

typedef struct ProblemRequest { Severity severity; Op op; const char *name, *message; } ProblemRequest;

static LatheStatus record_problem(LatheModel *m, void *user) {
    ProblemRequest *r = user;
    Loc loc = {0};
    if (r->op != OP_NONE) loc = (Loc){.op = str_intern(&m->cx, op_name(r->op)), .node = layer_name(m, r->op, r->name)};
    diag(&m->cx, r->severity, loc, "%s", r->message);
    return LATHE_OK;
}

void dsl_problem(LatheModel *m, Severity severity, Op op, const char *name, const char *format, ...) {
    char message[512];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    model_enter(m, record_problem, &(ProblemRequest){severity, op, name, message});
}

typedef struct TypeText { const Type *type; const char *text; } TypeText;

static LatheStatus print_type(LatheModel *m, void *user) {
    TypeText *r = user;
    Writer w = {.arena = &m->cx.arena};
    type_print(&m->cx, &w, r->type);
    r->text = cw_cstr(&w);
    return LATHE_OK;
}

const char *dsl_type_text(LatheValue v) {
    TypeText r = {.type = dsl_type(v), .text = "?"};
    if (r.type != NULL) model_enter(v.model, print_type, &r);
    return r.text;
}

bool dsl_check_rank(LatheValue x, Op op, const char *name, uint32_t lo, uint32_t hi, const char *takes) {
    if (lathe_is_null(x)) return false;
    uint32_t rank = lathe_rank(x);
    if (rank >= lo && rank <= hi) return true;
    dsl_problem(x.model, SEV_ERROR, op, name, "takes %s, its input is %s", takes, dsl_type_text(x));
    return false;
}

int64_t dsl_channels(LatheValue x, int64_t axis, Op op, const char *name, int64_t declared) {
    if (lathe_is_null(x)) return -1;
    int64_t n = lathe_size_of(x, axis);
    long long at = (long long)(axis < 0 ? axis + lathe_rank(x) : axis);
    if (n < 0) {
        dsl_problem(x.model, SEV_ERROR, op, name, "dim %lld of its input %s must be a fixed size: the layer's parameters depend on it", at, dsl_type_text(x));
    } else if (declared != 0 && declared != n) {
        dsl_problem(x.model, SEV_ERROR, op, name, "was told in = %lld, but dim %lld of its input %s is %lld", (long long)declared, at, dsl_type_text(x), (long long)n);
    }
    return n;
}

bool dsl_check_positive(LatheModel *m, Op op, const char *name, const char *what, int64_t n) {
    if (n > 0) return true;
    dsl_problem(m, SEV_ERROR, op, name, "%s is %lld, it must be positive", what, (long long)n);
    return false;
}

static bool passes_through(uint16_t op) {
    return op == OP_Dropout || op == OP_Identity || op == OP_Flatten || op == OP_Reshape;
}

void dsl_warn_softmax(LatheValue x, Op op, const char *name) {
    const Value *v = dsl_value(x);
    while (v != NULL && v->def != NULL && passes_through(v->def->op)) v = v->def->in[0];
    if (v == NULL || v->def == NULL || (v->def->op != OP_Softmax && v->def->op != OP_LogSoftmax)) return;
    dsl_problem(x.model, SEV_WARNING, op, name, "its input comes from \"%s\": a softmax belongs at the end of a classifier or inside attention, not before a hidden layer",
                str_text(&x.model->cx, v->def->loc.node));
}

/* ---- inputs and outputs ----------------------------------------------------------------------------------------- */
typedef struct InputRequest {
    const char *name;
    DType dtype;
    uint32_t rank;
    const LatheDim *dims;
    int64_t lo, hi;
    LatheValue out;
    LatheDim dim;
} InputRequest;

LatheDim lathe_const_dim(int64_t n) {
    return (LatheDim){.size = n};
}

static LatheStatus make_dim(LatheModel *m, void *user) {
    InputRequest *r = user;
    if (r->lo < 0 || r->hi < r->lo || r->name[0] == 0) {
        diag(&m->cx, SEV_ERROR, (Loc){0}, "dim \"%s\": bounds %lld..%lld; a name and 0 <= low <= high are needed", r->name, (long long)r->lo, (long long)r->hi);
        return LATHE_ERROR_MODEL;
    }
    r->dim = (LatheDim){.symbol = dim_symbol(&m->cx, str_intern(&m->cx, r->name), r->lo, r->hi)};
    return LATHE_OK;
}

LatheDim lathe_dim(LatheModel *m, const char *name, int64_t lo, int64_t hi) {
    InputRequest r = {.name = name, .lo = lo, .hi = hi, .dim = {.size = 1}};
    model_enter(m, make_dim, &r);
    return r.dim;
}

static bool input_is_wrong(LatheModel *m, const InputRequest *r) {
    uint32_t before = m->cx.n_error;
    Loc loc = {.op = str_intern(&m->cx, "input"), .node = str_intern(&m->cx, r->name)};
    if (m->compiled) diag(&m->cx, SEV_ERROR, loc, "this model was compiled, nothing can be added to it");
    if (r->dtype == DT_NONE) diag(&m->cx, SEV_ERROR, loc, "unknown element type");
    if (r->rank > RANK_MAX) diag(&m->cx, SEV_ERROR, loc, "rank %u, at most %d is supported", r->rank, RANK_MAX);
    for (uint32_t i = 0; i < r->rank && r->rank <= RANK_MAX; i++)
        if (r->dims[i].symbol == 0 && r->dims[i].size < 0) diag(&m->cx, SEV_ERROR, loc, "dim %u is %lld, it must not be negative", i, (long long)r->dims[i].size);
    for (uint32_t i = 0; i < m->m->main->n_in; i++)
        if (m->m->main->in[i]->name == loc.node) diag(&m->cx, SEV_ERROR, loc, "a second input of this name");
    return m->cx.n_error != before;
}

static LatheStatus make_input(LatheModel *m, void *user) {
    InputRequest *r = user;
    if (input_is_wrong(m, r)) return LATHE_ERROR_MODEL;
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < r->rank; i++) dim[i] = r->dims[i].symbol != 0 ? r->dims[i].symbol : dim_const(&m->cx, r->dims[i].size);
    const Type *type = type_tensor(&m->cx, r->dtype, r->rank, dim);
    r->out = dsl_handle(m, graph_add_input(m->m, m->m->main, type, str_intern(&m->cx, r->name)));
    return LATHE_OK;
}

LatheValue lathe_input(LatheModel *m, const char *name, LatheDType dtype, uint32_t rank, const LatheDim *dims) {
    InputRequest r = {.name = name, .dtype = dtype_from_onnx((int32_t)dtype), .rank = rank, .dims = dims};
    model_enter(m, make_input, &r);
    return r.out;
}

/* An output that is an input, a constant or already an output under another name gets a value of its own. */
static LatheStatus make_output(LatheModel *m, void *user) {
    NameRequest *r = user;
    Graph *g = m->m->main;
    Str name = str_intern(&m->cx, r->name);
    bool taken = r->v->def == NULL;
    for (uint32_t i = 0; i < g->n_out; i++) {
        taken |= g->out[i] == r->v;
        if (g->out[i]->name == name) diag(&m->cx, SEV_ERROR, (Loc){.op = str_intern(&m->cx, "output"), .node = name}, "a second output of this name");
    }
    if (taken) {
        Node *copy = node_new(m->m, g, NULL, OP_Identity, 1, &r->v, 1);
        copy->loc.node = name;
        node_infer(m->m, copy);
        r->v = copy->out[0];
    }
    r->v->name = name;
    graph_add_output(m->m, g, r->v);
    return LATHE_OK;
}

LatheValue lathe_output(const char *name, LatheValue v) {
    Value *value = dsl_value(v);
    if (value == NULL) return v;
    const Node *def = value->def;
    if (def != NULL && def->op == OP_Dropout && def->in[0]->def != NULL && def->in[0]->def->op == OP_Softmax)
        dsl_problem(v.model, SEV_WARNING, OP_NONE, NULL, "output \"%s\" is a dropout of a softmax: probabilities that do not add up to 1; drop out before the last layer", name);
    model_enter(v.model, make_output, &(NameRequest){value, name});
    return v;
}

/* ---- nodes ------------------------------------------------------------------------------------------------------ */
static DslAttr *next_attr(DslNode *spec, AttrSlot slot, AttrKind kind) {
    DslAttr *a = &spec->attr[spec->n_attr++];
    a->slot = slot;
    a->kind = kind;
    return a;
}

void dsl_int(DslNode *spec, AttrSlot slot, int64_t i) { next_attr(spec, slot, ATTR_INT)->i = i; }
void dsl_float(DslNode *spec, AttrSlot slot, double f) { next_attr(spec, slot, ATTR_FLOAT)->f = (double)(float)f; }
void dsl_string(DslNode *spec, AttrSlot slot, const char *s) { next_attr(spec, slot, ATTR_STRING)->s = s; }

void dsl_ints(DslNode *spec, AttrSlot slot, uint32_t n, const int64_t *v) {
    DslAttr *a = next_attr(spec, slot, ATTR_INTS);
    a->n = n < DSL_INTS ? n : DSL_INTS;
    memcpy(a->ints, v, a->n * sizeof *v);
}

static void set_attr(Context *cx, Node *n, const DslAttr *a) {
    switch (a->kind) {
    case ATTR_INT: attr_set_i(n, a->slot, a->i); break;
    case ATTR_FLOAT: attr_set_f(n, a->slot, a->f); break;
    case ATTR_STRING: attr_set_s(n, a->slot, str_intern(cx, a->s)); break;
    case ATTR_INTS: attr_set_ints(cx, n, a->slot, a->ints, a->n); break;
    case ATTR_FLOATS: case ATTR_STRINGS: case ATTR_TENSOR: case ATTR_GRAPH: case ATTR_TYPE: break;
    }
}

typedef struct NodeRequest { const DslNode *spec; LatheValue *out; } NodeRequest;

static LatheStatus make_node(LatheModel *m, void *user) {
    const NodeRequest *r = user;
    const DslNode *spec = r->spec;
    Context *cx = &m->cx;
    if (m->compiled) {
        diag(cx, SEV_ERROR, (Loc){0}, "this model was compiled, nothing can be added to it");
        return LATHE_ERROR_USAGE;
    }
    Value **in = ARENA_ARRAY(&cx->arena, Value *, spec->n_in);
    uint32_t n_in = 0;
    for (uint32_t i = 0; i < spec->n_in; i++) {
        in[i] = dsl_value(spec->in[i]);
        if (in[i] != NULL) n_in = i + 1;
    }
    uint32_t n_out = spec->n_out != 0 ? spec->n_out : 1;
    Node *n = node_new(m->m, m->m->main, NULL, spec->op, n_in, in, n_out);
    n->loc.node = layer_name(m, spec->op, spec->name);
    if (spec->name == NULL) dsl_builder(m)->count[spec->op]++;
    n->loc.index = n->id;
    for (uint32_t i = 0; i < spec->n_attr; i++) set_attr(cx, n, &spec->attr[i]);
    bool good = node_infer(m->m, n);
    for (uint32_t i = 0; i < n_out; i++) r->out[i] = dsl_handle(m, n->out[i]);
    if (!good && spec->recover != NULL) r->out[0] = *spec->recover;
    return LATHE_OK;
}

/* All inputs that must be there are, and belong to m. */
static bool inputs_ready(LatheModel *m, const DslNode *spec) {
    for (uint32_t i = 0; i < spec->n_in; i++) {
        if (dsl_value(spec->in[i]) == NULL) {
            if (spec->in[i].id == 0 && (spec->optional >> i & 1)) continue;
            return false;
        }
        if (spec->in[i].model == m) continue;
        dsl_problem(m, SEV_ERROR, spec->op, spec->name, "input %u is a value of another model", i);
        return false;
    }
    return true;
}

void dsl_node_outputs(LatheModel *m, const DslNode *spec, LatheValue *out) {
    for (uint32_t i = 0; i < (spec->n_out != 0 ? spec->n_out : 1); i++) out[i] = (LatheValue){0};
    if (m != NULL && !m->dead && inputs_ready(m, spec)) model_enter(m, make_node, &(NodeRequest){spec, out});
}

LatheValue dsl_node(LatheModel *m, const DslNode *spec) {
    LatheValue out;
    dsl_node_outputs(m, spec, &out);
    return out;
}

LatheValue dsl_unary(Op op, LatheValue x) {
    return dsl_node(x.model, &(DslNode){.op = op, .n_in = 1, .in = &x, .recover = &x});
}

/* Operands that do not fit: going on with the one of higher rank finds more mistakes than stopping. */
LatheValue dsl_binary(Op op, LatheValue a, LatheValue b) {
    const LatheValue *recover = lathe_rank(a) >= lathe_rank(b) ? &a : &b;
    return dsl_node(a.model, &(DslNode){.op = op, .n_in = 2, .in = (LatheValue[]){a, b}, .recover = recover});
}
