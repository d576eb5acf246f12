/* Lowering: rules of ops.def to kernels. See lower.h for how rules are written.
 *
 * A Fused node's body is lowered into one kernel. Its members are pointwise operators and moves (define rules) plus at
 * most one anchor (a lower rule), or a convolution whose only reader is the anchor. Reading an internal value calls its definition, so producers melt into the anchor;
 * when the anchor stores its result, every output of the body is computed from the stored element at the same index. */
#include "passes/lower.h"

#include <ctype.h>


/* Definitions already evaluated in this kernel: internal values read twice at one index give one expression. */
typedef struct DefineMemo {
    const Value *value;
    uint64_t hash;
    Expr *const *idx;
    Expr *e;
} DefineMemo;

typedef struct LowerState { /* what Lower keeps to itself */
    Lower lo;
    DefineMemo *memo;
    uint32_t n_memo, n_slot;
    const Value **alias;    /* by value id < n_alias: body inputs and outputs stand for the fused node's */
    uint32_t n_alias;
    VEC(Value *) arg;       /* values of the kernel's arguments */
    const Node *anchor;
    VEC(LowerDim) dims;
} LowerState;

static LowerState *state(Lower *lo) { return (LowerState *)(void *)lo; }

static uint64_t hash_index(const Value *v, Expr *const *idx) {
    uint64_t h = v->id;
    for (uint32_t i = 0; i < v->type->rank; i++) h = hash_mix(h, idx[i]->id);
    return h | 1;
}

static Expr *memo_find(LowerState *s, const Value *v, Expr *const *idx, uint64_t h) {
    if (s->n_slot == 0) return NULL;
    for (uint32_t i = (uint32_t)h & (s->n_slot - 1); s->memo[i].value != NULL; i = (i + 1) & (s->n_slot - 1)) {
        const DefineMemo *m = &s->memo[i];
        if (m->value != v || m->hash != h) continue;
        if (v->type->rank == 0 || memcmp(m->idx, idx, v->type->rank * sizeof *idx) == 0) return m->e;
    }
    return NULL;
}

static void memo_add(LowerState *s, const Value *v, Expr *const *idx, uint64_t h, Expr *e) {
    Arena *a = &s->lo.cx->arena;
    if ((s->n_memo + 1) * 2 > s->n_slot) {
        DefineMemo *old = s->memo;
        uint32_t n_old = s->n_slot;
        s->n_slot = n_old != 0 ? n_old * 2 : 64;
        s->memo = ARENA_ARRAY(a, DefineMemo, s->n_slot);
        for (uint32_t k = 0; k < n_old; k++) {
            if (old[k].value == NULL) continue;
            uint32_t i = (uint32_t)old[k].hash & (s->n_slot - 1);
            while (s->memo[i].value != NULL) i = (i + 1) & (s->n_slot - 1);
            s->memo[i] = old[k];
        }
    }
    Expr **own = ARENA_ARRAY(a, Expr *, v->type->rank);
    for (uint32_t i = 0; i < v->type->rank; i++) own[i] = idx[i];
    uint32_t i = (uint32_t)h & (s->n_slot - 1);
    while (s->memo[i].value != NULL) i = (i + 1) & (s->n_slot - 1);
    s->memo[i] = (DefineMemo){v, h, own, e};
    s->n_memo++;
}

static void memo_clear(LowerState *s) {
    if (s->n_memo != 0) memset(s->memo, 0, s->n_slot * sizeof *s->memo);
    s->n_memo = 0;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */
static const Value *resolve(LowerState *s, const Value *v) {
    while (v->id < s->n_alias && s->alias[v->id] != NULL) v = s->alias[v->id];
    return v;
}

static bool inside(const Lower *lo, const Value *v) {
    return lo->body != NULL && v->def != NULL && v->def->graph == lo->body;
}

static bool written(const Lower *lo, const Value *v) {
    for (uint32_t i = 0; i < lo->node->n_out; i++)
        if (lo->node->out[i] == v) return true;
    return false;
}

static uint32_t add_arg(LowerState *s, const Value *v, BufKind kind) {
    Lower *lo = &s->lo;
    if (lo->buf_of[v->id] != 0) return lo->buf_of[v->id] - 1;
    Kernel *k = lo->k;
    /* Arguments stand in front of locals; rules that use arrays call lower_array after touching all operands or
     * live with the renumbering done in finish(). */
    Buf b = {.kind = kind, .dtype = v->type->dtype, .rank = v->type->rank, .dim = v->type->dim, .value = (Value *)(uintptr_t)v};
    uint32_t id = kernel_add_buf(k, lo->cx, b);
    lo->buf_of[v->id] = id + 1;
    return id;
}

bool lower_computes(Lower *lo, const Value *v) {
    v = resolve(state(lo), v);
    return inside(lo, v) && v->def != state(lo)->anchor && op_rules(v->def->op).define != NULL;
}

uint32_t lower_buf(Lower *lo, const Value *v) {
    LowerState *s = state(lo);
    v = resolve(s, v);
    return add_arg(s, v, written(lo, v) ? BUF_OUT : BUF_IN);
}

uint32_t lower_view(Lower *lo, const Value *v, uint32_t rank, const Dim *dim) {
    v = resolve(state(lo), v);
    Dim *own = ARENA_ARRAY(&lo->cx->arena, Dim, rank);
    memcpy(own, dim, rank * sizeof *own);
    Buf b = {.kind = written(lo, v) ? BUF_OUT : BUF_IN, .dtype = v->type->dtype, .rank = (uint8_t)rank, .dim = own, .value = (Value *)(uintptr_t)v};
    return kernel_add_buf(lo->k, lo->cx, b);
}

uint32_t lower_flat(Lower *lo, const Value *v) {
    Dim n = type_numel(lo->cx, resolve(state(lo), v)->type);
    return lower_view(lo, v, 1, &n);
}

uint32_t lower_constant(Lower *lo, const Value *v) { return lower_view(lo, v, v->type->rank, v->type->dim); }

static Expr *constant_element(Lower *lo, const Value *v, int64_t i) {
    DType d = v->type->dtype, c = dtype_compute(d);
    if (d == DT_STRING || dtype_class(d) == 'C') return NULL;
    return dtype_is_float(c) ? ex_f(lo->cx, c, const_f64(v, i)) : ex_i(lo->cx, c, const_i64(v, i));
}

enum { LONG_ENOUGH_TO_COUNT = 16 };

/* 0, 1, 2 … along one axis, as class numbers and positions are: an element is its index, which costs no memory and no load. */
static Expr *counted_element(Lower *lo, const Value *v, Expr *const *idx) {
    Context *cx = lo->cx;
    const Type *t = v->type;
    if (t->dtype != DT_I64 && t->dtype != DT_I32) return NULL;
    int64_t count = 1;
    Expr *at = NULL;
    for (uint32_t i = 0; i < t->rank; i++) {
        if (!dim_is_const(cx, t->dim[i])) return NULL;
        if (dim_value(cx, t->dim[i]) == 1) continue;
        if (at != NULL) return NULL;
        at = idx[i];
        count = dim_value(cx, t->dim[i]);
    }
    if (at == NULL || count < LONG_ENOUGH_TO_COUNT) return NULL;
    for (int64_t i = 0; i < count; i++)
        if (const_i64(v, i) != i) return NULL;
    return ex_cast(lo->k, cx, t->dtype, at);
}

Expr *lower_load(Lower *lo, const Value *v, Expr *const *idx) {
    LowerState *s = state(lo);
    Context *cx = lo->cx;
    v = resolve(s, v);
    uint32_t rank = v->type->rank;
    if (v == lo->bound) {
        for (uint32_t i = 0; i < rank; i++) CHECK(cx, idx[i] == lo->bound_idx[i] || v->type->dim[i] == dim_const(cx, 1));
        return lo->bound_val;
    }
    if (v->data != NULL) {
        Dim n = type_numel(cx, v->type);
        if (dim_is_const(cx, n) && dim_value(cx, n) == 1) {
            Expr *e = constant_element(lo, v, 0);
            if (e != NULL) return e;
        }
        Expr *counted = counted_element(lo, v, idx);
        if (counted != NULL) return counted;
    }
    if (v->sym != NULL && rank <= 1 && v->type->dtype == DT_I64) {
        if (v->n_sym == 1) return ex_dim(cx, v->sym[0]);
        if (rank == 1 && idx[0]->kind == E_CONST && idx[0]->c.i >= 0 && idx[0]->c.i < v->n_sym) return ex_dim(cx, v->sym[idx[0]->c.i]);
    }
    DefineFn *define = inside(lo, v) && v->def != s->anchor ? op_rules(v->def->op).define : NULL;
    if (define != NULL) {
        uint64_t h = hash_index(v, idx);
        Expr *e = memo_find(s, v, idx, h);
        if (e != NULL) return e;
        const Node *outer = lo->current;
        lo->current = v->def;
        e = define(lo, v->def, v->def_out, idx);
        lo->current = outer;
        e = ex_cast(lo->k, cx, dtype_compute(v->type->dtype), e);
        e = ex_round_to(lo->k, cx, v->type->dtype, e);
        memo_add(s, v, idx, h, e);
        return e;
    }
    Expr *zero[RANK_MAX];
    for (uint32_t i = 0; i < rank; i++) {
        bool one = dim_is_const(cx, v->type->dim[i]) && dim_value(cx, v->type->dim[i]) == 1;
        zero[i] = one ? ex_i64(cx, 0) : idx[i];
    }
    return ex_load(lo->k, cx, lower_buf(lo, v), zero);
}

Expr *lower_load_scalar(Lower *lo, const Value *v) {
    Expr *idx[RANK_MAX];
    for (uint32_t i = 0; i < v->type->rank; i++) {
        Dim d = v->type->dim[i];
        idx[i] = ex_i64(lo->cx, 0);
        if (dim_hi(lo->cx, d) < 1) diag(lo->cx, SEV_ERROR, lo->current->loc, "an operand that must be a number has no elements");
        else if (dim_lo(lo->cx, d) < 1) idx[i] = lx_2(lo, FN_INDEX, lx_select(lo, lx_2(lo, FN_GT, lx_dim(lo, d), idx[i]), idx[i], lx_i(lo, -1)), lx_dim(lo, d));
    }
    return lower_load(lo, v, idx);
}

Expr *lower_load_broadcast(Lower *lo, const Value *v, uint32_t rank, Expr *const *idx) {
    Expr *own[RANK_MAX];
    uint32_t r = v->type->rank;
    for (uint32_t i = 0; i < r; i++) {
        Dim d = v->type->dim[i];
        own[i] = dim_is_const(lo->cx, d) && dim_value(lo->cx, d) == 1 ? ex_i64(lo->cx, 0) : idx[i + rank - r];
    }
    return lower_load(lo, v, own);
}

Expr *lower_load_element(Lower *lo, const Value *v, int64_t i) {
    uint32_t n;
    const Dim *dims = value_dims(lo->m, v, &n);
    if (dims != NULL) return ex_dim(lo->cx, dims[i]);
    Expr *idx = ex_i64(lo->cx, i);
    return ex_cast(lo->k, lo->cx, DT_I64, lower_load(lo, v, &idx));
}

Expr *lx_2(Lower *lo, Fn fn, Expr *a, Expr *b) {
    Expr *e = ex_2(lo->k, lo->cx, fn, a, b);
    if (fn != FN_INDEX || e->kind != E_FN || e->fn != FN_INDEX) return e;
    for (uint32_t i = 0; i < lo->checked.n; i++)
        if (lo->checked.v[i] == lo->current) return e;
    vec_push(&lo->cx->arena, &lo->checked, lo->current);
    return e;
}

/* ---- statements -------------------------------------------------------------------------------------------------- */
static Stmt *emit(Lower *lo, Stmt st) {
    Stmt *s = ARENA_NEW(&lo->cx->arena, Stmt);
    *s = st;
    Stmt ***tail = &lo->tail.v[lo->tail.n - 1];
    **tail = s;
    *tail = &s->next;
    return s;
}

Stmt *lower_emit(Lower *lo, Stmt st) { return emit(lo, st); }

static Expr **copy_index(Lower *lo, uint32_t rank, Expr *const *idx) {
    Expr **own = ARENA_ARRAY(&lo->cx->arena, Expr *, rank);
    for (uint32_t i = 0; i < rank; i++) own[i] = idx[i];
    return own;
}

void lower_store_buf(Lower *lo, uint32_t buf, Expr *const *idx, Fn reduce, Expr *val) {
    const Buf *b = &lo->k->buf[buf];
    val = ex_cast(lo->k, lo->cx, dtype_compute(b->dtype), val);
    if (reduce == FN_NONE && val->kind == E_FN && val->fn == FN_ROUND_TO && val->c.i == (int64_t)b->dtype) val = val->arg[0]; /* the store rounds */
    emit(lo, (Stmt){.kind = S_STORE, .buf = buf, .idx = copy_index(lo, b->rank, idx), .val = val, .reduce = (uint16_t)reduce});
}

Expr *lower_load_buf(Lower *lo, uint32_t buf, Expr *const *idx) { return ex_load(lo->k, lo->cx, buf, idx); }

static void store_to(Lower *lo, const Value *v, Expr *const *idx, Fn reduce, Expr *val) {
    LowerState *s = state(lo);
    v = resolve(s, v);
    lower_store_buf(lo, add_arg(s, v, BUF_OUT), idx, reduce, val);
}

/* Several outputs at one index: all are computed before the first is stored, so that each may take the place of an input. */
static void store_all(Lower *lo, uint32_t n, Value *const *to, Expr **e, Expr *const *idx) {
    for (uint32_t i = 0; n > 1 && i < n; i++) e[i] = lower_local(lo, (DType)e[i]->dtype, e[i]);
    for (uint32_t i = 0; i < n; i++) store_to(lo, to[i], idx, FN_NONE, e[i]);
}

/* Indices of a pooling, means of a normalisation, a cache that attention appends to: stored by the anchor's rule as they are; nothing else in the
 * body is computed from them. */
static bool is_second_output(const LowerState *s, const Value *v) {
    if (s->anchor == NULL || v->def == NULL || v == s->anchor->out[0]) return false;
    return v->def == s->anchor || (v->def->graph == s->lo.body && op_rules(v->def->op).define == NULL);
}

static void bind(Lower *lo, const Value *v, Expr *const *idx, Expr *val) {
    memo_clear(state(lo));
    lo->bound = v;
    lo->bound_idx = copy_index(lo, v->type->rank, idx);
    lo->bound_val = ex_round_to(lo->k, lo->cx, v->type->dtype, ex_cast(lo->k, lo->cx, dtype_compute(v->type->dtype), val));
}

static void unbind(Lower *lo) {
    lo->bound = NULL;
    memo_clear(state(lo));
}

void lower_store(Lower *lo, const Value *v, Expr *const *idx, Expr *val) {
    LowerState *s = state(lo);
    if (v == NULL) return; /* an output nobody wants */
    if (inside(lo, v) && is_second_output(s, v)) {
        if (resolve(s, v) != v) store_to(lo, v, idx, FN_NONE, val); /* else nobody outside wants it */
        return;
    }
    if (!inside(lo, v)) {
        store_to(lo, v, idx, FN_NONE, val);
        return;
    }
    bind(lo, v, idx, val);
    /* The other outputs of a body with an anchor all hang on the anchor's first one (the fuse pass sees to it). */
    Expr **e = ARENA_ARRAY(&lo->cx->scratch, Expr *, lo->body->n_out);
    Value **to = ARENA_ARRAY(&lo->cx->scratch, Value *, lo->body->n_out);
    uint32_t n = 0;
    for (uint32_t i = 0; i < lo->body->n_out; i++) {
        if (is_second_output(s, lo->body->out[i])) continue;
        to[n] = lo->node->out[i];
        e[n++] = lower_load(lo, lo->body->out[i], idx);
    }
    store_all(lo, n, to, e, idx);
    unbind(lo);
}

Expr *lower_through(Lower *lo, const Value *from, const Value *to, Expr *const *idx, Expr *val) {
    bind(lo, from, idx, val);
    Expr *e = lower_load(lo, to, idx);
    unbind(lo);
    return e;
}

void lower_store_reduce(Lower *lo, const Value *v, Expr *const *idx, Fn reduce, Expr *val) {
    CHECK(lo->cx, !inside(lo, v));
    store_to(lo, v, idx, reduce, val);
}

static void open_block(Lower *lo, Stmt *s, Stmt **body) {
    vec_push(&lo->cx->arena, &lo->open, s);
    vec_push(&lo->cx->arena, &lo->tail, body);
}

Expr *lower_for(Lower *lo, Expr *extent) {
    uint32_t var = kernel_add_var(lo->k, lo->cx, (Var){.dtype = DT_I64, .extent = extent});
    Stmt *s = emit(lo, (Stmt){.kind = S_FOR, .var = var, .extent = extent});
    open_block(lo, s, &s->body);
    Expr *e = ex_var(lo->k, lo->cx, var);
    return ex_is_const(extent, 1) ? ex_i64(lo->cx, 0) : e;
}

Expr *lower_for_dim(Lower *lo, Dim extent) { return lower_for(lo, ex_dim(lo->cx, extent)); }

void lower_for_type(Lower *lo, const Type *t, Expr **idx) {
    for (uint32_t i = 0; i < t->rank; i++) idx[i] = lower_for_dim(lo, t->dim[i]);
}

void lower_if(Lower *lo, Expr *condition) {
    Stmt *s = emit(lo, (Stmt){.kind = S_IF, .val = condition});
    open_block(lo, s, &s->body);
}

void lower_else(Lower *lo) {
    Stmt *s = lo->open.v[lo->open.n - 1];
    lo->tail.v[lo->tail.n - 1] = &s->orelse;
}

void lower_while(Lower *lo, Expr *condition) {
    Stmt *s = emit(lo, (Stmt){.kind = S_WHILE, .val = condition});
    open_block(lo, s, &s->body);
}

void lower_end(Lower *lo) {
    CHECK(lo->cx, lo->open.n > 0);
    lo->open.n--;
    lo->tail.n--;
}

void lower_end_n(Lower *lo, uint32_t n) {
    while (n-- > 0) lower_end(lo);
}

void lower_split_index(Lower *lo, Expr *at, uint32_t n, const Dim *dim, Expr **idx) {
    for (uint32_t i = n; i > 1; i--) {
        Expr *size = lx_dim(lo, dim[i - 1]), *up = lx_div(lo, at, size);
        idx[i - 1] = lx_sub(lo, at, lx_mul(lo, up, size));
        at = up;
    }
    if (n != 0) idx[0] = at;
}

Expr *lower_local(Lower *lo, DType dtype, Expr *init) {
    uint32_t var = kernel_add_var(lo->k, lo->cx, (Var){.dtype = dtype});
    emit(lo, (Stmt){.kind = S_LOCAL, .var = var, .val = ex_cast(lo->k, lo->cx, dtype, init)});
    return ex_var(lo->k, lo->cx, var);
}

void lower_set(Lower *lo, Expr *local, Expr *val) { lower_accumulate(lo, local, FN_NONE, val); }

void lower_accumulate(Lower *lo, Expr *local, Fn reduce, Expr *val) {
    emit(lo, (Stmt){.kind = S_SET, .var = local->ref, .reduce = (uint16_t)reduce, .val = ex_cast(lo->k, lo->cx, (DType)local->dtype, val)});
}

uint32_t lower_array(Lower *lo, DType dtype, uint32_t rank, const Dim *dim) {
    Dim *own = ARENA_ARRAY(&lo->cx->arena, Dim, rank);
    for (uint32_t i = 0; i < rank; i++) own[i] = dim[i];
    return kernel_add_buf(lo->k, lo->cx, (Buf){.kind = BUF_LOCAL, .dtype = dtype, .rank = (uint8_t)rank, .dim = own});
}

void lower_call(Lower *lo, const char *function, uint32_t n, const CallArg *arg) {
    CallArg *own = ARENA_ARRAY(&lo->cx->arena, CallArg, n);
    for (uint32_t i = 0; i < n; i++) own[i] = arg[i];
    emit(lo, (Stmt){.kind = S_CALL, .name = str_intern(lo->cx, function), .arg = own, .n_arg = n});
}

/* Tables by value id were sized when lowering began: room for a value made since. */
static uint32_t adopt(Lower *lo, Value *v, BufKind kind) {
    uint32_t *grown = ARENA_ARRAY(&lo->cx->arena, uint32_t, lo->m->n_value + 64);
    memcpy(grown, lo->buf_of, v->id * sizeof *grown);
    lo->buf_of = grown;
    LowerState *s = state(lo);
    return add_arg(s, v, kind);
}

Value *lower_scratch(Lower *lo, const Type *t) {
    Value *v = value_new(lo->m, t, 0);
    adopt(lo, v, BUF_INOUT);
    return v;
}

uint32_t lower_weight(Lower *lo, const Type *t, const void *data) {
    return adopt(lo, value_const(lo->m, t, data, true), BUF_IN);
}

enum { MADE_BYTES = 1 << 18 }; /* smaller weights are made at once */

uint32_t lower_made_weight(Lower *lo, const Type *t, const ConstRecipe *recipe) {
    Context *cx = lo->cx;
    size_t bytes = dtype_bytes(cx, t->dtype, dim_value(cx, type_numel(cx, t)));
    if (bytes >= MADE_BYTES) return adopt(lo, value_const_made(lo->m, t, recipe), BUF_IN);
    void *data = arena_alloc(&cx->arena, bytes);
    recipe->make(data, recipe);
    return lower_weight(lo, t, data);
}

void lower_set_dim(Lower *lo, Dim symbol, Expr *count) {
    CHECK(lo->cx, dim_node(lo->cx, symbol)->kind == DIM_SYMBOL && dim_node(lo->cx, symbol)->runtime);
    Value *v = lower_scratch(lo, type_tensor(lo->cx, DT_I64, 0, NULL));
    lower_store_buf(lo, lower_buf(lo, v), NULL, FN_NONE, count);
    LowerDim d = {symbol, v};
    vec_push(&lo->cx->arena, &state(lo)->dims, d);
}

Value *lower_dim_cell(Lower *lo, Dim symbol) {
    Value *v = lower_scratch(lo, type_tensor(lo->cx, DT_I64, 0, NULL));
    LowerDim d = {symbol, v};
    vec_push(&lo->cx->arena, &state(lo)->dims, d);
    return v;
}

/* ---- one node ---------------------------------------------------------------------------------------------------- */
/* Is n a transpose with results of type t's dims, or a body in which one is? */
static bool transposes(const Node *n, const Graph *body, const Type *t) {
    if (body == NULL) return n->op == OP_Transpose;
    for (const Node *b = body->first; b != NULL; b = b->next)
        if (b->op == OP_Transpose && type_same_dims(b->out[0]->type, t)) return true;
    return false;
}

/* A transpose that brings a few planes together (an image's colours to channels last): with a statement per plane, the loop
 * that compilers vectorise runs along the lines. Else 0. */
static int64_t planes_together(const Lower *lo, const Node *n, const Type *t, uint32_t n_out) {
    if (n_out != 1 || t->rank < 2 || !dim_is_const(lo->cx, t->dim[t->rank - 1]) || !transposes(n, lo->body, t)) return 0;
    int64_t planes = dim_value(lo->cx, t->dim[t->rank - 1]);
    return planes > 1 && planes <= FEW_PLANES && dim_lo(lo->cx, t->dim[t->rank - 2]) > FEW_PLANES ? planes : 0;
}

/* All outputs of a body or operator of definitions: outputs of equal type share one loop nest. */
static void lower_definitions(Lower *lo, const Node *n, Value *const *inner, Value *const *outer, uint32_t n_out) {
    bool done[256] = {false};
    for (uint32_t i = 0; i < n_out; i++) {
        if (inner[i] == NULL || done[i]) continue;
        const Type *t = inner[i]->type;
        Expr *idx[RANK_MAX], *e[256];
        Value *to[256];
        uint32_t n_e = 0;
        int64_t planes = planes_together(lo, n, t, n_out);
        if (planes != 0) {
            for (uint32_t d = 0; d + 1 < t->rank; d++) idx[d] = lower_for_dim(lo, t->dim[d]);
            for (int64_t p = 0; p < planes; p++) {
                idx[t->rank - 1] = lx_i(lo, p);
                lower_store(lo, outer[i], idx, lo->body != NULL ? lower_load(lo, inner[i], idx) : op_rules(n->op).define(lo, n, i, idx));
            }
            lower_end_n(lo, t->rank - 1);
            continue;
        }
        lower_for_type(lo, t, idx);
        for (uint32_t j = i; j < n_out; j++) {
            const Type *tj = inner[j] != NULL ? inner[j]->type : NULL;
            if (tj == NULL || done[j] || tj->rank != t->rank || (t->rank != 0 && memcmp(tj->dim, t->dim, t->rank * sizeof *t->dim) != 0)) continue;
            done[j] = true;
            to[n_e] = outer[j];
            e[n_e++] = lo->body != NULL ? lower_load(lo, inner[j], idx) : op_rules(n->op).define(lo, n, j, idx);
        }
        store_all(lo, n_e, to, e, idx);
        lower_end_n(lo, t->rank);
    }
}

/* The last operator with statements; one before it is lowered by it (passes/lower_chain.c). */
static const Node *find_anchor(const Graph *body) {
    for (const Node *n = body->last; n != NULL; n = n->prev)
        if (op_rules(n->op).define == NULL) return n;
    return NULL;
}

static void name_kernel(LowerState *s) {
    Lower *lo = &s->lo;
    Writer name = {.arena = &lo->cx->scratch}, comment = {.arena = &lo->cx->scratch};
    uint32_t count = 0;
    for (const Node *n = lo->body != NULL ? lo->body->first : lo->node; n != NULL; n = lo->body != NULL ? n->next : NULL) {
        if (count < 4) {
            cw_printf(&name, "%s", count != 0 ? "_" : "");
            for (const char *p = op_info(n->op)->name; *p != 0; p++) cw_printf(&name, "%c", tolower((unsigned char)*p));
        }
        cw_printf(&comment, "%s%s ", count != 0 ? ", " : "", op_info(n->op)->name);
        if (n->out[0] != NULL) type_print(lo->cx, &comment, n->out[0]->type);
        if (n->loc.node != 0 && count < 8) cw_printf(&comment, " \"%s\"", str_text(lo->cx, n->loc.node));
        count++;
    }
    if (count > 4) cw_printf(&name, "_x%u", count - 4);
    lo->k->name = str_intern(lo->cx, cw_cstr(&name));
    lo->k->comment = str_intern(lo->cx, cw_cstr(&comment));
}

/* Arguments in front, locals behind: renumbers buffers in statements and expressions. */
static Expr *renumber(Kernel *k, Context *cx, Expr *e, const uint32_t *map) {
    if (e == NULL || e->n_arg == 0) return e != NULL && e->kind == E_LOAD ? ex_load(k, cx, map[e->ref], NULL) : e;
    Expr **arg = ARENA_ARRAY(&cx->scratch, Expr *, e->n_arg);
    for (uint32_t i = 0; i < e->n_arg; i++) arg[i] = renumber(k, cx, e->arg[i], map);
    if (e->kind == E_LOAD) return ex_load(k, cx, map[e->ref], arg);
    return expr_rebuild(cx, e, arg);
}

static void renumber_stmts(Kernel *k, Context *cx, Stmt *s, const uint32_t *map) {
    for (; s != NULL; s = s->next) {
        if (s->kind == S_STORE) {
            for (uint32_t i = 0; i < k->buf[map[s->buf]].rank; i++) s->idx[i] = renumber(k, cx, s->idx[i], map);
            s->buf = map[s->buf];
        }
        s->extent = renumber(k, cx, s->extent, map);
        s->val = renumber(k, cx, s->val, map);
        for (uint32_t i = 0; i < s->n_arg; i++) {
            if (s->arg[i].is_buf) s->arg[i].buf = map[s->arg[i].buf];
            else s->arg[i].expr = renumber(k, cx, s->arg[i].expr, map);
        }
        renumber_stmts(k, cx, s->body, map);
        renumber_stmts(k, cx, s->orelse, map);
    }
}

static void order_bufs(LowerState *s) {
    Context *cx = s->lo.cx;
    Kernel *k = s->lo.k;
    uint32_t *map = ARENA_ARRAY(&cx->scratch, uint32_t, k->n_buf), n = 0;
    Buf *sorted = ARENA_ARRAY(&cx->arena, Buf, k->n_buf);
    bool moved = false;
    for (int locals = 0; locals < 2; locals++) {
        for (uint32_t i = 0; i < k->n_buf; i++) {
            if ((k->buf[i].kind == BUF_LOCAL) != (locals == 1)) continue;
            if (locals == 0) vec_push(&cx->arena, &s->arg, k->buf[i].value);
            moved |= i != n;
            map[i] = n;
            sorted[n++] = k->buf[i];
        }
        if (locals == 0) k->n_arg = n;
    }
    k->cap_buf = k->n_buf;
    k->buf = sorted;
    if (moved) renumber_stmts(k, cx, k->body, map);
}

Kernel *lower_node(Module *m, const Node *n, LowerResult *result) {
    Context *cx = m->cx;
    LowerState s = {.lo = {.cx = cx, .m = m, .k = kernel_new(cx), .node = n, .current = n}};
    Lower *lo = &s.lo;
    lo->buf_of = ARENA_ARRAY(&cx->arena, uint32_t, m->n_value + 64);
    vec_push(&cx->arena, &lo->tail, &lo->k->body);
    bool ok = true;
    OpRules rules = op_rules(n->op);
    if (n->op == OP_Fused) {
        lo->body = attr_at(n, AT_Fused_body)->graph;
        s.n_alias = m->n_value;
        s.alias = ARENA_ARRAY(&cx->arena, const Value *, s.n_alias);
        for (uint32_t i = 0; i < lo->body->n_in; i++) s.alias[lo->body->in[i]->id] = n->in[i];
        s.anchor = find_anchor(lo->body);
        for (uint32_t i = 0; i < lo->body->n_out; i++)
            if (is_second_output(&s, lo->body->out[i])) s.alias[lo->body->out[i]->id] = n->out[i];
        if (s.anchor != NULL) lo->current = s.anchor, ok = op_rules(s.anchor->op).lower(lo, s.anchor);
        else lower_definitions(lo, n, lo->body->out, n->out, n->n_out);
    } else if (rules.lower != NULL) {
        ok = rules.lower(lo, n);
    } else if (rules.define != NULL) {
        lower_definitions(lo, n, n->out, n->out, n->n_out);
    } else {
        diag(cx, SEV_ERROR, n->loc, "this operator cannot be lowered yet");
        ok = false;
    }
    if (!ok) return NULL;
    CHECK(cx, lo->open.n == 0);
    name_kernel(&s);
    order_bufs(&s);
    kernel_parallelize(cx, lo->k);
    *result = (LowerResult){s.arg.v, s.dims.v, s.dims.n, lo->checked.n, lo->checked.v};
    return lo->k;
}
