/* The public side of a model: creating it, the one setjmp of the project, diagnostics, and what it looks like from
 * outside (inputs, outputs, symbols, operators). Reading and compiling are in api/compile.c. */
#include "api/model.h"

#include <stdlib.h>

LatheOptions lathe_options(void) {
    return (LatheOptions){.opt_level = 2};
}

static LatheStatus make_module(LatheModel *m, void *name) {
    m->m = module_new(&m->cx, name);
    m->m->options = &m->options;
    return LATHE_OK;
}

LatheModel *lathe_model_new(const char *name) {
    LatheModel *m = calloc(1, sizeof *m);
    if (m == NULL) return NULL;
    context_init(&m->cx);
    m->options = lathe_options();
    if (model_enter(m, make_module, (void *)(uintptr_t)(name != NULL ? name : "model")) == LATHE_OK) return m;
    lathe_model_free(m);
    return NULL;
}

void lathe_model_free(LatheModel *m) {
    if (m == NULL) return;
    context_free(&m->cx);
    free(m);
}

LatheStatus model_status(const LatheModel *m) {
    return m->cx.n_error == 0 ? LATHE_OK : LATHE_ERROR_MODEL;
}

LatheStatus model_enter(LatheModel *m, ModelBody *body, void *user) {
    if (m == NULL || m->dead) return LATHE_ERROR_MODEL;
    jmp_buf here, *outer = m->cx.escape;
    m->cx.escape = &here;
    if (setjmp(here) == 0) {
        LatheStatus status = body(m, user);
        m->cx.escape = outer;
        return status;
    }
    m->cx.escape = outer;
    m->dead = true;
    return strcmp(m->cx.internal_error, "out of memory") == 0 ? LATHE_ERROR_FILE : LATHE_ERROR_MODEL;
}

typedef struct PrintRequest { FILE *to; } PrintRequest;

static LatheStatus print_diagnostics(LatheModel *m, void *user) {
    PrintRequest *r = user;
    Writer w = {.arena = &m->cx.arena};
    diag_print(&m->cx, &w);
    fputs(cw_cstr(&w), r->to);
    return LATHE_OK;
}

void lathe_print_diagnostics(const LatheModel *m, FILE *to) {
    if (m == NULL) {
        fputs("error: out of memory\n", to);
        return;
    }
    LatheModel *own = (LatheModel *)(uintptr_t)m; /* only its arena changes */
    bool dead = own->dead;
    own->dead = false; /* what was recorded before an escape is still worth reading */
    model_enter(own, print_diagnostics, &(PrintRequest){to});
    own->dead = dead;
    if (dead) fprintf(to, "error: %s\n", m->cx.internal_error);
}

uint32_t lathe_error_count(const LatheModel *m) {
    return m == NULL ? 1 : m->cx.n_error + (m->dead ? 1 : 0);
}

/* ---- what a model looks like from outside ----------------------------------------------------------------------- */
uint32_t lathe_input_count(const LatheModel *m) { return m->m->main->n_in - m->m->n_state; }
uint32_t lathe_output_count(const LatheModel *m) { return m->m->main->n_out - m->m->n_state_out; }

static void fill_dims(LatheModel *m, LatheTensorInfo *info, const Type *t) {
    Context *cx = &m->cx;
    for (uint32_t i = 0; i < info->rank; i++) {
        Dim d = t->dim[i];
        info->lo[i] = d != 0 ? dim_lo(cx, d) : 0;
        info->hi[i] = d != 0 && dim_hi(cx, d) != INT64_MAX ? dim_hi(cx, d) : -1;
        Writer w = {.arena = &cx->arena};
        if (d != 0) dim_print(cx, &w, d);
        else cw_printf(&w, "?");
        info->dim[i] = cw_cstr(&w);
    }
}

typedef struct InfoRequest { const Value *v; LatheTensorInfo info; } InfoRequest;

static LatheStatus fill_info(LatheModel *m, void *user) {
    InfoRequest *r = user;
    LatheTensorInfo *info = &r->info;
    info->name = str_text(&m->cx, r->v->name);
    const Type *t = r->v->type != NULL ? r->v->type : r->v->declared; /* outputs have no other before they are inferred */
    if (t != NULL && t->kind == TYPE_SEQUENCE) info->kind = 1;
    if (t != NULL && t->kind == TYPE_OPTIONAL) info->kind = t->elem->kind == TYPE_SEQUENCE ? 3 : 2;
    while (t != NULL && (t->kind == TYPE_SEQUENCE || t->kind == TYPE_OPTIONAL)) t = t->elem;
    if (t == NULL) return LATHE_OK;
    info->dtype = (LatheDType)dtype_to_onnx(t->dtype);
    info->open_rank = t->kind == TYPE_TENSOR && t->rank == RANK_UNKNOWN;
    info->rank = t->kind == TYPE_TENSOR && !info->open_rank ? t->rank : 0;
    fill_dims(m, info, t);
    return LATHE_OK;
}

static LatheTensorInfo value_info(const LatheModel *m, const Value *v) {
    InfoRequest r = {.v = v};
    model_enter((LatheModel *)(uintptr_t)m, fill_info, &r);
    return r.info;
}

LatheTensorInfo lathe_input_info(const LatheModel *m, uint32_t i) {
    return i < lathe_input_count(m) ? value_info(m, m->m->main->in[i]) : (LatheTensorInfo){0};
}

LatheTensorInfo lathe_output_info(const LatheModel *m, uint32_t i) {
    return i < lathe_output_count(m) ? value_info(m, m->m->main->out[i]) : (LatheTensorInfo){0};
}

/* ---- sequences and optionals as tensors --------------------------------------------------------------------------- */
static LatheGroup group_of(const struct ModelIo *io, uint32_t n_io, uint32_t n_tensor, uint32_t i) {
    if (io == NULL) return i < n_tensor ? (LatheGroup){.first = i, .n = 1} : (LatheGroup){0};
    if (i >= n_io) return (LatheGroup){0};
    LatheGroup g = {.first = io[i].first, .n = (i + 1 < n_io ? io[i + 1].first : n_tensor) - io[i].first};
    const Type *t = io[i].type;
    g.optional = t->kind == TYPE_OPTIONAL;
    if (g.optional) t = t->elem;
    g.sequence = t->kind == TYPE_SEQUENCE;
    if (g.sequence && t->elem->rank != RANK_UNKNOWN) g.rank = t->elem->rank;
    return g;
}

uint32_t lathe_input_group_count(const LatheModel *m) { return m->m == NULL ? 0 : m->m->io_in != NULL ? m->m->n_io_in : m->m->main->n_in; }
uint32_t lathe_output_group_count(const LatheModel *m) { return m->m == NULL ? 0 : m->m->io_out != NULL ? m->m->n_io_out : m->m->main->n_out; }
LatheGroup lathe_input_group(const LatheModel *m, uint32_t i) { return m->m == NULL ? (LatheGroup){0} : group_of(m->m->io_in, m->m->n_io_in, m->m->main->n_in, i); }
LatheGroup lathe_output_group(const LatheModel *m, uint32_t i) { return m->m == NULL ? (LatheGroup){0} : group_of(m->m->io_out, m->m->n_io_out, m->m->main->n_out, i); }

typedef struct ShapeRequest { uint32_t input, rank; const int64_t *dims; } ShapeRequest;

static const Type *with_shape(LatheModel *m, const Type *t, const ShapeRequest *r) {
    Context *cx = &m->cx;
    if (t->kind == TYPE_OPTIONAL) {
        const Type *elem = with_shape(m, t->elem, r);
        return elem != NULL ? type_optional(cx, elem) : NULL;
    }
    bool element = t->kind == TYPE_SEQUENCE;
    const Type *tensor = element ? t->elem : t;
    if (tensor->kind != TYPE_TENSOR || (tensor->rank != RANK_UNKNOWN && tensor->rank != r->rank)) return NULL;
    Dim dim[RANK_MAX];
    for (uint32_t d = 0; d < r->rank; d++) /* elements of a sequence may differ */
        dim[d] = tensor->rank != RANK_UNKNOWN && tensor->dim[d] != 0 ? tensor->dim[d] : element ? dim_runtime(cx, "element", 0, r->dims[d]) : dim_const(cx, r->dims[d]);
    tensor = type_tensor(cx, tensor->dtype, r->rank, dim);
    return element ? type_sequence(cx, tensor, t->length) : tensor;
}

static LatheStatus shape_input(LatheModel *m, void *user) {
    const ShapeRequest *r = user;
    Value *v = m->m->main->in[r->input];
    const Type *t = r->rank <= RANK_MAX && v->type != NULL ? with_shape(m, v->type, r) : NULL;
    if (t == NULL) {
        diag(&m->cx, SEV_ERROR, (Loc){0}, "input \"%s\" cannot have rank %u", str_text(&m->cx, v->name), r->rank);
        return LATHE_ERROR_USAGE;
    }
    v->type = t;
    return LATHE_OK;
}

LatheStatus lathe_shape_input(LatheModel *m, uint32_t i, uint32_t rank, const int64_t *dims) {
    ShapeRequest r = {i, rank, dims};
    return i < lathe_input_count(m) ? model_enter(m, shape_input, &r) : LATHE_ERROR_USAGE;
}

static Dim caller_symbol(const LatheModel *m, uint32_t i) {
    for (uint32_t s = 0; m->cx.dims != NULL && s < dim_symbol_count(&m->cx); s++) {
        Dim d = dim_symbol_at(&m->cx, s);
        if (!dim_node(&m->cx, d)->runtime && i-- == 0) return d;
    }
    return 0;
}

uint32_t lathe_symbol_count(const LatheModel *m) {
    uint32_t n = 0;
    while (caller_symbol(m, n) != 0) n++;
    return n;
}

LatheSymbolInfo lathe_symbol_info(const LatheModel *m, uint32_t i) {
    Dim d = caller_symbol(m, i);
    if (d == 0) return (LatheSymbolInfo){0};
    const DimNode *node = dim_node(&m->cx, d);
    return (LatheSymbolInfo){str_text(&m->cx, node->name), node->lo, node->hi == INT64_MAX ? -1 : node->hi};
}

/* ---- counting --------------------------------------------------------------------------------------------------- */
typedef struct OpCounts { uint32_t n[OP_COUNT]; } OpCounts;

static void count_ops(Graph *g, void *user) {
    OpCounts *counts = user;
    FOR_NODES(n, g) counts->n[n->op]++;
}

bool lathe_op_count(LatheModel *m, uint32_t i, LatheOpCount *count) {
    OpCounts counts = {{0}};
    graph_visit(m->m->main, count_ops, &counts);
    for (;; i--) {
        uint32_t best = 0;
        for (uint32_t op = 1; op < OP_COUNT; op++)
            if (counts.n[op] > counts.n[best]) best = op;
        if (counts.n[best] == 0) return false;
        if (i == 0) {
            *count = (LatheOpCount){domain_text(op_info((Op)best)->domain), op_name((Op)best), counts.n[best]};
            return true;
        }
        counts.n[best] = 0;
    }
}

typedef struct ParameterCount { LatheModel *m; uint64_t n; bool *seen; } ParameterCount;

static void count_value(ParameterCount *p, const Value *v) {
    if (!value_is_const(v) || p->seen[v->id]) return;
    p->seen[v->id] = true;
    if (dtype_is_float(v->type->dtype)) p->n += (uint64_t)dim_value(&p->m->cx, type_numel(&p->m->cx, v->type));
}

static void count_parameters(Graph *g, void *user) {
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_in; i++) count_value(user, n->in[i]);
    }
    for (uint32_t i = 0; i < g->n_out; i++) count_value(user, g->out[i]);
}

static LatheStatus visit_parameters(LatheModel *m, void *user) {
    ParameterCount *p = user;
    p->seen = ARENA_ARRAY(&m->cx.scratch, bool, m->m->n_value);
    graph_visit(m->m->main, count_parameters, p);
    return LATHE_OK;
}

uint64_t lathe_parameter_count(const LatheModel *m) {
    ParameterCount p = {.m = (LatheModel *)(uintptr_t)m};
    model_enter(p.m, visit_parameters, &p);
    return p.n;
}

LatheStats lathe_stats(const LatheModel *m) {
    return m->stats;
}
