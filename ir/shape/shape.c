#include "ir/shape/shape.h"

bool shape_fail(Module *m, Node *n, const char *what) {
    diag(m->cx, SEV_ERROR, n->loc, "%s", what);
    return false;
}

const Type *shape_in(Module *m, Node *n, uint32_t i) {
    if (i >= n->n_in || n->in[i] == NULL) {
        diag(m->cx, SEV_ERROR, n->loc, "input %u is missing", i);
        return NULL;
    }
    const Type *t = n->in[i]->type;
    if (t != NULL && t->kind == TYPE_TENSOR && t->rank != RANK_UNKNOWN) return t;
    Writer w = {.arena = &m->cx->scratch};
    type_print(m->cx, &w, t);
    diag(m->cx, SEV_ERROR, n->loc, "input %u is %s, a tensor of known rank is needed", i, cw_cstr(&w));
    return NULL;
}

void shape_out(Module *m, Node *n, uint32_t i, DType dtype, uint32_t rank, const Dim *dim) {
    if (i < n->n_out && n->out[i] != NULL) n->out[i]->type = type_tensor(m->cx, dtype, rank, dim);
}

static void note_pair(Module *m, Node *n, DimPair p) {
    for (uint32_t i = 0; i < n->n_agree; i++)
        if (n->agree[i].a == p.a && n->agree[i].b == p.b) return;
    DimPair *own = ARENA_ARRAY(&m->cx->arena, DimPair, n->n_agree + 1);
    if (n->n_agree != 0) memcpy(own, n->agree, n->n_agree * sizeof *own);
    own[n->n_agree++] = p;
    n->agree = own;
}

static Dim unify(Module *m, Node *n, Dim a, Dim b, const char *what, bool broadcast) {
    Context *cx = m->cx;
    if (a == b || b == 0) return a;
    if (a == 0) return b;
    bool ca = dim_is_const(cx, a), cb = dim_is_const(cx, b);
    bool apart = dim_hi(cx, a) < dim_lo(cx, b) || dim_hi(cx, b) < dim_lo(cx, a);
    if (apart || (ca && cb)) {
        Writer w = {.arena = &cx->scratch};
        dim_print(cx, &w, a);
        cw_printf(&w, " and ");
        dim_print(cx, &w, b);
        diag(cx, SEV_ERROR, n->loc, "%s: %s do not agree", what, cw_cstr(&w));
        return 0;
    }
    Dim kept = ca ? a : cb ? b : dim_order(cx, a, b) < 0 ? a : b;
    note_pair(m, n, (DimPair){kept, kept == a ? b : a, broadcast});
    return kept;
}

Dim shape_unify(Module *m, Node *n, Dim a, Dim b, const char *what) { return unify(m, n, a, b, what, false); }

bool shape_broadcast(Module *m, Node *n, const Type *a, const Type *b, uint32_t *rank, Dim *dim) {
    Context *cx = m->cx;
    uint32_t r = a->rank > b->rank ? a->rank : b->rank;
    Dim one = dim_const(cx, 1);
    for (uint32_t i = 0; i < r; i++) {
        Dim da = i + a->rank >= r ? a->dim[i + a->rank - r] : one;
        Dim db = i + b->rank >= r ? b->dim[i + b->rank - r] : one;
        if (da == one) dim[i] = db;
        else if (db == one) dim[i] = da;
        else dim[i] = unify(m, n, da, db, "broadcast", true);
        if (dim[i] == 0) return false;
    }
    *rank = r;
    return true;
}

bool shape_axis(Module *m, Node *n, int64_t axis, uint32_t rank, uint32_t *out) {
    if (axis < -(int64_t)rank || axis >= (int64_t)rank) {
        diag(m->cx, SEV_ERROR, n->loc, "axis %lld is outside [-%u, %u)", (long long)axis, rank, rank);
        return false;
    }
    *out = (uint32_t)(axis < 0 ? axis + rank : axis);
    return true;
}

void shape_set_sym(Module *m, Value *v, uint32_t n, const Dim *dim) {
    if (v == NULL) return;
    for (uint32_t i = 0; i < n; i++)
        if (dim[i] == 0) return;
    Dim *own = ARENA_ARRAY(&m->cx->arena, Dim, n);
    if (n != 0) memcpy(own, dim, n * sizeof *own);
    v->sym = own;
    v->n_sym = n;
}

Dim shape_data_dim(Module *m, Node *n, uint32_t out, uint32_t axis, int64_t lo, int64_t hi) {
    Context *cx = m->cx;
    const Value *v = out < n->n_out ? n->out[out] : NULL;
    const Type *before = v != NULL ? v->type : NULL;
    if (before != NULL && before->kind == TYPE_TENSOR && before->rank != RANK_UNKNOWN && axis < before->rank && before->dim[axis] != 0) {
        const DimNode *d = dim_node(cx, before->dim[axis]);
        if (d->kind == DIM_SYMBOL && d->runtime) { /* bounds found elsewhere stay */
            dim_set_bounds(cx, before->dim[axis], lo > d->lo ? lo : d->lo, hi < d->hi ? hi : d->hi);
            return before->dim[axis];
        }
    }
    return dim_runtime(cx, op_info(n->op)->name, lo, hi);
}

Dim shape_runtime_dim(Module *m, Node *n, uint32_t out, uint32_t axis, int64_t lo, int64_t hi) {
    Context *cx = m->cx;
    const Value *v = out < n->n_out ? n->out[out] : NULL;
    const Type *t = v != NULL ? v->declared : NULL;
    if (t != NULL && t->kind == TYPE_TENSOR && t->rank != RANK_UNKNOWN && axis < t->rank && t->dim[axis] != 0 && dim_is_const(cx, t->dim[axis])) return t->dim[axis];
    return shape_data_dim(m, n, out, axis, lo, hi);
}

bool shape_length(Module *m, Node *n, uint32_t i, uint32_t *length) {
    const Type *t = shape_in(m, n, i);
    if (t == NULL) return false;
    Dim count = type_numel(m->cx, t);
    if (t->rank <= 1 && count != 0 && dim_is_const(m->cx, count) && dim_value(m->cx, count) <= RANK_MAX) {
        *length = (uint32_t)dim_value(m->cx, count);
        return true;
    }
    Writer w = {.arena = &m->cx->scratch};
    type_print(m->cx, &w, t);
    diag(m->cx, SEV_ERROR, n->loc, "input %u is %s, a vector of constant length up to %d is needed", i, cw_cstr(&w), RANK_MAX);
    return false;
}

const int64_t *shape_constants(Module *m, Node *n, uint32_t i, uint32_t *count) {
    *count = 0;
    if (!shape_has_in(n, i)) return NULL;
    const Dim *dims = value_dims(m, n->in[i], count);
    if (dims == NULL) return NULL;
    int64_t *v = ARENA_ARRAY(&m->cx->scratch, int64_t, *count);
    for (uint32_t k = 0; k < *count; k++) {
        if (!dim_is_const(m->cx, dims[k])) return NULL;
        v[k] = dim_value(m->cx, dims[k]);
    }
    return v;
}

bool shape_none(Module *m, Node *n) {
    diag(m->cx, SEV_ERROR, n->loc, "this operator is not supported yet");
    return false;
}

/* Operators made by passes with their types set: nothing to find out. */
bool shape_keep(Module *m, Node *n) {
    (void)m;
    for (uint32_t i = 0; i < n->n_out; i++)
        if (n->out[i] != NULL && n->out[i]->type == NULL) return false;
    return true;
}

static ShapeFn *const rules[OP_COUNT] = {
#define OP(name, domain, in_min, in_max, out_min, out_max, flags, shape, expand, grad, define, lower) [OP_##name] = shape_##shape,
#define ATTR(op, name, kind, def)
#include "ir/ops.def"
#undef OP
#undef ATTR
};

/* Operands a rule does not look at still need a rank: whatever reads their elements counts on it. */
static bool ranks_known(Module *m, const Node *n) {
    if (op_info((Op)n->op)->flags & OPF_REGION) return true;
    for (uint32_t i = 0; i < n->n_out; i++) { /* what only passes values on may know less */
        const Type *t = n->out[i] != NULL ? n->out[i]->type : NULL;
        if (t != NULL && (t->kind != TYPE_TENSOR || t->rank == RANK_UNKNOWN)) return true;
    }
    for (uint32_t i = 0; i < n->n_in; i++) {
        const Type *t = n->in[i] != NULL ? n->in[i]->type : NULL;
        if (t == NULL || t->kind != TYPE_TENSOR || t->rank != RANK_UNKNOWN) continue;
        diag(m->cx, SEV_ERROR, n->loc, "the rank of input %u is not known", i);
        return false;
    }
    return true;
}

/* Sizes that are known are sizes, and their bits can be counted: what comes later relies on it. */
static bool sizes_possible(Module *m, const Node *n) {
    for (uint32_t i = 0; i < n->n_out; i++) {
        const Type *t = n->out[i] != NULL ? n->out[i]->type : NULL;
        int64_t count = 1024;
        if (t == NULL || t->kind != TYPE_TENSOR || t->rank == RANK_UNKNOWN) continue;
        bool empty = false, possible = true;
        for (uint32_t d = 0; d < t->rank; d++) {
            if (t->dim[d] == 0 || !dim_is_const(m->cx, t->dim[d])) continue;
            int64_t size = dim_value(m->cx, t->dim[d]);
            empty = empty || size == 0;
            possible = size >= 0 && possible && (size == 0 || !__builtin_mul_overflow(count, size, &count));
            if (size >= 0 && (possible || empty)) continue;
            diag(m->cx, SEV_ERROR, n->loc, "output %u has an impossible size: %lld in dim %u", i, (long long)size, d);
            return false;
        }
    }
    return true;
}

bool node_infer(Module *m, Node *n) {
    bool poison = false;
    n->agree = NULL;
    n->n_agree = 0;
    for (uint32_t i = 0; i < n->n_in; i++) poison |= n->in[i] != NULL && n->in[i]->poison;
    if (!poison) poison = !rules[n->op](m, n) || !ranks_known(m, n) || !shape_operands_fit(m, n) || !sizes_possible(m, n);
    for (uint32_t i = 0; i < n->n_out; i++)
        if (n->out[i] != NULL) n->out[i]->poison = poison;
    return !poison;
}
