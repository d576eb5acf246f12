/* Shapes of reductions: ReduceSum(x: f32[N,3,4], axes = [1]) is f32[N,1,4], without keepdims f32[N,4].
 * ArgMax and ArgMin give i64; global pools reduce all spatial axes and keep them as 1. */
#include "ir/shape/reduce.h"

#include "ir/shape/shape.h"

bool reduce_keepdims(const Node *n) {
    AttrSlot keep = attr_named(n, "keepdims");
    return keep == AT_COUNT || attr_i(n, keep) != 0;
}

static bool spatial_mask(Module *m, Node *n, uint32_t rank, uint32_t *mask) {
    if (rank < 2) {
        diag(m->cx, SEV_ERROR, n->loc, "input 0 has rank %u, batch and channel dimensions are needed", rank);
        return false;
    }
    *mask = ((1u << rank) - 1) & ~3u;
    return true;
}

bool reduce_mask(Module *m, Node *n, uint32_t *mask, bool *runtime) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    uint32_t axis, count = 0;
    *mask = 0;
    *runtime = false;
    if (n->op == OP_GlobalAveragePool || n->op == OP_GlobalMaxPool || n->op == OP_GlobalLpPool) return spatial_mask(m, n, t->rank, mask);
    if (n->op == OP_ArgMax || n->op == OP_ArgMin) {
        if (!shape_axis(m, n, attr_i(n, attr_named(n, "axis")), t->rank, &axis)) return false;
        *mask = 1u << axis;
        return true;
    }
    if (shape_has_in(n, 1) && !shape_length(m, n, 1, &count)) return false;
    if (count == 0) {
        if (attr_i(n, attr_named(n, "noop_with_empty_axes")) == 0) *mask = (1u << t->rank) - 1;
        return true;
    }
    const int64_t *axes = shape_constants(m, n, 1, &count);
    *runtime = axes == NULL;
    if (*runtime && n->in[1]->type->rank != 1) {
        diag(m->cx, SEV_ERROR, n->loc, "axes (input 1) has rank %u, 1 is needed", n->in[1]->type->rank);
        return false;
    }
    for (uint32_t i = 0; axes != NULL && i < count; i++) {
        if (!shape_axis(m, n, axes[i], t->rank, &axis)) return false;
        *mask |= 1u << axis;
    }
    return true;
}

/* With axes that only the run knows: every size is the input's or 1; without keepdims some of the input's stay. */
static bool runtime_type(Module *m, Node *n, DType dtype) {
    const Type *t = n->in[0]->type;
    bool keep = reduce_keepdims(n);
    uint32_t count, rank = t->rank;
    if (!shape_length(m, n, 1, &count)) return false;
    if (!keep && count > rank) {
        diag(m->cx, SEV_ERROR, n->loc, "axes (input 1) has %u entries, the input has %u dimensions", count, rank);
        return false;
    }
    if (!keep) rank -= count;
    Dim dim[RANK_MAX];
    int64_t most = 0;
    for (uint32_t a = 0; a < t->rank; a++) most = dim_hi(m->cx, t->dim[a]) > most ? dim_hi(m->cx, t->dim[a]) : most;
    for (uint32_t a = 0; a < rank; a++) {
        int64_t hi = keep ? dim_hi(m->cx, t->dim[a]) : most;
        dim[a] = shape_runtime_dim(m, n, 0, a, 0, hi > 1 ? hi : 1);
    }
    shape_out(m, n, 0, dtype, rank, dim);
    return true;
}

static bool reduced_type(Module *m, Node *n, DType dtype) {
    uint32_t mask;
    bool runtime;
    if (!reduce_mask(m, n, &mask, &runtime)) return false;
    if (runtime) return runtime_type(m, n, dtype);
    const Type *t = n->in[0]->type;
    bool keep = reduce_keepdims(n);
    Dim dim[RANK_MAX];
    uint32_t rank = 0;
    for (uint32_t a = 0; a < t->rank; a++) {
        if ((mask >> a & 1) == 0) dim[rank++] = t->dim[a];
        else if (keep) dim[rank++] = dim_const(m->cx, 1);
    }
    shape_out(m, n, 0, dtype, rank, dim);
    return true;
}

bool shape_reduce(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    return t != NULL && reduced_type(m, n, t->dtype);
}

bool shape_arg_reduce(Module *m, Node *n) { return reduced_type(m, n, DT_I64); }

/* Softmax and its kin: the type of the input; the axis must exist. */
bool shape_along_axis(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    uint32_t axis;
    if (t == NULL || !shape_axis(m, n, attr_i(n, attr_named(n, "axis")), t->rank, &axis)) return false;
    shape_out(m, n, 0, t->dtype, t->rank, t->dim);
    return true;
}
